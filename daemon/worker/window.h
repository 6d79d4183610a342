/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The clock of windowed flashing, for a modem that resets even with a programmer running (architecture,
 * "Catch and hold"): how long this appearance will last, judged by those before it; how much work still fits;
 * when to let go. Pure logic: every time comes from the caller (CLOCK_MONOTONIC).
 *
 * A window is known if the service measured one before the job, or if the modem went away twice in this job.
 * Without one nothing here costs a command: the deadline is infinite and everything fits. Nothing is in
 * flight during the last tenth of the predicted window, at least WINDOW_MARGIN_MIN: power that goes while a
 * block is programmed can ruin it. A modem that is still there when its window should be long over is held
 * now, or has longer windows, too: the next longer measure counts, or none.
 */

#include <stdbool.h>
#include <stddef.h>
#include "base/cleanup.h"
#include "base/clock.h"

#define WINDOW_MARGIN_MIN (300 * USEC_PER_MSEC)

enum {
    WINDOW_MEASURES = 4, /* the last ones count, the shortest of them, but for one outlier among three */
    WINDOW_VAIN_MAX = 3, /* windows without an accepted piece, before it is halved */
};

/* What a block costs, each in its own way. */
enum window_work {
    WINDOW_ERASE,
    WINDOW_PROGRAM,
    WINDOW_VERIFY,
    WINDOW_READ,
    WINDOW_LOOK, /* at a page or two of a block: the bad-block map, erased blocks */
    WINDOW_WORKS,
};
#define WINDOW_WORK(work) (1u << (work))

struct window {
    usec_t measured[WINDOW_MEASURES];
    size_t n_measured, next_measure;
    bool given;      /* the service knew one */
    unsigned losses; /* appearances that ended under our hands */
    usec_t period;   /* from one appearance to the next, 0: not known */

    usec_t opened; /* when this appearance began; 0: the modem is away */
    usec_t closed; /* when the last one ended; 0: none has */
    usec_t absent; /* how long it was away in between; 0 in the first one */
    usec_t passed; /* windows up to this length were outlived by this appearance */

    uint32_t block_size;       /* bytes */
    usec_t cost[WINDOW_WORKS]; /* µs a block: measured, or a slow modem's until then */
    bool cost_known[WINDOW_WORKS];

    uint64_t piece; /* the most blocks of one command; 0: no limit but time */
    uint64_t tried; /* the largest piece that was begun since one was accepted */
    unsigned vain;  /* windows since then */

    const char
        *whole; /* what was to be done in one window since one was accepted, and was not; NULL: nothing */
};

/* What the service measured: 0: nothing (options window-usec, loop-period-usec). */
void window_init(struct window *w, usec_t window, usec_t period);
/* What a block of this size costs a slow modem; measured costs stay, and all of them where the size is the
 * same. */
void window_set_block_size(struct window *w, uint32_t bytes);

/* The modem is there since `since`. */
void window_open(struct window *w, usec_t since);
/* It went away: under our hands, or (ours) because we sent it away, which measures nothing. */
void window_close(struct window *w, usec_t now, bool ours);

/* How long this appearance is expected to last; 0: no window is known, or it outlived all that are. */
usec_t window_length(const struct window *w);
/* Is this an appearance for pieces? Stays true when it outlives its window. */
bool window_is_known(const struct window *w);
/* Until when something may be in flight; USEC_INFINITY without a window. */
usec_t window_deadline(const struct window *w);
/* When the modem must be gone, or the window was not what it seemed; USEC_INFINITY without a window. */
usec_t window_overdue(const struct window *w);
/* It is still there at window_overdue(). */
void window_outlived(struct window *w);
/* Was it away for longer than its loop takes? Then nothing that was seen before counts. One that is away for
 * as long again has a slower loop than was thought. */
bool window_was_long_absent(const struct window *w);

/*
 * How many of `most` blocks fit what is left, if each costs `works` (a set of WINDOW_WORK()), with a quarter
 * to spare; 0: none. One, if one of them was never measured. No piece takes more than a quarter of a window:
 * one that ends early must not cost all of it.
 */
uint64_t window_fit(const struct window *w, unsigned works, uint64_t most, usec_t now);
/* Expected time of `blocks` of that work, with the same quarter to spare. */
usec_t window_cost(const struct window *w, unsigned works, uint64_t blocks);
bool window_has_room(const struct window *w, usec_t needed, usec_t now);

/* ---- what became of it ---- */

/* `blocks` of one kind took so long. A slower one counts at once, a faster one by half. */
void window_took(struct window *w, enum window_work work, uint64_t blocks, usec_t took);
/* This (borrowed) has to be done in one window: for whoever tells that it is too short. */
void window_whole(struct window *w, const char *what);
/* A piece of so many blocks is sent now. */
void window_begun(struct window *w, uint64_t blocks);
/* It was cut off when it had taken so long: it takes longer. */
void window_cut_off(struct window *w, enum window_work work, uint64_t blocks, usec_t took);
/* One was accepted. */
void window_accepted(struct window *w);

enum window_verdict { WINDOW_GO_ON, WINDOW_SMALLER, WINDOW_TOO_SHORT };
/*
 * A window ended without an accepted piece. Where nothing was even tried the costs may be wrong: they go
 * down. After WINDOW_VAIN_MAX in a row the piece is halved; where it cannot be halved the window is too
 * short.
 */
enum window_verdict window_in_vain(struct window *w);
