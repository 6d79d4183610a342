/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who may do what: one table (interface, method) -> polkit action, default deny; a test walks live
 * introspection and fails when a method lacks a row. Root and the service's own uid always may; without
 * polkitd nobody else.
 *
 * The check is asynchronous. A method handler calls bouncer_check() before it changes anything: 1, it may go
 * on now; 0, polkit was asked: the handler returns 1 to sd-bus without a reply, and once the answer is there
 * the same message is dispatched again from its beginning (so the object is looked up anew: it may have gone
 * meanwhile); negative with *error, refused.
 */

#include <stdbool.h>
#include <stdio.h>
#include <systemd/sd-bus.h>
#include "service/config.h"
#include "service/senders.h"

struct bouncer;

/* senders stays the caller's, and alive. */
int bouncer_new(sd_bus *bus, const struct senders *senders, const struct config *config,
                struct bouncer **ret);
struct bouncer *bouncer_free(struct bouncer *b);

/*
 * A detail for the prompt, "modem" = "RM502Q-GL at 1-2"; the list is ended by a NULL key. The first one is
 * what it is done to, and polkit is told it as "target", too: some actions are about things of several kinds.
 * dbus/org.qdld1.policy uses them; a test fails if a text uses one that some method does not tell.
 */
struct bouncer_detail {
    const char *key, *value;
};

/*
 * milder: the row's milder column counts: the caller owns the thing, or for Reset, a modem that is not in
 * normal mode goes back to it. lifted: the refusals that the caller lifts (refusals.h); where it names any,
 * org.qdld1.force is needed in addition, and its prompt is told the method as "operation" and them as
 * "refusals". NULL and details NULL: none.
 */
int bouncer_check(struct bouncer *b, sd_bus_message *m, bool milder, const char *lifted,
                  const struct bouncer_detail *details, sd_bus_error *error);

/* The caller left the bus: nobody answers prompts for it any more. */
void bouncer_forget(struct bouncer *b, const char *sender);

/* For the tests: "interface method action milder-action" a line, "-" for "free to all". */
void bouncer_print_table(FILE *f);
