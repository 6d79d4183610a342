/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The a{sv} that ends every method. Strict: an unknown key, one of the wrong type and one given twice are
 * InvalidArgs naming the key, so that a client learns that a safety option was not understood.
 */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include "base/cleanup.h"

/* One option that a method knows; a table is ended by a NULL name. A value that is not given stays untouched.
 */
struct option {
    const char *name;
    const char *type; /* "b" "s" "t" "u" "o" or "as" */
    void *value; /* bool *, const char ** (points into the message), uint64_t *, const char **, char *** */
};

/* Reads the whole dictionary at the message's position; known may be NULL (no options). Negative with *error.
 */
int options_read(sd_bus_message *m, const struct option *known, sd_bus_error *error);

/* Frees a list that came from an "as" option; takes what _cleanup_ gives. */
char **options_free_list(char **list);
DEFINE_CLEANUP(char **, options_free_list)
