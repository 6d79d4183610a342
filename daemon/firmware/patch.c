/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/xmlfile.h"
#include "firmware/rawprogram.h"

enum {
    VALUE_SIZE_MAX = 8,
    CRC_LENGTH_MAX = 1024 * 1024,
    ERASED_WORD = 0xffffffff, /* the length of a growing partition whose patch was never applied */
};

struct parser {
    struct package *p;
    const char *base;
};

/* One <patch>: where it would put which value. */
struct patch {
    unsigned line;
    const struct package_file *file;
    uint64_t sector_size, offset, size;
    const char *value;
};

static bool get_number(const struct parser *x, const char *const *a, const char *name, unsigned line,
                       uint64_t max, uint64_t *ret)
{
    const char *text = xmlfile_attribute(a, name);
    if (text && text_parse_u64(text, 10, max, ret) == 0)
        return true;
    package_problem(x->p, "patch of line %u: %s=\"%.64s\" is not a number of at most %llu", line, name,
                    text ? text : "", (unsigned long long)max);
    return false;
}

static int current_value(const struct package *p, const struct patch *t, uint64_t *ret)
{
    uint8_t bytes[VALUE_SIZE_MAX];
    uint64_t value = 0;
    int r = package_read(p, t->file, t->offset, bytes, t->size);
    if (r < 0)
        return r;
    for (size_t i = t->size; i-- > 0;)
        value = value << 8 | bytes[i];
    *ret = value;
    return 0;
}

static void lacks(struct parser *x, const struct patch *t, uint64_t expected, uint64_t found)
{
    package_problem(x->p,
                    "%s lacks what the patch of line %u would give (%.64s = 0x%llx at byte %llu, found "
                    "0x%llx); patches are never applied",
                    t->file->path, t->line, t->value, (unsigned long long)expected,
                    (unsigned long long)t->offset, (unsigned long long)found);
}

/* "NUM_DISK_BLOCKS-1458.": how large the chip was when it was applied follows from the value that is there.
 */
static int check_disk_blocks(struct parser *x, const struct patch *t, const char *rest)
{
    struct package *p = x->p;
    char number[24];
    uint64_t minus = 0, found;
    size_t n = strlen(rest);
    bool good = n > 0 && n < sizeof(number);
    if (good) {
        snprintf(number, sizeof(number), "%s", rest);
        if (number[n - 1] == '.')
            number[n - 1] = '\0';
        good = text_parse_u64(number, 10, UINT32_MAX, &minus) == 0;
    }
    if (!good) {
        package_problem(p, "patch of line %u: value \"%.64s\" is not understood", t->line, t->value);
        return 0;
    }
    int r = current_value(p, t, &found);
    if (r < 0)
        return r;
    if (t->size != 4 || found == 0 || found >= ERASED_WORD - minus) {
        package_problem(p,
                        "%s lacks what the patch of line %u would give (%.64s at byte %llu, found 0x%llx); "
                        "patches are never applied",
                        t->file->path, t->line, t->value, (unsigned long long)t->offset,
                        (unsigned long long)found);
        return 0;
    }
    if (p->chip_blocks && p->chip_blocks != found + minus)
        package_problem(p, "patch of line %u: %s was made for a chip of %llu blocks, another patch says %llu",
                        t->line, t->file->path, (unsigned long long)(found + minus),
                        (unsigned long long)p->chip_blocks);
    p->chip_blocks = found + minus;
    return 0;
}

