/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Block by block: looked at, and left alone if it holds already what it shall; else erased, written from its
 * first page to its last written one, and read back page by page. So the same call made again goes on, and so
 * does the next window.
 */

#include <errno.h>
#include <string.h>

#include "worker/restore.h"

#define LLU(n) ((unsigned long long)(n))

enum {
    PPM = 1000000,
    MAP_PIECE = 16,
    /* Erased, its fill probed, written, read. */
    WRITE_WORKS = WINDOW_WORK(WINDOW_ERASE) | WINDOW_WORK(WINDOW_PROGRAM) | WINDOW_WORK(WINDOW_READ),
    /* Read, erased, read. */
    SBL_ERASE_WORKS = WINDOW_WORK(WINDOW_ERASE) | WINDOW_WORK(WINDOW_READ),
};

static const struct nand_geometry *geometry(const struct restore *x)
{
    return &x->visits.session->geometry;
}

/* ---- map ---- */

/* No command is in hand: CANCEL counts as long as nothing was changed. */
static int safe_point(struct restore *x, struct error *e)
{
    return worker_check_as(x->worker, x->destructive, e);
}

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

void restore_forget(struct restore *x)
{
    nand_map_done(&x->map);
    nand_map_done(&x->at_start);
    x->sbl_erased = false;
    x->sbl_next = 0;
    x->in_hand = RESTORE_ERASED;
    x->look = (struct look){.session = x->visits.session,
                            .how = BACKUP_MAP_READ,
                            .map = &x->map,
                            .fill = LOOK_ERASED_FF,
                            .fill_settled = true};
    free(x->ours);
    x->ours = NULL;
    for (size_t k = 0; k < x->n_parts; k++)
        if (x->parts[k].seen)
            memset(x->parts[k].seen, RESTORE_UNSEEN, x->parts[k].part->n_blocks);
}

/* A command that was cut off may have cost its block, and have gone on in the one behind it. */
static int look_at_hand(struct restore *x, struct error *e)
{
    struct session *s = x->visits.session;
    if (x->in_hand == RESTORE_ERASED)
        return 0;
    int r = nand_read_map(s->firehose, geometry(x), &s->capabilities, x->in_hand, 1, &x->map, e);
    if (r < 0)
        return r;
    x->recheck |= nand_map_is_bad(&x->map, x->in_hand);
    x->in_hand = RESTORE_ERASED;
    return 0;
}

/* So many blocks from `first` on, which nobody looked at. */
static int read_map_piece(struct restore *x, uint64_t first, uint64_t n, struct error *e)
{
    struct session *s = x->visits.session;
    int r = restore_await_room(x, WINDOW_WORK(WINDOW_LOOK), n, e);
    usec_t start = now_usec();
    if (r == 0)
        r = nand_read_map(s->firehose, geometry(x), &s->capabilities, first, n, &x->map, e);
    if (r < 0)
        return r;
    restore_took(x, WINDOW_LOOK, n, start);
    for (uint64_t b = first; b < first + n; b++)
        nand_map_set(&x->at_start, b, nand_map_is_bad(&x->map, b));
    x->steps_done += n;
    return 0;
}

int restore_read_map(struct restore *x, struct error *e)
{
    if (!x->ours)
        x->ours = calloc(geometry(x)->blocks, 1);
    if (!x->ours || (x->map.blocks == 0 && (nand_map_init(&x->map, geometry(x)->blocks) < 0 ||
                                            nand_map_init(&x->at_start, geometry(x)->blocks) < 0)))
        return error_set(e, ERROR_FAILED, "no room for a map of %llu blocks", LLU(geometry(x)->blocks));
    int r = look_at_hand(x, e);
    for (size_t i = 0; r == 0 && i < x->n_parts; i++) {
        const struct backup_part *p = x->parts[i].part;
        uint64_t end = p->first_block + p->n_blocks;
        restore_phase(x, "check", &x->parts[i]);
        for (uint64_t first = p->first_block, n; r == 0 && first < end; first += MAX_OF(n, (uint64_t)1)) {
            for (n = 0; n < MAP_PIECE && first + n < end && !nand_map_is_known(&x->map, first + n); n++)
                ;
            r = safe_point(x, e);
            if (r == 0 && n > 0)
                r = read_map_piece(x, first, n, e);
        }
    }
    return r < 0 ? r : check_new_bad(x, e);
}

