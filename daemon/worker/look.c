/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/look.h"

#include <errno.h>
#include <string.h>

enum {
    SECOND_LOOKS_MAX = 256,
    /* A programmer that shows a page's fill for a whole buffer hides pages only if the buffer has more than
       two. */
    PAYLOAD_PAGES_PLAIN = 2,
    REFUSED_MAX = 64, /* blocks that may count as bad because they are refused */
    SAMPLES = 16,     /* places on the chip that are asked how an erased page looks */
};

static const struct nand_geometry *geometry(const struct look *l)
{
    return &l->session->geometry;
}

static bool is_physical(const struct look *l)
{
    return l->how == BACKUP_MAP_READ;
}

bool look_hides_pages(const struct look *l)
{
    return firehose_payload_size(l->session->firehose) > PAYLOAD_PAGES_PLAIN * geometry(l)->page_size;
}

static bool is_all(const uint8_t *page, size_t size, uint8_t byte)
{
    return page[0] == byte && memcmp(page, page + 1, size - 1) == 0;
}

static enum nand_page_state state_of(const struct look *l, const uint8_t *page)
{
    return nand_page_state(page, geometry(l)->page_size, l->fill);
}

static uint8_t *page_at(const struct look *l, const struct look_piece *p, uint64_t page)
{
    return p->data + page * geometry(l)->page_size;
}

/* ---- the fill of an erased page ---- */

/*
 * The last page of a block is the last one that is ever written: of some spread over the chip most are
 * erased. One that shows 0xEE settles it; so do several of 0xFF and none of 0xEE.
 */
static int settle_fill(struct look *l, struct error *e)
{
    const struct nand_geometry *g = geometry(l);
    _cleanup_free_ uint8_t *page = malloc(g->page_size);
    unsigned ff = 0, ee = 0;
    if (!page)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t i = 0; ee == 0 && i < SAMPLES; i++) {
        uint64_t block = (2 * i + 1) * g->blocks / (uint64_t)(2 * SAMPLES);
        struct error own = {0};
        int r = nand_read_page(l->session->firehose, g, block, g->pages_per_block - 1, is_physical(l), page,
                               &own);
        if (r < 0 && !firehose_is_refusal(&own)) {
            *e = own;
            return r;
        }
        if (r < 0) {
            firehose_clear_errors(l->session->firehose);
            continue;
        }
        ff += is_all(page, g->page_size, LOOK_ERASED_FF);
        ee += is_all(page, g->page_size, LOOK_ERASED_EE);
    }
    l->fill = ff > 1 && ee == 0 ? LOOK_ERASED_FF : LOOK_ERASED_EE;
    l->fill_settled = true;
    if (l->fill == LOOK_ERASED_FF)
        worker_log(l->session->worker, "pages of nothing but 0xEE are data: erased ones read as 0xFF here");
    return 0;
}

static int settle_if_asked(struct look *l, const struct look_piece *p, uint64_t begin, uint64_t end,
                           struct error *e)
{
    for (uint64_t i = begin; !l->fill_settled && i < end; i++)
        if (is_all(page_at(l, p, i), geometry(l)->page_size, LOOK_ERASED_EE))
            return settle_fill(l, e);
    return 0;
}

/* ---- one page, one block ---- */

struct taking {
    struct look *look;
    uint8_t *data;
};

static int take(void *userdata, uint64_t offset, const void *data, size_t size, struct error *e _unused_)
{
    struct taking *t = userdata;
    memcpy(t->data + offset, data, size);
    if (t->look->meanwhile)
        t->look->meanwhile(t->look->userdata, offset + size);
    return 0;
}

/* One read command; refused, it is sent once more: some refusals have nothing to do with the page. */
static int read_twice(struct look *l, const struct firehose_range *range, uint8_t *data, struct error *e)
{
    struct error first = {0};
    struct taking t = {l, data};
    int r = firehose_read(l->session->firehose, range, is_physical(l), take, &t, &first);
    if (r == 0)
        return 0;
    if (!firehose_is_refusal(&first)) {
        *e = first;
        return r;
    }
    firehose_clear_errors(l->session->firehose);
    return firehose_read(l->session->firehose, range, is_physical(l), take, &t, e);
}

/* One page again. *ret_refused (may be NULL): the programmer did not give it. */
static int look_again(struct look *l, struct look_piece *p, uint64_t page, bool *ret_refused, struct error *e)
{
    uint32_t pages = geometry(l)->pages_per_block;
    struct firehose_range range = nand_range(geometry(l), p->first + page / pages, 1);
    struct error own = {0};
    range.start += page % pages;
    range.count = 1;
    int r = l->to_the_end ? 0 : worker_check(l->session->worker, e);
    if (r < 0)
        return r;
    r = read_twice(l, &range, page_at(l, p, page), &own);
    if (ret_refused)
        *ret_refused = r < 0;
    if (r < 0 && firehose_is_refusal(&own)) {
        firehose_clear_errors(l->session->firehose);
        p->states[page] = NAND_PAGE_UNREADABLE;
        return 0;
    }
    if (r < 0) {
        *e = own;
        return r;
    }
    r = settle_if_asked(l, p, page, page + 1, e);
    enum nand_page_state now = state_of(l, page_at(l, p, page));
    p->states[page] = (uint8_t)(now == NAND_PAGE_BAD ? NAND_PAGE_DATA : now);
    return r;
}

