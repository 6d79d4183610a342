/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/pieces.h"

#include <errno.h>
#include <string.h>

#include "worker/erase.h"
#include "worker/image.h"
#include "worker/steps-inner.h"
#include "worker/verify.h"

/* What a piece returns when it does not fit what is left of the window. */
enum { NO_ROOM = 1 };

/* ---- small questions ---- */

static bool splits(const struct flash *f)
{
    return f->session->capabilities.skip_bad_block;
}

static struct window *window(const struct flash *f)
{
    return &f->session->window;
}

/* Blocks of an image, or of an ERASE. */
static uint64_t blocks_of(const struct flash *f, const struct plan_step *s)
{
    return s->action == PLAN_ERASE ? s->n_blocks : DIV_ROUND_UP(s->pages, f->plan->geometry.pages_per_block);
}

static unsigned verifying(const struct flash *f)
{
    return WINDOW_WORK(f->session->capabilities.digest ? WINDOW_VERIFY : WINDOW_READ);
}

static void note_verified(struct flash *f, uint64_t blocks, usec_t since)
{
    window_took(window(f), f->session->capabilities.digest ? WINDOW_VERIFY : WINDOW_READ, blocks,
                now_usec() - since);
}

static int read_map(struct flash *f, uint64_t first, uint64_t count, struct error *e)
{
    usec_t start = now_usec();
    int r = erase_read_map(f, first, count, e);
    if (r == 0)
        window_took(window(f), WINDOW_LOOK, count, now_usec() - start);
    return r;
}

uint64_t pieces_finished(const struct flash *f)
{
    uint64_t n = 0;
    for (size_t i = 0; f->steps && i < f->plan->n_steps; i++)
        n += f->steps[i].checked +
             (f->steps[i].done ? blocks_of(f, &f->plan->steps[i]) : f->steps[i].finished);
    return n;
}

/* ---- journal ---- */

static struct journal_record piece_of(const struct plan_step *s, enum journal_kind kind, uint64_t first,
                                      uint64_t n, uint64_t pages)
{
    struct journal_record record = steps_record(s, kind);
    record.first_block = s->first_block + first;
    record.n_blocks = n;
    record.pages = pages;
    return record;
}

static bool is_of(const struct journal_record *r, const struct plan_step *s)
{
    bool piece = r->kind == JOURNAL_PIECE_INTENT || r->kind == JOURNAL_PIECE_DONE;
    if (r->action != s->action)
        return false;
    if (piece)
        return r->first_block >= s->first_block && r->n_blocks <= s->n_blocks &&
               r->first_block - s->first_block <= s->n_blocks - r->n_blocks;
    return r->first_block == s->first_block && r->n_blocks == s->n_blocks && r->pages == s->pages;
}

/* Nothing of the images in this range is there any more. */
static void forget_inside(struct flash *f, const struct plan_step *erase)
{
    for (size_t k = 0; k < f->plan->n_steps; k++) {
        const struct plan_step *s = &f->plan->steps[k];
        if ((s->action != PLAN_WRITE && s->action != PLAN_VERIFY) || !flash_contains(erase, s))
            continue;
        f->steps[k].done = f->steps[k].half = false;
        f->steps[k].finished = f->steps[k].dirty = 0;
    }
}

static void replay(struct flash *f, size_t i, const struct journal_record *r)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct flash_step *st = &f->steps[i];
    uint64_t first = r->first_block - s->first_block;
    bool begun = r->kind == JOURNAL_INTENT || r->kind == JOURNAL_PIECE_INTENT;

    st->touched = true;
    if (begun) {
        st->finished = MIN_OF(st->finished, first);
        st->dirty = MAX_OF(st->dirty, first + r->n_blocks);
        st->half |= r->kind == JOURNAL_INTENT;
        st->done = false;
    } else if (r->kind == JOURNAL_DONE || st->finished == first) {
        st->finished = r->kind == JOURNAL_DONE ? blocks_of(f, s) : first + r->n_blocks;
        st->dirty = 0;
        st->done = r->kind == JOURNAL_DONE;
        st->half = st->half && !st->done;
    }
    if (begun && s->action == PLAN_ERASE)
        forget_inside(f, s);
}

