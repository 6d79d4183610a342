/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The journal of a flash job, on a descriptor that the service gave: what was about to be done to the modem
 * (intent, before the command) and what was done (after the ACK), each record on the disk before the job goes
 * on. It lets the same call continue after a crash, a lost modem or a stop. It belongs to one unit, firmware,
 * plan, programmer and set of options; on any mismatch it is void and the job starts from the beginning.
 *
 * "Done" in here is a hint and never a proof: whoever continues reads the flash again (steps.h,
 * steps_recheck()).
 *
 * Layout, little-endian: a header of JOURNAL_HEADER_SIZE bytes with its SHA-256 at the end, then records of
 * JOURNAL_RECORD_SIZE bytes, each with a SHA-256 over the header's, its number and its content: a torn tail,
 * a record of an older journal and a block of zeros are all told apart from a record. What follows the last
 * good record does not count and is cut off by the next one.
 */

#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"
#include "base/digest.h"
#include "base/error.h"
#include "protocol/sahara.h"

enum {
    JOURNAL_VERSION = 1,
    JOURNAL_HEADER_SIZE = 320,
    JOURNAL_RECORD_SIZE = 64,
    JOURNAL_RECORDS_MAX = 65536,
    JOURNAL_FIRMWARE_SIZE = 32, /* the id's hex digits */
};

/* Whose journal it is. */
struct journal_key {
    /* Without a serial that is not 0 no journal is ever valid. HWID and PK hash may be missing on one side: a
     * modem that is slow leaves a question unanswered once. */
    struct sahara_identity unit;
    char firmware[JOURNAL_FIRMWARE_SIZE + 1];
    uint8_t plan[SHA256_SIZE], programmer[SHA256_SIZE], options[SHA256_SIZE];
};

enum journal_kind {
    JOURNAL_INTENT = 1,
    JOURNAL_DONE = 2,
    JOURNAL_FINISHED = 3, /* the whole flash is over: nothing to continue */
    JOURNAL_BACKUP = 4,   /* what must not be lost was stored before the first erase (flash rule 5) */
    JOURNAL_COMPLETE = 5, /* everything is written and verified, the modem is about to be reset */
    /* A part of an ERASE or WRITE: its blocks, those of a WRITE counted as if none in front of them was bad.
     */
    JOURNAL_PIECE_INTENT = 6,
    JOURNAL_PIECE_DONE = 7,
    /* Blocks that were bad before anything was done, three a record, each plus one, 0: none. The first record
     * of a journal is one, if it was known at all. */
    JOURNAL_BAD_BEFORE = 8,
};

/* A step is told by what it does where, not by its number: a plan that is judged again may have lost steps.
 */
struct journal_record {
    enum journal_kind kind;
    uint8_t action; /* enum plan_action */
    uint64_t first_block, n_blocks, pages;
};

struct journal {
    int fd; /* borrowed */
    uint8_t header[JOURNAL_HEADER_SIZE];
    struct journal_record *records;
    size_t n_records;
    bool writable; /* the header in the file is this one */
};

/*
 * Prepares a journal for this key and reads what the file holds. *ret_void (may be NULL): NULL if the file
 * holds a journal that this job continues (n_records > 0), else why not (static text, for the log). Touches
 * the file only by reading. -ENOMEM, or the errno of the read.
 */
int journal_load(struct journal *j, int fd, const struct journal_key *key, const char **ret_void,
                 struct error *e);
void journal_done(struct journal *j);

/*
 * Without the modem: the file ends with COMPLETE (and perhaps FINISHED, once the modem had left), `key` is
 * its flash (unit aside: a serial in the key must be the journal's). Then the modem may be on its way to
 * normal mode, and never be seen in 9008 again. True: *j holds its records, not to be written;
 * journal_done().
 */
bool journal_was_completed(struct journal *j, int fd, const struct journal_key *key);

/* Empties the file and writes the header, to the disk. NoSpace, Failed. */
int journal_start(struct journal *j, struct error *e);
/* Appends a record, to the disk before it returns. */
int journal_append(struct journal *j, const struct journal_record *record, struct error *e);

/* Was what must not be lost stored by this flash? */
bool journal_has_backup(const struct journal *j);

/* The last record of this step (its kind ignored); NULL if there is none. */
const struct journal_record *journal_find(const struct journal *j, const struct journal_record *step);
