/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "link/keys.h"
#include "link/link.h"
#include "storage/mibib.h"

/* The layout of a MIBIB block (reference/edl.md 2.8): all numbers little-endian. */
enum {
    HEADER_PAGE = 0, /* magic, version, age */
    SYSTEM_PAGE = 1, /* magic, version, count, entries */
    CRC_PAGE = 3,    /* magic, version, crc over the pages in front of the user table */
    CRC_COVERS_PAGES = 2,

    OFFSET_VERSION = 8,
    OFFSET_AGE = 12,
    OFFSET_COUNT = 12,
    OFFSET_CRC = 12,
    OFFSET_ENTRIES = 16,

    ENTRY_SIZE = 28,
    ENTRY_NAME_SIZE = 16, /* not necessarily NUL-terminated */
    ENTRY_FIRST = 16,
    ENTRY_LENGTH = 20,

    PAGE_SIZE_MIN = 512,
};

static const uint32_t HEADER_MAGIC[2] = {0xfe569fac, 0xcd7f127a};
static const uint32_t SYSTEM_MAGIC[2] = {0x55ee73aa, 0xe35ebddb};
static const uint32_t USER_MAGIC[2] = {0xaa7d1b9a, 0x1f7d48bc};
static const uint32_t CRC_MAGIC[2] = {0x9d41bea1, 0xf1ded2ea};

#define GROWS      UINT32_C(0xffffffff)
#define POLYNOMIAL UINT32_C(0x04c11db7)
#define TOP_BIT    UINT32_C(0x80000000)

/* Where tools have found it: sectors 0x280, 0x400 and 0x800 of 64 pages a block. */
static const uint64_t KNOWN_BLOCKS[] = {10, 16, 32};

static uint32_t get_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return le32toh(value);
}

static bool has_magic(const uint8_t *page, const uint32_t magic[2])
{
    return get_u32(page) == magic[0] && get_u32(page + 4) == magic[1];
}

uint32_t mibib_crc(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint32_t)bytes[i] << 24;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & TOP_BIT ? crc << 1 ^ POLYNOMIAL : crc << 1;
    }
    return crc;
}

/* ---- one partition, from flash or from text ---- */

static const char *plain_name(const char *name)
{
    return text_starts_with(name, "0:") ? name + 2 : name;
}

static bool name_is_good(const char *name)
{
    if (!*name)
        return false;
    for (; *name; name++)
        if (*name <= ' ' || *name > '~')
            return false;
    return true;
}

/* Appends a partition, length in blocks; settle() judges them all. One of length 0 is in no block and is left
 * out: tables have such entries for what a model does not have. */
static int add_partition(struct mibib_table *t, const char *name, uint64_t first, uint64_t length, bool grows,
                         struct error *e)
{
    if (!grows && length == 0)
        return 0;
    if (t->n_partitions == MIBIB_PARTITIONS_MAX)
        return error_set(e, ERROR_FIRMWARE_INVALID, "partition table: more than %d partitions",
                         MIBIB_PARTITIONS_MAX);
    if (!name_is_good(name) || strlen(name) >= MIBIB_NAME_SIZE)
        return error_set(e, ERROR_FIRMWARE_INVALID, "partition table: entry %zu has no printable name",
                         t->n_partitions);
    if (mibib_find(t, name))
        return error_set(e, ERROR_FIRMWARE_INVALID, "partition table: two partitions are called %s", name);

    struct mibib_partition *p = &t->partitions[t->n_partitions++];
    *p = (struct mibib_partition){.first_block = first, .n_blocks = length, .grows = grows};
    snprintf(p->name, sizeof(p->name), "%s", name);
    return 0;
}

static int by_first_block(const void *a, const void *b)
{
    const struct mibib_partition *x = a, *y = b;
    return x->first_block < y->first_block ? -1 : x->first_block > y->first_block;
}

/*
 * Everything downstream (ranges of erase and program commands) trusts that partitions are in order, disjoint
 * and on the chip. The modem's loaders find them by name, so a table may list them in any order.
 */
