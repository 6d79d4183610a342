/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Flash rules 4 and 5: before the first erase, what no package can bring back is read, judged, and handed to
 * the service, which has it read by another worker and stores it. Nothing is erased before it says so. Used
 * by flash and restore.
 */

#include "firmware/plan.h"
#include "firmware/ranges.h"
#include "worker/save.h"

/* What is saved, and what is known about it. Everything is borrowed for the call. */
struct protect_what {
    const struct mibib_table *modem;     /* its own, NULL */
    uint64_t mibib_block;                /* UINT64_MAX */
    const struct mibib_tables *recorded; /* of this unit, NULL */
    const struct mibib_table *package;   /* NULL */
    bool whole;                          /* all of the chip: nobody knows for sure what lies where */
    const struct block_range *extra;     /* besides what is saved always */
    size_t n_extra;
    /* What is written anew: that it cannot be read now is no loss. */
    const struct block_range *rewritten;
    size_t n_rewritten;
    unsigned allow;
};

enum protect_state {
    PROTECT_NOTHING,
    PROTECT_READING,
    PROTECT_TOLD, /* the service was asked */
    PROTECT_STORED,
    PROTECT_WITHOUT, /* allowed to go on without */
};

struct protect {
    struct session *session;
    enum protect_state state;
    struct save save;
    bool locked;      /* CANCEL is refused: something was changed already */
    char result[512]; /* for the report */
    char id[BACKUP_ID_SIZE];
};

/*
 * Reads, judges, hands over, waits. In every appearance until the state is STORED or WITHOUT; -ENODEV with
 * ModemGone: call again in the next one. CalibrationAtRisk, NoBackup (each lifted by its name);
 * FirehoseFailed with the hint contact-vendor for a flash that loses its data, which nothing lifts.
 */
int protect_run(struct protect *p, struct session *s, const struct protect_what *what, struct error *e);
void protect_done(struct protect *p);
/* Before anything is started: NoSpace unless what will be saved, as far as it is known, fits the disk. A job
 * that goes on by its journal has saved it already. */
int protect_check_room(const struct worker *w, const struct save *s, uint32_t block_size, struct error *e);
/* The ranges that are saved, into s->ranges; the rest of s is not looked at. blocks: of the chip. */
int protect_choose(struct save *s, const struct protect_what *what, uint64_t blocks, struct error *e);

/* ---- protect-flash.c ---- */

struct flash;
/* The set of a flash. version_known: the modem's version was proven, or it said itself that the package is
 * its own.
 */
int protect_flash(struct flash *f, const struct mibib_table *modem, uint64_t mibib_block, bool version_known,
                  struct error *e);
/*
 * Without a modem: what will be saved before the first erase, by the tables recorded of this unit (none: by
 * the package's). The modem's own may name more. -ENODATA: there is none.
 */
int protect_preview(const struct plan *plan, const struct package *p, const struct mibib_tables *recorded,
                    struct save *ret, struct error *e);
