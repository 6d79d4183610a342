/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"

enum {
    WAITING_MAX = 16,
    WATCHDOG_PARTS = 2, /* told in half its time, as sd_watchdog_enabled(3) advises */
};

/* In the order in which it was said. */
struct waiting {
    struct waiting *next;
    char lines[];
};

struct notify {
    sd_event *event;
    sd_event_source *room, *watchdog;
    uint64_t watchdog_usec;
    int fd; /* connected while something waits, because only then the kernel tells of room; -1 */
    struct waiting *waiting;
};

/* The length of its address, 0 without a socket: a path, or with '@' a name in the abstract namespace. */
static socklen_t notify_address(struct sockaddr_un *ret)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length == 0 || (*path != '/' && *path != '@') || length >= sizeof(ret->sun_path))
        return 0;
    memcpy(ret->sun_path, path, length);
    if (*path == '@')
        ret->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int notify_connect(void)
{
    struct sockaddr_un address;
    socklen_t length = notify_address(&address);
    if (length == 0)
        return -ENOENT;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, length) < 0)
        return -errno;
    return steal_fd(&fd);
}

static int send_lines(int socket_fd, const char *lines, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec data = {.iov_base = (char *)lines, .iov_len = strlen(lines)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd >= 0) {
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.space);
    }
    return sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

bool notify_send(const char *lines, int fd)
{
    _cleanup_close_ int socket_fd = notify_connect();
    return socket_fd >= 0 && send_lines(socket_fd, lines, fd) >= 0;
}

/* ---- what must arrive ---- */

static void drop_first(struct notify *n)
{
    struct waiting *first = n->waiting;
    n->waiting = first->next;
    free(first);
}

/* Everything is said, or nobody hears it any more. */
static void stop_waiting(struct notify *n)
{
    while (n->waiting)
        drop_first(n);
    n->room = sd_event_source_disable_unref(n->room);
    n->fd = close_fd(n->fd);
}

static int on_room(sd_event_source *source _unused_, int fd, uint32_t events _unused_, void *userdata)
{
    struct notify *n = userdata;
    int r = 0;
    while (n->waiting && (r = send_lines(fd, n->waiting->lines, -1)) >= 0)
        drop_first(n);
    if (r != -EAGAIN)
        stop_waiting(n);
    return 0;
}

static struct waiting **end_of(struct notify *n)
{
    struct waiting **end = &n->waiting;
    for (unsigned count = 0; *end && count < WAITING_MAX; count++)
        end = &(*end)->next;
    return *end ? NULL : end;
}

void notify_surely(struct notify *n, const char *lines)
{
    if (n->fd < 0)
        n->fd = notify_connect();
    if (n->fd < 0)
        return;
    if (!n->waiting && send_lines(n->fd, lines, -1) != -EAGAIN) {
        stop_waiting(n);
        return;
    }
    size_t size = strlen(lines) + 1;
    struct waiting **end = end_of(n);
    if (!end || !(*end = calloc(1, sizeof(**end) + size)))
        return;
    memcpy((*end)->lines, lines, size);
    if (!n->room && sd_event_add_io(n->event, &n->room, n->fd, EPOLLOUT, on_room, n) < 0)
        stop_waiting(n);
}

/* ---- watchdog ---- */

static int on_watchdog(sd_event_source *source, uint64_t usec _unused_, void *userdata)
{
    struct notify *n = userdata;
    if (!n->waiting) /* what waits says as well that the loop turns, as soon as it is heard */
        notify_surely(n, "WATCHDOG=1");
    int r = sd_event_source_set_time_relative(source, n->watchdog_usec / WATCHDOG_PARTS);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Not sd_event_set_watchdog(), which uses sd_notify(). */
static int watch(struct notify *n)
{
    int r = sd_watchdog_enabled(false, &n->watchdog_usec);
    if (r <= 0)
        return r;
    notify_surely(n, "WATCHDOG=1");
    return sd_event_add_time_relative(n->event, &n->watchdog, CLOCK_MONOTONIC,
                                      n->watchdog_usec / WATCHDOG_PARTS, 0, on_watchdog, n);
}

int notify_new(sd_event *event, struct notify **ret)
{
    struct notify *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    *n = (struct notify){.event = sd_event_ref(event), .fd = -1};
    int r = watch(n);
    if (r < 0) {
        notify_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

struct notify *notify_free(struct notify *n)
{
    if (!n)
        return NULL;
    stop_waiting(n);
    sd_event_source_disable_unref(n->watchdog);
    sd_event_unref(n->event);
    free(n);
    return NULL;
}
