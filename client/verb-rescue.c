/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * catch, rescue, policy, forget. rescue flashes the package that is named, or the one of the policy; --wait
 * is for the person at the bench: it says what to do now, and begins as soon as a modem shows itself.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "listen.h"
#include "plan.h"
#include "select.h"
#include "words.h"

struct work {
    sd_bus *bus;
    const char *modem; /* as given; NULL: any */
    char *firmware;    /* object path, malloc'ed; NULL: catch, or that of the policy */
    bool rescue;
    bool bridged; /* it was asked for the bridge: what shows itself next hangs on it, if all went well */
};

/* ---- one job ---- */

static int build(const struct work *w, const char *modem, sd_bus_message **ret)
{
    const char *method = !w->rescue ? "Catch" : w->firmware ? "Flash" : "Rescue";
    int r = bus_new_call(w->bus, ret, modem, "org.qdld1.Modem", method);
    if (r >= 0 && w->firmware)
        r = sd_bus_message_append(*ret, "o", w->firmware);
    if (r < 0)
        return r;
    return w->rescue ? bus_append_flash_options(*ret) : bus_append_queue_option(*ret);
}

/* A rescue that the policy has begun is the one that was asked for. */
static char *running_rescue(sd_bus *bus, const char *modem)
{
    json_object *m, *job;
    char *path = NULL;
    if (bus_get_all(bus, modem, "org.qdld1.Modem", &m) != EXIT_OK)
        return NULL;
    const char *running = dict_string(m, "Job");
    if (strcmp(running, "/") != 0 && bus_get_all(bus, running, "org.qdld1.Job", &job) == EXIT_OK) {
        if (strcmp(dict_string(job, "Kind"), "flash") == 0)
            path = strdup(running);
        json_object_put(job);
    }
    json_object_put(m);
    return path;
}

static int begin(const struct work *w, const char *modem, char **ret_job)
{
    sd_bus_message *m = NULL;
    *ret_job = w->rescue && !w->firmware ? running_rescue(w->bus, modem) : NULL;
    if (*ret_job)
        return EXIT_OK;
    agent_start();
    int r = build(w, modem, &m);
    return bus_call_job(w->bus, r, m, ret_job);
}

/* ---- --wait ---- */

static bool is_there(json_object *m)
{
    static const char *const modes[] = {"sahara", "firehose", "unknown", "crash-dump"};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(dict_string(m, "Mode"), modes[i]) == 0)
            return true;
    return false;
}

static bool is_meant(const struct work *w, json_object *m)
{
    const char *port = options.port ? options.port : w->modem;
    return !port || strcmp(dict_string(m, "Port"), port) == 0 ||
           strcmp(dict_string(m, "KernelName"), port) == 0 || strcmp(dict_string(m, "ChipSerial"), port) == 0;
}

/* The first that is in 9008, and that nobody works on but its policy. */
static int find_present(const struct work *w, json_object **ret)
{
    json_object *list;
    *ret = NULL;
    int code = bus_list(w->bus, "ListModems", &list);
    if (code != EXIT_OK)
        return code;
    for (size_t i = 0; i < json_object_array_length(list) && !*ret; i++) {
        json_object *m = json_object_array_get_idx(list, i);
        if (is_there(m) && is_meant(w, m))
            *ret = json_object_get(m);
    }
    json_object_put(list);
    return EXIT_OK;
}

static int await_modem(const struct work *w, struct listen *l, json_object **ret)
{
    bool said = false;
    for (;;) {
        int code = find_present(w, ret);
        if (code != EXIT_OK || *ret)
            return code;
        if (!said)
            words_wait(options.port ? options.port : w->modem ? w->modem : "");
        said = true;
        code = listen_next(l);
        if (code != EXIT_OK)
            return code;
    }
}

