/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a job ends: what its worker's end means, what follows for library and modem, and who is told. */

#include "service/job.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "service/backup.h"
#include "service/errors.h"
#include "service/firmware.h"
#include "service/log-about.h"
#include "service/modem.h"
#include "service/neighbours.h"

void job_broken(struct job *j, const char *format, ...)
{
    char text[ERROR_MESSAGE_SIZE];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    error_set(&j->own_error, ERROR_FAILED, "The worker of this %s was killed: %s.", j->kind, text);
    process_kill(j->process, NULL);
}

void job_fail(struct job *j, const struct error *e)
{
    j->error = *e;
    bool begun = e->kind == ERROR_MODEM_GONE && j->destructive; /* as its worker says it (job-flash.c) */
    const char *verdict = e->kind == ERROR_INTERRUPTED || begun ? "interrupted"
                          : e->kind == ERROR_CANCELLED          ? "cancelled"
                                                                : "failed";
    snprintf(j->verdict, sizeof(j->verdict), "%s", verdict);
}

static bool verdict_is(const struct job *j, const char *result)
{
    return strcmp(j->verdict, result) == 0;
}

static const struct modem *find_serial(const struct job *j)
{
    const struct modem *m = j->manager->modems;
    while (m && !(m != j->modem && m->appearance && strcmp(text_known(m->seen_serial), j->serial) == 0))
        m = m->next;
    return m;
}

/* A modem that was lost in the middle is waited for where it was, and nowhere else. */
static void say_where(struct job *j)
{
    struct modem *m = j->modem;
    if (j->error.kind != ERROR_MODEM_GONE || !j->destructive || !m || m->appearance)
        return;
    const struct modem *there = *text_known(j->serial) ? find_serial(j) : NULL;
    const struct error said = j->error;
    if (there)
        error_set(&j->error, said.kind, "%.350s; it is at %.100s now: the same call made there continues",
                  said.message, there->id);
    else
        error_set(&j->error, said.kind, "%.350s; it is waited for at %.100s: plug it back in there",
                  said.message, m->id);
    error_hint(&j->error, said.hint);
    if (*said.words)
        error_words(&j->error, said.words);
}

/* The worker's word, which counts now. */
static void accept_verdict(struct job *j)
{
    if (verdict_is(j, "done"))
        return;
    j->error = j->said_error;
    /* What it waited for in vain was there and could not be opened: that is why. */
    if ((j->error.kind == ERROR_TIMEOUT || j->error.kind == ERROR_MODEM_GONE) &&
        j->device_error.kind != ERROR_NONE)
        j->error = j->device_error;
    if (j->error.kind == ERROR_NONE)
        error_set(&j->error, ERROR_FAILED, "The worker of this %s said \"%s\" and gave no reason.", j->kind,
                  j->verdict);
    say_where(j);
}

/* What the end of the process means: the worker's word counts only with a clean exit. */
static void judge_end(struct job *j, const struct process_end *end)
{
    const char *phase = j->phase && *j->phase ? j->phase : "start";
    struct error e = {0};
    if (j->own_error.kind != ERROR_NONE)
        e = j->own_error;
    else if (end->broken)
        error_set(&e, ERROR_FAILED, "The worker of this %s was killed in phase %s: %s.", j->kind, phase,
                  end->broken);
    else if (end->clean && j->result_said) {
        accept_verdict(j);
        return;
    } else if (j->manager->stopping)
        error_set(&e, ERROR_INTERRUPTED, "The service was stopped in phase %s.", phase);
    else if (end->left)
        error_set(&e, ERROR_FAILED,
                  "The worker of this %s was killed in phase %s and does not die: what it waits for does not "
                  "answer.",
                  j->kind, phase);
    else if (end->clean)
        error_set(&e, ERROR_FAILED, "The worker of this %s ended in phase %s without a result.", j->kind,
                  phase);
    else if (end->code == CLD_EXITED)
        error_set(&e, ERROR_FAILED, "The worker of this %s ended in phase %s with status %d.", j->kind, phase,
                  end->status);
    else
        error_set(&e, ERROR_FAILED, "The worker of this %s died in phase %s of signal %d (%s).", j->kind,
                  phase, end->status, strsignal(end->status));
    if (j->destructive && e.hint == HINT_NONE)
        error_hint(&e, HINT_RETRY);
    job_fail(j, &e);
}

/* A refused link or a full memory says nothing about the file. */
static void apply_backup_verified(struct job *j)
{
    struct backup *b = backup_find_id(j->manager, j->backup_id);
    bool broken = j->error.kind == ERROR_BACKUP_DAMAGED || j->error.kind == ERROR_DIGEST_MISMATCH;
    if (b && (verdict_is(j, "done") || broken))
        backup_verified(b, verdict_is(j, "done"));
}

/*
 * All of it is written and verified: a restore leaves what the backup had, a flash what it found. What the
 * firmware has said of it since is known already.
 */
