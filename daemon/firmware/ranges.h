/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where a package's commands land, in whole erase blocks: the offline half of flash rule 7. One judgement for
 * both who ask: the package lists every fault as a problem, the plan takes the ranges or refuses.
 */

#include "firmware/package.h"

struct block_range {
    uint64_t first, count; /* blocks; count never 0 */
};

static inline uint64_t block_range_end(const struct block_range *r)
{
    return r->first + r->count;
}

static inline bool block_range_overlaps(const struct block_range *a, const struct block_range *b)
{
    return a->first < block_range_end(b) && b->first < block_range_end(a);
}

static inline bool block_range_contains(const struct block_range *outer, const struct block_range *inner)
{
    return outer->first <= inner->first && block_range_end(inner) <= block_range_end(outer);
}

/* First block behind a partition; a growing one of a chip of unknown size (0) never ends. */
uint64_t partition_end(const struct mibib_partition *p, uint64_t chip_blocks);
/* The partition that holds a block, also a growing one whose end is not known. */
const struct mibib_partition *partition_at(const struct mibib_table *t, uint64_t block, uint64_t chip_blocks);

/*
 * The blocks of a program or erase command: sizes as the package's geometry, on block borders, within the
 * chip and within one partition of the package's own table (if it has one), an image that fits. -EBADMSG with
 * the reason in `why`.
 */
int ranges_of_command(const struct package *p, const struct package_command *c, struct block_range *ret,
                      char *why, size_t why_size);

/*
 * Whether two commands may stand in one package: programs are disjoint, erases are disjoint or equal, an
 * erase contains a program or does not touch it. -EBADMSG with the reason in `why`.
 */
int ranges_of_pair(const struct package_command *a, const struct block_range *ra,
                   const struct package_command *b, const struct block_range *rb, char *why, size_t why_size);

/* Every fault of every command and pair as a problem of the package. */
void ranges_check(struct package *p);
