/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How a job's state looks: the bar, the plain lines, the words for its end. Knows the job's JSON dictionary
 * only. */

#include <json-c/json.h>
#include "qdlctl.h"

struct progress {
    bool live;      /* a terminal: one line, redrawn */
    char phase[64]; /* last printed */
    int percent;    /* last printed, plain mode */
    bool drawn;     /* the live line is on the screen */
};
void progress_init(struct progress *p);
/* The job changed. */
void progress_show(struct progress *p, json_object *job);
/* Takes the live line off the screen before other text is printed. */
void progress_clear(struct progress *p);
/* The final words: what was done, or what went wrong and what helps. */
void progress_result(json_object *job);
int progress_exit_code(json_object *job);
