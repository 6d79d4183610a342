/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading. Where the programmer can show bad blocks (skip_bad_block) a read is physical, and what each page
 * is follows from its fill (reference/edl.md 2.6). Where it only tells them, runs of good blocks are read.
 * Where it does neither, each block is read alone, and one that is refused counts as bad.
 */

#include "worker/save.h"

#include <errno.h>
#include <string.h>

#define LLU(n) ((unsigned long long)(n))

enum {
    PIECE_BYTES = 4 * 1024 * 1024, /* of one read command; held in memory until its ACK */
    PPM = 1000000,
    SECOND_LOOKS_MAX = 256,
    /* A programmer that shows a page's fill for a whole buffer hides pages only if the buffer has more than
       two. */
    PAYLOAD_PAGES_PLAIN = 2,
    ERASED_FF = 0xff,
    ERASED_EE = 0xee,
    BAD_WITHOUT_MAP_MAX = 64, /* refused reads that count as bad blocks, in one backup */
};

/* A piece in hand. */
struct piece {
    uint64_t first, n;
    uint8_t *data, *states;
};

void save_done(struct save *s)
{
    free(s->ranges);
    nand_map_done(&s->map);
    s->writer = backup_writer_free(s->writer);
    *s = (struct save){0};
}

static bool shows_bad_blocks(const struct save *s)
{
    return s->session->capabilities.skip_bad_block;
}

static const struct nand_geometry *geometry(const struct save *s)
{
    return &s->session->geometry;
}

/* ---- before ---- */

static void cut_to_chip(struct save *s)
{
    uint64_t blocks = geometry(s)->blocks;
    while (s->n_ranges > 0 && s->ranges[s->n_ranges - 1].first_block >= blocks)
        s->n_ranges--;
    if (s->n_ranges > 0) {
        struct save_range *last = &s->ranges[s->n_ranges - 1];
        last->n_blocks = MIN_OF(last->n_blocks, blocks - last->first_block);
    }
}

static enum backup_map map_of(const struct save *s)
{
    if (shows_bad_blocks(s))
        return BACKUP_MAP_READ;
    return s->session->storage.bad_block_list ? BACKUP_MAP_TOLD : BACKUP_MAP_NONE;
}

static int prepare_map(struct save *s)
{
    const struct firehose_storage *told = &s->session->storage;
    nand_map_done(&s->map);
    int r = nand_map_init(&s->map, geometry(s)->blocks);
    if (r == 0 && map_of(s) == BACKUP_MAP_TOLD)
        for (size_t i = 0; i < told->n_bad_blocks; i++)
            nand_map_set(&s->map, told->bad_blocks[i], true);
    return r;
}

/* Probed where nothing was ever written; until then a page of 0xFF or of 0xEE is an erased one. */
static int probe_fill(struct save *s, uint64_t mibib_block, struct error *e)
{
    uint32_t pages = geometry(s)->pages_per_block;
    s->fill_known = false;
    if (mibib_block == UINT64_MAX || pages <= MIBIB_PAGES)
        return 0;
    _cleanup_free_ uint8_t *page = malloc(geometry(s)->page_size);
    if (!page)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = nand_read_page(s->session->firehose, geometry(s), mibib_block, pages - 1, shows_bad_blocks(s),
                           page, e);
    if (r < 0)
        return r;
    if ((page[0] == ERASED_FF || page[0] == ERASED_EE) &&
        memcmp(page, page + 1, geometry(s)->page_size - 1) == 0) {
        s->session->erased_fill = page[0];
        s->fill_known = true;
    }
    return 0;
}

int save_begin(struct save *s, int fd, const struct backup *facts, uint64_t mibib_block, struct error *e)
{
    struct backup with_session = *facts;
    if (geometry(s)->blocks == 0)
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "the programmer does not tell the size of the flash, so it cannot be read as a whole");
    cut_to_chip(s);
    if (s->n_ranges == 0)
        return error_set(e, ERROR_INVALID_ARGS, "there is nothing to save");
    with_session.geometry = *geometry(s);
    with_session.map = map_of(s);
    s->geometry = *geometry(s);
    s->writer = backup_writer_free(s->writer);
    s->made = NULL;
    s->range = 0;
    s->in_range = false;
    s->blocks_done = s->blocks_total = s->bad_without_map = 0;
    for (size_t i = 0; i < s->n_ranges; i++)
        s->blocks_total += s->ranges[i].n_blocks;
    s->piece = MAX_OF(PIECE_BYTES / nand_block_size(geometry(s)), (uint32_t)1);
    if (prepare_map(s) < 0)
        return error_set(e, ERROR_FAILED, "no room for a map of %llu blocks", LLU(geometry(s)->blocks));
    int r = probe_fill(s, mibib_block, e);
    return r < 0 ? r : backup_writer_new(fd, &with_session, &s->writer, e);
}

void save_smaller_pieces(struct save *s)
{
    s->piece = MAX_OF(s->piece / 2, (uint64_t)1);
}

/* ---- a piece ---- */

