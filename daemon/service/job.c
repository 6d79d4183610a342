/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/job.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/errors.h"
#include "service/firmware.h"
#include "service/guard.h"
#include "service/log-about.h"
#include "service/modem.h"

#define JOB_PREFIX MANAGER_PATH "/job"

static const char *const state_names[] = {
    [JOB_QUEUED] = "queued",         [JOB_PREPARING] = "preparing", [JOB_RUNNING] = "running",
    [JOB_CANCELLING] = "cancelling", [JOB_FINISHED] = "finished",   [JOB_STANDBY] = "preparing",
};

/* ---- new ---- */

bool job_finished(const struct job *j)
{
    return j->job_state == JOB_FINISHED;
}

struct job *job_alloc(struct manager *m, enum job_kind kind, uid_t owner)
{
    struct job *j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    *j = (struct job){
        .manager = m,
        .job_kind = kind,
        .owner_uid = owner,
        .created_time = realtime_usec(),
        .safe_to_unplug = 1,
        .kind = strdup(job_kind_name(kind)),
        .fd_archive = -1,
        .fd_store = -1,
        .fd_calibration = -1,
        .fd_log = -1,
        .fd_journal = -1,
        .report = record_new(),
        .firmware_facts = record_new(),
        .backup_facts = record_new(),
    };
    struct job **end = &m->jobs;
    while (*end)
        end = &(*end)->next;
    *end = j;
    return j->kind && j->report && j->firmware_facts && j->backup_facts ? j : job_free(j);
}

int job_new(struct manager *m, enum job_kind kind, uid_t owner, struct job **ret, sd_bus_error *error)
{
    return job_new_waiting(m, kind, owner, NULL, ret, error);
}

int job_new_waiting(struct manager *m, enum job_kind kind, uid_t owner, bool *wait, struct job **ret,
                    sd_bus_error *error)
{
    int r = manager_check_running(m, error);
    if (r == 0)
        r = job_check_limits(m, kind, owner, wait, error);
    if (r < 0)
        return r;
    struct job *j = job_alloc(m, kind, owner);
    if (!j)
        return -ENOMEM;
    *ret = j;
    return 0;
}

/* ---- state ---- */

const char *job_title(const struct job *j)
{
    static char title[48];
    if (j->id)
        snprintf(title, sizeof(title), "%s %llu", j->kind, (unsigned long long)j->id);
    else
        snprintf(title, sizeof(title), "%s (in its pre-flight)", j->kind);
    return title;
}

void job_set_state(struct job *j, enum job_state state)
{
    j->job_state = state;
    object_set_string(&j->object, "State", &j->state, state_names[state]);
    bool running = state == JOB_RUNNING || state == JOB_PREPARING || state == JOB_QUEUED;
    object_set_bool(&j->object, "Cancelable", &j->cancelable, running);
    if (state == JOB_RUNNING && !j->start_time)
        object_set_u64(&j->object, "StartTime", &j->start_time, realtime_usec());
}

void job_signal_numbers(struct job *j)
{
    static const char *const numbers[] = {"Progress", "BytesDone", "BytesTotal", "Rate", "ExpectedEndTime"};
    j->numbers_timer = sd_event_source_disable_unref(j->numbers_timer);
    j->numbers_signalled = now_usec();
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        object_changed(&j->object, numbers[i]);
    object_flush(&j->object);
    manager_update(j->manager);
}

static int on_numbers_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    job_signal_numbers(userdata);
    return 0;
}

void job_numbers_changed(struct job *j)
{
    if (!j->id || j->numbers_timer)
        return;
    usec_t next = j->numbers_signalled + PROGRESS_SIGNAL_USEC;
    if (now_usec() >= next || sd_event_add_time(j->manager->event, &j->numbers_timer, CLOCK_MONOTONIC, next,
                                                0, on_numbers_time, j) < 0)
        job_signal_numbers(j);
}

static bool flushes_too_often(struct job *j)
{
    usec_t now = now_usec();
    if (now - j->flushes_since > USEC_PER_SEC) {
        j->flushes_since = now;
        j->flushes = 0;
    }
    return ++j->flushes > JOB_FLUSHES_MAX;
}

