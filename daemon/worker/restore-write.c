/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Block by block: looked at, and left alone if it holds already what it shall; else erased, written from its
 * first page to its last written one, and read back page by page. So the same call made again goes on.
 */

#include <errno.h>
#include <string.h>

#include "worker/restore.h"

#define LLU(n) ((unsigned long long)(n))

enum { ERASED = 0xff, PPM = 1000000 };

static const struct nand_geometry *geometry(const struct restore *x)
{
    return &x->visits.session->geometry;
}

/* ---- map ---- */

static int check_new_bad(const struct restore *x, struct error *e)
{
    uint64_t n = 0;
    for (uint64_t b = 0; b < x->map.blocks; b++)
        n += nand_map_is_known(&x->at_start, b) && nand_map_is_bad(&x->map, b) &&
             !nand_map_is_bad(&x->at_start, b);
    if (n <= RESTORE_NEW_BAD_MAX)
        return 0;
    int r =
        error_set(e, ERROR_FIREHOSE_FAILED,
                  "%llu blocks of the flash went bad during this job (at most %d may): the flash is dying",
                  LLU(n), RESTORE_NEW_BAD_MAX);
    error_hint(e, HINT_CONTACT_VENDOR);
    return r;
}

int restore_read_map(struct restore *x, struct error *e)
{
    struct session *s = x->visits.session;
    bool first = !x->map_read;
    if (first && (nand_map_init(&x->map, geometry(x)->blocks) < 0 ||
                  nand_map_init(&x->at_start, geometry(x)->blocks) < 0))
        return error_set(e, ERROR_FAILED, "no room for a map of %llu blocks", LLU(geometry(x)->blocks));
    x->map_read = true;
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct backup_part *p = x->parts[i].part;
        int r = nand_read_map(s->firehose, geometry(x), &s->capabilities, p->first_block, p->n_blocks,
                              &x->map, e);
        if (r < 0)
            return r;
        for (uint64_t b = p->first_block; first && b < p->first_block + p->n_blocks; b++)
            nand_map_set(&x->at_start, b, nand_map_is_bad(&x->map, b));
    }
    return check_new_bad(x, e);
}

/* ---- one block ---- */

static int read_block(struct restore *x, uint64_t block, struct error *e)
{
    struct firehose_range range = nand_range(geometry(x), block, 1);
    return firehose_read_pages(x->visits.session->firehose, &range, true, x->now, e);
}

/* 1: x->now is what the block shall hold. An erased page in front of written ones may be one of 0xFF: nobody
 * can tell them apart. */
static int holds(struct restore *x, const struct restore_part *p, uint64_t source, struct error *e)
{
    const struct nand_geometry *g = geometry(x);
    bool data = source != RESTORE_ERASED;
    if (data) {
        int r = backup_read_block(x->backup, p->part, source, x->want, e);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < g->pages_per_block; i++) {
        const uint8_t *now = x->now + (size_t)i * g->page_size, *want = x->want + (size_t)i * g->page_size;
        bool page = data && backup_page_state(x->backup, p->part, source, i) == NAND_PAGE_DATA;
        if (page ? memcmp(now, want, g->page_size) != 0
                 : nand_page_state(now, g->page_size, x->visits.session->erased_fill) != NAND_PAGE_ERASED)
            return 0;
    }
    return 1;
}

static int look(struct restore *x, const struct restore_part *p, uint64_t i, struct error *e)
{
    int r = read_block(x, p->part->first_block + i, e);
    return r < 0 ? r : holds(x, p, p->source[i], e);
}

static int begin_change(struct restore *x)
{
    worker_state(x->worker, true, false);
    if (!x->destructive)
        worker_tell(x->worker, KEY_DESTRUCTIVE, "1");
    x->destructive = true;
    return 0;
}

static int erase_block(struct restore *x, uint64_t block, struct error *e)
{
    struct session *s = x->visits.session;
    struct firehose_range range = nand_range(geometry(x), block, 1);
    begin_change(x);
    int r = firehose_erase(s->firehose, &range, e);
    /* How this programmer shows an erased page is known for sure now. */
    return r < 0 ? r : session_probe_fill(s, range.start, e);
}

struct pages {
    const uint8_t *data;
};

