/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "worker/restore.h"

#define LLU(n) ((unsigned long long)(n))

static int place_physical(const struct backup *b, const struct nand_map *map, struct restore_part *p,
                          struct error *e)
{
    const struct backup_part *part = p->part;
    for (uint64_t i = 0; i < part->n_blocks; i++) {
        uint64_t block = part->first_block + i;
        bool used = !backup_block_is_bad(b, part, block) && backup_block_pages(b, part, block) > 0;
        p->source[i] = used ? block : RESTORE_ERASED;
        if (!used || !nand_map_is_bad(map, block))
            continue;
        int r =
            error_set(e, ERROR_UNSUPPORTED,
                      "block %llu of %s held data and is bad now: what lies there must go back to the same "
                      "blocks, so it cannot be restored this way (a backup over DIAG, XQCN, could be)",
                      LLU(block), part->name);
        error_hint(e, HINT_CONTACT_VENDOR);
        return r;
    }
    return 0;
}

/* The n-th good block of then becomes the n-th good block of now. */
static int place_logical(const struct backup *b, const struct nand_map *map, struct restore_part *p,
                         struct error *e)
{
    const struct backup_part *part = p->part;
    uint64_t end = part->first_block + part->n_blocks, to = part->first_block;
    for (uint64_t i = 0; i < part->n_blocks; i++)
        p->source[i] = RESTORE_ERASED;
    for (uint64_t from = part->first_block; from < end; from++) {
        if (backup_block_is_bad(b, part, from))
            continue;
        while (to < end && nand_map_is_bad(map, to))
            to++;
        bool used = backup_block_pages(b, part, from) > 0;
        if (used && to >= end) {
            int r =
                error_set(e, ERROR_GEOMETRY_DIFFERS,
                          "%s has more bad blocks than it had, and no room for all that the backup has of it",
                          part->name);
            error_hint(e, HINT_CONTACT_VENDOR);
            return r;
        }
        if (to < end)
            p->source[to++ - part->first_block] = used ? from : RESTORE_ERASED;
    }
    return 0;
}

int restore_target(const struct backup *b, const struct nand_map *map, struct restore_part *p,
                   struct error *e)
{
    if (!p->source)
        p->source = calloc(p->part->n_blocks, sizeof(*p->source));
    if (!p->seen)
        p->seen = calloc(p->part->n_blocks, sizeof(*p->seen));
    _cleanup_free_ uint64_t *before = malloc(p->part->n_blocks * sizeof(*before));
    if (!p->source || !p->seen || !before)
        return error_set(e, ERROR_FAILED, "out of memory");
    memcpy(before, p->source, p->part->n_blocks * sizeof(*before));
    int r = p->physical ? place_physical(b, map, p, e) : place_logical(b, map, p, e);
    for (uint64_t i = 0; i < p->part->n_blocks; i++)
        if (p->source[i] != before[i])
            p->seen[i] = RESTORE_UNSEEN;
    return r;
}
