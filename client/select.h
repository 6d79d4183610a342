/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* From what the user typed to one object: MODEM, FIRMWARE, JOB. All return an exit code and say themselves
 * what was wrong. */

#include <json-c/json.h>
#include "qdlctl.h"

enum modem_use {
    MODEM_LOOK, /* nothing is done to it: one that is only remembered will do */
    MODEM_WORK, /* a job works on it: there, or away in the middle of something; another one only by its name
                 */
};

/*
 * MODEM is a port, a kernel name, a chip serial or a unique prefix of the model; NULL: the only one there is.
 * Two that fit are an error that names both: EXIT_USAGE.
 */
int select_modem(sd_bus *bus, const char *selector, enum modem_use use, json_object **ret);
/* An id, a version name, or the unique beginning of an id (4 digits or more) in the library; labels are never
 * resolved. quiet: nothing is said if there is none. */
int select_firmware(sd_bus *bus, const char *selector, bool quiet, json_object **ret);
/* The id of a backup, or its unique beginning (4 digits or more). quiet: as above. */
int select_backup(sd_bus *bus, const char *selector, bool quiet, json_object **ret);
/* A job number; NULL: the newest unfinished one, else the newest. */
int select_job(sd_bus *bus, const char *selector, json_object **ret);