/* What failed is not tried again before the modem has gone: a human had to do something. */
static int await_absence(const struct work *w, struct listen *l)
{
    for (;;) {
        json_object *m;
        int code = find_present(w, &m);
        json_object_put(m);
        if (code != EXIT_OK || !m)
            return code;
        code = listen_next(l);
        if (code != EXIT_OK)
            return code;
    }
}

/* 1: once more. */
static int one_round(struct work *w, struct listen *l, int *ret_code)
{
    json_object *modem = NULL, *job = NULL;
    char *path = NULL;
    int code = await_modem(w, l, &modem);
    if (code == EXIT_OK) {
        words_seen(modem, w->bridged);
        code = begin(w, dict_string(modem, "path"), &path);
    }
    if (code == EXIT_OK)
        code = follow_job(w->bus, path, true, &job);
    bool again = false;
    if (job && code != EXIT_OK && code != EXIT_DETACHED)
        again = words_again(job);
    if (again)
        w->bridged = words_want_bridge(job);
    if (job && !again)
        words_end(job);
    json_object_put(job);
    json_object_put(modem);
    free(path);
    *ret_code = code;
    return again;
}

static int wait_and_work(struct work *w)
{
    struct listen l;
    int code = listen_begin(w->bus, &l);
    while (code == EXIT_OK && one_round(w, &l, &code))
        code = await_absence(w, &l);
    listen_end(&l);
    return code;
}

/* ---- policies ---- */

static int append_version(sd_bus_message *m)
{
    if (!options.modem_version)
        return bus_append_no_options(m);
    return sd_bus_message_append(m, "a{sv}", 1, "modem-version", "s", options.modem_version);
}

static bool version_is_known(sd_bus *bus, const char *modem)
{
    json_object *m;
    if (!modem || bus_get_all(bus, modem, "org.qdld1.Modem", &m) != EXIT_OK)
        return false;
    bool known = dict_bool(m, "Confirmed") && *dict_string(m, "FirmwareVersion");
    json_object_put(m);
    return known;
}

/* With nobody at the keyboard a package is flashed only where something proves that it is the modem's. */
static void print_policy(sd_bus *bus, const char *modem, const char *policy, const char *firmware)
{
    printf("The policy of %s is %s now.\n", modem ? "the modem" : options.port, policy);
    if (firmware && !options.modem_version && !version_is_known(bus, modem))
        printf("A modem that does not tell which firmware it is for is held and saved, but not flashed: add "
               "--modem-version=NAME, as on its label, if it is to be.\n");
}

static int set_policy(sd_bus *bus, const char *modem, const char *policy, const char *firmware)
{
    sd_bus_message *m = NULL;
    agent_start();
    int r = modem ? bus_new_call(bus, &m, modem, "org.qdld1.Modem", "SetPolicy")
                  : bus_new_call(bus, &m, BUS_MANAGER, "org.qdld1.Manager", "ArmPort");
    if (r >= 0 && !modem)
        r = sd_bus_message_append(m, "s", options.port);
    if (r >= 0)
        r = sd_bus_message_append(m, "so", policy, firmware ? firmware : "/");
    if (r >= 0)
        r = append_version(m);
    int code = bus_call(bus, r, m, NULL);
    if (code == EXIT_OK && !options.quiet && options.json == JSON_OFF)
        print_policy(bus, modem, policy, firmware);
    return code;
}

static int find_modem(sd_bus *bus, const char *selector, char **ret)
{
    json_object *modem;
    int code = select_modem(bus, selector, MODEM_WORK, &modem);
    if (code != EXIT_OK)
        return code;
    *ret = strdup(dict_string(modem, "path"));
    json_object_put(modem);
    return *ret ? EXIT_OK : bus_report(NULL, -ENOMEM);
}

static bool is_policy(const char *word)
{
    return strcmp(word, "off") == 0 || strcmp(word, "hold") == 0 || strcmp(word, "rescue") == 0;
}

