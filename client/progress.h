/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How a running job looks: the bar, or plain lines, or JSON lines. Knows the job's JSON dictionary only. */

#include <json-c/json.h>
#include "qdlctl.h"

struct progress {
    bool live;      /* a terminal: one line, redrawn */
    size_t drawn;   /* columns that the line on the screen takes; 0: there is none */
    char phase[64]; /* last printed, plain mode */
    int percent;    /* last printed, plain mode */
    /* When the modem is expected next, us since 1970; 0: it is there, or nobody knows. The follower's to set.
     */
    uint64_t next_window;
    bool away; /* the modem is; the follower's, too */
};
void progress_init(struct progress *p);
/* What it does now, in words for people. */
const char *progress_phase(json_object *job);
/* The job changed. A finished one is shown with --json only: report.h has the words. */
void progress_show(struct progress *p, json_object *job);
/* Takes the live line off the screen before other text is printed. */
void progress_clear(struct progress *p);
