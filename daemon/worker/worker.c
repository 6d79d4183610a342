/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/text.h"
#include "transport/transport.h"

enum {
    MESSAGES_AT_ONCE = 64, /* a check reads no more than that, whatever the service sends */
    USB_ID_DIGITS = 4,
};

/* What a wrapped waker returns when that has come what its wait was for. */
enum { WAIT_OVER = -EALREADY };

static const char *const appearances[] = {"normal", "edl", "crash-dump", "fastboot", "unknown"};

_Noreturn static void bad_link(const char *what, const char *detail)
{
    fprintf(stderr, "qdld-worker: the service broke the link's rules: %s%s%s\n", what, *detail ? ": " : "",
            detail);
    _exit(EXIT_FAILURE);
}

void worker_init(struct worker *w, int link)
{
    *w = (struct worker){.link = link,
                         .fd_archive = -1,
                         .fd_store = -1,
                         .fd_package = -1,
                         .fd_journal = -1,
                         .fd_recorded = -1,
                         .fd_backup = -1,
                         .fd_source = -1,
                         .fd_calibration = -1,
                         .fd_device = -1,
                         .fd_send = -1};
    for (size_t i = 0; i < ARRAY_SIZE(w->fd_candidates); i++)
        w->fd_candidates[i] = -1;
    int flags = fcntl(link, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK))
        fcntl(link, F_SETFL, flags & ~O_NONBLOCK);
    for (int fd; w->n_rooms < WORKER_ROOMS && (fd = io_memfd_room("qdld", WORKER_ROOM_SIZE)) >= 0;)
        w->rooms[w->n_rooms++] = fd;
}

void worker_done(struct worker *w)
{
    link_message_done(&w->in);
    link_message_done(&w->out);
    for (size_t i = 0; i < w->n_options; i++) {
        free(w->options[i].name);
        free(w->options[i].value);
    }
    free(w->options);
    w->options = NULL;
    w->n_options = 0;
    int *const given[] = {&w->fd_archive, &w->fd_store,  &w->fd_package,     &w->fd_journal, &w->fd_recorded,
                          &w->fd_backup,  &w->fd_source, &w->fd_calibration, &w->fd_device};
    for (size_t i = 0; i < ARRAY_SIZE(given); i++)
        *given[i] = close_fd(*given[i]);
    while (w->n_rooms > 0)
        close_fd(w->rooms[--w->n_rooms]);
    free(w->handed);
    w->handed = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(w->fd_candidates); i++)
        w->fd_candidates[i] = close_fd(w->fd_candidates[i]);
    if (w->closed)
        w->fd_send = close_fd(w->fd_send);
    w->closed = false;
}

/* ---- taking messages in ---- */

static int *named_fd(struct worker *w, const char *name)
{
    const struct {
        const char *name;
        int *fd;
    } table[] = {{"archive", &w->fd_archive},   {"store", &w->fd_store},
                 {"package", &w->fd_package},   {"journal", &w->fd_journal},
                 {"recorded", &w->fd_recorded}, {"backup", &w->fd_backup},
                 {"source", &w->fd_source},     {"calibration", &w->fd_calibration}};
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].fd;
    uint64_t number;
    if (text_starts_with(name, "candidate-") &&
        text_parse_u64(name + strlen("candidate-"), 10, WORKER_CANDIDATES_MAX - 1, &number) == 0)
        return &w->fd_candidates[number];
    return NULL;
}

static void take_job(struct worker *w, const char *kind)
{
    if (w->kind[0] || !*kind || strlen(kind) >= sizeof(w->kind))
        bad_link("an unexpected JOB", kind);
    memcpy(w->kind, kind, strlen(kind) + 1);
}

static void take_fd(struct worker *w, const char *name)
{
    int *fd = named_fd(w, name);
    if (!fd || *fd >= 0 || (*fd = link_steal_fd(&w->in)) < 0)
        bad_link("a descriptor that is unknown, given twice or not there", name);
}

static void take_option(struct worker *w, const char *name, const char *value)
{
    if (worker_option(w, name, NULL))
        bad_link("an option given twice", name);
    struct worker_option *grown = reallocarray(w->options, w->n_options + 1, sizeof(*grown));
    if (!grown)
        bad_link("no memory for an option", name);
    w->options = grown;
    struct worker_option *o = &w->options[w->n_options++];
    *o = (struct worker_option){.name = strdup(name), .value = strdup(value)};
    if (!o->name || !o->value)
        bad_link("no memory for an option", name);
}

/* The newest device counts: one that was given before and never opened has gone in the meantime. */
static void take_device(struct worker *w)
{
    close_fd(w->fd_device);
    w->fd_device = link_steal_fd(&w->in);
    if (w->fd_device < 0)
        bad_link("DEVICE without a descriptor", "");
    w->device_gone = w->elsewhere = false;
    w->since = 0;
    w->vid[0] = w->pid[0] = w->product[0] = '\0';
}

