/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Does this port loop? Pure logic over appearances with their times (monotonic); modem-loop.c feeds and
 * publishes it.
 *
 * A turn is an appearance in 9008 that ended by itself within LOOP_SHORT_USEC, or one that a modem fell into
 * from normal mode less than LOOP_APART_USEC after it had booted (the other edge: firmware that starts, dies
 * and falls back each time). Two turns within LOOP_APART_USEC are a loop. It is over when no turn began for
 * that long, or when the modem has stayed in 9008 for more than LOOP_SHORT_USEC: held, or well.
 *
 * Period and window are lower medians of the last turns: one that was cut short by a replug, or stretched by
 * a turn that was missed, does not move them.
 */

#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"

enum { LOOP_TURNS_MAX = 8 };

#define LOOP_SHORT_USEC (60 * USEC_PER_SEC)
#define LOOP_APART_USEC (300 * USEC_PER_SEC)

enum loop_place { LOOP_AWAY, LOOP_EDL, LOOP_NORMAL, LOOP_OTHER };

/* All zero: a port where nothing was seen yet. */
struct loop {
    struct loop_turn {
        usec_t period; /* since the turn before came; 0: none, or we had a hand in it */
        usec_t window; /* how long it stayed; 0: not measured */
    } turns[LOOP_TURNS_MAX];
    unsigned n;     /* used ones, the newest last */
    uint32_t count; /* turns of this loop */
    usec_t last;    /* when the last turn came */
    enum loop_place place;
    usec_t since;     /* when what is there came */
    bool partial;     /* it was there before we looked: `since` is too late */
    bool fell;        /* it came from normal mode, and is a turn already */
    bool disturbed;   /* the next one does not come by the loop's own rhythm */
    usec_t booted_at; /* normal mode was seen to begin; 0: not, or 9008 came behind it already */
};

struct loop_facts {
    bool looping;
    uint32_t count;        /* turns seen; 0 if it does not loop */
    usec_t period, window; /* 0: not known */
    usec_t next;           /* when it is expected to appear next; 0: not known */
    usec_t check_at;       /* when time alone may change this; USEC_INFINITY: never */
};

/* cold: it was there before we looked. */
void loop_came(struct loop *l, enum loop_place place, bool cold, usec_t now);
/* ours: we sent it away (a reset), which says nothing of a loop. */
void loop_went(struct loop *l, bool ours, usec_t now);
/* What made it loop is gone: it was flashed anew. Whatever it does from here on is another story. */
void loop_forget(struct loop *l);
/* Forgets what is over. */
struct loop_facts loop_look(struct loop *l, usec_t now);
