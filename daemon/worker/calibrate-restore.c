/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A calibration back into the modem that it is of (reference/diag.md 4.4 and 7): judged, the present state
 * saved, offline, what differs written, synced, read back, reset, and looked at once more. A write that was
 * stopped half way is made again by the same call.
 */

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "firmware/plan.h"
#include "firmware/version.h"
#include "transport/transport.h"
#include "worker/calibrate.h"

static const usec_t wait_device = 120 * USEC_PER_SEC;
static const usec_t boot_time = 180 * USEC_PER_SEC;

enum { PPM = 1000000 };

struct putting {
    struct worker *worker;
    struct running running;
    struct running_identity id;
    struct calibration *want, *now;
    struct calibration_facts facts;
    unsigned allow;
    bool own; /* the backup is known to be of this unit: an IMEI that it lost is given back */
    bool destructive;
    uint64_t done, total;
    /* not_here: what this modem does not have or lets nobody write. failed: what it should have taken. */
    unsigned written, right, not_here, failed, wrong;
    bool *refused; /* items, then files: those that are told already */
    struct error *e;
};

static void putting_done(struct putting *p)
{
    running_detach(&p->running);
    calibration_free(p->want);
    calibration_free(p->now);
    free(p->refused);
}

static int explain(int r, struct error *e)
{
    if (e->kind == ERROR_NONE && r == -ECANCELED)
        return error_set(e, ERROR_CANCELLED, "cancelled by the user");
    if (e->kind == ERROR_NONE && r == -EINTR)
        return error_set(e, ERROR_INTERRUPTED, "interrupted: the service is stopping");
    return r;
}

/* ---- may it ---- */

static int judge_version(struct putting *p)
{
    struct version ours, theirs;
    const char *from = p->want->version;
    int mine = version_parse(p->id.version, &ours), other = version_parse(from, &theirs);
    if (p->allow & ALLOW_WRONG_FIRMWARE)
        return 0;
    if (mine < 0 || other < 0)
        return error_set(
            p->e, ERROR_WRONG_FIRMWARE,
            "the backup is of a modem that ran \"%s\", this one runs \"%s\": whether both are of one "
            "model cannot be told (allow=WrongFirmware)",
            from, p->id.version);
    if (strcmp(ours.prefix, theirs.prefix) != 0)
        return error_set(p->e, ERROR_WRONG_FIRMWARE,
                         "the backup is of another model: %s, and this modem runs %s (allow=WrongFirmware)",
                         from, p->id.version);
    if (strcmp(ours.baseline, theirs.baseline) != 0)
        return error_set(
            p->e, ERROR_WRONG_FIRMWARE,
            "the backup was taken under baseline %s, and this modem runs %s (allow=WrongFirmware)",
            theirs.baseline, ours.baseline);
    return 0;
}

/* Own unit only; that the IMEI is another one nobody can lift. */
static int judge_unit(struct putting *p)
{
    char imei[DIAG_IMEI_DIGITS + 1] = "";
    bool has = calibration_imei(p->want, imei), bound = worker_option_u64(p->worker, "bound", 0) == 1;
    if (has && *p->id.imei) {
        p->own = strcmp(imei, p->id.imei) == 0;
        if (p->own)
            return 0;
        return error_set(
            p->e, ERROR_WRONG_UNIT,
            "the backup is of another unit: its IMEI is not this modem's. Calibration belongs to one "
            "unit, and qdld changes no IMEI");
    }
    if (has && bound) {
        p->own = true;
        return 0;
    }
    if (has && worker_option_u64(p->worker, "foreign", 0) == 1)
        return error_set(
            p->e, ERROR_WRONG_UNIT,
            "the backup is of another unit: its IMEI is not the one that this modem had before it lost "
            "its calibration, and another's is not its own");
    if (p->allow & ALLOW_WRONG_UNIT)
        return 0;
    if (!has)
        return error_set(
            p->e, ERROR_WRONG_UNIT,
            "the backup holds no IMEI: whose calibration it is cannot be told (allow=WrongUnit)");
    return error_set(
        p->e, ERROR_WRONG_UNIT,
        "this modem has no IMEI left, and nothing says for certain that the backup is its own. If it was in "
        "9008 here before, its chip serial tells: qdlctl enter-edl, qdlctl reset, and this "
        "again "
        "(or allow=WrongUnit; the IMEI is not written then)");
}

static int judge(struct putting *p)
{
    int r = judge_unit(p);
    return r < 0 ? r : judge_version(p);
}

/* ---- what is there now ---- */

/* It has to be in the store before anything is written (diag.md 7). */
static int save_first(struct putting *p)
{
    struct worker *w = p->worker;
    if (w->fd_backup < 0)
        return error_set(p->e, ERROR_INVALID_ARGS, "a restore needs a file for the present state");
    int r = calibrate_save(&p->running, &p->id, w->fd_backup, &p->now, p->e);
    if (r == 0)
        r = calibrate_offer(&p->running, &w->fd_backup, "1", p->e);
    if (r < 0)
        return r;
    if (r == 0) {
        worker_report(w, "backup", "%s (xqcn, %s)", w->backup_id,
                      backup_state_name(calibration_judge(p->now, p->id.factory_test)));
        return 0;
    }
    if (p->allow & ALLOW_NO_BACKUP) {
        worker_log(w, "WARN: the present state is not saved (%s), and that was allowed", w->backup_refused);
        return 0;
    }
    return error_set(p->e, ERROR_NO_BACKUP,
                     "the present state cannot be saved: %s; nothing was written (allow=NoBackup)",
                     w->backup_refused);
}

/* ---- writing ---- */

