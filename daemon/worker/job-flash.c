/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A package onto a modem in EDL, by the flash rules: everything that can refuse comes before the first erase
 * (gate 1 offline, gate 2 with the programmer up), everything that was begun is finished, over as many
 * appearances of the modem as it takes, or is left so that the same call finishes it.
 *
 * Cancel: until the first destructive command always; after it not while the modem is there (it is refused,
 * CANCELABLE=0), because half a flash helps nobody; while a lost modem is waited for again, because then
 * nothing is in flight and, SBL being erased, it stays in 9008. STOP ends the job between two steps.
 */

#include <errno.h>
#include <string.h>

#include "transport/transport.h"
#include "worker/boot.h"
#include "worker/calibrate.h"
#include "worker/erase.h"
#include "worker/gate.h"
#include "worker/pieces.h"
#include "worker/report.h"
#include "worker/steps.h"
#include "worker/visits.h"

static const usec_t wait_device = 600 * USEC_PER_SEC;

enum {
    OPTIONS_SIZE = 2048,
    PPM = 1000000,
    PPM_CALIBRATION = 400000, /* a minute or two, as the flash itself */
};

static void flash_done(struct flash *f)
{
    free(f->programmer);
    free(f->steps);
    nand_map_done(&f->map);
    nand_map_done(&f->at_gate);
    gate_facts_done(&f->facts);
    protect_done(&f->protect);
    recorded_done(&f->recorded);
    journal_done(&f->journal);
    f->session = session_free(f->session);
    f->plan = plan_free(f->plan);
    f->package = package_free(f->package);
}

/* ---- pre-flight: touches no modem ---- */

static int read_options(struct flash *f, struct error *e)
{
    struct worker *w = f->worker;
    int r = plan_parse_allow(worker_option(w, "allow", ""), &f->options.allow, e);
    if (r < 0)
        return r;
    const char *modem_version = worker_option(w, "modem-version", ""),
               *known = worker_option(w, "known-version", "");
    f->options.modem_version = *modem_version ? modem_version : NULL;
    f->options.known_version = *known ? known : NULL;
    f->options.known_confirmed = worker_option_u64(w, "known-confirmed", 0) == 1;
    f->options.reset = worker_option_u64(w, "reset", 1) != 0;
    f->options.recorded = &f->recorded.tables;
    return recorded_take(w, f->options.allow & ALLOW_ERASE_CALIBRATION, &f->recorded, e);
}

/* Without "backup" nothing can be saved before the first erase: that is refused at the gate, unless it is
 * allowed. */
static int check_descriptors(const struct worker *w, struct error *e)
{
    if (w->fd_package < 0)
        return error_set(e, ERROR_INVALID_ARGS, "a flash needs a package");
    if (w->fd_journal < 0)
        return error_set(e, ERROR_INVALID_ARGS, "a flash needs a journal");
    return 0;
}

static int load_programmer(struct flash *f, struct error *e)
{
    const struct package_file *file = f->package->programmer;
    if (!file)
        return error_set(e, ERROR_FIRMWARE_INVALID, "the package has no programmer");
    int r = package_load(f->package, file, PROGRAMMER_SIZE_MAX, &f->programmer, &f->programmer_size);
    return r < 0 ? error_set(e, ERROR_FIRMWARE_INVALID, "the programmer %s cannot be read: %s", file->path,
                             strerror(-r))
                 : 0;
}

/* All of the journal's key but the unit, which is met later. */
static int make_key(struct flash *f, struct error *e)
{
    char options[OPTIONS_SIZE];
    snprintf(options, sizeof(options), "allow=%x\nmodem-version=%s\nreset=%d\n", f->options.allow,
             f->options.modem_version ? f->options.modem_version : "", f->options.reset);
    memcpy(f->key.plan, f->plan->digest, SHA256_SIZE);
    snprintf(f->key.firmware, sizeof(f->key.firmware), "%s", f->package->id);
    int r = digest_sha256(f->programmer, f->programmer_size, f->key.programmer);
    if (r == 0)
        r = digest_sha256(options, strlen(options), f->key.options);
    return r < 0 ? error_set(e, ERROR_FAILED, "out of memory") : 0;
}

/* Flash rule 5, before anything is started. What is known without the modem: its own table may name more. */
static int check_room(const struct flash *f, struct error *e)
{
    struct save save = {0};
    if (f->worker->fd_backup < 0 || f->options.allow & ALLOW_NO_BACKUP)
        return 0;
    int r = protect_preview(f->plan, f->package, f->options.recorded, &save, e);
    if (r == 0)
        r = protect_check_room(f->worker, &save, nand_block_size(&f->plan->geometry), e);
    save_done(&save);
    return r == -ENODATA ? 0 : r;
}