/* An erased page, alone: is it? */
static int check_erased(struct look *l, struct look_piece *p, uint64_t page, struct error *e)
{
    int r = look_again(l, p, page, NULL, e);
    l->hides |= r == 0 && p->states[page] == NAND_PAGE_DATA && look_hides_pages(l);
    return r;
}

/*
 * Some programmers fill a whole buffer of several pages if one of them is erased: data would hide at the ends
 * of an erased stretch. From both ends on pages are read alone, until so many in a row are really erased as
 * a buffer holds; once one was found to hide something, all of them are.
 */
static int check_ends(struct look *l, struct look_piece *p, uint64_t begin, uint64_t end, struct error *e)
{
    uint32_t buffer = firehose_payload_size(l->session->firehose) / geometry(l)->page_size, left = 0;
    uint32_t depth = look_hides_pages(l) ? buffer : 1;
    for (uint64_t i = begin; i < end; i++) {
        bool data = p->states[i] != NAND_PAGE_ERASED;
        if (data || i == begin)
            left = depth;
        if (data || (left == 0 && !l->hides))
            continue;
        int r = check_erased(l, p, i, e);
        if (r < 0)
            return r;
        left = p->states[i] != NAND_PAGE_ERASED ? depth : left - (left > 0);
    }
    left = 1; /* behind the last page nothing is written */
    for (uint64_t i = end; !l->hides && i-- > begin;) {
        if (p->states[i] != NAND_PAGE_ERASED)
            left = depth;
        if (p->states[i] != NAND_PAGE_ERASED || left == 0)
            continue;
        int r = check_erased(l, p, i, e);
        if (r < 0)
            return r;
        left = p->states[i] != NAND_PAGE_ERASED ? depth : left - 1;
    }
    return 0;
}

/* A page that a weak cell spoilt may come at the second try. */
static int check_unreadable(struct look *l, struct look_piece *p, uint64_t begin, uint64_t end,
                            struct error *e)
{
    for (uint64_t i = begin; i < end; i++) {
        if (p->states[i] != NAND_PAGE_UNREADABLE || l->second_looks >= SECOND_LOOKS_MAX)
            continue;
        l->second_looks++;
        int r = look_again(l, p, i, NULL, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int judge_block(struct look *l, struct look_piece *p, uint64_t k, bool twice, struct error *e)
{
    uint32_t pages = geometry(l)->pages_per_block;
    uint64_t begin = k * pages, end = begin + pages, bad = 0;
    int r = settle_if_asked(l, p, begin, end, e);
    if (r < 0)
        return r;
    for (uint64_t i = begin; i < end; i++) {
        p->states[i] = (uint8_t)state_of(l, page_at(l, p, i));
        bad += p->states[i] == NAND_PAGE_BAD;
    }
    if (bad == pages && is_physical(l)) {
        r = nand_read_map(l->session->firehose, geometry(l), &l->session->capabilities, p->first + k, 1,
                          l->map, e);
        if (r < 0 || nand_map_is_bad(l->map, p->first + k))
            return r;
    }
    for (uint64_t i = begin; i < end; i++)
        if (p->states[i] == NAND_PAGE_BAD) /* mere data */
            p->states[i] = NAND_PAGE_DATA;
    r = check_unreadable(l, p, begin, end, e);
    return r == 0 && (twice || look_hides_pages(l)) ? check_ends(l, p, begin, end, e) : r;
}

int look_at_page(struct look *l, struct look_piece *p, uint64_t page, struct error *e)
{
    return look_again(l, p, page, NULL, e);
}

/* ---- what is refused ---- */

/* A block that is refused as a whole: what of it can be read? */
static int read_by_pages(struct look *l, struct look_piece *p, bool *ret_all_refused, struct error *e)
{
    *ret_all_refused = true;
    for (uint64_t i = 0; i < geometry(l)->pages_per_block; i++) {
        bool refused = false;
        int r = look_again(l, p, i, &refused, e);
        if (r < 0)
            return r;
        *ret_all_refused &= refused;
    }
    return 0;
}

/*
 * Where nobody knows the bad blocks, a range that ends with the block is "out of good blocks" on a bad one:
 * not one of its pages can be read.
 */
static int take_refusal(struct look *l, struct look_piece *p, const struct error *why, struct error *e)
{
    bool all = false;
    firehose_clear_errors(l->session->firehose);
    int r = read_by_pages(l, p, &all, e);
    if (r < 0 || l->how != BACKUP_MAP_NONE || !all)
        return r;
    if (l->refused++ == REFUSED_MAX) {
        *e = *why;
        error_hint(e, HINT_CONTACT_VENDOR);
        return error_errno(why->kind);
    }
    memset(p->states, NAND_PAGE_BAD, geometry(l)->pages_per_block);
    return 0;
}

int look_at_piece(struct look *l, struct look_piece *p, bool twice, struct error *e)
{
    struct firehose_range range = nand_range(geometry(l), p->first, p->n);
    struct error own = {0};
    int r = read_twice(l, &range, p->data, &own);
    if (r == 0) {
        for (uint64_t k = 0; r == 0 && k < p->n; k++)
            r = judge_block(l, p, k, twice, e);
        return r;
    }
    if (!firehose_is_refusal(&own)) {
        *e = own;
        return r;
    }
    if (p->n == 1)
        return take_refusal(l, p, &own, e);
    p->n = 1; /* find the one that is refused */
    firehose_clear_errors(l->session->firehose);
    return look_at_piece(l, p, twice, e);
}
