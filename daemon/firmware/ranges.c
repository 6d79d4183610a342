/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/ranges.h"

#include <errno.h>
#include <stdarg.h>

#define LLU(n) ((unsigned long long)(n))

_printf_(3, 4) static int fault(char *why, size_t size, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, size, format, ap);
    va_end(ap);
    return -EBADMSG;
}

uint64_t partition_end(const struct mibib_partition *p, uint64_t chip_blocks)
{
    if (p->n_blocks > 0)
        return p->first_block + p->n_blocks;
    return chip_blocks > p->first_block ? chip_blocks : UINT64_MAX;
}

const struct mibib_partition *partition_at(const struct mibib_table *t, uint64_t block, uint64_t chip_blocks)
{
    for (size_t i = 0; i < t->n_partitions; i++)
        if (block >= t->partitions[i].first_block && block < partition_end(&t->partitions[i], chip_blocks))
            return &t->partitions[i];
    return NULL;
}

static const char *command_name(const struct package_command *c)
{
    return c->kind == COMMAND_PROGRAM ? "program" : "erase";
}

/* The range against the package's own table: within exactly one partition. */
static int check_partition(const struct package *p, const struct package_command *c,
                           const struct block_range *r, char *why, size_t size)
{
    const struct mibib_partition *own = partition_at(&p->table, r->first, p->chip_blocks);
    if (!own)
        return fault(why, size, "%s of line %u begins at block %llu, which no partition of the package holds",
                     command_name(c), c->line, LLU(r->first));
    if (block_range_end(r) > partition_end(own, p->chip_blocks))
        return fault(why, size,
                     "%s of line %u reaches over the end of %s (blocks %llu to %llu, it ends before %llu)",
                     command_name(c), c->line, own->name, LLU(r->first), LLU(block_range_end(r) - 1),
                     LLU(partition_end(own, p->chip_blocks)));
    return 0;
}

static int check_image(const struct package *p, const struct package_command *c, char *why, size_t size)
{
    if (c->file->size == 0)
        return fault(why, size, "%s is empty", c->file->path);
    uint64_t pages = DIV_ROUND_UP(c->file->size, p->geometry.page_size);
    if (pages > c->count)
        return fault(why, size, "%s has %llu pages, more than the %llu of its partition (line %u)",
                     c->file->path, LLU(pages), LLU(c->count), c->line);
    return 0;
}

int ranges_of_command(const struct package *p, const struct package_command *c, struct block_range *ret,
                      char *why, size_t why_size)
{
    const struct nand_geometry *g = &p->geometry;
    const char *name = command_name(c);

    if (g->page_size == 0 || g->pages_per_block == 0)
        return fault(why, why_size, "page and block size are not known");
    if (c->sector_size != g->page_size)
        return fault(why, why_size, "%s of line %u has sectors of %u bytes, the package's pages have %u",
                     name, c->line, c->sector_size, g->page_size);
    if (c->pages_per_block && c->pages_per_block != g->pages_per_block)
        return fault(why, why_size, "%s of line %u has %u pages a block, the package's geometry %u", name,
                     c->line, c->pages_per_block, g->pages_per_block);
    if (c->count == 0)
        return fault(why, why_size, "%s of line %u has no length", name, c->line);
    if (c->start > PACKAGE_PAGES_MAX || c->count > PACKAGE_PAGES_MAX)
        return fault(why, why_size, "%s of line %u: page %llu and %llu pages are beyond any chip", name,
                     c->line, LLU(c->start), LLU(c->count));
    if (c->start % g->pages_per_block || c->count % g->pages_per_block)
        return fault(why, why_size,
                     "%s of line %u (page %llu, %llu pages) is not on block borders of %u pages", name,
                     c->line, LLU(c->start), LLU(c->count), g->pages_per_block);

    struct block_range r = {.first = c->start / g->pages_per_block, .count = c->count / g->pages_per_block};
    if (p->chip_blocks && block_range_end(&r) > p->chip_blocks)
        return fault(why, why_size, "%s of line %u (blocks %llu to %llu) lies beyond the chip's %llu blocks",
                     name, c->line, LLU(r.first), LLU(block_range_end(&r) - 1), LLU(p->chip_blocks));
    int bad = p->table_known ? check_partition(p, c, &r, why, why_size) : 0;
    if (bad == 0 && c->kind == COMMAND_PROGRAM)
        bad = check_image(p, c, why, why_size);
    if (bad < 0)
        return bad;
    *ret = r;
    return 0;
}

int ranges_of_pair(const struct package_command *a, const struct block_range *ra,
                   const struct package_command *b, const struct block_range *rb, char *why, size_t why_size)
{
    if (!block_range_overlaps(ra, rb))
        return 0;
    if (a->kind == COMMAND_ERASE && b->kind == COMMAND_ERASE) {
        if (ra->first == rb->first && ra->count == rb->count)
            return 0;
    } else if (a->kind != b->kind) {
        bool contained =
            a->kind == COMMAND_ERASE ? block_range_contains(ra, rb) : block_range_contains(rb, ra);
        if (contained)
            return 0;
    }
    return fault(why, why_size,
                 "%s of line %u (blocks %llu to %llu) and %s of line %u (blocks %llu to %llu) overlap",
                 command_name(a), a->line, LLU(ra->first), LLU(block_range_end(ra) - 1), command_name(b),
                 b->line, LLU(rb->first), LLU(block_range_end(rb) - 1));
}

void ranges_check(struct package *p)
{
    struct block_range ranges[PACKAGE_STEPS_MAX];
    char why[256];

    for (size_t i = 0; i < p->n_commands && i < PACKAGE_STEPS_MAX; i++) {
        ranges[i] = (struct block_range){0};
        if (p->commands[i].kind == COMMAND_VENDOR)
            continue;
        if (ranges_of_command(p, &p->commands[i], &ranges[i], why, sizeof(why)) < 0) {
            package_problem(p, "%s", why);
            continue;
        }
        for (size_t k = 0; k < i; k++)
            if (ranges[k].count > 0 && ranges_of_pair(&p->commands[k], &ranges[k], &p->commands[i],
                                                      &ranges[i], why, sizeof(why)) < 0)
                package_problem(p, "%s", why);
    }
}
