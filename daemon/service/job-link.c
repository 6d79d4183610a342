/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "service/backup.h"
#include "service/candidates.h"
#include "service/firmware.h"
#include "service/modem.h"
#include "service/neighbours.h"

enum { PLAN_BYTES_MAX = 1024 * 1024, NAME_MAX_BYTES = 64, MESSAGE_MAX = OBJECT_STRING_MAX };

/* The numbers of one datagram, taken together. */
struct numbers {
    bool told;
    uint64_t ppm, done, total;
};

/* ---- single keys: 0, or -EBADMSG for a value that the key cannot have ---- */

static int take_bool(const char *value, bool *ret)
{
    if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
        return -EBADMSG;
    *ret = value[0] == '1';
    return 0;
}

static int take_number(const char *value, uint64_t max, uint64_t *ret)
{
    return text_parse_u64(value, 10, max, ret) < 0 ? -EBADMSG : 0;
}

static int add_problem(struct job *j, const char *text)
{
    char **grown = realloc(j->problems, (j->n_problems + 2) * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    j->problems = grown;
    j->problems[j->n_problems] = strdup(text);
    if (!j->problems[j->n_problems])
        return -ENOMEM;
    j->problems[++j->n_problems] = NULL;
    return 0;
}

/* The log has them all; the report as many as can be read, and how many there are besides. */
static int take_problem(struct job *j, const char *value)
{
    char line[ERROR_MESSAGE_SIZE];
    int r = 0;
    job_log(j, value);
    if (j->n_problems < JOB_PROBLEMS_MAX) {
        text_clean(value, strlen(value), line, sizeof(line));
        r = add_problem(j, line);
    } else {
        snprintf(line, sizeof(line), "and %u more, each in the job's log", ++j->more_problems);
        if (j->more_problems == 1)
            r = add_problem(j, line);
        else
            text_replace(&j->problems[JOB_PROBLEMS_MAX], line);
    }
    object_changed(&j->object, "Report");
    return r;
}

/* Counts the pairs of a record so that a worker cannot fill the memory with them. */
static void count_pair(void *userdata, const char *key _unused_, const char *value _unused_)
{
    ++*(size_t *)userdata;
}

static int take_pair(struct record *r, const char *key, const char *value)
{
    char clean[MESSAGE_MAX];
    size_t n = 0;
    record_each(r, count_pair, &n);
    if (strlen(key) > NAME_MAX_BYTES || (n >= JOB_REPORT_MAX && !*record_get(r, key)))
        return -EBADMSG;
    text_clean(value, strlen(value), clean, sizeof(clean));
    return record_set(r, key, clean);
}

static int take_error(struct job *j, const char *key, const char *value)
{
    struct error *e = &j->said_error;
    if (strcmp(key, KEY_ERROR) == 0) {
        e->kind = error_from_name(value);
        return e->kind == ERROR_NONE ? -EBADMSG : 0;
    }
    if (strcmp(key, KEY_HINT) == 0) {
        e->hint = hint_from_name(value);
        return e->hint == HINT_NONE && *value ? -EBADMSG : 0;
    }
    if (strcmp(key, KEY_WORDS) == 0)
        error_words(e, value);
    else
        text_clean(value, strlen(value), e->message, sizeof(e->message));
    return 0;
}

static int take_plan(struct job *j, struct link_message *m)
{
    _cleanup_close_ int fd = link_steal_fd(m);
    if (fd < 0 || j->plan || io_memfd_check(fd, PLAN_BYTES_MAX) < 0)
        return -EBADMSG;
    return io_read_file(fd, PLAN_BYTES_MAX, &j->plan, &j->plan_size);
}

static int take_table(struct job *j, struct link_message *m)
{
    _cleanup_close_ int fd = link_steal_fd(m);
    if (fd < 0)
        return -EBADMSG;
    return modem_add_table(j->modem, fd);
}

/* Of the same port, or of the same unit, which may have been at another one then. */
static bool is_same_flash(const struct job *a, const struct job *b)
{
    return strcmp(a->modem_path, b->modem_path) == 0 ||
           (*text_known(a->serial) && strcmp(a->serial, text_known(b->serial)) == 0);
}

/* From now on the flash is being changed: it is on record before anything else is read from this worker. */
static void take_destructive(struct job *j)
{
    if (j->destructive && !j->complete)
        return;
    bool known = j->destructive;
    j->destructive = true;
    j->complete = false;
    job_save(j);
    if (known)
        return;
    j->flaws =
        job_changes_calibration(j) && strcmp(text_known(j->modem->calibration_flaw), "half-written") != 0;
    if (j->flaws)
        modem_set_flaw(j->modem, "half-written");
    for (struct job *i = j->manager->jobs; i; i = i->next)
        if (i != j && job_resumable(i) && is_same_flash(i, j))
            job_void_journal(i);
    job_void_backups(j->manager, j->modem_path);
    modem_update_interrupted(j->modem);
    if (j->owner_uid == RESCUE_UID && j->job_kind == JOB_FLASH && !j->resumes_path)
        rescue_begun(j->modem);
}

/* What a modem tells of itself is of the object where it is. */
static struct modem *told_of(const struct job *j)
{
    const struct modem *e = j->elsewhere;
    return e && e->number == j->given ? j->elsewhere : j->modem;
}

static int take_identity(struct job *j, const char *key, const char *value)
{
    /* Each may be written to disk and signalled: a worker that goes on telling is no honest one. */
    if (++j->facts_told > JOB_FACTS_MAX)
        return -EBADMSG;
    j->missed = j->modem->rescue.port.missed = 0; /* it had its say */
    int r = modem_learn(told_of(j), key, value);
    j->hash_told |= strcmp(key, KEY_PKHASH) == 0;
    if (r == 0 && strcmp(key, KEY_SERIAL) == 0)
        text_replace(&j->serial, strcmp(value, BACKUP_SERIAL_UNSET) == 0 ? "" : value);
    return r;
}

/* What it was given last is another unit, which is nothing to it any more; its own is waited for. */
static bool take_strange(struct job *j)
{
    if (!j->given)
        return false;
    bool elsewhere = told_of(j) != j->modem;
    j->strange = j->given;
    j->stranger_at_port |= !elsewhere;
    if (elsewhere)
        modem_lose_elsewhere(j);
    j->wants |= WANTS_NORMAL;
    return true;
}

static int take_wait(struct job *j, const char *value)
{
    if (strcmp(value, "edl") == 0)
        j->wants |= WANTS_EDL;
    else if (strcmp(value, "normal") == 0)
        j->wants = (j->wants & ~(unsigned)WANTS_DIAG) | WANTS_NORMAL; /* asked for it in vain before */
    else if (strcmp(value, "diag") == 0)
        j->wants |= WANTS_DIAG;
    else if (strcmp(value, "another") != 0 || !take_strange(j))
        return -EBADMSG;
    progress_pause(&j->progress);
    j->refused = 0;
    modem_serve(j->manager);
    return 0;
}

static int take_result(struct job *j, const char *value)
{
    if (j->result_said || !expect_result(value))
        return -EBADMSG;
    j->result_said = true;
    snprintf(j->verdict, sizeof(j->verdict), "%s", value);
    return 0;
}

static int take_flag(struct job *j, const char *key, const char *value)
{
    bool flag;
    if (take_bool(value, &flag) < 0)
        return -EBADMSG;
    if (strcmp(key, KEY_UNSAFE) == 0) {
        object_set_bool(&j->object, "SafeToUnplug", &j->safe_to_unplug, !flag);
        neighbours_update(j->manager);
    } else if (j->job_state != JOB_CANCELLING) {
        object_set_bool(&j->object, "Cancelable", &j->cancelable, flag);
    } else {
        /* Cancel came in the moment in which the worker began what must not be left: its time starts behind
           that, or it would be killed in the middle of a write. */
        j->timer = sd_event_source_disable_unref(j->timer);
        if (flag)
            job_limit_cancel(j);
    }
    return 0;
}

static int take_phase(struct job *j, const char *value)
{
    if (strlen(value) > NAME_MAX_BYTES)
        return -EBADMSG;
    progress_pause(&j->progress);
    object_set_string(&j->object, "Phase", &j->phase, value);
    if (j->stage == STAGE_RUNNING)
        job_watch_stall(j);
    return 0;
}

static int take_key(struct job *j, struct link_message *m, const struct link_field *f,
                    struct numbers *numbers)
{
    const char *key = f->key, *value = f->value;
    if (strcmp(key, KEY_READY) == 0) {
        if (strcmp(value, "1") != 0)
            return -EBADMSG;
        job_ready(j);
        return 0;
    }
    if (strcmp(key, KEY_PHASE) == 0)
        return take_phase(j, value);
    if (strcmp(key, KEY_DETAIL) == 0) {
        object_set_string(&j->object, "Detail", &j->detail, value);
        return 0;
    }
    if (strcmp(key, KEY_PROGRESS) == 0) {
        numbers->told = true;
        return take_number(value, PROGRESS_PPM_MAX, &numbers->ppm);
    }
    if (strcmp(key, KEY_BYTES_DONE) == 0) {
        numbers->told = true;
        return take_number(value, UINT64_MAX, &numbers->done);
    }
    if (strcmp(key, KEY_BYTES_TOTAL) == 0)
        return take_number(value, UINT64_MAX, &numbers->total);
    if (strcmp(key, KEY_UNSAFE) == 0 || strcmp(key, KEY_CANCELABLE) == 0)
        return take_flag(j, key, value);
    if (strcmp(key, KEY_LOG) == 0) {
        job_log(j, value);
        return 0;
    }
    if (strcmp(key, KEY_WAIT_DEVICE) == 0)
        return take_wait(j, value);
    if (strcmp(key, KEY_DEVICE_LOST) == 0) {
        progress_pause(&j->progress);
        return strcmp(value, "1") == 0 ? 0 : -EBADMSG;
    }
    if (strcmp(key, KEY_TABLE) == 0)
        return take_table(j, m);
    if (strcmp(key, KEY_PROGRAMMER) == 0)
        return candidates_told(j->modem, value, j->hash_told);
    if (strcmp(key, KEY_DESTRUCTIVE) == 0) {
        take_destructive(j);
        return strcmp(value, "1") == 0 ? 0 : -EBADMSG;
    }
    if (strcmp(key, KEY_COMPLETE) == 0)
        return job_take_complete(j, value);
    if (strcmp(key, KEY_PROBLEM) == 0)
        return take_problem(j, value);
    if (text_starts_with(key, KEY_FIRMWARE))
        return take_pair(j->firmware_facts, key + strlen(KEY_FIRMWARE), value);
    if (text_starts_with(key, KEY_REPORT)) {
        object_changed(&j->object, "Report");
        return take_pair(j->report, key + strlen(KEY_REPORT), value);
    }
    if (text_starts_with(key, KEY_BACKUP_FACT))
        return take_pair(j->backup_facts, key + strlen(KEY_BACKUP_FACT), value);
    if (strcmp(key, KEY_BACKUP) == 0)
        return job_take_offer(j, value);
    if (strcmp(key, KEY_PLAN) == 0)
        return take_plan(j, m);
    if (strcmp(key, KEY_RESULT) == 0)
        return take_result(j, value);
    if (strcmp(key, KEY_ERROR) == 0 || strcmp(key, KEY_MESSAGE) == 0 || strcmp(key, KEY_WORDS) == 0 ||
        strcmp(key, KEY_HINT) == 0)
        return take_error(j, key, value);
    /* What is left in the table: what a modem told of itself. */
    return take_identity(j, key, value);
}

/* ---- a datagram ---- */

static void take_numbers(struct job *j, const struct numbers *n)
{
    if (!n->told)
        return;
    progress_update(&j->progress, n->ppm, n->done, n->total, now_usec(), realtime_usec());
    job_numbers_changed(j);

    struct error e;
    if (j->job_kind == JOB_IMPORT && j->own_error.kind == ERROR_NONE && import_check_space(j, &e) < 0) {
        j->own_error = e;
        process_stop(j->process);
    }
}

static bool wants_descriptor(const char *key)
{
    return strcmp(key, KEY_PLAN) == 0 || strcmp(key, KEY_TABLE) == 0;
}

/* One descriptor for each key that brings one, and no other. */
static bool descriptors_fit(const struct link_message *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_fields; i++)
        n += wants_descriptor(m->fields[i].key);
    return n == m->n_fds;
}

