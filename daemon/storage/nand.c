/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "base/text.h"
#include "storage/nand.h"

/* What a programmer puts in place of a page that it does not show (reference/edl.md 2.6). */
enum {
    FILL_ERASED = 0xff,
    FILL_UNREADABLE = 0xfa,
    FILL_BAD = 0xbd,
};

/* Wide enough for every NAND behind a modem, narrow enough that no product of two overflows. */
enum {
    PAGE_KIB_MAX = 32,
    BLOCK_KIB_MAX = 8192,
    MAP_BLOCKS_MAX = 1 << 20,
};

void nand_geometry_name(const struct nand_geometry *g, char *out, size_t size)
{
    snprintf(out, size, "p%uK_b%uK", g->page_size / 1024, nand_block_size(g) / 1024);
}

/* "4K" behind its letter: digits and 'K'. Returns what follows, NULL if it is not that. */
static const char *parse_kib(const char *text, char letter, uint32_t max, uint32_t *ret)
{
    uint32_t value = 0;
    if (*text++ != letter || !isdigit((unsigned char)*text) || *text == '0')
        return NULL;
    for (; isdigit((unsigned char)*text); text++) {
        value = value * 10 + (uint32_t)(*text - '0');
        if (value > max)
            return NULL;
    }
    if (*text++ != 'K')
        return NULL;
    *ret = value;
    return text;
}

