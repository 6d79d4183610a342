/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * qdld.conf and qdld.conf.d/x.conf, read once at start (inih). A bad line is logged with file and line and
 * ignored: a typo must not keep the rescue service down.
 */

#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"

struct config {
    uint64_t package_bytes_max;    /* [Limits] PackageSizeMax=4G */
    uint64_t package_entries_max;  /* PackageEntriesMax=4096 */
    uint64_t library_bytes_max;    /* LibrarySizeMax=16G */
    uint64_t reserve_free;         /* [Backup] ReserveFree=1G: always left for backups */
    unsigned backups_keep;         /* Keep=4: taken ones of a unit and kind, good ones and others apart */
    unsigned backups_automatic;    /* Automatic=yes: calibration of a running modem, unasked */
    unsigned jobs_per_uid;         /* JobsPerUser=8 unfinished */
    unsigned imports_per_uid;      /* ImportsPerUser=2 */
    unsigned jobs_max;             /* JobsMax=64 */
    unsigned import_workers_max;   /* ImportWorkersMax=4 */
    unsigned pending_auth_per_uid; /* PendingAuthorizationsPerUser=16 */
    usec_t input_timeout;          /* InputTimeoutSec=60 */
    unsigned identify_on_appear;   /* [Identify] OnAppear=yes */
    usec_t identify_delay;         /* DelaySec=5: after its appearance, for others to be through with it */
    usec_t
        wait_device; /* [Flash] WaitDeviceSec=120: how long a modem that went away in a job is waited for */
    usec_t boot_timeout;      /* BootTimeoutSec=180 (rule 10) */
    usec_t ready_timeout;     /* PreflightSec=10 */
    usec_t stop_timeout;      /* StopSec=120: from SIGTERM to the end of the last worker */
    unsigned default_policy;  /* [Catch] DefaultPolicy=hold: 0 off, 1 hold */
    unsigned catch_unknown;   /* CatchUnknown=no: 1: a stranger in 9008 is caught, too */
    unsigned rescue_attempts; /* [Rescue] Attempts=5 that failed in a row, then it is left to a human */
    unsigned rescue_per_day;  /* FlashesPerDay=6 of one unit, then likewise */
    usec_t rescue_backoff;    /* BackoffSec=60: pause after the first; twice as long after each */
    uint64_t log_bytes_max;   /* JobLogMax=4M */
    unsigned jobs_linger;     /* JobsLinger=64 */
    usec_t jobs_linger_time;  /* JobsLingerSec=7d in seconds */
};

/* Defaults, then `path` (NULL: /etc/qdld/qdld.conf), then the *.conf of `path`.d in name order. A missing
 * file is fine. */
int config_load(struct config *c, const char *path);
