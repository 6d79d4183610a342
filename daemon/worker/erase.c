/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/erase.h"

#include <errno.h>
#include <string.h>

#define LLU(n) ((unsigned long long)(n))

static bool shows_bad_blocks(const struct flash *f)
{
    return f->session->capabilities.skip_bad_block;
}

static struct block_range whole_step(const struct plan_step *s)
{
    return (struct block_range){s->first_block, s->n_blocks};
}

int erase_command(struct flash *f, uint64_t first, uint64_t count, const char *name, struct error *e)
{
    struct firehose_range range = nand_range(&f->plan->geometry, first, count);
    char what[96];
    int r = firehose_erase(f->session->firehose, &range, e);
    if (count == 1)
        snprintf(what, sizeof(what), "erasing block %llu of %s", LLU(first), name);
    else
        snprintf(what, sizeof(what), "erasing %s", name);
    flash_note_errors(f, what);
    return r;
}

/* ---- where nobody tells bad blocks, and nothing ends a command at its partition's end ---- */

static bool may_run_on(const struct flash *f)
{
    const struct nand_capabilities *can = &f->session->capabilities;
    return !can->last_sector && !can->skip_bad_block && !f->session->storage.bad_block_list;
}

/* 1: `block` reads as `behind`, page by page, and that is not erased; 0: it does not. */
static int reads_as(struct flash *f, uint64_t block, uint64_t behind, uint8_t *buffer, struct error *e)
{
    const struct nand_geometry *g = &f->plan->geometry;
    uint8_t *other = buffer + g->page_size;
    bool something = false;
    for (uint32_t page = 0; page < g->pages_per_block; page++) {
        int r = flash_end_if_asked(f, e);
        if (r == 0)
            r = nand_read_page(f->session->firehose, g, block, page, false, buffer, e);
        if (r == 0)
            r = flash_end_if_asked(f, e);
        if (r == 0)
            r = nand_read_page(f->session->firehose, g, behind, page, false, other, e);
        if (r < 0)
            return r;
        if (memcmp(buffer, other, g->page_size) != 0)
            return 0;
        something |= nand_page_state(other, g->page_size, f->session->erased_fill) == NAND_PAGE_DATA;
    }
    return something;
}

/*
 * A command that begins at a bad block is about the next good one (reference/edl.md 2.6). So bad blocks at
 * the end of a partition read as the first block of what follows, and their erase would be the erase of that,
 * which may be what only this unit has. They are found out and left alone, as bad ones are. A bad block in
 * front of a good one of its own partition means that one, which is erased anyway.
 */
