/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/version.h"
#include "worker/restore.h"
#include "worker/running.h"

#define LLU(n) ((unsigned long long)(n))

static int check_programmer(const struct restore *x, struct error *e)
{
    const struct session *s = x->visits.session;
    const struct nand_capabilities *can = &s->capabilities;
    if (can->skip_bad_block && can->last_sector)
        return 0;
    return error_set(e, ERROR_UNSUPPORTED,
                     "%s: without that no block can be put back to its own place; nothing was erased",
                     s->programmer_was_running
                         ? "what the programmer that runs can do is not known"
                         : "the programmer does not show bad blocks, or knows no last_sector");
}

/*
 * For units without a serial. One that ran its firmware when this job began was asked then; of one that was
 * in 9008 already the service knows whether it told its IMEI before, and was watched since.
 */
static bool is_same_imei(const struct worker *w)
{
    if (worker_option_u64(w, "came-from-normal", 0) == 1)
        return *w->imei_hash && strcmp(w->imei_hash, worker_option(w, "backup-imei", "")) == 0;
    return worker_option_u64(w, "bound", 0) == 1;
}

static int check_unit(const struct restore *x, struct error *e)
{
    const struct sahara_identity now = session_unit(x->visits.session), *then = &x->backup->unit;
    if (x->allow & ALLOW_WRONG_UNIT)
        return 0;
    bool named_now = now.have_serial && now.serial != 0, named_then = then->have_serial && then->serial != 0;
    bool known = named_now && named_then;
    bool other_chip = now.have_hwid && then->have_hwid && now.hwid != then->hwid;
    bool other_key = now.pk_hash_size > 0 && now.pk_hash_size == then->pk_hash_size &&
                     memcmp(now.pk_hash, then->pk_hash, now.pk_hash_size) != 0;
    if (known && now.serial == then->serial && !other_chip && !other_key)
        return 0;
    if (!named_now && !named_then && is_same_imei(x->worker) && !other_chip && !other_key) {
        worker_log(x->worker, "it has no serial number; by its IMEI it is the unit that the backup is of");
        return 0;
    }
    if (!known)
        return error_set(
            e, ERROR_WRONG_UNIT,
            "%s: that it is the same unit is not sure, and another unit's calibration is not this one's "
            "(--allow=WrongUnit to restore it anyway)",
            named_then ? "the modem does not tell its serial number"
                       : "the backup does not say which unit it is of");
    return error_set(
        e, ERROR_WRONG_UNIT,
        "the backup is of unit %08x, this modem is %08x%s: another unit's calibration is not this one's "
        "(--allow=WrongUnit to restore it anyway)",
        then->serial, now.serial, now.serial == then->serial ? " with another chip" : "");
}

static int check_geometry(const struct restore *x, struct error *e)
{
    const struct nand_geometry *then = &x->backup->geometry, *now = &x->visits.session->geometry;
    if (now->blocks == 0 || then->page_size != now->page_size ||
        then->pages_per_block != now->pages_per_block)
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "the backup is of a flash with pages of %u bytes, %u a block; the modem's has %u and %u",
            then->page_size, then->pages_per_block, now->page_size, now->pages_per_block);
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct backup_part *p = x->parts[i].part;
        if (p->first_block + p->n_blocks > now->blocks)
            return error_set(e, ERROR_GEOMETRY_DIFFERS,
                             "%s of the backup ends at block %llu, the flash has %llu", p->name,
                             LLU(p->first_block + p->n_blocks - 1), LLU(now->blocks));
    }
    if (then->blocks != now->blocks && !(x->allow & ALLOW_GEOMETRY_DIFFERS))
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "the backup is of a flash of %llu blocks, the modem's has %llu (--allow=GeometryDiffers to "
            "restore it anyway)",
            LLU(then->blocks), LLU(now->blocks));
    return 0;
}

static const struct restore_part *restored_mibib(const struct restore *x)
{
    for (size_t i = 0; i < x->n_parts; i++)
        if (x->parts[i].mibib)
            return &x->parts[i];
    return NULL;
}

