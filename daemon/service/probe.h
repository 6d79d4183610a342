/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who is the modem that just appeared in normal mode? One short exchange over DIAG by a worker of its own, no
 * job: nobody asked for it and nobody waits for it. It lets go at once when a job wants the modem, as a
 * holder does. What it learns is the memory that a brick is told by later.
 *
 *     appeared, idle --[Identify] DelaySec--> WAITING --> worker runs --> gone, once an appearance
 *                                                '-- a job, or the end of the appearance: given up
 */

#include "service/modem.h"

struct probe;

/* Starts one if [Identify] OnAppear= is on, the modem is in normal mode, idle, and was not asked yet. */
void probe_look(struct modem *m);
/* A job wants the modem: the worker ends, and modem_serve() is called when it has. */
void probe_stop(struct probe *p);
/* The appearance is over. */
void probe_left(struct probe *p);
/* True while its worker lives. */
bool probe_has_worker(const struct probe *p);
struct probe *probe_free(struct probe *p);
