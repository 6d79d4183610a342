/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The loop of a port: its logic (service/loop.h) is fed with appearances, and what it says is published. */

#include "service/modem.h"

#include <string.h>

#include "service/log-about.h"

static int on_loop_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct modem *m = userdata;
    modem_loop_look(m);
    object_flush(&m->object);
    return 0;
}

static void arm_timer(struct modem *m, usec_t at)
{
    m->loop_timer = sd_event_source_disable_unref(m->loop_timer);
    if (at == USEC_INFINITY)
        return;
    /* Without it the picture is old until the next appearance, and no worse. */
    int r = sd_event_add_time(m->manager->event, &m->loop_timer, CLOCK_MONOTONIC, at, USEC_PER_SEC,
                              on_loop_time, m);
    if (r < 0)
        log_message(LOG_WARNING, "The loop of %s cannot be timed: %s.", modem_title(m), strerror(-r));
}

static double seconds(usec_t usec)
{
    return (double)usec / (double)USEC_PER_SEC;
}

/* When it begins and when it is over; each turn is in the journal as an appearance. */
static void tell_change(const struct modem *m, const struct loop_facts *f)
{
    char line[LOG_TEXT_MAX];
    if (f->looping && !m->looping) {
        snprintf(line, sizeof(line), "%s loops: %u short appearances, every %.1f s, each of %.1f s.",
                 modem_title(m), f->count, seconds(f->period), seconds(f->window));
        log_about_modem(m, LOG_MODEM_LOOPING, LOG_NOTICE, line);
    } else if (!f->looping && m->looping) {
        log_message(LOG_NOTICE, "%s does not loop any more, after %u appearances.", modem_title(m),
                    m->loop_count);
    }
}

void modem_loop_look(struct modem *m)
{
    usec_t now = now_usec();
    struct loop_facts f = loop_look(&m->loop, now);
    tell_change(m, &f);
    object_set_bool(&m->object, "Looping", &m->looping, f.looping);
    object_set_u32(&m->object, "LoopCount", &m->loop_count, f.count);
    object_set_u64(&m->object, "LoopPeriodUSec", &m->loop_period, f.period);
    object_set_u64(&m->object, "WindowUSec", &m->loop_window, f.window);
    object_set_u64(&m->object, "NextWindowTime", &m->next_window,
                   f.next ? realtime_usec() + (f.next - now) : 0);
    arm_timer(m, f.check_at);
}

static enum loop_place place_of(const char *kind)
{
    if (strcmp(kind, "edl") == 0)
        return LOOP_EDL;
    return strcmp(kind, "normal") == 0 ? LOOP_NORMAL : LOOP_OTHER;
}

void modem_loop_came(struct modem *m)
{
    loop_came(&m->loop, place_of(modem_kind(m)), m->appearance->cold, now_usec());
    modem_loop_look(m);
}

/* A job that resets the modem says so first, by its phase. */
static bool sent_away(const struct modem *m)
{
    const struct job *j = m->job;
    return j && j->given == m->number && j->phase && strcmp(j->phase, "reset") == 0;
}

void modem_loop_went(struct modem *m)
{
    loop_went(&m->loop, sent_away(m), now_usec());
    modem_loop_look(m);
}
