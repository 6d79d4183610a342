/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What lies where in this modem's flash: the partitions, their table on the chip (MIBIB,
 * reference/edl.md 2.8), the project record (RAWDATA, corrections in reference/edl.md), and the contents of a
 * fresh flash.
 */

#include <stdbool.h>
#include <stdint.h>

#include "nand.h"
#include "scenario.h"

enum {
    PARTITIONS_MAX = 48,
    PARTITION_NAME_MAX = 16,
    LAYOUT_BLOCKS_FULL = 1232,
    LAYOUT_BLOCKS_SMALL = 192,
    LAYOUT_BLOCKS_MIN = 16,
};

struct partition {
    char name[PARTITION_NAME_MAX + 1]; /* without "0:" */
    uint32_t first_block, blocks;      /* the last one grows to the end of the chip */
};

struct layout {
    uint32_t count;
    struct partition partitions[PARTITIONS_MAX];
};

/* The layout that every modem here is made with: the full one from LAYOUT_BLOCKS_FULL blocks on, below it the
   same small partitions with small big ones, below LAYOUT_BLOCKS_SMALL a chip for tests that count every
   command: three blocks where something is written, else one. */
void layout_default(struct layout *l, uint32_t blocks);

/* Reads the table off the chip: of all copies in blocks 0 to 20 that are whole (magics, CRC) the one with the
   highest age. False: there is none. */
bool layout_read(const struct nand *n, struct layout *ret);

/* NULL if there is none of that name. */
const struct partition *layout_find(const struct layout *l, const char *name);

/* The partition that has this block, or NULL. */
const struct partition *layout_at(const struct layout *l, uint32_t block);

/* The first page of the first good block of a partition; false if it has none. */
bool layout_first_page(const struct nand *n, const struct partition *p, uint32_t *ret_page);

/* Fills a new flash: unit data that must survive everything, and as much of a firmware as the scenario says.
   False: EFS2 is too small for what it is to have. */
bool layout_fill(struct nand *n, const struct scenario *s);

/* Content that a test recognises: in the first 64 bytes in words whose it is and where, then noise that no
   other page has. */
void layout_unit_page(const char *name, uint32_t serial, uint32_t index, uint8_t *page, uint32_t size);

/* RAWDATA. */
enum { RAWDATA_MAGIC_SIZE = 8, RAWDATA_NAME = 0x10, RAWDATA_TYPE = 0x30, RAWDATA_TEXT_MAX = 0x20 };
extern const uint8_t rawdata_magic[RAWDATA_MAGIC_SIZE];

/* First word of an SBL image. */
enum { SBL_MAGIC = (int)0x844BDCD1 };
