/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A crash dump as it lies in the store: one uncompressed tar of ours, "crash-dump/memory/NAME" for each
 * region of the modem's memory, "crash-dump/dump.txt" that says whose it is and where each lay, and
 * SHA256SUMS of them all. It holds no calibration and can never be restored.
 */

#include "backup/backup.h"
#include "protocol/sahara-memory.h"

struct dump_facts {
    bool damaged; /* some of a region was refused; it is zeros there */
    char serial[16], chip[16], model[BACKUP_TEXT_SIZE], version[BACKUP_TEXT_SIZE];
    uint64_t created;
    uint64_t file_size;
    char partitions[BACKUP_PARTS_MAX * BACKUP_NAME_SIZE]; /* the regions, a comma list */
    char id[BACKUP_ID_SIZE];
    uint8_t sha256[SHA256_SIZE]; /* of SHA256SUMS */
};

struct dump_writer;
/* In an empty file; fd stays the caller's. NULL without memory. */
struct dump_writer *dump_writer_new(int fd);
struct dump_writer *dump_writer_free(struct dump_writer *w);
DEFINE_CLEANUP(struct dump_writer *, dump_writer_free)
/* A region of region->length bytes follows; what is not written of it until dump_writer_end() becomes zeros.
 */
int dump_writer_begin(struct dump_writer *w, const struct sahara_region *region, struct error *e);
int dump_writer_data(struct dump_writer *w, const void *data, size_t size, struct error *e);
int dump_writer_end(struct dump_writer *w, struct error *e);
/* facts: what is known (damaged, serial, chip, model, version, created); the rest is filled in. On the disk.
 */
int dump_writer_finish(struct dump_writer *w, struct dump_facts *facts, struct error *e);

/* Does this file begin as a dump? */
bool dump_is_file(int fd);
/* Every byte of it. BackupDamaged. on_progress may be NULL or return a negative errno, which ends it. */
int dump_check(int fd, struct dump_facts *ret,
               int (*on_progress)(void *userdata, uint64_t done, uint64_t total), void *userdata,
               struct error *e);
