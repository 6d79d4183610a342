/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A calibration back into the modem that it is of (reference/diag.md 4.4 and 7): judged, the present state
 * saved, offline, what differs written, synced, read back, reset, and looked at once more. A write that was
 * stopped half way is made again by the same call. One that works and holds all of it already is left alone.
 */

#include <errno.h>
#include <string.h>

#include "firmware/plan.h"
#include "transport/transport.h"
#include "worker/putting.h"

static const usec_t wait_device = 120 * USEC_PER_SEC;
static const usec_t boot_time = 180 * USEC_PER_SEC;

enum {
    PPM = 1000000,
    PPM_SAVED =
        700000, /* every item there is was read; those of the backup are to be written, and read back */
};

static void putting_done(struct putting *p)
{
    running_detach(&p->running);
    calibration_free(p->want);
    calibration_free(p->now);
    free(p->differs);
    free(p->refused);
}

static int explain(int r, struct error *e)
{
    if (e->kind == ERROR_NONE && r == -ECANCELED)
        return error_set(e, ERROR_CANCELLED, "cancelled before it was done");
    if (e->kind == ERROR_NONE && r == -EINTR)
        return error_set(e, ERROR_INTERRUPTED, "interrupted: the service is stopping");
    return r;
}

/* ---- what is there now ---- */

/* It has to be in the store before anything is written (diag.md 7). */
static int save_first(struct putting *p)
{
    struct worker *w = p->worker;
    enum backup_state state;
    if (w->fd_backup < 0)
        return error_set(p->e, ERROR_INVALID_ARGS, "a restore needs a file for the present state");
    worker_progress_part(w, PPM_SAVED);
    int r = calibrate_save(&p->running, &p->id, w->fd_backup, &p->now, &state, p->e);
    worker_progress_part(w, PPM);
    if (r == 0)
        r = calibrate_offer(&p->running, &w->fd_backup, "1", p->e);
    if (r < 0)
        return r;
    if (r == 0) {
        worker_report(w, "backup", "%s (xqcn, %s)", w->backup_id, backup_state_name(state));
        return 0;
    }
    if (p->allow & ALLOW_NO_BACKUP) {
        worker_log(w, "WARN: the present state is not saved (%s), and that was allowed", w->backup_refused);
        return 0;
    }
    return error_set(p->e, ERROR_NO_BACKUP,
                     "the present state cannot be saved: %s; nothing was written (--allow=NoBackup)",
                     w->backup_refused);
}

/* ---- what is to be written ---- */

/* By its own word. One that an earlier call left offline is brought back by a reset. */
static bool works(const struct running_identity *id)
{
    return id->oper_mode_known && !id->factory_test && !diag_oper_mode_is_offline(id->oper_mode);
}

/* ---- writing ---- */

static void step(struct putting *p)
{
    p->done++;
    worker_progress(p->worker, p->total ? p->done * PPM / p->total : PPM, 0, 0);
}

/* An item of another firmware, another number of SIMs, or one that the factory closed: left out by everybody
 * (diag.md 3). Anything else that a modem says instead of "done" is a failure. */
static bool is_not_here(unsigned status)
{
    return status == DIAG_NV_READ_ONLY || status == DIAG_NV_BAD_PARAMETER || status == DIAG_NV_NOT_DEFINED ||
           status == DIAG_NV_BAD_COMMAND;
}

static int write_item(struct putting *p, size_t i)
{
    const struct calibration_nv *n = &p->want->nv[i];
    unsigned status;
    int r = diag_nv_write(p->running.diag, n->item, n->context, n->data, &status, p->e);
    if (r == -EOPNOTSUPP && n->context > 0) { /* fewer subscriptions than the modem that it is of had */
        *p->e = (struct error){0};
        p->not_here++;
        putting_refuse(p, i, "NV item %u of SIM %u: this modem has no such SIM", n->item, n->context + 1u);
        return 0;
    }
    if (r < 0)
        return r;
    if (status == DIAG_NV_DONE) {
        p->written++;
        return 0;
    }
    ++*(is_not_here(status) ? &p->not_here : &p->failed);
    putting_refuse(p, i, "NV item %u of SIM %u: %s", n->item, n->context + 1u, diag_nv_status_name(status));
    return 0;
}

