/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "child-clock.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { WATCHED_MAX = 256 };

/* What the linker makes of the names behind --wrap; __poll_chk is poll() with _FORTIFY_SOURCE. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap___poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

static pid_t host, watched[WATCHED_MAX];
static unsigned n_watched;
static usec_t now = 1000 * USEC_PER_SEC;

__attribute__((constructor)) static void begin(void)
{
    host = getpid();
}

void child_clock_watch(pid_t pid)
{
    if (n_watched == WATCHED_MAX)
        abort();
    watched[n_watched++] = pid;
}

/* Asleep, or gone. One to which something was sent is awake from that moment on, whenever it gets to run. */
static bool waits(pid_t pid)
{
    char path[32], text[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return true;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return !end || strchr("SZ", end[2]);
}

static bool all_wait(void)
{
    for (unsigned i = 0; i < n_watched; i++)
        if (!waits(watched[i]))
            return false;
    return true;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (getpid() != host || timeout == 0)
        return __real_poll(fds, n, timeout);
    for (;;) {
        bool idle = all_wait(); /* first: what it did before it began to wait is there then */
        int r = __real_poll(fds, n, 0);
        if (r != 0)
            return r;
        if (idle && timeout < 0) {
            fprintf(stderr, "waits for ever for what nobody will do\n");
            abort();
        }
        if (idle) {
            now += (usec_t)timeout * USEC_PER_MSEC;
            return 0;
        }
        __real_poll(fds, n, 1);
    }
}

int __wrap___poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    if (n > size / sizeof(*fds))
        abort();
    return __wrap_poll(fds, n, timeout);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
    if (id != CLOCK_MONOTONIC || getpid() != host)
        return __real_clock_gettime(id, ret);
    *ret = (struct timespec){.tv_sec = (time_t)(now / USEC_PER_SEC),
                             .tv_nsec = (long)(now % USEC_PER_SEC) * 1000};
    return 0;
}
