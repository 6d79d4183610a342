/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The time of one conversation between a scripted modem and the code under test (peer.h), so that a test of
 * time-outs neither waits for them nor depends on what else the machine does. It stands still while either of
 * the two works, and when both wait it goes to the moment for which one of them waits: a time-out is then
 * over at once and to the microsecond, and a modem is as quick as its script says.
 *
 * The host's thread keeps calling poll() and clock_gettime(): the linker puts those of peer-clock.c in their
 * place (--wrap), which are the real ones in every other thread. Two threads a clock, no more.
 */

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"

struct peer_clock {
    pthread_mutex_t lock;
    usec_t now;
    /* The modem waits, for this or until then. */
    bool idle;
    struct pollfd awaits;
    usec_t wakes;
    bool host_left; /* there is no time any more */
    /* "Look again": eventfds. */
    int host_bell, modem_bell;
};

void peer_clock_open(struct peer_clock *c);
void peer_clock_close(struct peer_clock *c);

/* For the host: from now on this is the time of the calling thread; and it is the real one again, and
   whatever the modem waits for is over. */
void peer_clock_enter(struct peer_clock *c);
void peer_clock_exit(void);

/* For the modem: waits until something of `events` is there (fd -1: nothing will be) or `usec` have gone by.
   1 it is there, 0 not; -ETIMEDOUT if nobody did anything for so long that somebody must hang. */
int peer_clock_wait(struct peer_clock *c, int fd, short events, usec_t usec);

/* For the modem: what it did took so long. */
void peer_clock_spend(struct peer_clock *c, usec_t usec);

/* The modem is gone and nothing is to be waited for on its account. */
void peer_clock_leave(struct peer_clock *c);
