/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "follow-window.h"

#include <string.h>

#include "bus.h"
#include "output.h"

enum { TICK_USEC = 1000000 };

/* Only a line that is redrawn counts down. */
static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct follow_window *w = userdata;
    (void)usec;
    if (!w->progress->next_window)
        return 0;
    w->redraw(w->userdata);
    int r = sd_event_source_set_time_relative(source, TICK_USEC);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void start_ticking(struct follow_window *w)
{
    if (!w->tick)
        sd_event_add_time_relative(w->event, &w->tick, CLOCK_MONOTONIC, TICK_USEC, 0, on_tick, w);
    else if (sd_event_source_set_time_relative(w->tick, TICK_USEC) >= 0)
        sd_event_source_set_enabled(w->tick, SD_EVENT_ONESHOT);
}

static void take(struct follow_window *w, json_object *properties)
{
    json_object *value;
    if (json_object_object_get_ex(properties, "Mode", &value))
        w->away = strcmp(json_object_get_string(value), "absent") == 0;
    if (json_object_object_get_ex(properties, "NextWindowTime", &value))
        w->next = json_object_get_uint64(value);
    bool news = w->away && !w->progress->away;
    w->progress->away = w->away;
    w->progress->next_window = w->away ? w->next : 0;
    if (options.json == JSON_OFF && (news || w->progress->live))
        w->redraw(w->userdata);
    if (w->progress->next_window && w->progress->live)
        start_ticking(w);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *interface;
    (void)error;
    if (sd_bus_message_read(m, "s", &interface) < 0 || strcmp(interface, "org.qdld1.Modem") != 0)
        return 0;
    json_object *changed = bus_read_dict(m);
    if (changed)
        take(userdata, changed);
    json_object_put(changed);
    return 0;
}

static int on_state(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    (void)error;
    json_object *all = sd_bus_message_is_method_error(m, NULL) ? NULL : bus_read_dict(m);
    if (all)
        take(userdata, all);
    json_object_put(all);
    return 0;
}

void follow_window_start(struct follow_window *w, sd_bus *bus, const char *modem)
{
    if (w->slot || !*modem || strcmp(modem, "/") == 0)
        return;
    if (sd_bus_match_signal(bus, &w->slot, BUS_NAME, modem, "org.freedesktop.DBus.Properties",
                            "PropertiesChanged", on_changed, w) >= 0)
        (void)bus_ask_all(bus, modem, "org.qdld1.Modem", on_state, w);
}

void follow_window_stop(struct follow_window *w)
{
    sd_bus_slot_unref(w->slot);
    sd_event_source_unref(w->tick);
    w->slot = NULL;
    w->tick = NULL;
}