void job_flush(struct job *j)
{
    if (j->object.n_changed == 0)
        return;
    /* Detail may change with every file of a package: alone it goes with the numbers. */
    bool detail = j->object.n_changed == 1 && strcmp(j->object.changed[0], "Detail") == 0;
    if (detail || flushes_too_often(j))
        job_numbers_changed(j);
    else
        object_flush(&j->object);
    manager_update(j->manager);
}

/* ---- starting ---- */

int job_init_object(struct job *j)
{
    char id[24];
    snprintf(id, sizeof(id), "%llu", (unsigned long long)j->id);
    return object_init(&j->object, j->manager->bus, JOB_PREFIX, id, JOB_INTERFACE, job_vtable, j);
}

static int publish(struct job *j)
{
    int r = job_init_object(j);
    return r < 0 ? r : object_add(&j->object);
}

static int on_ready_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct job *j = userdata;
    error_set(&j->own_error, ERROR_TIMEOUT,
              "The pre-flight of this %s was not over after %llu s; its worker was stopped.", j->kind,
              (unsigned long long)(j->manager->config.ready_timeout / USEC_PER_SEC));
    process_stop(j->process);
    return 0;
}

static int on_cancel_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct job *j = userdata;
    error_set(&j->own_error, ERROR_TIMEOUT,
              "The worker of this %s did not come to an end within %d s after Cancel.", j->kind,
              JOB_CANCEL_USEC / 1000000);
    process_stop(j->process);
    return 0;
}

/* Nothing was changed by it but a file of ours: to kill it is to cancel it. */
static int on_leave_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct job *j = userdata;
    error_set(&j->own_error, ERROR_CANCELLED, "Cancelled; its worker did not answer and was killed.");
    process_kill(j->process, NULL);
    return 0;
}

void job_limit_cancel(struct job *j)
{
    bool modem = job_kind_has_modem(j->job_kind);
    job_arm_timer(j, modem ? JOB_CANCEL_USEC : JOB_LEAVE_USEC, modem ? on_cancel_time : on_leave_time);
}

void job_arm_timer(struct job *j, usec_t usec, sd_event_time_handler_t handler)
{
    j->timer = sd_event_source_disable_unref(j->timer);
    if (sd_event_add_time_relative(j->manager->event, &j->timer, CLOCK_MONOTONIC, usec, 0, handler, j) < 0)
        process_stop(j->process);
}

static int start(struct job *j, enum job_state state, struct error *e)
{
    int r = job_start_worker(j, e);
    if (r < 0)
        return r;
    j->stage = STAGE_PREPARING;
    j->since = j->manager->n_appearances;
    job_set_state(j, state);
    job_arm_timer(j, j->manager->config.ready_timeout, on_ready_time);
    manager_update(j->manager);
    return 0;
}

static int enqueue(struct job *j, sd_bus_message *call, sd_bus_error *error)
{
    job_set_state(j, JOB_QUEUED);
    int r = job_number(j);
    if (r >= 0)
        r = publish(j);
    if (r >= 0) {
        job_save(j);
        manager_update(j->manager);
        return sd_bus_reply_method_return(call, "o", j->object.path);
    }
    job_free(j);
    return errors_set(error, ERROR_NO_SPACE, "The job cannot be recorded: %s.", strerror(-r));
}

/* A calibration that is saved unasked takes minutes: it is begun again when the modem appears the next time.
 */
bool job_preempt(struct job *own)
{
    bool saves =
        own->job_kind == JOB_BACKUP && own->kind_of_backup && strcmp(own->kind_of_backup, "xqcn") == 0;
    if (own->owner_uid != RESCUE_UID ||
        (own->job_kind != JOB_CATCH && own->job_kind != JOB_IDENTIFY && !saves))
        return false;
    if (own->modem)
        modem_break_silence(own->modem);
    if (!own->preempted && own->process)
        process_tell(own->process, KEY_CANCEL);
    own->preempted = true;
    return true;
}