/* Each of them is a line of the log and of the report, so that none is hidden. */
static void _printf_(3, 4) refuse(struct putting *p, bool *told, const char *format, ...)
{
    char what[256], line[sizeof(what) + 32];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    *told = true;
    snprintf(line, sizeof(line), "not restored: %s", what);
    worker_problem(p->worker, line);
}

static void step(struct putting *p)
{
    p->done++;
    worker_progress(p->worker, p->total ? p->done * PPM / p->total : PPM, 0, 0);
}

static bool is_left_alone(const struct putting *p, const struct calibration_nv *n)
{
    /* Also that of the second SIM: where there is one it stays, whatever the backup says. */
    bool has = calibration_find_nv(p->now, n->item, n->context);
    return n->item == DIAG_NV_SPC_TTL || (n->item == DIAG_NV_IMEI && (has || !p->own));
}

/* An item of another firmware, another number of SIMs, or one that the factory closed: left out by everybody
 * (diag.md 3). Anything else that a modem says instead of "done" is a failure. */
static bool is_not_here(unsigned status)
{
    return status == DIAG_NV_READ_ONLY || status == DIAG_NV_BAD_PARAMETER || status == DIAG_NV_NOT_DEFINED ||
           status == DIAG_NV_BAD_COMMAND;
}

static int write_item(struct putting *p, const struct calibration_nv *n, bool *told)
{
    const struct calibration_nv *now = calibration_find_nv(p->now, n->item, n->context);
    unsigned status;
    if (now && memcmp(now->data, n->data, sizeof(n->data)) == 0) {
        p->right++;
        return 0;
    }
    if (is_left_alone(p, n)) {
        p->not_here++;
        refuse(p, told, "NV item %u of SIM %u: qdld does not write it", n->item, n->context + 1u);
        return 0;
    }
    int r = diag_nv_write(p->running.diag, n->item, n->context, n->data, &status, p->e);
    if (r == -EOPNOTSUPP && n->context > 0) { /* fewer subscriptions than the modem that it is of had */
        *p->e = (struct error){0};
        p->not_here++;
        refuse(p, told, "NV item %u of SIM %u: this modem has no such SIM", n->item, n->context + 1u);
        return 0;
    }
    if (r < 0)
        return r;
    if (status == DIAG_NV_DONE) {
        p->written++;
        return 0;
    }
    ++*(is_not_here(status) ? &p->not_here : &p->failed);
    refuse(p, told, "NV item %u of SIM %u: %s", n->item, n->context + 1u, diag_nv_status_name(status));
    return 0;
}

static int write_file(struct putting *p, const struct calibration_file *f, bool *told)
{
    _cleanup_free_ uint8_t *want = NULL, *have = NULL;
    const struct calibration_file *now = calibration_find_file(p->now, f->path);
    int r = calibration_load(p->want, f, &want, p->e);
    if (r == 0 && now && now->size == f->size)
        r = calibration_load(p->now, now, &have, p->e);
    if (r < 0)
        return r;
    if (now && now->size == f->size && (f->size == 0 || memcmp(want, have, (size_t)f->size) == 0)) {
        p->right++;
        return 0;
    }
    r = diag_efs_write(p->running.diag, f->path, want ? want : (const uint8_t *)"", (size_t)f->size, p->e);
    if (r < 0)
        return r;
    if (r == 0) {
        p->written++;
        return 0;
    }
    ++*(r == DIAG_EFS_NO_ACCESS || r == DIAG_EFS_READ_ONLY ? &p->not_here : &p->failed);
    refuse(p, told, "%s: %s", f->path, diag_efs_error_name(r));
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
        r = write_item(p, &p->want->nv[i], &p->refused[i]);
    if (r == 0)
        r = sync_now(p);
    if (r == 0)
        worker_phase(p->worker, "program", "EFS");
    /* In the order of the sections: provisioning, RF, NV items. */
    for (size_t i = 0; i < p->want->n_files && r == 0; i++, step(p))
        r = write_file(p, &p->want->files[i], &p->refused[p->want->n_nv + i]);
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
    if (is_left_alone(p, n))
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

static int look_again(struct putting *p, const char **ret_result)
{
    struct worker *w = p->worker;
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
    if (r == 0 && p->facts.state != BACKUP_COMPLETE && !p->facts.imported)
        r = error_set(
            p->e, ERROR_BACKUP_DAMAGED,
            "the backup was taken from a modem whose calibration was gone: it holds nothing to restore");
    return r;
}

static int put_back(struct putting *p)
{
    struct worker *w = p->worker;
    p->refused = calloc(p->want->n_nv + p->want->n_files + 1, sizeof(*p->refused));
    if (!p->refused)
        return error_set(p->e, ERROR_FAILED, "no memory for the calibration");
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
    worker_report(w, "written", "%u", p->written);
    worker_report(w, "already-right", "%u", p->right);
    unsigned refused = p->not_here + p->failed;
    worker_report(w, "refused", refused ? "%u, %u of them not of this modem or closed by its maker" : "0",
                  refused, p->not_here);
    if (r == 0)
        worker_report(w, "verified", p->wrong ? "no: %u read back as others" : "every item and file",
                      p->wrong);
    return r;
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
        r = judge(&p);
    if (r == 0)
        r = save_first(&p);
    if (r == 0)
        r = put_back(&p);
    /* Offline leads nowhere but through a reset (diag.md 2.3), also when something went wrong. */
    if (p.running.diag && r != -ENODEV && (r == 0 || p.destructive)) {
        struct error own = {0};
        int started = running_restart(&p.running, DIAG_MODE_RESET, &own);
        if (r == 0 && started < 0) {
            *p.e = own;
            r = started;
        }
    }
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