static int write_file(struct putting *p, size_t i)
{
    const struct calibration_file *f = &p->want->files[i];
    _cleanup_free_ uint8_t *want = NULL;
    int r = calibration_load(p->want, f, &want, p->e);
    if (r < 0)
        return r;
    r = diag_efs_write(p->running.diag, f->path, want ? want : (const uint8_t *)"", (size_t)f->size, p->e);
    if (r < 0)
        return r;
    if (r == 0) {
        p->written++;
        return 0;
    }
    ++*(r == DIAG_EFS_NO_ACCESS || r == DIAG_EFS_READ_ONLY ? &p->not_here : &p->failed);
    putting_refuse(p, p->want->n_nv + i, "%s: %s", f->path, diag_efs_error_name(r));
    return 0;
}

/* A modem without the command syncs at its reset. */
static int sync_now(struct putting *p)
{
    int r = diag_efs_sync(p->running.diag, p->e);
    if (r == -EOPNOTSUPP) {
        *p->e = (struct error){0};
        return 0;
    }
    return r;
}

static int write_all(struct putting *p)
{
    int r = 0;
    worker_phase(p->worker, "program", "NV items");
    for (size_t i = 0; i < p->want->n_nv && r == 0; i++, step(p))
        r = p->differs[i] ? write_item(p, i) : 0;
    if (r == 0)
        r = sync_now(p);
    if (r == 0)
        worker_phase(p->worker, "program", "EFS");
    /* In the order of the sections: provisioning, RF, NV items. */
    for (size_t i = 0; i < p->want->n_files && r == 0; i++, step(p))
        r = p->differs[p->want->n_nv + i] ? write_file(p, i) : 0;
    return r == 0 ? sync_now(p) : r;
}

/* ---- what is there then ---- */

static void tell_wrong(struct putting *p, const char *what)
{
    char line[CALIBRATION_PATH_MAX + 32];
    p->wrong++;
    snprintf(line, sizeof(line), "%s reads back as another one", what);
    worker_problem(p->worker, line);
}

static int check_item(struct putting *p, const struct calibration_nv *n)
{
    uint8_t data[DIAG_NV_SIZE];
    unsigned status;
    char what[48];
    if (putting_is_left_alone(p, n))
        return 0;
    int r = diag_nv_read(p->running.diag, n->item, n->context, data, &status, p->e);
    if (r < 0 || (status == DIAG_NV_DONE && memcmp(data, n->data, sizeof(data)) == 0))
        return r;
    snprintf(what, sizeof(what), "NV item %u of SIM %u", n->item, n->context + 1u);
    tell_wrong(p, what);
    return 0;
}

static int check_file(struct putting *p, const struct calibration_file *f)
{
    _cleanup_free_ uint8_t *want = NULL, *have = NULL;
    size_t size = 0;
    int r = calibration_load(p->want, f, &want, p->e);
    if (r == 0)
        r = diag_efs_read(p->running.diag, f->path, CALIBRATE_FILE_MAX, &have, &size, p->e);
    if (r < 0)
        return r;
    if (r > 0 || size != f->size || (size > 0 && memcmp(want, have, size) != 0))
        tell_wrong(p, f->path);
    return 0;
}

/* What was refused is told already. */
static int check_all(struct putting *p)
{
    int r = 0;
    worker_phase(p->worker, "verify", NULL);
    for (size_t i = 0; i < p->want->n_nv && r == 0; i++, step(p))
        r = p->refused[i] ? 0 : check_item(p, &p->want->nv[i]);
    for (size_t i = 0; i < p->want->n_files && r == 0; i++, step(p))
        r = p->refused[p->want->n_nv + i] ? 0 : check_file(p, &p->want->files[i]);
    return r;
}

/* ---- the boot ---- */