void pieces_from_journal(struct flash *f)
{
    for (size_t k = 0; k < f->journal.n_records; k++) {
        const struct journal_record *r = &f->journal.records[k];
        if (r->kind != JOURNAL_INTENT && r->kind != JOURNAL_DONE && r->kind != JOURNAL_PIECE_INTENT &&
            r->kind != JOURNAL_PIECE_DONE)
            continue;
        for (size_t i = 0; i < f->plan->n_steps; i++)
            if (steps_is_executed(&f->plan->steps[i]) && is_of(r, &f->plan->steps[i]))
                replay(f, i, r);
    }
}

/* ---- a new appearance ---- */

static void erase_again(struct flash *f, size_t i)
{
    f->steps[i].done = f->steps[i].half = false;
    f->steps[i].dirty = f->plan->steps[i].n_blocks;
    f->steps[i].finished = f->steps[i].checked = 0;
    forget_inside(f, &f->plan->steps[i]);
}

/* Was it, or an image in its range, cut off while it was done as a whole? SBL does not outlive its window at
 * all. */
static bool is_half(const struct flash *f, size_t erase)
{
    bool half = f->steps[erase].half;
    for (size_t k = 0; k < f->plan->n_steps; k++) {
        const struct plan_step *s = &f->plan->steps[k];
        const struct flash_step *st = &f->steps[k];
        if (s->action == PLAN_WRITE && flash_contains(&f->plan->steps[erase], s))
            half |= st->half || (s->sbl && st->done);
    }
    return half;
}

void pieces_resume(struct flash *f, bool resumed)
{
    bool in_doubt = resumed || window_was_long_absent(window(f));
    worker_state(f->worker, true, false);
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action == PLAN_ERASE && is_half(f, i))
            erase_again(f, i);
        if (in_doubt && s->action == PLAN_VERIFY) {
            f->steps[i].done = false;
            f->steps[i].finished = 0;
        }
        if (in_doubt)
            f->steps[i].checked = 0;
    }
    if (in_doubt)
        f->best = 0;
    if (in_doubt)
        worker_log(f->worker, "everything that was written is verified again");
    steps_recount(f);
}

/* ---- erase ---- */

/* The next run of good blocks in [*from, end), whose first one becomes *from; 0: none is left. */
static uint64_t next_run(const struct flash *f, uint64_t *from, uint64_t end)
{
    uint64_t n = 0;
    while (*from < end && nand_map_is_bad(&f->map, *from))
        ++*from;
    while (*from + n < end && !nand_map_is_bad(&f->map, *from + n))
        n++;
    return n;
}

static int erase_whole(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    usec_t start = now_usec();
    if (!window_has_room(window(f), window_cost(window(f), WINDOW_WORK(WINDOW_ERASE), s->n_blocks), start))
        return NO_ROOM;
    window_begun(window(f), 1);
    int r = steps_erase(f, i, e);
    if (r < 0)
        return r;
    f->steps[i].checked = s->n_blocks;
    window_took(window(f), WINDOW_ERASE, s->n_blocks, now_usec() - start);
    return 0;
}

static int end_erase(struct flash *f, size_t i, struct error *e)
{
    int r = erase_probe_fill(f, &f->plan->steps[i], e);
    return r < 0 ? r : steps_end(f, i, e);
}

/* n good blocks. Their piece begins with the bad ones in front of them, at block `at` of the step. */
static int erase_run(struct flash *f, size_t i, uint64_t at, uint64_t from, uint64_t n, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct flash_step *st = &f->steps[i];
    uint64_t end = from + n - s->first_block;
    const struct journal_record intent = piece_of(s, JOURNAL_PIECE_INTENT, at, end - at, 0),
                                done = piece_of(s, JOURNAL_PIECE_DONE, at, end - at, 0);
    char name[MIBIB_NAME_SIZE + 32];
    snprintf(name, sizeof(name), "%s", flash_step_name(s));
    int r = steps_begin(f, i, &intent, e);
    if (r < 0)
        return r;
    st->dirty = MAX_OF(st->dirty, end);
    window_begun(window(f), n);
    usec_t start = now_usec();
    r = erase_command(f, from, n, name, e);
    if (r < 0)
        return r;
    window_took(window(f), WINDOW_ERASE, n, now_usec() - start);
    return journal_append(&f->journal, &done, e);
}

