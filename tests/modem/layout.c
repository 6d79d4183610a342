/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "layout.h"

#include <string.h>
#include <strings.h>

#include "efs.h"
#include "factory.h"
#include "trace.h"

/* reference/edl.md 2.8 */
#define MIBIB_HEADER_MAGIC1 0xFE569FACu
#define MIBIB_HEADER_MAGIC2 0xCD7F127Au
#define MIBIB_TABLE_MAGIC1  0x55EE73AAu
#define MIBIB_TABLE_MAGIC2  0xE35EBDDBu
#define MIBIB_CRC_MAGIC1    0x9D41BEA1u
#define MIBIB_CRC_MAGIC2    0xF1DED2EAu
#define MIBIB_GROW          0xFFFFFFFFu
#define CRC_POLYNOMIAL      0x04C11DB7u

enum {
    MIBIB_PAGE_HEADER = 0,
    MIBIB_PAGE_TABLE = 1,
    MIBIB_PAGE_CRC = 3,
    MIBIB_PAGES_CHECKED = 2,
    MIBIB_TABLE_HEADER = 16,
    MIBIB_ENTRY = 28,
    MIBIB_SCAN_BLOCKS = 21,
};

const uint8_t rawdata_magic[RAWDATA_MAGIC_SIZE] = {0x24, 0x04, 0x19, 0x20, 0x25, 0x04, 0x19, 0x20};

static const struct partition full[] = {
    {"SBL", 0, 10},           {"MIBIB", 10, 10},     {"EFS2", 20, 44},    {"sys_rev", 64, 8},
    {"RAWDATA", 72, 5},       {"TZ", 77, 10},        {"sec", 87, 4},      {"cust_info", 91, 6},
    {"boot", 97, 60},         {"recovery", 157, 60}, {"modem", 217, 440}, {"misc", 657, 5},
    {"recoveryfs", 662, 160}, {"usrdata", 822, 400}, {"system", 1222, 0},
};

/* Everything up to cust_info as above, then so many blocks each. */
static const struct partition small[] = {
    {"boot", 97, 6},         {"recovery", 103, 6}, {"modem", 109, 24}, {"misc", 133, 5},
    {"recoveryfs", 138, 16}, {"usrdata", 154, 16}, {"system", 170, 0},
};

static const struct partition tiny[] = {
    {"SBL", 0, 3}, {"MIBIB", 3, 2}, {"EFS2", 5, 1},       {"sys_rev", 6, 1}, {"RAWDATA", 7, 1},
    {"TZ", 8, 3},  {"sec", 11, 2},  {"cust_info", 13, 1}, {"system", 14, 0},
};

static uint32_t word(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static void put(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

void layout_default(struct layout *l, uint32_t blocks)
{
    enum { FULL = sizeof(full) / sizeof(full[0]), SMALL = sizeof(small) / sizeof(small[0]) };
    bool is_tiny = blocks < LAYOUT_BLOCKS_SMALL;
    struct partition *last;

    *l = (struct layout){.count = is_tiny ? sizeof(tiny) / sizeof(tiny[0]) : FULL};
    memcpy(l->partitions, is_tiny ? tiny : full, is_tiny ? sizeof(tiny) : sizeof(full));
    if (!is_tiny && blocks < LAYOUT_BLOCKS_FULL)
        memcpy(l->partitions + FULL - SMALL, small, sizeof(small));
    last = &l->partitions[l->count - 1];
    last->blocks = blocks - last->first_block;
}

static uint32_t mibib_crc(uint32_t crc, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        crc ^= (uint32_t)data[i] << 24;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x80000000u ? crc << 1 ^ CRC_POLYNOMIAL : crc << 1;
    }
    return crc;
}

/* A whole copy of the table in this block: its age, else -1. */
static int64_t copy_age(const struct nand *n, uint32_t block)
{
    uint32_t page = block * n->pages_per_block, crc = 0;
    const uint8_t *header = nand_page(n, page + MIBIB_PAGE_HEADER),
                  *table = nand_page(n, page + MIBIB_PAGE_TABLE),
                  *check = nand_page(n, page + MIBIB_PAGE_CRC);

    if (nand_block_bad(n, block) || n->records[block].flags & BLOCK_INCOMPLETE)
        return -1;
    if (nand_page_state(n, page + MIBIB_PAGE_HEADER) != PAGE_WRITTEN ||
        nand_page_state(n, page + MIBIB_PAGE_TABLE) != PAGE_WRITTEN ||
        nand_page_state(n, page + MIBIB_PAGE_CRC) != PAGE_WRITTEN)
        return -1;
    if (word(header) != MIBIB_HEADER_MAGIC1 || word(header + 4) != MIBIB_HEADER_MAGIC2 ||
        word(table) != MIBIB_TABLE_MAGIC1 || word(table + 4) != MIBIB_TABLE_MAGIC2 ||
        word(check) != MIBIB_CRC_MAGIC1 || word(check + 4) != MIBIB_CRC_MAGIC2)
        return -1;
    crc = mibib_crc(crc, header, n->page_size);
    crc = mibib_crc(crc, table, n->page_size);
    return crc == word(check + 12) ? (int64_t)word(header + 12) : -1;
}

static bool parse_table(const struct nand *n, const uint8_t *table, struct layout *l)
{
    *l = (struct layout){.count = word(table + 12)};
    if (l->count > PARTITIONS_MAX)
        return false;
    for (uint32_t i = 0; i < l->count; i++) {
        const uint8_t *entry = table + MIBIB_TABLE_HEADER + i * MIBIB_ENTRY;
        struct partition *p = &l->partitions[i];

        memcpy(p->name, entry, PARTITION_NAME_MAX);
        if (strncmp(p->name, "0:", 2) == 0)
            memmove(p->name, p->name + 2, sizeof(p->name) - 2);
        p->first_block = word(entry + 16);
        p->blocks = word(entry + 20);
        if (p->first_block >= n->blocks)
            return false;
        if (p->blocks == MIBIB_GROW)
            p->blocks = n->blocks - p->first_block;
        if (p->blocks > n->blocks - p->first_block)
            return false;
    }
    return true;
}

bool layout_read(const struct nand *n, struct layout *ret)
{
    int64_t best_age = -1;
    uint32_t best = 0;

    for (uint32_t block = 0; block < MIBIB_SCAN_BLOCKS && block < n->blocks; block++) {
        int64_t age = copy_age(n, block);
        if (age > best_age) {
            best_age = age;
            best = block;
        }
    }
    return best_age >= 0 && parse_table(n, nand_page(n, best * n->pages_per_block + MIBIB_PAGE_TABLE), ret);
}

const struct partition *layout_find(const struct layout *l, const char *name)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (strcasecmp(l->partitions[i].name, name) == 0)
            return &l->partitions[i];
    return NULL;
}

