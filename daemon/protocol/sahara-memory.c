/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/sahara-memory.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "protocol/sahara-packet.h"

enum {
    ENTRY_NARROW = 52, /* u32 preference, base, length; 20 bytes description, 20 bytes file name */
    ENTRY_WIDE = 64,   /* u64 the three */
    TEXT_SIZE = 20,
    CHUNK = 512 * 1024, /* of one read, as in the tools that work (1.4) */
    TRANSFER = 64 * 1024,
    END_IMAGE_SIZE = 16,
};

static const usec_t greet_time = 10 * USEC_PER_SEC, read_time = 30 * USEC_PER_SEC;

void sahara_memory_done(struct sahara_memory *m)
{
    free(m->regions);
    *m = (struct sahara_memory){0};
}

/* ---- reading ---- */

typedef int (*memory_sink)(void *userdata, const void *data, size_t size, struct error *e);

static int ask(struct transport *t, bool wide, uint64_t address, uint64_t length)
{
    const uint32_t narrow_words[] = {(uint32_t)address, (uint32_t)length};
    const uint32_t wide_words[] = {(uint32_t)address, (uint32_t)(address >> 32), (uint32_t)length,
                                   (uint32_t)(length >> 32)};
    usec_t deadline = deadline_in(SAHARA_WRITE_TIMEOUT);
    return wide ? sahara_send(t, SAHARA_MEMORY_READ64, wide_words, ARRAY_SIZE(wide_words), deadline)
                : sahara_send(t, SAHARA_MEMORY_READ, narrow_words, ARRAY_SIZE(narrow_words), deadline);
}

/* In the place of data, in a transfer of its own: "invalid memory read". */
static bool is_refusal(const uint8_t *bytes, size_t n, bool boundary, uint64_t expected)
{
    const uint32_t head[] = {htole32(SAHARA_END_IMAGE_TX), htole32(END_IMAGE_SIZE)};
    return boundary && n == END_IMAGE_SIZE && expected != n && memcmp(bytes, head, sizeof(head)) == 0;
}

static int refused(const uint8_t *bytes, uint64_t address, struct error *e)
{
    uint32_t status;
    memcpy(&status, bytes + 12, sizeof(status));
    return error_set(e, ERROR_SAHARA_FAILED, "the modem does not lend its memory at 0x%" PRIx64 ": %s",
                     address, sahara_status_name(le32toh(status)));
}

static int read_chunk(struct transport *t, bool wide, uint64_t address, uint64_t length, uint8_t *buffer,
                      memory_sink sink, void *userdata, struct error *e)
{
    static const char doing[] = "reading the modem's memory";
    unsigned empty = 0;
    int r = ask(t, wide, address, length);
    for (uint64_t done = 0; r == 0 && done < length;) {
        size_t n;
        bool boundary;
        r = transport_read(t, buffer, (size_t)MIN_OF((uint64_t)TRANSFER, length - done),
                           deadline_in(read_time), &n, &boundary);
        if (r < 0)
            break;
        /* A ZLP ends the data in front of it, and is no data (2.10). */
        if (n == 0 && ++empty > SAHARA_ZLPS_MAX)
            r = -ETIMEDOUT;
        if (done == 0 && is_refusal(buffer, n, boundary, length))
            return refused(buffer, address, e);
        if (r == 0 && n > 0) {
            r = sink(userdata, buffer, n, e);
            if (r < 0)
                return r;
        }
        done += n;
    }
    return r < 0 ? sahara_io_error(r, doing, e) : 0;
}

static int read_memory(struct transport *t, bool wide, uint64_t address, uint64_t length, memory_sink sink,
                       void *userdata, struct error *e)
{
    _cleanup_free_ uint8_t *buffer = malloc(TRANSFER);
    if (!buffer)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t done = 0; done < length;) {
        uint64_t n = MIN_OF((uint64_t)CHUNK, length - done);
        int r = read_chunk(t, wide, address + done, n, buffer, sink, userdata, e);
        if (r < 0)
            return r;
        done += n;
    }
    return 0;
}

int sahara_memory_read(struct transport *t, const struct sahara_memory *m, const struct sahara_region *region,
                       memory_sink sink, void *userdata, struct error *e)
{
    return read_memory(t, m->wide, region->address, region->length, sink, userdata, e);
}

/* ---- the table ---- */

static bool is_taken(const struct sahara_memory *m, const char *name)
{
    for (size_t i = 0; i < m->n_regions; i++)
        if (strcasecmp(m->regions[i].name, name) == 0)
            return true;
    return false;
}

