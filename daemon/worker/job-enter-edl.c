/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From normal mode (or a crash dump that still answers DIAG) to 9008, at the same connector or its USB 2
 * side; there it is asked who it is and held.
 */

#include <errno.h>

#include "worker/running.h"
#include "worker/session.h"

static const usec_t wait_device = 60 * USEC_PER_SEC;

int job_enter_edl(struct worker *w, struct job_outcome *o)
{
    struct running running = {.worker = w};
    struct running_identity id;
    struct detect_result found;
    struct error *e = &o->error;

    worker_ready(w);
    usec_t wait = worker_option_u64(w, "wait-device-usec", wait_device);
    /* A crash dump tells nothing of itself and can be sent to 9008 all the same (edl.md 3.1). */
    bool crashed = worker_option_u64(w, "crashed", 0) == 1;
    int r = crashed ? running_attach_crashed(&running, deadline_in(wait), e)
                    : running_attach(&running, deadline_in(wait), e);
    if (r == 0 && !crashed && running_identify(&running, &id, e) == -ENODEV)
        r = -ENODEV;
    if (r == 0) {
        *e = (struct error){0};
        r = worker_check(w, e);
    }
    if (r == 0)
        r = running_enter_edl(&running, e);
    running_detach(&running);
    if (r < 0)
        return r;

    _cleanup_(session_freep) struct session *s = session_new(w);
    if (!s)
        return -ENOMEM;
    r = session_attach(s, deadline_in(wait), true, &found, e);
    if (r == -ETIMEDOUT) {
        r = error_set(e, ERROR_TIMEOUT,
                      "the modem left normal mode and did not come to emergency download mode in time");
        error_hint(e, HINT_POWER_CYCLE);
    }
    if (r < 0)
        return r;
    if (found.state != DETECT_SAHARA && found.state != DETECT_FIREHOSE)
        return error_set(
            e, ERROR_WRONG_MODE,
            "the modem left normal mode and came back with a crash dump or a boot loader instead of "
            "in emergency download mode");
    worker_report(w, "mode", "%s", found.state == DETECT_FIREHOSE ? "firehose" : "sahara");
    o->hold = steal_ptr(s);
    return 0;
}
