/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/steps-inner.h"

#include <errno.h>
#include <string.h>

#include "worker/erase.h"
#include "worker/image.h"
#include "worker/pieces.h"
#include "worker/verify.h"

/* ---- small questions ---- */

bool steps_is_executed(const struct plan_step *s)
{
    return s->action == PLAN_ERASE || s->action == PLAN_WRITE || s->action == PLAN_VERIFY;
}

static bool same_image(const struct plan_step *a, const struct plan_step *b)
{
    return a->file == b->file && a->first_block == b->first_block && a->n_blocks == b->n_blocks;
}

ssize_t steps_partner(const struct flash *f, size_t i, enum plan_action action)
{
    for (size_t k = 0; k < f->plan->n_steps; k++)
        if (f->plan->steps[k].action == action && same_image(&f->plan->steps[k], &f->plan->steps[i]))
            return (ssize_t)k;
    return -1;
}

/* Is there a WRITE inside this ERASE? With `unfinished`: one that is not done. */
static bool has_write(const struct flash *f, const struct plan_step *erase, bool unfinished)
{
    for (size_t i = 0; i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_WRITE && flash_contains(erase, &f->plan->steps[i]) &&
            (!unfinished || !f->steps[i].done))
            return true;
    return false;
}

size_t steps_count_done(const struct flash *f)
{
    size_t n = 0;
    for (size_t i = 0; f->steps && i < f->plan->n_steps; i++)
        n += f->steps[i].done;
    return n;
}

/* Of a step that is done in pieces: what of it is finished. */
static uint64_t share(const struct flash *f, size_t i, uint64_t all)
{
    const struct plan_step *s = &f->plan->steps[i];
    uint64_t pages = f->steps[i].finished * f->plan->geometry.pages_per_block,
             of = s->action == PLAN_ERASE ? s->n_blocks * f->plan->geometry.pages_per_block : s->pages;
    return f->steps[i].done ? all : of > 0 ? all * MIN_OF(pages, of) / of : 0;
}

void steps_recount(struct flash *f)
{
    f->work_done = f->work_total = f->bytes_written = 0;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        f->work_total += flash_work(f, s);
        f->work_done += share(f, i, flash_work(f, s));
        if (s->action == PLAN_WRITE)
            f->bytes_written += share(f, i, s->pages * f->plan->geometry.page_size);
    }
    flash_progress(f);
}

/* ---- journal ---- */

struct journal_record steps_record(const struct plan_step *s, enum journal_kind kind)
{
    return (struct journal_record){.kind = kind,
                                   .action = (uint8_t)s->action,
                                   .first_block = s->first_block,
                                   .n_blocks = s->n_blocks,
                                   .pages = s->pages};
}

void steps_from_journal(struct flash *f)
{
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        struct journal_record step = steps_record(s, JOURNAL_INTENT);
        const struct journal_record *last = steps_is_executed(s) ? journal_find(&f->journal, &step) : NULL;
        f->steps[i].touched = last != NULL;
        f->steps[i].done = last && last->kind == JOURNAL_DONE;
    }
    pieces_from_journal(f);
}

/* A flash that is continued does not save again what it saved. */
static int note_backup(struct flash *f, struct error *e)
{
    static const struct journal_record saved = {.kind = JOURNAL_BACKUP};
    if (f->protect.state != PROTECT_STORED || journal_has_backup(&f->journal))
        return 0;
    return journal_append(&f->journal, &saved, e);
}

int steps_begin(struct flash *f, size_t i, const struct journal_record *intent, struct error *e)
{
    struct worker *w = f->worker;
    worker_state(w, true, false);
    if (!f->journal.writable) {
        int r = journal_start(&f->journal, e);
        if (r == 0)
            r = erase_note_bad_before(f, e);
        if (r < 0)
            return r;
    }
    int r = note_backup(f, e);
    if (r == 0)
        r = journal_append(&f->journal, intent, e);
    if (r < 0)
        return r;
    if (!f->destructive)
        worker_tell(w, KEY_DESTRUCTIVE, "1");
    f->destructive = true;
    f->steps[i].touched = f->steps[i].begun = true;
    f->steps[i].done = false;
    return 0;
}

static int begin_change(struct flash *f, size_t i, struct error *e)
{
    const struct journal_record intent = steps_record(&f->plan->steps[i], JOURNAL_INTENT);
    f->steps[i].half = true;
    f->steps[i].finished = 0;
    steps_recount(f);
    return steps_begin(f, i, &intent, e);
}

int steps_end(struct flash *f, size_t i, struct error *e)
{
    const struct journal_record done = steps_record(&f->plan->steps[i], JOURNAL_DONE);
    f->steps[i].done = true;
    f->steps[i].half = false;
    int r = journal_append(&f->journal, &done, e);
    steps_recount(f);
    return r;
}

