/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the service says to the journal: one line for people, for the events an administrator greps for a
 * message id (systemd/qdld.catalog explains each) and fields. Lines of the journal's native protocol are
 * written without waiting: sd_journal_send() blocks while journald is stuck, and with it the loop, every
 * job's deadline and the watchdog. What the journal does not take is counted and said once it takes
 * something again.
 *
 * Level and target are properties of org.freedesktop.LogControl1 at LOG_CONTROL_PATH, so that "systemctl
 * service-log-level qdld debug" works.
 */

#include <stdbool.h>
#include <syslog.h>
#include <systemd/sd-bus.h>

/* Events with a message id. */
enum log_event {
    LOG_MODEM_APPEARED, /* in EDL, crash dump or fastboot */
    LOG_MODEM_HELD,
    LOG_MODEM_LOOPING,
    LOG_JOB_STARTED,
    LOG_JOB_DONE,
    LOG_JOB_FAILED,
    LOG_JOB_INTERRUPTED,
    LOG_WORKER_KILLED,
    LOG_RESCUE_GAVE_UP,
    LOG_BACKUP_STORED,
    LOG_BACKUP_LOST,
    LOG_RECORD_DAMAGED,
    LOG_DENIED,
    LOG_NEIGHBOUR, /* another program could not be kept away */
    LOG_EVENT_COUNT
};

/* The fields that entries of ours may have. */
#define LOG_FIELD_JOB      "QDLD_JOB"      /* number */
#define LOG_FIELD_KIND     "QDLD_JOB_KIND" /* flash, backup ... */
#define LOG_FIELD_RESULT   "QDLD_RESULT"   /* as Job.Result */
#define LOG_FIELD_ERROR    "QDLD_ERROR"    /* as Job.ErrorName */
#define LOG_FIELD_PORT     "QDLD_PORT"     /* as Modem.Port */
#define LOG_FIELD_SERIAL   "QDLD_SERIAL"   /* as Modem.ChipSerial */
#define LOG_FIELD_MODE     "QDLD_MODE"     /* as Modem.Mode */
#define LOG_FIELD_BACKUP   "QDLD_BACKUP"   /* id */
#define LOG_FIELD_FIRMWARE "QDLD_FIRMWARE" /* id */
#define LOG_FIELD_UID      "QDLD_UID"      /* whose job or call it is */

struct log_field {
    const char *key, *value; /* NULL and "" are left out */
};

enum { LOG_FIELDS_MAX = 12, LOG_TEXT_MAX = 4096 };

/* level: LOG_ERR ... LOG_DEBUG of syslog.h. The text is cleaned (base/text.h); it may come from anywhere. */
void log_message(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* fields end with a NULL key; NULL: none. */
void log_event(enum log_event event, int level, const struct log_field *fields, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "8f2c..." (32 hex digits); NULL out of range. */
const char *log_event_id(enum log_event event);

/* ---- where it goes ---- */
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"

/*
 * path: the journal's socket, NULL for the usual one. Without a call, and where there is no journal, lines go
 * to stderr as "<6>text". 0 or -errno; harmless to repeat.
 */
int log_open(const char *path);
void log_close(void);
/* "emerg" to "debug"; "journal", "console", "null". -EINVAL. */
int log_set_level(const char *name);
int log_set_target(const char *name);
/* Puts LogControl1 on the bus. Who may set it is for the bus policy: root (dbus/org.qdld1.conf). */
int log_control_add(sd_bus *bus, sd_bus_slot **ret);