int job_begin(struct job *j, sd_bus_message *call, bool queue, sd_bus_error *error)
{
    struct modem *m = job_kind_has_modem(j->job_kind) ? j->modem : NULL;
    int allowed = m ? guard_check(m, error) : 0;
    if (allowed < 0) {
        job_free(j);
        return allowed;
    }
    bool soon = m && m->job && job_preempt(m->job);
    if (queue && (!m || m->job))
        return enqueue(j, call, error);
    if (soon) {
        /* Its turn is next, and comes in a moment: the call waits for its pre-flight as always. */
        job_set_state(j, JOB_QUEUED);
        j->call = sd_bus_message_ref(call);
        return 1;
    }
    if (m && m->job) {
        int r = errors_set(error, ERROR_MODEM_BUSY,
                           "%s is busy with %s; with --queue (queue=true) this waits for its end.",
                           modem_title(m), job_title(m->job));
        job_free(j);
        return r;
    }
    if (m)
        modem_set_job(m, j);
    j->call = sd_bus_message_ref(call);

    struct error e = {0};
    if (start(j, JOB_PREPARING, &e) < 0) {
        int r = errors_to_bus(&e, error);
        job_free(j);
        return r;
    }
    return 1;
}

int job_begin_own(struct job *j, bool standby, struct error *e)
{
    if (!standby)
        modem_set_job(j->modem, j);
    int r = start(j, standby ? JOB_STANDBY : JOB_PREPARING, e);
    if (r < 0)
        job_free(j);
    return r;
}

static void log_start(const struct job *j)
{
    char line[LOG_TEXT_MAX], owner[32] = "of the service itself";
    if (j->owner_uid != RESCUE_UID)
        snprintf(owner, sizeof(owner), "of user %u", j->owner_uid);
    snprintf(line, sizeof(line), "%s started%s%s.", owner, j->modem ? " on " : "",
             j->modem ? modem_title(j->modem) : "");
    log_about_job(j, LOG_JOB_STARTED, LOG_INFO, line);
}

void job_ready(struct job *j)
{
    j->stage = STAGE_RUNNING;
    if (j->job_kind == JOB_IDENTITY) {
        job_arm_timer(j, JOB_IDENTITY_USEC, on_ready_time);
        return;
    }
    if (j->job_kind == JOB_PLAN)
        return; /* the limit of the pre-flight holds for the whole plan */
    j->timer = sd_event_source_disable_unref(j->timer);
    if (j->job_state != JOB_STANDBY)
        job_publish(j);
}

void job_publish(struct job *j)
{
    job_watch_stall(j);
    if (j->job_state == JOB_CANCELLING)
        job_limit_cancel(j);
    else
        job_set_state(j, JOB_RUNNING);

    int r = j->id ? 0 : job_number(j);
    if (r >= 0)
        r = job_name_journal(j);
    if (r >= 0 && !j->object.slot)
        r = publish(j);
    if (r < 0) {
        error_set(&j->own_error, ERROR_NO_SPACE, "The job cannot be recorded: %s.", strerror(-r));
        process_kill(j->process, NULL);
        return;
    }
    if (j->job_kind == JOB_BACKUP)
        job_void_backups(j->manager, j->modem_path);
    job_save(j);
    log_start(j);
    if (j->call)
        sd_bus_reply_method_return(j->call, "o", j->object.path);
    j->call = sd_bus_message_unref(j->call);
    if (job_kind_has_modem(j->job_kind) && j->modem) {
        object_changed(&j->modem->object, "Job");
        modem_update_interrupted(j->modem);
        object_flush(&j->modem->object);
    }
    manager_update(j->manager);
}

/* ---- cancelling, stopping ---- */