void restore_take_done(struct restore *x)
{
    for (size_t i = 0; i < x->journal.n_records; i++) {
        const struct journal_record *r = &x->journal.records[i];
        if (r->kind == JOURNAL_DONE && r->first_block < x->map.blocks)
            x->ours[r->first_block] = true;
    }
}

/* ---- one block ---- */

/* The n-th block of a part, into now and states. */
static int read_block(struct restore *x, const struct restore_part *p, uint64_t i, struct error *e)
{
    uint64_t block = p->part->first_block + i;
    struct look_piece piece = {.first = block, .n = 1, .data = x->now, .states = x->states};
    x->look.to_the_end = p->sbl && x->destructive;
    x->look.fill = x->ours[block] ? LOOK_ERASED_EE : LOOK_ERASED_FF;
    usec_t start = now_usec();
    int r = look_at_piece(&x->look, &piece, mibib_is_unit_data(p->part->name), e);
    if (r == 0)
        restore_took(x, WINDOW_READ, 1, start);
    return r;
}

/* Does the page hold what it shall? It may be hidden by the fill of an erased neighbour. */
static int page_holds(struct restore *x, uint64_t block, uint32_t i, struct error *e)
{
    const struct nand_geometry *g = geometry(x);
    const uint8_t *now = x->now + (size_t)i * g->page_size, *want = x->want + (size_t)i * g->page_size;
    if (memcmp(now, want, g->page_size) == 0)
        return 1;
    if (x->states[i] != NAND_PAGE_ERASED || !look_hides_pages(&x->look))
        return 0;
    struct look_piece piece = {.first = block, .n = 1, .data = x->now, .states = x->states};
    int r = look_at_page(&x->look, &piece, i, e);
    return r < 0 ? r : memcmp(now, want, g->page_size) == 0;
}

/* 1: x->now is what the block shall hold. An erased page in front of written ones may be one of 0xFF: nobody
 * can tell them apart. */
static int holds(struct restore *x, const struct restore_part *p, uint64_t block, uint64_t source,
                 struct error *e)
{
    const struct nand_geometry *g = geometry(x);
    bool data = source != RESTORE_ERASED;
    int r = data ? backup_read_block(x->backup, p->part, source, x->want, e) : 0;
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < g->pages_per_block; i++) {
        if (data && backup_page_state(x->backup, p->part, source, i) == NAND_PAGE_DATA)
            r = page_holds(x, block, i, e);
        else
            r = x->states[i] == NAND_PAGE_ERASED;
        if (r <= 0)
            return r;
    }
    return 1;
}

/* 1: right. One that is seen to be bad now is not, and the map learns of it. */
static int look(struct restore *x, struct restore_part *p, uint64_t i, struct error *e)
{
    int r = read_block(x, p, i, e);
    if (r == 0)
        r = holds(x, p, p->part->first_block + i, p->source[i], e);
    if (r >= 0)
        p->seen[i] = r > 0 ? RESTORE_RIGHT : RESTORE_WRONG;
    return r;
}

/* On the disk before the first command of it: that something is changed. */
static int begin_change(struct restore *x, struct error *e)
{
    static const struct journal_record intent = {.kind = JOURNAL_INTENT};
    worker_state(x->worker, true, false);
    if (x->destructive)
        return 0;
    int r = x->worker->fd_journal < 0 ? 0 : journal_append(&x->journal, &intent, e);
    if (r < 0)
        return r;
    worker_tell(x->worker, KEY_DESTRUCTIVE, "1");
    x->destructive = true;
    return 0;
}

/* Between the commands of a block; who continues finds it as it is left, and does it again. SBL goes on to
 * what is known of it. */
static int end_if_asked(struct restore *x, const struct restore_part *p, struct error *e)
{
    return p->sbl ? 0 : worker_check(x->worker, e);
}