static int settle(struct mibib_table *t, uint64_t chip_blocks, struct error *e)
{
    uint64_t chip_end = chip_blocks ? chip_blocks : UINT32_MAX;
    qsort(t->partitions, t->n_partitions, sizeof(t->partitions[0]), by_first_block);
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *p = &t->partitions[i], *before = i > 0 ? p - 1 : NULL;
        if (before && before->grows)
            return error_set(e, ERROR_FIRMWARE_INVALID,
                             "partition table: %s lies behind %s, which takes the rest of the chip", p->name,
                             before->name);
        if (before && p->first_block < before->first_block + before->n_blocks)
            return error_set(e, ERROR_FIRMWARE_INVALID,
                             "partition table: %s begins at block %llu inside %s, which ends at block %llu",
                             p->name, (unsigned long long)p->first_block, before->name,
                             (unsigned long long)(before->first_block + before->n_blocks));
        if (p->first_block >= chip_end || (!p->grows && p->n_blocks > chip_end - p->first_block))
            return error_set(
                e, ERROR_FIRMWARE_INVALID,
                "partition table: %s (block %llu, %llu blocks) ends beyond the chip's %llu blocks", p->name,
                (unsigned long long)p->first_block, (unsigned long long)p->n_blocks,
                (unsigned long long)chip_end);
    }
    return 0;
}

/* ---- the table in flash or in a package ---- */

static int parse_entries(const uint8_t *page, size_t page_size, uint64_t chip_blocks, struct mibib_table *t,
                         struct error *e)
{
    uint32_t count = get_u32(page + OFFSET_COUNT);
    size_t max = MIN_OF((page_size - OFFSET_ENTRIES) / ENTRY_SIZE, (size_t)MIBIB_PARTITIONS_MAX);
    if (count == 0 || count > max)
        return error_set(e, ERROR_FIRMWARE_INVALID,
                         "partition table: it claims %u partitions, 1 to %zu are possible", count, max);

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = page + OFFSET_ENTRIES + (size_t)i * ENTRY_SIZE;
        char name[ENTRY_NAME_SIZE + 1] = {0};
        memcpy(name, entry, ENTRY_NAME_SIZE);
        uint32_t length = get_u32(entry + ENTRY_LENGTH);
        int r = add_partition(t, plain_name(name), get_u32(entry + ENTRY_FIRST), length, length == GROWS, e);
        if (r < 0)
            return r;
    }
    if (t->n_partitions == 0)
        return error_set(e, ERROR_FIRMWARE_INVALID, "partition table: all of its %u partitions are empty",
                         count);
    int r = settle(t, chip_blocks, e);
    if (r < 0)
        return r;
    struct mibib_partition *last = &t->partitions[t->n_partitions - 1];
    if (last->grows)
        last->n_blocks = chip_blocks ? chip_blocks - last->first_block : 0;
    return 0;
}

bool mibib_is_image(const void *data, size_t size)
{
    return size >= sizeof(HEADER_MAGIC) && has_magic(data, HEADER_MAGIC);
}

/* Everything but the partitions. */
static void read_header(const uint8_t *pages, size_t page_size, struct mibib_table *ret)
{
    const uint8_t *crc = pages + CRC_PAGE * page_size;
    *ret = (struct mibib_table){
        .version = get_u32(pages + OFFSET_VERSION),
        .age = get_u32(pages + OFFSET_AGE),
        .crc_present = has_magic(crc, CRC_MAGIC),
    };
    if (ret->crc_present)
        ret->crc_valid = get_u32(crc + OFFSET_CRC) == mibib_crc(pages, CRC_COVERS_PAGES * page_size);
}

int mibib_parse(const void *pages, size_t page_size, uint64_t chip_blocks, struct mibib_table *ret,
                struct error *e)
{
    const uint8_t *header = (const uint8_t *)pages + HEADER_PAGE * page_size;
    const uint8_t *system = (const uint8_t *)pages + SYSTEM_PAGE * page_size;

