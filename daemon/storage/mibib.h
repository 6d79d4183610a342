/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * MIBIB, the partition table of a Qualcomm NAND (reference/edl.md 2.8): header, system table, user table, CRC
 * page. The same parser reads the modem's own and the image in a package (partition_complete_*.mbn), and the
 * older bare user table (partition.mbn) is recognised but gives no addresses.
 */

#include "storage/nand.h"

enum {
    MIBIB_PARTITIONS_MAX = 128,
    MIBIB_NAME_SIZE = 17,
    MIBIB_PAGES = 4,
    MIBIB_SCAN_BLOCKS = 32,
    MIBIB_MAGIC_SIZE = 8,
    MIBIB_TABLES_MAX = 64, /* of one unit; the service records far fewer */
};

struct mibib_partition {
    char name[MIBIB_NAME_SIZE];     /* without "0:"; bytes outside printable ASCII refused */
    uint64_t first_block, n_blocks; /* a growing one ends at the chip's end */
    bool grows;                     /* its length in the table was 0xFFFFFFFF */
};

struct mibib_table {
    struct mibib_partition partitions[MIBIB_PARTITIONS_MAX];
    size_t n_partitions;
    uint32_t version, age;
    bool crc_present, crc_valid;
};

/* What was recorded of a unit in its life, the oldest first. */
struct mibib_tables {
    struct mibib_table *table;
    size_t n;
};
void mibib_tables_done(struct mibib_tables *t);
/* The one that the unit was last seen with; NULL of none. */
static inline const struct mibib_table *mibib_newest(const struct mibib_tables *t)
{
    return t && t->n > 0 ? &t->table[t->n - 1] : NULL;
}

/* The tables whose union protects a unit (flash rule 4), in the order in which they are believed; borrowed.
 */
struct mibib_union {
    const struct mibib_table *table[MIBIB_TABLES_MAX + 2];
    size_t n;
};
/* The modem's own, the recorded ones from the newest to the oldest, the package's; each may be NULL. */
struct mibib_union mibib_unite(const struct mibib_table *modem, const struct mibib_tables *recorded,
                               const struct mibib_table *package);

/*
 * pages: MIBIB_PAGES pages of page_size as they lie in flash. chip_blocks resolves a growing partition (0:
 * unknown, n_blocks stays 0). The partitions are sorted by their first block, entries of length 0 left out.
 * -EBADMSG with FirmwareInvalid: magic, count, overlap, nothing but empty ones, beyond the chip, name (empty,
 * unprintable, twice). A wrong CRC is told in crc_valid and is the caller's to judge.
 */
int mibib_parse(const void *pages, size_t page_size, uint64_t chip_blocks, struct mibib_table *ret,
                struct error *e);

/* Does a file or a block with this beginning hold such a table, right or wrong? */
bool mibib_is_image(const void *data, size_t size);

/* The CRC of 2.8 (poly 0x04C11DB7, init 0, not reflected, no final xor). */
uint32_t mibib_crc(const void *data, size_t size);

/*
 * Finds the modem's own: page 0 of the blocks in its known places, then of the first MIBIB_SCAN_BLOCKS
 * blocks; several copies: the highest age with a valid CRC. A copy without a CRC page counts only if none has
 * one; with a wrong CRC it never counts. *ret_block is its block. -ENOENT (and *e untouched) if there is
 * none. EraseCalibration if the one that counts has a valid CRC and does not parse: the modem goes by it, and
 * an older copy would tell wrong. Needs g->blocks. map (may be NULL) learns of the blocks that are seen to be
 * good on the way.
 */
int mibib_read(struct firehose *f, const struct nand_geometry *g, const struct nand_capabilities *caps,
               struct nand_map *map, struct mibib_table *ret, uint64_t *ret_block, struct error *e);

/* By name, case ignored, "0:" ignored; NULL if absent. */
const struct mibib_partition *mibib_find(const struct mibib_table *t, const char *name);
/* The one that holds this block; NULL if none does. */
const struct mibib_partition *mibib_at(const struct mibib_table *t, uint64_t block);

/*
 * Unit data (flash rule 4): EFS2, RAWDATA, sys_rev, cust_info. Touching one needs allow=EraseCalibration.
 */
bool mibib_is_unit_data(const char *name);

/* Text for a memfd or a record: one link_parse_text record a partition (NAME= FIRST= BLOCKS=, GROWS=1 of a
   growing one); and back, as strict as mibib_parse(): -EBADMSG, -ENOMEM. Version, age and CRC are not kept.
 */
char *mibib_print(const struct mibib_table *t);
int mibib_scan(const char *text, size_t size, struct mibib_table *ret);
/*
 * Several in one text, RECORDED_BETWEEN (link/keys.h) two of them. Where an earlier version left only one
 * blank line between them, a partition that does not lie behind the one before begins the next table, as
 * mibib_print() tells them by their blocks. All of it or -EBADMSG: what cannot be read protects nothing.
 */
int mibib_scan_several(const char *text, size_t size, struct mibib_tables *ret);
