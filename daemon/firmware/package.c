/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/package.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/checksums.h"
#include "firmware/xmlfile.h"
#include "firmware/programmer.h"
#include "firmware/ranges.h"
#include "firmware/rawprogram.h"

static const char MD5_LIST[] = "md5.txt", CONTENTS[] = "contents.xml";

enum { CONTENTS_SIZE_MAX = 1024 * 1024, PARTITION_IMAGE_MAX = 1024 * 1024 };

struct package *package_free(struct package *p)
{
    if (!p)
        return NULL;
    for (size_t i = 0; i < p->n_files; i++)
        free(p->files[i].path);
    for (size_t i = 0; i < p->n_problems; i++)
        free(p->problems[i]);
    for (size_t i = 0; i < p->n_notes; i++)
        free(p->notes[i]);
    free(p->files);
    free(p->commands);
    free(p);
    return NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void directory_of(const char *path, char *ret, size_t size)
{
    const char *name = base_name(path);
    int n = name > path ? (int)(name - path - 1) : 0;
    snprintf(ret, size, "%.*s", n, path);
}

/* ---- rawprogram: which one, what geometry ---- */

enum flavour { FLAVOUR_UPDATE, FLAVOUR_PLAIN, FLAVOUR_FACTORY, FLAVOUR_COUNT };

static bool is_rawprogram(const char *path, enum flavour *ret)
{
    const char *name = base_name(path);
    if (strncasecmp(name, "rawprogram", strlen("rawprogram")) != 0 || strlen(name) < 4 ||
        !text_equal_nocase(name + strlen(name) - 4, ".xml") || strcasestr(name, "emmc") ||
        strcasestr(name, "ufs"))
        return false;
    *ret = strcasestr(name, "_update")    ? FLAVOUR_UPDATE
           : strcasestr(name, "_factory") ? FLAVOUR_FACTORY
                                          : FLAVOUR_PLAIN;
    return true;
}

/* Of update and factory only update counts (rule 4); two that could be meant are one too many. */
static void choose_rawprogram(struct package *p)
{
    const struct package_file *first[FLAVOUR_COUNT] = {0}, *second[FLAVOUR_COUNT] = {0};
    for (size_t i = 0; i < p->n_files; i++) {
        enum flavour f;
        if (!is_rawprogram(p->files[i].path, &f))
            continue;
        if (!first[f])
            first[f] = &p->files[i];
        else if (!second[f])
            second[f] = &p->files[i];
    }
    enum flavour f = FLAVOUR_UPDATE;
    while (f < FLAVOUR_COUNT && !first[f])
        f++;
    if (f == FLAVOUR_COUNT) {
        package_missing(p, "there is no rawprogram XML (update/firehose/rawprogram_nand_…_update.xml)");
        return;
    }
    if (second[f]) {
        package_problem(p, "there are several rawprogram XMLs: %s and %s", first[f]->path, second[f]->path);
        return;
    }
    p->rawprogram = first[f];
    p->factory_only = f == FLAVOUR_FACTORY;
    p->files[p->rawprogram - p->files].referenced = true;
}

/* Page and block size are in the file names; the commands must agree (ranges.c). */
static void read_geometry(struct package *p)
{
    if (nand_geometry_parse(base_name(p->rawprogram->path), &p->geometry) == 0)
        return;
    for (size_t i = 0; i < p->n_files; i++)
        if (strncasecmp(base_name(p->files[i].path), "partition_complete", strlen("partition_complete")) ==
                0 &&
            nand_geometry_parse(base_name(p->files[i].path), &p->geometry) == 0)
            return;
    p->geometry = (struct nand_geometry){0};
    package_problem(p, "%s does not name page and block size (as p4K_b256K)", p->rawprogram->path);
}

/* Loads a file that is read as a whole. 0 with *ret NULL: it was too large, which is a problem now. */
static int load_text(struct package *p, const struct package_file *file, size_t max, char **ret,
                     size_t *ret_size)
{
    int r = package_load(p, file, max, ret, ret_size);
    if (r == -EFBIG) {
        package_problem(p, "%s has %llu bytes, more than %zu", file->path, (unsigned long long)file->size,
                        max);
        return 0;
    }
    return r;
}

static int read_rawprogram(struct package *p, char *base, size_t base_size)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;