const struct partition *layout_at(const struct layout *l, uint32_t block)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (block >= l->partitions[i].first_block &&
            block - l->partitions[i].first_block < l->partitions[i].blocks)
            return &l->partitions[i];
    return NULL;
}

bool layout_first_page(const struct nand *n, const struct partition *p, uint32_t *ret_page)
{
    for (uint32_t b = p->first_block; b < p->first_block + p->blocks; b++) {
        if (nand_block_bad(n, b))
            continue;
        *ret_page = b * n->pages_per_block;
        return true;
    }
    return false;
}

/* ---- a fresh flash ---- */

void layout_unit_page(const char *name, uint32_t serial, uint32_t index, uint8_t *page, uint32_t size)
{
    uint32_t noise = serial ^ index * 0x9E3779B1u;

    for (const char *p = name; *p; p++)
        noise = noise * 31 + (uint8_t)*p;
    for (uint32_t i = 0; i < size; i++) {
        noise = noise * 1664525 + 1013904223;
        page[i] = (uint8_t)(noise >> 24);
    }
    snprintf((char *)page, 64, "%s of unit %08x, page %u", name, serial, index);
}

/* The nth good block of a partition: its first page; false: there are not so many, or not even the partition.
 */
static bool good_block(const struct nand *n, const struct partition *p, uint32_t index, uint32_t *ret_page)
{
    if (!p)
        return false;
    for (uint32_t b = p->first_block; b < p->first_block + p->blocks; b++) {
        if (nand_block_bad(n, b))
            continue;
        if (index-- == 0) {
            *ret_page = b * n->pages_per_block;
            return true;
        }
    }
    return false;
}

/* Writes so many pages of each good block; the rest stays erased, as a file system of its own leaves it. */
static void fill_unit_data(struct nand *n, const struct scenario *s, const struct layout *l, const char *name,
                           uint32_t pages_per_block)
{
    const struct partition *p = layout_find(l, name);
    uint8_t page[65536 / 4];
    uint32_t first;

    for (uint32_t b = 0; good_block(n, p, b, &first); b++)
        for (uint32_t i = 0; i < pages_per_block; i++) {
            layout_unit_page(name, (uint32_t)s->serial, b * n->pages_per_block + i, page, n->page_size);
            nand_program_page(n, first + i, page);
        }
}

static void fill_rawdata(struct nand *n, const struct scenario *s, const struct layout *l)
{
    uint8_t page[65536 / 4];
    uint32_t first;

    if (!good_block(n, layout_find(l, "RAWDATA"), 0, &first))
        return;
    layout_unit_page("RAWDATA", (uint32_t)s->serial, 0, page, n->page_size);
    memset(page, 0, RAWDATA_TYPE + RAWDATA_TEXT_MAX);
    memcpy(page, rawdata_magic, sizeof(rawdata_magic));
    memcpy(page + RAWDATA_NAME, s->project, strnlen(s->project, RAWDATA_TEXT_MAX - 1));
    memcpy(page + RAWDATA_TYPE, s->project_type, strnlen(s->project_type, RAWDATA_TEXT_MAX - 1));
    nand_program_page(n, first, page);
    layout_unit_page("RAWDATA", (uint32_t)s->serial, 1, page, n->page_size);
    nand_program_page(n, first + 1, page);
}