static int erase_piece(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct flash_step *st = &f->steps[i];
    worker_phase(f->worker, "erase", flash_step_name(s));
    if (!splits(f))
        return erase_whole(f, i, e);
    if (st->finished == s->n_blocks) /* cut off behind the last piece */
        return end_erase(f, i, e);

    struct window *w = window(f);
    bool look = st->dirty > st->finished; /* a command that was cut off may have cost a block */
    unsigned works = WINDOW_WORK(WINDOW_ERASE) | (look ? WINDOW_WORK(WINDOW_LOOK) : 0);
    uint64_t most = (look ? st->dirty : s->n_blocks) - st->finished;
    most = window_fit(w, works, most, now_usec());
    if (most == 0)
        return NO_ROOM;
    uint64_t at = st->finished, from = s->first_block + at, end = from + most;
    int r = look ? read_map(f, from, most, e) : 0;
    if (r < 0)
        return r;
    uint64_t n = next_run(f, &from, end);
    if (n > 0)
        r = erase_run(f, i, at, from, n, e);
    if (r < 0)
        return r;
    st->finished = from + n - s->first_block;
    st->dirty = st->dirty > st->finished ? st->dirty : 0;
    steps_recount(f);
    return st->finished == s->n_blocks ? end_erase(f, i, e) : 0;
}

/* Some more of what an erase left, which is read: an ACK proves nothing (flash rule 8). */
static int check_piece(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct flash_step *st = &f->steps[i];
    uint64_t left = s->n_blocks - st->checked, n = left;
    worker_phase(f->worker, "verify", flash_step_name(s));
    if (splits(f)) /* both ends of a block, where the map asks for one */
        n = MIN_OF(
            MAX_OF(window_fit(window(f), WINDOW_WORK(WINDOW_LOOK), 2 * left, now_usec()) / 2, (uint64_t)1),
            left);
    if (!window_has_room(window(f), window_cost(window(f), WINDOW_WORK(WINDOW_LOOK), splits(f) ? 2 * n : 1),
                         now_usec()))
        return NO_ROOM;
    const struct block_range part = {s->first_block + st->checked, n};
    window_begun(window(f), n);
    int r = erase_ensure_part(f, s, &part, e);
    if (r < 0)
        return r;
    st->checked += n;
    return 0;
}

/* ---- write ---- */

static int write_whole(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    uint64_t n = blocks_of(f, s);
    usec_t start = now_usec();
    if (!window_has_room(window(f), window_cost(window(f), WINDOW_WORK(WINDOW_PROGRAM), n), start))
        return NO_ROOM;
    window_begun(window(f), 1);
    int r = steps_write(f, i, e);
    if (r < 0)
        return r;
    window_took(window(f), WINDOW_PROGRAM, n, now_usec() - start);
    return 0;
}

/*
 * What a command that was cut off may have touched: its own blocks, and some behind them if one of its own
 * went bad. Erased by blocks, good ones only, whatever the programmer would erase by itself.
 */
static int clean(struct flash *f, const struct plan_step *s, const struct flash_step *st, struct error *e)
{
    uint64_t end = s->first_block + s->n_blocks, from = nand_map_good(&f->map, s->first_block, st->finished),
             to = MIN_OF(nand_map_good(&f->map, from, st->dirty - st->finished) + NEW_BAD_BLOCKS_MAX, end);
    char name[MIBIB_NAME_SIZE + 32];
    snprintf(name, sizeof(name), "%s", flash_step_name(s));
    int r = from < to ? read_map(f, from, to - from, e) : 0;
    for (uint64_t b = from; r == 0 && b < to; b++) {
        if (nand_map_is_bad(&f->map, b))
            continue;
        r = flash_end_if_asked(f, e);
        if (r == 0)
            r = erase_command(f, b, 1, name, e);
    }
    return r;
}

/* The blocks that the command walked over, up to the n-th good one. */
static int read_behind(struct flash *f, const struct plan_step *s, uint64_t from, uint64_t n, struct error *e)
{
    uint64_t end = s->first_block + s->n_blocks;
    while (n > 0 && from < end) {
        uint64_t count = MIN_OF(n, end - from);
        int r = read_map(f, from, count, e);
        if (r < 0)
            return r;
        n -= count - nand_map_count_bad(&f->map, from, count);
        from += count;
    }
    return 0;
}

