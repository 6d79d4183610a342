/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "peer-clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Real time. Nobody waits long for work of the other one, so this is a test that hangs. */
enum { PATIENCE_MS = 100 * 1000, FDS_MAX = 16 };

/* What the linker makes of the names behind --wrap; __poll_chk is poll() with _FORTIFY_SOURCE. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap___poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

static _Thread_local struct peer_clock *host_clock;

static void ring(int bell)
{
    eventfd_write(bell, 1);
}

static void silence(int bell)
{
    eventfd_t n;
    eventfd_read(bell, &n);
}

void peer_clock_open(struct peer_clock *c)
{
    *c = (struct peer_clock){.now = 1000 * USEC_PER_SEC, .awaits.fd = -1, .wakes = USEC_INFINITY};
    c->host_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->modem_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pthread_mutex_init(&c->lock, NULL) != 0 || c->host_bell < 0 || c->modem_bell < 0) {
        perror("a clock for a scripted modem");
        abort();
    }
}

void peer_clock_close(struct peer_clock *c)
{
    c->host_bell = close_fd(c->host_bell);
    c->modem_bell = close_fd(c->modem_bell);
    pthread_mutex_destroy(&c->lock);
}

void peer_clock_enter(struct peer_clock *c)
{
    host_clock = c;
}

void peer_clock_exit(void)
{
    struct peer_clock *c = host_clock;
    host_clock = NULL;
    pthread_mutex_lock(&c->lock);
    c->host_left = true;
    pthread_mutex_unlock(&c->lock);
    ring(c->modem_bell);
}

/* ---- the modem's side ---- */

/* False if there is nothing to wait for. */
static bool begin_waiting(struct peer_clock *c, int fd, short events, usec_t usec)
{
    pthread_mutex_lock(&c->lock);
    c->awaits = (struct pollfd){.fd = fd, .events = events};
    c->wakes = usec > USEC_INFINITY - c->now ? USEC_INFINITY : c->now + usec;
    c->idle = true;
    bool waits = !c->host_left;
    pthread_mutex_unlock(&c->lock);
    ring(c->host_bell);
    return waits;
}

int peer_clock_wait(struct peer_clock *c, int fd, short events, usec_t usec)
{
    bool waits = begin_waiting(c, fd, events, usec);
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = c->modem_bell, .events = POLLIN}};
    int r = __real_poll(fds, ARRAY_SIZE(fds), waits ? PATIENCE_MS : 0);
    pthread_mutex_lock(&c->lock);
    c->idle = false; /* before anything is taken, or the host would think that there was nothing to take */
    pthread_mutex_unlock(&c->lock);
    silence(c->modem_bell);
    if (r == 0 && waits)
        return -ETIMEDOUT;
    return fds[0].revents != 0;
}

void peer_clock_spend(struct peer_clock *c, usec_t usec)
{
    pthread_mutex_lock(&c->lock);
    c->now += usec;
    pthread_mutex_unlock(&c->lock);
}

void peer_clock_leave(struct peer_clock *c)
{
    (void)begin_waiting(c, -1, 0, USEC_INFINITY);
}

/* ---- the host's side ---- */

enum turn { TURN_READY, TURN_OVER, TURN_MODEM };

/* Nothing was ready a moment ago. Whose turn is it? Time passes here and nowhere else. */
static enum turn next_turn(struct peer_clock *c, struct pollfd *fds, nfds_t n, usec_t end, int *ret_ready)
{
    enum turn turn = TURN_MODEM;
    pthread_mutex_lock(&c->lock);
    if (c->idle && __real_poll(&c->awaits, 1, 0) == 0) {
        *ret_ready = __real_poll(fds, n, 0); /* what it did before it began to wait */
        if (*ret_ready != 0) {
            turn = TURN_READY;
        } else if (c->wakes != USEC_INFINITY && c->wakes <= end) {
            c->now = MAX_OF(c->now, c->wakes);
            c->idle = false;
            ring(c->modem_bell);
        } else if (end != USEC_INFINITY) {
            c->now = MAX_OF(c->now, end);
            turn = TURN_OVER;
        }
    }
    pthread_mutex_unlock(&c->lock);
    return turn;
}

static int clocked_poll(struct peer_clock *c, struct pollfd *fds, nfds_t n, int timeout)
{
    struct pollfd all[FDS_MAX + 1];
    usec_t end = timeout < 0 ? USEC_INFINITY : now_usec() + (usec_t)timeout * USEC_PER_MSEC;
    if (n > FDS_MAX) {
        errno = EINVAL;
        return -1;
    }
    for (;;) {
        int r = __real_poll(fds, n, 0);
        if (r != 0)
            return r;
        silence(c->host_bell);
        switch (next_turn(c, fds, n, end, &r)) {
        case TURN_READY:
            return r;
        case TURN_OVER:
            return 0;
        case TURN_MODEM:
            break;
        }
        memcpy(all, fds, n * sizeof(*fds));
        all[n] = (struct pollfd){.fd = c->host_bell, .events = POLLIN};
        if (__real_poll(all, n + 1, PATIENCE_MS) == 0) {
            fprintf(stderr, "neither the modem nor the host does anything any more\n");
            abort();
        }
    }
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    return host_clock ? clocked_poll(host_clock, fds, n, timeout) : __real_poll(fds, n, timeout);
}

int __wrap___poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    if (n > size / sizeof(*fds))
        abort();
    return __wrap_poll(fds, n, timeout);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
    struct peer_clock *c = host_clock;
    if (!c || id != CLOCK_MONOTONIC)
        return __real_clock_gettime(id, ret);
    pthread_mutex_lock(&c->lock);
    usec_t now = c->now;
    pthread_mutex_unlock(&c->lock);
    *ret = (struct timespec){.tv_sec = (time_t)(now / USEC_PER_SEC),
                             .tv_nsec = (long)(now % USEC_PER_SEC) * 1000};
    return 0;
}
