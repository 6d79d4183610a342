/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { STACK_SIZE = 64 * 1024 };

struct opener {
    sd_event_source *source;
    int socket;
    opener_handler handler;
    void *userdata;
};

/* The thread's own; it shares nothing with the loop but the other end of the socket. */
struct request {
    char *path;
    int socket;
};

static atomic_uint n_threads;

/* ---- one descriptor, or an errno, through a socket ---- */

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static void send_result(int socket, int fd)
{
    int error = fd < 0 ? fd : 0;
    union control control = {0};
    struct iovec iov = {.iov_base = &error, .iov_len = sizeof(error)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    /* It has room for one; that nobody is there any more is no error. */
    (void)sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int receive_result(int socket)
{
    int error = -EIO, fd = -1;
    union control control;
    struct iovec iov = {.iov_base = &error, .iov_len = sizeof(error)};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(error))
        return -EIO;
    if (error < 0)
        return error;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (!c || c->cmsg_type != SCM_RIGHTS)
        return -EMFILE; /* no number was free for it */
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

/* ---- the thread ---- */

static void *run(void *argument)
{
    struct request *q = argument;
    /*
     * No retry for a node that is not there yet: whoever scans sysfs may find a device before its node
     * (reference/edl.md 3.3), but an appearance comes from udevd's own event, which it sends when node, owner
     * and mode are in place, and cold devices that udevd has not finished are left to that event
     * (watch-udev.c). So -ENOENT is an unplug.
     */
    int fd = open(q->path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    send_result(q->socket, fd < 0 ? -errno : fd);
    close_fd(fd);
    close_fd(q->socket);
    free(q->path);
    free(q);
    atomic_fetch_sub(&n_threads, 1);
    return NULL;
}

static int start_thread(struct request *q)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, old;
    int r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&thread, &attributes, run, q);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return -r;
}

static int start_opening(const char *path, int *socket)
{
    struct request *q = calloc(1, sizeof(*q));
    if (!q)
        return -ENOMEM;
    *q = (struct request){.path = strdup(path), .socket = *socket};
    int r = q->path ? 0 : -ENOMEM;
    if (atomic_fetch_add(&n_threads, 1) >= OPENERS_MAX)
        r = -EAGAIN;
    if (r == 0)
        r = start_thread(q);
    if (r == 0) {
        *socket = -1;
        return 0;
    }
    atomic_fetch_sub(&n_threads, 1);
    free(q->path);
    free(q);
    return r;
}

/* ---- the loop's side ---- */

static int on_result(sd_event_source *source _unused_, int fd, uint32_t events _unused_, void *userdata)
{
    struct opener *o = userdata;
    sd_event_source_set_enabled(o->source, SD_EVENT_OFF);
    o->handler(o->userdata, receive_result(fd));
    return 0;
}

int opener_start(sd_event *event, const struct appearance *a, opener_handler handler, void *userdata,
                 struct opener **ret)
{
    int pair[2];
    if (a->virtual_fd < 0 && !a->devnode)
        return -ENODEV;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    struct opener *o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    *o = (struct opener){.socket = steal_fd(&ours), .handler = handler, .userdata = userdata};
    int r = sd_event_add_io(event, &o->source, o->socket, EPOLLIN, on_result, o);
    if (r >= 0 && a->virtual_fd >= 0)
        send_result(theirs, a->virtual_fd);
    else if (r >= 0)
        r = start_opening(a->devnode, &theirs);
    if (r < 0) {
        opener_free(o);
        return r;
    }
    *ret = o;
    return 0;
}

struct opener *opener_free(struct opener *o)
{
    if (!o)
        return NULL;
    sd_event_source_disable_unref(o->source);
    close_fd(o->socket);
    free(o);
    return NULL;
}

/* ---- errors ---- */

bool opener_is_gone(int error)
{
    return error == -ENOENT || error == -ENODEV || error == -ENXIO || error == -ESHUTDOWN;
}

static const struct {
    int number;
    enum error_kind kind;
    enum error_hint hint;
    const char *advice;
} reasons[] = {
    {EACCES, ERROR_FAILED, HINT_REPLUG,
     "qdld has no right to it: the udev rules 60-qdld.rules give it to qdld's group when it is plugged in"},
    {EPERM, ERROR_FAILED, HINT_REPLUG,
     "something forbids it to qdld: look at the unit's DeviceAllow= and the security policy"},
    {EBUSY, ERROR_MODEM_BUSY, HINT_RETRY, "another program has it for itself; end that first"},
    {EMFILE, ERROR_LIMIT_EXCEEDED, HINT_RETRY,
     "qdld has as many files open as it may (LimitNOFILE= of the unit); end other jobs first"},
    {ENFILE, ERROR_LIMIT_EXCEEDED, HINT_RETRY, "the system has as many files open as it can"},
    {EAGAIN, ERROR_LIMIT_EXCEEDED, HINT_REPLUG,
     "too many nodes hang while they are opened, or no thread can be started (TasksMax= of the unit)"},
    {ENOMEM, ERROR_FAILED, HINT_RETRY, "the system has no memory left"},
};

int opener_explain(const char *node, int error, struct error *e)
{
    size_t i = 0;
    while (i < ARRAY_SIZE(reasons) && reasons[i].number != -error)
        i++;
    bool known = i < ARRAY_SIZE(reasons);
    const char *name = strerrorname_np(-error);
    int r = error_set(e, known ? reasons[i].kind : ERROR_FAILED,
                      "The modem's node %s cannot be opened: %s (%s); %s", node, strerror(-error),
                      name ? name : "?", known ? reasons[i].advice : "plug the modem out and in again");
    error_hint(e, known ? reasons[i].hint : HINT_REPLUG);
    return r;
}
