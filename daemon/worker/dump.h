/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Crash dumps: what a crashed modem (900e) lends of its memory, into a backup of kind "dump". */

#include "backup/dump-file.h"
#include "worker/worker.h"

/*
 * The job backup with kind=dump: table, regions, reset, and what the modem does then. One that comes back
 * crashed is reset again, DUMP_CRASHES_MAX times altogether; more often is told with the way out that there
 * is (USB_BOOT), which is never another firmware.
 */
int dump_collect(struct worker *w, struct error *e);
enum { DUMP_CRASHES_MAX = 3 };

/* Tells BACKUP.* of it. */
void dump_tell(struct worker *w, const struct dump_facts *f);
