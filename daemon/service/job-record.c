/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/job.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/text.h"
#include "service/backup.h"
#include "service/errors.h"
#include "service/log.h"
#include "service/modem.h"

#define LAST_NUMBER_FILE "last"
#define REPORT_PREFIX    "REPORT."
#define PROBLEM_PREFIX   "PROBLEM."

enum { LOG_LINE_MAX = 8192 };

static void file_name(char out[32], uint64_t id, const char *suffix)
{
    snprintf(out, 32, "%llu.%s", (unsigned long long)id, suffix);
}

/* ---- numbers ---- */

/* Jobs with a number stand in its order before those without one. */
static void sort_in(struct job *j)
{
    struct job **i = &j->manager->jobs;
    while (*i != j)
        i = &(*i)->next;
    *i = j->next;
    for (i = &j->manager->jobs; *i && (*i)->id && (*i)->id < j->id; i = &(*i)->next)
        ;
    j->next = *i;
    *i = j;
}

/*
 * What a job leaves to the one that continues it: its journal and, of a backup, the unfinished file beside
 * it, in this order. mend_handover() ends what the service's own end cut in two.
 */
static const char *const handed_over[] = {"journal", "part"};

/* ret_size may be NULL. */
static bool has_file(const struct manager *m, uint64_t id, const char *suffix, off_t *ret_size)
{
    struct stat st;
    char name[32];
    file_name(name, id, suffix);
    if (fstatat(m->store.fd_jobs, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (ret_size)
        *ret_size = st.st_size;
    return true;
}

static int hand_over(const struct manager *m, uint64_t from, uint64_t to, const char *suffix)
{
    char old[32], name[32];
    file_name(old, from, suffix);
    file_name(name, to, suffix);
    return renameat(m->store.fd_jobs, old, m->store.fd_jobs, name) < 0 ? -errno : 0;
}

static int link_fresh(const struct job *j)
{
    const int fds[] = {j->fd_journal, j->job_kind == JOB_BACKUP ? j->fd_store : -1};
    char name[32];
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(fds); i++) {
        file_name(name, j->id, handed_over[i]);
        r = fds[i] < 0 ? 0 : store_link(j->manager->store.fd_jobs, fds[i], name);
    }
    return r;
}

int job_name_journal(struct job *j)
{
    if (j->fd_journal < 0)
        return 0;
    if (!j->resumes)
        return link_fresh(j);
    j->destructive = j->job_kind != JOB_BACKUP;
    j->complete = j->resumes->complete; /* until it begins to change something itself */
    /* Whose it is stays known, should it be interrupted before the modem is there. */
    text_replace(&j->serial, text_known(j->resumes->serial));
    text_replace(&j->imei_hash, text_known(j->resumes->imei_hash));
    object_set_string(&j->object, "Resumes", &j->resumes_path, j->resumes->object.path);
    /* A journal without a record is nobody's: should the service end just here, either job has both. */
    int r = job_save(j);
    for (size_t i = 0; r >= 0 && i < (j->job_kind == JOB_BACKUP ? ARRAY_SIZE(handed_over) : 1); i++)
        r = hand_over(j->manager, j->resumes->id, j->id, handed_over[i]);
    if (r >= 0)
        j->resumes = NULL;
    return r;
}

int job_number(struct job *j)
{
    struct manager *m = j->manager;
    char text[24], name[32];
    int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)(m->last_job + 1));
    int r = store_write(m->store.fd_jobs, LAST_NUMBER_FILE, text, (size_t)n);
    if (r < 0)
        return r;
    j->id = ++m->last_job;
    sort_in(j);

    if (j->fd_log < 0 && (j->fd_log = store_tmpfile(m->store.fd_jobs)) < 0)
        return j->fd_log; /* a queued job: its worker did not start yet */
    file_name(name, j->id, "log");
    return store_link(m->store.fd_jobs, j->fd_log, name);
}

/* ---- log ---- */

int job_open_log(const struct job *j)
{
    char name[32];
    file_name(name, j->id, "log");
    return store_open_file(j->manager->store.fd_jobs, name, O_RDONLY);
}

static void write_log(struct job *j, const char *text)
{
    char line[LOG_LINE_MAX + 64], clean[LOG_LINE_MAX];
    struct tm tm;
    usec_t now = realtime_usec();
    time_t seconds = (time_t)(now / USEC_PER_SEC);
    gmtime_r(&seconds, &tm);
    text_clean(text, strlen(text), clean, sizeof(clean));
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03uZ %s\n", (unsigned)(now % USEC_PER_SEC / 1000),
                          clean);
    /* A log that cannot be written never stops a job. */
    if (io_write_full(j->fd_log, line, n) == 0)
        j->log_size += n;
    else
        j->log_full = true;
}

