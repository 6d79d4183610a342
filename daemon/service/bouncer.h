/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who may do what: one table (interface, method) -> polkit action, default deny; a test walks live introspection and fails when a method
 * lacks a row. Root and the service's own uid always may; without polkitd nobody else. The check is asynchronous: the method handler calls
 * bouncer_check() first; it returns 1 when it may go on now, 0 when the answer comes later (the handler returns 1 to sd-bus without replying and
 * is called again with the same message), negative with *error when refused.
 */

#include <systemd/sd-bus.h>
#include "service/config.h"

struct bouncer;

int bouncer_new(sd_bus *bus, const struct config *config, struct bouncer **ret);
struct bouncer *bouncer_free(struct bouncer *b);

/* A detail for the prompt, "modem" = "RM502Q-GL at 1-2"; ended by a NULL key. */
struct bouncer_detail {
    const char *key, *value;
};

/*
 * `own`: the caller owns the thing (the row's own column counts). `force`: allow is not empty, org.qdld1.force is needed in addition. details
 * may be NULL. handler and userdata are what sd-bus called; they are called again once polkit answered (the message is kept referenced; if its
 * sender left meanwhile the call is dropped). Authorised messages are remembered only for that second call.
 */
int bouncer_check(struct bouncer *b, sd_bus_message *m, bool own, bool force, const struct bouncer_detail *details,
                  sd_bus_message_handler_t handler, void *userdata, sd_bus_error *error);

/* The EUID that the bus reports for the sender. */
int bouncer_sender_uid(sd_bus_message *m, uid_t *ret);

/* For the test: prints "interface method action own-action" a line. */
void bouncer_print_table(FILE *f);