static int no_room_for_image(const struct plan_step *s, struct error *e)
{
    int r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "so many blocks of %s have gone bad that %s has no room in it any more",
                      flash_step_name(s), s->file->path);
    error_hint(e, HINT_CONTACT_VENDOR);
    return r;
}

static int send_piece(struct flash *f, size_t i, uint64_t n, uint64_t pages, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    const struct nand_geometry *g = &f->plan->geometry;
    struct flash_step *st = &f->steps[i];
    uint64_t from = nand_map_good(&f->map, s->first_block, st->finished);
    struct firehose_range range = nand_range(g, s->first_block, s->n_blocks);
    struct image image = {.flash = f,
                          .step = s,
                          .from = st->finished * nand_block_size(g),
                          .work_before = f->work_done,
                          .bytes_before = f->bytes_written};
    range.start = from * g->pages_per_block;
    range.count = pages;
    if (from + n - 1 + nand_map_count_bad(&f->map, from, n) >= s->first_block + s->n_blocks)
        return no_room_for_image(s, e);
    char what[MIBIB_NAME_SIZE + 64];
    snprintf(what, sizeof(what), "writing %s", flash_step_name(s));
    usec_t start = now_usec();
    int r = firehose_program(f->session->firehose, &range, image_source, image_progress, &image, e);
    flash_note_errors(f, what);
    if (r < 0)
        return r;
    window_took(window(f), WINDOW_PROGRAM, n, now_usec() - start);
    return read_behind(f, s, from, n, e);
}

/* How many blocks of an image the next piece takes; 0: there is no room. */
static uint64_t fit_piece(const struct flash *f, const struct plan_step *s, const struct flash_step *st)
{
    const struct window *w = window(f);
    usec_t now = now_usec();
    if (st->dirty > 0)
        now += window_cost(w, WINDOW_WORK(WINDOW_ERASE) | WINDOW_WORK(WINDOW_LOOK),
                           st->dirty - st->finished + NEW_BAD_BLOCKS_MAX);
    return window_fit(w, WINDOW_WORK(WINDOW_PROGRAM) | WINDOW_WORK(WINDOW_LOOK),
                      blocks_of(f, s) - st->finished, now);
}

static int write_piece(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct flash_step *st = &f->steps[i];
    uint32_t per_block = f->plan->geometry.pages_per_block;
    worker_phase(f->worker, "program", flash_step_name(s));
    if (!splits(f))
        return write_whole(f, i, e);
    if (st->finished == blocks_of(f, s)) /* killed between the last piece's record and the step's */
        return steps_end(f, i, e);
    uint64_t n = fit_piece(f, s, st);
    if (n == 0)
        return NO_ROOM;
    uint64_t pages = MIN_OF(n * per_block, s->pages - st->finished * per_block);

    const struct journal_record intent = piece_of(s, JOURNAL_PIECE_INTENT, st->finished, n, pages),
                                done = piece_of(s, JOURNAL_PIECE_DONE, st->finished, n, pages);
    int r = steps_begin(f, i, &intent, e);
    if (r == 0 && st->dirty > st->finished)
        r = clean(f, s, st, e);
    if (r < 0)
        return r;
    st->dirty = st->finished + n;
    window_begun(window(f), n);
    r = send_piece(f, i, n, pages, e);
    if (r == 0)
        r = journal_append(&f->journal, &done, e);
    if (r < 0)
        return r;
    st->finished += n;
    st->dirty = 0;
    steps_recount(f);
    return st->finished == blocks_of(f, s) ? steps_end(f, i, e) : 0;
}

/* ---- verify ---- */

/*
 * What was written windows ago is not there any more. Once that is a reason to write it anew, with all that
 * lies behind it; twice it is a flash that does not keep what it is given.
 */
static int write_again(struct flash *f, size_t verify, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[verify];
    ssize_t write = steps_partner(f, verify, PLAN_WRITE);
    if (write < 0)
        return error_errno(e->kind);
    struct flash_step *st = &f->steps[write];
    st->done = false;
    st->finished = f->steps[verify].finished;
    st->dirty = blocks_of(f, s);
    if (st->again)
        return error_errno(e->kind);
    st->again = true;
    f->best = 0;
    worker_log(f->worker, "%s was written and is not there any more, it is written again: %s",
               flash_step_name(s), e->message);
    *e = (struct error){0};
    steps_recount(f);
    return 0;
}

