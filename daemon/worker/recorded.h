/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The partition tables that the service recorded for this unit, in its descriptor "recorded" (link/keys.h).
 */

#include "storage/mibib.h"
#include "worker/worker.h"

struct recorded {
    struct mibib_tables tables; /* none if none was given */
    bool unreadable;            /* there are some, and nobody knows what they say: all of the chip is saved */
};

/*
 * EraseCalibration if they cannot be read: where the unit's own data lie is not known then. allowed: it is
 * logged, and the job goes on without them.
 */
int recorded_take(struct worker *w, bool allowed, struct recorded *ret, struct error *e);
void recorded_done(struct recorded *r);
