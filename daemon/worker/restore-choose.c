/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/restore.h"

#define LLU(n) ((unsigned long long)(n))

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

/*
 * In a backup of the calibration that is what a table that the unit had once calls its own, or what a flash
 * was going to write over: behind a change of layout it would be written into today's partitions. Whoever
 * wants it says so.
 */
static bool is_left_out(const struct restore *x, const char *names, const struct backup_part *p)
{
    return x->backup->kind == BACKUP_CALIBRATION && !*names && text_starts_with(p->name, "blocks-");
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
    if (text_equal_nocase(p->part->name, "EFS2") && b->flaw == BACKUP_FLAW_FACTORY_TEST &&
        !(x->allow & ALLOW_ERASE_CALIBRATION))
        return error_set(
            e, ERROR_ERASE_CALIBRATION,
            "the backup's %s is of a modem in factory test mode, whose calibration was lost: it would only "
            "take the place of what is there (--allow=EraseCalibration to do it anyway)",
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
        if (is_left_out(x, names, part)) {
            worker_log(x->worker, "%s of the backup is left out: the unit's table had no such partition then",
                       part->name);
            continue;
        }
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
