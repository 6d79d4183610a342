/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What of the store may go by itself, and what is the last of its kind. */

#include "service/backup.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "service/log.h"

/* Of partitions that no table named nobody knows: they may be it. */
bool backup_has_calibration(const struct backup *b)
{
    if (strcmp(b->kind, "xqcn") == 0)
        return true;
    if (strcmp(b->kind, "dump") == 0) /* whatever its regions are called */
        return false;
    for (char *const *p = b->partitions; p && *p; p++)
        if (strcasecmp(*p, "EFS2") == 0 || text_starts_with(*p, "blocks-"))
            return true;
    return false;
}

/* One that counts: when there is none of a unit, there is nothing to go back to. */
bool backup_is_good(const struct backup *b)
{
    return strcmp(b->state, "complete") == 0 && backup_has_calibration(b);
}

/* ---- whose ---- */

/* By its serial. Without one by what only the unit has: of two with the same of it one may go and nothing is
 * lost; any other is of a unit of its own. */
static bool same_unit(const struct backup *a, const struct backup *b)
{
    if (*a->imei_hash && *b->imei_hash)
        return strcmp(a->imei_hash, b->imei_hash) == 0;
    if (*a->chip_serial || *b->chip_serial)
        return strcmp(a->chip_serial, b->chip_serial) == 0;
    return *a->unit_data && strcmp(a->unit_data, b->unit_data) == 0;
}

bool backup_is_last(const struct backup *b)
{
    if (!backup_is_good(b))
        return false;
    for (const struct backup *i = b->manager->backups; i; i = i->next)
        if (i != b && backup_is_good(i) && same_unit(i, b) && (!i->imported || b->imported))
            return false;
    return true;
}

/* ---- what goes ---- */

/* Counted with b for Keep: one that holds less is no newer version of one that holds more. */
static bool same_group(const struct backup *a, const struct backup *b)
{
    return same_unit(a, b) && strcmp(a->kind, b->kind) == 0 && backup_is_good(a) == backup_is_good(b) &&
           !a->imported && strcasecmp(a->partition_list, b->partition_list) == 0;
}

/*
 * Of units that nothing tells apart, flashed again and again: what EFS2 holds differs each time. Nobody asked
 * for these by themselves.
 */
static bool is_nameless(const struct backup *b)
{
    return b->automatic && !b->imported && !*b->chip_serial && !*b->imei_hash;
}

static bool same_place(const struct backup *a, const struct backup *b)
{
    return is_nameless(a) && is_nameless(b) && strcmp(a->port, b->port) == 0 &&
           strcmp(a->model, b->model) == 0 && strcmp(a->kind, b->kind) == 0 &&
           backup_is_good(a) == backup_is_good(b);
}

/* A restore or flash that can be continued may need it, too. */
static bool is_spared(const struct backup *b)
{
    for (const struct job *j = b->manager->jobs; j; j = j->next)
        if ((strcmp(j->backup_id, b->id) == 0 || strcmp(j->saved_id, b->id) == 0) &&
            (!job_finished(j) || job_resumable(j)))
            return true;
    return false;
}

/* The one that goes first: the oldest but the very first good one, which shows the unit as it came to us. */
static struct backup *next_to_go(const struct backup *b,
                                 bool (*is_counted)(const struct backup *a, const struct backup *b),
                                 unsigned keep)
{
    struct backup *first = NULL, *second = NULL;
    unsigned n = 0;
    for (struct backup *i = b->manager->backups; i; i = i->next) {
        if (!is_counted(i, b))
            continue;
        n++;
        second = first && !is_spared(first) ? first : second;
        first = i;
    }
    if (n <= keep)
        return NULL;
    struct backup *goes = keep > 1 && backup_is_good(b) ? second : first;
    return goes && goes != b && !is_spared(goes) ? goes : NULL;
}

void backup_retain(struct backup *b)
{
    unsigned keep = b->manager->config.backups_keep, nameless = BACKUP_NAMELESS * keep;
    if (b->imported)
        return;
    for (struct backup *old;;) {
        bool of_group = (old = next_to_go(b, same_group, keep)) != NULL;
        if (!of_group && !(old = next_to_go(b, same_place, nameless)))
            return;
        if (of_group)
            log_message(LOG_INFO, "Backup %s (%s) is removed: there are more than Keep=%u.", old->id,
                        backup_title(old), keep);
        else
            log_message(
                LOG_NOTICE,
                "Backup %s (%s) is removed: there are more than %u of units without a serial number or "
                "IMEI at port %s, each taken by itself.",
                old->id, backup_title(old), nameless, old->port);
        int r = backup_remove(old);
        if (r < 0) {
            log_message(LOG_WARNING, "Backup %s cannot be removed: %s.", old->id, strerror(-r));
            return;
        }
    }
}
