/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Erasing (flash rule 8). An ACK of an erase proves nothing: programmers ACK also when they ran out of good
 * blocks, and one that fails to parse a number erases the whole chip and ACKs that. So a range without bad
 * blocks is one command that ends at its own partition's end, one with bad blocks is one command for each
 * good block, and what no image covers afterwards is read.
 */

#include "firmware/ranges.h"
#include "worker/flash.h"

/* One command for `count` blocks, none of them known to be bad; its ERROR logs are counted. name: of the
 * partition, for people. */
int erase_command(struct flash *f, uint64_t first, uint64_t count, const char *name, struct error *e);
/*
 * Sends the commands for one ERASE step. Known-bad blocks are not addressed. Where nobody tells bad blocks
 * and the programmer knows no last_sector, each block has a command of its own, and one that reads as what
 * follows the range is left alone.
 */
int erase_range(struct flash *f, const struct plan_step *s, struct error *e);

/*
 * 1 if every good block of an ERASE step that no finished WRITE covers reads as erased on its first and last
 * page, 0 if one does not (its number in *ret_block). A programmer that cannot show bad blocks is asked for
 * the range's first page only, and only if nothing was written there: it is not known where one of its blocks
 * begins.
 */
int erase_check(struct flash *f, const struct plan_step *s, uint64_t *ret_block, struct error *e);

/* The same, but a block that is not erased gets an erase of its own and a second look; then FirehoseFailed
 * with the hint contact-vendor. */
int erase_ensure(struct flash *f, const struct plan_step *s, struct error *e);

/* The same for some of its blocks. */
int erase_ensure_part(struct flash *f, const struct plan_step *s, const struct block_range *part,
                      struct error *e);

/* Learns how this programmer shows an erased page, from one that must be (the first good page of an ERASE
 * step that was just done). */
int erase_probe_fill(struct flash *f, const struct plan_step *s, struct error *e);

/*
 * Reads the bad-block map of a range anew, where the programmer can show it. More than NEW_BAD_BLOCKS_MAX
 * that were good at the gate of the flash's first call: FirehoseFailed with the hint contact-vendor.
 */
int erase_read_map(struct flash *f, uint64_t first, uint64_t count, struct error *e);
/* The same judgement alone: also for who continues a flash that has met its limit already. */
int erase_check_new_bad(const struct flash *f, struct error *e);

/*
 * So that the limit holds for a flash and not for each call: what was bad before its first command goes into
 * its journal (a fresh one), and at_gate becomes that again for who continues it.
 */
int erase_note_bad_before(struct flash *f, struct error *e);
void erase_recall_bad_before(struct flash *f);

/* Blocks that have gone bad since the gate, of this job or of the one that it continues. */
uint64_t erase_new_bad(const struct flash *f);
