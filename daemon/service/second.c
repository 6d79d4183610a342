/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/second.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "service/expect.h"
#include "service/log.h"
#include "service/process.h"

enum { FACTS_MAX = 64, NAME_MAX_BYTES = 64 };

struct second {
    struct manager *manager;
    char *prefix;
    second_handler handler;
    void *userdata;
    struct process *process;
    sd_event_source *timer;
    struct record *facts;
    size_t n_facts;
    enum link_stage stage;
    bool over, done; /* RESULT came, and was "done" */
    struct error said, own;
};

static int on_silence(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct second *s = userdata;
    error_set(&s->own, ERROR_TIMEOUT, "The worker that reads the file again said nothing for %d s.",
              SECOND_SILENCE_USEC / 1000000);
    process_kill(s->process, NULL);
    return 0;
}

static int rearm(struct second *s)
{
    s->timer = sd_event_source_disable_unref(s->timer);
    return sd_event_add_time_relative(s->manager->event, &s->timer, CLOCK_MONOTONIC, SECOND_SILENCE_USEC, 0,
                                      on_silence, s);
}

/* ---- what it says ---- */

/* A time in microseconds has as many digits as an IMEI. */
static bool is_time(const char *name, const char *value)
{
    return strcmp(name, "created") == 0 && strspn(value, "0123456789") == strlen(value);
}

static int take_fact(struct second *s, const char *key, const char *value)
{
    char clean[OBJECT_STRING_MAX];
    if (!text_starts_with(key, s->prefix) || strlen(key) > NAME_MAX_BYTES || s->n_facts++ == FACTS_MAX)
        return -EBADMSG;
    const char *name = key + strlen(s->prefix);
    text_clean(value, strlen(value), clean, sizeof(clean));
    return record_set(s->facts, name, is_time(name, value) ? value : clean);
}

static int take_key(struct second *s, const char *key, const char *value)
{
    if (strcmp(key, KEY_READY) == 0) {
        s->stage = STAGE_RUNNING;
    } else if (strcmp(key, KEY_RESULT) == 0) {
        s->over = true;
        s->done = strcmp(value, "done") == 0;
    } else if (strcmp(key, KEY_ERROR) == 0) {
        s->said.kind = error_from_name(value);
    } else if (strcmp(key, KEY_MESSAGE) == 0) {
        text_clean(value, strlen(value), s->said.message, sizeof(s->said.message));
    } else if (strcmp(key, KEY_HINT) == 0) {
        s->said.hint = hint_from_name(value);
    } else if (strchr(key, '.') && !text_starts_with(key, KEY_REPORT)) {
        return take_fact(s, key, value);
    }
    return 0; /* its progress and log are nobody's */
}

static void on_message(void *userdata, struct link_message *m)
{
    struct second *s = userdata;
    bool fine = m->n_fds == 0 && rearm(s) >= 0;
    for (size_t i = 0; fine && i < m->n_fields; i++)
        fine = expect_key(JOB_VERIFY, s->stage, m->fields[i].key) &&
               take_key(s, m->fields[i].key, m->fields[i].value) == 0;
    if (s->over)
        s->stage = STAGE_ENDED; /* its words come in the same message */
    if (!fine)
        process_kill(s->process, "it broke the rules of the link");
}

static void on_gone(void *userdata, const struct process_end *end)
{
    struct second *s = userdata;
    bool fine = end->clean && s->done && s->own.kind == ERROR_NONE;
    struct error e = s->own.kind != ERROR_NONE ? s->own : s->said;
    if (!fine && (!end->clean || e.kind == ERROR_NONE) && s->own.kind == ERROR_NONE)
        error_set(&e, ERROR_FAILED, "The worker that reads the file again ended without a result%s%s.",
                  end->broken ? ": " : "", end->broken ? end->broken : "");
    s->handler(s->userdata, fine ? s->facts : NULL, &e);
    second_free(s);
}

/* ---- life ---- */