void job_log(struct job *j, const char *text)
{
    if (j->fd_log < 0 || j->log_full)
        return;
    if (j->log_size + strlen(text) + 64 > j->manager->config.log_bytes_max) {
        write_log(j, "The log is full; what follows is not kept.");
        j->log_full = true;
        return;
    }
    write_log(j, text);
}

/* ---- record ---- */

static void save_report(void *userdata, const char *key, const char *value)
{
    char name[128];
    snprintf(name, sizeof(name), REPORT_PREFIX "%s", key);
    record_set(userdata, name, value);
}

static const struct {
    const char *key;
    size_t offset;
} saved_strings[] = {
    {"KIND", offsetof(struct job, kind)},
    {"MODEM", offsetof(struct job, modem_path)},
    {"STATE", offsetof(struct job, state)},
    {"RESULT", offsetof(struct job, result)},
    {"PHASE", offsetof(struct job, phase)},
    {"ERROR", offsetof(struct job, error_name)},
    {"MESSAGE", offsetof(struct job, error_message)},
    {"HINT", offsetof(struct job, recovery_hint)},
    {"RESUMES", offsetof(struct job, resumes_path)},
    {"OBJECT", offsetof(struct job, object_path)},
    {"FIRMWARE_NAME", offsetof(struct job, firmware_name)},
    {"ALLOW", offsetof(struct job, allow)},
    {"MODEM_VERSION", offsetof(struct job, modem_version)},
    {"PARTITIONS", offsetof(struct job, partitions)},
    {"BACKUP_KIND", offsetof(struct job, kind_of_backup)},
    {"SERIAL", offsetof(struct job, serial)},
    {"IMEI_HASH", offsetof(struct job, imei_hash)},
};

static char **string_at(const struct job *j, size_t i)
{
    return (char **)((char *)(uintptr_t)j + saved_strings[i].offset);
}

int job_save(const struct job *j)
{
    _cleanup_(record_freep) struct record *r = record_new();
    char name[32];
    if (!r)
        return -ENOMEM;
    if (!j->id)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(saved_strings); i++)
        record_set(r, saved_strings[i].key, *string_at(j, i));
    record_set(r, "FIRMWARE", j->firmware_id);
    record_set(r, "BACKUP", j->backup_id);
    record_set(r, "SAVED", j->saved_id);
    record_set_u64(r, "OWNER", j->owner_uid);
    record_set_u64(r, "CREATED", j->created_time);
    record_set_u64(r, "STARTED", j->start_time);
    record_set_u64(r, "ENDED", j->end_time);
    record_set_u64(r, "WINDOW", j->window);
    record_set_u64(r, "PROGRESS", (uint64_t)(j->progress.fraction * PROGRESS_PPM_MAX));
    record_set_u64(r, "RESET", j->reset);
    record_set_u64(r, "DESTRUCTIVE", j->destructive);
    record_set_u64(r, "COMPLETE", j->complete);
    record_set_u64(r, "BOOTED", j->booted);
    record_each(j->report, save_report, r);
    for (size_t i = 0; i < j->n_problems; i++) {
        char key[32];
        snprintf(key, sizeof(key), PROBLEM_PREFIX "%zu", i);
        record_set(r, key, j->problems[i]);
    }
    file_name(name, j->id, "rec");
    int q = record_save(r, j->manager->store.fd_jobs, name);
    if (q < 0)
        log_message(LOG_WARNING, "The record of job %s cannot be written: %s.", job_title(j), strerror(-q));
    return q;
}

static void load_pair(void *userdata, const char *key, const char *value)
{
    struct job *j = userdata;
    if (text_starts_with(key, REPORT_PREFIX)) {
        record_set(j->report, key + strlen(REPORT_PREFIX), value);
    } else if (text_starts_with(key, PROBLEM_PREFIX)) {
        char **grown = realloc(j->problems, (j->n_problems + 2) * sizeof(*grown));
        if (!grown)
            return;
        j->problems = grown;
        if ((grown[j->n_problems] = strdup(value)))
            j->n_problems++;
        grown[j->n_problems] = NULL;
    }
}

bool job_has_journal(const struct job *j)
{
    bool of_flash = !j->kind_of_backup || strcmp(j->kind_of_backup, "xqcn") != 0;
    return j->job_kind == JOB_FLASH || j->job_kind == JOB_RESTORE || (j->job_kind == JOB_BACKUP && of_flash);
}

static bool has_journal(const struct job *j, off_t *ret_size)
{
    return has_file(j->manager, j->id, "journal", ret_size);
}

