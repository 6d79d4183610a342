/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands in the way, and the cure. */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"
#include "doctor.h"
#include "output.h"

enum { TEXT_MAX = 512, GROUPS_MAX = 256 };

static json_object *findings, *modems;
static unsigned problems;

void doctor_say(enum doctor_state state, const char *cure, const char *format, ...)
{
    static const char *const names[] = {"ok", "note", "problem"};
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    problems += state == DOCTOR_PROBLEM;
    json_object *finding = json_object_new_object();
    json_object_object_add(finding, "state", json_object_new_string(names[state]));
    json_object_object_add(finding, "text", json_object_new_string(text));
    if (cure)
        json_object_object_add(finding, "cure", json_object_new_string(cure));
    json_object_array_add(findings, finding);
}

static json_object *find_modem(const char *kernel_name)
{
    for (size_t i = 0; modems && i < json_object_array_length(modems); i++) {
        json_object *m = json_object_array_get_idx(modems, i);
        if (strcmp(dict_string(m, "KernelName"), kernel_name) == 0)
            return m;
    }
    return NULL;
}

bool doctor_knows(const char *kernel_name)
{
    return find_modem(kernel_name) != NULL;
}

bool doctor_has_job(const char *kernel_name)
{
    json_object *m = find_modem(kernel_name);
    return m && (dict_bool(m, "Held") || strlen(dict_string(m, "Job")) > 1);
}

/* ---- the service and those it needs ---- */

static bool is_there(sd_bus *bus, const char *name)
{
    sd_bus_message *reply = NULL;
    int there = 0;
    int r = sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                               "NameHasOwner", NULL, &reply, "s", name);
    if (r >= 0)
        sd_bus_message_read_basic(reply, 'b', &there);
    sd_bus_message_unref(reply);
    return there;
}

static bool can_be_started(sd_bus *bus, const char *name)
{
    char **names = NULL;
    bool found = false;
    if (sd_bus_list_names(bus, NULL, &names) < 0)
        return false;
    for (char **i = names; i && *i; i++) {
        found |= strcmp(*i, name) == 0;
        free(*i);
    }
    free(names);
    return found;
}

static bool check_service(sd_bus *bus)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    char *version = NULL;
    int r = sd_bus_get_property_string(bus, BUS_NAME, BUS_MANAGER, "org.qdld1.Manager", "Version", &error,
                                       &version);
    if (r >= 0)
        doctor_say(DOCTOR_OK, NULL, "The service runs: qdld %s.", version);
    else
        doctor_say(DOCTOR_PROBLEM, "sudo systemctl start qdld; systemctl status qdld",
                   "The service does not answer: %s.", error.message ? error.message : strerror(-r));
    if (r >= 0 && strcmp(version, QDLD_VERSION) != 0)
        doctor_say(DOCTOR_NOTE, "sudo systemctl reload qdld",
                   "qdlctl is of version %s: the service is older until it is idle, or newer.", QDLD_VERSION);
    free(version);
    sd_bus_error_free(&error);
    return r >= 0;
}

static bool in_group(gid_t wanted)
{
    gid_t groups[GROUPS_MAX];
    int n = getgroups(GROUPS_MAX, groups);
    bool found = getegid() == wanted;
    for (int i = 0; i < n; i++)
        found |= groups[i] == wanted;
    return found;
}

/* A group that was joined after the login counts from the next one on. */
static bool is_listed(const struct group *g, const char *user)
{
    for (char **i = g->gr_mem; *i; i++)
        if (strcmp(*i, user) == 0)
            return true;
    return false;
}