/* ---- the three kinds of steps ---- */

int steps_erase(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    worker_phase(f->worker, "erase", flash_step_name(s));
    /* Done again: what was begun here may have cost a block. What an earlier job began the gate has seen. */
    int r = f->steps[i].begun ? erase_read_map(f, s->first_block, s->n_blocks, e) : 0;
    if (r == 0)
        r = begin_change(f, i, e);
    if (r == 0)
        r = erase_range(f, s, e);
    if (r == 0)
        r = erase_probe_fill(f, s, e);
    /* What gets an image is looked at when the image is there. SBL at once: that the modem comes back in 9008
     * from now on hangs on it. */
    if (r == 0 && (s->sbl || !has_write(f, s, false)))
        r = erase_ensure(f, s, e);
    return r < 0 ? r : steps_end(f, i, e);
}

/* Blocks behind an image in its erased range are read before the image is verified: should one of them turn
   out to be the image's after all, the verification says so. */
static int check_behind(struct flash *f, const struct plan_step *write, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action == PLAN_ERASE && flash_contains(s, write) && !has_write(f, s, true))
            r = erase_ensure(f, s, e);
    }
    return r;
}

static int erase_again(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct error ignored = {0};
    f->steps[i].done = false;
    /* A journal that cannot be written is no reason to leave it: that the erase is to be done is true anyway.
     */
    (void)begin_change(f, i, &ignored);
    int r = erase_range(f, s, e);
    if (r == 0)
        r = erase_ensure(f, s, e);
    if (r == 0)
        (void)steps_end(f, i, &ignored);
    return r;
}

/* The first error stays what it is; what matters more now is said behind it. */
static void tell_sbl_is_there(const struct error *second, struct error *e)
{
    struct error first = *e;
    error_set(
        e, first.kind,
        "%s; and SBL, which is in the flash unverified, could not be erased again (%s): switched off and "
        "on, the modem may boot it instead of coming back in emergency download",
        first.message, second->message);
    error_words(e, first.words);
    error_hint(e, HINT_BRIDGE_USB_BOOT);
}

/*
 * An SBL that is not known to be right must not be there at all: without it the modem comes back in 9008
 * (flash rules 6 and 9). So whatever failed since its first page was sent, it is erased again. Only a modem
 * that went away cannot be asked; it is looked at when it is back. Returns the error that the job ends with.
 */
static int drop_sbl(struct flash *f, const struct plan_step *bad, int error, struct error *e)
{
    if (error == -ENODEV)
        return error;
    for (size_t i = 0; i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_WRITE && same_image(&f->plan->steps[i], bad))
            f->steps[i].done = false;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        struct error second = {0};
        if (s->action != PLAN_ERASE || !flash_contains(s, bad))
            continue;
        int r = erase_again(f, i, &second);
        if (r == -ENODEV) {
            *e = second;
            return r;
        }
        if (r < 0)
            tell_sbl_is_there(&second, e);
        else
            worker_log(f->worker, "%s is not known to be right and was erased again", flash_step_name(s));
    }
    steps_recount(f);
    return error;
}

static int write_image(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    struct firehose_range range = nand_range(&f->plan->geometry, s->first_block, s->n_blocks);
    struct image image = {
        .flash = f, .step = s, .work_before = f->work_done, .bytes_before = f->bytes_written};
    range.count = s->pages;

    int r = firehose_program(f->session->firehose, &range, image_source, image_progress, &image, e);
    char what[MIBIB_NAME_SIZE + 64];
    snprintf(what, sizeof(what), "writing %s", flash_step_name(s));
    flash_note_errors(f, what);
    if (r < 0)
        return r;
    f->steps[i].done = true; /* so that its blocks count as covered */
    r = check_behind(f, s, e);
    if (r < 0 && e->kind != ERROR_INTERRUPTED)
        return r;
    /* The image is there. Who continues looks behind it before anything else (steps_recheck()). */
    struct error late = {0};
    int q = steps_end(f, i, r < 0 ? &late : e);
    return r < 0 ? r : q;
}

int steps_write(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    worker_phase(f->worker, "program", flash_step_name(s));
    int r = begin_change(f, i, e);
    if (r < 0)
        return r;
    r = write_image(f, i, e);
    return r < 0 && s->sbl ? drop_sbl(f, s, r, e) : r;
}

int steps_verify(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    ssize_t write = steps_partner(f, i, PLAN_WRITE);
    worker_phase(f->worker, "verify", flash_step_name(s));
    int r = verify_image(f, s, e);
    if (r < 0) {
        /* What is not right is not done; the same call made again writes it anew. */
        if (write >= 0 && e->kind == ERROR_DIGEST_MISMATCH)
            f->steps[write].done = false;
        return s->sbl ? drop_sbl(f, s, r, e) : r;
    }
    f->steps[i].done = true;
    steps_recount(f);
    return 0;
}

