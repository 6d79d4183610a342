/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/progress.h"

static void start_sample(struct progress *p, usec_t now)
{
    p->sampled = now;
    p->sampled_bytes = p->bytes_done;
}

void progress_pause(struct progress *p)
{
    p->rate = 0;
    p->expected_end = 0;
    p->sampled = 0;
    p->active = 0;
    p->smooth_rate = 0;
}

static void guess_end(struct progress *p, usec_t realtime)
{
    p->expected_end = 0;
    if (p->active < PROGRESS_GUESS_USEC || p->smooth_rate < 1 || p->bytes_total <= p->bytes_done)
        return;
    double left = (double)(p->bytes_total - p->bytes_done) / p->smooth_rate;
    p->expected_end = realtime + (uint64_t)(left * (double)USEC_PER_SEC);
}

void progress_update(struct progress *p, uint64_t ppm, uint64_t bytes_done, uint64_t bytes_total, usec_t now,
                     usec_t realtime)
{
    double fraction = (double)(ppm > PROGRESS_PPM_MAX ? PROGRESS_PPM_MAX : ppm) / PROGRESS_PPM_MAX;
    if (fraction > p->fraction)
        p->fraction = fraction;

    bool restarted = bytes_done < p->bytes_done || bytes_total != p->bytes_total;
    p->bytes_done = bytes_done;
    p->bytes_total = bytes_total;
    if (restarted)
        progress_pause(p);
    if (p->sampled == 0 || now - p->sampled > PROGRESS_STALL_USEC) {
        start_sample(p, now);
        return;
    }
    usec_t passed = now - p->sampled;
    if (passed == 0 || bytes_done == p->sampled_bytes)
        return;

    double rate = (double)(bytes_done - p->sampled_bytes) * (double)USEC_PER_SEC / (double)passed;
    double weight = p->active == 0 ? 1 : (double)passed / (double)(passed + PROGRESS_RATE_TAU_USEC);
    p->smooth_rate += weight * (rate - p->smooth_rate);
    p->active += passed;
    p->rate = (uint64_t)p->smooth_rate;
    start_sample(p, now);
    guess_end(p, realtime);
}
