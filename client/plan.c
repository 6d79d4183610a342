/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"
#include "output.h"
#include "select.h"
#include "send.h"

int plan_get(sd_bus *bus, const char *modem, const char *firmware, json_object **ret)
{
    sd_bus_message *m = NULL, *reply = NULL;
    int r = bus_new_call(bus, &m, modem, "org.qdld1.Modem", "Plan");
    if (r >= 0)
        r = sd_bus_message_append(m, "o", firmware);
    if (r >= 0)
        r = bus_append_flash_options(m);
    int code = bus_call(bus, r, m, &reply);
    if (code != EXIT_OK)
        return code;
    json_object *plan = json_object_new_array(), *step;
    if (sd_bus_message_enter_container(reply, 'a', "a{sv}") >= 0)
        while (sd_bus_message_at_end(reply, false) == 0 && (step = bus_read_dict(reply)))
            json_object_array_add(plan, step);
    sd_bus_message_unref(reply);
    *ret = plan;
    return EXIT_OK;
}

/* What the line about the backup says is not said again. */
static void print_notes(json_object *summary)
{
    json_object *notes;
    bool none = strcmp(dict_string(summary, "backup"), "none") == 0;
    if (!json_object_object_get_ex(summary, "notes", &notes) || !json_object_is_type(notes, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(notes); i++) {
        const char *note = json_object_get_string(json_object_array_get_idx(notes, i));
        if (!none || strcmp(note, "no backup taken") != 0)
            print_field("Note", note);
    }
}

/* Before anything is erased: how much, and why. */
static void print_backup(json_object *plan, const char *kind)
{
    uint64_t bytes = 0;
    char size[FORMAT_SIZE], text[160];
    for (size_t i = 1; i < json_object_array_length(plan); i++) {
        json_object *s = json_object_array_get_idx(plan, i);
        if (strcmp(dict_string(s, "action"), "save") == 0)
            bytes += dict_u64(s, "bytes");
    }
    format_size(bytes, size);
    if (strcmp(kind, "partitions") == 0)
        snprintf(text, sizeof(text), "first of all what no package brings back, at most %s", size);
    else if (strcmp(kind, "partitions-or-chip") == 0)
        snprintf(
            text, sizeof(text),
            "first of all what no package brings back, at most %s; the whole flash if the modem does not "
            "say what it is",
            size);
    else if (strcmp(kind, "chip") == 0)
        snprintf(text, sizeof(text), "first of all the whole flash: nobody knows what lies where in it");
    else
        snprintf(text, sizeof(text), "%.100s", strcmp(kind, "none") == 0 ? "none is taken" : kind);
    print_field("Backup", text);
}

void plan_summary(json_object *plan)
{
    json_object *s = json_object_array_get_idx(plan, 0);
    char size[FORMAT_SIZE];
    format_size(dict_u64(s, "bytes"), size);
    print_field("Package", dict_string(s, "version"));
    print_field("Geometry", dict_string(s, "geometry"));
    print_field("To write", size);
    print_field("If interrupted", dict_bool(s, "sbl-last")
                                      ? "the modem comes back in 9008, the same command continues"
                                      : "no guarantee that it comes back in 9008");
    print_backup(plan, dict_string(s, "backup"));
    print_notes(s);
}

void plan_show(json_object *plan)
{
    plan_summary(plan);
    plan_print_table(plan);
}

static int import_file(sd_bus *bus, const char *verb, const char *path, char **ret)
{
    int code = send_firmware(bus, path, false, ret);
    if (code == EXIT_DETACHED)
        fprintf(stderr, "The package is being imported; nothing else was started: %s it once that is done.\n",
                verb);
    return code;
}

int plan_find_firmware(sd_bus *bus, const char *verb, const char *selector, char **ret)
{
    json_object *firmware;
    bool here = *selector && access(selector, F_OK) == 0;
    if (strchr(selector, '/') && strncmp(selector, BUS_MANAGER "/", strlen(BUS_MANAGER "/")) != 0)
        return import_file(bus, verb, selector, ret);
    int code = select_firmware(bus, selector, here, &firmware);
    if (here && code == EXIT_NO_SUCH)
        return import_file(bus, verb, selector, ret);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(firmware, "path");
    if (here)
        code = usage_error("\"%s\" is a file here and a package in the library; write ./%s or the id %.12s",
                           selector, selector, path_id(path));
    else if (!(*ret = strdup(path)))
        code = bus_report(NULL, -ENOMEM);
    json_object_put(firmware);
    return code;
}

int plan_arguments(sd_bus *bus, int argc, char **argv, enum modem_use use, json_object **ret_modem,
                   char **ret_firmware)
{
    int code = select_modem(bus, argc > 2 ? argv[1] : NULL, use, ret_modem);
    if (code != EXIT_OK)
        return code;
    code = plan_find_firmware(bus, argv[0], argv[argc - 1], ret_firmware);
    if (code != EXIT_OK) {
        json_object_put(*ret_modem);
        *ret_modem = NULL;
    }
    return code;
}
