/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A clock that stands still, preloaded into the worker and the virtual modem by tests/faults/driver.py: both
 * take the time from a shared page, and it goes on only when the driver says so, which it does when neither
 * of them can do anything but wait. So a deadline of minutes is reached at once, and none is reached early
 * because the machine is busy. The programs themselves are the real ones and know nothing of it.
 *
 * Who waits says so in its slot: an odd turn, and until when. SIGUSR2 tells it to look at the clock again; it
 * is blocked but inside the wait, so none is lost.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 2, USEC_PER_SEC = 1000000, USEC_PER_MSEC = 1000, NSEC_PER_USEC = 1000 };

struct page {
    _Atomic int64_t now; /* µs */
    struct {
        _Atomic int64_t turn;
        _Atomic int64_t until; /* INT64_MAX: for ever */
    } slot[SLOTS];
};

static struct page *page;
static unsigned slot;
static volatile sig_atomic_t told;

int clock_gettime(clockid_t id, struct timespec *ret);
int poll(struct pollfd *fds, nfds_t n, int ms);
int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
/* What they are with _FORTIFY_SOURCE. */
int __poll_chk(struct pollfd *fds, nfds_t n, int ms, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size);

static void on_told(int signal)
{
    (void)signal;
    told = 1;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("STILL_CLOCK"), *which = getenv("STILL_CLOCK_SLOT");
    struct sigaction action = {.sa_handler = on_told};
    sigset_t own;
    int fd = path && which ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    slot = which ? (unsigned)atoi(which) : SLOTS;
    sigemptyset(&own);
    sigaddset(&own, SIGUSR2);
    if (shared == MAP_FAILED || slot >= SLOTS || sigaction(SIGUSR2, &action, NULL) < 0 ||
        sigprocmask(SIG_BLOCK, &own, NULL) < 0)
        abort();
    close(fd);
    page = shared;
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
    int64_t now;

    if (id != CLOCK_MONOTONIC || !page)
        return (int)syscall(SYS_clock_gettime, id, ret);
    now = page->now;
    *ret = (struct timespec){.tv_sec = now / USEC_PER_SEC, .tv_nsec = now % USEC_PER_SEC * NSEC_PER_USEC};
    return 0;
}

/* Neither program blocks signals of its own, so that the mask of the wait is an empty one. */
static int wait_until(struct pollfd *fds, nfds_t n, int64_t until)
{
    sigset_t none;
    int r;

    sigemptyset(&none);
    page->slot[slot].until = until;
    do {
        told = 0;
        page->slot[slot].turn++;
        r = (int)syscall(SYS_ppoll, fds, n, NULL, &none, _NSIG / 8);
        page->slot[slot].turn++;
        if (r < 0 && errno == EINTR && told && page->now >= until)
            return 0;
    } while (r < 0 && errno == EINTR && told);
    return r;
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
    struct timespec zero = {0};

    if (ms == 0)
        return (int)syscall(SYS_ppoll, fds, n, &zero, NULL, _NSIG / 8);
    return wait_until(fds, n, ms < 0 ? INT64_MAX : page->now + (int64_t)ms * USEC_PER_MSEC);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    int64_t us = 0;

    if (mask)
        abort(); /* nobody here does */
    if (!timeout)
        return wait_until(fds, n, INT64_MAX);
    us = (int64_t)timeout->tv_sec * USEC_PER_SEC + timeout->tv_nsec / NSEC_PER_USEC;
    return us == 0 ? poll(fds, n, 0) : wait_until(fds, n, page->now + us);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int ms, size_t size)
{
    if (size / sizeof(*fds) < n)
        abort();
    return poll(fds, n, ms);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size)
{
    if (size / sizeof(*fds) < n)
        abort();
    return ppoll(fds, n, timeout, mask);
}