/* policy MODEM off|hold|rescue [FIRMWARE], or with --port no MODEM. */
int verb_policy(sd_bus *bus, int argc, char **argv)
{
    int at = options.port ? 1 : 2;
    char *modem = NULL, *firmware = NULL;
    if (argc <= at || !is_policy(argv[at]))
        return usage_error(options.port ? "policy --port=PORT takes off, hold or rescue FIRMWARE"
                                        : "policy takes MODEM and off, hold or rescue FIRMWARE");
    bool rescue = strcmp(argv[at], "rescue") == 0;
    if (argc != at + 1 + rescue)
        return usage_error(rescue ? "the policy rescue needs a FIRMWARE"
                                  : "a FIRMWARE goes with the policy rescue");
    int code = options.port ? EXIT_OK : find_modem(bus, argv[1], &modem);
    if (code == EXIT_OK && rescue)
        code = plan_find_firmware(bus, "policy", argv[at + 1], &firmware);
    if (code == EXIT_OK)
        code = set_policy(bus, modem, argv[at], firmware);
    free(modem);
    free(firmware);
    return code;
}

int verb_forget(sd_bus *bus, int argc, char **argv)
{
    char *modem = NULL;
    (void)argc;
    int code = find_modem(bus, argv[1], &modem);
    if (code == EXIT_OK)
        code = bus_call_simple(bus, modem, "org.qdld1.Modem", "Forget", NULL);
    if (code == EXIT_OK && !options.quiet && options.json == JSON_OFF)
        printf("What was remembered of it is forgotten; its backups stay.\n");
    free(modem);
    return code;
}

/* ---- catch, rescue ---- */

static int run(struct work *w)
{
    char *modem = NULL, *job = NULL;
    int code = EXIT_OK;
    if (options.port)
        code = set_policy(w->bus, NULL, w->rescue ? "rescue" : "hold", w->rescue ? w->firmware : NULL);
    if (code != EXIT_OK || (options.port && !options.wait))
        return code;
    if (options.wait)
        return wait_and_work(w);
    code = find_modem(w->bus, w->modem, &modem);
    if (code == EXIT_OK)
        code = begin(w, modem, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(w->bus, job);
    free(job);
    free(modem);
    return code;
}

int verb_catch(sd_bus *bus, int argc, char **argv)
{
    struct work w = {.bus = bus, .modem = argc > 1 ? argv[1] : NULL};
    if (options.port && w.modem)
        return usage_error("--port=PORT says which modem is meant");
    return run(&w);
}

/* One argument: a modem where one has such a name, else a package. */
static bool names_modem(sd_bus *bus, const char *word)
{
    json_object *list;
    bool found = false;
    if (strchr(word, '/') || bus_list(bus, "ListModems", &list) != EXIT_OK)
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *m = json_object_array_get_idx(list, i);
        found |= strcmp(dict_string(m, "Port"), word) == 0 ||
                 strcmp(dict_string(m, "KernelName"), word) == 0 ||
                 (*word && strcmp(dict_string(m, "ChipSerial"), word) == 0) ||
                 (*word && strcmp(dict_string(m, "Model"), word) == 0);
    }
    json_object_put(list);
    return found;
}

int verb_rescue(sd_bus *bus, int argc, char **argv)
{
    struct work w = {.bus = bus, .rescue = true};
    const char *firmware = argc > 2 ? argv[2] : NULL;
    if (argc > 2 || (argc > 1 && !options.port && names_modem(bus, argv[1])))
        w.modem = argv[1];
    else if (argc > 1)
        firmware = argv[1];
    if (options.port && w.modem)
        return usage_error("--port=PORT says which modem is meant");
    if (options.port && !firmware)
        return usage_error("rescue --port=PORT needs the FIRMWARE to flash");
    int code = firmware ? plan_find_firmware(bus, "rescue", firmware, &w.firmware) : EXIT_OK;
    if (code == EXIT_OK)
        code = run(&w);
    free(w.firmware);
    return code;
}
