/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/plan-inner.h"

#define LLU(n) ((unsigned long long)(n))

static const char *const ALLOW_HINT = "--allow=EraseCalibration";

enum { MOVES_IN_A_MESSAGE = 320 };

/* The tables whose union protects the unit (rule 4), and what each is called in a message. */
struct tables {
    const struct mibib_table *table[MIBIB_TABLES_MAX + 2];
    const char *name[MIBIB_TABLES_MAX + 2];
    size_t n;
    /* The first ones are the modem's and the package's: by these something lies there now, or will. Of those
       that it had once only what is the unit's own counts, or no layout could ever follow another. */
    size_t n_in_force;
};

static void add_table(struct tables *t, const struct mibib_table *table, const char *name, bool in_force)
{
    if (!table || table->n_partitions == 0)
        return;
    t->table[t->n] = table;
    t->name[t->n++] = name;
    t->n_in_force += in_force;
}

static struct tables tables_of(const struct package *p, const struct plan_options *o,
                               const struct mibib_table *modem)
{
    const struct mibib_union recorded = mibib_unite(NULL, o->recorded, NULL);
    struct tables t = {0};
    add_table(&t, modem, "the modem's partition table", true);
    add_table(&t, p->table_known ? &p->table : NULL, "the package's partition table", true);
    /* Of several nobody knows which one it has now, until its own is read. */
    for (size_t i = 0; i < recorded.n; i++)
        add_table(&t, recorded.table[i], "a partition table recorded for this unit",
                  recorded.n == 1 && !modem);
    return t;
}

/* What the step's partition will be called: by the package's table, which is the one that will be there, else
 * by another one. */
static const char *name_at(const struct package *p, const struct tables *t, uint64_t block,
                           uint64_t chip_blocks)
{
    const struct mibib_partition *own = p->table_known ? partition_at(&p->table, block, chip_blocks) : NULL;
    for (size_t i = 0; !own && i < t->n; i++)
        own = partition_at(t->table[i], block, chip_blocks);
    return own ? own->name : "";
}

static const char *risk_of(const struct package *p, const char *partition, const struct plan_step *s)
{
    if (s->action != PLAN_VERIFY && s->unit_data)
        return "erases what only this unit has: its calibration or identity";
    /* What drop_mibib() will do can be known of a modem only that tells its table. */
    if (s->mibib && p->table_known)
        return "left as it is if the modem has the same";
    if (s->action == PLAN_VERIFY)
        return "";
    if (text_equal_nocase(partition, "sec") && s->action == PLAN_WRITE)
        return "may blow fuses, cannot be undone";
    if (text_equal_nocase(partition, "usrdata") || text_equal_nocase(partition, "usr_data") ||
        text_equal_nocase(partition, "oemdata"))
        return s->action == PLAN_ERASE ? "the user's own data in the modem are lost" : "";
    return "";
}

/* ---- rule 4 ---- */

static int refuse_unit_data(const struct plan_step *s, const struct mibib_partition *unit, const char *table,
                            const struct package *p, struct error *e)
{
    int r = error_set(
        e, ERROR_ERASE_CALIBRATION,
        "The package would %s blocks %llu to %llu, where %s has %s, which only this unit has%s (%s to do it "
        "anyway)",
        s->action == PLAN_ERASE ? "erase" : "write", LLU(s->first_block),
        LLU(s->first_block + s->n_blocks - 1), table, unit->name,
        p->factory_only ? ": it is a factory package, the update package of the same version leaves it alone"
                        : "",
        ALLOW_HINT);
    error_hint(e, p->factory_only ? HINT_IMPORT_FIRMWARE : HINT_WRONG_FIRMWARE);
    return r;
}

/* One step against the kth table. *ret_unit_data: it touches unit data, and that is allowed. */
static int check_step(const struct plan_step *s, const struct tables *tables, size_t k,
                      const struct package *p, unsigned allow, uint64_t chip_blocks, bool *ret_unit_data,
                      struct error *e)
{
    const struct mibib_table *t = tables->table[k];
    const char *table_name = tables->name[k];
    struct block_range range = plan_range(s);
    bool allowed = allow & ALLOW_ERASE_CALIBRATION;
    const struct mibib_partition *straddled = NULL;

    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *own = &t->partitions[i];
        uint64_t end = partition_end(own, chip_blocks);
        if (range.first >= end || own->first_block >= block_range_end(&range))
            continue;
        if (mibib_is_unit_data(own->name)) {
            if (!allowed)
                return refuse_unit_data(s, own, table_name, p, e);
            *ret_unit_data = true;
        }
        if (range.first < own->first_block || block_range_end(&range) > end)
            straddled = own;
    }
    if (straddled && !allowed && k < tables->n_in_force)
        return error_set(
            e, ERROR_ERASE_CALIBRATION,
            "The package would %s blocks %llu to %llu, which in %s straddle %s (blocks %llu to %llu): "
            "the modem is laid out differently (%s to do it anyway)",
            s->action == PLAN_ERASE ? "erase" : "write", LLU(range.first), LLU(block_range_end(&range) - 1),
            table_name, straddled->name, LLU(straddled->first_block),
            LLU(partition_end(straddled, chip_blocks) - 1), ALLOW_HINT);
    return 0;
}

