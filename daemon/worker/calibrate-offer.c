/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The handshake of flash rule 5 for a calibration: filled, offered, read by another worker, stored. */

#include <errno.h>

#include "transport/transport.h"
#include "worker/calibrate.h"

/* A second worker reads it; it takes a second. */
static const usec_t answer_time = 120 * USEC_PER_SEC;

static bool answered(const struct worker *w)
{
    return w->backup_id[0] || w->backup_refused[0];
}

static int wake_on_answer(void *userdata)
{
    struct worker *w = userdata;
    int r = worker_wake(w);
    return answered(w) ? -EALREADY : r;
}

int calibrate_offer(struct running *running, int *fd, const char *what, struct error *e)
{
    struct worker *w = running->worker;
    /* Who stores it has to know that nobody writes to it any more. */
    *fd = close_fd(*fd);
    worker_phase(w, "store-backup", NULL);
    w->backup_id[0] = w->backup_refused[0] = '\0';
    w->backup_asked = true;
    worker_tell(w, KEY_BACKUP, what);
    int r = wake_on_answer(w);
    if (r == 0)
        r = transport_wait(running->transport, w->link, wake_on_answer, w, deadline_in(answer_time));
    w->backup_asked = false;
    if (answered(w))
        return w->backup_id[0] ? 0 : 1;
    int asked = worker_check(w, e);
    if (asked < 0)
        return asked;
    if (r == -ENODEV)
        return error_set(e, ERROR_MODEM_GONE, "the modem went away while its calibration was stored");
    return error_set(e, ERROR_TIMEOUT, "the calibration was not stored within the time allowed");
}