bool job_resumable(const struct job *j)
{
    off_t size;
    if (j->job_kind == JOB_BACKUP || !job_has_journal(j) || !job_finished(j) || !j->destructive ||
        !j->result || !has_journal(j, &size))
        return false;
    return strcmp(j->result, "failed") == 0 || strcmp(j->result, "cancelled") == 0 ||
           strcmp(j->result, "interrupted") == 0;
}

bool job_changes_calibration(const struct job *j)
{
    const char *names = text_known(j->partitions);
    const struct backup *b = backup_find_id(j->manager, j->backup_id);
    if (j->job_kind == JOB_FLASH)
        return j->allow && strstr(j->allow, "EraseCalibration");
    if (j->job_kind != JOB_RESTORE)
        return false;
    return *names ? strcasestr(names, "EFS2") || strstr(names, "blocks-") : !b || backup_has_calibration(b);
}

bool job_backup_resumable(const struct job *j)
{
    off_t size;
    if (j->job_kind != JOB_BACKUP || !job_finished(j) || !j->result || !has_journal(j, &size) || size == 0 ||
        !has_file(j->manager, j->id, "part", NULL))
        return false;
    return strcmp(j->result, "interrupted") == 0 ||
           (strcmp(j->result, "failed") == 0 && j->error_name &&
            strcmp(j->error_name, errors_bus_name(ERROR_MODEM_GONE)) == 0);
}

void job_void_journal(struct job *j)
{
    char name[32];
    for (size_t i = 0; i < ARRAY_SIZE(handed_over); i++) {
        file_name(name, j->id, handed_over[i]);
        store_remove(j->manager->store.fd_jobs, name);
    }
}

void job_void_backups(struct manager *m, const char *modem_path)
{
    for (struct job *j = m->jobs; j; j = j->next)
        if (job_backup_resumable(j) && strcmp(j->modem_path, modem_path) == 0)
            job_void_journal(j);
}

void job_remove_files(const struct job *j)
{
    static const char *const suffixes[] = {"journal", "part", "log", "rec"};
    char name[32];
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        file_name(name, j->id, suffixes[i]);
        store_remove(j->manager->store.fd_jobs, name);
    }
}

/* ---- earlier runs ---- */

/* It was under way when the service ended without a word. */
static void mark_interrupted(struct job *j)
{
    struct error e = {0};
    off_t size;
    const char *phase = j->phase && *j->phase ? j->phase : "start";
    /* The worker journals its intent before it tells us: something in there means that it may have begun. */
    if (j->job_kind != JOB_BACKUP && job_has_journal(j) && has_journal(j, &size) && size > 0)
        j->destructive = true;
    error_set(&e, ERROR_INTERRUPTED, "The service ended in phase %s of this %s%s.", phase, j->kind,
              j->complete ? ", behind its last step: everything was written and verified, the boot was not "
                            "waited for"
                          : "");
    object_set_string(&j->object, "Result", &j->result, "interrupted");
    object_set_string(&j->object, "ErrorName", &j->error_name, errors_bus_name(e.kind));
    object_set_string(&j->object, "ErrorMessage", &j->error_message, e.message);
    object_set_string(&j->object, "RecoveryHint", &j->recovery_hint, hint_name(HINT_RETRY));
    j->end_time = realtime_usec();
    job_set_state(j, JOB_FINISHED);
    job_save(j);
}

static bool is_path(size_t i)
{
    size_t at = saved_strings[i].offset;
    return at == offsetof(struct job, modem_path) || at == offsetof(struct job, resumes_path) ||
           at == offsetof(struct job, object_path);
}

static void load_fields(struct job *j, const struct record *r)
{
    for (size_t i = 0; i < ARRAY_SIZE(saved_strings); i++) {
        const char *value = record_get(r, saved_strings[i].key);
        /* The bus refuses a whole message, and so the whole list, for one path that is none. */
        if (is_path(i) && !sd_bus_object_path_is_valid(value))
            continue;
        if (*value) {
            free(*string_at(j, i));
            *string_at(j, i) = strdup(value);
        }
    }
    snprintf(j->firmware_id, sizeof(j->firmware_id), "%s", record_get(r, "FIRMWARE"));
    snprintf(j->backup_id, sizeof(j->backup_id), "%s", record_get(r, "BACKUP"));
    snprintf(j->saved_id, sizeof(j->saved_id), "%s", record_get(r, "SAVED"));
    j->created_time = record_get_u64(r, "CREATED", 0);
    j->start_time = record_get_u64(r, "STARTED", 0);
    j->end_time = record_get_u64(r, "ENDED", 0);
    j->window = (uint32_t)record_get_u64(r, "WINDOW", 0);
    j->progress.fraction = (double)record_get_u64(r, "PROGRESS", 0) / PROGRESS_PPM_MAX;
    j->reset = record_get_u64(r, "RESET", 1);
    j->destructive = record_get_u64(r, "DESTRUCTIVE", 0);
    j->complete = record_get_u64(r, "COMPLETE", 0);
    j->booted = record_get_u64(r, "BOOTED", 0);
    record_each(r, load_pair, j);
}