static bool is_power_of_two(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

int nand_geometry_parse(const char *name, struct nand_geometry *ret)
{
    for (const char *p = name; *p; p++) {
        if (p != name && p[-1] != '_')
            continue;
        uint32_t page, block;
        const char *rest = parse_kib(p, 'p', PAGE_KIB_MAX, &page);
        if (!rest || *rest != '_')
            continue;
        rest = parse_kib(rest + 1, 'b', BLOCK_KIB_MAX, &block);
        if (!rest || (*rest && *rest != '_' && *rest != '.'))
            continue;
        if (!is_power_of_two(page) || !is_power_of_two(block) || block < page)
            return -EINVAL;
        *ret = (struct nand_geometry){.page_size = page * 1024, .pages_per_block = block / page};
        return 0;
    }
    return -EINVAL;
}

static bool contains(const void *file, size_t size, const char *literal)
{
    return memmem(file, size, literal, strlen(literal)) != NULL;
}

void nand_capabilities_read(const void *programmer, size_t size, struct nand_capabilities *ret)
{
    *ret = (struct nand_capabilities){
        .skip_bad_block = contains(programmer, size, "skip_bad_block"),
        .last_sector = contains(programmer, size, "last_sector"),
        .digest = contains(programmer, size, "getsha256digest"),
        .vendor_check = contains(programmer, size, "c_project_name"),
        .pages_per_block = contains(programmer, size, "PAGES_PER_BLOCK"),
    };
}

enum nand_page_state nand_page_state(const void *page, size_t size, uint8_t erased_fill)
{
    const uint8_t *bytes = page;
    if (size == 0 || (size > 1 && memcmp(bytes, bytes + 1, size - 1) != 0))
        return NAND_PAGE_DATA;
    if (bytes[0] == FILL_ERASED || bytes[0] == erased_fill)
        return NAND_PAGE_ERASED;
    if (bytes[0] == FILL_UNREADABLE)
        return NAND_PAGE_UNREADABLE;
    return bytes[0] == FILL_BAD ? NAND_PAGE_BAD : NAND_PAGE_DATA;
}

/* ---- the map ---- */

int nand_map_init(struct nand_map *m, uint64_t blocks)
{
    if (blocks > MAP_BLOCKS_MAX)
        return -EFBIG;
    size_t bytes = (size_t)DIV_ROUND_UP(blocks, 8);
    _cleanup_free_ uint8_t *bad = calloc(bytes + 1, 1), *known = calloc(bytes + 1, 1);
    if (!bad || !known)
        return -ENOMEM;
    *m = (struct nand_map){.blocks = blocks, .bad = steal_ptr(bad), .known = steal_ptr(known)};
    return 0;
}

void nand_map_done(struct nand_map *m)
{
    free(m->bad);
    free(m->known);
    *m = (struct nand_map){0};
}

static bool bit_get(const uint8_t *bits, uint64_t n)
{
    return bits[n / 8] >> (n % 8) & 1;
}

static void bit_set(uint8_t *bits, uint64_t n, bool value)
{
    uint8_t mask = (uint8_t)(1u << (n % 8));
    bits[n / 8] = (uint8_t)(value ? bits[n / 8] | mask : bits[n / 8] & ~mask);
}

bool nand_map_is_bad(const struct nand_map *m, uint64_t block)
{
    return block >= m->blocks || bit_get(m->bad, block);
}

bool nand_map_is_known(const struct nand_map *m, uint64_t block)
{
    return block < m->blocks && bit_get(m->known, block);
}

void nand_map_set(struct nand_map *m, uint64_t block, bool bad)
{
    if (block >= m->blocks)
        return;
    bit_set(m->bad, block, bad);
    bit_set(m->known, block, true);
}

uint64_t nand_map_good(const struct nand_map *m, uint64_t first, uint64_t n)
{
    while (first < m->blocks && (nand_map_is_bad(m, first) || n-- > 0))
        first++;
    return first;
}

uint64_t nand_map_count_bad(const struct nand_map *m, uint64_t first, uint64_t count)
{
    uint64_t bad = 0;
    for (uint64_t i = 0; i < count; i++)
        bad += nand_map_is_bad(m, first + i);
    return bad;
}

struct firehose_range nand_range(const struct nand_geometry *g, uint64_t first_block, uint64_t n_blocks)
{
    uint64_t start = first_block * g->pages_per_block, count = n_blocks * g->pages_per_block;
    return (struct firehose_range){
        .sector_size = g->page_size,
        .pages_per_block = g->pages_per_block,
        .start = start,
        .count = count,
        .last = start + count - 1,
    };
}

int nand_read_page(struct firehose *f, const struct nand_geometry *g, uint64_t block, uint32_t page,
                   bool skip_bad_block, void *ret, struct error *e)
{
    struct firehose_range range = nand_range(g, block, 1);
    range.start += page;
    range.count = 1;
    return firehose_read_pages(f, &range, skip_bad_block, ret, e);
}

int nand_read_seam(struct firehose *f, const struct nand_geometry *g, uint64_t block, void *ret,
                   struct error *e)
{
    struct firehose_range range = nand_range(g, block, 2);
    range.start += g->pages_per_block - 1;
    range.count = 2;
    return firehose_read_pages(f, &range, true, ret, e);
}

/*
 * What shows the bad fill may be data that happen to be 0xBD. A logical read that ends with the block tells:
 * on a bad block it is out of good ones and refused, or, by a programmer that does not know last_sector,
 * answered with what lies behind. Only data that are the same in both are the block's own.
 */
static int confirm_bad(struct firehose *f, const struct nand_geometry *g, uint64_t block, uint8_t *page,
                       bool *ret, struct error *e)
{
    struct error own = {0};
    int r = nand_read_page(f, g, block, 0, false, page, &own);
    if (r < 0 && !firehose_is_refusal(&own)) {
        if (e)
            *e = own;
        return r;
    }
    if (r < 0)
        firehose_clear_errors(f); /* we asked for them */
    *ret = r < 0 || nand_page_state(page, g->page_size, FILL_ERASED) != NAND_PAGE_BAD;
    return 0;
}

/* A page with skip_bad_block. 1: it shows the bad fill; 0: it does not, or is refused: bad blocks are not. */
static int shows_bad(struct firehose *f, const struct nand_geometry *g, uint64_t block, uint32_t number,
                     uint8_t *page, struct error *e)
{
    struct error own = {0};
    int r = nand_read_page(f, g, block, number, true, page, &own);
    if (r == 0)
        return nand_page_state(page, g->page_size, FILL_ERASED) == NAND_PAGE_BAD;
    if (firehose_is_refusal(&own)) {
        firehose_clear_errors(f);
        return 0;
    }
    if (e)
        *e = own;
    return r;
}

/*
 * Bad is a block that reads as the bad fill from its first page to its last, and that a logical read does not
 * find either: whole blocks of an image may hold nothing but 0xBD.
 */
static int look_at(struct firehose *f, const struct nand_geometry *g, uint64_t block, uint8_t *page,
                   bool *ret, struct error *e)
{
    int r = shows_bad(f, g, block, 0, page, e);
    if (r > 0)
        r = shows_bad(f, g, block, g->pages_per_block - 1, page, e);
    if (r > 0)
        return confirm_bad(f, g, block, page, ret, e);
    if (r == 0)
        *ret = false;
    return r;
}

/*
 * Two neighbours with one command: a page on either side of their seam. One that does not show the bad fill
 * makes its block a good one; the other is looked at by itself.
 */
static int look_at_two(struct firehose *f, const struct nand_geometry *g, uint64_t block, uint8_t *pages,
                       bool ret[2], struct error *e)
{
    bool bad[2] = {true, true};
    struct error own = {0};
    int r = nand_read_seam(f, g, block, pages, &own);
    if (r < 0 && !firehose_is_refusal(&own)) {
        if (e)
            *e = own;
        return r;
    }
    bool seen = r == 0;
    if (!seen)
        firehose_clear_errors(f); /* one of them cannot be read */
    r = 0;
    for (size_t i = 0; seen && i < ARRAY_SIZE(bad); i++)
        bad[i] = nand_page_state(pages + i * g->page_size, g->page_size, FILL_ERASED) == NAND_PAGE_BAD;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(bad); i++)
        if (bad[i])
            r = look_at(f, g, block + i, pages, &bad[i], e);
    if (r == 0)
        memcpy(ret, bad, sizeof(bad));
    return r;
}

int nand_read_map(struct firehose *f, const struct nand_geometry *g, const struct nand_capabilities *caps,
                  uint64_t first, uint64_t count, struct nand_map *m, struct error *e)
{
    if (!caps->skip_bad_block)
        return error_set(e, ERROR_UNSUPPORTED,
                         "this programmer cannot show bad blocks (it has no skip_bad_block)");
    if (first > m->blocks || count > m->blocks - first)
        return error_set(e, ERROR_INVALID_ARGS, "blocks %llu to %llu lie beyond the chip's %llu blocks",
                         (unsigned long long)first, (unsigned long long)(first + count),
                         (unsigned long long)m->blocks);

    _cleanup_free_ uint8_t *pages = malloc(2 * (size_t)g->page_size);
    if (!pages)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t block = first, n; block < first + count; block += n) {
        bool bad[NAND_LOOK_BLOCKS];
        n = MIN_OF(first + count - block, (uint64_t)NAND_LOOK_BLOCKS);
        int r = n == 2 ? look_at_two(f, g, block, pages, bad, e) : look_at(f, g, block, pages, bad, e);
        if (r < 0)
            return r;
        for (uint64_t i = 0; i < n; i++)
            nand_map_set(m, block + i, bad[i]);
    }
    return 0;
}
