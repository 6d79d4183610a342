/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A backup's file, copied to one of the caller's: new, for its owner only, on the disk or not there at all.
 */

#include <json-c/json.h>
#include "qdlctl.h"

/* Before anything is started for it: EXIT_OTHER if a file of this name is there. "-" is standard output,
 * which must be no terminal. */
int copy_check(const char *file);
/* Backup.Open, and the copy; says itself what was wrong. An exit code. */
int copy_backup(sd_bus *bus, const char *path, const char *file);
