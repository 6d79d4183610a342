/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The project name in a modem's RAWDATA partition, which says what it is when nobody remembers (flash rule 2;
 * reference/edl.md, corrections: magic, name at +0x10, type at +0x30).
 */

#include "worker/flash.h"

enum { PROJECT_NAME_SIZE = 33 };

/* Looks for the record in `size` bytes. 1 and the name, 0 if there is none. */
int project_find(const void *data, size_t size, char ret[PROJECT_NAME_SIZE]);
/* Reads the good blocks of RAWDATA by these tables. 1, 0, or what the read said. */
int project_read(struct flash *f, const struct mibib_partition *rawdata, char ret[PROJECT_NAME_SIZE],
                 struct error *e);
/* Does a name in RAWDATA name the modem that the package is for? */
bool project_agrees(const struct flash *f, const char *name);