/*
 * Was the journal's flash completed, and its modem told to boot? Then it may be booting now, or have booted
 * since: the service voids such a journal once the modem is in 9008 again after that. f->journal is that one
 * then.
 */
static bool boot_was_begun(struct flash *f)
{
    return f->options.reset && journal_was_completed(&f->journal, f->worker->fd_journal, &f->key);
}

static int prepare(struct flash *f, struct error *e)
{
    struct worker *w = f->worker;
    worker_phase(w, "preparing", NULL);
    int r = check_descriptors(w, e);
    if (r == 0)
        r = read_options(f, e);
    if (r == 0)
        r = package_open(w->fd_package, NULL, &f->package, e);
    if (r < 0)
        return r;
    const char *id = worker_option(w, "firmware", "");
    if (*id && strcmp(id, f->package->id) != 0)
        return error_set(e, ERROR_DIGEST_MISMATCH,
                         "the library's file is not firmware %s any more: its content is %s", id,
                         f->package->id);
    r = plan_new(f->package, &f->options, &f->plan, e);
    if (r == 0)
        r = check_room(f, e);
    if (r == 0)
        r = load_programmer(f, e);
    if (r == 0)
        r = make_key(f, e);
    if (r < 0)
        return r;
    f->may_be_booting = boot_was_begun(f);
    for (size_t i = 0; i < f->plan->n_notes; i++)
        worker_log(w, "note: %s", f->plan->notes[i]);
    if (!f->plan->sbl_last)
        worker_log(w, "WARN: no guarantee that an interrupted flash stays in 9008: %s", f->plan->sbl_note);
    f->session = session_new(w);
    return f->session ? 0 : error_set(e, ERROR_FAILED, "out of memory");
}

/* ---- one appearance of the modem ---- */

/* *ret: this job continues an earlier one. */
static int open_journal(struct flash *f, bool *ret, struct error *e)
{
    const char *why = NULL;
    f->key.unit = session_unit(f->session);
    journal_done(&f->journal);
    int r = journal_load(&f->journal, f->worker->fd_journal, &f->key, &why, e);
    if (r < 0)
        return r;
    *ret = !why;
    if (why)
        f->may_be_booting = false; /* not this unit's, and nothing that it boots by */
    if (why)
        worker_log(f->worker, "starting from the beginning: no journal to continue (%s)", why);
    else
        worker_log(f->worker, "continuing an interrupted flash: %zu records in its journal",
                   f->journal.n_records);
    return 0;
}

/* With a programmer up for the first time: everything that may still refuse. */
static int pass_gate(struct flash *f, bool resumed, struct error *e)
{
    bool critical = f->worker->critical;
    /* CANCEL and STOP wait for the command in hand; gate_storage() looks for them between its commands. */
    f->worker->critical = true;
    int r = gate_storage(f, resumed, e);
    f->worker->critical = critical;
    if (r < 0 || !resumed)
        return r;
    steps_from_journal(f);
    erase_recall_bad_before(f);
    f->destructive = true;
    worker_tell(f->worker, KEY_DESTRUCTIVE, "1");
    return erase_check_new_bad(f, e);
}

static int check_geometry_again(const struct flash *f, struct error *e)
{
    const struct nand_geometry *a = &f->plan->geometry, *b = &f->session->geometry;
    if (a->page_size == b->page_size && a->pages_per_block == b->pages_per_block && a->blocks == b->blocks)
        return 0;
    return error_set(
        e, ERROR_WRONG_UNIT,
        "the modem came back with another flash: %u/%u/%llu instead of %u/%u/%llu; nothing was written to it",
        b->page_size, b->pages_per_block, (unsigned long long)b->blocks, a->page_size, a->pages_per_block,
        (unsigned long long)a->blocks);
}

/* With a programmer up again: is it the modem that the gate let through? */
static int check_unit_again(struct flash *f, struct error *e)
{
    int r = check_geometry_again(f, e);
    if (r < 0 || f->session->recognized)
        return r;
    bool critical = f->worker->critical;
    f->worker->critical = true;
    r = gate_again(f, e);
    f->worker->critical = critical;
    return r;
}

