/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* When the modem of a followed job comes back: "window 7, next in 2 s". */

#include <systemd/sd-event.h>

#include "progress.h"

struct follow_window {
    /* set by the owner */
    sd_event *event;
    struct progress *progress; /* its next_window is kept */
    void (*redraw)(void *userdata);
    void *userdata;

    sd_bus_slot *slot;
    sd_event_source *tick;
    bool away;
    uint64_t next;
};

/* modem: the job's; "/" for a job without one. Nothing that goes wrong here matters to the job. */
void follow_window_start(struct follow_window *w, sd_bus *bus, const char *modem);
void follow_window_stop(struct follow_window *w);
