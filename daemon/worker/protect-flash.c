/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/flash.h"

/* What its owner put there is in no package. */
static bool is_users_own(const char *partition)
{
    static const char *const names[] = {"usrdata", "usr_data", "oemdata", "persist"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (text_equal_nocase(partition, names[i]))
            return true;
    return false;
}

static bool is_changed(const struct plan_step *s)
{
    return s->action == PLAN_ERASE || s->action == PLAN_WRITE;
}

static bool has_image(const struct plan *plan, const struct plan_step *erase)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].action == PLAN_WRITE && flash_contains(erase, &plan->steps[i]))
            return true;
    return false;
}

static bool agrees(const struct mibib_table *a, const struct mibib_table *b)
{
    for (size_t i = 0; i < a->n_partitions; i++) {
        const struct mibib_partition *p = &a->partitions[i], *other = mibib_find(b, p->name);
        if (mibib_is_unit_data(p->name) &&
            (!other || other->first_block != p->first_block || other->n_blocks != p->n_blocks))
            return false;
    }
    return mibib_find(a, "EFS2") != NULL;
}

/*
 * A table is foreign if neither the package nor what was first recorded of this unit puts its own data where
 * this one does: then somebody else's flash laid it out, and the unit's data may lie anywhere. It may be
 * among the later ones itself, told by a call that was refused.
 */
static bool is_foreign(const struct flash *f, const struct mibib_table *modem)
{
    const struct mibib_table *recorded = f->recorded.tables.n > 0 ? &f->recorded.tables.table[0] : NULL,
                             *package = f->package->table_known ? &f->package->table : NULL;
    return !mibib_find(modem, "EFS2") || ((recorded || package) && !(recorded && agrees(modem, recorded)) &&
                                          !(package && agrees(modem, package)));
}

/* The ranges of a plan that are saved besides, and those that are written anew. Both have room for all steps,
 * extra for all partitions, too. */
static void collect(const struct plan *plan, const struct package *p, struct block_range *extra,
                    struct block_range *rewritten, struct protect_what *what)
{
    what->extra = extra;
    what->rewritten = rewritten;
    for (size_t i = 0; what->modem && i < what->modem->n_partitions; i++) {
        const struct mibib_partition *own = &what->modem->partitions[i];
        uint64_t end = partition_end(own, plan->geometry.blocks);
        if (end != UINT64_MAX && plan_leaves_behind(plan, p, own, plan->geometry.blocks))
            extra[what->n_extra++] = (struct block_range){own->first_block, end - own->first_block};
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        const struct block_range range = {s->first_block, s->n_blocks};
        if (!is_changed(s))
            continue;
        /* Unit data that may be erased (allowed) are a loss all the same. */
        if (!s->unit_data)
            rewritten[what->n_rewritten++] = range;
        if (s->action == PLAN_ERASE && (is_users_own(s->partition) || !has_image(plan, s)))
            extra[what->n_extra++] = range;
    }
}

int protect_flash(struct flash *f, const struct mibib_table *modem, uint64_t mibib_block, bool version_known,
                  struct error *e)
{
    _cleanup_free_ struct block_range *extra =
                                          calloc(f->plan->n_steps + MIBIB_PARTITIONS_MAX, sizeof(*extra)),
                                      *rewritten = calloc(f->plan->n_steps + 1, sizeof(*rewritten));
    struct protect_what what = {.modem = modem,
                                .mibib_block = mibib_block,
                                .recorded = &f->recorded.tables,
                                .package = f->package->table_known ? &f->package->table : NULL,
                                .allow = f->options.allow};
    if (!extra || !rewritten)
        return error_set(e, ERROR_FAILED, "out of memory");
    collect(f->plan, f->package, extra, rewritten, &what);
    what.whole = !modem || !version_known || f->recorded.unreadable || is_foreign(f, modem);
    if (what.whole)
        worker_log(f->worker, "all of the flash is saved: %s",
                   !modem                   ? "the modem has no partition table"
                   : !version_known         ? "nobody knows for sure what ran in it"
                   : f->recorded.unreadable ? "the tables recorded for it cannot be read"
                                            : "its partition table is not one of this unit's");
    return protect_run(&f->protect, f->session, &what, e);
}

int protect_preview(const struct plan *plan, const struct package *p, const struct mibib_tables *recorded,
                    struct save *ret, struct error *e)
{
    const struct mibib_table *package = p->table_known ? &p->table : NULL;
    _cleanup_free_ struct block_range *extra = calloc(plan->n_steps + MIBIB_PARTITIONS_MAX, sizeof(*extra)),
                                      *rewritten = calloc(plan->n_steps + 1, sizeof(*rewritten));
    const struct mibib_table *newest = mibib_newest(recorded);
    struct protect_what what = {.modem = newest ? newest : package, .recorded = recorded, .package = package};
    if (!extra || !rewritten)
        return error_set(e, ERROR_FAILED, "out of memory");
    if (!what.modem)
        return -ENODATA;
    collect(plan, p, extra, rewritten, &what);
    return protect_choose(ret, &what, plan->geometry.blocks, e);
}
