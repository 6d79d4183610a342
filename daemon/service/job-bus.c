/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/job.h"

#include <errno.h>
#include <string.h>

#include "service/errors.h"
#include "service/options.h"

/* ---- Wait ---- */

/*
 * A call that is answered when the job is finished; dropped when its sender leaves the bus (job_drop_waits).
 * Not the call is kept but its reply: a call can carry 16 descriptors that nobody asked for, and hundreds may
 * wait.
 */
struct job_wait {
    struct job *job;
    struct job_wait *next;
    sd_bus_message *reply;
    char *sender;
    uid_t uid;
};

static void wait_free(struct job_wait *w)
{
    for (struct job_wait **i = &w->job->waits; *i; i = &(*i)->next)
        if (*i == w) {
            *i = w->next;
            break;
        }
    free(w->sender);
    sd_bus_message_unref(w->reply);
    free(w);
}

static int wait_new(struct job *j, sd_bus_message *m, sd_bus_error *error)
{
    unsigned all = 0, own = 0;
    uid_t uid;
    int r = senders_uid(j->manager->senders, m, &uid);
    if (r < 0)
        return r;
    for (const struct job_wait *i = j->waits; i; i = i->next) {
        all++;
        own += i->uid == uid;
    }
    if (own >= JOB_WAITS_PER_UID || all >= JOB_WAITS_MAX)
        return errors_set(error, ERROR_LIMIT_EXCEEDED, "%u calls wait for job %s already.", all,
                          job_title(j));

    struct job_wait *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    *w = (struct job_wait){.job = j, .next = j->waits, .uid = uid};
    j->waits = w;
    w->sender = strdup(sd_bus_message_get_sender(m));
    r = w->sender ? sd_bus_message_new_method_return(m, &w->reply) : -ENOMEM;
    if (r < 0)
        wait_free(w);
    return r;
}

void job_answer_waits(struct job *j)
{
    while (j->waits) {
        if (sd_bus_message_append_basic(j->waits->reply, 's', j->result) >= 0)
            sd_bus_send(NULL, j->waits->reply, NULL);
        wait_free(j->waits);
    }
}

void job_drop_waits(struct job *j, const char *sender)
{
    for (struct job_wait *w = j->waits, *next; w; w = next) {
        next = w->next;
        if (!sender || strcmp(w->sender, sender) == 0)
            wait_free(w);
    }
}

/* ---- properties ---- */

static int get_path(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                    const char *property _unused_, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error _unused_)
{
    const char *value = *(char **)userdata;
    return sd_bus_message_append_basic(reply, 'o', value && *value ? value : "/");
}

struct report {
    sd_bus_message *reply;
    int result;
};

static void append_report(void *userdata, const char *key, const char *value)
{
    struct report *r = userdata;
    if (r->result >= 0)
        r->result = sd_bus_message_append(r->reply, "{sv}", key, "s", value);
}

static int get_report(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                      const char *property _unused_, sd_bus_message *reply, void *userdata,
                      sd_bus_error *error _unused_)
{
    const struct job *j = userdata;
    struct report report = {.reply = reply};
    report.result = sd_bus_message_open_container(reply, 'a', "{sv}");
    record_each(j->report, append_report, &report);
    if (report.result < 0 || j->n_problems == 0)
        return report.result < 0 ? report.result : sd_bus_message_close_container(reply);

    int r = sd_bus_message_open_container(reply, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append_basic(reply, 's', "problems");
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'v', "as");
    if (r >= 0)
        r = sd_bus_message_append_strv(reply, j->problems);
    for (int i = 0; r >= 0 && i < 3; i++) /* the variant, the entry, the dictionary */
        r = sd_bus_message_close_container(reply);
    return r;
}

/* ---- methods ---- */

static int read_no_options(sd_bus_message *m, sd_bus_error *error)
{
    return options_read(m, NULL, error);
}

/* True if the caller asked for the job; root's are not special here. */
static bool is_owner(const struct job *j, sd_bus_message *m)
{
    uid_t uid;
    return senders_uid(j->manager->senders, m, &uid) >= 0 && uid == j->owner_uid;
}