    choose_rawprogram(p);
    if (!p->rawprogram)
        return 0;
    directory_of(p->rawprogram->path, base, base_size);
    read_geometry(p);
    int r = load_text(p, p->rawprogram, XML_SIZE_MAX, &text, &size);
    return r < 0 || !text ? r : rawprogram_parse(p, base, text, size);
}

/* ---- the partition table, and the patches that were to be applied to it ---- */

/* By its content, whatever it is called; and by its name, so that one which is no table is told. 1, 0, or the
 * errno of the read. */
static int is_partition_image(const struct package *p, const struct package_file *file)
{
    uint8_t head[MIBIB_MAGIC_SIZE];
    if (strncasecmp(base_name(file->path), "partition_complete", strlen("partition_complete")) == 0)
        return 1;
    int r = package_read(p, file, 0, head, sizeof(head));
    return r < 0 ? r : mibib_is_image(head, sizeof(head));
}

static int find_partition_image(struct package *p)
{
    for (size_t i = 0; i < p->n_commands; i++) {
        const struct package_file *file = p->commands[i].file;
        if (p->commands[i].kind != COMMAND_PROGRAM || file == p->partition_image)
            continue;
        int r = is_partition_image(p, file);
        if (r < 0)
            return r;
        if (r == 0)
            continue;
        if (p->partition_image)
            package_problem(p, "it writes two partition tables, %s and %s (line %u)",
                            p->partition_image->path, file->path, p->commands[i].line);
        else
            p->partition_image = file;
    }
    return 0;
}

static int read_partition_image(struct package *p)
{
    struct error why = {0};
    struct nand_geometry named;

    int r = find_partition_image(p);
    if (r < 0)
        return r;
    if (!p->partition_image) {
        package_note(p, "the package writes no partition table");
        return 0;
    }
    if (nand_geometry_parse(base_name(p->partition_image->path), &named) == 0 &&
        (named.page_size != p->geometry.page_size || named.pages_per_block != p->geometry.pages_per_block))
        package_problem(p, "%s and %s name different page or block sizes", p->rawprogram->path,
                        p->partition_image->path);

    size_t size = (size_t)MIBIB_PAGES * p->geometry.page_size;
    if (size == 0 || size > PARTITION_IMAGE_MAX)
        return 0; /* the geometry was refused before */
    _cleanup_free_ char *pages = malloc(size);
    if (!pages)
        return -ENOMEM;
    r = package_read(p, p->partition_image, 0, pages, size);
    if (r < 0)
        return r;
    if (mibib_parse(pages, p->geometry.page_size, 0, &p->table, &why) < 0) {
        package_problem(p, "%s: %s", p->partition_image->path, why.message);
        return 0;
    }
    if (!p->table.crc_valid)
        package_problem(p, "%s: the CRC of its partition table is %s", p->partition_image->path,
                        p->table.crc_present ? "wrong" : "missing");
    p->table_known = true;
    return 0;
}

