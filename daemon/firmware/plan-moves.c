/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a package's partition table changes: each partition that begins or ends elsewhere, goes, or is new.
 * For whoever has to decide about it; what of it is refused is plan-judge.c's.
 */

#include <string.h>

#include "base/text.h"
#include "firmware/plan-inner.h"

#define LLU(n) ((unsigned long long)(n))

enum { LINE_SIZE = 128, PLACE_SIZE = 42 };

static bool same_place(const struct mibib_partition *a, const struct mibib_partition *b, uint64_t chip_blocks)
{
    return a->first_block == b->first_block && partition_end(a, chip_blocks) == partition_end(b, chip_blocks);
}

/* "20-63", "1222 on" where nobody knows the end. */
static void place(const struct mibib_partition *p, uint64_t chip_blocks, char out[PLACE_SIZE])
{
    uint64_t end = partition_end(p, chip_blocks);
    if (end == UINT64_MAX)
        snprintf(out, PLACE_SIZE, "%llu on", LLU(p->first_block));
    else
        snprintf(out, PLACE_SIZE, "%llu-%llu", LLU(p->first_block), LLU(end - 1));
}

/* The n-th line; false: there are not so many. */
static bool line_of(const struct mibib_table *now, const struct mibib_table *then, uint64_t chip_blocks,
                    size_t n, char out[LINE_SIZE])
{
    char from[PLACE_SIZE], to[PLACE_SIZE];
    for (size_t i = 0; i < now->n_partitions; i++) {
        const struct mibib_partition *a = &now->partitions[i], *b = mibib_find(then, a->name);
        if ((b && same_place(a, b, chip_blocks)) || n-- > 0)
            continue;
        place(a, chip_blocks, from);
        if (b)
            place(b, chip_blocks, to);
        snprintf(out, LINE_SIZE, b ? "%s from blocks %s to %s" : "%s (blocks %s) is not there any more",
                 a->name, from, to);
        return true;
    }
    for (size_t i = 0; i < then->n_partitions; i++) {
        const struct mibib_partition *b = &then->partitions[i];
        if (mibib_find(now, b->name) || n-- > 0)
            continue;
        place(b, chip_blocks, to);
        snprintf(out, LINE_SIZE, "%s is new (blocks %s)", b->name, to);
        return true;
    }
    return false;
}

void plan_list_moves(const struct mibib_table *now, const struct mibib_table *then, uint64_t chip_blocks,
                     char *out, size_t size)
{
    enum { MORE = 32 };
    char line[LINE_SIZE];
    size_t used = 0, left = 0;
    *out = '\0';
    for (size_t n = 0; line_of(now, then, chip_blocks, n, line); n++) {
        if (left > 0 || used + strlen(line) + MORE > size)
            left++;
        else
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", line);
    }
    if (left > 0)
        snprintf(out + used, size - used, "%s%llu more", used ? ", and " : "", LLU(left));
}

/* Does it begin elsewhere, or end earlier? b NULL: there is none any more. */
static bool is_moved(const struct mibib_partition *a, const struct mibib_partition *b, uint64_t chip_blocks)
{
    return !b || b->first_block != a->first_block ||
           partition_end(b, chip_blocks) < partition_end(a, chip_blocks);
}

bool plan_leaves_behind(const struct plan *plan, const struct package *p, const struct mibib_partition *now,
                        uint64_t chip_blocks)
{
    if (!p->table_known || !plan_writes_table(plan) ||
        !is_moved(now, mibib_find(&p->table, now->name), chip_blocks))
        return false;
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].action == PLAN_WRITE && text_equal_nocase(plan->steps[i].partition, now->name))
            return false;
    return true;
}

void plan_say_kept(struct plan_step *s, const struct mibib_table *now, const struct mibib_table *then,
                   uint64_t chip_blocks)
{
    const struct mibib_partition *a = now ? mibib_find(now, s->partition) : NULL,
                                 *b = then ? mibib_find(then, s->partition) : NULL;
    char from[PLACE_SIZE], to[PLACE_SIZE];
    if (!a || !then)
        return;
    place(a, chip_blocks, from);
    if (!b) {
        snprintf(s->risk, sizeof(s->risk), "is not there any more: the new partition table does not have it");
    } else if (is_moved(a, b, chip_blocks)) {
        place(b, chip_blocks, to);
        snprintf(s->risk, sizeof(s->risk), "moves from blocks %s to %s, its data do not", from, to);
    }
}

void plan_note_moves(struct plan *plan, const struct package *p, const struct mibib_table *now,
                     uint64_t chip_blocks)
{
    char line[LINE_SIZE];
    plan->moves[0] = '\0';
    if (!now || !p->table_known || !plan_writes_table(plan))
        return;
    plan_list_moves(now, &p->table, chip_blocks, plan->moves, sizeof(plan->moves));
    for (size_t n = 0; line_of(now, &p->table, chip_blocks, n, line); n++)
        plan_note(plan, "the partition table changes: %s", line);
}