static enum nand_page_state state_of(const struct save *s, const uint8_t *page)
{
    return nand_page_state(page, geometry(s)->page_size, s->fill_known ? s->session->erased_fill : ERASED_EE);
}

static uint8_t *page_at(const struct save *s, const struct piece *p, uint64_t page)
{
    return p->data + page * geometry(s)->page_size;
}

/* One read command; refused, it is sent once more: some refusals have nothing to do with the page. */
static int read_twice(struct save *s, const struct firehose_range *range, uint8_t *data, struct error *e)
{
    struct error first = {0};
    int r = firehose_read_pages(s->session->firehose, range, shows_bad_blocks(s), data, &first);
    if (r == 0)
        return 0;
    if (first.kind != ERROR_FIREHOSE_FAILED) {
        *e = first;
        return r;
    }
    firehose_clear_errors(s->session->firehose);
    return firehose_read_pages(s->session->firehose, range, shows_bad_blocks(s), data, e);
}

/* One page again. 1: it is now data. */
static int look_again(struct save *s, struct piece *p, uint64_t page, struct error *e)
{
    uint32_t pages = geometry(s)->pages_per_block;
    struct firehose_range range = nand_range(geometry(s), p->first + page / pages, 1);
    struct error own = {0};
    range.start += page % pages;
    range.count = 1;
    int r = read_twice(s, &range, page_at(s, p, page), &own);
    if (r < 0 && own.kind == ERROR_FIREHOSE_FAILED) {
        firehose_clear_errors(s->session->firehose);
        p->states[page] = NAND_PAGE_UNREADABLE;
        return 0;
    }
    if (r < 0) {
        *e = own;
        return r;
    }
    enum nand_page_state now = state_of(s, page_at(s, p, page));
    p->states[page] = (uint8_t)(now == NAND_PAGE_BAD ? NAND_PAGE_DATA : now);
    return p->states[page] == NAND_PAGE_DATA;
}

/*
 * Some programmers fill a whole buffer of several pages if one of them is erased: data would hide at both
 * ends of an erased stretch. So these are read alone, further in as long as there are data.
 */
