/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A calibration on its way out of a modem, shared by calibrate.c (numbered items, and the story),
 * calibrate-files.c (the files) and calibrate-twice.c (each of them read twice). Functions return negative
 * errors with x->e.
 */

#include "worker/calibrate.h"

enum {
    READING_TRIES = 3,       /* to read the same twice in a row */
    READING_LOGGED_MAX = 20, /* lines of what cannot be read */
};

struct reading {
    struct running *running;
    struct worker *worker;
    struct diag *diag;
    struct calibration *c;
    struct calibration_facts *facts;
    struct error *e;
    uint64_t done, total, bytes;
    unsigned logged, items_unreadable;
    uint32_t first_item, end_item, end_rfnv; /* what is asked for by number */
    bool md5, broken; /* broken: it is in factory test mode, what it holds is saved as it is */

    char **directories; /* still to be looked into */
    size_t n_directories, next_directory;
};

void reading_progress(struct reading *x, uint64_t n);
int reading_no_memory(struct reading *x);

/* ---- calibrate-files.c ---- */

/* All that the modem's directories show. */
int reading_walk(struct reading *x);
/* Behind it: what it opens by path and shows in no directory (diag.md 2.5). */
int reading_probe(struct reading *x);

/* ---- calibrate-twice.c ---- */

/* What is read for the second time as another one is taken, and read again; what does not settle is told. */
int reading_check(struct reading *x);
int reading_check_file(struct reading *x, struct calibration_file *f);