static void take_appeared(struct worker *w, const char *mode)
{
    for (size_t i = 0; i < ARRAY_SIZE(appearances); i++) {
        if (strcmp(appearances[i], mode) != 0)
            continue;
        snprintf(w->appeared, sizeof(w->appeared), "%s", mode);
        w->vid[0] = w->pid[0] = w->product[0] = '\0';
        return;
    }
    bad_link("an appearance that is none", mode);
}

static void take_usb_id(char *id, const char *value)
{
    if (strlen(value) != USB_ID_DIGITS || strspn(value, "0123456789abcdefABCDEF") != USB_ID_DIGITS)
        bad_link("a USB id that is none", value);
    memcpy(id, value, USB_ID_DIGITS + 1);
}

static void take_since(struct worker *w, const char *value)
{
    if (text_parse_u64(value, 10, UINT64_MAX, &w->since) < 0)
        bad_link("a time that is none", value);
}

static void take_flag(bool *flag, const char *key, const char *value)
{
    if (strcmp(value, "1") != 0)
        bad_link(key, value);
    *flag = true;
}

/* Its words come in the same message. An answer that says neither where it is nor why not is none. */
static void take_backup_answer(struct worker *w, const struct link_field *f)
{
    bool answer = false, stored = strcmp(f->key, KEY_BACKUP_STORED) == 0;
    const char *words = link_get(&w->in, stored ? KEY_ID : KEY_MESSAGE);
    char *to = stored ? w->backup_id : w->backup_refused;
    size_t size = stored ? sizeof(w->backup_id) : sizeof(w->backup_refused);
    take_flag(&answer, f->key, f->value);
    if (!w->backup_asked || w->backup_id[0] || w->backup_refused[0])
        bad_link("an answer about a backup that nobody waits for", f->key);
    if (!words || !*words || (stored && strspn(words, "0123456789abcdef") != size - 1))
        bad_link("an answer about a backup without its words", f->key);
    if (stored && strlen(words) != size - 1)
        bad_link("a backup's id that is none", words);
    snprintf(to, size, "%s", words);
}

static void take_field(struct worker *w, const struct link_field *f, bool job)
{
    bool device = false;
    if (!job &&
        (strcmp(f->key, KEY_JOB) == 0 || strcmp(f->key, KEY_FD) == 0 || text_starts_with(f->key, KEY_OPTION)))
        bad_link("a key that belongs to a JOB message", f->key);
    if (strcmp(f->key, KEY_JOB) == 0) {
        take_job(w, f->value);
    } else if (strcmp(f->key, KEY_FD) == 0) {
        take_fd(w, f->value);
    } else if (text_starts_with(f->key, KEY_OPTION)) {
        take_option(w, f->key + strlen(KEY_OPTION), f->value);
    } else if (strcmp(f->key, KEY_DEVICE) == 0) {
        take_flag(&device, f->key, f->value);
        take_device(w);
    } else if (strcmp(f->key, KEY_DEVICE_GONE) == 0) {
        take_flag(&w->device_gone, f->key, f->value);
        w->fd_device = close_fd(w->fd_device);
    } else if (strcmp(f->key, KEY_APPEARED) == 0) {
        take_appeared(w, f->value);
    } else if (strcmp(f->key, KEY_VID) == 0) {
        take_usb_id(w->vid, f->value);
    } else if (strcmp(f->key, KEY_PID) == 0) {
        take_usb_id(w->pid, f->value);
    } else if (strcmp(f->key, KEY_SINCE) == 0) {
        take_since(w, f->value);
    } else if (strcmp(f->key, KEY_ELSEWHERE) == 0) {
        take_flag(&w->elsewhere, f->key, f->value);
    } else if (strcmp(f->key, KEY_PRODUCT) == 0) {
        snprintf(w->product, sizeof(w->product), "%s", f->value);
    } else if (strcmp(f->key, KEY_BACKUP_STORED) == 0 || strcmp(f->key, KEY_BACKUP_REFUSED) == 0) {
        take_backup_answer(w, f);
    } else if (strcmp(f->key, KEY_ID) == 0 || strcmp(f->key, KEY_MESSAGE) == 0) {
        ; /* words of the answer beside them */
    } else if (strcmp(f->key, KEY_CANCEL) == 0) {
        take_flag(&w->cancel, f->key, f->value);
    } else if (strcmp(f->key, KEY_STOP) == 0) {
        take_flag(&w->stop, f->key, f->value);
    } else if (strcmp(f->key, KEY_RELEASE) == 0) {
        take_flag(&w->release, f->key, f->value);
    } else {
        bad_link("a key without a meaning", f->key);
    }
}

/*
 * A closed link is readable for ever, and a wait inside a critical section would spin on it. So its number is
 * given to a descriptor that never becomes readable; what there is still to tell (SIGTERM closes only our
 * ear) goes through a copy.
 */
