/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Our errors as D-Bus errors: the one map (base/error.h has the names). */

#include <systemd/sd-bus.h>
#include "base/error.h"

#define BUS_ERROR_PREFIX "org.qdld1.Error."

/*
 * Fills a bus error from ours (InvalidArgs as org.freedesktop.DBus.Error.InvalidArgs, the others under our
 * prefix; the modem's words follow in quotes). Returns the kind's negative errno.
 */
int errors_to_bus(const struct error *e, sd_bus_error *ret);
/* The same, made here. */
int errors_set(sd_bus_error *ret, enum error_kind kind, const char *format, ...) _printf_(3, 4);
/* "org.qdld1.Error.WrongFirmware"; "" for ERROR_NONE. Static. */
const char *errors_bus_name(enum error_kind kind);
/* message, and behind it the modem's words in quotes if it said any; malloc'ed, NULL without memory. */
char *errors_text(const struct error *e);
