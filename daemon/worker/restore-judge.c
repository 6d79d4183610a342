/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/version.h"
#include "worker/restore.h"

#define LLU(n) ((unsigned long long)(n))

/* ---- offline ---- */

static bool is_chosen(const char *names, const char *name)
{
    size_t n = strlen(name);
    if (!*names)
        return true;
    for (const char *p = names; *p; p += strcspn(p, ","), p += *p == ',') {
        if (text_starts_with(p, "0:"))
            p += 2;
        if (strcspn(p, ",") == n && strncasecmp(p, name, n) == 0)
            return true;
    }
    return false;
}

static int check_names(const struct restore *x, const char *names, struct error *e)
{
    for (const char *p = names; *p; p += strcspn(p, ","), p += *p == ',') {
        char name[BACKUP_NAME_SIZE];
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof(name), "%.*s", (int)MIN_OF(n, sizeof(name) - 1), p);
        if (n >= sizeof(name) || !backup_find(x->backup, name))
            return error_set(e, ERROR_INVALID_ARGS, "the backup has no partition %.*s",
                             (int)MIN_OF(n, (size_t)64), p);
    }
    return 0;
}

/* What lies where no table names it may be anything: it goes back to its own place. */
static bool is_physical(const struct backup_part *p)
{
    return mibib_is_unit_data(p->name) || text_starts_with(p->name, "blocks-");
}

static int check_part(const struct restore *x, const struct restore_part *p, struct error *e)
{
    const struct backup *b = x->backup;
    uint64_t lost =
        backup_count(p->part, p->part->n_blocks * b->geometry.pages_per_block, NAND_PAGE_UNREADABLE);
    if (lost > 0 && !(x->allow & ALLOW_BACKUP_DAMAGED))
        return error_set(
            e, ERROR_BACKUP_DAMAGED,
            "%llu pages of %s could not be read when the backup was taken; they would come back as erased "
            "(--allow=BackupDamaged to restore the rest)",
            LLU(lost), p->part->name);
    if (p->physical && b->map != BACKUP_MAP_READ && !(x->allow & ALLOW_BACKUP_DAMAGED))
        return error_set(
            e, ERROR_BACKUP_DAMAGED,
            "the backup was taken by a programmer that does not show bad blocks: whether %s would come back "
            "to its own place is not sure (--allow=BackupDamaged to try it)",
            p->part->name);
    if (mibib_is_unit_data(p->part->name) && p->part->size == 0 && !(x->allow & ALLOW_ERASE_CALIBRATION))
        return error_set(
            e, ERROR_ERASE_CALIBRATION,
            "the backup's %s holds nothing: it would only erase what is there (--allow=EraseCalibration to "
            "do it anyway)",
            p->part->name);
    return 0;
}

/* Is all of what a modem boots from put back? */
static bool is_whole(const struct restore *x)
{
    uint64_t blocks = 0;
    for (size_t i = 0; i < x->n_parts; i++)
        blocks += x->parts[i].part->n_blocks;
    return blocks == x->backup->geometry.blocks;
}

int restore_choose(struct restore *x, struct error *e)
{
    const struct backup *b = x->backup;
    const char *names = worker_option(x->worker, "partitions", "");
    int r = check_names(x, names, e);
    if (r < 0)
        return r;
    x->parts = calloc(b->n_parts, sizeof(*x->parts));
    if (!x->parts)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct backup_part *part = &b->parts[i];
        if (!is_chosen(names, part->name))
            continue;
        struct restore_part *p = &x->parts[x->n_parts++];
        *p = (struct restore_part){.part = part,
                                   .physical = is_physical(part),
                                   .sbl = part->first_block == 0,
                                   .mibib = text_equal_nocase(part->name, "MIBIB")};
        r = check_part(x, p, e);
        if (r < 0)
            return r;
    }
    x->whole = is_whole(x);
    return 0;
}

/* ---- with the modem ---- */

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

static int check_unit(const struct restore *x, struct error *e)
{
    const struct sahara_identity now = session_unit(x->visits.session), *then = &x->backup->unit;
    if (x->allow & ALLOW_WRONG_UNIT)
        return 0;
    bool known = now.have_serial && then->have_serial && now.serial != 0;
    bool other_chip = now.have_hwid && then->have_hwid && now.hwid != then->hwid;
    bool other_key = now.pk_hash_size > 0 && now.pk_hash_size == then->pk_hash_size &&
                     memcmp(now.pk_hash, then->pk_hash, now.pk_hash_size) != 0;
    if (known && now.serial == then->serial && !other_chip && !other_key)
        return 0;
    if (!known)
        return error_set(
            e, ERROR_WRONG_UNIT,
            "%s: that it is the same unit is not sure, and another unit's calibration is not this one's "
            "(--allow=WrongUnit to restore it anyway)",
            then->have_serial ? "the modem does not tell its serial number"
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

static bool restores(const struct restore *x, bool mibib)
{
    for (size_t i = 0; i < x->n_parts; i++)
        if (mibib && x->parts[i].mibib)
            return true;
    return false;
}

/* A part goes where the modem has that partition; with its own table in the backup the old layout comes back.
 */
static int check_place(const struct restore *x, const struct mibib_table *t, const struct backup_part *p,
                       struct error *e)
{
    const struct mibib_partition *own = mibib_find(t, p->name);
    uint64_t end = p->first_block + p->n_blocks;
    bool there =
        own && own->first_block == p->first_block && (own->n_blocks == p->n_blocks || own->n_blocks == 0);
    if (!there && !text_starts_with(p->name, "blocks-") && !restores(x, true) &&
        !(x->allow & ALLOW_GEOMETRY_DIFFERS))
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "the modem's partition table has %s not at blocks %llu to %llu, where the backup has it "
            "(--allow=GeometryDiffers to restore it there anyway)",
            p->name, LLU(p->first_block), LLU(end - 1));
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *u = &t->partitions[i];
        if (!mibib_is_unit_data(u->name) || u->first_block >= end ||
            (u->n_blocks > 0 && u->first_block + u->n_blocks <= p->first_block) ||
            text_equal_nocase(u->name, p->name) || x->allow & ALLOW_ERASE_CALIBRATION)
            continue;
        const struct backup_part *back = backup_find(x->backup, u->name);
        bool comes_back = false;
        for (size_t k = 0; back && k < x->n_parts; k++)
            comes_back |= x->parts[k].part == back && back->first_block == u->first_block;
        if (!comes_back)
            return error_set(e, ERROR_ERASE_CALIBRATION,
                             "%s of the backup lies where the modem has %s, which only this unit has "
                             "(--allow=EraseCalibration to do it anyway)",
                             p->name, u->name);
    }
    return 0;
}

static int check_places(const struct restore *x, struct error *e)
{
    const struct mibib_table *tables[] = {x->table_known ? &x->table : NULL,
                                          x->recorded_known ? &x->recorded : NULL};
    int r = 0;
    for (size_t k = 0; k < ARRAY_SIZE(tables); k++)
        for (size_t i = 0; r == 0 && tables[k] && i < x->n_parts; i++)
            r = check_place(x, tables[k], x->parts[i].part, e);
    return r;
}

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
    const char *known = worker_option(x->worker, "known-version", "");
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

int restore_judge(struct restore *x, struct error *e)
{
    int r = check_programmer(x, e);
    if (r == 0)
        r = check_unit(x, e);
    if (r == 0)
        r = check_geometry(x, e);
    if (r == 0)
        r = check_places(x, e);
    return r < 0 ? r : check_firmware(x, e);
}