static void check_rights(sd_bus *bus)
{
    const struct passwd *user = getpwuid(geteuid());
    const struct group *group = getgrnam("qdl");
    const char *name = user ? user->pw_name : "?";
    if (!is_there(bus, "org.freedesktop.PolicyKit1") && !can_be_started(bus, "org.freedesktop.PolicyKit1"))
        doctor_say(geteuid() == 0 ? DOCTOR_NOTE : DOCTOR_PROBLEM, "sudo apt install polkitd",
                   "polkit is not there: nobody but root may use the service.");
    if (geteuid() == 0)
        doctor_say(DOCTOR_OK, NULL, "root may do everything.");
    else if (!group)
        doctor_say(DOCTOR_NOTE, "sudo systemd-sysusers",
                   "There is no group qdl: every job needs an administrator's password.");
    else if (in_group(group->gr_gid))
        doctor_say(DOCTOR_OK, NULL, "User %s is in group qdl and needs no password.", name);
    else if (is_listed(group, name))
        doctor_say(DOCTOR_PROBLEM, "log out and in again", "User %s joined group qdl after this login.",
                   name);
    else
        doctor_say(DOCTOR_NOTE, "sudo adduser \"$USER\" qdl; then log out and in again",
                   "User %s is not in group qdl: jobs ask for a password.", name);
}

/* ---- others that use modems ---- */

static void check_neighbours(sd_bus *bus)
{
    if (is_there(bus, "org.freedesktop.ModemManager1"))
        doctor_say(DOCTOR_OK, NULL,
                   "ModemManager runs; it is asked to leave a modem alone while a job has it.");
    if (is_there(bus, "org.freedesktop.fwupd"))
        doctor_say(
            DOCTOR_NOTE,
            "add qc_firehose to DisabledPlugins= in /etc/fwupd/fwupd.conf, if a job is \"busy\" at its start",
            "fwupd runs; it is asked to update nothing while a job has a modem, but from version 2.0.7 on it "
            "looks into modems in 9008. The service waits for it.");
    if (!is_there(bus, "org.freedesktop.login1"))
        doctor_say(
            DOCTOR_NOTE, NULL,
            "logind is not there: nothing keeps the machine from being suspended in the middle of a flash.");
}

static void check_rules(void)
{
    static const char *const places[] = {"/etc/udev/rules.d/60-qdld.rules", "/run/udev/rules.d/60-qdld.rules",
                                         "/usr/lib/udev/rules.d/60-qdld.rules",
                                         "/lib/udev/rules.d/60-qdld.rules"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (access(places[i], R_OK) == 0)
            return;
    doctor_say(DOCTOR_PROBLEM, "install the package qdld again",
               "60-qdld.rules is missing: the service may open no modem, and ModemManager may.");
}

static void check_inhibited(void)
{
    for (size_t i = 0; modems && i < json_object_array_length(modems); i++) {
        json_object *m = json_object_array_get_idx(modems, i);
        if (dict_bool(m, "Inhibited"))
            doctor_say(DOCTOR_NOTE, "end that program",
                       "%s is left to another program of user %" PRIu64 ": %s.",
                       *dict_string(m, "KernelName") ? dict_string(m, "KernelName") : dict_string(m, "Port"),
                       dict_u64(m, "InhibitedUid"), dict_string(m, "InhibitedBy"));
        if (*dict_string(m, "LastError"))
            doctor_say(DOCTOR_NOTE, "qdlctl jobs; qdlctl log JOB", "The last job on %s failed: %s",
                       *dict_string(m, "KernelName") ? dict_string(m, "KernelName") : dict_string(m, "Port"),
                       dict_string(m, "LastError"));
    }
}

/* ---- all of it ---- */

static void print(void)
{
    for (size_t i = 0; i < json_object_array_length(findings); i++) {
        json_object *f = json_object_array_get_idx(findings, i);
        if (options.quiet && strcmp(dict_string(f, "state"), "ok") == 0)
            continue;
        printf("%-9s%s\n", dict_string(f, "state"), dict_string(f, "text"));
        if (*dict_string(f, "cure"))
            printf("%9s-> %s\n", "", dict_string(f, "cure"));
    }
    if (problems == 0 && !options.quiet)
        printf("\nNothing stands in the way.\n");
}

int verb_doctor(sd_bus *bus, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    findings = json_object_new_array();
    if (check_service(bus)) {
        (void)bus_list(bus, "ListModems", &modems);
        check_inhibited();
    }
    check_rights(bus);
    check_rules();
    check_neighbours(bus);
    doctor_check_usb();
    if (!print_json(findings))
        print();
    json_object_put(findings);
    json_object_put(modems);
    return problems ? EXIT_OTHER : EXIT_OK;
}
