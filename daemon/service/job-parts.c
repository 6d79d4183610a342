/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What an unfinished backup has read so far (jobs/N.part and its journal) waits for the same call. There is
 * one of a modem at most, and it goes with the job's record; here are the bounds in number, age and space.
 */

#include "service/job.h"

#include "service/log.h"

enum {
    PARTS_MAX = 8,
    /* Whoever began it yesterday may come back: neither number nor space takes it. */
    PARTS_YOUNG_SEC = 24 * 3600,
};

static bool is_resumed_now(const struct job *part)
{
    for (const struct job *j = part->manager->jobs; j; j = j->next)
        if (j->resumes == part)
            return true;
    return false;
}

static uint64_t age_of(const struct job *j, usec_t now)
{
    return now > j->end_time ? now - j->end_time : 0; /* a clock that was set back makes nothing old */
}

/* The oldest, and how many there are. */
static struct job *oldest(struct manager *m, unsigned *ret_count)
{
    struct job *first = NULL;
    *ret_count = 0;
    for (struct job *j = m->jobs; j; j = j->next) {
        if (!job_backup_resumable(j) || is_resumed_now(j))
            continue;
        ++*ret_count;
        if (!first || j->end_time < first->end_time)
            first = j;
    }
    return first;
}

bool job_drop_parts(struct manager *m, bool for_space)
{
    usec_t now = realtime_usec();
    unsigned n;
    bool dropped = false;
    for (struct job *j; (j = oldest(m, &n)); dropped = true) {
        uint64_t age = age_of(j, now);
        bool young = age<PARTS_YOUNG_SEC * USEC_PER_SEC, old = age> m->config.jobs_linger_time;
        if (!old && (young || (n <= PARTS_MAX && !for_space)))
            return dropped;
        log_message(LOG_NOTICE, "What job %s had read is removed, the same call reads it anew: %s.",
                    job_title(j),
                    old         ? "it was not continued in time"
                    : for_space ? "its space is needed"
                                : "too many backups are unfinished");
        job_void_journal(j);
    }
    return dropped;
}
