/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Waiting until something of the service changes: for verbs that react to what happens, and never poll. */

#include "qdlctl.h"

struct listen {
    sd_bus *bus;
    sd_bus_slot *slots[2];
    bool changed, gone;
};

/* Everything from here on is noticed. An exit code. */
int listen_begin(sd_bus *bus, struct listen *l);
void listen_end(struct listen *l);
/*
 * Waits for the next change of any object (several may have come together). EXIT_OK; EXIT_DETACHED after
 * --timeout; EXIT_NO_SERVICE if the service or the bus has gone, which is said.
 */
int listen_next(struct listen *l);