    if (page_size < PAGE_SIZE_MIN)
        return error_set(e, ERROR_FIRMWARE_INVALID, "partition table: pages of %zu bytes cannot hold one",
                         page_size);
    if (has_magic(header, USER_MAGIC))
        return error_set(e, ERROR_FIRMWARE_INVALID,
                         "partition table: this is a bare user table, which gives sizes but no addresses");
    if (!has_magic(header, HEADER_MAGIC))
        return error_set(e, ERROR_FIRMWARE_INVALID,
                         "partition table: it begins with %08x %08x instead of the MIBIB magic %08x %08x",
                         get_u32(header), get_u32(header + 4), HEADER_MAGIC[0], HEADER_MAGIC[1]);
    if (!has_magic(system, SYSTEM_MAGIC))
        return error_set(e, ERROR_FIRMWARE_INVALID,
                         "partition table: the system table begins with %08x %08x instead of %08x %08x",
                         get_u32(system), get_u32(system + 4), SYSTEM_MAGIC[0], SYSTEM_MAGIC[1]);

    struct mibib_table t;
    read_header(pages, page_size, &t);
    int r = parse_entries(system, page_size, chip_blocks, &t, e);
    if (r < 0)
        return r;
    *ret = t;
    return 0;
}

/* ---- finding the modem's own ---- */

/* A copy of the table in a block of the modem. */
struct copy {
    struct mibib_table table;
    bool refused; /* the modem goes by it (its CRC is right), and we cannot read it: the table has no
                     partitions */
    struct error why;
};

/*
 * A page of a block. A programmer that cannot show bad blocks slides on to the next good one instead, so its
 * reads may go on to the chip's end: a bad block with itself as last_sector would be a NAK, after which some
 * programmers hang. 1; 0: it is refused, and a copy that cannot be read is none.
 */
static int read_page(struct firehose *f, const struct nand_geometry *g, bool skip_bad_block, uint64_t block,
                     uint32_t page, uint8_t *ret, struct error *e)
{
    struct firehose_range range = nand_range(g, block, skip_bad_block ? 1 : g->blocks - block);
    struct error own = {0};
    range.start += page;
    range.count = 1;
    int r = firehose_read_pages(f, &range, skip_bad_block, ret, &own);
    if (r == 0)
        return 1;
    if (firehose_is_refusal(&own)) {
        firehose_clear_errors(f);
        return 0;
    }
    if (e)
        *e = own;
    return r;
}

/* 1: this block holds a copy that counts, in *ret; 0: it does not. Page by page: a programmer may show the
 * fill of an erased one in place of its neighbours. */
static int read_copy(struct firehose *f, const struct nand_geometry *g, bool skip_bad_block, uint64_t block,
                     uint8_t *pages, struct copy *ret, struct error *e)
{
    for (uint32_t i = 0; i < MIBIB_PAGES; i++) {
        int r = read_page(f, g, skip_bad_block, block, i, pages + (size_t)i * g->page_size, e);
        if (r == 0 && i == 0)
            pages[0] = 0; /* nothing that was read before */
        if (r <= 0)
            return r;
        if (i == 0 && !has_magic(pages, HEADER_MAGIC))
            return 0;
    }
    *ret = (struct copy){0};
    read_header(pages, g->page_size, &ret->table);
    /* A copy that is damaged is no copy; the modem's loaders pass it over too. */
    if (ret->table.crc_present && !ret->table.crc_valid)
        return 0;
    ret->refused = mibib_parse(pages, g->page_size, g->blocks, &ret->table, &ret->why) < 0;
    return !ret->refused || ret->table.crc_valid;
}

static bool is_known_place(uint64_t block)
{
    for (size_t i = 0; i < ARRAY_SIZE(KNOWN_BLOCKS); i++)
        if (KNOWN_BLOCKS[i] == block)
            return true;
    return false;
}

/* A checked CRC beats none at all, then the higher age wins; of two that are as old the one that refuses. */
static bool is_better(const struct copy *a, const struct copy *b)
{
    if (a->table.crc_valid != b->table.crc_valid)
        return a->table.crc_valid;
    return a->table.age != b->table.age ? a->table.age > b->table.age : a->refused && !b->refused;
}

