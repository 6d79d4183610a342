/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A backup back onto a modem, block by block. Everything that can refuse comes before the first erase, and
 * the present state is saved before it (flash rule 5). There is no journal: a block that holds what it shall
 * is left alone, so the same call made again goes on, whatever happened in between. A modem that ran its
 * firmware is restarted in the end and its boot is watched, as after a flash; any other one is held.
 */

#include <errno.h>
#include <string.h>

#include "firmware/package.h"
#include "worker/boot.h"
#include "worker/calibrate.h"
#include "worker/restore.h"

static void restore_done(struct restore *x)
{
    protect_done(&x->protect);
    recorded_done(&x->recorded);
    for (size_t i = 0; i < x->n_parts; i++) {
        free(x->parts[i].source);
        free(x->parts[i].seen);
    }
    free(x->parts);
    free(x->now);
    free(x->want);
    free(x->states);
    free(x->ours);
    journal_done(&x->journal);
    nand_map_done(&x->map);
    nand_map_done(&x->at_start);
    x->visits.session = session_free(x->visits.session);
    x->backup = backup_free(x->backup);
}

/* ---- pre-flight ---- */

static int on_progress(void *userdata, uint64_t done _unused_, uint64_t total _unused_)
{
    return worker_check(((struct restore *)userdata)->worker, NULL);
}

static int open_source(struct restore *x, struct error *e)
{
    const char *id = worker_option(x->worker, "backup", "");
    if (x->worker->fd_source < 0)
        return error_set(e, ERROR_INVALID_ARGS, "a restore needs a backup");
    int r = backup_open(x->worker->fd_source, &x->backup, e);
    if (r == 0 && *id && strcmp(id, x->backup->id) != 0)
        r = error_set(e, ERROR_BACKUP_DAMAGED,
                      "the store's file is not backup %s any more: its content is %s", id, x->backup->id);
    return r < 0 ? r : backup_check(x->backup, on_progress, x, e);
}

/* For what is put back, which is saved as it is now; the rest of it is known only with the modem. */
static int check_room(const struct restore *x, struct error *e)
{
    struct save save = {0};
    int r = 0;
    if (x->worker->fd_backup < 0 || x->allow & ALLOW_NO_BACKUP)
        return 0;
    for (size_t i = 0; r == 0 && i < x->recorded.tables.n; i++)
        r = save_add_always(&save, &x->recorded.tables.table[i], e);
    for (size_t i = 0; r == 0 && i < x->n_parts; i++) {
        const struct backup_part *p = x->parts[i].part;
        r = save_add(&save, p->name, p->first_block, p->n_blocks, e);
    }
    if (r == 0)
        r = protect_check_room(x->worker, &save, nand_block_size(&x->backup->geometry), e);
    save_done(&save);
    return r;
}

static int prepare(struct restore *x, struct error *e)
{
    worker_phase(x->worker, "preparing", NULL);
    int r = plan_parse_allow(worker_option(x->worker, "allow", ""), &x->allow, e);
    if (r == 0)
        r = open_source(x, e);
    if (r == 0)
        r = restore_choose(x, e);
    if (r == 0)
        r = recorded_take(x->worker, x->allow & ALLOW_ERASE_CALIBRATION, &x->recorded, e);
    if (r == 0)
        r = check_room(x, e);
    if (r < 0)
        return r;
    size_t block = nand_block_size(&x->backup->geometry);
    x->now = malloc(block);
    x->want = malloc(block);
    x->states = malloc(x->backup->geometry.pages_per_block);
    x->visits.session = session_new(x->worker);
    if (!x->now || !x->want || !x->states || !x->visits.session)
        return error_set(e, ERROR_FAILED, "out of memory");
    x->visits.session->hears_of_normal = true;
    restore_forget(x);
    return 0;
}

/* ---- one appearance ---- */

static int read_table(struct restore *x, struct error *e)
{
    struct session *s = x->visits.session;
    struct error own = {0};
    x->mibib_block = UINT64_MAX;
    x->table_known = false;
    if (s->geometry.blocks == 0)
        return 0; /* the judgement says so */
    int r = mibib_read(s->firehose, &s->geometry, &s->capabilities, NULL, &x->table, &x->mibib_block, &own);
    if (r < 0 && r != -ENOENT && own.kind != ERROR_ERASE_CALIBRATION) {
        *e = own;
        return r;
    }
    x->table_known = r == 0;
    if (r < 0)
        x->mibib_block = UINT64_MAX;
    if (own.kind == ERROR_ERASE_CALIBRATION)
        worker_log(x->worker, "WARN: %s", own.message);
    return 0;
}

static int place(struct restore *x, struct error *e)
{
    int r = restore_read_map(x, e);
    if (r == 0 && x->continues)
        restore_take_done(x);
    for (size_t i = 0; r == 0 && i < x->n_parts; i++)
        r = restore_target(x->backup, &x->map, &x->parts[i], e);
    return r;
}

