/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The partition table that the service recorded for this unit, in its descriptor "recorded" (link/keys.h). */

#include "storage/mibib.h"
#include "worker/worker.h"

/* -ENOENT: none was given; else the errno of reading or mibib_scan(). */
int recorded_read(const struct worker *w, struct mibib_table *ret);
/* The same for a job that goes on without it: an unreadable one is logged. True if *ret is filled. */
bool recorded_take(struct worker *w, struct mibib_table *ret);