int mibib_read(struct firehose *f, const struct nand_geometry *g, const struct nand_capabilities *caps,
               struct nand_map *map, struct mibib_table *ret, uint64_t *ret_block, struct error *e)
{
    if (g->pages_per_block < MIBIB_PAGES)
        return error_set(e, ERROR_UNSUPPORTED, "erase blocks of %u pages cannot hold a partition table",
                         g->pages_per_block);
    _cleanup_free_ uint8_t *pages = malloc((size_t)g->page_size * MIBIB_PAGES);
    _cleanup_free_ struct copy *copy = malloc(sizeof(*copy)), *best = malloc(sizeof(*best));
    if (!pages || !copy || !best)
        return error_set(e, ERROR_FAILED, "out of memory");

    bool found = false;
    uint64_t found_block = 0;
    for (size_t i = 0; i < ARRAY_SIZE(KNOWN_BLOCKS) + MIBIB_SCAN_BLOCKS; i++) {
        bool scan = i >= ARRAY_SIZE(KNOWN_BLOCKS);
        uint64_t block = scan ? i - ARRAY_SIZE(KNOWN_BLOCKS) : KNOWN_BLOCKS[i];
        if (block >= g->blocks || (scan && is_known_place(block)))
            continue;
        int r = read_copy(f, g, caps->skip_bad_block, block, pages, copy, e);
        if (r < 0)
            return r;
        /* By its first page, as nand_read_map() would judge it. */
        if (map && caps->skip_bad_block && nand_page_state(pages, g->page_size, 0xff) != NAND_PAGE_BAD)
            nand_map_set(map, block, false);
        if (r == 0 || (found && !is_better(copy, best)))
            continue;
        *best = *copy;
        found_block = block;
        found = true;
    }
    if (!found)
        return -ENOENT;
    if (best->refused)
        return error_set(
            e, ERROR_ERASE_CALIBRATION,
            "the modem's partition table in block %llu is whole (its CRC is right) and cannot be "
            "understood (%s): nobody can tell where the calibration lies "
            "(--allow=EraseCalibration to go on without it)",
            (unsigned long long)found_block, best->why.message);
    *ret = best->table;
    *ret_block = found_block;
    return 0;
}

/* ---- looking up ---- */

const struct mibib_partition *mibib_find(const struct mibib_table *t, const char *name)
{
    for (size_t i = 0; i < t->n_partitions; i++)
        if (text_equal_nocase(t->partitions[i].name, plain_name(name)))
            return &t->partitions[i];
    return NULL;
}

const struct mibib_partition *mibib_at(const struct mibib_table *t, uint64_t block)
{
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *p = &t->partitions[i];
        bool open_end = p->grows && p->n_blocks == 0;
        if (block >= p->first_block && (open_end || block - p->first_block < p->n_blocks))
            return p;
    }
    return NULL;
}

