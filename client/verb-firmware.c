/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "output.h"
#include "select.h"
#include "send.h"

static int firmware_list(sd_bus *bus)
{
    static const char *const titles[] = {"ID", "NAME", "CHIP", "GEOMETRY", "SIZE", "STATE", "LABEL", NULL};
    json_object *list;
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

static int firmware_import(sd_bus *bus, const char *path)
{
    char *firmware = NULL;
    agent_start();
    int code = send_firmware(bus, path, true, &firmware);
    free(firmware);
    return code;
}

static int firmware_verify(sd_bus *bus, const char *path)
{
    sd_bus_message *m = NULL;
    char *job = NULL;
    agent_start();
    int r = bus_new_call(bus, &m, path, "org.qdld1.Firmware", "Verify");
    if (r >= 0)
        r = bus_append_no_options(m);
    int code = r < 0 ? bus_report(NULL, r) : bus_call_job(bus, m, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(bus, job);
    free(job);
    return code;
}

static int firmware_remove(sd_bus *bus, const char *path)
{
    sd_bus_message *m = NULL;
    agent_start();
    int r = bus_new_call(bus, &m, path, "org.qdld1.Firmware", "Remove");
    if (r >= 0)
        r = bus_append_no_options(m);
    return r < 0 ? bus_report(NULL, r) : bus_call(bus, m, NULL);
}

int verb_firmware(sd_bus *bus, int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "list";
    if (strcmp(what, "list") == 0)
        return argc > 2 ? usage_error("firmware list takes no argument") : firmware_list(bus);
    bool import = strcmp(what, "import") == 0, show = strcmp(what, "show") == 0;
    bool verify = strcmp(what, "verify") == 0, removal = strcmp(what, "remove") == 0;
    if (!import && !show && !verify && !removal)
        return usage_error("firmware %s is unknown; expected list, import, show, verify or remove", what);
    if (argc != 3)
        return usage_error("firmware %s takes one %s", what, import ? "PATH" : "FIRMWARE");
    if (import)
        return firmware_import(bus, argv[2]);

    json_object *firmware;
    int code = select_firmware(bus, argv[2], false, &firmware);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(firmware, "path");
    if (verify)
        code = firmware_verify(bus, path);
    else if (removal)
        code = firmware_remove(bus, path);
    else if (!print_json(firmware))
        print_firmware(firmware);
    json_object_put(firmware);
    return code;
}
