/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A restore's state, shared by its parts: job-restore.c (the story), restore-choose.c (what of the backup),
 * restore-judge.c (everything that refuses before anything is erased), restore-again.c (is what came back in
 * the middle the same unit), restore-target.c (which block shall hold what), restore-write.c (how it gets
 * there), restore-window.c (when).
 */

#include "worker/journal.h"
#include "worker/protect.h"
#include "worker/recorded.h"
#include "worker/visits.h"

enum {
    RESTORE_NEW_BAD_MAX = 3, /* as in a flash: more in one job, and the flash is dying */
    RESTORE_PLACES_EACH = 4, /* of a partition, from its first block to its last; a window may be short */
    RESTORE_PLACES_MAX = 12,
    RESTORE_PLACE_PAGES = 8,
};

#define RESTORE_ERASED UINT64_MAX

/* What is known of a block, in all appearances of the unit since it last ran its firmware. */
enum restore_seen { RESTORE_UNSEEN, RESTORE_RIGHT, RESTORE_WRONG };

/* The beginning of a block of unit data, as it was before anything was changed. */
struct restore_place {
    uint64_t block;
    bool holds; /* something that was written */
    uint8_t sha256[SHA256_SIZE];
};

/* A partition of the backup on its way back. */
struct restore_part {
    const struct backup_part *part;
    /* Goes back to the same physical blocks, or not at all; others are laid anew over the blocks that are
     * good now. */
    bool physical;
    bool sbl, mibib;
    uint64_t
        *source;   /* for each block of its range: the backup's block that it shall hold, or RESTORE_ERASED */
    uint8_t *seen; /* enum restore_seen: does it hold that? */
};

struct restore {
    struct worker *worker;
    struct visits visits;
    struct backup *backup;
    unsigned allow;
    struct mibib_table table; /* the modem's own */
    bool table_known;
    struct recorded recorded;
    uint64_t mibib_block;
    struct restore_part *parts;
    size_t n_parts;
    bool whole; /* all that a modem boots from is put back: it will run the backup's own firmware */
    struct nand_map map, at_start; /* blocks 0: not read */
    struct protect protect;
    uint8_t *now, *want, *states; /* a block each, and what its pages are now */
    struct look look;
    /*
     * One bit a block: it was erased by this restore. A programmer that fills erased pages with 0xEE shows
     * the same of a flash that somebody wrote its dump back to, fill and all (reference/edl.md 2.8): only in
     * blocks of ours such a page counts as erased.
     */
    uint8_t *ours;
    bool ee_told, unnoted;
    struct journal_key key;
    struct journal journal; /* that the present state was saved, and that something was changed */
    bool begun;             /* an earlier appearance was looked at */
    bool continues;         /* the present state was saved by the job that this one continues */
    struct restore_place places[RESTORE_PLACES_MAX]; /* of a unit without a serial */
    size_t n_places;
    bool destructive, complete;
    bool sbl_erased;
    uint64_t sbl_next;            /* until then: the first of its blocks that was not looked at */
    uint64_t in_hand;             /* the block that a command may be changing; RESTORE_ERASED: none */
    const char *phase, *in_phase; /* what is told now; borrowed */
    bool recheck; /* a block went bad while it was written: whatever its neighbours held is looked at again */
    uint64_t written, already_right, interior; /* blocks, blocks, erased pages that became 0xFF */
    uint64_t steps_done;                       /* anything that counts as progress */
};

/* ---- restore-choose.c ---- */

/* Pre-flight: picks the parts (option partitions). InvalidArgs, BackupDamaged, EraseCalibration. */
int restore_choose(struct restore *x, struct error *e);
/* ---- restore-judge.c ---- */

/* With the programmer up, nothing changed: Unsupported, WrongUnit, GeometryDiffers, WrongFirmware,
 * EraseCalibration. */
int restore_judge(struct restore *x, struct error *e);
/* In every appearance, also after something was changed: Unsupported, GeometryDiffers. */
int restore_judge_again(const struct restore *x, struct error *e);

/* ---- restore-again.c ---- */

/* Before anything is changed: by what a unit that tells no serial will be known again. */
int restore_remember(struct restore *x, struct error *e);
/* In a later appearance, before what was seen is forgotten: 1: it is that unit; 0: another one (*ret_other),
 * or one that nothing tells apart from others. */
int restore_is_known_again(struct restore *x, bool *ret_other, struct error *e);

/* ---- restore-target.c ---- */

/*
 * Which block of the modem shall hold which of the backup, by the map. Unsupported (hint contact-vendor) if a
 * block that must go to its own place is bad now, GeometryDiffers if the good blocks do not suffice. -ENOMEM.
 */
int restore_target(const struct backup *b, const struct nand_map *map, struct restore_part *p,
                   struct error *e);

/* ---- restore-window.c ---- */

/* Tells the phase, with the part's name. */
void restore_phase(struct restore *x, const char *phase, const struct restore_part *p);
/*
 * Is there room in this window for so many blocks of these works (a set of WINDOW_WORK())? If not nothing is
 * in flight any more until the modem goes, -ENODEV; 0 where it stays. Cancelled, Interrupted.
 */
int restore_await_room(struct restore *x, unsigned works, uint64_t blocks, struct error *e);
/* They took from `since` until now. */
void restore_took(struct restore *x, enum window_work work, uint64_t blocks, usec_t since);
/* The same of a block of which `pages` pages were written. */
void restore_programmed(struct restore *x, uint32_t pages, usec_t since);

/* ---- restore-write.c ---- */

/* Another appearance, of a modem that may be another one or may have run its firmware: nothing that was seen
 * counts any more. */
void restore_forget(struct restore *x);
/* The map of all ranges, where it is not known yet. FirehoseFailed with contact-vendor for too many new bad
 * blocks. */
int restore_read_map(struct restore *x, struct error *e);
/* With the map: what the job that this one continues had written, by its journal. */
void restore_take_done(struct restore *x);
/* Compares every block that was not seen yet with what it shall hold. *ret: how many are not right. */
int restore_compare(struct restore *x, uint64_t *ret, struct error *e);
/* Everything that is not right yet: SBL erased first and written last, MIBIB directly after that erase. */
int restore_write(struct restore *x, struct error *e);
