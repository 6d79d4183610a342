/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A backup as it lies in the store: one uncompressed tar, written and read by us alone, although any tar and
 * any sha256sum can open and check it.
 *
 *   NAME.bin ...     one image a partition: its good blocks in physical order, erased (and unreadable) pages
 * as 0xFF, everything behind the last written page cut off rawprogram.xml   so that other tools can write the
 * images; their programmers pass over bad blocks manifest.json    whose it is, and what lay where SHA256SUMS
 * of all of them
 *
 * The reader trusts nothing: of every byte but the images' it is known what it must be (headers, padding,
 * rawprogram.xml and SHA256SUMS are made anew from the manifest and compared, the manifest is printed anew
 * from what was understood of it), and the images have their digests in the manifest.
 */

#include "base/digest.h"
#include "storage/mibib.h"

enum {
    BACKUP_VERSION = 1,
    BACKUP_PARTS_MAX = 640,
    BACKUP_NAME_SIZE = 40,
    BACKUP_TEXT_SIZE = 128,
    BACKUP_ID_SIZE = 33,
    BACKUP_MANIFEST_MAX = 8 * 1024 * 1024,
    BACKUP_TABLE_MAX = 64 * 1024,
};
#define BACKUP_PAGES_MAX (UINT64_C(1) << 22) /* of a chip: 65536 blocks of 64 pages */
/* A chip of that size with everything around it. */
#define BACKUP_FILE_MAX (UINT64_C(17) << 30)

enum backup_kind { BACKUP_NAND, BACKUP_CALIBRATION, BACKUP_KIND_COUNT };
/* blank: EFS2 is there and holds no calibration; damaged: pages could not be read, or EFS2 is half of two.
 * Neither ever in place of a good one. */
enum backup_state { BACKUP_COMPLETE, BACKUP_BLANK, BACKUP_DAMAGED, BACKUP_STATE_COUNT };
/*
 * What the pages do not show of the calibration in them: the firmware ran in factory test mode, for it was
 * gone (flash rule 5); or something that writes it was interrupted. Of backups without the field: nothing is
 * known.
 */
enum backup_flaw { BACKUP_FLAW_NONE, BACKUP_FLAW_FACTORY_TEST, BACKUP_FLAW_HALF_WRITTEN, BACKUP_FLAW_COUNT };
/* How the bad blocks are known: read (skip_bad_block), told by the programmer (9x07), not at all. */
enum backup_map { BACKUP_MAP_READ, BACKUP_MAP_TOLD, BACKUP_MAP_NONE, BACKUP_MAP_COUNT };

const char *backup_kind_name(enum backup_kind kind);
const char *backup_state_name(enum backup_state state);
const char *backup_map_name(enum backup_map map);
/* "" of BACKUP_FLAW_NONE; the other way round also of NULL, and of what is none. */
const char *backup_flaw_name(enum backup_flaw flaw);
enum backup_flaw backup_flaw_from_name(const char *name);

struct backup_part {
    char name[BACKUP_NAME_SIZE]; /* of the partition, or "blocks-FIRST-LAST" where no table names it */
    uint64_t first_block, n_blocks;
    uint8_t *states; /* enum nand_page_state of every page, bad blocks included */
    uint64_t size;   /* of the image */
    uint64_t offset; /* where it lies in the file */
    uint8_t sha256[SHA256_SIZE];
};

/* All that a manifest says. */
struct backup {
    enum backup_kind kind;
    enum backup_state state;
    enum backup_map map;
    uint64_t created; /* us since 1970 */
    struct sahara_identity unit;
    char chip[16], model[BACKUP_TEXT_SIZE];
    char version[BACKUP_TEXT_SIZE]; /* of the firmware that ran, "" if nobody knows */
    bool version_confirmed;
    enum backup_flaw flaw; /* printed if there is one */
    struct nand_geometry geometry;
    char *table;               /* the modem's own, as mibib_print() tells it; "" if it had none */
    struct backup_part *parts; /* by first block, not touching each other */
    size_t n_parts;
    uint8_t content_sha256[SHA256_SIZE]; /* over unit, geometry and partitions; not over the time */

    int fd; /* borrowed; -1 of one that is being made */
    uint64_t file_size;
    char id[BACKUP_ID_SIZE]; /* first half of the manifest's SHA-256 */
};

struct backup *backup_free(struct backup *b);
DEFINE_CLEANUP(struct backup *, backup_free)

/* By name, case ignored, "0:" ignored; NULL. */
const struct backup_part *backup_find(const struct backup *b, const char *name);
/* The state of one page of a block of this part. */
static inline enum nand_page_state backup_page_state(const struct backup *b, const struct backup_part *p,
                                                     uint64_t block, uint32_t page)
{
    return (enum nand_page_state)p->states[(block - p->first_block) * b->geometry.pages_per_block + page];
}
bool backup_block_is_bad(const struct backup *b, const struct backup_part *p, uint64_t block);
/* Pages of a block up to its last written (or unreadable) one; 0: erased, or bad. */
uint32_t backup_block_pages(const struct backup *b, const struct backup_part *p, uint64_t block);
/* Over what only the unit has (EFS2, RAWDATA, sys_rev, cust_info), as far as it was saved. -ENOENT: EFS2 was
 * not, or holds nothing. */
int backup_unit_data(const struct backup *b, uint8_t ret[SHA256_SIZE]);
uint64_t backup_count(const struct backup_part *p, uint64_t pages, enum nand_page_state state);

/* ---- backup-write.c ---- */

struct backup_writer;

/*
 * Begins a backup in an empty file that can be read and written; fd stays the caller's. `facts` says all but
 * parts, state and digest; its table is copied. NoSpace, Failed.
 */
int backup_writer_new(int fd, const struct backup *facts, struct backup_writer **ret, struct error *e);
struct backup_writer *backup_writer_free(struct backup_writer *w);
DEFINE_CLEANUP(struct backup_writer *, backup_writer_free)

/* Parts come by their first block. */
int backup_writer_begin(struct backup_writer *w, const char *name, uint64_t first_block, uint64_t n_blocks,
                        struct error *e);
/*
 * The next pages of the block in hand, `n` from `first` on. states (of each page of the block; of a bad one
 * all NAND_PAGE_BAD) and data are those of the whole block. The last page ends it.
 */
int backup_writer_pages(struct backup_writer *w, const uint8_t *states, const void *data, uint32_t first,
                        uint32_t n, struct error *e);
/* Where in the file the next block's first page will lie. */
uint64_t backup_writer_offset(const struct backup_writer *w);
int backup_writer_end(struct backup_writer *w, struct error *e);
/* XML, manifest, sums; all of it on the disk. *ret stays the writer's, and is what backup_open() would give.
 */
int backup_writer_finish(struct backup_writer *w, const struct backup **ret, struct error *e);

/* ---- backup-read.c ---- */

/* Reads and checks everything but the images. BackupDamaged. fd stays the caller's and must outlive it. */
int backup_open(int fd, struct backup **ret, struct error *e);
/*
 * Every image against its digest and its map of pages. on_progress may be NULL or return a negative errno,
 * which ends it. BackupDamaged.
 */
int backup_check(const struct backup *b, int (*on_progress)(void *userdata, uint64_t done, uint64_t total),
                 void *userdata, struct error *e);
/* A good block as it was: pages_per_block pages, erased and unreadable ones as 0xFF. */
int backup_read_block(const struct backup *b, const struct backup_part *p, uint64_t block, void *ret,
                      struct error *e);
