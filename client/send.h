/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Handing a package to the service: the client opens every file, a directory goes as tar through a pipe. */

#include <sys/types.h>
#include "qdlctl.h"

/* The same for a file that is a backup; *ret_backup may be NULL. */
int send_backup(sd_bus *bus, const char *path, bool result_text, char **ret_backup);
/* Imports a path: starts the job and follows it; *ret_firmware is the object's path (malloc'ed). */
int send_firmware(sd_bus *bus, const char *path, bool result_text, char **ret_firmware);