static int verify_piece(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct flash_step *st = &f->steps[i];
    uint64_t all = blocks_of(f, s), left = all - st->finished, n = left;
    worker_phase(f->worker, "verify", flash_step_name(s));
    if (splits(f))
        n = window_fit(window(f), verifying(f), left, now_usec());
    if (n == 0 || !window_has_room(window(f), window_cost(window(f), verifying(f), n), now_usec()))
        return NO_ROOM;
    window_begun(window(f), splits(f) ? n : 1);
    usec_t start = now_usec();
    int r = n == all ? verify_image(f, s, e) : verify_blocks(f, s, st->finished, n, e);
    if (r < 0 && splits(f) && (e->kind == ERROR_DIGEST_MISMATCH || e->kind == ERROR_FIREHOSE_FAILED))
        return write_again(f, i, e);
    if (r < 0)
        return r;
    note_verified(f, n, start);
    st->finished += n;
    st->done = st->finished == all;
    f->resumed += st->done && f->session->appearances > 1;
    steps_recount(f);
    return 0;
}

/* SBL in one go: its write, what lies behind it, its verification, and time for the reset. */
static int write_sbl(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    const struct window *w = window(f);
    ssize_t verify = steps_partner(f, i, PLAN_VERIFY);
    uint64_t n = blocks_of(f, s);
    usec_t needed = window_cost(w, WINDOW_WORK(WINDOW_PROGRAM) | verifying(f), n) +
                    window_cost(w, WINDOW_WORK(WINDOW_LOOK), 2 * s->n_blocks);
    window_whole(window(f), flash_step_name(s));
    if (!window_has_room(w, needed, now_usec()))
        return NO_ROOM;
    window_begun(window(f), 1);
    usec_t start = now_usec();
    int r = steps_write(f, i, e);
    if (r == -ENODEV)
        window_cut_off(window(f), WINDOW_PROGRAM, n, now_usec() - start);
    if (r == 0 && verify >= 0)
        r = steps_verify(f, (size_t)verify, e);
    return r;
}

/* ---- all of it ---- */

static int do_step(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    switch (s->action) {
    case PLAN_ERASE:
        return erase_piece(f, i, e);
    case PLAN_WRITE:
        return s->sbl ? write_sbl(f, i, e) : write_piece(f, i, e);
    default:
        return verify_piece(f, i, e);
    }
}

/* The ERASE whose blocks are to be looked at now: SBL's at once, because that the modem comes back in 9008
 * hangs on it; the others when all images are there. -1: none. */
static ssize_t next_check(const struct flash *f, bool all_written)
{
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action == PLAN_ERASE && f->steps[i].done && f->steps[i].checked < s->n_blocks &&
            (s->sbl || all_written))
            return (ssize_t)i;
    }
    return -1;
}

static size_t next_step(const struct flash *f)
{
    size_t i = 0;
    while (i < f->plan->n_steps && (!steps_is_executed(&f->plan->steps[i]) || f->steps[i].done))
        i++;
    return i;
}

static int run_one(struct flash *f, bool *ret_over, struct error *e)
{
    size_t i = next_step(f);
    bool none = i == f->plan->n_steps,
         last = none || (f->plan->steps[i].sbl && f->plan->steps[i].action == PLAN_WRITE);
    ssize_t check = next_check(f, last);
    *ret_over = none && check < 0;
    if (*ret_over)
        return 0;
    f->sbl_in_hand = f->plan->steps[check >= 0 ? (size_t)check : i].sbl;
    return check >= 0 ? check_piece(f, (size_t)check, e) : do_step(f, i, e);
}

int pieces_run(struct flash *f, struct error *e)
{
    struct error own = {0};
    e = e ? e : &own;
    steps_recount(f);
    for (bool over = false; !over;) {
        int r = worker_check(f->worker, e);
        if (r == 0)
            r = run_one(f, &over, e);
        if (r == NO_ROOM)
            r = session_let_pass(f->session, e);
        if (r < 0)
            return r;
    }
    f->complete = true;
    return 0;
}