void job_on_message(void *userdata, struct link_message *m)
{
    struct job *j = userdata;
    struct numbers numbers = {
        .ppm = (uint64_t)(j->progress.fraction * PROGRESS_PPM_MAX),
        .done = j->progress.bytes_done,
        .total = j->progress.bytes_total,
    };
    bool holding = false;

    if (j->modem)
        modem_break_silence(j->modem);
    j->heard = now_usec();
    if (!descriptors_fit(m)) {
        job_broken(j, "it sent descriptors that nobody asked for");
        return;
    }
    for (size_t i = 0; i < m->n_fields; i++) {
        const struct link_field *f = &m->fields[i];
        bool is_holding = strcmp(f->key, KEY_HOLDING) == 0;
        if (!expect_key(j->job_kind, j->stage, f->key) ||
            (is_holding && (!j->result_said || !j->given || strcmp(f->value, "1") != 0))) {
            job_broken(j, "it said %s=, which it may not say at this time", f->key);
            return;
        }
        holding |= is_holding;
        int r = is_holding ? 0 : take_key(j, m, f, &numbers);
        if (r < 0) {
            job_broken(j, r == -EBADMSG ? "its %s=%.100s makes no sense" : "its %s=%.100s cannot be kept",
                       f->key, f->value);
            return;
        }
    }
    take_numbers(j, &numbers);
    if (holding) {
        job_holding(j); /* the process is the modem's now */
        return;
    }
    if (j->result_said && j->stage != STAGE_ENDED)
        job_result_said(j);
    if (j->elsewhere)
        object_flush(&j->elsewhere->object);
    if (j->modem)
        object_flush(&j->modem->object);
    job_flush(j);
}
