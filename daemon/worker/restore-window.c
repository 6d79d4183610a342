/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A restore in a loop that goes on with the programmer running (architecture, "Catch and hold"): blocks are
 * its pieces. Each is begun only if erase, write and look are expected to end before the window's last tenth,
 * and what they cost is measured. Without a window nothing here waits.
 */

#include "worker/restore.h"

void restore_phase(struct restore *x, const char *phase, const struct restore_part *p)
{
    x->phase = phase;
    x->in_phase = p->part->name;
    worker_phase(x->worker, phase, x->in_phase);
}

int restore_await_room(struct restore *x, unsigned works, uint64_t blocks, struct error *e)
{
    struct session *s = x->visits.session;
    bool waited = false;
    while (!window_has_room(&s->window, window_cost(&s->window, works, blocks), now_usec())) {
        int r = session_let_pass(s, e);
        if (r < 0)
            return r;
        waited = true;
    }
    if (waited)
        worker_phase(x->worker, x->phase, x->in_phase);
    window_begun(&s->window, 1);
    return 0;
}

void restore_took(struct restore *x, enum window_work work, uint64_t blocks, usec_t since)
{
    window_took(&x->visits.session->window, work, blocks, now_usec() - since);
}

void restore_programmed(struct restore *x, uint32_t pages, usec_t since)
{
    struct session *s = x->visits.session;
    uint32_t all = s->geometry.pages_per_block;
    usec_t took = now_usec() - since;
    bool most = pages > all / 2;
    /* What a few pages take says nothing of a whole block, unless it is more than was thought. */
    if (most || took > s->window.cost[WINDOW_PROGRAM])
        window_took(&s->window, WINDOW_PROGRAM, 1, most ? took * all / pages : took);
}