/* Is this partition put back, to this place? */
static bool comes_back(const struct restore *x, const char *name, uint64_t first_block)
{
    const struct backup_part *back = backup_find(x->backup, name);
    for (size_t k = 0; back && k < x->n_parts; k++)
        if (x->parts[k].part == back && back->first_block == first_block)
            return true;
    return false;
}

static bool has_place(const struct mibib_table *t, const struct backup_part *p)
{
    const struct mibib_partition *own = mibib_find(t, p->name);
    return own && own->first_block == p->first_block && (own->n_blocks == p->n_blocks || own->n_blocks == 0);
}

/*
 * A part goes where the modem has that partition; with its own table in the backup the old layout comes back.
 * A modem without a table is taken at the word of any that it had.
 */
static int check_place(const struct restore *x, const struct backup_part *p, struct error *e)
{
    const struct mibib_union tables =
        mibib_unite(x->table_known ? &x->table : NULL, x->table_known ? NULL : &x->recorded.tables, NULL);
    bool there = tables.n == 0;
    for (size_t i = 0; !there && i < tables.n; i++)
        there = has_place(tables.table[i], p);
    if (there || text_starts_with(p->name, "blocks-") || restored_mibib(x) ||
        x->allow & ALLOW_GEOMETRY_DIFFERS)
        return 0;
    return error_set(
        e, ERROR_GEOMETRY_DIFFERS,
        "%s has %s %sat blocks %llu to %llu, where the backup has it "
        "(--allow=GeometryDiffers to restore it there anyway)",
        x->table_known ? "the modem's partition table" : "no partition table recorded for this unit", p->name,
        x->table_known ? "not " : "", LLU(p->first_block), LLU(p->first_block + p->n_blocks - 1));
}

/* Nor does it go where any table of this unit has what only the unit has. */
static int check_unit_data(const struct restore *x, const struct mibib_table *t, const struct backup_part *p,
                           struct error *e)
{
    uint64_t end = p->first_block + p->n_blocks;
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *u = &t->partitions[i];
        if (!mibib_is_unit_data(u->name) || u->first_block >= end ||
            (u->n_blocks > 0 && u->first_block + u->n_blocks <= p->first_block) ||
            text_equal_nocase(u->name, p->name) || x->allow & ALLOW_ERASE_CALIBRATION)
            continue;
        if (!comes_back(x, u->name, u->first_block))
            return error_set(e, ERROR_ERASE_CALIBRATION,
                             "%s of the backup lies where the modem has %s, which only this unit has "
                             "(--allow=EraseCalibration to do it anyway)",
                             p->name, u->name);
    }
    return 0;
}

static int check_places(const struct restore *x, struct error *e)
{
    const struct mibib_union tables =
        mibib_unite(x->table_known ? &x->table : NULL, &x->recorded.tables, NULL);
    int r = 0;
    for (size_t i = 0; r == 0 && i < x->n_parts; i++)
        r = check_place(x, x->parts[i].part, e);
    for (size_t k = 0; k < tables.n; k++)
        for (size_t i = 0; r == 0 && i < x->n_parts; i++)
            r = check_unit_data(x, tables.table[k], x->parts[i].part, e);
    return r;
}

/* ---- the table that comes back ---- */

/* As it lies in the image: the manifest may say what it likes. -ENOENT: there is none. */
static int read_new_table(const struct restore *x, const struct restore_part *p, struct mibib_table *ret,
                          struct error *e)
{
    const struct backup *b = x->backup;
    _cleanup_free_ struct mibib_table *t = malloc(sizeof(*t));
    int found = -ENOENT;
    if (!t)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t i = p->part->first_block; i < p->part->first_block + p->part->n_blocks; i++) {
        if (backup_block_is_bad(b, p->part, i) || backup_block_pages(b, p->part, i) < MIBIB_PAGES - 1)
            continue;
        int r = backup_read_block(b, p->part, i, x->want, e);
        if (r < 0)
            return r;
        struct error ignored = {0};
        if (mibib_parse(x->want, b->geometry.page_size, b->geometry.blocks, t, &ignored) < 0 ||
            (t->crc_present && !t->crc_valid) || (found == 0 && t->age <= ret->age))
            continue;
        *ret = *t;
        found = 0;
    }
    return found;
}