static int load_job(void *userdata, const char *name)
{
    struct manager *m = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    char digits[24] = "";
    uint64_t id;
    snprintf(digits, sizeof(digits), "%.*s", (int)(strlen(name) - strlen(".rec")), name);
    if (text_parse_u64(digits, 10, UINT64_MAX - 1, &id) < 0)
        return 0;
    if (id > m->last_job)
        m->last_job = id;
    if (record_load(m->store.fd_jobs, name, &r) < 0)
        return 0;
    enum job_kind kind = job_kind_from_name(record_get(r, "KIND"));
    if (kind == JOB_KIND_COUNT || job_kind_is_question(kind))
        return 0;

    struct job *j = job_alloc(m, kind, (uid_t)record_get_u64(r, "OWNER", 0));
    if (!j)
        return -ENOMEM;
    j->id = id;
    int q = job_init_object(j);
    if (q < 0)
        return q;
    load_fields(j, r);
    if (strcmp(record_get(r, "STATE"), "finished") == 0)
        job_set_state(j, JOB_FINISHED);
    else
        mark_interrupted(j);
    sort_in(j);
    return object_add(&j->object);
}

static void load_last_number(struct manager *m)
{
    _cleanup_close_ int fd = store_open_file(m->store.fd_jobs, LAST_NUMBER_FILE, O_RDONLY);
    char text[24] = "";
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    uint64_t number;
    if (text_parse_u64(text, 10, UINT64_MAX - 1, &number) == 0)
        m->last_job = number;
}

/* The service ended between two renames of a backup that goes on: what was left behind follows. */
static void mend_handover(struct job *j)
{
    const struct job *from = j->manager->jobs;
    while (from && strcmp(from->object.path, text_known(j->resumes_path)) != 0)
        from = from->next;
    if (j->job_kind != JOB_BACKUP || !from || !has_file(j->manager, j->id, "journal", NULL) ||
        has_file(j->manager, j->id, "part", NULL))
        return;
    int r = hand_over(j->manager, from->id, j->id, "part");
    if (r == 0)
        return;
    log_message(LOG_WARNING, "What job %s had read is not there, the same call reads it anew: %s.",
                job_title(j), strerror(-r));
    job_void_journal(j);
}

/* A log or journal whose job never came to its record. */
static int drop_stray(void *userdata, const char *name)
{
    struct manager *m = userdata;
    const struct job *j = m->jobs;
    char digits[24];
    uint64_t id;
    snprintf(digits, sizeof(digits), "%.*s", (int)strcspn(name, "."), name);
    if (text_parse_u64(digits, 10, UINT64_MAX, &id) < 0)
        return 0;
    while (j && j->id != id)
        j = j->next;
    if (!j)
        store_remove(m->store.fd_jobs, name);
    return 0;
}

int job_load_all(struct manager *m)
{
    load_last_number(m);
    int r = store_list(m->store.fd_jobs, ".rec", load_job, m);
    for (struct job *j = m->jobs; j; j = j->next) {
        j->finished = ++m->n_finished;
        mend_handover(j);
    }
    if (r >= 0)
        r = store_list(m->store.fd_jobs, ".log", drop_stray, m);
    if (r >= 0)
        r = store_list(m->store.fd_jobs, ".journal", drop_stray, m);
    if (r >= 0)
        r = store_list(m->store.fd_jobs, ".part", drop_stray, m);
    job_forget_old(m);
    return r;
}

/* ---- lingering ---- */

/*
 * The one that ended first, and how many there are. A flash that can be continued stays until its journal is
 * void or it is released: others' jobs, or a clock that was set, must not take a brick its way back. There is
 * one of them a port at most (take_destructive()).
 */
static struct job *first_ended(struct manager *m, unsigned *ret_count)
{
    struct job *first = NULL;
    *ret_count = 0;
    for (struct job *j = m->jobs; j; j = j->next) {
        if (!job_finished(j) || !j->id || job_resumable(j) || job_backup_resumable(j))
            continue;
        ++*ret_count;
        if (!first || j->finished < first->finished)
            first = j;
    }
    return first;
}

void job_forget_old(struct manager *m)
{
    usec_t now = realtime_usec(), limit = m->config.jobs_linger_time;
    unsigned finished;
    job_drop_parts(m, false);
    for (struct job *j; (j = first_ended(m, &finished));) {
        bool old = now > limit && j->end_time < now - limit;
        if (finished <= m->config.jobs_linger && !old)
            return;
        job_remove_files(j);
        job_free(j);
    }
}