static int check_patches(struct package *p, const char *base)
{
    for (size_t i = 0; i < p->n_files; i++) {
        struct package_file *file = &p->files[i];
        char directory[PACKAGE_PATH_MAX], *text = NULL;
        const char *name = base_name(file->path);
        size_t size = 0;

        directory_of(file->path, directory, sizeof(directory));
        if ((strncasecmp(name, "patch_", 6) != 0 && strncasecmp(name, "patch-", 6) != 0 &&
             !(strncasecmp(name, "patch", 5) == 0 && name[5] >= '0' && name[5] <= '9')) ||
            !text_equal_nocase(name + strlen(name) - 4, ".xml") || !text_equal_nocase(directory, base))
            continue;
        file->referenced = true;
        int r = load_text(p, file, XML_SIZE_MAX, &text, &size);
        if (r == 0 && text)
            r = patch_check(p, base, text, size);
        free(text);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- what it says about itself ---- */

struct contents {
    char product[64], chipid[32];
};

static void on_contents_text(void *userdata, const char *element, const char *text)
{
    struct contents *c = userdata;
    char clean[XMLFILE_TEXT_MAX];
    text_clean(text, strlen(text), clean, sizeof(clean));
    if (strcmp(element, "product_name") == 0 && !*c->product)
        snprintf(c->product, sizeof(c->product), "%.*s", (int)sizeof(c->product) - 1, clean);
    else if (strcmp(element, "chipid") == 0 && !*c->chipid)
        snprintf(c->chipid, sizeof(c->chipid), "%.*s", (int)sizeof(c->chipid) - 1, clean);
}

/* Only information, so what is wrong with it is a note; its digest is checked like any other. */
static int read_contents(struct package *p, struct contents *ret)
{
    const struct package_file *file = package_find(p, CONTENTS);
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    char why[256] = "";

    if (!file) {
        package_note(p, "there is no %s", CONTENTS);
        return 0;
    }
    if (file->size > CONTENTS_SIZE_MAX) {
        package_note(p, "%s is too large to be read", CONTENTS);
        return 0;
    }
    int r = package_load(p, file, CONTENTS_SIZE_MAX, &text, &size);
    if (r < 0)
        return r;
    struct xmlfile x = {.on_text = on_contents_text, .userdata = ret};
    r = xmlfile_parse(&x, text, size, why, sizeof(why));
    if (r == -EBADMSG) {
        package_note(p, "%s cannot be read: %s", CONTENTS, why);
        r = 0;
    }
    snprintf(p->product, sizeof(p->product), "%s", ret->product);
    return r;
}

/* "RM502Q….zip" without what the archive's kind added. */
static void strip_endings(char *name)
{
    static const char *const endings[] = {".zip", ".7z",     ".tar", ".tar.gz",
                                          ".tgz", ".tar.xz", ".txz", ".tar.zst"};
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        size_t n = strlen(name), m = strlen(endings[i]);
        if (n > m && text_equal_nocase(name + n - m, endings[i])) {
            name[n - m] = '\0';
            return;
        }
    }
}

/* Rule 1: from the top directory, else from the archive's name, compared with what the vendor check names. */
static void read_version(struct package *p, const char *name_hint)
{
    char name[sizeof(p->name)];

    p->version_known = version_parse(p->top, &p->version) == 0;
    const char *hint = name_hint && *name_hint ? name_hint : p->name;
    if (!p->version_known) {
        snprintf(name, sizeof(name), "%s", base_name(hint));
        strip_endings(name);
        p->version_known = version_parse(name, &p->version) == 0;
    }
    if (!p->version_known)
        package_note(p, "neither the top directory \"%s\" nor the name \"%s\" is a Quectel version name",
                     p->top, hint);

    for (size_t i = 0; i < p->n_commands; i++) {
        const char *project = p->commands[i].vendor.project_name;
        if (p->commands[i].kind == COMMAND_VENDOR && *project && p->version_known &&
            strcmp(project, p->version.prefix) != 0)
            package_problem(p, "the package's name says %s, its vendor check says %s (line %u)",
                            p->version.prefix, project, p->commands[i].line);
    }
}

/* ---- digests ---- */

static int check_md5_list(struct package *p)
{
    const struct package_file *file = package_find(p, MD5_LIST);
    _cleanup_free_ char *text = NULL;
    _cleanup_(checksums_done) struct checksums list = {0};
    size_t size = 0;

    if (!file) {
        package_missing(p, "there is no %s: nothing can be checked", MD5_LIST);
        return 0;
    }
    int r = load_text(p, file, CHECKSUMS_SIZE_MAX, &text, &size);
    if (r < 0 || !text)
        return r;
    r = checksums_parse(p, text, size, &list);
    if (r == 0)
        checksums_check(p, &list);
    return r;
}

/* The digest of a file in the library, and the one of its pages from the same reading. */
static int digest_stored(const struct package *p, struct package_file *f, uint8_t ret[SHA256_SIZE])
{
    static const uint8_t ones[256] = {[0 ... 255] = 0xff};
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256), *pages = NULL;
    if (!d)
        return -ENOMEM;
    int r = digest_update_fd(d, p->fd, f->offset, f->size);
    if (r < 0)
        return r;
    pages = digest_copy(d);
    if (!pages)
        return -ENOMEM;
    digest_final(d, ret);
    uint64_t end =
        p->geometry.page_size ? DIV_ROUND_UP(f->size, p->geometry.page_size) * p->geometry.page_size : 0;
    for (uint64_t at = f->size; at < end; at += sizeof(ones))
        digest_update(pages, ones, (size_t)MIN_OF(end - at, (uint64_t)sizeof(ones)));
    digest_final(pages, f->pages_sha256);
    return 0;
}

