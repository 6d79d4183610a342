/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Calls to org.qdld1, and objects as JSON dictionaries: one form for tables, --json and decisions. */

#include <json-c/json.h>
#include "qdlctl.h"

#define BUS_NAME    "org.qdld1"
#define BUS_MANAGER "/org/qdld1"

/* Opens the system bus (or DBUS_SYSTEM_BUS_ADDRESS). An exit code; EXIT_OK gives *ret. */
int bus_open(sd_bus **ret);

/* The exit code that an error name stands for. */
int bus_exit_code(const char *error_name);
/* Prints an error of a call on stderr; returns its exit code. */
int bus_report(const sd_bus_error *error, int r);

/* A method call without arguments yet; the options dictionary is appended by one of the functions below. */
int bus_new_call(sd_bus *bus, sd_bus_message **ret, const char *path, const char *interface,
                 const char *member);
int bus_append_no_options(sd_bus_message *m);
/* allow, modem-version, reset and queue, as given on the command line. */
int bus_append_flash_options(sd_bus_message *m);
int bus_append_queue_option(sd_bus_message *m);
/* allow alone. */
int bus_append_allow_option(sd_bus_message *m);
/* partitions and queue, and kind (backup) or allow (restore). */
int bus_append_backup_options(sd_bus_message *m);
/*
 * Sends it and waits without limit (a prompt may take a person's time), prints an error; an exit code. ret
 * may be NULL. built: what came of building it; negative is reported. Unrefs m.
 */
int bus_call(sd_bus *bus, int built, sd_bus_message *m, sd_bus_message **ret);
/* The same for a call that answers with a job's path (malloc'ed). */
int bus_call_job(sd_bus *bus, int built, sd_bus_message *m, char **ret_job);
/* The same for a method that takes nothing but options, none given; with a polkit agent where one helps. */
int bus_call_simple(sd_bus *bus, const char *path, const char *interface, const char *member,
                    sd_bus_message **ret);

/* Reads a{sv}: strings, numbers, booleans, arrays of strings, nested a{sv}. NULL if it is none. */
json_object *bus_read_dict(sd_bus_message *m);
/* Manager.List...: an array of dictionaries, each with "path" first. An exit code. */
int bus_list(sd_bus *bus, const char *member, json_object **ret);
/* All properties of one object, with "path" first. An exit code. */
int bus_get_all(sd_bus *bus, const char *path, const char *interface, json_object **ret);

/*
 * The same in two steps, for who listens to changes besides: bus_get_all() takes the answer before the
 * signals that came before it, which would then set everything back for a moment.
 */
int bus_ask_all(sd_bus *bus, const char *path, const char *interface, sd_bus_message_handler_t handler,
                void *userdata);
int bus_take_all(sd_bus_message *reply, const char *path, json_object **ret);

/* Members of such a dictionary; "", 0 or false if absent. */
const char *dict_string(json_object *d, const char *key);
uint64_t dict_u64(json_object *d, const char *key);
double dict_double(json_object *d, const char *key);
bool dict_bool(json_object *d, const char *key);
/* The number or id at the end of an object path, decoded; a static buffer, valid until the next call. */
const char *path_id(const char *path);