static int send_order(struct second *s, const struct second_order *order)
{
    struct link_message m = {.size = 0};
    int r = link_add(&m, KEY_JOB, job_kind_name(JOB_VERIFY));
    if (r == 0)
        r = link_add(&m, KEY_OPTION "type", order->type);
    if (r == 0 && order->id)
        r = link_add(&m, KEY_OPTION "id", order->id);
    /* Whose a calibration is, is told by its IMEI as the service knows it. */
    if (r == 0)
        r = link_add(&m, KEY_OPTION "imei-key", s->manager->imei_key);
    if (r == 0)
        r = link_add(&m, KEY_FD, "store");
    if (r < 0)
        close_fd(order->fd);
    else
        r = link_add_fd(&m, order->fd);
    if (r == 0)
        process_send(s->process, &m);
    link_message_done(&m);
    return r;
}

int second_start(struct manager *m, const struct second_order *order, second_handler handler, void *userdata,
                 struct second **ret, struct error *e)
{
    struct second *s = calloc(1, sizeof(*s));
    if (!s) {
        close_fd(order->fd);
        return error_set(e, ERROR_FAILED, "Out of memory.");
    }
    *s = (struct second){.manager = m, .handler = handler, .userdata = userdata, .facts = record_new()};
    s->prefix = strdup(order->prefix);
    const struct process_handler process = {.message = on_message, .gone = on_gone, .userdata = s};
    int r =
        s->facts && s->prefix ? process_start(m->event, m->worker_binary, &process, &s->process) : -ENOMEM;
    if (r < 0)
        close_fd(order->fd);
    else
        r = send_order(s, order);
    if (r >= 0)
        r = rearm(s);
    if (r < 0) {
        second_free(s);
        return error_set(e, ERROR_FAILED, "The worker that reads the file again cannot be started: %s.",
                         strerror(-r));
    }
    *ret = s;
    return 0;
}

void second_stop(struct second *s, const struct error *why)
{
    if (s->own.kind == ERROR_NONE)
        s->own = *why;
    process_kill(s->process, NULL);
}

struct second *second_free(struct second *s)
{
    if (!s)
        return NULL;
    sd_event_source_disable_unref(s->timer);
    process_free(s->process);
    record_free(s->facts);
    free(s->prefix);
    free(s);
    return NULL;
}

/*
 * A read lease is granted only while nobody has the file open for writing, by descriptor or by mapping
 * (fcntl(2), F_SETLEASE): the kernel's word that what is read now stays.
 */
int second_reopen(int fd, int *ret)
{
    static bool said;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC), number = errno;
    close_fd(fd);
    if (reader < 0)
        return -number;
    if (fcntl(reader, F_SETLEASE, F_RDLCK) < 0) {
        if (errno == EAGAIN) {
            close_fd(reader);
            return -ETXTBSY;
        }
        if (!said)
            log_message(LOG_WARNING,
                        "The state directory's file system knows no leases (%s): a worker that keeps a "
                        "file open after its end is not noticed.",
                        strerror(errno));
        said = true;
    } else {
        (void)fcntl(reader, F_SETLEASE, F_UNLCK);
    }
    *ret = reader;
    return 0;
}

int second_start_over(struct manager *m, int *fd, const char *kind, struct second_order *order,
                      second_handler handler, void *userdata, struct second **ret, struct error *e)
{
    int reader = -1;
    int r = second_reopen(steal_fd(fd), &reader);
    if (r == -ETXTBSY)
        return error_set(e, ERROR_FAILED, "The worker of this %s did not close the file that it wrote.",
                         kind);
    if (r >= 0) {
        *fd = reader;
        order->fd = fcntl(reader, F_DUPFD_CLOEXEC, 0);
        r = order->fd < 0 ? -errno : 0;
    }
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The file of this %s cannot be read again: %s.", kind,
                         strerror(-r));
    return second_start(m, order, handler, userdata, ret, e);
}
