/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * qdl-agent: runs in a desktop session, watches the service on the system bus and shows what a person has to
 * know as a notification. It never starts the service, and asks for nothing but by a button of a bubble.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bus.h"
#include "../output.h"
#include "notify.h"

struct agent {
    sd_event *event;
    sd_bus *system, *session;
    struct notify *notify;
    sd_event_source *look;      /* armed: something changed */
    json_object *modems, *jobs; /* as last seen, by path */
    bool knows_jobs;            /* those that were there before us are no news */
};

/* ---- looking ---- */

static bool is_service_there(struct agent *a)
{
    return sd_bus_call_method(a->system, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                              "org.freedesktop.DBus", "GetNameOwner", NULL, NULL, "s", BUS_NAME) >= 0;
}

static json_object *known(json_object *all, const char *path)
{
    json_object *o = NULL;
    json_object_object_get_ex(all, path, &o);
    return o;
}

/* By path. A modem that loops comes and goes: what it was when it was there last is what we compare with. */
static json_object *index_modems(struct agent *a, json_object *list)
{
    json_object *next = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *now = json_object_array_get_idx(list, i);
        json_object *before = known(a->modems, dict_string(now, "path"));
        if (before && strcmp(dict_string(now, "Mode"), "absent") == 0)
            json_object_object_add(now, "Mode", json_object_new_string(dict_string(before, "Mode")));
        json_object_object_add(next, dict_string(now, "path"), json_object_get(now));
    }
    return next;
}

static void tell_modems(struct agent *a, json_object *modems)
{
    struct news news;
    json_object_object_foreach(modems, path, now)
    {
        if (news_of_modem(known(a->modems, path), now, &news))
            notify_show(a->notify, path, &news);
    }
}

static void tell_jobs(struct agent *a, json_object *list, json_object *modems)
{
    json_object *next = json_object_new_object();
    struct news news;
    char name[128];
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *now = json_object_array_get_idx(list, i);
        const char *path = dict_string(now, "path"), *modem = dict_string(now, "Modem");
        json_object *m = known(modems, modem);
        snprintf(name, sizeof(name), "a modem");
        if (m)
            news_name(m, name, sizeof(name));
        if (a->knows_jobs && news_of_job(known(a->jobs, path), now, name, &news))
            notify_show(a->notify, modem, &news);
        json_object_object_add(next, path, json_object_get(now));
    }
    json_object_put(a->jobs);
    a->jobs = next;
    a->knows_jobs = true;
}

/* Jobs first: what a modem needs after one that failed replaces that, not the other way round. */
static void tell(struct agent *a, json_object *modem_list, json_object *jobs)
{
    json_object *modems = index_modems(a, modem_list);
    tell_jobs(a, jobs, modems);
    tell_modems(a, modems);
    json_object_put(a->modems);
    a->modems = modems;
}

static int on_look(sd_event_source *source, void *userdata)
{
    struct agent *a = userdata;
    json_object *modems = NULL, *jobs = NULL;
    (void)source;
    if (is_service_there(a) && bus_list(a->system, "ListModems", &modems) == EXIT_OK &&
        bus_list(a->system, "ListJobs", &jobs) == EXIT_OK)
        tell(a, modems, jobs);
    json_object_put(modems);
    json_object_put(jobs);
    return 0;
}

/* What came together is one look. */
static int look(struct agent *a)
{
    return sd_event_source_set_enabled(a->look, SD_EVENT_ONESHOT);
}

/* ---- signals ---- */

/* Numbers of a running job change five times a second and are no news. */
static bool is_telling(const char *property)
{
    static const char *const telling[] = {"Mode", "Note", "Looping", "FactoryTestMode", "State", "Result"};
    for (size_t i = 0; i < sizeof(telling) / sizeof(telling[0]); i++)
        if (strcmp(property, telling[i]) == 0)
            return true;
    return false;
}

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *property;
    bool telling = false;
    (void)error;
    if (sd_bus_message_skip(m, "s") < 0 || sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
        return 0;
    while (!telling && sd_bus_message_enter_container(m, 'e', "sv") > 0) {
        if (sd_bus_message_read(m, "s", &property) < 0)
            return 0;
        telling = is_telling(property);
        if (sd_bus_message_skip(m, "v") < 0 || sd_bus_message_exit_container(m) < 0)
            return 0;
    }
    return telling ? look(userdata) : 0;
}

static int on_objects(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    (void)m;
    (void)error;
    return look(userdata);
}

/* A new service says nothing of what it finds at its start before READY. */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *name, *old_owner, *new_owner;
    (void)error;
    if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0 || !*new_owner)
        return 0;
    return look(userdata);
}

