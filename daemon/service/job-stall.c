/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An import whose worker says nothing any more: the file that it reads may be anybody's, FUSE's included. */

#include "service/job.h"

#include <string.h>

static usec_t allowed(const struct job *j)
{
    bool reads_input = j->phase && strcmp(j->phase, "spool") == 0;
    return reads_input ? j->manager->config.input_timeout + JOB_STALL_USEC : (usec_t)JOB_CHECK_USEC;
}

static int on_stall_time(sd_event_source *source, uint64_t usec, void *userdata);

static void arm(struct job *j, usec_t at)
{
    j->stall_timer = sd_event_source_disable_unref(j->stall_timer);
    if (sd_event_add_time(j->manager->event, &j->stall_timer, CLOCK_MONOTONIC, at, 0, on_stall_time, j) < 0)
        process_stop(j->process);
}

static int on_stall_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct job *j = userdata;
    usec_t limit = allowed(j);
    if (!j->process)
        return 0; /* a second one reads it, which is watched on its own (service/second.h) */
    if (now_usec() < j->heard + limit) {
        arm(j, j->heard + limit);
        return 0;
    }
    if (j->own_error.kind == ERROR_NONE)
        error_set(&j->own_error, ERROR_TIMEOUT,
                  "Nothing of the archive came for %llu s: what it lies on does not answer.",
                  (unsigned long long)(limit / USEC_PER_SEC));
    process_kill(j->process, NULL);
    return 0;
}

void job_watch_stall(struct job *j)
{
    j->heard = now_usec();
    if (j->job_kind == JOB_IMPORT)
        arm(j, j->heard + allowed(j));
}
