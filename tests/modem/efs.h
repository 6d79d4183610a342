/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The modem's own file system: what the running firmware keeps in the EFS2 partition of its flash, numbered
 * NV items and files. In memory a sorted tree (efs.c); on the chip a log of changes (efs-log.c) by the rules
 * of NAND. The format is ours, the habits are EFS2's: a file system of which any page is missing, unreadable,
 * altered or in another place does not mount; what was not synced is lost with the power.
 *
 * On the chip each page begins with 64 bytes that say in words whose it is, then (little-endian) "QVMEFS2\0",
 * u32 sequence, u32 base, u32 its physical page, u32 bytes used, u32 chip serial, u32 0, u64 sum of
 * everything from the magic on with this field 0; then records (u8 type, u8 0, u16 length, body), then noise.
 * The log is whole if all pages from the base of the highest sequence up to that sequence are there.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nand.h"
#include "scenario.h"

/* Modes of reference/diag.md 2.5. */
enum efs_mode {
    EFS_TYPE = 0170000,
    EFS_FILE = 0100000,
    EFS_DIRECTORY = 0040000,
    EFS_LINK = 0120000,
    EFS_ITEM = 0160000,
};

/* What DIAG calls errno: POSIX numbers and EFS2's own (reference/diag.md 2.5). */
enum efs_error {
    EFS_ENOENT = 2,
    EFS_EBADF = 9,
    EFS_EACCES = 13,
    EFS_EEXIST = 17,
    EFS_ENOTDIR = 20,
    EFS_EISDIR = 21,
    EFS_EINVAL = 22,
    EFS_EFBIG = 27,
    EFS_ENOSPC = 28,
    EFS_ENOTEMPTY = 39,
    EFS_INCONSISTENT = 0x40000001,
    EFS_BAD_SEQUENCE,
    EFS_DIRECTORY_NOT_OPEN,
    EFS_NO_ENTRY,
    EFS_BAD_PATH,
    EFS_PATH_TOO_LONG,
    EFS_TOO_MANY_DIRECTORIES,
    EFS_BAD_ENTRY,
    EFS_TOO_MANY_FILES,
};

enum { EFS_NV_SIZE = 128, EFS_PATH_MAX = 512, EFS_FILE_MAX = 16 << 20, EFS_NV_NONE = -1 };

struct efs_node {
    char *path; /* absolute, no slash at its end but for the root */
    uint16_t mode;
    uint32_t time; /* seconds since 1980, of the last change */
    uint8_t *data;
    size_t size, capacity;
};

struct efs_nv {
    uint16_t item, index;
    uint8_t data[EFS_NV_SIZE];
};

/* Where the log goes on. */
struct efs_log {
    uint32_t first_block, blocks; /* of the partition; 0 blocks: there is none */
    uint32_t pages_per_block;     /* that may be used of each block */
    uint32_t sequence, base;      /* of the next page */
    uint32_t block;               /* where the last page went */
    uint8_t *page;                /* the one that is being filled; NULL: changes are not logged */
    size_t used;                  /* records in it */
    uint32_t unsynced;            /* records since the last sync */
    uint32_t *newest;             /* a block: highest sequence in it */
    bool counting;                /* pages are counted, not written */
    uint32_t counted;
};

struct efs {
    struct nand *nand;
    const struct scenario *scenario;
    uint32_t serial;
    uint32_t clock;
    bool mounted;            /* the log was whole; else it is empty, and formatted by the first change */
    struct efs_node **nodes; /* sorted by path */
    size_t node_count, node_capacity;
    struct efs_nv *nvs; /* sorted by index and item */
    size_t nv_count, nv_capacity;
    struct efs_log log;
};

/* ---- efs.c: what is in it. Changes give 0 or an enum efs_error, and go to the log. ---- */

/* Reads the partition. Never fails: without a whole log it is empty. */
void efs_mount(struct efs *e, struct nand *n, const struct scenario *s, uint32_t serial);
void efs_free(struct efs *e);

/* Nothing but the root, in memory. */
void efs_empty(struct efs *e);

const struct efs_nv *efs_nv_find(const struct efs *e, uint16_t item, uint16_t index);
int efs_nv_put(struct efs *e, uint16_t item, uint16_t index, const uint8_t data[EFS_NV_SIZE]);

/* NULL: not there. */
struct efs_node *efs_find(const struct efs *e, const char *path);
bool efs_is_directory(const struct efs_node *n);

/* Makes it, or empties it if it is there. The directory that it goes into must be there, unless with_parents.
 */
int efs_create(struct efs *e, const char *path, uint16_t mode, bool with_parents);

/* Writes into a file that is there; a hole reads as zeroes. */
int efs_write(struct efs *e, const char *path, uint32_t offset, const void *data, size_t length);
int efs_remove(struct efs *e, const char *path);
int efs_rename(struct efs *e, const char *from, const char *to);

/* The nth entry of a directory, NULL behind the last one. */
const struct efs_node *efs_entry(const struct efs *e, const char *directory, size_t index);
const char *efs_name(const struct efs_node *n);

/* ---- efs-log.c: how it lies in the flash ---- */

enum efs_record {
    EFS_RECORD_NV = 1, /* u16 item, u16 index, data[128] */
    EFS_RECORD_NODE,   /* u16 mode, u16 0, u32 time, path NUL: new, or empty again */
    EFS_RECORD_DATA,   /* u32 offset, u16 length of the path with its NUL, path NUL, data */
    EFS_RECORD_GONE,   /* path NUL */
    EFS_RECORD_RENAME, /* from NUL to NUL */
};

/* Finds the partition and replays its log into e. False: there is no whole one. */
bool efs_log_read(struct efs *e);

/* Erases the partition and begins a log with nothing in it; it is mounted. */
void efs_log_format(struct efs *e);

/* Room for so many bytes of records before the next sync; makes some where it can. 0 or EFS_ENOSPC. The first
   change of a file system that did not mount formats it. */
int efs_log_reserve(struct efs *e, size_t bytes);

/* One record; there must be room for it. */
void efs_log_append(struct efs *e, enum efs_record type, const void *head, size_t head_length,
                    const void *body, size_t body_length);

/* The largest body of a record. */
size_t efs_log_record_max(const struct efs *e);

/* All that was appended goes to the chip. */
void efs_log_sync(struct efs *e);

/* Everything there is, as records. */
void efs_log_snapshot(struct efs *e);

/* Writes e into an erased partition as the factory does: so many pages of each good block, the content in the
   last ones. False: it does not fit. */
bool efs_log_fresh(struct efs *e, uint32_t pages_per_block);
void efs_log_free(struct efs *e);
