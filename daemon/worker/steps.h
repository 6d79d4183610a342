/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The executed steps of a flash: their order (the plan's), what is journaled when, and what "done" means
 * after the modem was out of sight.
 */

#include "worker/flash.h"

/* Marks what the loaded journal calls touched and done. Nothing is believed before steps_recheck(). */
void steps_from_journal(struct flash *f);

/*
 * Looks again at everything that was done, after any appearance of the modem but the first one of a fresh
 * flash: finished writes by digest or read-back, erased blocks by their first and last pages. What is not
 * there any more is to be done again, from the erase of its partition on. So every partition is verified
 * again before SBL is written (flash rule 9), always, and not only if the modem was away for longer than its
 * loop.
 */
int steps_recheck(struct flash *f, struct error *e);

/* Does what is not done, in order, up to PLAN_RESET. After it f->complete. The safe points are between the
 * steps. */
int steps_run(struct flash *f, struct error *e);

size_t steps_count_done(const struct flash *f);