int job_cancel(struct job *j, sd_bus_error *error)
{
    if (job_finished(j))
        return errors_set(error, ERROR_NOT_CANCELABLE, "Job %s is finished.", job_title(j));
    if (j->job_state == JOB_CANCELLING)
        return 0;
    if (!j->cancelable)
        return errors_set(error, ERROR_NOT_CANCELABLE,
                          "Job %s cannot be left in phase %s; it can a little later.", job_title(j),
                          j->phase);
    if (j->job_state == JOB_QUEUED) {
        error_set(&j->error, ERROR_CANCELLED, "Cancelled before it began.");
        snprintf(j->verdict, sizeof(j->verdict), "cancelled");
        job_finish(j);
        return 0;
    }
    bool preparing = j->job_state == JOB_PREPARING;
    job_set_state(j, JOB_CANCELLING);
    job_save(j);
    if (!j->process) {
        import_stop(j, ERROR_CANCELLED, "Cancelled while the package was read again.");
        job_flush(j);
        return 0;
    }
    process_tell(j->process, KEY_CANCEL);
    if (!preparing && !j->result_said)
        job_limit_cancel(j);
    job_flush(j);
    return 0;
}

static int on_stop_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct job *j = userdata;
    process_kill(j->process, NULL);
    return 0;
}

void job_stop(struct job *j)
{
    if (j->modem)
        modem_break_silence(j->modem);
    if (j->job_state == JOB_QUEUED) {
        error_set(&j->error, ERROR_INTERRUPTED, "The service was stopped before the job began.");
        snprintf(j->verdict, sizeof(j->verdict), "interrupted");
        job_end_early(j);
    } else if (j->process) {
        process_tell(j->process, KEY_STOP);
        if (j->job_state == JOB_STANDBY)
            process_stop(j->process); /* it has nothing in its hands */
        /* Where no modem is touched there is little to wait for: a file that its owner never lets us read
           (FUSE) must not hold up the end. */
        if (!job_kind_has_modem(j->job_kind))
            job_arm_timer(j, PROCESS_TERM_USEC, on_stop_time);
        else if (j->owner_uid == RESCUE_UID && (j->job_kind == JOB_CATCH || j->job_kind == JOB_IDENTIFY))
            job_arm_timer(j, JOB_EXIT_USEC, on_stop_time); /* it writes nothing, and nobody asked for it */
    } else {
        import_stop(j, ERROR_INTERRUPTED, "The service was stopped while the package was read again.");
    }
}

void job_dequeue(struct job *j)
{
    struct error e = {0};
    if (j->modem)
        modem_set_job(j->modem, j);
    if (start(j, JOB_PREPARING, &e) < 0) {
        job_fail(j, &e);
        job_end_early(j);
        return;
    }
    if (!j->object.slot)
        return; /* its call waits for the pre-flight */
    job_save(j);
    job_flush(j);
}

/* ---- free ---- */

struct job *job_free(struct job *j)
{
    if (!j)
        return NULL;
    for (struct job **i = &j->manager->jobs; *i; i = &(*i)->next)
        if (*i == j) {
            *i = j->next;
            break;
        }
    for (struct job *i = j->manager->jobs; i; i = i->next)
        if (i->resumes == j)
            i->resumes = NULL;
    for (struct modem *m = j->manager->modems; m; m = m->next) {
        if (m->interrupted == j)
            modem_update_interrupted(m);
        if (m->rescue.standby == j)
            m->rescue.standby = NULL;
        if (m->job == j)
            modem_set_job(m, NULL);
        object_flush(&m->object);
    }
    sd_event_source_disable_unref(j->timer);
    sd_event_source_disable_unref(j->stall_timer);
    sd_event_source_disable_unref(j->numbers_timer);
    process_free(j->process);
    sd_bus_message_unref(j->call);
    job_drop_waits(j, NULL);
    object_done(&j->object);
    job_drop_backup(j);
    job_close_files(j);
    record_free(j->report);
    record_free(j->firmware_facts);
    record_free(j->backup_facts);
    for (size_t i = 0; i < j->n_problems; i++)
        free(j->problems[i]);
    free(j->problems);
    char *strings[] = {j->kind,        j->modem_path,    j->state,         j->result,        j->phase,
                       j->detail,      j->error_name,    j->error_message, j->recovery_hint, j->resumes_path,
                       j->object_path, j->firmware_name, j->allow,         j->modem_version, j->reset_mode,
                       j->sha256,      j->label,         j->serial,        j->imei_hash,     j->plan,
                       j->partitions,  j->kind_of_backup};
    for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
        free(strings[i]);
    free(j);
    return NULL;
}
