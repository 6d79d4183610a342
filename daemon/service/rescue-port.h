/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What was done unasked at a port, whatever unit was there. A unit has attempts of its own
 * (service/rescue.h); a device that tells another serial each time, or none, would have new ones for ever. So
 * a port has RESCUE_PORT_TIMES times as many as a unit, of failures in a row and of flashes within a day, and
 * is left to a human then. On disk, beside the memory of the port: PORT.tries.
 */

#include "service/rescue-rule.h"

struct modem;

enum { RESCUE_PORT_TIMES = 4 };

struct rescue_port {
    unsigned failures; /* in a row, final ones and those of a unit that was changed in the middle included */
    struct rescue_day day; /* flashes that were begun */
    char *gave_up;         /* why; NULL or "" */

    /* of this run */
    unsigned lost;   /* times in a row that a held modem went away at once */
    unsigned missed; /* times in a row that one went before its standby had it */
    unsigned asked;  /* strangers that were identified */
};

/* Reads what was written by an earlier run, or nothing. */
void rescue_port_load(struct modem *m);
/* One more; and one flash more. */
void rescue_port_failed(struct modem *m);
void rescue_port_begun(struct modem *m);
/* There were as many failures, or flashes, as a port may have: the reason, as the middle of a sentence
 * (static); NULL: no. */
const char *rescue_port_is_spent(const struct modem *m);
void rescue_port_give_up(struct modem *m, const char *why);
/* Something ran its firmware here for minutes: what failed is over; the day is not. */
void rescue_port_ran(struct modem *m);
/* A human has decided: nothing was done. */
void rescue_port_forget(struct modem *m);
void rescue_port_free(struct modem *m);