int steps_run(struct flash *f, struct error *e)
{
    struct error own = {0};
    e = e ? e : &own;
    steps_recount(f);
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (!steps_is_executed(s) || f->steps[i].done)
            continue;
        /* Between an SBL and its verification nobody stops: it would stay there, not known to be right. */
        int r = s->sbl && s->action == PLAN_VERIFY ? 0 : worker_check(f->worker, e);
        if (r < 0)
            return r;
        f->sbl_in_hand = s->sbl;
        if (s->action == PLAN_ERASE)
            r = steps_erase(f, i, e);
        else
            r = s->action == PLAN_WRITE ? steps_write(f, i, e) : steps_verify(f, i, e);
        if (r < 0)
            return r;
    }
    f->complete = true;
    return 0;
}

/* ---- looking again ---- */

/* Before anything is judged erased: how does this programmer show it? Asked where nothing was written since
 * the erase. */
static int recheck_fill(struct flash *f, struct error *e)
{
    for (size_t i = 0; !f->fill_known && i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action != PLAN_ERASE || !f->steps[i].done)
            continue;
        bool written = false;
        for (size_t k = 0; k < f->plan->n_steps; k++)
            written |= f->plan->steps[k].action == PLAN_WRITE && f->steps[k].touched &&
                       flash_contains(s, &f->plan->steps[k]);
        if (written)
            continue;
        int r = erase_probe_fill(f, s, e);
        f->fill_known = false; /* it may not be erased any more: the next real erase is asked again */
        return r;
    }
    return 0;
}

static int recheck_write(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    ssize_t verify = steps_partner(f, i, PLAN_VERIFY);
    struct error own = {0};
    worker_phase(f->worker, "verify", flash_step_name(s));
    int r = verify_image(f, s, &own);
    /* A programmer that refuses to read it back (an ECC error, for one) does not have it either. */
    if (r < 0 && own.kind != ERROR_DIGEST_MISMATCH && own.kind != ERROR_FIREHOSE_FAILED) {
        if (e)
            *e = own;
        return r;
    }
    f->steps[i].done = r == 0;
    if (verify >= 0)
        f->steps[verify].done = r == 0;
    f->resumed += r == 0;
    if (r < 0)
        worker_log(f->worker, "%s was written and is not there any more, it is written again: %s",
                   flash_step_name(s), own.message);
    return 0;
}

static int recheck_erase(struct flash *f, size_t i, struct error *e)
{
    const struct plan_step *s = &f->plan->steps[i];
    for (size_t k = 0; k < f->plan->n_steps; k++)
        if (f->plan->steps[k].action == PLAN_WRITE && f->steps[k].touched && !f->steps[k].done &&
            flash_contains(s, &f->plan->steps[k])) {
            f->steps[i].done = false;
            return 0;
        }
    uint64_t block;
    int r = erase_check(f, s, &block, e);
    if (r < 0)
        return r;
    f->steps[i].done = r > 0;
    f->resumed += r > 0;
    return 0;
}

/* An erase that has to be done again takes the images in its range with it. */
static void undo_inside(struct flash *f, const struct plan_step *erase)
{
    for (size_t k = 0; k < f->plan->n_steps; k++) {
        const struct plan_step *s = &f->plan->steps[k];
        if ((s->action == PLAN_WRITE || s->action == PLAN_VERIFY) && flash_contains(erase, s))
            f->steps[k].done = false;
    }
}

/* With anything else missing, SBL has to go first again: a modem with SBL and without the rest is what rule 6
 * prevents. */
static void undo_sbl(struct flash *f)
{
    bool missing = false, touched = false;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (steps_is_executed(s) && !s->sbl)
            missing |= !f->steps[i].done;
        touched |= s->sbl && s->action == PLAN_WRITE && f->steps[i].touched;
    }
    for (size_t i = 0; missing && touched && i < f->plan->n_steps; i++)
        if (f->plan->steps[i].sbl)
            f->steps[i].done = false;
}

int steps_recheck(struct flash *f, struct error *e)
{
    worker_state(f->worker, true, false);
    f->sbl_in_hand = false;
    f->resumed = 0;
    int r = recheck_fill(f, e);
    for (size_t i = 0; r == 0 && i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_WRITE && f->steps[i].done)
            r = recheck_write(f, i, e);
    for (size_t i = 0; r == 0 && i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_ERASE && f->steps[i].done)
            r = recheck_erase(f, i, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_ERASE && !f->steps[i].done)
            undo_inside(f, &f->plan->steps[i]);
    undo_sbl(f);
    worker_log(f->worker, "%u finished steps were found as they should be", f->resumed);
    steps_recount(f);
    return 0;
}