/* ---- its journal ---- */

/* All of the key but the unit. */
static int make_key(struct restore *x, struct error *e)
{
    const struct backup *b = x->backup;
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    char options[64];
    snprintf(options, sizeof(options), "restore allow=%x\n", x->allow);
    snprintf(x->key.firmware, sizeof(x->key.firmware), "%s", b->id);
    if (!d)
        return error_set(e, ERROR_FAILED, "out of memory");
    digest_update(d, b->content_sha256, sizeof(b->content_sha256));
    for (size_t i = 0; i < x->n_parts; i++)
        digest_update(d, x->parts[i].part->name, strlen(x->parts[i].part->name) + 1);
    digest_final(d, x->key.plan);
    int r = digest_sha256(options, strlen(options), x->key.options);
    if (r == 0 && x->visits.programmer)
        r = digest_sha256(x->visits.programmer, x->visits.programmer_size, x->key.programmer);
    return r < 0 ? error_set(e, ERROR_FAILED, "out of memory") : 0;
}

/*
 * A restore that was begun has the state before it in the store; what lies in the modem now is half of each,
 * and is no state that anybody wants back.
 */
static int open_journal(struct restore *x, struct error *e)
{
    const char *why = NULL;
    if (x->worker->fd_journal < 0)
        return 0;
    x->key.unit = session_unit(x->visits.session);
    journal_done(&x->journal);
    int r = journal_load(&x->journal, x->worker->fd_journal, &x->key, &why, e);
    if (r < 0)
        return r;
    x->continues = !why && journal_has_backup(&x->journal);
    if (x->continues)
        worker_log(x->worker, "continuing an interrupted restore; the state before it is in the store");
    return 0;
}

/* The present state is in the store, or may be lost. */
static int begin_journal(struct restore *x, struct error *e)
{
    static const struct journal_record saved = {.kind = JOURNAL_BACKUP};
    if (x->worker->fd_journal < 0)
        return 0;
    int r = journal_start(&x->journal, e);
    if (r == 0 && x->protect.state == PROTECT_STORED)
        r = journal_append(&x->journal, &saved, e);
    return r;
}

static void end_journal(struct restore *x)
{
    static const struct journal_record finished = {.kind = JOURNAL_FINISHED};
    struct error ignored = {0};
    if (x->journal.writable && journal_append(&x->journal, &finished, &ignored) < 0)
        worker_log(x->worker, "WARN: the journal could not be closed: %s", ignored.message);
}

/* What is there now, of what is put back and of what rule 4 saves always. */
static int save_first(struct restore *x, struct error *e)
{
    _cleanup_free_ struct block_range *ranges = calloc(x->n_parts, sizeof(*ranges));
    if (!ranges)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (size_t i = 0; i < x->n_parts; i++)
        ranges[i] = (struct block_range){x->parts[i].part->first_block, x->parts[i].part->n_blocks};
    const struct protect_what what = {.modem = x->table_known ? &x->table : NULL,
                                      .mibib_block = x->mibib_block,
                                      .recorded = &x->recorded.tables,
                                      .whole = x->recorded.unreadable,
                                      .extra = ranges,
                                      .n_extra = x->n_parts,
                                      .rewritten = ranges,
                                      .n_rewritten = x->n_parts,
                                      .allow = x->allow};
    int r = protect_run(&x->protect, x->visits.session, &what, e);
    return r < 0 ? r : begin_journal(x, e);
}

/* After something was changed only the very same unit may be changed further. *ret: it is. */
static int check_again(struct restore *x, bool *ret, struct error *e)
{
    *ret = x->visits.session->recognized;
    if (!x->destructive || *ret)
        return 0;
    bool other;
    int r = restore_is_known_again(x, &other, e);
    *ret = r > 0;
    /* That the backup is another unit's may be wished; that a third one is written to is not. */
    if (r != 0 || (!other && x->allow & ALLOW_WRONG_UNIT))
        return MIN_OF(r, 0);
    if (other)
        return error_set(e, ERROR_WRONG_UNIT,
                         "the modem that came back is not the one that went away: its calibration is another "
                         "one; nothing was written to it");
    return error_set(
        e, ERROR_WRONG_UNIT,
        "the modem that came back does not tell whether it is the one that went away; nothing was written "
        "to it");
}