/* It is written and reset, and nobody could look at what became of it. */
static int explain_boot(int r, const struct error *own, const char **ret_result, struct error *e)
{
    static const char written[] = "everything is written and the modem was restarted";
    if (r == -ECANCELED || r == -EINTR)
        return error_set(e, r == -EINTR ? ERROR_INTERRUPTED : ERROR_CANCELLED, "%s; it was not waited for",
                         written);
    bool away = r == -ETIMEDOUT || r == -ENODEV;
    enum error_hint hint = away ? HINT_POWER_CYCLE : HINT_RETRY;
    if (away) {
        *ret_result = "not-returned";
        r = error_set(e, ERROR_TIMEOUT, "%s; it has not come back in normal mode, or does not answer there",
                      written);
    } else {
        *e = *own;
    }
    error_hint(e, hint);
    return r;
}

/* What came up in its place says that it is another one, by its IMEI: the one that it had, or was given back.
 */
static int check_unit(struct putting *p, const char *before, const char **ret_result)
{
    char own[DIAG_IMEI_DIGITS + 1] = "";
    if (*before)
        snprintf(own, sizeof(own), "%s", before);
    else if (p->own)
        (void)calibration_imei(p->want, own);
    if (!*own || !*p->id.imei || strcmp(own, p->id.imei) == 0)
        return 0;
    *ret_result = "not-returned";
    int r = error_set(p->e, ERROR_WRONG_UNIT,
                      "everything is written and the modem was restarted; what runs there now has another "
                      "IMEI and is another unit, so how it came up is not known");
    error_hint(p->e, HINT_RETRY);
    return r;
}

static int look_again(struct putting *p, const char **ret_result)
{
    struct worker *w = p->worker;
    const struct running_identity before = p->id;
    usec_t deadline = deadline_in(worker_option_u64(w, "boot-usec", boot_time));
    worker_phase(w, "wait-normal", NULL);
    for (;;) {
        struct error own = {0};
        int r = running_attach(&p->running, deadline, &own);
        if (r == 0)
            r = running_identify(&p->running, &p->id, &own);
        running_detach(&p->running);
        if (r == 0)
            break;
        if ((r == -ENODEV || r == -ETIMEDOUT) && now_usec() < deadline)
            continue;
        return explain_boot(r, &own, ret_result, p->e);
    }
    int r = check_unit(p, before.imei, ret_result);
    if (r < 0)
        return r;
    worker_report(w, "version", "%s", p->id.version);
    return 0;
}

/* What it all came to: the mode that it is in says more than any answer to a write. */
static int conclude(struct putting *p, const char **ret_result)
{
    struct worker *w = p->worker;
    bool offline = p->id.oper_mode_known && diag_oper_mode_is_offline(p->id.oper_mode);
    unsigned missing = p->failed + p->wrong;
    if (p->id.oper_mode_known)
        worker_report(w, "operating-mode", "%u (%s)", p->id.oper_mode, diag_oper_mode_name(p->id.oper_mode));
    else
        worker_report(w, "operating-mode", "not told by this firmware: whether it is a working one is open");
    if (p->id.factory_test || offline) {
        *ret_result = "no-calibration";
        return error_set(p->e, ERROR_CALIBRATION_AT_RISK,
                         "the backup is written and the modem is %s: of %zu items and files %u were "
                         "refused and %u read back as others, each in the report and the job's log",
                         offline
                             ? "offline (+CFUN: 7) after its restart: the backup does not fit its firmware"
                             : "still in factory test mode",
                         p->want->n_nv + p->want->n_files, p->not_here + p->failed, p->wrong);
    }
    if (missing == 0)
        return 0;
    int r = error_set(p->e, ERROR_DIAG_FAILED,
                      "%u of %zu items and files were not restored: each is in the report and the job's "
                      "log. The others are written, and the modem runs%s",
                      missing, p->want->n_nv + p->want->n_files,
                      p->id.oper_mode_known ? ", not in factory test mode" : "");
    error_hint(p->e, HINT_RETRY);
    return r;
}

/* ---- all of it ---- */

