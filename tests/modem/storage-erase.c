/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Erase, with everything that makes it dangerous (corrections at the top of reference/edl.md): a tag of which
 * one of the three numbers cannot be read means the whole chip and is ACKed; running out of good blocks is
 * ACKed too by most; without last_sector a count of good blocks runs into the next partition.
 */

#include "programmer.h"

#include "trace.h"

/* A block that keeps what it has although its erase was told and ACKed (corrections: an ACK proves nothing).
 */
static bool skips(struct programmer *p, uint32_t block)
{
    struct scenario *s = p->nand->scenario;

    for (size_t i = 0; i < s->erase_skips.count; i++) {
        if (s->erase_skips.values[i] != block)
            continue;
        if (!s->erase_skips_always)
            s->erase_skips.values[i] = UINT32_MAX;
        trace("nand erase skips block=%u", block);
        return true;
    }
    return false;
}

/* One good block. 0, or -ENODEV when the power went while it was at it. */
static int erase_block(struct programmer *p, uint32_t block)
{
    int r = front_busy(p->front, p->scenario->erase_us);

    if (r < 0) {
        if (p->scenario->torn)
            nand_tear_block(p->nand, block);
        return r;
    }
    if (skips(p, block))
        return 0;
    if (nand_erase_block(p->nand, block) < 0)
        return speak_log(p, "ERROR: Erase of block %u failed, mark it as bad", block);
    return 0;
}

static int erase_everything(struct programmer *p)
{
    struct nand *n = p->nand;
    int r = speak_log(p, "INFO: NAND Erasing whole disk of %u blocks", n->blocks);

    violation("erase of the whole chip");
    for (uint32_t b = 0; r == 0 && b < n->blocks; b++) {
        if (!nand_block_bad(n, b))
            r = erase_block(p, b);
        if (r == 0 && (b + 1) % (n->blocks / 4) == 0)
            r = speak_log(p, "INFO: NAND Erase %u%% complete", (b + 1) * 100 / n->blocks);
    }
    return r < 0 ? r : speak_response(p, true, false, "");
}

/* Counts physical blocks; what is bad is passed over. */
static int erase_physical(struct programmer *p, const struct range *range, uint32_t blocks)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < blocks; i++) {
        uint32_t b = range->first_block + i;
        if (b > range->last_block)
            r = speak_log(p, "WARN: erase ends at last_sector, %u blocks are left", blocks - i);
        else if (nand_block_bad(p->nand, b))
            r = speak_log(p, "WARN: Skipping: bad block %u", b);
        else
            r = erase_block(p, b);
        if (b > range->last_block)
            break;
    }
    return r < 0 ? r : speak_response(p, true, false, "");
}

/* Counts good blocks, beyond the range if need be. */
static int erase_good(struct programmer *p, const struct range *range, uint32_t blocks)
{
    uint32_t b = range->first_block;
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < blocks; i++, b++) {
        b = range_good_block(p, range, b);
        if (b == UINT32_MAX) {
            if (p->scenario->erase_kind == ERASE_GOOD_NAK)
                return speak_nak(p, "ERROR: erase: out of good blocks, %u of %u done", i, blocks);
            r = speak_log(p, "ERROR: erase: out of good blocks, %u of %u done", i, blocks);
            break;
        }
        if (b >= range->first_block + blocks)
            violation("erase spills into block=%u, range was %u to %u", b, range->first_block,
                      range->first_block + blocks - 1);
        r = erase_block(p, b);
    }
    return r < 0 ? r : speak_response(p, true, false, "");
}

int storage_erase(struct programmer *p, const struct tag *t)
{
    uint32_t pages = p->nand->pages_per_block, blocks;
    struct range range;
    int r;

    range_parse(p, t, &range);
    if (p->scenario->erase_kind == ERASE_SPILL)
        range.has_last = false;
    if (p->is_9x07 && range.has_count && range.count == 0)
        return storage_open(p, &r) ? speak_nak(p, "ERROR: num_blocks to erase are ZERO") : r;
    if (!range.has_sector_size || !range.has_count || !range.has_start || range.count == 0)
        return storage_open(p, &r) ? erase_everything(p) : r;
    if (range_check(p, t, &range, &r))
        return r;
    r = speak_log(p, "INFO: Erasing start sector %u, num sectors 0", range.start);
    if (r < 0)
        return r;
    if (range.start % pages) {
        violation("erase start=%u is not the first page of a block", range.start);
        return speak_nak(p, "ERROR: start_sector unaligned");
    }
    if (range.count % pages) {
        violation("erase count=%u is not a multiple of %u", range.count, pages);
        return speak_nak(p, "ERROR: num_partition_sectors unaligned");
    }
    blocks = range.count / pages;
    trace("nand erase first=%u blocks=%u last=%u", range.first_block, blocks, range.last_block);
    return p->scenario->erase_kind == ERASE_PHYSICAL ? erase_physical(p, &range, blocks)
                                                     : erase_good(p, &range, blocks);
}