/* "CRC32(start sector,length)": the MIBIB polynomial in a partition image (checked against a real one). */
static int check_crc(struct parser *x, const struct patch *t, const char *rest)
{
    char start_text[24] = "", length_text[24] = "";
    uint64_t start = 0, length = 0, found = 0;
    size_t comma = strcspn(rest, ","), close = strcspn(rest, ")");
    bool good = rest[comma] == ',' && rest[close] == ')' && rest[close + 1] == '\0' &&
                comma < sizeof(start_text) && close > comma && close - comma - 1 < sizeof(length_text);
    if (good) {
        memcpy(start_text, rest, comma);
        memcpy(length_text, rest + comma + 1, close - comma - 1);
        good = text_parse_u64(start_text, 10, UINT32_MAX, &start) == 0 &&
               text_parse_u64(length_text, 10, CRC_LENGTH_MAX, &length) == 0 && length > 0 &&
               start * t->sector_size + length <= t->file->size;
    }
    if (!good) {
        package_problem(x->p, "patch of line %u: value \"%.64s\" is not understood", t->line, t->value);
        return 0;
    }
    _cleanup_free_ char *data = malloc(length);
    if (!data)
        return -ENOMEM;
    int r = package_read(x->p, t->file, start * t->sector_size, data, length);
    if (r == 0)
        r = current_value(x->p, t, &found);
    if (r < 0)
        return r;
    uint32_t crc = mibib_crc(data, length);
    if (t->size != 4 || found != crc)
        lacks(x, t, crc, found);
    return 0;
}

static int check_value(struct parser *x, const struct patch *t)
{
    static const char BLOCKS[] = "NUM_DISK_BLOCKS-", CRC[] = "CRC32(";
    uint64_t number, found;

    if (text_starts_with(t->value, BLOCKS))
        return check_disk_blocks(x, t, t->value + strlen(BLOCKS));
    if (text_starts_with(t->value, CRC))
        return check_crc(x, t, t->value + strlen(CRC));
    if (text_parse_u64(t->value, 0, UINT64_MAX, &number) < 0) {
        package_note(x->p, "patch of line %u: \"%.64s\" cannot be evaluated and was not compared", t->line,
                     t->value);
        return 0;
    }
    int r = current_value(x->p, t, &found);
    if (r == 0 && found != number)
        lacks(x, t, number, found);
    return r;
}

static int on_patch(struct parser *x, const char *const *a, unsigned line)
{
    struct package *p = x->p;
    struct patch t = {.line = line, .value = xmlfile_attribute(a, "value")};
    const char *name = xmlfile_attribute(a, "filename");
    char path[PACKAGE_PATH_MAX];
    uint64_t byte_offset, sector;

    if (!name || !*name || text_equal_nocase(name, "DISK")) {
        package_problem(p, "patch of line %u aims at the disk, which NAND does not have", line);
        return 0;
    }
    if (package_resolve(x->base, name, path, sizeof(path)) < 0) {
        package_problem(p, "patch of line %u: \"%.200s\" is not a name inside the package", line, name);
        return 0;
    }
    t.file = package_find(p, path);
    if (!t.file) {
        package_missing(p, "%s is missing (patch of line %u)", path, line);
        return 0;
    }
    p->files[t.file - p->files].referenced = true;
    if (!get_number(x, a, "SECTOR_SIZE_IN_BYTES", line, UINT16_MAX, &t.sector_size) ||
        !get_number(x, a, "start_sector", line, UINT32_MAX, &sector) ||
        !get_number(x, a, "byte_offset", line, UINT32_MAX, &byte_offset) ||
        !get_number(x, a, "size_in_bytes", line, VALUE_SIZE_MAX, &t.size))
        return 0;
    t.offset = sector * t.sector_size + byte_offset;
    if (!t.value || t.size == 0 || t.offset + t.size > t.file->size) {
        package_problem(p, "patch of line %u lies outside of %s", line, t.file->path);
        return 0;
    }
    return check_value(x, &t);
}

static int on_element(void *userdata, const char *name, const char *const *attributes, unsigned depth,
                      unsigned line)
{
    struct parser *x = userdata;
    if (depth == 1 && strcmp(name, "patch") == 0)
        return on_patch(x, attributes, line);
    if (depth > 0 || strcmp(name, "patches") != 0)
        package_problem(x->p, "line %u of the patch XML: <%.64s> is not expected", line, name);
    return 0;
}

int patch_check(struct package *p, const char *base, const char *text, size_t size)
{
    struct parser parser = {.p = p, .base = base};
    struct xmlfile x = {.on_element = on_element, .userdata = &parser};
    char why[256] = "";
    int r = xmlfile_parse(&x, text, size, why, sizeof(why));
    if (r == -EBADMSG) {
        package_problem(p, "the patch XML cannot be read: %s", why);
        return 0;
    }
    return r;
}