static int refuse_move(const struct restore *x, const struct mibib_partition *now,
                       const struct mibib_partition *back, struct error *e)
{
    char where[96] = "not at all";
    if (back)
        snprintf(where, sizeof(where), "at other blocks (%llu-%llu, now %llu-%llu)", LLU(back->first_block),
                 LLU(back->first_block + back->n_blocks - 1), LLU(now->first_block),
                 LLU(now->first_block + now->n_blocks - 1));
    if (mibib_is_unit_data(now->name) && !(x->allow & ALLOW_ERASE_CALIBRATION))
        return error_set(e, ERROR_ERASE_CALIBRATION,
                         "the partition table of the backup has %s %s, and %s itself is not put back: the "
                         "modem would lose it (--allow=EraseCalibration to do it anyway)",
                         now->name, where, now->name);
    if (x->allow & ALLOW_GEOMETRY_DIFFERS)
        return 0;
    return error_set(e, ERROR_GEOMETRY_DIFFERS,
                     "the partition table of the backup has %s %s, and %s itself is not put back: the modem "
                     "would not find it (--allow=GeometryDiffers to do it anyway)",
                     now->name, where, now->name);
}

/* A table that comes back alone must not take what stays away from its place. */
static int check_new_table(const struct restore *x, struct error *e)
{
    const struct restore_part *p = restored_mibib(x);
    _cleanup_free_ struct mibib_table *then = calloc(1, sizeof(*then));
    if (!p || !x->table_known || x->whole)
        return 0;
    if (!then)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = read_new_table(x, p, then, e);
    if (r < 0 && r != -ENOENT)
        return r;
    for (size_t i = 0; i < 2 * x->table.n_partitions; i++) {
        const struct mibib_partition *now = &x->table.partitions[i % x->table.n_partitions],
                                     *back = mibib_find(then, now->name);
        /* What nobody else has comes first. */
        if (mibib_is_unit_data(now->name) != (i < x->table.n_partitions))
            continue;
        bool same = back && back->first_block == now->first_block && back->n_blocks == now->n_blocks;
        if (same || (back && comes_back(x, back->name, back->first_block)))
            continue;
        r = refuse_move(x, now, back, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- the firmware ---- */

static bool puts_back_efs2(const struct restore *x)
{
    for (size_t i = 0; i < x->n_parts; i++)
        if (text_equal_nocase(x->parts[i].part->name, "EFS2"))
            return true;
    return false;
}

/* EFS2 belongs to a firmware: the one that is there, unless all of the backup's own comes with it. */
static int check_firmware(const struct restore *x, struct error *e)
{
    bool confirmed;
    const char *known = running_known_version(x->worker, &confirmed);
    struct version then, now;
    struct error why = {0};
    if (!puts_back_efs2(x) || x->whole || x->allow & ALLOW_WRONG_FIRMWARE)
        return 0;
    if (version_parse(x->backup->version, &then) < 0 || version_parse(known, &now) < 0)
        return error_set(
            e, ERROR_WRONG_FIRMWARE,
            "EFS2 belongs to the firmware that wrote it, and %s (--allow=WrongFirmware to restore it "
            "anyway)",
            version_parse(x->backup->version, &then) < 0 ? "the backup does not say which that was"
                                                         : "which one the modem has now is not known");
    if (version_match(&then, &now, &why) < 0)
        return error_set(e, ERROR_WRONG_FIRMWARE,
                         "EFS2 belongs to the firmware that wrote it: the backup is of %s, the modem has %s "
                         "(--allow=WrongFirmware to restore it anyway)",
                         then.name, now.name);
    return 0;
}

int restore_judge_again(const struct restore *x, struct error *e)
{
    int r = check_programmer(x, e);
    return r < 0 ? r : check_geometry(x, e);
}

int restore_judge(struct restore *x, struct error *e)
{
    int r = restore_judge_again(x, e);
    if (r == 0) {
        r = check_unit(x, e);
        x->visits.unit_is_ours = r < 0; /* what does not fit is the backup */
    }
    if (r == 0)
        r = check_places(x, e);
    if (r == 0)
        r = check_new_table(x, e);
    return r < 0 ? r : check_firmware(x, e);
}