static int listen_to_service(struct agent *a)
{
    int r = sd_bus_match_signal(a->system, NULL, BUS_NAME, BUS_MANAGER, "org.freedesktop.DBus.ObjectManager",
                                NULL, on_objects, a);
    if (r >= 0)
        r = sd_bus_add_match(a->system, NULL,
                             "type='signal',sender='" BUS_NAME "',path_namespace='" BUS_MANAGER "',"
                             "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                             on_properties, a);
    if (r >= 0)
        r = sd_bus_add_match(a->system, NULL,
                             "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                             "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                             on_owner, a);
    return r;
}

/* ---- the button ---- */

static int on_rescue_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    struct agent *a = userdata;
    const sd_bus_error *e = sd_bus_message_get_error(reply);
    struct news news = {.urgent = true};
    (void)error;
    if (!e)
        return 1;
    snprintf(news.summary, sizeof(news.summary), "The rescue did not begin");
    const char *why = e->message ? e->message : e->name;
    snprintf(news.body, sizeof(news.body), "%.*s", text_fit(why, (int)sizeof(news.body) - 1), why);
    notify_show(a->notify, BUS_MANAGER, &news);
    return 1;
}

static void rescue(const char *modem_path, void *userdata)
{
    struct agent *a = userdata;
    sd_bus_message *m = NULL;
    int r = bus_new_call(a->system, &m, modem_path, "org.qdld1.Modem", "Rescue");
    if (r >= 0)
        r = bus_append_no_options(m);
    if (r >= 0)
        r = sd_bus_call_async(a->system, NULL, m, on_rescue_answer, a, UINT64_MAX);
    if (r < 0)
        fprintf(stderr, "qdl-agent: %s\n", strerror(-r));
    sd_bus_message_unref(m);
}

/* ---- life ---- */

static int connect_buses(struct agent *a)
{
    int r = sd_bus_open_user_with_description(&a->session, "qdl-agent");
    if (r < 0) {
        fprintf(stderr, "qdl-agent: the session's bus cannot be reached: %s\n", strerror(-r));
        return EXIT_OTHER;
    }
    int code = bus_open(&a->system);
    if (code != EXIT_OK)
        return code;
    r = sd_event_default(&a->event);
    if (r >= 0)
        r = sd_bus_attach_event(a->session, a->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_attach_event(a->system, a->event, SD_EVENT_PRIORITY_NORMAL);
    /* It ends with the session. */
    if (r >= 0)
        r = sd_bus_set_exit_on_disconnect(a->session, true);
    if (r >= 0)
        r = sd_bus_set_exit_on_disconnect(a->system, true);
    /* After the signals that are waiting: they are one look. */
    if (r >= 0)
        r = sd_event_add_defer(a->event, &a->look, on_look, a);
    if (r >= 0)
        r = sd_event_source_set_priority(a->look, SD_EVENT_PRIORITY_IDLE);
    if (r >= 0)
        r = notify_new(a->session, rescue, a, &a->notify);
    if (r >= 0)
        r = listen_to_service(a);
    return r < 0 ? bus_report(NULL, r) : EXIT_OK;
}

static void disconnect_buses(struct agent *a)
{
    notify_free(a->notify);
    sd_event_source_unref(a->look);
    sd_bus_flush_close_unref(a->session);
    sd_bus_flush_close_unref(a->system);
    sd_event_unref(a->event);
    json_object_put(a->modems);
    json_object_put(a->jobs);
}

static int parse(int argc, char **argv, bool *done)
{
    static const struct option known_options[] = {
        {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
    int c = getopt_long(argc, argv, "h", known_options, NULL);
    *done = c == 'h' || c == 'V';
    if (c == 'h')
        puts("Usage: qdl-agent\n\nShows what a person has to know of Quectel modems that are broken, flashed "
             "or rescued (qdld.service)\nas notifications of the desktop. Started with the session; see "
             "qdl-agent(1).");
    else if (c == 'V')
        puts("qdl-agent " QDLD_VERSION);
    return c == '?' || (!*done && optind < argc) ? EXIT_USAGE : EXIT_OK;
}

int main(int argc, char **argv)
{
    struct agent a = {0};
    bool done;
    int code = parse(argc, argv, &done);
    if (code != EXIT_OK || done)
        return code;
    options.no_start = true;
    code = connect_buses(&a);
    if (code == EXIT_OK && sd_event_loop(a.event) < 0)
        code = EXIT_OTHER;
    disconnect_buses(&a);
    return code;
}