static void settle_flaw(struct job *j)
{
    const struct backup *b = backup_find_id(j->manager, j->backup_id);
    if (!j->modem || !verdict_is(j, "done") ||
        strcmp(text_known(j->modem->calibration_flaw), "half-written") != 0)
        return;
    if (j->job_kind == JOB_FLASH ? j->flaws
                                 : job_changes_calibration(j) && b && strcmp(b->told_state, "damaged") != 0)
        modem_set_flaw(j->modem, b && strcmp(b->told_state, "blank") == 0 ? "factory-test" : "");
}

/* A whole flash of ours was put back: its version is shown, but it says nothing of the family (flash rule 2).
 */
static void apply_restored(struct job *j)
{
    const struct backup *b = backup_find_id(j->manager, j->backup_id);
    bool whole = b && strcmp(b->kind, "nand") == 0 && !(j->partitions && *j->partitions);
    if (j->modem && whole && !b->imported && verdict_is(j, "done"))
        modem_flashed(j->modem, b->model, b->firmware_version, true);
}

/* Where it boots by a forced flash, too, it is of the family that it was of. What another IMEI answers there
 * is another unit; where no IMEI is known nothing is. */
static void give_family(const struct modem *from, struct modem *to)
{
    bool compared = *text_known(from->imei_hash) && *text_known(to->imei_hash);
    if (compared && strcmp(from->imei_hash, to->imei_hash) != 0)
        return;
    text_replace(&to->family_version, compared ? text_known(from->family_version) : "");
    modem_save(to);
}

/* What a finished job means for the library and for the modem. */
static void apply_result(struct job *j)
{
    struct firmware *f = NULL;
    switch (j->job_kind) {
    case JOB_VERIFY:
        if (j->backup_id[0]) {
            apply_backup_verified(j);
            break;
        }
        for (f = j->manager->firmware; f && strcmp(f->id, j->firmware_id) != 0; f = f->next)
            ;
        bool invalid = j->error.kind == ERROR_FIRMWARE_INVALID ||
                       j->error.kind == ERROR_FIRMWARE_INCOMPLETE || j->error.kind == ERROR_DIGEST_MISMATCH;
        if (f && (verdict_is(j, "done") || invalid))
            firmware_verified(f, verdict_is(j, "done"), j->problems);
        break;
    case JOB_FLASH:
        settle_flaw(j);
        /* Written and verified in full, whatever came of the boot. */
        if (j->modem && !j->stranger_at_port &&
            (verdict_is(j, "done") || verdict_is(j, "not-returned") || verdict_is(j, "no-calibration")))
            modem_flashed(j->modem, record_get(j->firmware_facts, "model"), j->firmware_name,
                          j->allow && strstr(j->allow, "WrongFirmware"));
        if (j->modem && j->elsewhere && j->allow && strstr(j->allow, "WrongFirmware"))
            give_family(j->modem, j->elsewhere);
        if (j->modem && verdict_is(j, "done")) {
            loop_forget(&j->modem->loop);
            modem_loop_look(j->modem);
        }
        break;
    case JOB_RESTORE:
        settle_flaw(j);
        apply_restored(j);
        break;
    default:
        break;
    }
}

void job_close_files(struct job *j)
{
    j->fd_archive = close_fd(j->fd_archive);
    j->fd_store = close_fd(j->fd_store);
    j->fd_calibration = close_fd(j->fd_calibration);
    j->fd_log = close_fd(j->fd_log);
    j->fd_journal = close_fd(j->fd_journal);
}

static void log_end(const struct job *j, const char *text)
{
    enum log_event event = verdict_is(j, "done")          ? LOG_JOB_DONE
                           : verdict_is(j, "interrupted") ? LOG_JOB_INTERRUPTED
                                                          : LOG_JOB_FAILED;
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "finished: %s%s%s", j->verdict, text ? ": " : "", text ? text : "");
    log_about_job(j, event, text ? LOG_WARNING : LOG_INFO, line);
}

static void tell_end(struct job *j)
{
    _cleanup_free_ char *text = j->error.kind != ERROR_NONE ? errors_text(&j->error) : NULL;
    object_set_string(&j->object, "Result", &j->result, j->verdict);
    object_set_string(&j->object, "ErrorName", &j->error_name, errors_bus_name(j->error.kind));
    object_set_string(&j->object, "ErrorMessage", &j->error_message, text ? text : "");
    /* A crash dump is saved, and all the same its modem may need a hand. */
    const char *hint =
        text ? hint_name(j->error.hint) : hint_name(hint_from_name(record_get(j->report, "hint")));
    object_set_string(&j->object, "RecoveryHint", &j->recovery_hint, hint);
    object_set_u64(&j->object, "EndTime", &j->end_time, realtime_usec());
    object_set_bool(&j->object, "SafeToUnplug", &j->safe_to_unplug, 1);
    neighbours_update(j->manager);
    if (verdict_is(j, "done"))
        j->progress.fraction = 1;
    progress_pause(&j->progress);
    job_set_state(j, JOB_FINISHED);
    job_log(j, text ? text : "done");
    log_end(j, text);
}

