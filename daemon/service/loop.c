/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/loop.h"

#include <string.h>

#include "base/cleanup.h"

/* ---- turns ---- */

void loop_forget(struct loop *l)
{
    l->n = 0;
    l->count = 0;
    l->last = 0;
}

static void add_turn(struct loop *l, usec_t period)
{
    if (l->n == LOOP_TURNS_MAX)
        memmove(&l->turns[0], &l->turns[1], --l->n * sizeof(l->turns[0]));
    l->turns[l->n++] = (struct loop_turn){.period = period};
    l->count++;
    l->last = l->since;
}

/* What is there now is a turn. */
static void count_turn(struct loop *l)
{
    bool rhythm = l->last > 0 && !l->disturbed && !l->partial;
    add_turn(l, rhythm ? l->since - l->last : 0);
    l->disturbed = l->partial;
}

void loop_came(struct loop *l, enum loop_place place, bool cold, usec_t now)
{
    loop_look(l, now);
    l->place = place;
    l->since = now;
    l->partial = cold;
    l->fell = place == LOOP_EDL && !cold && l->booted_at > 0 && now - l->booted_at < LOOP_APART_USEC;
    if (place == LOOP_NORMAL)
        l->booted_at = cold ? 0 : now;
    else if (place == LOOP_EDL)
        l->booted_at = 0;
    if (l->fell)
        count_turn(l);
}

void loop_went(struct loop *l, bool ours, usec_t now)
{
    usec_t stayed = now - l->since;
    bool by_itself = l->place == LOOP_EDL && !ours;
    if (by_itself && !l->fell && stayed < LOOP_SHORT_USEC)
        count_turn(l);
    if (by_itself && !l->partial && stayed < LOOP_SHORT_USEC)
        l->turns[l->n - 1].window = MAX_OF(stayed, (usec_t)1);
    if (ours) {
        l->disturbed = true;
        l->booted_at = 0;
    }
    l->place = LOOP_AWAY;
    l->since = now;
    l->partial = l->fell = false;
}

/* ---- the picture ---- */

static usec_t lower_median(usec_t *values, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned k = i; k > 0 && values[k] < values[k - 1]; k--) {
            usec_t swap = values[k];
            values[k] = values[k - 1];
            values[k - 1] = swap;
        }
    return n > 0 ? values[(n - 1) / 2] : 0;
}

static void measure(const struct loop *l, struct loop_facts *f)
{
    usec_t periods[LOOP_TURNS_MAX], windows[LOOP_TURNS_MAX];
    unsigned n_periods = 0, n_windows = 0;
    for (unsigned i = 0; i < l->n; i++) {
        if (l->turns[i].period > 0)
            periods[n_periods++] = l->turns[i].period;
        if (l->turns[i].window > 0)
            windows[n_windows++] = l->turns[i].window;
    }
    f->period = lower_median(periods, n_periods);
    f->window = lower_median(windows, n_windows);
}

/* The first appearance after now in the rhythm of the last one. */
static usec_t next_window(const struct loop *l, usec_t period, usec_t now)
{
    usec_t last = l->place == LOOP_EDL ? l->since : l->last;
    if (period == 0 || l->disturbed)
        return 0;
    return last + ((now > last ? now - last : 0) / period + 1) * period;
}

struct loop_facts loop_look(struct loop *l, usec_t now)
{
    struct loop_facts f = {.check_at = USEC_INFINITY};
    usec_t over = l->last + LOOP_APART_USEC;
    if (l->count > 0 && l->place == LOOP_EDL)
        over = MIN_OF(over, l->since + LOOP_SHORT_USEC);
    if (l->count > 0 && now >= over)
        loop_forget(l);
    if (l->count < 2)
        return f;
    f.looping = true;
    f.count = l->count;
    f.check_at = over;
    measure(l, &f);
    f.next = next_window(l, f.period, now);
    return f;
}
