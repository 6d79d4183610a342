/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * qdlctl: what every verb shares: the options of the command line, the exit codes, and the verbs of the table
 * in qdlctl.c. The client knows only the bus.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

enum exit_code {
    EXIT_OK = 0,
    EXIT_OTHER = 1,
    EXIT_USAGE = 2,
    EXIT_NO_SUCH = 3,
    EXIT_DENIED = 4,
    EXIT_BUSY = 5,
    EXIT_RETRY = 6,      /* failed, may be retried */
    EXIT_RECOVERY = 7,   /* failed, the modem needs recovery */
    EXIT_NO_SERVICE = 8, /* the service is not reachable */
    EXIT_DETACHED = 130,
};

enum json_mode { JSON_OFF, JSON_SHORT, JSON_PRETTY };

struct options {
    enum json_mode json;
    bool no_pager, no_legend, quiet, no_ask_password, yes, no_wait, dry_run;
    uint64_t deadline_usec; /* CLOCK_MONOTONIC, of --timeout; 0: follow for ever */
    char **allow;           /* NULL-terminated; NULL if not given */
    const char *modem_version;
    const char *label, *sha256, *mode; /* of firmware import, of reset */
    const char *kind, *output;         /* of backup; where a copy goes */
    const char *format;                /* of backups export */
    char **partitions;                 /* as allow */
    bool queue, no_reset, wait;
    const char *port; /* of catch, rescue, policy */
    bool no_start;    /* the service is not started for our sake */
    bool help, version;
    const char *verb; /* NULL before it is known */
};
extern struct options options;

/* Which options a verb looks at. */
enum verb_use {
    USES_JOB = 1,    /* starts a job and follows it */
    USES_FOLLOW = 2, /* follows one */
    USES_FLASH = 4,
    USES_PLAN = 8,
    USES_MODEM = 16, /* may wait in a modem's queue */
    USES_MODE = 32,
    USES_IMPORT = 64,
    USES_BACKUP = 128,
    USES_OUTPUT = 256,
    USES_ALLOW = 512,
    USES_PARTITIONS = 1024,
    USES_PORT = 2048,
    USES_WAIT = 4096,
    USES_VERSION = 8192,
    USES_FORMAT = 16384,
    USES_RESET = 32768,
    USES_ANY = 65536, /* of an option: a verb that has no use for it takes it all the same */
};

struct verb {
    const char *name;      /* one word or two */
    const char *arguments; /* for --help */
    const char *help;
    int (*run)(sd_bus *bus, int argc,
               char **argv); /* argv[0] is the verb's last word; returns an exit code */
    int arguments_min, arguments_max;
    unsigned use; /* enum verb_use */
};

int verb_list(sd_bus *bus, int argc, char **argv);
int verb_status(sd_bus *bus, int argc, char **argv);
int verb_plan(sd_bus *bus, int argc, char **argv);
int verb_flash(sd_bus *bus, int argc, char **argv);
int verb_firmware_list(sd_bus *bus, int argc, char **argv);
int verb_firmware_import(sd_bus *bus, int argc, char **argv);
int verb_firmware_show(sd_bus *bus, int argc, char **argv);
int verb_firmware_verify(sd_bus *bus, int argc, char **argv);
int verb_firmware_remove(sd_bus *bus, int argc, char **argv);
int verb_backup(sd_bus *bus, int argc, char **argv);
int verb_dump(sd_bus *bus, int argc, char **argv);
int verb_restore(sd_bus *bus, int argc, char **argv);
int verb_backups_list(sd_bus *bus, int argc, char **argv);
int verb_backups_show(sd_bus *bus, int argc, char **argv);
int verb_backups_export(sd_bus *bus, int argc, char **argv);
int verb_backups_import(sd_bus *bus, int argc, char **argv);
int verb_backups_verify(sd_bus *bus, int argc, char **argv);
int verb_backups_remove(sd_bus *bus, int argc, char **argv);
int verb_history(sd_bus *bus, int argc, char **argv);
int verb_jobs(sd_bus *bus, int argc, char **argv);
int verb_follow(sd_bus *bus, int argc, char **argv);
int verb_cancel(sd_bus *bus, int argc, char **argv);
int verb_log(sd_bus *bus, int argc, char **argv);
int verb_catch(sd_bus *bus, int argc, char **argv);
int verb_rescue(sd_bus *bus, int argc, char **argv);
int verb_policy(sd_bus *bus, int argc, char **argv);
int verb_forget(sd_bus *bus, int argc, char **argv);
int verb_monitor(sd_bus *bus, int argc, char **argv);
int verb_identify(sd_bus *bus, int argc, char **argv);
int verb_enter_edl(sd_bus *bus, int argc, char **argv);
int verb_reset(sd_bus *bus, int argc, char **argv);
int verb_inhibit(sd_bus *bus, int argc, char **argv);
int verb_doctor(sd_bus *bus, int argc, char **argv);

/* Says what was wrong with the command line on stderr, and whose --help helps; returns EXIT_USAGE. */
int usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
