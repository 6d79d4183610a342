/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * NAND as a programmer shows it (reference/edl.md 2.6): geometry, the fills of erased, unreadable and bad
 * pages, and the bad-block map. Also what this programmer can do, read and never assumed: literals in its
 * file, its banner, read-only probes.
 */

#include "protocol/firehose.h"

struct nand_geometry {
    uint32_t page_size; /* bytes */
    uint32_t pages_per_block;
    uint64_t blocks; /* 0: not known (a package names only page and block size) */
};

static inline uint32_t nand_block_size(const struct nand_geometry *g)
{
    return g->page_size * g->pages_per_block;
}

/*
 * "p4K_b256K" and back. Parsing takes the name alone or a file name that carries it
 * ("partition_complete_p4K_b256K.mbn"); the first one in it counts, blocks becomes 0. out holds 32 bytes.
 * -EINVAL: none there, not powers of two, a block smaller than a page.
 */
void nand_geometry_name(const struct nand_geometry *g, char *out, size_t size);
int nand_geometry_parse(const char *name, struct nand_geometry *ret);

/* What the programmer's file contains, by literal; "Capabilities are read, never assumed from the model". */
struct nand_capabilities {
    bool skip_bad_block; /* can show bad blocks */
    bool last_sector;
    bool digest;          /* getsha256digest */
    bool vendor_check;    /* c_project_name: knows the vendor tag (rule 3) */
    bool pages_per_block; /* PAGES_PER_BLOCK */
};
void nand_capabilities_read(const void *programmer, size_t size, struct nand_capabilities *ret);

enum nand_page_state {
    NAND_PAGE_DATA,
    NAND_PAGE_ERASED,     /* all 0xFF, or all of the programmer's erased fill */
    NAND_PAGE_UNREADABLE, /* all 0xFA */
    NAND_PAGE_BAD,        /* all 0xBD, with skip_bad_block */
};
/* erased_fill: what the programmer shows for an erased page (0xFF or 0xEE), probed. */
enum nand_page_state nand_page_state(const void *page, size_t size, uint8_t erased_fill);

enum { NAND_LOOK_BLOCKS = 2 }; /* that one command of nand_read_map() tells of */

/* One bit a block of the chip. */
struct nand_map {
    uint64_t blocks;
    uint8_t *bad;   /* 1: known bad */
    uint8_t *known; /* 1: it was looked at */
};
/* -ENOMEM; -EFBIG above a million blocks. */
int nand_map_init(struct nand_map *m, uint64_t blocks);
void nand_map_done(struct nand_map *m);
/* A block that nobody looked at is not bad; one beyond the chip is. */
bool nand_map_is_bad(const struct nand_map *m, uint64_t block);
bool nand_map_is_known(const struct nand_map *m, uint64_t block);
void nand_map_set(struct nand_map *m, uint64_t block, bool bad);
/* The n-th good block (from 0) at or behind `first`; beyond the chip if there are not so many. */
uint64_t nand_map_good(const struct nand_map *m, uint64_t first, uint64_t n);
/* Known bad blocks in [first, first + count). */
uint64_t nand_map_count_bad(const struct nand_map *m, uint64_t first, uint64_t count);

/*
 * Looks at `count` blocks from `first`, two with one command, since a command costs up to 75 ms whatever it
 * reads: the last page of one and the first of the next, with skip_bad_block. A block that shows the bad fill
 * there, or that has no neighbour, is looked at by itself: its first page, its last one too where the first
 * shows the bad fill; where both do, the first again without skip_bad_block, since an image may hold blocks
 * of nothing but 0xBD. A page that is refused is none of a bad block. The programmer's ERROR logs of that
 * last read are dropped. -EOPNOTSUPP if the programmer cannot show bad blocks (!caps->skip_bad_block).
 */
int nand_read_map(struct firehose *f, const struct nand_geometry *g, const struct nand_capabilities *caps,
                  uint64_t first, uint64_t count, struct nand_map *m, struct error *e);

/* A firehose range over whole blocks, last_sector at the end of the partition [first_block, first_block +
 * n_blocks). */
struct firehose_range nand_range(const struct nand_geometry *g, uint64_t first_block, uint64_t n_blocks);

/* One page of a block, the block being its own end (last_sector). ret holds page_size bytes. */
int nand_read_page(struct firehose *f, const struct nand_geometry *g, uint64_t block, uint32_t page,
                   bool skip_bad_block, void *ret, struct error *e);
/*
 * The last page of `block` and the first one of the next, as they lie there (skip_bad_block: a bad block
 * shows its fill and shifts nothing), with one command. ret holds two pages. A programmer puts its fills in
 * for what it reads at once, and that never crosses a block's border (reference/edl.md 2.6, from
 * disassembly).
 */
int nand_read_seam(struct firehose *f, const struct nand_geometry *g, uint64_t block, void *ret,
                   struct error *e);
