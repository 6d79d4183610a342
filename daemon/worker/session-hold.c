/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "transport/transport.h"
#include "worker/session.h"

enum { SCRATCH = 16384 };

static int wake(void *userdata)
{
    struct worker *w = userdata;
    int r = worker_wake(w);
    /* There is no job that could be cancelled: one that came late is passed over. */
    w->cancel = false;
    if (w->release || w->stop)
        return -EINTR;
    return r == -ECANCELED ? 0 : r;
}

int session_hold(struct session *s)
{
    struct worker *w = s->worker;
    uint8_t scratch[SCRATCH];
    int r = 0;

    /* What the job was told is over with it. */
    w->cancel = w->critical = false;
    transport_set_waker(s->transport, w->link, wake, w);
    while (r == 0 && !w->stop && !w->release) {
        size_t n;
        /* A programmer whose logs nobody takes stops to accept anything (reference/edl.md 2.1). */
        r = transport_read(s->transport, scratch, sizeof(scratch), USEC_INFINITY, &n, NULL);
    }
    return 0;
}
