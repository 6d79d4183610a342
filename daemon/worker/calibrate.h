/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The calibration of a modem that runs its firmware, over DIAG: read (calibrate.c, calibrate-files.c,
 * calibrate-twice.c), told and checked in the store (calibrate-file.c), put back (calibrate-restore.c,
 * calibrate-judge.c).
 */

#include "backup/calibration.h"
#include "worker/running.h"

enum {
    CALIBRATE_ITEMS =
        8192, /* numbered items 0..8191; what follows is not reachable by number (diag.md 2.4) */
    CALIBRATE_RFNV_FIRST = 20000,
    CALIBRATE_RFNV_LAST = 32000,
    CALIBRATE_FILE_MAX = 8 * 1024 * 1024,
    CALIBRATE_ALL_MAX = 48 * 1024 * 1024,
};

/*
 * All numbered items of every subscription, all files that the modem shows, and those that it hides but
 * opens. Each is read twice, or compared with the modem's own MD5, before it counts. Nothing is written to
 * the modem. *facts: who it is and what could not be had. DiagFailed, ModemGone, TooLarge, Cancelled,
 * Interrupted.
 */
int calibrate_read(struct running *r, const struct running_identity *id, struct calibration **ret,
                   struct calibration_facts *facts, struct error *e);
/* The whole of a backup of kind xqcn into `fd`: read, stored, told. ret and ret_state may be NULL. */
int calibrate_save(struct running *r, const struct running_identity *id, int fd, struct calibration **ret,
                   enum backup_state *ret_state, struct error *e);

/* ---- calibrate-offer.c ---- */

/*
 * Closes *fd, says that what is in it waits to be stored (BACKUP=what) and waits for the answer with the
 * modem in hand. 0: stored, the id is in worker->backup_id; 1: it was not, worker->backup_refused says why.
 */
int calibrate_offer(struct running *r, int *fd, const char *what, struct error *e);

/* ---- calibrate-file.c ---- */

/* BACKUP.* of a finished file (link/keys.h). */
int calibrate_tell(struct worker *w, int fd, const struct calibration *c,
                   const struct calibration_facts *facts, struct error *e);
/* An XQCN that lies at CALIBRATION_XQCN_OFFSET of fd becomes a backup. */
int calibrate_import(struct worker *w, int fd, uint64_t xqcn_size, struct error *e);
/* A backup of the store, checked in full and told. */
int calibrate_check(struct worker *w, int fd, struct error *e);

/* ---- calibrate-restore.c ---- */

/* job_restore() of a backup of this kind. */
int calibrate_restore(struct worker *w, struct job_outcome *o);