static int erase_blindly(struct flash *f, const struct plan_step *s, const char *name, struct error *e)
{
    uint64_t end = s->first_block + s->n_blocks;
    _cleanup_free_ uint8_t *buffer = malloc(2 * (size_t)f->plan->geometry.page_size);
    if (!buffer)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t b = s->first_block; b < end; b++) {
        bool quiet = f->quiet;
        int r = flash_end_if_asked(f, e);
        f->quiet = true;
        if (r == 0 && end < f->plan->geometry.blocks)
            r = reads_as(f, b, end, buffer, e);
        f->quiet = quiet;
        if (r > 0) {
            worker_log(f->worker,
                       "WARN: block %llu of %s reads as block %llu, which is not its own: it is bad", LLU(b),
                       name, LLU(end));
            continue; /* whoever hides bad blocks is asked for no map either */
        }
        if (r == 0)
            r = erase_command(f, b, 1, name, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int erase_range(struct flash *f, const struct plan_step *s, struct error *e)
{
    char name[MIBIB_NAME_SIZE + 32];
    snprintf(name, sizeof(name), "%s", flash_step_name(s));
    if (may_run_on(f))
        return erase_blindly(f, s, name, e);
    /*
     * A count that includes a bad block means different things to different programmers: some count physical
     * blocks, some good ones and run into the next partition or out of blocks. Block by block it means the
     * same to all (reference/edl.md, corrections).
     */
    if (nand_map_count_bad(&f->map, s->first_block, s->n_blocks) == 0)
        return erase_command(f, s->first_block, s->n_blocks, name, e);
    for (uint64_t b = s->first_block; b < s->first_block + s->n_blocks; b++) {
        if (nand_map_is_bad(&f->map, b))
            continue;
        int r = flash_end_if_asked(f, e);
        if (r == 0)
            r = erase_command(f, b, 1, name, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- looking ---- */

/* 1: this page of a block is erased; 0: it is not. */
static int page_is_erased(struct flash *f, uint64_t block, uint32_t page, uint8_t *buffer, struct error *e)
{
    const struct nand_geometry *g = &f->plan->geometry;
    int r = flash_end_if_asked(f, e);
    if (r == 0)
        r = nand_read_page(f->session->firehose, g, block, page, true, buffer, e);
    if (r < 0)
        return r;
    return nand_page_state(buffer, g->page_size, f->session->erased_fill) == NAND_PAGE_ERASED;
}

/* A block that reads as bad where nothing was expected to: it went bad, which the map has to hear from
 * nand_read_map(). */
static int begins_erased(struct flash *f, uint64_t block, uint8_t *buffer, struct error *e)
{
    int r = page_is_erased(f, block, 0, buffer, e);
    if (r == 0 && nand_page_state(buffer, f->plan->geometry.page_size, 0xff) == NAND_PAGE_BAD) {
        r = erase_read_map(f, block, 1, e);
        return r < 0 ? r : nand_map_is_bad(&f->map, block);
    }
    return r;
}

/*
 * 1: the last page of a block is erased; *ret_next: and the first one of the next block, as the same command
 * told. What is not erased is looked at by itself.
 */
static int ends_erased(struct flash *f, uint64_t block, bool *ret_next, uint8_t *buffer, struct error *e)
{
    size_t size = f->plan->geometry.page_size;
    int r = flash_end_if_asked(f, e);
    if (r == 0)
        r = nand_read_seam(f->session->firehose, &f->plan->geometry, block, buffer, e);
    if (r < 0)
        return r;
    if (nand_page_state(buffer, size, f->session->erased_fill) != NAND_PAGE_ERASED)
        return page_is_erased(f, block, f->plan->geometry.pages_per_block - 1, buffer, e);
    *ret_next = nand_page_state(buffer + size, size, f->session->erased_fill) == NAND_PAGE_ERASED;
    return 1;
}

/* The blocks behind which nothing of a finished image lies: the n-th good block from a command's start is its
 * n-th block. */
static bool is_covered(const struct flash *f, uint64_t block)
{
    uint32_t pages_per_block = f->plan->geometry.pages_per_block;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action != PLAN_WRITE || !f->steps[i].done || block < s->first_block ||
            block >= s->first_block + s->n_blocks)
            continue;
        uint64_t good_before =
            block - s->first_block - nand_map_count_bad(&f->map, s->first_block, block - s->first_block);
        if (good_before < DIV_ROUND_UP(s->pages, pages_per_block))
            return true;
    }
    return false;
}

static bool has_finished_write(const struct flash *f, const struct plan_step *erase)
{
    for (size_t i = 0; i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_WRITE && f->steps[i].done &&
            flash_contains(erase, &f->plan->steps[i]))
            return true;
    return false;
}

/* All that can be asked of a programmer that hides bad blocks: is the first page that it shows of this range
 * erased? */
static int check_blind(struct flash *f, const struct plan_step *s, uint8_t *buffer, struct error *e)
{
    if (has_finished_write(f, s))
        return 1;
    const struct nand_geometry *g = &f->plan->geometry;
    struct firehose_range range = nand_range(g, s->first_block, s->n_blocks);
    range.count = 1;
    int r = flash_end_if_asked(f, e);
    if (r == 0)
        r = firehose_read_pages(f->session->firehose, &range, false, buffer, e);
    return r < 0 ? r : nand_page_state(buffer, g->page_size, f->session->erased_fill) == NAND_PAGE_ERASED;
}

static bool has_to_be_erased(const struct flash *f, uint64_t block)
{
    return !nand_map_is_bad(&f->map, block) && !is_covered(f, block);
}

static int look_at_blocks(struct flash *f, const struct plan_step *s, const struct block_range *part,
                          uint64_t *ret_block, struct error *e)
{
    _cleanup_free_ uint8_t *buffer = malloc(2 * (size_t)f->plan->geometry.page_size);
    uint64_t end = block_range_end(part);
    bool begins = false; /* b does, as was seen with the block in front of it */
    if (!buffer)
        return error_set(e, ERROR_FAILED, "out of memory");
    if (!shows_bad_blocks(f)) {
        *ret_block = s->first_block;
        return check_blind(f, s, buffer, e);
    }
    for (uint64_t b = part->first; b < end; b++) {
        if (!has_to_be_erased(f, b))
            continue;
        int r = begins ? 1 : begins_erased(f, b, buffer, e);
        begins = false;
        if (r > 0 && nand_map_is_bad(&f->map, b))
            continue; /* since now */
        if (r > 0 && b + 1 < end && has_to_be_erased(f, b + 1))
            r = ends_erased(f, b, &begins, buffer, e);
        else if (r > 0)
            r = page_is_erased(f, b, f->plan->geometry.pages_per_block - 1, buffer, e);
        if (r > 0)
            continue;
        *ret_block = b;
        return r;
    }
    return 1;
}

static int look_with_new_map(struct flash *f, const struct plan_step *s, const struct block_range *part,
                             uint64_t *ret_block, struct error *e)
{
    int r = erase_read_map(f, s->first_block, s->n_blocks, e);
    return r < 0 ? r : look_at_blocks(f, s, part, ret_block, e);
}

/*
 * The map is not read anew after every write: that is a command for each block, up to 75 ms on some modems.
 * It need not be, because a block that goes bad under a program command hands its data on, and the image ends
 * one block further: the block behind it, erased by the map that we have, holds data then. That is the moment
 * to look again, and always before that block is taken for a stale one and erased.
 */
static int check(struct flash *f, const struct plan_step *s, const struct block_range *part,
                 uint64_t *ret_block, struct error *e)
{
    bool quiet = f->quiet;
    f->quiet = true;
    int r = look_at_blocks(f, s, part, ret_block, e);
    if (r == 0 && has_finished_write(f, s))
        r = look_with_new_map(f, s, part, ret_block, e);
    f->quiet = quiet;
    return r;
}

int erase_check(struct flash *f, const struct plan_step *s, uint64_t *ret_block, struct error *e)
{
    const struct block_range all = whole_step(s);
    return check(f, s, &all, ret_block, e);
}

int erase_ensure(struct flash *f, const struct plan_step *s, struct error *e)
{
    const struct block_range all = whole_step(s);
    return erase_ensure_part(f, s, &all, e);
}

int erase_ensure_part(struct flash *f, const struct plan_step *s, const struct block_range *part,
                      struct error *e)
{
    uint64_t block, behind = part->first; /* every block gets its second chance once */
    for (;;) {
        int r = check(f, s, part, &block, e);
        if (r != 0)
            return r < 0 ? r : 0;
        if (block < behind || !shows_bad_blocks(f))
            break;
        worker_log(
            f->worker,
            "WARN: block %llu of %s is not erased although the programmer said so; erasing it once more",
            LLU(block), flash_step_name(s));
        r = erase_command(f, block, 1, flash_step_name(s), e);
        f->fill_known = false; /* it may have been learned from a page that was not erased */
        if (r == 0)
            r = erase_probe_fill(f, s, e);
        if (r < 0)
            return r;
        behind = block + 1;
    }
    int r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "block %llu of %s still holds data although its erase was acknowledged", LLU(block),
                      flash_step_name(s));
    error_hint(e, HINT_CONTACT_VENDOR);
    return r;
}

int erase_probe_fill(struct flash *f, const struct plan_step *s, struct error *e)
{
    /* Block 0 is good by what chip makers promise; elsewhere a programmer that hides bad blocks cannot be
     * asked safely. */
    if (f->fill_known || (!shows_bad_blocks(f) && s->first_block != 0))
        return 0;
    for (uint64_t b = s->first_block; b < s->first_block + s->n_blocks; b++) {
        if (nand_map_is_bad(&f->map, b))
            continue;
        /* The erase may have made it a bad one, of which no page can be read. */
        int r = erase_read_map(f, b, 1, e);
        if (r == 0 && nand_map_is_bad(&f->map, b))
            continue;
        if (r == 0)
            r = flash_end_if_asked(f, e);
        if (r == 0)
            r = session_probe_fill(f->session, b * f->plan->geometry.pages_per_block, e);
        f->fill_known = r == 0;
        return r;
    }
    return 0;
}

/* ---- the map ---- */

uint64_t erase_new_bad(const struct flash *f)
{
    uint64_t n = 0;
    for (uint64_t b = 0; b < f->map.blocks; b++)
        n += nand_map_is_known(&f->at_gate, b) && nand_map_is_bad(&f->map, b) &&
             !nand_map_is_bad(&f->at_gate, b);
    return n;
}

/* By one command each. */
static int read_map(struct flash *f, uint64_t first, uint64_t count, struct error *e)
{
    int r = 0;
    for (uint64_t done = 0, n; r == 0 && done < count; done += n) {
        n = MIN_OF(count - done, (uint64_t)NAND_LOOK_BLOCKS);
        r = flash_end_if_asked(f, e);
        if (r == 0)
            r = nand_read_map(f->session->firehose, &f->plan->geometry, &f->session->capabilities,
                              first + done, n, &f->map, e);
    }
    return r;
}

int erase_read_map(struct flash *f, uint64_t first, uint64_t count, struct error *e)
{
    if (!shows_bad_blocks(f))
        return 0;
    uint64_t before = erase_new_bad(f);
    bool quiet = f->quiet;
    f->quiet = true;
    int r = read_map(f, first, count, e);
    f->quiet = quiet;
    if (r < 0)
        return r;
    uint64_t now = erase_new_bad(f);
    if (now > before)
        worker_log(f->worker, "WARN: %llu of blocks %llu to %llu went bad; %llu under this flash",
                   LLU(now - before), LLU(first), LLU(first + count - 1), LLU(now));
    return erase_check_new_bad(f, e);
}

int erase_check_new_bad(const struct flash *f, struct error *e)
{
    uint64_t now = erase_new_bad(f);
    if (now <= NEW_BAD_BLOCKS_MAX)
        return 0;
    int r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "%llu blocks of the flash went bad under this flash (at most %d may): it is dying",
                      LLU(now), NEW_BAD_BLOCKS_MAX);
    error_hint(e, HINT_CONTACT_VENDOR);
    return r;
}

/* ---- over several calls ---- */

enum { BAD_A_RECORD = 3 };

static int append_bad(struct flash *f, const uint64_t block[BAD_A_RECORD], struct error *e)
{
    const struct journal_record record = {
        .kind = JOURNAL_BAD_BEFORE, .first_block = block[0], .n_blocks = block[1], .pages = block[2]};
    return journal_append(&f->journal, &record, e);
}

int erase_note_bad_before(struct flash *f, struct error *e)
{
    uint64_t block[BAD_A_RECORD] = {0};
    size_t n = 0;
    if (!shows_bad_blocks(f))
        return 0;
    for (uint64_t b = 0; b < f->at_gate.blocks; b++) {
        if (!nand_map_is_bad(&f->at_gate, b))
            continue;
        if (n == BAD_A_RECORD) {
            int r = append_bad(f, block, e);
            if (r < 0)
                return r;
            memset(block, 0, sizeof(block));
            n = 0;
        }
        block[n++] = b + 1;
    }
    return append_bad(f, block, e);
}

static bool was_bad_before(const struct journal *j, uint64_t block)
{
    for (size_t i = 0; i < j->n_records; i++) {
        const struct journal_record *r = &j->records[i];
        if (r->kind == JOURNAL_BAD_BEFORE &&
            (r->first_block == block + 1 || r->n_blocks == block + 1 || r->pages == block + 1))
            return true;
    }
    return false;
}

void erase_recall_bad_before(struct flash *f)
{
    if (f->journal.n_records == 0 || f->journal.records[0].kind != JOURNAL_BAD_BEFORE)
        return;
    for (uint64_t b = 0; b < f->at_gate.blocks; b++)
        if (nand_map_is_bad(&f->at_gate, b) && !was_bad_before(&f->journal, b))
            nand_map_set(&f->at_gate, b, false);
}
