/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A calibration on its way back, shared by calibrate-restore.c (the story) and calibrate-judge.c. */

#include "worker/calibrate.h"

struct putting {
    struct worker *worker;
    struct running running;
    struct running_identity id;
    struct calibration *want, *now;
    struct calibration_facts facts;
    unsigned allow;
    bool own; /* the backup is known to be of this unit: an IMEI that it lost is given back */
    bool destructive;
    uint64_t done, total;
    /* not_here: what this modem does not have or lets nobody write. failed: what it should have taken. */
    unsigned written, right, not_here, failed, wrong;
    bool *differs;             /* items, then files: they are to be written */
    bool *refused;             /* the same: those that are told already */
    size_t n_differ, n_stored; /* n_stored: files that hold numbered items, and others than are there now */
    struct error *e;
};

/* ---- calibrate-judge.c ---- */

/* With the modem identified, nothing changed: WrongUnit, WrongFirmware (diag.md 4.4). */
int putting_judge(struct putting *p);
/* With the present state read: fills differs, refused, n_differ and right. */
int putting_compare_all(struct putting *p);
/* qdld writes it to no modem, or not to this one. */
bool putting_is_left_alone(const struct putting *p, const struct calibration_nv *n);
/* A line of the log and of the report for the i-th of items and files, so that none is hidden. */
void _printf_(3, 4) putting_refuse(struct putting *p, size_t i, const char *format, ...);