static int erase_block(struct restore *x, const struct restore_part *p, uint64_t block, struct error *e)
{
    struct session *s = x->visits.session;
    struct firehose_range range = nand_range(geometry(x), block, 1);
    int r = begin_change(x, e);
    usec_t start = now_usec();
    x->in_hand = block;
    if (r == 0)
        r = firehose_erase(s->firehose, &range, e);
    if (r == 0)
        r = end_if_asked(x, p, e);
    if (r == 0)
        r = session_probe_fill(s, range.start, e);
    if (r < 0)
        return r;
    restore_took(x, WINDOW_ERASE, 1, start);
    x->ours[block] = true;
    if (s->erased_fill == LOOK_ERASED_EE && !x->ee_told)
        worker_log(x->worker, "this programmer shows an erased page as 0xEE, which pages that were written "
                              "with it show too: blocks with erased pages are written anew");
    x->ee_told |= s->erased_fill == LOOK_ERASED_EE;
    return 0;
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
    usec_t start = now_usec();
    r = firehose_program(x->visits.session->firehose, &range, source, NULL, &pages, e);
    if (r == 0)
        restore_programmed(x, used, start);
    return r;
}

/* Refused, or other than it shall be: has it gone bad? 0: it has. */
static int explain_block(struct restore *x, const struct restore_part *p, uint64_t block, int r,
                         const struct error *own, struct error *e)
{
    struct session *s = x->visits.session;
    firehose_clear_errors(s->firehose);
    int m = nand_read_map(s->firehose, geometry(x), &s->capabilities, block, 1, &x->map, e);
    if (m < 0)
        return m;
    if (nand_map_is_bad(&x->map, block)) {
        worker_log(x->worker, "WARN: block %llu of %s went bad", LLU(block), p->part->name);
        x->recheck = true;
        return check_new_bad(x, e);
    }
    if (r < 0) {
        *e = *own;
        return r;
    }
    r = error_set(e, ERROR_DIGEST_MISMATCH, "block %llu of %s does not hold what was written to it",
                  LLU(block), p->part->name);
    error_hint(e, HINT_RETRY);
    return r;
}

/* Whoever continues need not write it again. That it cannot be noted is no reason to stop half-way. */
static void note_done(struct restore *x, uint64_t block)
{
    const struct journal_record done = {.kind = JOURNAL_DONE, .first_block = block, .n_blocks = 1};
    struct error e = {0};
    if (x->worker->fd_journal < 0 || x->unnoted)
        return;
    x->unnoted = journal_append(&x->journal, &done, &e) < 0;
    if (x->unnoted)
        worker_log(x->worker, "WARN: what is written is not noted any more: %s", e.message);
}

/* 1: right; 0: it went bad meanwhile. */
static int write_block(struct restore *x, struct restore_part *p, uint64_t i, struct error *e)
{
    uint64_t block = p->part->first_block + i;
    struct error own = {0};
    int r = restore_await_room(x, WRITE_WORKS, 1, e);
    if (r < 0)
        return r;
    r = erase_block(x, p, block, &own);
    if (r == 0)
        r = end_if_asked(x, p, &own);
    if (r == 0 && p->source[i] != RESTORE_ERASED)
        r = program_block(x, p, block, p->source[i], &own);
    if (r == 0)
        r = end_if_asked(x, p, &own);
    if (r == 0)
        r = look(x, p, i, &own);
    if (r > 0) {
        x->written++;
        x->steps_done++;
        x->in_hand = RESTORE_ERASED;
        firehose_clear_errors(x->visits.session->firehose);
        note_done(x, block);
        return 1;
    }
    if (r < 0 && own.kind != ERROR_FIREHOSE_FAILED) {
        *e = own;
        return r;
    }
    return explain_block(x, p, block, r, &own, e);
}

/* ---- all of them ---- */

static uint64_t blocks_of_all(const struct restore *x)
{
    uint64_t n = 0;
    for (size_t i = 0; i < x->n_parts; i++)
        n += x->parts[i].part->n_blocks;
    return n;
}

static bool is_bad(const struct restore *x, const struct restore_part *p, uint64_t i)
{
    return nand_map_is_bad(&x->map, p->part->first_block + i);
}