bool plan_writes_table(const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].mibib && plan->steps[i].action == PLAN_WRITE)
            return true;
    return false;
}

/*
 * A package that writes its own table and puts unit data elsewhere erases nothing of them, and yet the modem
 * would not find them any more.
 */
static int check_moved(const struct plan *plan, const struct package *p, const struct mibib_table *t,
                       const char *table_name, uint64_t chip_blocks, struct error *e)
{
    char moves[MOVES_IN_A_MESSAGE];
    if (!plan_writes_table(plan))
        return 0;
    if (!p->table_known)
        return error_set(e, ERROR_ERASE_CALIBRATION,
                         "The package writes a partition table that cannot be read: nobody can tell whether "
                         "%s would still be right (%s to do it anyway)",
                         table_name, ALLOW_HINT);
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *now = &t->partitions[i];
        if (!mibib_is_unit_data(now->name))
            continue;
        const struct mibib_partition *then = mibib_find(&p->table, now->name);
        if (then && then->first_block == now->first_block &&
            partition_end(then, chip_blocks) == partition_end(now, chip_blocks))
            continue;
        plan_list_moves(t, &p->table, chip_blocks, moves, sizeof(moves));
        return error_set(e, ERROR_ERASE_CALIBRATION,
                         "The package's partition table %s %s, which %s has at blocks %llu to %llu: what "
                         "only this unit has would be lost. What would change: %s "
                         "(%s to do it anyway)",
                         then ? "moves" : "does not have", now->name, table_name, LLU(now->first_block),
                         LLU(partition_end(now, chip_blocks) - 1), moves, ALLOW_HINT);
    }
    return 0;
}

/*
 * What is written as MIBIB is the package's partition image, whole, and into MIBIB; the image goes nowhere
 * else. A table that the modem's loaders refuse, and SBL behind it, would be a modem that does not come back.
 */
static int check_table_image(const struct plan *plan, const struct package *p, const struct mibib_table *t,
                             const char *table_name, uint64_t chip_blocks, struct error *e)
{
    const struct mibib_partition *mibib = mibib_find(t, "MIBIB");
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        bool image = s->file && s->file == p->partition_image;
        if (s->action != PLAN_WRITE || (!s->mibib && !image))
            continue;
        bool whole = image && p->table_known && p->table.crc_valid;
        bool inside = !mibib || (s->first_block >= mibib->first_block &&
                                 s->first_block < partition_end(mibib, chip_blocks));
        const char *why = !image    ? "where the partition table lies, and it is none"
                          : !whole  ? "and it is no whole partition table with a valid CRC"
                          : !inside ? "and it is a partition table, which belongs into MIBIB"
                                    : NULL;
        if (!why)
            continue;
        return error_set(e, ERROR_FIRMWARE_INVALID,
                         "The package would write %s to blocks %llu to %llu, %s (by %s)", s->file->path,
                         LLU(s->first_block), LLU(s->first_block + s->n_blocks - 1), why, table_name);
    }
    return 0;
}

/*
 * A step in SBL or MIBIB that the package itself does not know as one of theirs (it has no table of its own,
 * or another one). In the middle of the others it would leave a modem with SBL and without what SBL needs, or
 * with half of SBL (flash rule 6).
 */
static int check_boot_chain(const struct plan *plan, const struct mibib_table *t, const char *table_name,
                            uint64_t chip_blocks, struct error *e)
{
    const struct mibib_partition *sbl = partition_at(t, 0, chip_blocks), *mibib = mibib_find(t, "MIBIB");
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        struct block_range range = plan_range(s);
        const struct mibib_partition *hit = NULL;
        if (!plan_has_range(s))
            continue;
        if (sbl && !s->sbl && range.first < partition_end(sbl, chip_blocks))
            hit = sbl;
        else if (mibib && !s->mibib && range.first < partition_end(mibib, chip_blocks) &&
                 block_range_end(&range) > mibib->first_block)
            hit = mibib;
        if (!hit)
            continue;
        return error_set(
            e, ERROR_FIRMWARE_INVALID,
            "The package would %s blocks %llu to %llu, where %s has %s, and has no image for all of "
            "it that could be written in its turn",
            s->action == PLAN_ERASE ? "erase" : "write", LLU(range.first), LLU(block_range_end(&range) - 1),
            table_name, hit->name);
    }
    return 0;
}