bool mibib_is_unit_data(const char *name)
{
    static const char *const names[] = {"EFS2", "RAWDATA", "sys_rev", "cust_info"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (text_equal_nocase(plain_name(name), names[i]))
            return true;
    return false;
}

/* ---- several ---- */

void mibib_tables_done(struct mibib_tables *t)
{
    free(t->table);
    *t = (struct mibib_tables){0};
}

struct mibib_union mibib_unite(const struct mibib_table *modem, const struct mibib_tables *recorded,
                               const struct mibib_table *package)
{
    struct mibib_union u = {0};
    if (modem)
        u.table[u.n++] = modem;
    for (size_t i = recorded ? recorded->n : 0; i-- > 0;)
        u.table[u.n++] = &recorded->table[i];
    if (package)
        u.table[u.n++] = package;
    return u;
}

/* ---- as text ---- */

char *mibib_print(const struct mibib_table *t)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    bool failed = false;
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *p = &t->partitions[i];
        _cleanup_free_ char *name = text_escape(p->name, strlen(p->name));
        failed |= !name;
        fprintf(f, "%sNAME=%s\nFIRST=%llu\nBLOCKS=%llu\n", i ? "\n" : "", name ? name : "",
                (unsigned long long)p->first_block, (unsigned long long)p->n_blocks);
        if (p->grows)
            fputs("GROWS=1\n", f);
    }
    failed |= ferror(f);
    if (fclose(f) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

struct scan {
    struct mibib_tables tables;
    bool several; /* the next table may begin with any record */
    bool begun;   /* the last of them goes on */
    char name[MIBIB_NAME_SIZE];
    uint64_t first, blocks;
    bool have_first, have_blocks, grows;
};

static int scan_field(void *userdata, const char *key, const char *value)
{
    struct scan *s = userdata;
    if (strcmp(key, "NAME") == 0) {
        if (s->name[0] || strlen(value) >= sizeof(s->name))
            return -EBADMSG;
        memcpy(s->name, value, strlen(value) + 1);
        return 0;
    }
    if (strcmp(key, "FIRST") == 0 && !s->have_first) {
        s->have_first = true;
        return text_parse_u64(value, 10, UINT32_MAX, &s->first) < 0 ? -EBADMSG : 0;
    }
    if (strcmp(key, "BLOCKS") == 0 && !s->have_blocks) {
        s->have_blocks = true;
        return text_parse_u64(value, 10, UINT32_MAX, &s->blocks) < 0 ? -EBADMSG : 0;
    }
    if (strcmp(key, "GROWS") == 0 && strcmp(value, "1") == 0) {
        s->grows = true;
        return 0;
    }
    return -EBADMSG;
}

static void scan_done(struct scan *s)
{
    mibib_tables_done(&s->tables);
}

static int begin_table(struct scan *s)
{
    struct mibib_tables *t = &s->tables;
    if (t->n == MIBIB_TABLES_MAX)
        return -EBADMSG;
    struct mibib_table *grown = reallocarray(t->table, t->n + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    t->table = grown;
    memset(&grown[t->n++], 0, sizeof(*grown));
    s->begun = true;
    return 0;
}

/* Can the record in hand be of the table before it? */
static bool goes_on(const struct scan *s)
{
    if (!s->begun || !s->several)
        return s->begun;
    const struct mibib_table *t = &s->tables.table[s->tables.n - 1];
    const struct mibib_partition *last = &t->partitions[t->n_partitions - 1];
    return !last->grows && s->first >= last->first_block + last->n_blocks && !mibib_find(t, s->name);
}

static int scan_record(void *userdata)
{
    struct scan *s = userdata;
    if (!s->have_first || !s->have_blocks || (!s->grows && s->blocks == 0))
        return -EBADMSG;
    int r = goes_on(s) ? 0 : begin_table(s);
    if (r < 0)
        return r;
    if (add_partition(&s->tables.table[s->tables.n - 1], s->name, s->first, s->blocks, s->grows, NULL) < 0)
        return -EBADMSG;
    s->name[0] = '\0';
    s->have_first = s->have_blocks = s->grows = false;
    return 0;
}

/* The chip's size is not in the text: what a growing partition had is taken as it was. */
static int settle_all(struct scan *s)
{
    if (s->tables.n == 0)
        return -EBADMSG;
    for (size_t i = 0; i < s->tables.n; i++)
        if (settle(&s->tables.table[i], 0, NULL) < 0)
            return -EBADMSG;
    return 0;
}

int mibib_scan(const char *text, size_t size, struct mibib_table *ret)
{
    _cleanup_(scan_done) struct scan s = {0};
    int r = link_parse_text(text, size, scan_field, scan_record, &s, NULL);
    if (r == 0)
        r = settle_all(&s);
    if (r == 0)
        *ret = s.tables.table[0];
    return r;
}

int mibib_scan_several(const char *text, size_t size, struct mibib_tables *ret)
{
    static const char between[] = "\n" RECORDED_BETWEEN; /* with the end of the line before it */
    _cleanup_(scan_done) struct scan s = {.several = true};
    const char *end = text + size;
    if (size == 0 || end[-1] != '\n') /* cut: its last number may be */
        return -EBADMSG;
    int r = 0;
    for (const char *p = text; r == 0 && p < end;) {
        const char *gap = memmem(p, (size_t)(end - p), between, strlen(between));
        s.begun = false;
        r = link_parse_text(p, (size_t)((gap ? gap + 1 : end) - p), scan_field, scan_record, &s, NULL);
        p = gap ? gap + strlen(between) : end;
    }
    if (r == 0)
        r = settle_all(&s);
    if (r < 0)
        return r;
    *ret = s.tables;
    s.tables = (struct mibib_tables){0};
    return 0;
}
