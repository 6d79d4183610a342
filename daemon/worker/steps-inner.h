/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the two ways through the executed steps share: steps.c does each at once, pieces.c in pieces. */

#include "worker/steps.h"

/* ERASE, WRITE and VERIFY; the rest is shown only. */
bool steps_is_executed(const struct plan_step *s);
/* The WRITE that a VERIFY is about, or the VERIFY of a WRITE; -1 if the plan has none. */
ssize_t steps_partner(const struct flash *f, size_t i, enum plan_action action);
/* work_done and bytes_written from what is finished: what failed in its middle leaves nothing behind. */
void steps_recount(struct flash *f);

struct journal_record steps_record(const struct plan_step *s, enum journal_kind kind);
/*
 * In front of every destructive command: the intent (a record of steps_record(), or of a piece of it) is on
 * the disk. The first one also ends the time in which the job can be cancelled: from here on only a complete
 * flash or a modem that waits in EDL is a good end.
 */
int steps_begin(struct flash *f, size_t i, const struct journal_record *intent, struct error *e);
/* The step is done, and the journal has it. */
int steps_end(struct flash *f, size_t i, struct error *e);

/* The three kinds of steps, each as a whole; steps_write() and steps_verify() erase an SBL again that is not
 * known to be right. */
int steps_erase(struct flash *f, size_t i, struct error *e);
int steps_write(struct flash *f, size_t i, struct error *e);
int steps_verify(struct flash *f, size_t i, struct error *e);
