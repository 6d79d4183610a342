/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A directory as a tar stream. Only files and folders: what else lies there does not belong in a package. */

enum { TAR_ENTRIES_MAX = 4096 }; /* as many as the service takes */

/*
 * Before anything is started: every file can be opened, there is one at all and not too many. An exit code;
 * what is wrong is said on stderr.
 */
int tar_check(char *path);
/*
 * Writes the tree into fd. The top directory keeps its name: it may be the version. EXIT_OK also if the
 * reader stopped reading: it says why itself.
 */
int tar_write(char *path, int fd);
