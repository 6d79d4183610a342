/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/project.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

/* The record (reference/edl.md, corrections). */
enum { AT_NAME = 0x10, AT_TYPE = 0x30 };
static const uint8_t MAGIC[8] = {0x24, 0x04, 0x19, 0x20, 0x25, 0x04, 0x19, 0x20};
_Static_assert(AT_TYPE - AT_NAME + 1 == PROJECT_NAME_SIZE, "the name fills the room in front of the type");

/* A RAWDATA partition is 10 blocks on what was seen; one that claims more is not read to its end. */
enum { BLOCKS_MAX = 32 };

/* Letters, digits and what else stands in version names; at least two, NUL behind (or the whole room). */
static int take_name(const uint8_t *room, char ret[PROJECT_NAME_SIZE])
{
    size_t n = strnlen((const char *)room, AT_TYPE - AT_NAME);
    for (size_t i = 0; i < n; i++)
        if (room[i] <= ' ' || room[i] > '~')
            return 0;
    if (n < 2)
        return 0;
    memcpy(ret, room, n);
    ret[n] = '\0';
    return 1;
}

int project_find(const void *data, size_t size, char ret[PROJECT_NAME_SIZE])
{
    const uint8_t *p = data, *end = p + size;
    while ((p = memmem(p, (size_t)(end - p), MAGIC, sizeof(MAGIC)))) {
        if (end - p >= AT_TYPE && take_name(p + AT_NAME, ret))
            return 1;
        p++;
    }
    return 0;
}

int project_read(struct flash *f, const struct mibib_partition *rawdata, char ret[PROJECT_NAME_SIZE],
                 struct error *e)
{
    const struct nand_geometry *g = &f->session->geometry;
    bool skip = f->session->capabilities.skip_bad_block;
    _cleanup_free_ uint8_t *block = malloc(nand_block_size(g));
    if (!block)
        return error_set(e, ERROR_FAILED, "out of memory");
    uint64_t n = MIN_OF(rawdata->n_blocks, (uint64_t)BLOCKS_MAX);
    if (rawdata->first_block >= g->blocks || n > g->blocks - rawdata->first_block)
        return 0;
    /* Without skip_bad_block only the first block that is shown: whether there is another one nobody knows,
       and a read past the good blocks ends in a NAK, after which some programmers hang. */
    for (uint64_t b = 0; b < (skip ? n : MIN_OF(n, (uint64_t)1)); b++) {
        struct firehose_range range = nand_range(g, rawdata->first_block + b, skip ? 1 : n - b);
        range.count = g->pages_per_block;
        int r = firehose_read_pages(f->session->firehose, &range, skip, block, e);
        if (r < 0)
            return r;
        if (project_find(block, nand_block_size(g), ret))
            return 1;
    }
    return 0;
}

bool project_agrees(const struct flash *f, const char *name)
{
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action == PLAN_CHECK_VENDOR && text_equal_nocase(s->vendor.project_name, name))
            return true;
    }
    return f->package->version_known && text_equal_nocase(f->package->version.prefix, name);
}
