/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The service as a whole: what every other object of it reaches, the lists of modems, firmware and jobs, and
 * org.qdld1.Manager at /org/qdld1. Everything runs in one sd-event loop and nothing in it blocks.
 */

#include <stdio.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include "service/bouncer.h"
#include "service/config.h"
#include "service/object.h"
#include "service/senders.h"
#include "service/store.h"
#include "service/watch.h"

#define BUS_NAME          "org.qdld1"
#define MANAGER_PATH      "/org/qdld1"
#define MANAGER_INTERFACE "org.qdld1.Manager"

struct backup;
struct firmware;
struct guard;
struct history;
struct job;
struct modem;
struct neighbours;
struct notify;

struct manager {
    sd_event *event;
    sd_bus *bus;
    struct config config;
    struct store store;
    struct senders *senders;
    struct bouncer *bouncer;
    struct watch *watch;
    struct neighbours *neighbours;
    struct notify *notify;
    struct history *history; /* NULL until it is loaded */
    int worker_binary;
    char imei_key[65]; /* of this machine, hex: an IMEI is known by its HMAC with it */

    struct object object;
    sd_bus_slot *object_manager, *log_control;
    char *version; /* property Version */
    int busy;      /* property Busy */
    char *status;  /* STATUS= that systemd was told last */

    struct modem *modems;      /* newest first */
    struct firmware *firmware; /* newest first */
    struct backup *backups;    /* newest first */
    struct guard *guards;
    struct job *jobs;       /* by number; without one (in their pre-flight) at the end */
    uint64_t last_job;      /* the highest number that was ever given */
    uint64_t n_appearances; /* of modems, in this run */
    uint64_t n_finished;    /* jobs that were seen to end, earlier runs' in the order of their numbers */

    bool restart_wanted;        /* SIGHUP came */
    struct second *lost_second; /* reads a backup that lost its record ... */
    char lost_id[33];           /* ... the one of this id; they are taken in order */

    bool stopping;
    int exit_status;
    sd_event_source *stop_timer;
    sd_bus_slot *release_slot; /* the name is being given back: the last thing of all */
    sd_event_source *update_source, *update_timer;
    bool overdue;
};

struct manager_options {
    const char *config_path; /* NULL: the default */
    const char *state_path;  /* NULL: $STATE_DIRECTORY */
    const char *worker_path;
    const char *virtual_path; /* NULL: real modems by udev; else only those that connect here */
};

/*
 * Reads the configuration, opens the state directory and the worker, connects to the bus and loads what was
 * remembered. Nothing is on the bus and no modem is looked for yet.
 */
int manager_new(sd_event *event, const struct manager_options *options, struct manager **ret,
                struct error *e);
/* Watches for modems, takes the bus name, tells systemd so: from here on it serves. */
int manager_start(struct manager *m, const struct manager_options *options, struct error *e);
/*
 * The orderly end: no new jobs; queued ones are interrupted, every worker is told STOP; when the last one is
 * gone, or after [Limits] StopSec, the loop ends with this status.
 */
void manager_stop(struct manager *m, int exit_status);
/*
 * The binary or the configuration has changed (an upgrade, "systemctl reload"): stops with
 * MANAGER_EXIT_RESTART as soon as nothing is left that this would cut off. New jobs are taken meanwhile.
 */
void manager_restart(struct manager *m);
struct manager *manager_free(struct manager *m);
DEFINE_CLEANUP(struct manager *, manager_free)

enum {
    MANAGER_PATIENCE_USEC =
        100 * 1000, /* of what is to be done about all, with a worker that is being given its modem */
    MANAGER_LEAVE_USEC = 2 * 1000000, /* for a bus that does not answer any more */
    MANAGER_EXIT_RESTART = 75,        /* RestartForceExitStatus= of the unit */
};

/*
 * Something started, ended, came or went. Once the caller is through with it all: Busy, STATUS= for
 * systemctl, modems that nothing needs are freed, and a stop that waited for this comes to its end.
 */
void manager_update(struct manager *m);
/* Interrupted in *error while the service stops. */
int manager_check_running(const struct manager *m, sd_bus_error *error);
/* bouncer_check() for a method of ours. */
int manager_authorise(struct manager *m, sd_bus_message *message, bool milder, const char *lifted,
                      const struct bouncer_detail *details, sd_bus_error *error);
