/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Handing a package to the service: the client opens every file, a directory goes as tar through a pipe. */

#include <sys/types.h>
#include "qdlctl.h"

struct sender {
    int fd;      /* for the call; close after it */
    pid_t child; /* writes the tar of a directory; 0 for a file */
};
/* An exit code; says itself what was wrong. */
int send_open(const char *path, struct sender *ret);
/* Closes, and waits for the child; EXIT_OTHER if it could not read the directory. */
int send_done(struct sender *s);

/* The same for a file that is a backup; *ret_backup may be NULL. */
int send_backup(sd_bus *bus, const char *path, bool result_text, char **ret_backup);
/* Imports a path: starts the job and follows it; *ret_firmware is the object's path (malloc'ed). */
int send_firmware(sd_bus *bus, const char *path, bool result_text, char **ret_firmware);
