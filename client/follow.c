/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "follow.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "bus.h"
#include "follow-window.h"
#include "output.h"
#include "progress.h"
#include "report.h"

#define SECOND_CTRL_C_USEC 2000000

struct follow {
    sd_bus *bus;
    sd_event *event;
    const char *path;
    json_object *job;
    struct progress progress;
    struct follow_window window;
    bool detaching, cancelling;
    bool over; /* with `code`; not sd_event_exit(), which would close the bus */
    int code;
};

static bool finished(json_object *job)
{
    return strcmp(dict_string(job, "State"), "finished") == 0;
}

static int stop(struct follow *f, int code)
{
    f->over = true;
    f->code = code;
    return 0;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    const char *interface;
    (void)error;
    if (sd_bus_message_read(m, "s", &interface) < 0 || strcmp(interface, "org.qdld1.Job") != 0 || !f->job ||
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
    /* The words of Ctrl-C stay the last on the screen; the last line of JSON is owed whatever happened. */
    if (!f->detaching || finished(f->job))
        progress_show(&f->progress, f->job);
    return finished(f->job) ? stop(f, report_exit_code(f->job)) : 0;
}

static void redraw(void *userdata)
{
    struct follow *f = userdata;
    if (f->job && !f->detaching && !finished(f->job))
        progress_show(&f->progress, f->job);
}

/* Where it stands now; what was told before is older. */
static int on_state(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    (void)error;
    int code = bus_take_all(m, f->path, &f->job);
    if (code != EXIT_OK)
        return stop(f, code);
    progress_show(&f->progress, f->job);
    follow_window_start(&f->window, f->bus, dict_string(f->job, "Modem"));
    return finished(f->job) ? stop(f, report_exit_code(f->job)) : 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    const char *name, *old, *new;
    (void)error;
    if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || !*old)
        return 0;
    progress_clear(&f->progress);
    fprintf(stderr,
            "qdlctl: the service left the bus; job %s is not followed any longer. Once the service is back, "
            "qdlctl jobs shows what became of it; a flash that was interrupted is continued by the same "
            "command.\n",
            path_id(f->path));
    return stop(f, EXIT_NO_SERVICE);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    (void)m;
    (void)error;
    progress_clear(&f->progress);
    fprintf(stderr, "qdlctl: the connection to the bus broke; job %s goes on if the service does.\n",
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

/* --timeout */
static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct follow *f = userdata;
    (void)source;
    (void)usec;
    if (!f->detaching)
        print_detached(f);
    return stop(f, EXIT_DETACHED);
}

/* No second Ctrl-C came. */
static int on_detached(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct follow *f = userdata;
    (void)source;
    (void)usec;
    return f->cancelling ? 0 : stop(f, EXIT_DETACHED);
}

static int on_cancelled(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct follow *f = userdata;
    (void)error;
    if (sd_bus_message_is_method_error(m, NULL)) {
        bus_report(sd_bus_message_get_error(m), 0);
        return stop(f, EXIT_DETACHED);
    }
    fprintf(stderr, "Asked job %s to cancel; it ends at its next safe point.\n", path_id(f->path));
    f->detaching = false;
    return 0;
}

/* Never a blocking call: polkit may ask, and a third Ctrl-C has to get out. */
static int cancel(struct follow *f)
{
    sd_bus_message *m = NULL;
    f->cancelling = true;
    int r = bus_new_call(f->bus, &m, f->path, "org.qdld1.Job", "Cancel");
    if (r >= 0)
        r = bus_append_no_options(m);
    if (r >= 0)
        r = sd_bus_call_async(f->bus, NULL, m, on_cancelled, f, UINT64_MAX);
    sd_bus_message_unref(m);
    if (r >= 0)
        return 0;
    bus_report(NULL, r);
    return stop(f, EXIT_DETACHED);
}

static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    struct follow *f = userdata;
    (void)source;
    (void)info;
    if (f->cancelling) {
        progress_clear(&f->progress);
        return stop(f, EXIT_DETACHED);
    }
    if (f->detaching)
        return cancel(f);
    print_detached(f);
    f->detaching = true;
    fprintf(stderr, "Press Ctrl-C again within 2 s to cancel it now.\n");
    return sd_event_add_time_relative(f->event, NULL, CLOCK_MONOTONIC, SECOND_CTRL_C_USEC, 0, on_detached, f);
}

static void hold_interrupt(int how)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(how, &interrupt, NULL);
}

static int run(struct follow *f)
{
    int r = sd_bus_attach_event(f->bus, f->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_event_add_signal(f->event, NULL, SIGINT, on_interrupt, f);
    if (r >= 0 && options.deadline_usec)
        r = sd_event_add_time(f->event, NULL, CLOCK_MONOTONIC, options.deadline_usec, 1, on_timeout, f);
    while (r >= 0 && !f->over)
        r = sd_event_run(f->event, UINT64_MAX);
    sd_bus_detach_event(f->bus);
    if (r < 0)
        fprintf(stderr, "qdlctl: %s\n", strerror(-r));
    return r < 0 ? EXIT_OTHER : f->code;
}

/* Before the state is asked for: no change falls between the two. */
static int subscribe(struct follow *f, sd_bus_slot **slots)
{
    int r = sd_bus_match_signal(f->bus, &slots[0], BUS_NAME, f->path, "org.freedesktop.DBus.Properties",
                                "PropertiesChanged", on_changed, f);
    if (r >= 0)
        r = sd_bus_add_match(f->bus, &slots[1],
                             "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                             "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                             on_owner_changed, f);
    if (r >= 0)
        r = sd_bus_match_signal(f->bus, &slots[2], "org.freedesktop.DBus.Local", NULL,
                                "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, f);
    return r < 0 ? bus_report(NULL, r) : EXIT_OK;
}

int follow_job(sd_bus *bus, const char *path, bool result_text, json_object **ret_job)
{
    struct follow f = {.bus = bus, .path = path};
    sd_bus_slot *slots[3] = {0};
    progress_init(&f.progress);

    int r = sd_event_new(&f.event);
    f.window =
        (struct follow_window){.event = f.event, .progress = &f.progress, .redraw = redraw, .userdata = &f};
    int code = r < 0 ? bus_report(NULL, r) : subscribe(&f, slots);
    if (code == EXIT_OK)
        code = bus_ask_all(bus, path, "org.qdld1.Job", on_state, &f);
    if (code == EXIT_OK) {
        /* From the first line on Ctrl-C means "detach". */
        hold_interrupt(SIG_BLOCK);
        code = run(&f);
        progress_clear(&f.progress);
        hold_interrupt(SIG_UNBLOCK);
        if (f.job && finished(f.job) && (result_text || code != EXIT_OK))
            report_result(f.job);
    }
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
        sd_bus_slot_unref(slots[i]);
    follow_window_stop(&f.window);
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
    if (options.json != JSON_OFF) {
        json_object *job;
        int code = bus_get_all(bus, path, "org.qdld1.Job", &job);
        if (code != EXIT_OK)
            return code;
        print_json(job);
        json_object_put(job);
    } else if (!options.quiet) {
        printf("%s\n", path_id(path));
    }
    return EXIT_OK;
}