static int check_ends(struct save *s, struct piece *p, uint64_t begin, uint64_t end, struct error *e)
{
    for (uint64_t i = begin; i < end; i++) {
        if (p->states[i] != NAND_PAGE_ERASED || (i > begin && p->states[i - 1] == NAND_PAGE_ERASED))
            continue;
        int r = look_again(s, p, i, e);
        if (r < 0)
            return r;
    }
    for (uint64_t i = end; i-- > begin;) {
        if (p->states[i] != NAND_PAGE_ERASED || i + 1 == end || p->states[i + 1] == NAND_PAGE_ERASED)
            continue;
        int r = look_again(s, p, i, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A page that a weak cell spoilt may come at the second try. */
static int check_unreadable(struct save *s, struct piece *p, uint64_t begin, uint64_t end, struct error *e)
{
    for (uint64_t i = begin; i < end; i++) {
        if (p->states[i] != NAND_PAGE_UNREADABLE || s->second_looks >= SECOND_LOOKS_MAX)
            continue;
        s->second_looks++;
        int r = look_again(s, p, i, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int judge_block(struct save *s, struct piece *p, uint64_t k, bool look_twice, struct error *e)
{
    uint32_t pages = geometry(s)->pages_per_block;
    uint64_t begin = k * pages, end = begin + pages, bad = 0;
    for (uint64_t i = begin; i < end; i++) {
        p->states[i] = (uint8_t)state_of(s, page_at(s, p, i));
        bad += p->states[i] == NAND_PAGE_BAD;
    }
    if (bad == pages && shows_bad_blocks(s)) {
        int r = nand_read_map(s->session->firehose, geometry(s), &s->session->capabilities, p->first + k, 1,
                              &s->map, e);
        if (r < 0 || nand_map_is_bad(&s->map, p->first + k))
            return r;
    }
    for (uint64_t i = begin; i < end; i++)
        if (p->states[i] == NAND_PAGE_BAD) /* mere data */
            p->states[i] = NAND_PAGE_DATA;
    int r = check_unreadable(s, p, begin, end, e);
    return r == 0 && look_twice ? check_ends(s, p, begin, end, e) : r;
}

/* A block that is refused as a whole: what of it can be read? */
static int read_by_pages(struct save *s, struct piece *p, struct error *e)
{
    for (uint64_t i = 0; i < geometry(s)->pages_per_block; i++) {
        int r = look_again(s, p, i, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/*
 * Bad by hearsay of a refusal, or unreadable. Where nobody knows the bad blocks, a range that ends with the
 * block is "out of good blocks" on a bad one.
 */
static int take_refusal(struct save *s, struct piece *p, const struct error *why, struct error *e)
{
    firehose_clear_errors(s->session->firehose);
    if (map_of(s) != BACKUP_MAP_NONE)
        return read_by_pages(s, p, e);
    if (s->bad_without_map++ == BAD_WITHOUT_MAP_MAX) {
        *e = *why;
        error_hint(e, HINT_CONTACT_VENDOR);
        return error_errno(why->kind);
    }
    memset(p->states, NAND_PAGE_BAD, geometry(s)->pages_per_block);
    return 0;
}

/* The n blocks of a piece, their data and states. */
static int read_piece(struct save *s, struct piece *p, bool look_twice, struct error *e)
{
    struct firehose_range range = nand_range(geometry(s), p->first, p->n);
    struct error own = {0};
    int r = read_twice(s, &range, p->data, &own);
    if (r == 0) {
        for (uint64_t k = 0; r == 0 && k < p->n; k++)
            r = judge_block(s, p, k, look_twice, e);
        return r;
    }
    if (own.kind != ERROR_FIREHOSE_FAILED) {
        *e = own;
        return r;
    }
    if (p->n == 1)
        return take_refusal(s, p, &own, e);
    p->n = 1; /* find the one that is refused */
    firehose_clear_errors(s->session->firehose);
    return read_piece(s, p, look_twice, e);
}

/* ---- all of it ---- */

static int write_piece(struct save *s, const struct piece *p, struct error *e)
{
    uint32_t pages = geometry(s)->pages_per_block;
    int r = 0;
    for (uint64_t k = 0; r == 0 && k < p->n; k++)
        r = backup_writer_block(s->writer, p->states + k * pages, page_at(s, p, k * pages), e);
    s->block += p->n;
    s->blocks_done += p->n;
    if (s->tell_progress)
        worker_progress(s->session->worker, s->blocks_done * PPM / s->blocks_total,
                        s->blocks_done * nand_block_size(geometry(s)),
                        s->blocks_total * nand_block_size(geometry(s)));
    return r;
}

/* How many blocks from the next one on are read with one command; 0: it is one that is told to be bad. */
static uint64_t next_run(const struct save *s, const struct save_range *range)
{
    uint64_t left = range->first_block + range->n_blocks - s->block, n = 0;
    if (map_of(s) == BACKUP_MAP_NONE)
        return 1;
    if (map_of(s) == BACKUP_MAP_READ)
        return MIN_OF(s->piece, left);
    while (n < MIN_OF(s->piece, left) && !nand_map_is_bad(&s->map, s->block + n))
        n++;
    return n;
}

static int save_some(struct save *s, struct piece *p, struct error *e)
{
    const struct save_range *range = &s->ranges[s->range];
    bool look_twice = mibib_is_unit_data(range->name) || firehose_payload_size(s->session->firehose) >
                                                             PAYLOAD_PAGES_PLAIN * geometry(s)->page_size;
    p->first = s->block;
    p->n = next_run(s, range);
    int r = 0;
    if (p->n > 0) {
        r = read_piece(s, p, look_twice, e);
    } else {
        p->n = 1;
        memset(p->states, NAND_PAGE_BAD, geometry(s)->pages_per_block);
    }
    return r < 0 ? r : write_piece(s, p, e);
}

/* No command is in hand: whoever wants an end may have it, but for a flash that was begun. */
static int safe_point(struct save *s, struct error *e)
{
    struct worker *w = s->session->worker;
    bool critical = w->critical;
    w->critical = s->locked;
    int r = worker_check(w, e);
    w->critical = critical;
    return r;
}

static int save_range(struct save *s, struct piece *p, struct error *e)
{
    const struct save_range *range = &s->ranges[s->range];
    int r = 0;
    worker_phase(s->session->worker, "backup", range->name);
    if (!s->in_range) {
        r = backup_writer_begin(s->writer, range->name, range->first_block, range->n_blocks, e);
        s->block = range->first_block;
        s->in_range = r == 0;
    }
    while (r == 0 && s->block < range->first_block + range->n_blocks) {
        r = safe_point(s, e);
        if (r == 0)
            r = save_some(s, p, e);
    }
    if (r == 0)
        r = backup_writer_end(s->writer, e);
    if (r < 0)
        return r;
    s->in_range = false;
    s->range++;
    return 0;
}

static int run(struct save *s, struct error *e)
{
    size_t block_size = nand_block_size(geometry(s)), room = MAX_OF((size_t)PIECE_BYTES, block_size);
    _cleanup_free_ uint8_t *data = malloc(room), *states = malloc(room / geometry(s)->page_size);
    struct piece p = {.data = data, .states = states};
    if (!data || !states)
        return error_set(e, ERROR_FAILED, "out of memory");
    while (s->range < s->n_ranges) {
        int r = save_range(s, &p, e);
        if (r < 0)
            return r;
    }
    return s->made ? 0 : backup_writer_finish(s->writer, &s->made, e);
}

int save_run(struct save *s, struct error *e)
{
    struct worker *w = s->session->worker;
    struct error own = {0};
    bool critical = w->critical;
    /* CANCEL and STOP wait for the command in hand: a read that is left in the middle leaves the modem stuck.
     */
    w->critical = true;
    s->session->quiet = true;
    int r = run(s, e ? e : &own);
    s->session->quiet = false;
    w->critical = critical;
    return r;
}
