/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What an earlier call of the same backup had read, so that it goes on after the service was restarted: a
 * journal with one record a block (where its pages lie in the unfinished file, what each of them is, a
 * checksum over both and over the bytes), and that file. A block is taken from there only if its checksum
 * fits, so nothing is believed of a torn file, and nothing has to be synced. What a backup is trusted for is
 * its SHA-256, which is taken over these bytes, too; this one only finds what a lost power or a full disk
 * did.
 *
 * The journal belongs to one unit with a serial, one geometry and one way of knowing bad blocks. That the
 * unit did not run its firmware meanwhile is for the service to know (it voids the journal), and unit data
 * are read anew in any case.
 */

#include "backup/backup.h"
#include "worker/session.h"

struct save_cache_block {
    uint64_t offset; /* in the unfinished file, of its first page */
    uint64_t record; /* in the journal; UINT64_MAX: none */
};

struct save_cache {
    int fd_journal, fd_file; /* borrowed */
    uint8_t key[SHA256_SIZE];
    struct nand_geometry geometry;
    struct save_cache_block *blocks; /* of the chip; NULL: nothing is kept, and nothing is there */
    uint64_t end;                    /* of the journal */
    uint64_t taken;                  /* blocks */
};

/* fd_journal -1, or a unit without a serial: nothing is kept. anew: what is there is of no worth. -ENOMEM. */
int save_cache_open(struct save_cache *c, int fd_journal, int fd_file, const struct session *s,
                    enum backup_map how, bool anew, struct error *e);
void save_cache_done(struct save_cache *c);
/* 1: data (pages_per_block pages, holes as 0xFF) and states are those of this block; 0: it has to be read. */
int save_cache_take(struct save_cache *c, uint64_t block, uint8_t *data, uint8_t *states);
/* Its pages were written to the file at `offset`. A journal that cannot be written keeps nothing more. */
void save_cache_note(struct save_cache *c, uint64_t block, uint64_t offset, const uint8_t *data,
                     const uint8_t *states);