static void show(const struct restore *x)
{
    uint64_t done = 0, all = blocks_of_all(x);
    for (size_t i = 0; i < x->n_parts; i++)
        for (uint64_t k = 0; k < x->parts[i].part->n_blocks; k++)
            done += x->parts[i].seen[k] == RESTORE_RIGHT;
    worker_progress(x->worker, done * PPM / all, done * nand_block_size(geometry(x)),
                    all * nand_block_size(geometry(x)));
}

/* Looks at what was not seen yet. A block that turns out to be bad moves what lies behind it. */
static int compare_part(struct restore *x, struct restore_part *p, uint64_t *wrong, struct error *e)
{
    restore_phase(x, "check", p);
    for (uint64_t i = 0; i < p->part->n_blocks; i++) {
        if (is_bad(x, p, i) || p->seen[i] != RESTORE_UNSEEN)
            continue;
        int r = safe_point(x, e);
        if (r == 0)
            r = restore_await_room(x, WINDOW_WORK(WINDOW_READ), 1, e);
        if (r == 0)
            r = look(x, p, i, e);
        if (r >= 0 && is_bad(x, p, i)) {
            r = check_new_bad(x, e);
            if (r == 0)
                r = restore_target(x->backup, &x->map, p, e);
            i = UINT64_MAX; /* from the beginning */
        }
        if (r < 0)
            return r;
        x->steps_done++;
    }
    for (uint64_t i = 0; i < p->part->n_blocks; i++) {
        *wrong += !is_bad(x, p, i) && p->seen[i] != RESTORE_RIGHT;
        x->already_right += !x->destructive && !is_bad(x, p, i) && p->seen[i] == RESTORE_RIGHT;
    }
    return 0;
}

int restore_compare(struct restore *x, uint64_t *ret, struct error *e)
{
    uint64_t wrong = 0;
    int r = 0;
    if (!x->destructive)
        x->already_right = 0;
    for (size_t k = 0; r == 0 && k < x->n_parts; k++)
        r = compare_part(x, &x->parts[k], &wrong, e);
    *ret = wrong;
    return r;
}

/*
 * The blocks of a part from the last to the first: what a loader looks for stands in the first, so that a
 * part is found only when it is whole. A block that goes bad on the way shifts what lies behind it, and the
 * part is laid anew.
 */
static int write_part(struct restore *x, struct restore_part *p, struct error *e)
{
    restore_phase(x, "program", p);
    for (uint64_t i = p->part->n_blocks; i-- > 0;) {
        if (p->seen[i] == RESTORE_RIGHT || is_bad(x, p, i))
            continue;
        int r = worker_check(x->worker, e);
        if (r == 0)
            r = write_block(x, p, i, e);
        show(x);
        if (r < 0)
            return r;
        if (r > 0)
            continue;
        uint64_t wrong = 0;
        r = restore_target(x->backup, &x->map, p, e);
        if (r == 0)
            r = compare_part(x, p, &wrong, e);
        if (r < 0)
            return r;
        i = p->part->n_blocks;
    }
    return 0;
}

/* 1: nothing is written in it, or it is bad; 0: something is. */
static int is_empty(struct restore *x, struct restore_part *p, uint64_t i, struct error *e)
{
    int r = read_block(x, p, i, e);
    if (r < 0 || is_bad(x, p, i))
        return r < 0 ? r : 1;
    return holds(x, p, p->part->first_block + i, RESTORE_ERASED, e);
}

static int erase_sbl_block(struct restore *x, struct restore_part *p, uint64_t i, struct error *e)
{
    uint64_t block = p->part->first_block + i;
    struct error own = {0};
    int r = is_empty(x, p, i, e);
    if (r != 0)
        return r < 0 ? r : 0;
    /* Up to the first erase whoever wants an end may have it. */
    r = x->destructive ? 0 : safe_point(x, e);
    if (r < 0)
        return r;
    r = erase_block(x, p, block, &own);
    if (r == 0)
        r = is_empty(x, p, i, &own);
    if (r > 0)
        return 0;
    if (r < 0 && own.kind != ERROR_FIREHOSE_FAILED) {
        *e = own;
        return r;
    }
    r = explain_block(x, p, block, r, &own, e);
    if (r < 0 && e->kind == ERROR_DIGEST_MISMATCH) {
        r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "block %llu of %s still holds data although its erase was acknowledged", LLU(block),
                      p->part->name);
        error_hint(e, HINT_CONTACT_VENDOR);
    }
    return r;
}

