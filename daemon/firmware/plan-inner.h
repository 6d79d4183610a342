/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the plan share: plan.c makes the steps, plan-judge.c holds them against partition tables,
 * plan-print.c shows them. */

#include "firmware/plan.h"
#include "firmware/ranges.h"

static inline bool plan_is_executed(const struct plan_step *s)
{
    return s->action != PLAN_KEEP;
}

/* Erase, write or verify: it has a range. */
static inline bool plan_has_range(const struct plan_step *s)
{
    return s->action == PLAN_ERASE || s->action == PLAN_WRITE || s->action == PLAN_VERIFY;
}

static inline struct block_range plan_range(const struct plan_step *s)
{
    return (struct block_range){.first = s->first_block, .count = s->n_blocks};
}

/* Appends a step; NULL without memory. */
struct plan_step *plan_add(struct plan *plan, enum plan_action action);
void plan_note(struct plan *plan, const char *format, ...) _printf_(2, 3);

/*
 * Holds the steps against the tables (flash rule 4) and names them. modem: NULL offline or if it has none.
 * chip_blocks 0: not known. Offline a plan without any table passes with a note, at gate 2 it does not.
 */
int plan_check_tables(struct plan *plan, const struct package *p, const struct plan_options *options,
                      const struct mibib_table *modem, uint64_t chip_blocks, bool gate2, struct error *e);
/* Does it write MIBIB? */
bool plan_writes_table(const struct plan *plan);
/* Replaces the keep steps by what no step touches, unit data first. -ENOMEM. */
int plan_set_keep(struct plan *plan, const struct package *p, const struct plan_options *options,
                  const struct mibib_table *modem, uint64_t chip_blocks);

/* ---- plan-moves.c ---- */

/*
 * "boot from blocks 97-156 to 99-158, spare is new (blocks 9-10), and 3 more", in block numbers of the chip;
 * "" if every partition stays. Cut to size, which is at least 64.
 */
void plan_list_moves(const struct mibib_table *now, const struct mibib_table *then, uint64_t chip_blocks,
                     char *out, size_t size);
/* A partition that is kept, and that another table (may be NULL) is about to put elsewhere, or not at all:
 * its risk. */
void plan_say_kept(struct plan_step *s, const struct mibib_table *now, const struct mibib_table *then,
                   uint64_t chip_blocks);
/* If the plan writes the package's table: a note for each partition that it moves from where `now` (may be
 * NULL) has it, and all of them in plan->moves. */
void plan_note_moves(struct plan *plan, const struct package *p, const struct mibib_table *now,
                     uint64_t chip_blocks);
