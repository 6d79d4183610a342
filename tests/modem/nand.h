/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The NAND chip of a virtual modem, kept in a file that tests read (flash.py): pages that are erased, written
 * or unreadable; blocks that are good or bad. It enforces what a chip enforces (reference/edl.md 2.6): only
 * an erased page is written, pages of a block in ascending order, a block only erased as a whole; what breaks
 * a rule shows up in the trace as VIOLATION and leaves the damage that it would leave on a chip.
 *
 * File, little-endian: 4096 bytes header ("QVMNAND1", u32 page size, u32 pages a block, u32 blocks, u32 0,
 * u64 offset of the page states, u64 offset of the block records, u64 offset of the data); one byte a page
 * (enum page_state); eight bytes a block (u8 flags, u8 next page, u16 0, u32 erase count); data, page after
 * page. The data of a page that is not written mean nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scenario.h"

enum page_state { PAGE_ERASED = 0, PAGE_WRITTEN = 1, PAGE_UNREADABLE = 2 };

enum block_flags {
    BLOCK_BAD = 1,
    /* The command that wrote to it has not come to its end: an image with such a block does not boot (stands
       for the failing signature check of a half-written image). */
    BLOCK_INCOMPLETE = 2,
};

struct block_record {
    uint8_t flags;
    uint8_t next_page; /* the lowest page that may be written next */
    uint16_t reserved;
    uint32_t erase_count;
};

struct nand {
    uint32_t page_size, pages_per_block, blocks, pages;
    uint8_t *map;
    size_t map_size;
    uint8_t *states;
    struct block_record *records;
    uint8_t *data;
    struct scenario *scenario; /* which blocks and pages misbehave; a one-shot flip is struck off it */
};

/* Makes a flash file of erased good blocks. 0 or -errno. */
int nand_create(const char *path, uint32_t page_size, uint32_t pages_per_block, uint32_t blocks);

/* Maps a flash file and marks the bad blocks and unreadable pages of the scenario. 0 or -errno (-EBADMSG: not
 * one). */
int nand_open(struct nand *n, const char *path, struct scenario *s);
void nand_close(struct nand *n);

bool nand_block_bad(const struct nand *n, uint32_t block);
void nand_mark_bad(struct nand *n, uint32_t block);

/* -EIO: the block went bad just now. */
int nand_erase_block(struct nand *n, uint32_t block);

/* -EIO: programming failed, the block is going bad. A broken rule is a violation and corrupts the page, as on
   a chip: the caller does not learn of it. */
int nand_program_page(struct nand *n, uint32_t page, const uint8_t *data);

enum page_state nand_page_state(const struct nand *n, uint32_t page);
const uint8_t *nand_page(const struct nand *n, uint32_t page);

/* Power was lost while this page was being programmed or this block being erased. */
void nand_tear_page(struct nand *n, uint32_t page);
void nand_tear_block(struct nand *n, uint32_t block);

/* Marks the block as (not) part of an unfinished program command. */
void nand_set_incomplete(struct nand *n, uint32_t block, bool incomplete);
