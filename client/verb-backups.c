/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store of backups. */
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "bus.h"
#include "copy.h"
#include "follow.h"
#include "output.h"
#include "select.h"
#include "send.h"

int verb_backups_list(sd_bus *bus, int argc, char **argv)
{
    static const char *const titles[] = {"ID",     "TAKEN", "KIND",    "STATE", "MODEL",
                                         "SERIAL", "SIZE",  "VERSION", NULL};
    json_object *list;
    (void)argc;
    (void)argv;
    int code = bus_list(bus, "ListBackups", &list);
    if (code != EXIT_OK)
        return code;
    size_t n = json_object_array_length(list);
    if (!print_json(list) && n == 0 && !options.quiet) {
        printf("Nothing was saved yet. To save a modem in emergency download mode: qdlctl backup.\n");
    } else if (options.json == JSON_OFF && n > 0) {
        struct table t;
        table_init(&t, titles);
        for (size_t i = 0; i < n; i++) {
            json_object *b = json_object_array_get_idx(list, i);
            char size[FORMAT_SIZE], when[FORMAT_SIZE];
            format_size(dict_u64(b, "Size"), size);
            format_time(dict_u64(b, "CreatedTime"), when);
            table_cellf(&t, "%.12s", path_id(dict_string(b, "path")));
            table_cell(&t, when);
            table_cell(&t, dict_string(b, "Kind"));
            table_cell(&t, dict_string(b, "State"));
            table_cell(&t, dict_string(b, "Model"));
            table_cell(&t, dict_string(b, "ChipSerial"));
            table_cell(&t, size);
            table_cell(&t, dict_string(b, "FirmwareVersion"));
        }
        table_print(&t);
    }
    json_object_put(list);
    return EXIT_OK;
}

/* "sbl, mibib, efs2" */
static void print_partitions(json_object *b)
{
    json_object *list;
    char text[4096] = "";
    size_t at = 0;
    if (!json_object_object_get_ex(b, "Partitions", &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list) && at < sizeof(text); i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? ", " : "",
                               json_object_get_string(json_object_array_get_idx(list, i)));
    print_field("Partitions", text);
}

static const char *meaning(const char *state)
{
    if (strcmp(state, "blank") == 0)
        return "blank (the calibration was gone already)";
    if (strcmp(state, "damaged") == 0)
        return "damaged (a part of it is lost, or it is half of two)";
    return state;
}

static void print_backup(json_object *b)
{
    char size[FORMAT_SIZE], when[FORMAT_SIZE];
    format_size(dict_u64(b, "Size"), size);
    format_time(dict_u64(b, "CreatedTime"), when);
    printf("%s\n", *dict_string(b, "Model") ? dict_string(b, "Model") : "backup");
    print_field("Id", path_id(dict_string(b, "path")));
    const char *kind = dict_string(b, "Kind");
    print_field("Kind", strcmp(kind, "nand") == 0   ? "nand (the flash)"
                        : strcmp(kind, "xqcn") == 0 ? "xqcn (calibration: NV items and EFS files)"
                                                    : kind);
    print_field("State", meaning(dict_string(b, "State")));
    print_field("Taken", when);
    print_field("Chip serial", dict_string(b, "ChipSerial"));
    print_field("Firmware", dict_string(b, "FirmwareVersion"));
    print_partitions(b);
    print_field("Size", size);
    print_field("SHA-256", dict_string(b, "Sha256"));
}

int verb_backups_show(sd_bus *bus, int argc, char **argv)
{
    json_object *backup;
    (void)argc;
    int code = select_backup(bus, argv[1], false, &backup);
    if (code != EXIT_OK)
        return code;
    if (!print_json(backup))
        print_backup(backup);
    json_object_put(backup);
    return EXIT_OK;
}

int verb_backups_export(sd_bus *bus, int argc, char **argv)
{
    json_object *backup;
    char own[64];
    if (argc > 2 && options.output)
        return usage_error("backups export takes FILE or --output, not both");
    int code = select_backup(bus, argv[1], false, &backup);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(backup, "path");
    snprintf(own, sizeof(own), "qdld-backup-%.12s.%s", path_id(path),
             options.format && strcmp(options.format, "xqcn") == 0 ? "xqcn" : "tar");
    const char *file = argc > 2 ? argv[2] : options.output ? options.output : own;
    code = copy_check(file);
    if (code == EXIT_OK)
        code = copy_backup(bus, path, file);
    json_object_object_add(backup, "file", json_object_new_string(file));
    if (code == EXIT_OK && strcmp(file, "-") != 0 && !print_json(backup) && !options.quiet)
        printf("Written to %s.\n", file);
    json_object_put(backup);
    return code;
}

int verb_backups_import(sd_bus *bus, int argc, char **argv)
{
    (void)argc;
    return send_backup(bus, argv[1], true, NULL);
}

int verb_backups_verify(sd_bus *bus, int argc, char **argv)
{
    json_object *backup;
    sd_bus_message *m = NULL;
    char *job = NULL;
    (void)argc;
    int code = select_backup(bus, argv[1], false, &backup);
    if (code != EXIT_OK)
        return code;
    agent_start();
    int r = bus_new_call(bus, &m, dict_string(backup, "path"), "org.qdld1.Backup", "Verify");
    if (r >= 0)
        r = bus_append_no_options(m);
    code = bus_call_job(bus, r, m, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(bus, job);
    json_object_put(backup);
    free(job);
    return code;
}

int verb_backups_remove(sd_bus *bus, int argc, char **argv)
{
    json_object *backup;
    sd_bus_message *m = NULL;
    (void)argc;
    int code = select_backup(bus, argv[1], false, &backup);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(backup, "path");
    agent_start();
    int r = bus_new_call(bus, &m, path, "org.qdld1.Backup", "Remove");
    if (r >= 0)
        r = bus_append_allow_option(m);
    code = bus_call(bus, r, m, NULL);
    if (code == EXIT_OK && !print_json(backup) && !options.quiet)
        printf("Removed the %s backup %.12s.\n", dict_string(backup, "Kind"), path_id(path));
    json_object_put(backup);
    return code;
}
