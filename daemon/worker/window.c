/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/window.h"

enum {
    MARGIN_DIVISOR = 10,
    PIECE_DIVISOR = 4, /* no piece takes more of a window */
    SPARE_DIVISOR = 4, /* added to every expectation */
    DOUBT_DIVISOR = 4, /* of costs that kept a whole window from being used */
    LOSSES_OF_A_LOOP = 2,
    LONG_ABSENCE = 3, /* periods */
    MEASURES_WITH_AN_OUTLIER = 3,
};

/* Where nobody knows the loop's period: the slowest one that was reported takes 20 s. */
static const usec_t absence_max = 60 * USEC_PER_SEC;

/* A slow modem's (reference/edl.md 7; a command of any kind takes up to 75 ms on some). */
static const usec_t erase_cost = 10 * USEC_PER_MSEC, look_cost = 20 * USEC_PER_MSEC;
enum { PROGRAM_BYTES_PER_USEC = 1, READ_BYTES_PER_USEC = 4, BLOCK_SIZE_DEFAULT = 256 * 1024 };

static usec_t margin(usec_t length)
{
    return MAX_OF(length / MARGIN_DIVISOR, WINDOW_MARGIN_MIN);
}

static void measure(struct window *w, usec_t length)
{
    w->measured[w->next_measure] = MAX_OF(length, (usec_t)1);
    w->next_measure = (w->next_measure + 1) % WINDOW_MEASURES;
    w->n_measured = MIN_OF(w->n_measured + 1, (size_t)WINDOW_MEASURES);
}

void window_init(struct window *w, usec_t window, usec_t period)
{
    *w = (struct window){.period = period, .given = window > 0};
    if (window > 0)
        measure(w, window);
    window_set_block_size(w, BLOCK_SIZE_DEFAULT);
}

void window_set_block_size(struct window *w, uint32_t bytes)
{
    const usec_t slow[WINDOW_WORKS] = {[WINDOW_ERASE] = erase_cost,
                                       [WINDOW_PROGRAM] = bytes / PROGRAM_BYTES_PER_USEC,
                                       [WINDOW_VERIFY] = bytes / READ_BYTES_PER_USEC,
                                       [WINDOW_READ] = bytes / READ_BYTES_PER_USEC,
                                       [WINDOW_LOOK] = look_cost};
    if (bytes == w->block_size)
        return; /* told in every appearance: what was learned in vain windows stays */
    w->block_size = bytes;
    for (size_t i = 0; i < WINDOW_WORKS; i++)
        if (!w->cost_known[i])
            w->cost[i] = slow[i];
}

/* ---- appearances ---- */

void window_open(struct window *w, usec_t since)
{
    if (window_was_long_absent(w))
        w->period = w->absent; /* from now on: or what was verified would be in doubt in every window */
    w->opened = since;
    w->absent = w->closed > 0 && since > w->closed ? since - w->closed : 0;
    w->passed = 0;
}

void window_close(struct window *w, usec_t now, bool ours)
{
    if (w->opened == 0)
        return;
    if (!ours) {
        measure(w, now > w->opened ? now - w->opened : 0);
        w->losses++;
    }
    w->opened = 0;
    w->closed = now;
}

bool window_is_known(const struct window *w)
{
    return w->given || w->losses >= LOSSES_OF_A_LOOP;
}

/* The place of the one that is not believed: one that is much shorter than all others had a reason of its
 * own. */
static size_t outlier(const struct window *w)
{
    size_t shortest = 0;
    for (size_t i = 1; i < w->n_measured; i++)
        if (w->measured[i] < w->measured[shortest])
            shortest = i;
    return w->n_measured >= MEASURES_WITH_AN_OUTLIER ? shortest : WINDOW_MEASURES;
}

usec_t window_length(const struct window *w)
{
    usec_t length = 0;
    size_t not = outlier(w);
    for (size_t i = 0; window_is_known(w) && i < w->n_measured; i++)
        if (i != not &&w->measured[i] > w->passed && (length == 0 || w->measured[i] < length))
            length = w->measured[i];
    return length;
}

