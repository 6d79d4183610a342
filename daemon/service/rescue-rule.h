/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What is done unasked about a modem, from what is true of it now. Every event only changes facts; then this
 * is asked anew (rescue.c), so that no order of events can lose a step:
 *
 *     away, normal, 9008 --(may be caught)--> STANDBY: a worker waits for its window with programmers in
 * memory 9008, stranger that loops             --> ASK: a worker waits for its window to identify it, no more
 *     held, policy rescue, package ready    --> FLASH (which saves first, flash rule 5)
 *     held, version unknown to the flash    --> SAVE, once: then a human has to say what it is
 *     anything else                         --> nothing
 */

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "service/catch-rule.h"

enum rescue_action { RESCUE_NOTHING, RESCUE_ASK, RESCUE_STANDBY, RESCUE_FLASH, RESCUE_SAVE };

struct rescue_facts {
    bool stopping; /* the service */
    bool busy;     /* a job has the modem */
    bool held;     /* and no job has it */
    bool
        wanted; /* a user brought it to 9008, inhibits it, or has a flash of his own to continue: hands off */
    bool off;   /* its policy */
    bool rescue;    /* its policy is to flash it ... */
    bool firmware;  /* ... and the package is in the library, ready */
    bool gave_up;   /* too many failures, or one that no repetition mends */
    bool waiting;   /* the pause after a failure */
    bool stopped;   /* a user cancelled its flash: it may be held, but not be flashed */
    bool unsaved;   /* the flash stopped because nobody knows its version, and nothing was saved yet */
    bool candidate; /* there is a programmer to try */
    enum catch_verdict verdict; /* of what is there; if nothing is: were it in 9008 now */
};

enum rescue_action rescue_next(const struct rescue_facts *f);

/* How a failure counts. */
enum rescue_failure {
    FAILURE_AGAIN, /* may go better the next time */
    FAILURE_FINAL, /* will not */
    FAILURE_OTHER, /* is none of this modem's: not counted */
};

/* result: the Result of the job. */
enum rescue_failure rescue_judge_failure(const char *result, enum error_kind kind);
/*
 * When a unit was flashed unasked (CLOCK_REALTIME, seconds), the newest last: one that boots, runs for a
 * while and falls back fails in no attempt, and would be flashed for ever.
 */
enum { RESCUE_DAY_MAX = 100 };
struct rescue_day {
    unsigned n;
    uint64_t at[RESCUE_DAY_MAX];
};

/* The oldest goes where there is no room. */
void rescue_day_add(struct rescue_day *d, uint64_t now);
/* How many were within a day of now, on either side: the clock may have been set meanwhile. */
unsigned rescue_day_count(const struct rescue_day *d, uint64_t now);
/* A comma list, to be freed; NULL without memory. What cannot be read of one is left out. */
char *rescue_day_print(const struct rescue_day *d);
void rescue_day_read(struct rescue_day *d, const char *text);

/* The pause after so many failures in a row (from 1): base, twice as long after each, at most an hour. */
uint64_t rescue_pause(uint64_t base, unsigned failures);