int plan_check_tables(struct plan *plan, const struct package *p, const struct plan_options *options,
                      const struct mibib_table *modem, uint64_t chip_blocks, bool gate2, struct error *e)
{
    struct tables tables = tables_of(p, options, modem);
    bool allowed = options->allow & ALLOW_ERASE_CALIBRATION;

    if (tables.n == 0 && gate2 && !allowed)
        return error_set(e, ERROR_ERASE_CALIBRATION,
                         "No partition table was found, neither in the modem nor in the package: nobody can "
                         "tell whether the calibration would "
                         "be erased (%s to do it anyway)",
                         ALLOW_HINT);
    if (tables.n == 0 && !gate2)
        plan_note(plan, "the package has no partition table: what its ranges touch is judged when the "
                        "modem's table is read");

    for (size_t k = 0; k < tables.n_in_force; k++) {
        int r = tables.table[k] == &p->table || allowed
                    ? 0
                    : check_moved(plan, p, tables.table[k], tables.name[k], chip_blocks, e);
        if (r == 0)
            r = check_table_image(plan, p, tables.table[k], tables.name[k], chip_blocks, e);
        if (r == 0)
            r = check_boot_chain(plan, tables.table[k], tables.name[k], chip_blocks, e);
        if (r < 0)
            return r;
    }
    /* All of it is judged before any of it is marked: a refused plan stays as it was. */
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < plan->n_steps; i++) {
            bool unit_data = false;
            for (size_t k = 0; k < tables.n && plan_has_range(&plan->steps[i]); k++) {
                int r =
                    check_step(&plan->steps[i], &tables, k, p, options->allow, chip_blocks, &unit_data, e);
                if (r < 0)
                    return r;
            }
            if (pass == 1)
                plan->steps[i].unit_data = unit_data;
        }

    for (size_t i = 0; i < plan->n_steps; i++) {
        struct plan_step *s = &plan->steps[i];
        if (!plan_has_range(s))
            continue;
        snprintf(s->partition, sizeof(s->partition), "%s", name_at(p, &tables, s->first_block, chip_blocks));
        snprintf(s->risk, sizeof(s->risk), "%s", risk_of(p, s->partition, s));
    }
    return 0;
}

/* ---- what stays ---- */

static bool is_touched(const struct plan *plan, const struct block_range *range)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct block_range own = plan_range(&plan->steps[i]);
        if (plan_has_range(&plan->steps[i]) && block_range_overlaps(&own, range))
            return true;
    }
    return false;
}

static void drop_keep(struct plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan_is_executed(&plan->steps[i]))
            plan->steps[n++] = plan->steps[i];
    plan->n_steps = n;
}

int plan_set_keep(struct plan *plan, const struct package *p, const struct plan_options *options,
                  const struct mibib_table *modem, uint64_t chip_blocks)
{
    struct tables tables = tables_of(p, options, modem);
    const struct mibib_table *now = modem ? modem : mibib_newest(options->recorded),
                             *then = p->table_known && plan_writes_table(plan) ? &p->table : NULL;
    struct plan kept = {0};

    for (int pass = 0; tables.n > 0 && pass < 2; pass++)
        for (size_t i = 0; i < tables.table[0]->n_partitions; i++) {
            const struct mibib_partition *own = &tables.table[0]->partitions[i];
            struct block_range range = {own->first_block, partition_end(own, chip_blocks) - own->first_block};
            if (mibib_is_unit_data(own->name) != (pass == 0) || is_touched(plan, &range))
                continue;
            struct plan_step *s = plan_add(&kept, PLAN_KEEP);
            if (!s) {
                free(kept.steps);
                return -ENOMEM;
            }
            snprintf(s->partition, sizeof(s->partition), "%s", own->name);
            s->unit_data = pass == 0;
            s->first_block = own->first_block;
            s->n_blocks = own->n_blocks ? own->n_blocks : chip_blocks ? range.count : 0;
            plan_say_kept(s, now, then, chip_blocks);
        }

    drop_keep(plan);
    struct plan_step *all = reallocarray(kept.steps, kept.n_steps + plan->n_steps + 1, sizeof(*all));
    if (!all) {
        free(kept.steps);
        return -ENOMEM;
    }
    if (plan->n_steps > 0)
        memcpy(all + kept.n_steps, plan->steps, plan->n_steps * sizeof(*all));
    free(plan->steps);
    plan->steps = all;
    plan->n_steps += kept.n_steps;
    return 0;
}

