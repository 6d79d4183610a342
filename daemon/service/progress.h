/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The numbers of a job, pure: progress that never goes backwards, a smoothed rate, and a guess at the end
 * only once there is enough to guess from. All times come from the caller.
 */

#include <stdbool.h>
#include "base/clock.h"

enum {
    PROGRESS_PPM_MAX = 1000000,
    PROGRESS_SIGNAL_USEC = 200000,    /* the group is signalled at most this often */
    PROGRESS_GUESS_USEC = 2000000,    /* no end is guessed before this much time with data */
    PROGRESS_RATE_TAU_USEC = 3000000, /* time constant of the rate */
    PROGRESS_STALL_USEC = 5000000,    /* a gap this long (an erase, a lost modem) is not averaged in */
};

struct progress {
    double fraction; /* 0..1 */
    uint64_t bytes_done, bytes_total;
    uint64_t rate;         /* bytes a second */
    uint64_t expected_end; /* realtime, 0: unknown */

    /* inside */
    usec_t sampled, active;
    uint64_t sampled_bytes;
    double smooth_rate;
};

/* The worker's numbers at `now` (monotonic) and `realtime`. ppm above the maximum counts as the maximum. */
void progress_update(struct progress *p, uint64_t ppm, uint64_t bytes_done, uint64_t bytes_total, usec_t now,
                     usec_t realtime);
/* Nothing moves now (another phase, waiting for the modem): no rate, no guess. */
void progress_pause(struct progress *p);
