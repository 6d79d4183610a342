/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A unit that tells no serial number goes away in the middle of its restore. It is known again by what only
 * it has: some places of its unit data hold what they held before anything was changed, or, where this job
 * wrote them, what the backup has there. One place at least must hold something: two erased units are alike.
 */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/restore.h"

static int read_place(struct restore *x, uint64_t block, uint8_t *pages, struct error *e)
{
    const struct session *s = x->visits.session;
    struct firehose_range range = nand_range(&s->geometry, block, 1);
    range.count = RESTORE_PLACE_PAGES;
    return firehose_read_pages(s->firehose, &range, true, pages, e);
}

/* A block that cannot be read says nothing: *ret_read is false. */
static int try_place(struct restore *x, uint64_t block, uint8_t *pages, bool *ret_read, struct error *e)
{
    struct error own = {0};
    int r = read_place(x, block, pages, &own);
    *ret_read = r == 0;
    if (r < 0 && !firehose_is_refusal(&own)) {
        *e = own;
        return r;
    }
    if (r < 0)
        firehose_clear_errors(x->visits.session->firehose);
    return 0;
}

/* The others are alike in all units of a batch. */
static bool tells_units_apart(const char *partition)
{
    const char *colon = strchr(partition, ':');
    return text_equal_nocase(colon ? colon + 1 : partition, "EFS2");
}

/* As the programmer shows them: it shows them so again. */
static int remember_block(struct restore *x, uint64_t block, bool own, uint8_t *pages, struct error *e)
{
    const struct nand_geometry *g = &x->visits.session->geometry;
    struct restore_place *place = &x->places[x->n_places];
    bool read;
    int r = try_place(x, block, pages, &read, e);
    if (r < 0 || !read)
        return r;
    *place = (struct restore_place){.block = block};
    for (uint32_t i = 0; i < RESTORE_PLACE_PAGES; i++)
        place->holds |= own && nand_page_state(pages + (size_t)i * g->page_size, g->page_size,
                                               LOOK_ERASED_EE) == NAND_PAGE_DATA;
    if (digest_sha256(pages, (size_t)RESTORE_PLACE_PAGES * g->page_size, place->sha256) < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    x->n_places++;
    return 0;
}

static bool is_remembered(const struct restore *x, uint64_t block)
{
    for (size_t i = 0; i < x->n_places; i++)
        if (x->places[i].block == block)
            return true;
    return false;
}

static int remember_partition(struct restore *x, const struct mibib_partition *p, uint8_t *pages,
                              struct error *e)
{
    const uint64_t blocks = x->visits.session->geometry.blocks;
    if (!mibib_is_unit_data(p->name) || p->first_block >= blocks)
        return 0;
    uint64_t there = MIN_OF(p->n_blocks, blocks - p->first_block),
             n = MIN_OF(there, (uint64_t)RESTORE_PLACES_EACH);
    int r = 0;
    for (uint64_t k = 0; r == 0 && k < n && x->n_places < RESTORE_PLACES_MAX; k++) {
        uint64_t block = p->first_block + (n > 1 ? k * (there - 1) / (n - 1) : 0);
        if (!is_remembered(x, block))
            r = remember_block(x, block, tells_units_apart(p->name), pages, e);
    }
    return r;
}

/* By the modem's own table; of several that were recorded, its EFS2 by each of them before anything else. */
int restore_remember(struct restore *x, struct error *e)
{
    const struct sahara_identity unit = session_unit(x->visits.session);
    const struct nand_geometry *g = &x->visits.session->geometry;
    const struct mibib_union tables =
        mibib_unite(x->table_known ? &x->table : NULL, x->table_known ? NULL : &x->recorded.tables, NULL);
    x->n_places = 0;
    if ((unit.have_serial && unit.serial != 0) || tables.n == 0 || g->pages_per_block < RESTORE_PLACE_PAGES)
        return 0;
    _cleanup_free_ uint8_t *pages = malloc((size_t)RESTORE_PLACE_PAGES * g->page_size);
    if (!pages)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t k = 0; k < tables.n; k++)
            for (size_t i = 0; r == 0 && i < tables.table[k]->n_partitions; i++) {
                const struct mibib_partition *p = &tables.table[k]->partitions[i];
                if (tells_units_apart(p->name) == (pass == 0))
                    r = remember_partition(x, p, pages, e);
            }
    if (r == 0)
        worker_log(x->worker,
                   "the modem tells no serial number: should it go away in the middle, it is known "
                   "again by what lies at %zu places of its calibration",
                   x->n_places);
    return r;
}

static const struct restore_part *part_of(const struct restore *x, uint64_t block)
{
    for (size_t i = 0; i < x->n_parts; i++)
        if (block >= x->parts[i].part->first_block &&
            block < x->parts[i].part->first_block + x->parts[i].part->n_blocks)
            return &x->parts[i];
    return NULL;
}

/* 1: what this job wrote there is there; 0: something else is; -ENODATA: nothing can be said. */
static int compare_written(struct restore *x, uint64_t block, const uint8_t *pages, bool *ret_holds,
                           struct error *e)
{
    const struct restore_part *p = part_of(x, block);
    uint32_t size = x->backup->geometry.page_size;
    uint64_t i = p ? block - p->part->first_block : 0;
    if (!p || p->seen[i] != RESTORE_RIGHT || p->source[i] == RESTORE_ERASED)
        return -ENODATA;
    int r = backup_read_block(x->backup, p->part, p->source[i], x->want, e);
    for (uint32_t k = 0; r == 0 && k < RESTORE_PLACE_PAGES; k++) {
        if (backup_page_state(x->backup, p->part, p->source[i], k) != NAND_PAGE_DATA)
            continue;
        *ret_holds |= tells_units_apart(p->part->name);
        if (memcmp(x->want + (size_t)k * size, pages + (size_t)k * size, size) != 0)
            return 0;
    }
    return r < 0 ? r : 1;
}

int restore_is_known_again(struct restore *x, bool *ret_other, struct error *e)
{
    const struct nand_geometry *g = &x->visits.session->geometry, *then = &x->backup->geometry;
    const size_t size = (size_t)RESTORE_PLACE_PAGES * g->page_size;
    uint8_t now[SHA256_SIZE];
    bool holds = false, read;
    *ret_other = true;
    if (g->page_size != then->page_size || g->pages_per_block != then->pages_per_block)
        return 0;
    _cleanup_free_ uint8_t *pages = malloc(size);
    if (!pages)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (size_t i = 0; i < x->n_places; i++) {
        const struct restore_place *place = &x->places[i];
        if (place->block == x->in_hand)
            continue; /* whatever became of its command */
        if (place->block >= g->blocks)
            return 0;
        int r = try_place(x, place->block, pages, &read, e);
        *ret_other = r == 0 && read;
        if (r < 0 || !read)
            return MIN_OF(r, 0);
        if (x->ours && x->ours[place->block]) {
            r = compare_written(x, place->block, pages, &holds, e);
            if (r < 0 && r != -ENODATA)
                return r;
        } else {
            if (digest_sha256(pages, size, now) < 0)
                return error_set(e, ERROR_FAILED, "out of memory");
            r = memcmp(now, place->sha256, sizeof(now)) == 0;
            holds |= r > 0 && place->holds;
        }
        if (r == 0)
            return 0;
    }
    *ret_other = false;
    return holds;
}
