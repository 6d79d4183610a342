/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Time. Deadlines are absolute, in microseconds of CLOCK_MONOTONIC, so that they compose: a caller computes
 * one deadline and every step below it shares what is left.
 */

#include <stdint.h>
#include <time.h>

typedef uint64_t usec_t;

#define USEC_PER_MSEC ((usec_t)1000)
#define USEC_PER_SEC  ((usec_t)1000000)
#define USEC_INFINITY UINT64_MAX

static inline usec_t clock_usec(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (usec_t)ts.tv_sec * USEC_PER_SEC + (usec_t)ts.tv_nsec / 1000;
}

/* Now, for deadlines. */
static inline usec_t now_usec(void)
{
    return clock_usec(CLOCK_MONOTONIC);
}

/* Now, for people: microseconds since 1970. */
static inline usec_t realtime_usec(void)
{
    return clock_usec(CLOCK_REALTIME);
}

/* The deadline that lies `usec` ahead; saturates at USEC_INFINITY. */
static inline usec_t deadline_in(usec_t usec)
{
    usec_t now = now_usec();
    return usec > USEC_INFINITY - now ? USEC_INFINITY : now + usec;
}

/* What is left until a deadline as a poll() timeout in ms, rounded up; -1 for USEC_INFINITY, 0 when over. */
static inline int deadline_poll_ms(usec_t deadline)
{
    if (deadline == USEC_INFINITY)
        return -1;
    usec_t now = now_usec();
    if (now >= deadline)
        return 0;
    usec_t ms = (deadline - now + 999) / 1000;
    return ms > 3600000 ? 3600000 : (int)ms;
}
