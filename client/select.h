/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* From what the user typed to one object: MODEM, FIRMWARE, JOB. All return an exit code and say themselves
 * what was wrong. */

#include <json-c/json.h>
#include "qdlctl.h"

/*
 * MODEM is a port, a kernel name, a chip serial or a unique prefix of the model; NULL: the only one there is.
 * present: only modems that are there count (a verb that works on one). Two that fit are an error that names
 * both.
 */
int select_modem(sd_bus *bus, const char *selector, bool present, json_object **ret);
/* An id (or its unique beginning, at least 4 digits), a version name or a label in the library. quiet:
 * nothing is said if there is none. */
int select_firmware(sd_bus *bus, const char *selector, bool quiet, json_object **ret);
/* A job number; NULL: the newest unfinished one, else the newest. */
int select_job(sd_bus *bus, const char *selector, json_object **ret);
