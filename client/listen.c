/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "listen.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "bus.h"

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct listen *l = userdata;
    (void)m;
    (void)error;
    l->changed = true;
    return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct listen *l = userdata;
    const char *name, *old, *new;
    (void)error;
    if (sd_bus_message_read(m, "sss", &name, &old, &new) >= 0 && *old)
        l->gone = true;
    return 0;
}

int listen_begin(sd_bus *bus, struct listen *l)
{
    *l = (struct listen){.bus = bus};
    int r = sd_bus_add_match(bus, &l->slots[0],
                             "type='signal',sender='" BUS_NAME "',path_namespace='" BUS_MANAGER "'",
                             on_signal, l);
    if (r >= 0)
        r = sd_bus_add_match(bus, &l->slots[1],
                             "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                             "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                             on_owner, l);
    return r < 0 ? bus_report(NULL, r) : EXIT_OK;
}

void listen_end(struct listen *l)
{
    for (size_t i = 0; i < sizeof(l->slots) / sizeof(l->slots[0]); i++)
        sd_bus_slot_unref(l->slots[i]);
}

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int listen_next(struct listen *l)
{
    while (!l->changed && !l->gone) {
        uint64_t wait = UINT64_MAX;
        int r = sd_bus_process(l->bus, NULL);
        if (r > 0)
            continue;
        if (r == 0 && options.deadline_usec) {
            uint64_t t = now();
            if (t >= options.deadline_usec)
                return EXIT_DETACHED;
            wait = options.deadline_usec - t;
        }
        if (r == 0)
            r = sd_bus_wait(l->bus, wait);
        if (r < 0 && r != -EINTR)
            l->gone = true;
    }
    if (l->gone) {
        fprintf(stderr, "qdlctl: the service left the bus\n");
        return EXIT_NO_SERVICE;
    }
    /* What came together is one change. */
    while (sd_bus_process(l->bus, NULL) > 0)
        ;
    l->changed = false;
    return EXIT_OK;
}