/* The md5 of the index is of the import; what lies in the library now must still be that. */
static int check_stored(struct package *p)
{
    uint8_t found[SHA256_SIZE];
    for (size_t i = 0; i < p->n_files; i++) {
        struct package_file *f = &p->files[i];
        if (!f->referenced)
            continue;
        int r = digest_stored(p, f, found);
        if (r < 0)
            return r;
        if (memcmp(found, f->sha256, SHA256_SIZE) != 0)
            package_problem(p, "%s in the library is not what was imported", f->path);
    }
    return 0;
}

static int check_everything(struct package *p, const char *name_hint)
{
    char base[PACKAGE_PATH_MAX] = "";
    struct contents contents = {0};

    int r = read_contents(p, &contents);
    if (r == 0)
        r = read_rawprogram(p, base, sizeof(base));
    if (r == 0 && p->rawprogram)
        r = programmer_choose(p, base, contents.chipid);
    if (r == 0 && p->rawprogram)
        r = read_partition_image(p);
    if (r == 0 && p->rawprogram)
        r = check_patches(p, base);
    if (r == 0)
        r = check_md5_list(p);
    if (r == 0)
        r = check_stored(p);
    if (r < 0)
        return r;
    read_version(p, name_hint);
    if (p->geometry.page_size)
        ranges_check(p);
    return 0;
}

/* Only what says which of its files is the programmer. */
static int find_programmer(struct package *p)
{
    char base[PACKAGE_PATH_MAX] = "";
    struct contents contents = {0};
    int r = read_contents(p, &contents);
    if (r == 0)
        r = read_rawprogram(p, base, sizeof(base));
    return r == 0 && p->rawprogram ? programmer_choose(p, base, contents.chipid) : r;
}

int package_load_programmer(int fd, char **ret, size_t *ret_size, struct error *e)
{
    _cleanup_(package_freep) struct package *p = calloc(1, sizeof(*p));
    _cleanup_free_ char *data = NULL;
    uint8_t found[SHA256_SIZE];
    size_t size = 0;
    if (!p)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = archive_read_index(fd, p, e);
    if (r < 0)
        return r;
    r = find_programmer(p);
    if (r < 0)
        return error_set(e, ERROR_FIRMWARE_INVALID, "The stored package cannot be read: %s", strerror(-r));
    if (!p->programmer)
        return error_set(e, ERROR_FIRMWARE_INVALID, "The package has no programmer");
    r = package_load(p, p->programmer, PROGRAMMER_SIZE_MAX, &data, &size);
    if (r == 0)
        r = digest_sha256(data, size, found);
    if (r < 0)
        return error_set(e, ERROR_FIRMWARE_INVALID, "The programmer %s cannot be read: %s",
                         p->programmer->path, strerror(-r));
    if (memcmp(found, p->programmer->sha256, SHA256_SIZE) != 0)
        return error_set(e, ERROR_DIGEST_MISMATCH, "%s in the library is not what was imported",
                         p->programmer->path);
    *ret = steal_ptr(data);
    *ret_size = size;
    return 0;
}

int package_open(int fd, const char *name_hint, struct package **ret, struct error *e)
{
    _cleanup_(package_freep) struct package *p = calloc(1, sizeof(*p));
    if (!p)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = archive_read_index(fd, p, e);
    if (r < 0)
        return r;
    r = check_everything(p, name_hint);
    if (r == -ENOMEM)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (r < 0)
        return error_set(e, ERROR_FIRMWARE_INVALID, "The stored package cannot be read: %s", strerror(-r));
    *ret = steal_ptr(p);
    return 0;
}