/* In pieces where the modem is known to go away by itself, each step at once where it is not. */
static int work(struct flash *f, bool resumed, struct error *e)
{
    if (window_is_known(&f->session->window)) {
        if (resumed || f->destructive)
            pieces_resume(f, resumed);
        return pieces_run(f, e);
    }
    int r = resumed || f->destructive ? steps_recheck(f, e) : 0;
    return r < 0 ? r : steps_run(f, e);
}

/* Programmer up, gate, what is left to do. -ENODEV: the modem went away; -EAGAIN: it was sent back to Sahara.
 */
static int use_modem(struct flash *f, const struct detect_result *found, bool *replaced, struct error *e)
{
    struct session *s = f->session;
    /* Until something is changed every appearance is a first one: a unit that tells no serial may be another
     * one. */
    bool first = !f->steps || !f->destructive, resumed = false;
    int r = gate_chip(f, e);
    if (r == 0 && first)
        r = open_journal(f, &resumed, e);
    if (r < 0)
        return r;
    /* After a gate of ours, or with a journal that fits unit and programmer, the one that runs is this
     * package's. */
    bool ours = !first || resumed;
    const char *running = worker_option(f->worker, "running-programmer", "");
    if (f->session->appearances == 1 && *running)
        ours = strcmp(running, f->package->id) == 0;
    if (found->state == DETECT_FIREHOSE && !ours && !*replaced) {
        *replaced = true;
        r = session_replace_programmer(s, e);
        if (r != 0)
            return r < 0 ? r : -EAGAIN;
    }
    if (f->destructive)
        worker_state(f->worker, true, false);
    r = session_start_programmer(s, found, f->programmer, f->programmer_size, e);
    if (r < 0)
        return r;
    f->programmer_up = true;
    flash_listen(f);
    if (s->programmer_was_running && ours)
        s->capabilities = f->package->capabilities;
    r = first ? pass_gate(f, resumed, e) : check_unit_again(f, e);
    return r < 0 ? r : work(f, resumed, e);
}

/* ---- over all appearances ---- */

/* transport_waker: ends the wait when there is a device, or news of one. */
static int wake_on_either(void *userdata)
{
    struct worker *w = userdata;
    int r = worker_wake(w);
    if (w->fd_device >= 0 || w->appeared[0])
        return -EALREADY;
    return r == -ENODEV ? 0 : r; /* that it has gone is why we wait */
}

/*
 * A modem that was lost in the middle may come back in 9008, or, if SBL was there already (written and not
 * yet verified, or the package has none), run its firmware. The two requests together ask for both: the
 * service answers them in order, so one that is in 9008 now is handed over by the first, and whatever appears
 * later is told by the second. 1: it is back in 9008; 0: it runs its firmware.
 */
static int await_again(struct flash *f, usec_t deadline, struct error *e)
{
    struct worker *w = f->worker;
    worker_phase(w, "wait-device", NULL);
    w->appeared[0] = '\0';
    worker_tell(w, KEY_WAIT_DEVICE, "edl");
    worker_tell(w, KEY_WAIT_DEVICE, "normal");
    for (;;) {
        int r = 0;
        if (w->fd_device < 0 && !w->appeared[0])
            r = transport_wait(NULL, w->link, wake_on_either, w, deadline);
        int asked = worker_check(w, e);
        if (asked < 0)
            return asked;
        if (w->fd_device >= 0 || strcmp(w->appeared, "edl") == 0 || strcmp(w->appeared, "crash-dump") == 0)
            return 1;
        if (strcmp(w->appeared, "normal") == 0)
            return 0;
        if (r == -ETIMEDOUT)
            return error_set(e, ERROR_MODEM_GONE,
                             "the modem went away and did not come back within the time allowed");
        if (r < 0 && r != -EALREADY)
            return error_set(e, ERROR_FAILED, "waiting for the modem: %s", strerror(-r));
        w->appeared[0] = '\0';
    }
}

/* Not a success, whatever it looks like: what was not verified is not known to be right. Its journal is void.
 */
static int booted_meanwhile(struct flash *f, struct error *e)
{
    static const struct journal_record finished = {.kind = JOURNAL_FINISHED};
    f->booted = true;
    int r = journal_append(&f->journal, &finished, e);
    if (r < 0)
        return r;
    r = error_set(e, ERROR_MODEM_GONE,
                  "the modem went away in the middle of the flash and runs its firmware now, but not "
                  "everything was verified: flash it again");
    error_hint(e, HINT_RETRY);
    return r;
}

/* The job that this one continues had verified everything and told the modem to reset. */
static int booted_since(struct flash *f)
{
    f->booted = f->complete = true;
    worker_log(f->worker, "everything had been written and verified by the job that this one continues; the "
                          "modem was on its way to normal mode and is there");
    return -EALREADY;
}