static int authorise(struct job *j, sd_bus_message *m, sd_bus_error *error)
{
    struct bouncer_detail details[] = {{"job", job_title(j)}, {NULL, NULL}};
    return manager_authorise(j->manager, m, is_owner(j, m), NULL, details, error);
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct job *j = userdata;
    int r = read_no_options(m, error);
    if (r >= 0)
        r = authorise(j, m, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = job_cancel(j, error);
    return r < 0 ? r : sd_bus_reply_method_return(m, NULL);
}

static int method_wait(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct job *j = userdata;
    int r = read_no_options(m, error);
    if (r >= 0)
        r = authorise(j, m, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (job_finished(j))
        return sd_bus_reply_method_return(m, "s", j->result);
    r = wait_new(j, m, error);
    return r < 0 ? r : 1;
}

static int method_get_log(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct job *j = userdata;
    int r = read_no_options(m, error);
    if (r >= 0)
        r = authorise(j, m, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    _cleanup_close_ int fd = job_open_log(j);
    if (fd < 0)
        return errors_set(error, ERROR_FAILED, "The log of job %s cannot be opened: %s.", job_title(j),
                          strerror(-fd));
    return sd_bus_reply_method_return(m, "h", fd);
}

static int method_release(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct job *j = userdata;
    int r = read_no_options(m, error);
    if (r >= 0)
        r = authorise(j, m, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (!job_finished(j))
        return errors_set(error, ERROR_NOT_CANCELABLE, "Job %s is not finished; Cancel it first.",
                          job_title(j));
    job_remove_files(j);
    r = sd_bus_reply_method_return(m, NULL);
    job_free(j);
    return r < 0 ? r : 1;
}

#define CONST         SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES       SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define FIELD(member) offsetof(struct job, member)

const sd_bus_vtable job_vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Id", "t", NULL, FIELD(id), CONST),
    SD_BUS_PROPERTY("Kind", "s", NULL, FIELD(kind), CONST),
    SD_BUS_PROPERTY("Modem", "o", get_path, FIELD(modem_path), CONST),
    SD_BUS_PROPERTY("OwnerUid", "u", NULL, FIELD(owner_uid), CONST),
    SD_BUS_PROPERTY("CreatedTime", "t", NULL, FIELD(created_time), CONST),
    SD_BUS_PROPERTY("Resumes", "o", get_path, FIELD(resumes_path), CHANGES),
    SD_BUS_PROPERTY("State", "s", NULL, FIELD(state), CHANGES),
    SD_BUS_PROPERTY("Result", "s", NULL, FIELD(result), CHANGES),
    SD_BUS_PROPERTY("Phase", "s", NULL, FIELD(phase), CHANGES),
    SD_BUS_PROPERTY("Detail", "s", NULL, FIELD(detail), CHANGES),
    SD_BUS_PROPERTY("Progress", "d", NULL, FIELD(progress.fraction), CHANGES),
    SD_BUS_PROPERTY("BytesDone", "t", NULL, FIELD(progress.bytes_done), CHANGES),
    SD_BUS_PROPERTY("BytesTotal", "t", NULL, FIELD(progress.bytes_total), CHANGES),
    SD_BUS_PROPERTY("Rate", "t", NULL, FIELD(progress.rate), CHANGES),
    SD_BUS_PROPERTY("ExpectedEndTime", "t", NULL, FIELD(progress.expected_end), CHANGES),
    SD_BUS_PROPERTY("StartTime", "t", NULL, FIELD(start_time), CHANGES),
    SD_BUS_PROPERTY("EndTime", "t", NULL, FIELD(end_time), CHANGES),
    SD_BUS_PROPERTY("Window", "u", NULL, FIELD(window), CHANGES),
    SD_BUS_PROPERTY("Object", "o", get_path, FIELD(object_path), CHANGES),
    SD_BUS_PROPERTY("Cancelable", "b", NULL, FIELD(cancelable), CHANGES),
    SD_BUS_PROPERTY("SafeToUnplug", "b", NULL, FIELD(safe_to_unplug), CHANGES),
    SD_BUS_PROPERTY("ErrorName", "s", NULL, FIELD(error_name), CHANGES),
    SD_BUS_PROPERTY("ErrorMessage", "s", NULL, FIELD(error_message), CHANGES),
    SD_BUS_PROPERTY("RecoveryHint", "s", NULL, FIELD(recovery_hint), CHANGES),
    SD_BUS_PROPERTY("Report", "a{sv}", get_report, 0, CHANGES),
    SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_cancel,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Wait", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", result), method_wait,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetLog", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", log), method_get_log,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_release,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};