static int use_modem(struct restore *x, struct error *e)
{
    const struct session *s = x->visits.session;
    uint64_t wrong = 0;
    bool same;
    int r = check_again(x, &same, e);
    /* Out of our hands it may have been changed (flash rule 9). */
    if (r == 0 && !(x->begun && same && !s->ran_firmware && !window_was_long_absent(&s->window)))
        restore_forget(x);
    x->begun = true;
    if (r == 0)
        r = read_table(x, e);
    if (r == 0)
        r = x->destructive ? restore_judge_again(x, e) : restore_judge(x, e);
    if (r == 0 && !x->destructive)
        r = open_journal(x, e);
    if (r == 0)
        r = place(x, e);
    if (r == 0)
        r = restore_compare(x, &wrong, e);
    if (r < 0)
        return r;
    if (wrong == 0) {
        worker_log(x->worker, "everything is as the backup has it");
        x->complete = true;
        return 0;
    }
    if (!x->destructive)
        r = restore_remember(x, e);
    if (r == 0 && !x->destructive && !x->continues)
        r = save_first(x, e);
    return r < 0 ? r : restore_write(x, e);
}

static int visit(void *userdata, bool again _unused_, struct error *e)
{
    struct restore *x = userdata;
    struct worker *w = x->worker;
    bool critical = w->critical;
    w->critical = x->visits.session->quiet = true;
    int r = use_modem(x, e);
    w->critical = critical;
    if (x->visits.session)
        x->visits.session->quiet = false;
    return r;
}

static uint64_t progress(void *userdata)
{
    const struct restore *x = userdata;
    return x->steps_done + x->protect.save.blocks_done;
}

static void in_vain(void *userdata)
{
    save_smaller_pieces(&((struct restore *)userdata)->protect.save);
}

/* ---- the end ---- */

static void report(const struct restore *x)
{
    struct worker *w = x->worker;
    worker_report(w, "backup", "%s",
                  x->protect.result[0] ? x->protect.result
                  : x->continues       ? "taken by the restore that this one continues"
                                       : "no backup taken: nothing was changed");
    worker_report(w, "blocks-written", "%llu", (unsigned long long)x->written);
    worker_report(w, "blocks-already-right", "%llu", (unsigned long long)x->already_right);
    worker_report(w, "erased-pages-written", "%llu", (unsigned long long)x->interior);
    worker_report(w, "verified", "%s", x->complete ? "every page" : "not all");
}

/* Option reset: it ran its firmware when this restore was called first, and nobody wants it to stay. */
static bool is_restarted(const struct worker *w)
{
    return worker_option_u64(w, "reset", 0) == 1;
}

static void end(struct restore *x, int r, struct job_outcome *o)
{
    struct session *s = x->visits.session;
    worker_state(x->worker, false, true);
    if (!s)
        return;
    bool stays = r == 0 && !is_restarted(x->worker);
    if (!x->destructive && !stays) {
        visits_end(&x->visits, o);
        return;
    }
    if (r < 0 && o->error.hint == HINT_NONE)
        error_hint(&o->error, o->error.kind == ERROR_MODEM_GONE ? HINT_REPLUG : HINT_RETRY);
    if (r < 0 && o->error.kind == ERROR_MODEM_GONE)
        o->result = "interrupted";
    if (r < 0)
        worker_log(x->worker, "the same call made again continues");
    if (s->transport && s->firehose && s->programmer_runs && !x->worker->stop &&
        o->error.kind != ERROR_MODEM_GONE) {
        o->hold = s;
        x->visits.session = NULL;
    }
}

/* Flash rule 10. */
static int restart(struct restore *x, bool *ret_left, struct job_outcome *o)
{
    const struct boot boot = {
        .worker = x->worker, .session = x->visits.session, .done = "the backup is written and verified"};
    worker_state(x->worker, false, false);
    int r = x->worker->stop
                ? error_set(&o->error, ERROR_INTERRUPTED, "%s; the modem was not reset", boot.done)
                : boot_reset(&boot, &o->error);
    *ret_left = r == 0;
    return r < 0 ? r : boot_await(&boot, &o->result, &o->error);
}

int job_restore(struct worker *w, struct job_outcome *o)
{
    if (strcmp(worker_option(w, "kind", ""), "xqcn") == 0)
        return calibrate_restore(w, o);
    _cleanup_(restore_done) struct restore x = {.worker = w};
    _cleanup_(package_freep) struct package *package = NULL;
    _cleanup_free_ char *programmer = NULL;
    x.visits = (struct visits){.visit = visit, .progress = progress, .in_vain = in_vain, .userdata = &x};
    int r = prepare(&x, &o->error);
    if (r == 0)
        r = visits_load(w, &package, &programmer, &x.visits.programmer_size, &o->error);
    if (r < 0)
        return r;
    x.visits.programmer = programmer;
    r = make_key(&x, &o->error);
    if (r < 0)
        return r;
    worker_ready(w);
    r = visits_run(&x.visits, &o->error);
    if (r == 0)
        end_journal(&x);
    report(&x);
    bool left = false;
    /* One that an earlier half of this call left in 9008 has nothing to go back for but this. */
    if (r == 0 && is_restarted(w) && (x.destructive || !running_comes_first(w)))
        r = restart(&x, &left, o);
    if (!left)
        end(&x, r, o);
    return r;
}
