/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which of a package's files is the programmer, and for which chip (reference/edl.md 3.4, 3.6). */

#include "firmware/package.h"

/*
 * Chooses exactly one programmer in directory `base` for the chip that contents.xml names (chipid, "" if it
 * names none): sets p->programmer, p->chip and p->capabilities (from the literals in the file). None,
 * several, or one for another chip are problems of the package. -ENOMEM, -EIO.
 */
int programmer_choose(struct package *p, const char *base, const char *chipid);
