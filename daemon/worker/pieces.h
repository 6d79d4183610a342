/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Windowed flashing (architecture, "Catch and hold"): the executed steps of a flash in pieces of whole erase
 * blocks, each journaled, each sent only if it is expected to end before the window's last tenth. For
 * appearances with a known window (window.h); all others take steps.c, which does each step at once.
 *
 * An image goes into its partition from front to back; what is finished of it is so many of its blocks. Where
 * the next one lies follows from the bad blocks in front of it (the n-th good block of the range is the
 * image's n-th), so the map is read again wherever a command was: behind every piece, and at the start of a
 * window behind the command that the last one cut off. That piece is erased and written from its first block
 * on; what is written anew takes everything behind it along.
 *
 * Every image is verified, in pieces too, after the last of them was written, and every erased block that no
 * image covers is looked at, both before SBL. Its write, its verification and the reset share one window: an
 * SBL that a window left behind is erased first thing in the next.
 *
 * A programmer that cannot show bad blocks splits no partition: each step has to fit one window.
 */

#include "worker/flash.h"

/* What of the steps the loaded journal calls finished (part of steps_from_journal()). */
void pieces_from_journal(struct flash *f);

/*
 * At the beginning of every appearance but the first of a fresh flash. What was written counts, because all
 * of it is verified later; what was verified counts as long as the modem was never out of our hands, which
 * `resumed` or an absence longer than its loop put in doubt. An SBL, and what was cut off in the middle of a
 * whole step, has to be erased again.
 */
void pieces_resume(struct flash *f, bool resumed);

/* Does what is not done, up to PLAN_RESET; after it f->complete. -ENODEV: the window is over; what was
 * finished stays so. The safe points are between the pieces. */
int pieces_run(struct flash *f, struct error *e);

/* Grows with everything that is of use. */
uint64_t pieces_finished(const struct flash *f);