/* -EALREADY: there is nothing left to do for this modem. */
static int attach(struct flash *f, struct detect_result *found, struct error *e)
{
    usec_t deadline = deadline_in(worker_option_u64(f->worker, "wait-device-usec", wait_device));
    bool first = f->session->appearances == 0;
    worker_state(f->worker, false, true);
    if (first ? f->may_be_booting : f->destructive) {
        int r = await_again(f, deadline, e);
        if (r <= 0)
            return r < 0 ? r : first ? booted_since(f) : booted_meanwhile(f, e);
    }
    /* It may be there only to go again, and boot: seen in 9008 once is not the last word about it. */
    bool begun = !f->destructive && f->may_be_booting;
    f->session->hears_at_once = begun;
    f->session->hears_of_normal = f->session->normal_will_do = f->destructive || begun;
    int r = session_attach(f->session, deadline, true, found, e);
    if (r == -EALREADY)
        return begun ? booted_since(f) : booted_meanwhile(f, e);
    return r;
}

/* All that grows when an appearance was of use. */
static uint64_t progress(const struct flash *f)
{
    return pieces_finished(f) + steps_count_done(f) + f->protect.save.blocks_done + f->looked_at;
}

static void tell_window(struct flash *f)
{
    const struct window *w = &f->session->window;
    usec_t length = window_length(w);
    if (length == 0 || length == f->window_told)
        return;
    f->window_told = length;
    worker_log(f->worker,
               "the modem is expected to go away by itself %.1f s after it appeared: the flash goes on in "
               "pieces that fit",
               (double)length / USEC_PER_SEC);
}

static int flash_modem(struct flash *f, struct error *e)
{
    bool replaced = false;
    for (unsigned idle = 0;;) {
        struct detect_result found;
        int r = attach(f, &found, e);
        if (r < 0)
            return r == -EALREADY ? 0 : r;
        tell_window(f);
        r = use_modem(f, &found, &replaced, e);
        if (r != -ENODEV && r != -EAGAIN)
            return r;
        f->programmer_up = false;
        if (r == -EAGAIN)
            continue;
        session_lost(f->session);
        worker_log(f->worker, "WARN: the modem went away (%s)", e->message);
        /* What is done again in every window, and is lost with it, is no progress. */
        bool useful = progress(f) > f->best;
        f->best = MAX_OF(f->best, progress(f));
        if (!useful)
            save_smaller_pieces(&f->protect.save);
        r = visits_judge(f->session, useful, IDLE_APPEARANCES_MAX, &idle, e);
        if (r < 0)
            return r;
        *e = (struct error){0};
    }
}

/* ---- the end ---- */

static bool can_hold(const struct flash *f)
{
    return f->programmer_up && f->session && f->session->transport && f->session->firehose &&
           !f->worker->stop;
}

static void hold(struct flash *f, struct job_outcome *o)
{
    if (!can_hold(f))
        return;
    flash_listen_no_more(f);
    o->hold = steal_ptr(f->session);
}

static int finish(struct flash *f, struct job_outcome *o)
{
    static const struct journal_record finished = {.kind = JOURNAL_FINISHED},
                                       complete = {.kind = JOURNAL_COMPLETE};
    const struct boot boot = {.worker = f->worker,
                              .session = f->session,
                              .done = "the flash is complete and verified",
                              .version = f->package->version_known ? f->package->version.name : NULL};
    struct error ignored = {0};
    if (f->booted)
        return boot_confirm(&boot, &o->result, &o->error);
    /* Behind the reset it is not seen in 9008 again: who continues from here must know that. */
    if (f->options.reset && f->journal.writable && journal_append(&f->journal, &complete, &ignored) < 0)
        worker_log(f->worker, "WARN: the journal could not be written: %s", ignored.message);
    int r = 0;
    if (f->options.reset)
        worker_tell(f->worker, KEY_COMPLETE, "1");
    /* Who does not hear that would take the modem that boots for one that somebody has brought back. */
    if (f->options.reset && f->worker->stop)
        r = error_set(&o->error, ERROR_INTERRUPTED,
                      "the flash is complete and verified; the modem was not reset");
    if (f->options.reset && r == 0)
        r = boot_reset(&boot, &o->error);
    if (r < 0) {
        worker_state(f->worker, false, true);
        hold(f, o);
        return r;
    }
    /* A modem that boots changes its flash: nothing is continued from here. */
    if (f->journal.writable && journal_append(&f->journal, &finished, &ignored) < 0)
        worker_log(f->worker, "WARN: the journal could not be closed: %s", ignored.message);
    if (f->options.reset) {
        f->programmer_up = false;
        return boot_await(&boot, &o->result, &o->error);
    }
    worker_state(f->worker, false, true);
    hold(f, o);
    return 0;
}

