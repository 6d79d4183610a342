/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "follow.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "bus.h"
#include "output.h"
#include "progress.h"

#define SECOND_CTRL_C_USEC 2000000

struct follow {
    sd_bus *bus;
    sd_event *event;
    const char *path;
    json_object *job;
    struct progress progress;
    bool detaching, cancelling;
};

static bool finished(json_object *job)
{
    return strcmp(dict_string(job, "State"), "finished") == 0;
}

static int stop(struct follow *f, int code)
{
    return sd_event_exit(f->event, code);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    const char *interface;
    (void)error;
    if (sd_bus_message_read(m, "s", &interface) < 0 || strcmp(interface, "org.qdld1.Job") != 0 ||
        finished(f->job))
        return 0;
    json_object *changed = bus_read_dict(m);
    if (!changed)
        return 0;
    json_object_object_foreach(changed, key, value)
    {
        json_object_object_add(f->job, key, json_object_get(value));
    }
    json_object_put(changed);
    if (!f->detaching)
        progress_show(&f->progress, f->job);
    return finished(f->job) ? stop(f, progress_exit_code(f->job)) : 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    const char *name, *old, *new;
    (void)error;
    if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || *new)
        return 0;
    progress_clear(&f->progress);
    fprintf(
        stderr,
        "qdlctl: the service left the bus. Job %s is shown as interrupted once it is back; the same command "
        "continues it.\n",
        path_id(f->path));
    return stop(f, EXIT_NO_SERVICE);
}

static void print_detached(struct follow *f)
{
    progress_clear(&f->progress);
    fprintf(stderr,
            "Detached; job %s goes on. To follow it: qdlctl follow %s. To cancel it: qdlctl cancel %s.\n",
            path_id(f->path), path_id(f->path), path_id(f->path));
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct follow *f = userdata;
    (void)source;
    (void)usec;
    if (f->cancelling)
        return 0;
    if (!f->detaching)
        print_detached(f);
    return stop(f, EXIT_DETACHED);
}

static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    struct follow *f = userdata;
    (void)source;
    (void)info;
    if (f->cancelling)
        return stop(f, EXIT_DETACHED);
    if (!f->detaching) {
        f->detaching = true;
        print_detached(f);
        fprintf(stderr, "Press Ctrl-C again within 2 s to cancel it now.\n");
        return sd_event_add_time_relative(f->event, NULL, CLOCK_MONOTONIC, SECOND_CTRL_C_USEC, 0, on_timer,
                                          f);
    }
    sd_bus_message *m = NULL;
    f->cancelling = true;
    if (bus_new_call(f->bus, &m, f->path, "org.qdld1.Job", "Cancel") < 0 || bus_append_no_options(m) < 0 ||
        bus_call(f->bus, m, NULL) != EXIT_OK)
        return stop(f, EXIT_DETACHED);
    fprintf(stderr, "Asked job %s to cancel; it ends at its next safe point.\n", path_id(f->path));
    f->detaching = false;
    return 0;
}

static int run(struct follow *f)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);

    int r = sd_bus_attach_event(f->bus, f->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_event_add_signal(f->event, NULL, SIGINT, on_interrupt, f);
    if (r >= 0 && options.timeout_usec)
        r = sd_event_add_time_relative(f->event, NULL, CLOCK_MONOTONIC, options.timeout_usec, 0, on_timer, f);
    if (r >= 0)
        r = sd_event_loop(f->event);
    sd_bus_detach_event(f->bus);
    sigprocmask(SIG_UNBLOCK, &interrupt, NULL);
    if (r < 0)
        fprintf(stderr, "qdlctl: %s\n", strerror(-r));
    return r < 0 ? EXIT_OTHER : r;
}

int follow_job(sd_bus *bus, const char *path, bool result_text, json_object **ret_job)
{
    struct follow f = {.bus = bus, .path = path};
    sd_bus_slot *changed = NULL, *owner = NULL;
    progress_init(&f.progress);

    /* Subscribed before the state is read: no change falls between the two. */
    int code = EXIT_OTHER;
    if (sd_event_new(&f.event) >= 0 &&
        sd_bus_match_signal(bus, &changed, BUS_NAME, path, "org.freedesktop.DBus.Properties",
                            "PropertiesChanged", on_changed, &f) >= 0 &&
        sd_bus_add_match(
            bus, &owner,
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
            on_owner_changed, &f) >= 0)
        code = bus_get_all(bus, path, "org.qdld1.Job", &f.job);
    if (code == EXIT_OK) {
        progress_show(&f.progress, f.job);
        code = finished(f.job) ? progress_exit_code(f.job) : run(&f);
        progress_clear(&f.progress);
        if (finished(f.job) && (result_text || code != EXIT_OK))
            progress_result(f.job);
    }
    sd_bus_slot_unref(changed);
    sd_bus_slot_unref(owner);
    sd_event_unref(f.event);
    if (ret_job)
        *ret_job = f.job;
    else
        json_object_put(f.job);
    return code;
}

int follow_or_leave(sd_bus *bus, const char *path)
{
    if (!options.no_wait)
        return follow_job(bus, path, true, NULL);
    json_object *job;
    int code = bus_get_all(bus, path, "org.qdld1.Job", &job);
    if (code != EXIT_OK)
        return code;
    if (!print_json(job))
        printf("%s\n", path_id(path));
    json_object_put(job);
    return EXIT_OK;
}