static void fill_mibib(struct nand *n, const struct scenario *s, const struct layout *l)
{
    const char *prefix = s->geometry == GEOMETRY_2K ? "0:" : "";
    uint8_t pages[2][65536 / 4], check[65536 / 4];
    uint32_t first;

    for (uint32_t copy = 0; copy < 2 && good_block(n, layout_find(l, "MIBIB"), copy, &first); copy++) {
        uint8_t *header = pages[MIBIB_PAGE_HEADER], *table = pages[MIBIB_PAGE_TABLE];

        memset(pages, 0xFF, sizeof(pages));
        memset(check, 0xFF, sizeof(check));
        put(header, MIBIB_HEADER_MAGIC1);
        put(header + 4, MIBIB_HEADER_MAGIC2);
        put(header + 8, 4);
        put(header + 12, copy + 1);
        put(table, MIBIB_TABLE_MAGIC1);
        put(table + 4, MIBIB_TABLE_MAGIC2);
        put(table + 8, 4);
        put(table + 12, l->count);
        for (uint32_t i = 0; i < l->count; i++) {
            uint8_t *entry = table + MIBIB_TABLE_HEADER + i * MIBIB_ENTRY;
            char name[PARTITION_NAME_MAX + 4] = "";

            snprintf(name, sizeof(name), "%s%s", prefix, l->partitions[i].name);
            memcpy(entry, name, PARTITION_NAME_MAX);
            put(entry + 16, l->partitions[i].first_block);
            put(entry + 20, i + 1 == l->count ? MIBIB_GROW : l->partitions[i].blocks);
            put(entry + 24, 0x000001FF);
        }
        put(check, MIBIB_CRC_MAGIC1);
        put(check + 4, MIBIB_CRC_MAGIC2);
        put(check + 8, 1);
        put(check + 12, mibib_crc(mibib_crc(0, header, n->page_size), table, n->page_size));
        nand_program_page(n, first + MIBIB_PAGE_HEADER, header);
        nand_program_page(n, first + MIBIB_PAGE_TABLE, table);
        nand_program_page(n, first + MIBIB_PAGE_CRC, check);
    }
}

/* An old image of the firmware that the modem had: so many pages, the version in the second. */
static void fill_image(struct nand *n, const struct scenario *s, const struct layout *l, const char *name,
                       uint32_t pages)
{
    const struct partition *p = layout_find(l, name);
    uint8_t page[65536 / 4];
    uint32_t first;

    for (uint32_t i = 0; i < pages; i++) {
        if (!good_block(n, p, i / n->pages_per_block, &first))
            return;
        layout_unit_page(name, (uint32_t)s->serial, i, page, n->page_size);
        if (i == 1 && (strcmp(name, "modem") == 0 || strcmp(name, "system") == 0))
            snprintf((char *)page + 128, 256, "QUECTEL_VERSION=%s", s->version);
        if (i == 0 && strcmp(name, "SBL") == 0)
            put(page, (uint32_t)SBL_MAGIC);
        nand_program_page(n, first + i % n->pages_per_block, page);
    }
}

static bool fill_efs(struct nand *n, const struct scenario *s)
{
    struct efs e = {.nand = n, .scenario = s, .serial = (uint32_t)s->serial};
    bool ok;

    if (s->calibration == CALIBRATION_ERASED)
        return true;
    factory_fill(&e);
    ok = efs_log_fresh(&e, n->pages_per_block * 5 / 8);
    efs_free(&e);
    return ok;
}

bool layout_fill(struct nand *n, const struct scenario *s)
{
    static const char *const images[] = {"TZ",         "boot",    "recovery", "modem",
                                         "recoveryfs", "usrdata", "system"};
    uint32_t image_pages = n->pages_per_block * 2 + 5;
    struct layout l;

    if (s->initial == INITIAL_BLANK)
        return true;
    layout_default(&l, n->blocks);
    fill_mibib(n, s, &l);
    fill_unit_data(n, s, &l, "sys_rev", 3);
    fill_unit_data(n, s, &l, "cust_info", 2);
    fill_unit_data(n, s, &l, "misc", 1);
    fill_unit_data(n, s, &l, "sec", 1);
    fill_rawdata(n, s, &l);
    for (unsigned i = 0; i < sizeof(images) / sizeof(images[0]); i++)
        fill_image(n, s, &l, images[i], image_pages);
    if (s->initial == INITIAL_WORKING)
        fill_image(n, s, &l, "SBL", n->pages_per_block);
    return fill_efs(n, s);
}