static int prepare(struct putting *p)
{
    struct worker *w = p->worker;
    const char *id = worker_option(w, "backup", "");
    worker_phase(w, "preparing", NULL);
    int r = plan_parse_allow(worker_option(w, "allow", ""), &p->allow, p->e);
    if (r == 0)
        r = calibration_open(w->fd_source, &p->want, &p->facts, p->e);
    if (r == 0 && *id && strcmp(id, p->facts.id) != 0)
        r = error_set(p->e, ERROR_BACKUP_DAMAGED,
                      "the store's file is not backup %s any more: its content is %s", id, p->facts.id);
    /* Of a damaged one the service has asked (BackupDamaged). */
    if (r == 0 && p->facts.state == BACKUP_BLANK && !p->facts.imported)
        r = error_set(
            p->e, ERROR_BACKUP_DAMAGED,
            "the backup was taken from a modem whose calibration was gone: it holds nothing to restore");
    return r;
}

static void report(struct putting *p)
{
    struct worker *w = p->worker;
    unsigned refused = p->not_here + p->failed;
    worker_report(w, "written", "%u", p->written);
    worker_report(w, "already-right", "%u", p->right);
    worker_report(w, "refused", refused ? "%u, %u of them not of this modem or closed by its maker" : "0",
                  refused, p->not_here);
}

static int put_back(struct putting *p)
{
    struct worker *w = p->worker;
    int r = diag_set_mode(p->running.diag, DIAG_MODE_OFFLINE, p->e);
    if (r == 0)
        r = diag_efs_hello(p->running.diag, p->e);
    if (r < 0)
        return r;
    /* From here a half of it may be written: the same call makes it whole. */
    worker_tell(w, KEY_DESTRUCTIVE, "1");
    worker_state(w, true, false);
    p->destructive = true;
    p->total = 2 * (p->want->n_nv + p->want->n_files);
    r = write_all(p);
    if (r == 0)
        r = check_all(p);
    report(p);
    if (r == 0)
        worker_report(w, "verified", p->wrong ? "no: %u read back as others" : "every item and file",
                      p->wrong);
    return r;
}

/* It works and has all of it: read twice a moment ago, and nothing else is to be known. */
static int leave_alone(struct putting *p, const char **ret_result)
{
    struct worker *w = p->worker;
    worker_log(
        w,
        "all that qdld writes is as the backup has it: nothing is written, and the modem is not restarted");
    report(p);
    worker_report(w, "verified", "every item and file");
    worker_report(w, "version", "%s", p->id.version);
    worker_report(w, "reset", "not needed");
    return conclude(p, ret_result);
}

/* From offline on; the modem is reset also when something went wrong, for that leads nowhere else (diag.md
 * 2.3). */
static int put_and_restart(struct putting *p)
{
    int r = put_back(p);
    if (!p->running.diag || r == -ENODEV || (r < 0 && !p->destructive))
        return r;
    struct error own = {0};
    int started = running_restart(&p->running, DIAG_MODE_RESET, &own);
    if (r < 0 || started == 0)
        return r;
    *p->e = own;
    return started;
}

int calibrate_restore(struct worker *w, struct job_outcome *o)
{
    _cleanup_(putting_done) struct putting p = {.worker = w, .running.worker = w, .e = &o->error};
    int r = prepare(&p);
    if (r < 0)
        return r;
    worker_ready(w);
    r = running_attach(&p.running, deadline_in(worker_option_u64(w, "wait-device-usec", wait_device)), p.e);
    if (r == 0)
        r = running_identify(&p.running, &p.id, p.e);
    if (r == 0)
        r = putting_judge(&p);
    if (r == 0)
        r = save_first(&p);
    if (r == 0)
        r = putting_compare_all(&p);
    if (r == 0 && p.n_differ == 0 && works(&p.id))
        return leave_alone(&p, &o->result);
    if (r == 0)
        r = put_and_restart(&p);
    worker_state(w, false, true);
    if (r == 0) {
        r = look_again(&p, &o->result);
        return r < 0 ? r : conclude(&p, &o->result);
    }
    if (p.destructive && o->error.hint == HINT_NONE)
        error_hint(&o->error, HINT_RETRY);
    if (p.destructive && o->error.kind == ERROR_MODEM_GONE)
        o->result = "interrupted";
    return explain(r, p.e);
}