static int source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e _unused_)
{
    const struct pages *p = userdata;
    memcpy(buffer, p->data + offset, size);
    return 0;
}

static int program_block(struct restore *x, const struct restore_part *p, uint64_t block, uint64_t from,
                         struct error *e)
{
    uint32_t used = backup_block_pages(x->backup, p->part, from);
    struct firehose_range range = nand_range(geometry(x), block, 1);
    struct pages pages = {.data = x->want};
    int r = backup_read_block(x->backup, p->part, from, x->want, e);
    if (r < 0)
        return r;
    range.count = used;
    for (uint32_t i = 0; i < used; i++)
        x->interior += backup_page_state(x->backup, p->part, from, i) != NAND_PAGE_DATA;
    return firehose_program(x->visits.session->firehose, &range, source, NULL, &pages, e);
}

/* 1: right; 0: it went bad meanwhile. */
static int write_block(struct restore *x, struct restore_part *p, uint64_t i, struct error *e)
{
    struct session *s = x->visits.session;
    uint64_t block = p->part->first_block + i;
    struct error own = {0};
    int r = erase_block(x, block, &own);
    if (r == 0 && p->source[i] != RESTORE_ERASED)
        r = program_block(x, p, block, p->source[i], &own);
    if (r == 0)
        r = look(x, p, i, &own);
    if (r > 0) {
        p->right[i] = true;
        x->written++;
        x->steps_done++;
        firehose_clear_errors(s->firehose);
        return 1;
    }
    if (r < 0 && own.kind != ERROR_FIREHOSE_FAILED) {
        *e = own;
        return r;
    }
    /* Refused, or other than it shall be: has it gone bad? */
    firehose_clear_errors(s->firehose);
    int m = nand_read_map(s->firehose, geometry(x), &s->capabilities, block, 1, &x->map, e);
    if (m < 0)
        return m;
    if (nand_map_is_bad(&x->map, block)) {
        worker_log(x->worker, "WARN: block %llu of %s went bad", LLU(block), p->part->name);
        return check_new_bad(x, e);
    }
    if (r < 0) {
        *e = own;
        return r;
    }
    r = error_set(e, ERROR_DIGEST_MISMATCH, "block %llu of %s does not hold what was written to it",
                  LLU(block), p->part->name);
    error_hint(e, HINT_RETRY);
    return r;
}

/* ---- all of them ---- */

static uint64_t blocks_of_all(const struct restore *x)
{
    uint64_t n = 0;
    for (size_t i = 0; i < x->n_parts; i++)
        n += x->parts[i].part->n_blocks;
    return n;
}

static void show(const struct restore *x)
{
    uint64_t done = 0, all = blocks_of_all(x);
    for (size_t i = 0; i < x->n_parts; i++)
        for (uint64_t k = 0; k < x->parts[i].part->n_blocks; k++)
            done += x->parts[i].right[k];
    worker_progress(x->worker, done * PPM / all, done * nand_block_size(geometry(x)),
                    all * nand_block_size(geometry(x)));
}

/* No command is in hand: CANCEL counts as long as nothing was changed. */
static int safe_point(struct restore *x, struct error *e)
{
    struct worker *w = x->worker;
    bool critical = w->critical;
    w->critical = x->destructive;
    int r = worker_check(w, e);
    w->critical = critical;
    return r;
}

int restore_compare(struct restore *x, uint64_t *ret, struct error *e)
{
    uint64_t wrong = 0;
    x->already_right = 0;
    for (size_t k = 0; k < x->n_parts; k++) {
        struct restore_part *p = &x->parts[k];
        worker_phase(x->worker, "check", p->part->name);
        for (uint64_t i = 0; i < p->part->n_blocks; i++) {
            uint64_t block = p->part->first_block + i;
            bool bad = nand_map_is_bad(&x->map, block);
            int r = safe_point(x, e);
            if (r == 0)
                r = bad ? 1 : look(x, p, i, e);
            if (r < 0)
                return r;
            p->right[i] = r > 0;
            wrong += r == 0;
            x->already_right += r > 0 && !bad;
        }
    }
    *ret = wrong;
    return 0;
}

/*
 * The blocks of a part from the last to the first: what a loader looks for stands in the first, so that a
 * part is found only when it is whole. A block that goes bad on the way shifts what lies behind it, and the
 * part is laid anew.
 */