/* 20 bytes, not necessarily terminated, of anything, to a file name that no other region has. */
static void take_name(const struct sahara_memory *m, const uint8_t *text, struct sahara_region *region)
{
    char name[TEXT_SIZE + 1] = "";
    size_t n = strnlen((const char *)text, TEXT_SIZE);
    for (size_t i = 0; i < n; i++)
        name[i] = (char)(isascii(text[i]) && (isalnum(text[i]) || strchr("-_", text[i]) ||
                                              (text[i] == '.' && i > 0 && name[i - 1] != '.'))
                             ? text[i]
                             : '_');
    snprintf(region->name, sizeof(region->name), "%s", *name ? name : "region");
    for (unsigned k = 2; is_taken(m, region->name); k++)
        snprintf(region->name, sizeof(region->name), "%s-%u", *name ? name : "region", k);
}

static uint64_t number(const uint8_t *at, bool wide)
{
    uint64_t value = 0;
    memcpy(&value, at, wide ? 8 : 4);
    return le64toh(value);
}

static void take_entry(struct sahara_memory *m, const uint8_t *entry, uint64_t *total)
{
    size_t size = m->wide ? 8 : 4;
    struct sahara_region region = {.address = number(entry + size, m->wide),
                                   .length = number(entry + 2 * size, m->wide)};
    uint64_t space = m->wide ? UINT64_MAX : UINT32_MAX;
    if (region.length == 0 || region.length - 1 > space - region.address ||
        region.length > SAHARA_MEMORY_MAX - *total || m->n_regions == SAHARA_REGIONS_MAX) {
        m->left_out++;
        return;
    }
    char words[TEXT_SIZE + 1] = "";
    memcpy(words, entry + 3 * size, TEXT_SIZE);
    for (char *p = words; *p; p++)
        *p = (char)(isascii((unsigned char)*p) && isprint((unsigned char)*p) ? *p : '?');
    snprintf(region.description, sizeof(region.description), "%s", words);
    take_name(m, entry + 3 * size + TEXT_SIZE, &region);
    *total += region.length;
    m->regions[m->n_regions++] = region;
}

struct bytes {
    uint8_t *data;
    size_t n;
};

static int to_bytes(void *userdata, const void *data, size_t size, struct error *e _unused_)
{
    struct bytes *b = userdata;
    memcpy(b->data + b->n, data, size);
    b->n += size;
    return 0;
}

static int read_table(struct transport *t, struct sahara_memory *m, uint64_t address, uint64_t size,
                      struct error *e)
{
    size_t entry = m->wide ? ENTRY_WIDE : ENTRY_NARROW;
    if (size == 0 || size > SAHARA_TABLE_MAX || size % entry != 0)
        return error_set(e, ERROR_SAHARA_FAILED,
                         "the modem's table of memory regions is of %" PRIu64 " bytes, which is none", size);
    _cleanup_free_ uint8_t *table = malloc((size_t)size);
    m->regions = calloc(SAHARA_REGIONS_MAX, sizeof(*m->regions));
    struct bytes bytes = {.data = table};
    if (!table || !m->regions)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = read_memory(t, m->wide, address, size, to_bytes, &bytes, e);
    uint64_t total = 0;
    for (size_t at = 0; r == 0 && at < size; at += entry)
        take_entry(m, table + at, &total);
    return r;
}

int sahara_memory_open(struct transport *t, const struct sahara_hello *hello, struct sahara_memory *ret,
                       struct error *e)
{
    struct sahara_memory m = {0};
    struct sahara_packet p = {0};
    unsigned hellos = 0;
    int r = sahara_greet(t, hello, SAHARA_MODE_MEMORY_DEBUG, &hellos, greet_time, &p);
    if (r == -EPROTO && p.command == 0)
        return sahara_garbage_error(&p, "it was asked for its memory", e);
    if (r < 0)
        return sahara_io_error(r, "asking for the modem's memory", e);
    if (p.command == SAHARA_END_IMAGE_TX)
        return error_set(e, ERROR_SAHARA_FAILED, "the modem does not lend its memory: %s",
                         sahara_status_name(sahara_u32(&p, 12)));
    m.wide = p.command == SAHARA_MEMORY_DEBUG64;
    if (!m.wide && p.command != SAHARA_MEMORY_DEBUG)
        return error_set(e, ERROR_SAHARA_FAILED,
                         "the modem answered with command 0x%" PRIx32 " instead of its memory", p.command);
    uint64_t address = m.wide ? sahara_u64(&p, 8) : sahara_u32(&p, 8),
             size = m.wide ? sahara_u64(&p, 16) : sahara_u32(&p, 12);
    r = read_table(t, &m, address, size, e);
    if (r < 0) {
        sahara_memory_done(&m);
        return r;
    }
    *ret = m;
    return 0;
}