static void link_closed(struct worker *w)
{
    w->stop = true;
    if (w->closed)
        return;
    _cleanup_close_ int silent = eventfd(0, EFD_CLOEXEC);
    int copy = fcntl(w->link, F_DUPFD_CLOEXEC, LINK_WORKER_FD);
    if (silent < 0 || copy < 0 || dup3(silent, w->link, O_CLOEXEC) < 0)
        bad_link("the link ended and cannot be replaced", strerror(errno));
    w->fd_send = copy;
    w->closed = true;
}

/* One message, if there is one. 1: taken in; 0: nothing there (any more). */
static int take_message(struct worker *w, bool job)
{
    if (w->closed)
        return 0;
    int r = link_receive(w->link, MSG_DONTWAIT, link_keys_from_service, &w->in);
    if (r == -EAGAIN)
        return 0;
    if (r == 0) {
        link_closed(w);
        return 0;
    }
    if (r < 0)
        bad_link("a datagram that is no message", strerror(-r));
    if (job && !link_get(&w->in, KEY_JOB))
        job = false;
    for (size_t i = 0; i < w->in.n_fields; i++)
        take_field(w, &w->in.fields[i], job);
    if (link_steal_fd(&w->in) >= 0)
        bad_link("a descriptor that no key names", "");
    return 1;
}

int worker_receive_job(struct worker *w)
{
    while (!w->kind[0]) {
        if (w->stop || w->release)
            return 0;
        if (take_message(w, true) > 0 || w->stop)
            continue;
        struct pollfd p = {.fd = w->link, .events = POLLIN};
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            bad_link("poll", strerror(errno));
    }
    return 1;
}

const char *worker_option(const struct worker *w, const char *name, const char *fallback)
{
    for (size_t i = 0; i < w->n_options; i++)
        if (strcmp(w->options[i].name, name) == 0)
            return w->options[i].value;
    return fallback;
}

uint64_t worker_option_u64(const struct worker *w, const char *name, uint64_t fallback)
{
    const char *value = worker_option(w, name, NULL);
    uint64_t number;
    return value && text_parse_u64(value, 10, UINT64_MAX, &number) == 0 ? number : fallback;
}

int worker_wake(void *userdata)
{
    struct worker *w = userdata;
    take_message(w, false);
    if (w->stop && !w->critical)
        return -EINTR;
    if (w->cancel && !w->critical)
        return -ECANCELED;
    return w->device_gone ? -ENODEV : 0;
}

static int asked_to_end(const struct worker *w, struct error *e)
{
    if (w->stop)
        return error_set(e, ERROR_INTERRUPTED, "interrupted: the service is stopping");
    if (w->cancel && !w->critical)
        return error_set(e, ERROR_CANCELLED, "cancelled before it was done");
    return 0;
}

int worker_check(struct worker *w, struct error *e)
{
    for (int i = 0; i < MESSAGES_AT_ONCE && take_message(w, false) > 0; i++)
        ;
    return asked_to_end(w, e);
}

int worker_check_as(struct worker *w, bool critical, struct error *e)
{
    bool before = w->critical;
    w->critical = critical;
    int r = worker_check(w, e);
    w->critical = before;
    return r;
}

static int wake_on_device(void *userdata)
{
    struct worker *w = userdata;
    take_message(w, false);
    return w->fd_device >= 0 || asked_to_end(w, NULL) < 0 ? WAIT_OVER : 0;
}

static int wake_on_appeared(void *userdata)
{
    struct worker *w = userdata;
    take_message(w, false);
    return w->appeared[0] || asked_to_end(w, NULL) < 0 ? WAIT_OVER : 0;
}

static int wake_on_either(void *userdata)
{
    struct worker *w = userdata;
    int r = wake_on_device(w);
    return w->appeared[0] ? WAIT_OVER : r;
}

static int wait_for(struct worker *w, transport_waker waker, usec_t deadline, const char *what,
                    struct error *e)
{
    int r = 0;
    while (r == 0)
        r = waker(w) == WAIT_OVER ? WAIT_OVER : transport_wait(NULL, w->link, waker, w, deadline);
    int asked = asked_to_end(w, e);
    if (asked < 0)
        return asked;
    if (r == WAIT_OVER)
        return 0;
    if (r == -ETIMEDOUT)
        return error_set(e, ERROR_TIMEOUT, "%s within the time allowed", what);
    return error_set(e, ERROR_FAILED, "waiting for the modem: %s", strerror(-r));
}

int worker_wait_device(struct worker *w, usec_t deadline, struct error *e)
{
    return wait_for(w, wake_on_device, deadline, "no modem in emergency download mode appeared", e);
}

int worker_wait_news(struct worker *w, usec_t deadline, struct error *e)
{
    return wait_for(w, wake_on_either, deadline, "no modem in emergency download mode appeared", e);
}

int worker_wait_appeared(struct worker *w, usec_t deadline, struct error *e)
{
    return wait_for(w, wake_on_appeared, deadline, "the modem did not appear", e);
}