static enum error_hint default_hint(enum error_kind kind)
{
    switch (kind) {
    case ERROR_MODEM_GONE:
    case ERROR_WRONG_UNIT:
    case ERROR_CANCELLED:
        return HINT_REPLUG;
    case ERROR_TIMEOUT:
        return HINT_POWER_CYCLE;
    default:
        return HINT_RETRY;
    }
}

/* Flash rule 11. */
static void give_up(struct flash *f, struct job_outcome *o)
{
    struct error *e = &o->error;
    worker_state(f->worker, false, true);
    /* Another modem than the job's is nothing that we may reset. */
    bool ours = e->kind != ERROR_WRONG_UNIT;
    if (ours && !f->destructive && worker_option_u64(f->worker, "came-from-normal", 0) == 1 &&
        boot_untouched(f->worker, f->session) == 0)
        return;
    if (e->hint == HINT_NONE &&
        (f->destructive || !ours || e->kind == ERROR_MODEM_GONE || e->kind == ERROR_TIMEOUT))
        error_hint(e, default_hint(e->kind));
    if (f->destructive && e->kind == ERROR_MODEM_GONE)
        o->result = "interrupted";
    if (f->destructive && !f->booted)
        worker_log(f->worker, "%sthe same call made again continues",
                   can_hold(f) ? "the modem stays in 9008 with its programmer up; " : "");
    if (e->kind != ERROR_MODEM_GONE)
        hold(f, o);
}

/* ---- from normal mode ---- */

/*
 * While the firmware runs it can be asked for its calibration item by item. What comes of it is reported; one
 * that cannot be had so is saved from the flash before the first erase all the same.
 */
static int keep_calibration(struct flash *f, struct running *r, struct error *e)
{
    struct worker *w = f->worker;
    struct error own = {0};
    if (w->fd_calibration < 0)
        return 0;
    worker_progress_part(w, PPM_CALIBRATION);
    int q = calibrate_save(r, &f->told, w->fd_calibration, NULL, NULL, &own);
    if (q == 0)
        q = calibrate_offer(r, &w->fd_calibration, "calibration", &own);
    worker_progress_part(w, PPM);
    if (q == -ENODEV || own.kind == ERROR_CANCELLED || own.kind == ERROR_INTERRUPTED) {
        *e = own;
        return q;
    }
    if (q == 0)
        worker_report(w, "calibration", "%s (xqcn)", w->backup_id);
    else
        worker_log(w, "WARN: the calibration is not saved as XQCN: %s",
                   q > 0 ? w->backup_refused : own.message);
    w->backup_id[0] = w->backup_refused[0] = '\0';
    return 0;
}

/*
 * It tells what it runs: that counts more than what was remembered, and gate 1 is asked again with it. Only a
 * package that passes brings the modem to 9008.
 */
static int on_running(void *userdata, struct running *r, const struct running_identity *id, struct error *e)
{
    struct flash *f = userdata;
    struct plan *plan = NULL;
    f->told = *id;
    f->options.known_version = f->told.version;
    f->options.known_confirmed = true;
    int q = plan_new(f->package, &f->options, &plan, e);
    if (q < 0)
        return q;
    plan_free(f->plan);
    f->plan = plan;
    q = make_key(f, e);
    if (q == 0)
        q = keep_calibration(f, r, e);
    return q < 0 ? q : worker_check(r->worker, e);
}

int job_flash(struct worker *w, struct job_outcome *o)
{
    _cleanup_(flash_done) struct flash f = {.worker = w,
                                            .vendor = "not asked: this flash continues one that was judged"};
    int r = prepare(&f, &o->error);
    if (r < 0)
        return r;
    worker_ready(w);
    if (running_comes_first(w) && f.may_be_booting)
        r = booted_since(&f) == -EALREADY ? 0 : -EIO;
    else if (running_comes_first(w))
        r = running_take(w, on_running, &f, &o->error);
    if (r == 0 && !f.booted)
        r = flash_modem(&f, &o->error);
    report_flash(&f);
    if (r < 0)
        give_up(&f, o);
    else
        r = finish(&f, o);
    return r;
}
