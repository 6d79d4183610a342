/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Program: raw data over the good blocks from the command's start on, each block erased before its first page
 * where this programmer does so. A block that fails is marked and its pages move to the next good one
 * (reference/edl.md 2.6).
 */

#include "programmer.h"

#include <errno.h>
#include <string.h>

#include "trace.h"

enum { PAGE_MAX = 16384 };

struct writer {
    struct programmer *programmer;
    const struct range *range;
    uint32_t block, index; /* where the next page goes; UINT32_MAX: no good block left */
    uint32_t last_page;    /* the one that was written last */
    bool failed;           /* what still comes is swallowed */
    uint8_t page[PAGE_MAX];
    size_t used;
};

/* Goes to the next good block and makes it ready. */
static void enter_block(struct writer *w, uint32_t from)
{
    struct programmer *p = w->programmer;
    uint32_t range_blocks = (w->range->count - 1) / p->nand->pages_per_block + 1;

    w->index = 0;
    for (w->block = range_good_block(p, w->range, from); w->block != UINT32_MAX;
         w->block = range_good_block(p, w->range, w->block + 1))
        if (!p->auto_erase || nand_erase_block(p->nand, w->block) == 0)
            break;
    if (w->block == UINT32_MAX) {
        violation("program runs out of good blocks before last block=%u", w->range->last_block);
        w->failed = true;
        return;
    }
    nand_set_incomplete(p->nand, w->block, true);
    if (!w->range->has_last && w->block >= w->range->first_block + range_blocks)
        trace("nand program shifted into block=%u, behind %u", w->block,
              w->range->first_block + range_blocks - 1);
}

/* The block at hand has gone bad: what it has already moves on. */
static void leave_bad_block(struct writer *w)
{
    struct nand *n = w->programmer->nand;
    uint32_t old = w->block, written = w->index;

    nand_mark_bad(n, old);
    enter_block(w, old + 1);
    for (uint32_t i = 0; i < written && !w->failed; i++) {
        uint32_t from = old * n->pages_per_block + i;
        if (nand_page_state(n, from) != PAGE_WRITTEN)
            continue;
        if (nand_program_page(n, w->block * n->pages_per_block + i, nand_page(n, from)) < 0) {
            /* This one too: begin again behind it. */
            nand_mark_bad(n, w->block);
            enter_block(w, w->block + 1);
            i = UINT32_MAX;
        }
    }
    w->index = written;
}

/* "ignoring erased page" (reference/edl.md 2.6) */
static bool passed_over(const struct programmer *p, const uint8_t *data)
{
    return !p->scenario->program_ff && data[0] == 0xFF && memcmp(data, data + 1, p->nand->page_size - 1) == 0;
}

static void write_page(struct writer *w)
{
    struct programmer *p = w->programmer;
    struct nand *n = p->nand;

    if (!w->failed && (w->block == UINT32_MAX || w->index == n->pages_per_block))
        enter_block(w, w->block == UINT32_MAX ? w->range->first_block : w->block + 1);
    while (!w->failed) {
        uint32_t page = w->block * n->pages_per_block + w->index;
        if (passed_over(p, w->page)) {
            w->index++;
            return;
        }
        if (nand_program_page(n, page, w->page) == 0) {
            w->last_page = page;
            w->index++;
            return;
        }
        leave_bad_block(w);
    }
}

static int write_bytes(struct writer *w, const uint8_t *data, size_t length)
{
    struct programmer *p = w->programmer;
    size_t page_size = p->nand->page_size;
    int r = 0;

    while (r == 0 && length) {
        size_t n = length < page_size - w->used ? length : page_size - w->used;
        memcpy(w->page + w->used, data, n);
        w->used += n;
        data += n;
        length -= n;
        if (w->used < page_size)
            break;
        w->used = 0;
        write_page(w);
        r = front_busy(p->front, p->scenario->program_us);
    }
    return r;
}

/* The ZLP that a host owes after a payload that is a multiple of the packet size. */
static int expect_zlp(struct programmer *p, size_t payload, bool *failed)
{
    uint8_t byte;
    size_t n;
    int r;

    if (!p->zlp_aware || payload % p->front->plug.max_packet)
        return 0;
    r = front_read(p->front, &byte, 1, &n);
    if (r == 0 && n) {
        violation("no ZLP after a payload of %zu bytes with ZlpAwareHost=1", payload);
        *failed = true;
    }
    return r;
}

/* All raw data of the command. */
static int receive_data(struct writer *w)
{
    struct programmer *p = w->programmer;
    uint64_t left = (uint64_t)w->range->count * p->nand->page_size;
    size_t payload = 0, n;
    int r = 0;

    while (r == 0 && left) {
        size_t want = p->payload - payload < left ? p->payload - payload : (size_t)left;

        r = front_read(p->front, p->buffer, want, &n);
        if (r < 0)
            break;
        if (p->front->nak_next) {
            /* It gives up in the middle; what still comes in is taken for documents. */
            p->front->nak_next = false;
            w->failed = true;
            return 0;
        }
        if (n == 0) {
            if (p->scenario->zlp_extra == TOLERANCE_ERROR) {
                trace("zlp in raw data");
                w->failed = true;
                return 0;
            }
            continue;
        }
        r = write_bytes(w, p->buffer, n);
        left -= n;
        payload += n;
        if (n < want && n % p->front->plug.max_packet) {
            violation("short transfer of %zu bytes in raw data, %llu are missing", n,
                      (unsigned long long)left);
            w->failed = true;
            return r;
        }
        if (r == 0 && (payload == p->payload || left == 0)) {
            bool missing = false;
            r = expect_zlp(p, payload, &missing);
            w->failed |= missing;
            if (missing)
                return r;
            payload = 0;
        }
    }
    return r;
}

/* Only a command that came to its end leaves a whole image. */
static void complete(struct writer *w)
{
    struct nand *n = w->programmer->nand;

    for (uint32_t b = w->range->first_block; b <= w->block && b < n->blocks; b++)
        nand_set_incomplete(n, b, false);
}

int storage_program(struct programmer *p, const struct tag *t)
{
    struct writer w = {.programmer = p, .block = UINT32_MAX, .last_page = UINT32_MAX};
    struct range range;
    int r;

    range_parse(p, t, &range);
    if (range_check(p, t, &range, &r))
        return r;
    if (range.skip_bad_block)
        return speak_nak(p, "ERROR: Failed to set the IO options: skip_bad_block in program, error:4");
    if (range.start % p->nand->pages_per_block) {
        violation("program start=%u is not the first page of a block", range.start);
        return speak_nak(p, "ERROR: write before last_written_page not allowed, start_sector %u",
                         range.start);
    }
    if (range.has_last && range.count > range.last - range.start + 1)
        violation("program of %u pages at %u goes past last_sector=%u", range.count, range.start, range.last);
    w.range = &range;
    r = speak_response(p, true, true, "");
    if (r == 0)
        r = receive_data(&w);
    if (r < 0) {
        if (p->scenario->torn && w.last_page != UINT32_MAX && p->front->ended != END_TERMINATED &&
            p->front->ended != END_NO_HOST)
            nand_tear_page(p->nand, w.last_page);
        return r;
    }
    if (w.failed) {
        r = speak_log(p, "ERROR: Line 2417: HANDLE_PROGRAM_FAILURE");
        return r < 0 ? r : speak_nak(p, "ERROR: Failed to write sectors %u+%u", range.start, range.count);
    }
    complete(&w);
    trace("nand program first=%u pages=%u last-block=%u", range.start, range.count, w.block);
    return speak_response(p, true, false, "");
}