static int write_part(struct restore *x, struct restore_part *p, struct error *e)
{
    worker_phase(x->worker, "program", p->part->name);
    for (uint64_t i = p->part->n_blocks; i-- > 0;) {
        if (p->right[i] || nand_map_is_bad(&x->map, p->part->first_block + i))
            continue;
        int r = worker_check(x->worker, e);
        if (r == 0)
            r = write_block(x, p, i, e);
        show(x);
        if (r < 0)
            return r;
        if (r > 0)
            continue;
        r = restore_target(x->backup, &x->map, p, e);
        for (uint64_t k = 0; r == 0 && k < p->part->n_blocks; k++) {
            if (nand_map_is_bad(&x->map, p->part->first_block + k))
                continue;
            r = look(x, p, k, e);
            p->right[k] = r > 0;
            r = MIN_OF(r, 0);
        }
        if (r < 0)
            return r;
        i = p->part->n_blocks;
    }
    return 0;
}

/* All of it, and read: from here on the modem comes back in 9008 (flash rule 6). */
static int erase_sbl(struct restore *x, struct restore_part *p, struct error *e)
{
    worker_phase(x->worker, "erase", p->part->name);
    for (uint64_t i = 0; i < p->part->n_blocks; i++) {
        uint64_t block = p->part->first_block + i;
        if (nand_map_is_bad(&x->map, block))
            continue;
        int r = read_block(x, block, e);
        if (r == 0)
            r = holds(x, p, RESTORE_ERASED, e);
        if (r == 0)
            r = erase_block(x, block, e);
        else if (r > 0)
            r = 0;
        if (r == 0)
            r = read_block(x, block, e);
        if (r == 0)
            r = holds(x, p, RESTORE_ERASED, e);
        if (r < 0)
            return r;
        if (r == 0) {
            r = error_set(e, ERROR_FIREHOSE_FAILED,
                          "block %llu of %s still holds data although its erase was acknowledged", LLU(block),
                          p->part->name);
            error_hint(e, HINT_CONTACT_VENDOR);
            return r;
        }
        p->right[i] = p->source[i] == RESTORE_ERASED;
    }
    return 0;
}

static bool is_right(const struct restore *x, const struct restore_part *p)
{
    for (uint64_t i = 0; i < p->part->n_blocks; i++)
        if (!p->right[i] && !nand_map_is_bad(&x->map, p->part->first_block + i))
            return false;
    return true;
}

/* An SBL that is not known to be right must not be there: its first block goes again. The error stays the
 * first. */
static int drop_sbl(struct restore *x, struct restore_part *p, int error)
{
    struct error second = {0};
    if (error == -ENODEV)
        return error;
    for (uint64_t i = 0; i < p->part->n_blocks; i++)
        if (!p->right[i] && !nand_map_is_bad(&x->map, p->part->first_block + i) &&
            erase_block(x, p->part->first_block + i, &second) < 0) {
            worker_log(x->worker, "WARN: %s is not known to be right and could not be erased again: %s",
                       p->part->name, second.message);
            break;
        }
    return error;
}

int restore_write(struct restore *x, struct error *e)
{
    struct restore_part *sbl = NULL;
    bool others = false;
    int r = 0;
    for (size_t i = 0; i < x->n_parts; i++) {
        if (x->parts[i].sbl)
            sbl = &x->parts[i];
        else
            others |= !is_right(x, &x->parts[i]);
    }
    if (sbl && (others || !is_right(x, sbl)))
        r = erase_sbl(x, sbl, e);
    else if (others)
        worker_log(x->worker,
                   "WARN: no guarantee that an interrupted restore stays in 9008: SBL is not part of it");
    for (int mibib = 1; mibib >= 0; mibib--)
        for (size_t i = 0; r == 0 && i < x->n_parts; i++)
            if (!x->parts[i].sbl && x->parts[i].mibib == mibib)
                r = write_part(x, &x->parts[i], e);
    if (r == 0 && sbl) {
        r = write_part(x, sbl, e);
        if (r < 0)
            r = drop_sbl(x, sbl, r);
    }
    if (r == 0)
        x->complete = true;
    return r;
}