usec_t window_deadline(const struct window *w)
{
    usec_t length = window_length(w);
    if (length == 0 || w->opened == 0)
        return USEC_INFINITY;
    return w->opened + (length > margin(length) ? length - margin(length) : 0);
}

usec_t window_overdue(const struct window *w)
{
    usec_t length = window_length(w);
    return length == 0 || w->opened == 0 ? USEC_INFINITY : w->opened + length + margin(length);
}

void window_outlived(struct window *w)
{
    usec_t length = window_length(w);
    /* Those that are about as long are outlived with it. */
    w->passed = length + margin(length);
}

bool window_was_long_absent(const struct window *w)
{
    return w->absent > (w->period > 0 ? LONG_ABSENCE * w->period : absence_max);
}

/* ---- room ---- */

usec_t window_cost(const struct window *w, unsigned works, uint64_t blocks)
{
    usec_t one = 0;
    for (size_t i = 0; i < WINDOW_WORKS; i++)
        if (works & WINDOW_WORK(i))
            one += w->cost[i];
    usec_t all = one * blocks;
    return all + all / SPARE_DIVISOR;
}

bool window_has_room(const struct window *w, usec_t needed, usec_t now)
{
    usec_t deadline = window_deadline(w);
    return deadline == USEC_INFINITY || (now < deadline && needed <= deadline - now);
}

/* What was never measured is measured on a single block; a look costs next to nothing. */
static bool is_first(const struct window *w, unsigned works)
{
    for (size_t i = 0; i < WINDOW_WORKS; i++)
        if (works & WINDOW_WORK(i) && i != WINDOW_LOOK && !w->cost_known[i])
            return true;
    return false;
}

uint64_t window_fit(const struct window *w, unsigned works, uint64_t most, usec_t now)
{
    usec_t deadline = window_deadline(w), one = MAX_OF(window_cost(w, works, 1), (usec_t)1);
    if (deadline == USEC_INFINITY)
        return most;
    if (now >= deadline || one > deadline - now)
        return 0;
    uint64_t n =
        MIN_OF((deadline - now) / one, MAX_OF((deadline - w->opened) / PIECE_DIVISOR / one, (usec_t)1));
    if (is_first(w, works))
        n = 1;
    return MIN_OF(w->piece > 0 ? MIN_OF(n, w->piece) : n, most);
}

/* ---- what became of it ---- */

void window_took(struct window *w, enum window_work work, uint64_t blocks, usec_t took)
{
    usec_t one = blocks > 0 ? took / blocks : 0;
    if (blocks == 0)
        return;
    w->cost[work] = w->cost_known[work] && one < w->cost[work] ? (w->cost[work] + one) / 2 : one;
    w->cost_known[work] = true;
}

void window_begun(struct window *w, uint64_t blocks)
{
    w->tried = MAX_OF(w->tried, blocks);
}

void window_whole(struct window *w, const char *what)
{
    w->whole = what;
}

void window_cut_off(struct window *w, enum window_work work, uint64_t blocks, usec_t took)
{
    if (blocks > 0 && took / blocks > w->cost[work])
        window_took(w, work, blocks, took);
}

static void count_anew(struct window *w)
{
    w->tried = 0;
    w->vain = 0;
}

void window_accepted(struct window *w)
{
    count_anew(w);
    w->whole = NULL;
}

enum window_verdict window_in_vain(struct window *w)
{
    for (size_t i = 0; w->tried == 0 && i < WINDOW_WORKS; i++)
        w->cost[i] /= DOUBT_DIVISOR;
    if (++w->vain < WINDOW_VAIN_MAX)
        return WINDOW_GO_ON;
    if (w->tried < 2)
        return WINDOW_TOO_SHORT;
    w->piece = w->tried / 2;
    count_anew(w);
    return WINDOW_SMALLER;
}
