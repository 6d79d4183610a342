/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A clock that can be set on, preloaded into the service by test_unattended.py: CLOCK_MONOTONIC is ahead by
 * the microseconds (64 bit) that stand in the file LATER_CLOCK, so that a modem has run for minutes when the
 * test says so. Timers that were armed before go off at their own time.
 */

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { USEC_PER_SEC = 1000000, NSEC_PER_USEC = 1000, NSEC_PER_SEC = 1000000000 };

static const _Atomic int64_t *ahead;

int clock_gettime(clockid_t id, struct timespec *ret);
int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("LATER_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    close(fd);
    ahead = shared;
}

static struct timespec add(struct timespec t, int64_t usec)
{
    int64_t nsec = t.tv_nsec + usec % USEC_PER_SEC * NSEC_PER_USEC;
    t.tv_sec += usec / USEC_PER_SEC;
    if (nsec >= NSEC_PER_SEC || nsec < 0) {
        t.tv_sec += nsec < 0 ? -1 : 1;
        nsec += nsec < 0 ? NSEC_PER_SEC : -NSEC_PER_SEC;
    }
    t.tv_nsec = nsec;
    return t;
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
    int r = (int)syscall(SYS_clock_gettime, id, ret);
    if (r == 0 && id == CLOCK_MONOTONIC && ahead)
        *ret = add(*ret, *ahead);
    return r;
}

/* sd-event's only timers of CLOCK_MONOTONIC are absolute; one of another clock is not asked for here. */
int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    struct itimerspec own = *value;
    if (flags & TFD_TIMER_ABSTIME && (own.it_value.tv_sec || own.it_value.tv_nsec)) {
        own.it_value = add(own.it_value, -*ahead);
        if (own.it_value.tv_sec < 0)
            own.it_value = (struct timespec){.tv_nsec = 1};
    }
    return (int)syscall(SYS_timerfd_settime, fd, flags, &own, old);
}
