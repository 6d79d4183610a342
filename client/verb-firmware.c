/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "output.h"
#include "select.h"
#include "send.h"

int verb_firmware_list(sd_bus *bus, int argc, char **argv)
{
    static const char *const titles[] = {"ID", "NAME", "CHIP", "GEOMETRY", "SIZE", "STATE", "LABEL", NULL};
    json_object *list;
    (void)argc;
    (void)argv;
    int code = bus_list(bus, "ListFirmware", &list);
    if (code != EXIT_OK)
        return code;
    size_t n = json_object_array_length(list);
    if (!print_json(list) && n == 0 && !options.quiet) {
        printf("The library is empty. To add a package: qdlctl firmware import FILE.\n");
    } else if (options.json == JSON_OFF && n > 0) {
        struct table t;
        table_init(&t, titles);
        for (size_t i = 0; i < n; i++) {
            json_object *f = json_object_array_get_idx(list, i);
            char size[FORMAT_SIZE];
            format_size(dict_u64(f, "Size"), size);
            table_cellf(&t, "%.12s", path_id(dict_string(f, "path")));
            table_cell(&t, dict_string(f, "Name"));
            table_cell(&t, dict_string(f, "Chip"));
            table_cell(&t, dict_string(f, "Geometry"));
            table_cell(&t, size);
            table_cellf(&t, "%s%s", dict_string(f, "State"), dict_bool(f, "Factory") ? ", factory" : "");
            table_cell(&t, dict_string(f, "Label"));
        }
        table_print(&t);
    }
    json_object_put(list);
    return EXIT_OK;
}

static void print_firmware(json_object *f)
{
    char size[FORMAT_SIZE], when[FORMAT_SIZE];
    json_object *problems;
    format_size(dict_u64(f, "Size"), size);
    format_time(dict_u64(f, "ImportedTime"), when);
    printf("%s\n", *dict_string(f, "Name") ? dict_string(f, "Name") : "firmware");
    print_field("Id", path_id(dict_string(f, "path")));
    print_field("State", dict_string(f, "State"));
    print_field("Model", dict_string(f, "Model"));
    print_field("Prefix", dict_string(f, "Prefix"));
    print_field("Baseline", dict_string(f, "Baseline"));
    print_field("Release", dict_string(f, "Release"));
    print_field("Memory", dict_string(f, "Memory"));
    print_field("Edition", dict_string(f, "Edition"));
    print_field("Chip", dict_string(f, "Chip"));
    print_field("Geometry", dict_string(f, "Geometry"));
    print_field("Programmer", dict_string(f, "Programmer"));
    print_field("Calibration",
                dict_bool(f, "Factory") ? "overwritten by this package (factory)" : "left alone");
    print_field("Size", size);
    print_field("SHA-256", dict_string(f, "Sha256"));
    print_field("Imported", when);
    print_field("Label", dict_string(f, "Label"));
    if (json_object_object_get_ex(f, "Problems", &problems))
        for (size_t i = 0; i < json_object_array_length(problems); i++)
            print_field("Problem", json_object_get_string(json_object_array_get_idx(problems, i)));
}

int verb_firmware_import(sd_bus *bus, int argc, char **argv)
{
    (void)argc;
    return send_firmware(bus, argv[1], true, NULL);
}

int verb_firmware_show(sd_bus *bus, int argc, char **argv)
{
    json_object *firmware;
    (void)argc;
    int code = select_firmware(bus, argv[1], false, &firmware);
    if (code != EXIT_OK)
        return code;
    if (!print_json(firmware))
        print_firmware(firmware);
    json_object_put(firmware);
    return EXIT_OK;
}

int verb_firmware_verify(sd_bus *bus, int argc, char **argv)
{
    json_object *firmware;
    sd_bus_message *m = NULL;
    char *job = NULL;
    (void)argc;
    int code = select_firmware(bus, argv[1], false, &firmware);
    if (code != EXIT_OK)
        return code;
    agent_start();
    int r = bus_new_call(bus, &m, dict_string(firmware, "path"), "org.qdld1.Firmware", "Verify");
    if (r >= 0)
        r = bus_append_no_options(m);
    code = bus_call_job(bus, r, m, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(bus, job);
    json_object_put(firmware);
    free(job);
    return code;
}

int verb_firmware_remove(sd_bus *bus, int argc, char **argv)
{
    json_object *firmware;
    (void)argc;
    int code = select_firmware(bus, argv[1], false, &firmware);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(firmware, "path");
    code = bus_call_simple(bus, path, "org.qdld1.Firmware", "Remove", NULL);
    if (code == EXIT_OK && !print_json(firmware) && !options.quiet)
        printf("Removed %s (%.12s).\n", dict_string(firmware, "Name"), path_id(path));
    json_object_put(firmware);
    return code;
}