/* ---- gate 2 ---- */

static int check_geometry(const struct plan *plan, const struct package *p,
                          const struct plan_options *options, const struct nand_geometry *modem,
                          struct error *e)
{
    char ours[32], theirs[32];
    nand_geometry_name(&plan->geometry, ours, sizeof(ours));
    nand_geometry_name(modem, theirs, sizeof(theirs));

    /* Images laid out for other pages cannot be right: nothing lifts this one. */
    if (plan->geometry.page_size != modem->page_size ||
        plan->geometry.pages_per_block != modem->pages_per_block) {
        int r = error_set(e, ERROR_GEOMETRY_DIFFERS, "The package is for flash of %s, the modem has %s", ours,
                          theirs);
        error_hint(e, HINT_WRONG_FIRMWARE);
        return r;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct block_range range = plan_range(&plan->steps[i]);
        if (plan_has_range(&plan->steps[i]) && block_range_end(&range) > modem->blocks)
            return error_set(e, ERROR_GEOMETRY_DIFFERS,
                             "The package reaches up to block %llu, the modem's flash has %llu blocks",
                             LLU(block_range_end(&range) - 1), LLU(modem->blocks));
    }
    if (p->chip_blocks && p->chip_blocks != modem->blocks && !(options->allow & ALLOW_GEOMETRY_DIFFERS))
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "The package's partition table was made for a chip of %llu blocks, the modem's has %llu "
            "(--allow=GeometryDiffers to use it)",
            LLU(p->chip_blocks), LLU(modem->blocks));
    return 0;
}

/*
 * A table without a CRC protects what it names, and is no table that may stay: power may have gone in the
 * middle of its pages.
 */
static bool tables_equal(const struct mibib_table *a, const struct mibib_table *b, uint64_t chip_blocks)
{
    if (!a->crc_valid || !b->crc_valid)
        return false;
    if (a->n_partitions != b->n_partitions || a->version != b->version)
        return false;
    for (size_t i = 0; i < a->n_partitions; i++) {
        const struct mibib_partition *x = &a->partitions[i], *y = &b->partitions[i];
        if (strcmp(x->name, y->name) != 0 || x->first_block != y->first_block ||
            partition_end(x, chip_blocks) != partition_end(y, chip_blocks))
            return false;
    }
    return true;
}

/* Rule 8 puts images around bad blocks; what is left must hold them. */
static int check_room(const struct plan *plan, const struct nand_map *map, struct error *e)
{
    for (size_t i = 0; map && i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        if (s->action != PLAN_WRITE)
            continue;
        uint64_t needed = DIV_ROUND_UP(s->pages, plan->geometry.pages_per_block);
        uint64_t bad = nand_map_count_bad(map, s->first_block, s->n_blocks);
        if (needed > s->n_blocks - MIN_OF(bad, s->n_blocks)) {
            int r = error_set(e, ERROR_FIRMWARE_INVALID,
                              "%s needs %llu blocks, %s has %llu of which %llu are bad", s->file->path,
                              LLU(needed), *s->partition ? s->partition : "its range", LLU(s->n_blocks),
                              LLU(bad));
            error_hint(e, HINT_CONTACT_VENDOR);
            return r;
        }
    }
    return 0;
}

static void drop_mibib(struct plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        if (!s->mibib)
            plan->steps[n++] = *s;
        else if (s->action == PLAN_WRITE)
            plan->bytes_to_write -= s->pages * plan->geometry.page_size;
    }
    plan->mibib_kept = n < plan->n_steps;
    plan->n_steps = n;
}

int plan_judge(struct plan *plan, const struct package *p, const struct plan_options *options,
               const struct nand_geometry *geometry, const struct mibib_table *modem_table,
               const struct nand_map *map, struct error *e)
{
    if (plan_unjudge(plan) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = check_geometry(plan, p, options, geometry, e);
    if (r == 0)
        r = check_room(plan, map, e);
    if (r == 0)
        r = plan_check_tables(plan, p, options, modem_table, geometry->blocks, true, e);
    if (r < 0)
        return r;

    if (!options->mibib_begun && modem_table && p->table_known &&
        tables_equal(modem_table, &p->table, geometry->blocks))
        drop_mibib(plan);
    plan_note_moves(plan, p, modem_table, geometry->blocks);
    if (plan_set_keep(plan, p, options, modem_table, geometry->blocks) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    plan->geometry.blocks = geometry->blocks;
    return 0;
}