void job_finish(struct job *j)
{
    struct modem *m = job_kind_has_modem(j->job_kind) ? j->modem : NULL;
    struct manager *manager = j->manager;
    j->timer = sd_event_source_disable_unref(j->timer);
    j->stall_timer = sd_event_source_disable_unref(j->stall_timer);
    job_drop_backup(j);
    j->finished = ++manager->n_finished;
    apply_result(j);
    tell_end(j);
    job_close_files(j);
    if (j->job_kind == JOB_BACKUP && !job_backup_resumable(j))
        job_void_journal(j); /* it is in the store, or nothing goes on from it */
    job_save(j);
    job_signal_numbers(j);
    job_answer_waits(j);
    if (m && !verdict_is(j, "cancelled"))
        modem_set_error(m, j->error_message, hint_from_name(text_known(j->recovery_hint)));
    if (m)
        rescue_finished(m, j);
    modem_lose_elsewhere(j);
    j->modem = NULL;
    for (struct modem *o = m ? manager->modems : NULL; o; o = o->next) {
        modem_update_interrupted(o); /* it may be at another connector by now */
        object_flush(&o->object);
    }
    if (m) {
        if (m->job == j)
            modem_set_job(m, NULL);
        modem_void_journals(m);
        object_flush(&m->object);
    }
    job_forget_old(manager);
    manager_update(manager);
}

/* The pre-flight (or the plan) failed: the caller's error, and nothing remains. */
static void refuse(struct job *j)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    errors_to_bus(&j->error, &error);
    if (j->call)
        sd_bus_reply_method_error(j->call, &error);
    sd_bus_error_free(&error);
    struct modem *m = j->modem;
    if (m && j->owner_uid == RESCUE_UID && (m->job == j || m->rescue.standby == j)) {
        modem_set_error(m, j->error.message, j->error.hint);
        rescue_finished(m, j);
        object_flush(&m->object);
    }
    if (j->id)
        job_remove_files(j); /* it had its number, but could not be recorded */
    job_free(j);
}

void job_end_early(struct job *j)
{
    if (j->object.slot)
        job_finish(j);
    else
        refuse(j);
}

/* "key=value" lines of a worker, as a{sv} of strings. Nothing of it is kept. */
static int append_identity(sd_bus_message *reply, char *text)
{
    char *rest = NULL;
    int r = sd_bus_message_open_container(reply, 'a', "{sv}");
    for (char *line = strtok_r(text, "\n", &rest); r >= 0 && line; line = strtok_r(NULL, "\n", &rest)) {
        char *value = strchr(line, '=');
        if (!value || !text_is_clean(line, strlen(line)))
            return -EBADMSG;
        *value++ = '\0';
        r = sd_bus_message_append(reply, "{sv}", line, "s", value);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void answer(struct job *j)
{
    sd_bus_message *reply = NULL;
    size_t line = 0;
    int r = j->plan ? sd_bus_message_new_method_return(j->call, &reply) : -ENODATA;
    if (r >= 0)
        r = j->job_kind == JOB_PLAN ? plan_append(reply, j->plan, j->plan_size, &line)
                                    : append_identity(reply, j->plan);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    if (r >= 0) {
        job_free(j);
        return;
    }
    error_set(&j->error, ERROR_FAILED, "The worker's answer cannot be read (line %zu): %s.", line,
              strerror(-r));
    refuse(j);
}

/* What a worker has written is believed once another one has read it. */
static void conclude(struct job *j)
{
    if (verdict_is(j, "done") && job_makes_backup(j))
        job_keep_backup(j);
    else if (verdict_is(j, "done") && j->job_kind == JOB_IMPORT)
        import_keep(j);
    else
        job_finish(j);
}

static void on_gone(void *userdata, const struct process_end *end)
{
    struct job *j = userdata;
    struct manager *manager = j->manager;
    if (j->modem)
        modem_break_silence(j->modem);
    judge_end(j, end);
    j->process = process_free(j->process);
    if (job_kind_is_question(j->job_kind) && verdict_is(j, "done")) {
        answer(j);
    } else if (j->object.slot) {
        conclude(j);
    } else {
        if (j->error.kind == ERROR_NONE)
            error_set(&j->error, ERROR_FAILED,
                      "The worker of this %s ended (%s) before its pre-flight was over.", j->kind,
                      j->verdict);
        refuse(j);
    }
    manager_update(manager);
}

const struct process_handler job_process_handler = {.message = job_on_message, .gone = on_gone};

void job_holding(struct job *j)
{
    struct process *p = j->process;
    j->process = NULL;
    accept_verdict(j);
    modem_hold(j->modem, p, j->given);
    conclude(j);
}

static int on_exit_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct job *j = userdata;
    process_kill(j->process, "it did not exit after its result");
    return 0;
}

void job_result_said(struct job *j)
{
    j->stage = STAGE_ENDED;
    job_arm_timer(j, JOB_EXIT_USEC, on_exit_time);
}