/* All of it, and read: from here on the modem comes back in 9008 (flash rule 6). */
static int erase_sbl(struct restore *x, struct restore_part *p, struct error *e)
{
    restore_phase(x, "erase", p);
    for (; x->sbl_next < p->part->n_blocks; x->sbl_next++) {
        uint64_t i = x->sbl_next;
        if (is_bad(x, p, i))
            continue;
        int r = restore_await_room(x, SBL_ERASE_WORKS, 2, e);
        if (r == 0)
            r = erase_sbl_block(x, p, i, e);
        if (r < 0)
            return r;
        p->seen[i] = p->source[i] == RESTORE_ERASED ? RESTORE_RIGHT : RESTORE_WRONG;
        x->in_hand = RESTORE_ERASED;
        x->steps_done++;
        if (is_bad(x, p, i))
            r = check_new_bad(x, e);
        if (r == 0 && is_bad(x, p, i)) /* what lies behind it shifts */
            r = restore_target(x->backup, &x->map, p, e);
        if (r < 0)
            return r;
    }
    x->sbl_erased = true;
    return 0;
}

static bool is_right(const struct restore *x, const struct restore_part *p)
{
    for (uint64_t i = 0; i < p->part->n_blocks; i++)
        if (p->seen[i] != RESTORE_RIGHT && !is_bad(x, p, i))
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
        if (p->seen[i] != RESTORE_RIGHT && !is_bad(x, p, i) &&
            erase_block(x, p, p->part->first_block + i, &second) < 0) {
            worker_log(x->worker, "WARN: %s is not known to be right and could not be erased again: %s",
                       p->part->name, second.message);
            break;
        }
    return error;
}

/* ---- the order ---- */

static int write_others(struct restore *x, struct error *e)
{
    int r = 0;
    for (int mibib = 1; mibib >= 0; mibib--)
        for (size_t i = 0; r == 0 && i < x->n_parts; i++) {
            if (x->parts[i].sbl || x->parts[i].mibib != mibib)
                continue;
            r = write_part(x, &x->parts[i], e);
        }
    return r;
}

/* Where a block went bad a programmer may have gone on in the next one (reference/edl.md 2.6). */
static int write_until_settled(struct restore *x, struct error *e)
{
    int r = write_others(x, e);
    while (r == 0 && x->recheck) {
        uint64_t wrong = 0;
        for (size_t i = 0; i < x->n_parts; i++)
            if (!x->parts[i].sbl)
                memset(x->parts[i].seen, RESTORE_UNSEEN, x->parts[i].part->n_blocks);
        r = restore_compare(x, &wrong, e);
        if (r < 0)
            return r;
        x->recheck = false;
        r = write_others(x, e);
    }
    return r;
}

/* All that is left of it goes into one window: what a loader could start is not left half there. */
static int await_room_for_sbl(struct restore *x, const struct restore_part *sbl, struct error *e)
{
    uint64_t n = 0;
    restore_phase(x, "program", sbl);
    for (uint64_t i = 0; i < sbl->part->n_blocks; i++)
        n += sbl->seen[i] != RESTORE_RIGHT && !is_bad(x, sbl, i);
    return restore_await_room(x, WRITE_WORKS, n, e);
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
    if (sbl && !x->sbl_erased && (others || !is_right(x, sbl)))
        r = erase_sbl(x, sbl, e);
    else if (others && !sbl)
        worker_log(x->worker,
                   "WARN: no guarantee that an interrupted restore stays in 9008: SBL is not part of it");
    if (r == 0)
        r = write_until_settled(x, e);
    if (r == 0 && sbl)
        r = await_room_for_sbl(x, sbl, e);
    if (r == 0 && sbl) {
        r = write_part(x, sbl, e);
        x->sbl_erased = x->sbl_erased && r < 0;
        if (r < 0)
            r = drop_sbl(x, sbl, r);
    }
    if (r == 0)
        x->complete = true;
    return r;
}
