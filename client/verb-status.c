/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "bus.h"
#include "loop.h"
#include "output.h"
#include "progress.h"
#include "report.h"
#include "select.h"

static const struct {
    const char *mode, *text;
} modes[] = {
    {"normal", "normal (running)"},
    {"sahara", "emergency download, boot ROM (Sahara)"},
    {"firehose", "emergency download, programmer running (Firehose)"},
    {"crash-dump", "crash dump"},
    {"fastboot", "fastboot"},
    {"absent", "not there"},
    {"unknown", "emergency download, not identified yet"},
};

static void print_job(sd_bus *bus, const char *name, const char *path)
{
    json_object *job;
    if (strcmp(path, "/") == 0 || !*path || bus_get_all(bus, path, "org.qdld1.Job", &job) != EXIT_OK)
        return;
    char text[256];
    bool over = strcmp(dict_string(job, "State"), "finished") == 0;
    if (over)
        snprintf(text, sizeof(text), "%s (%s, %s): the same command continues it", path_id(path),
                 dict_string(job, "Kind"), dict_string(job, "Result"));
    else
        snprintf(text, sizeof(text), "%s (%s, %s%s%s, %.0f %%)%s", path_id(path), dict_string(job, "Kind"),
                 progress_phase(job), *dict_string(job, "Detail") ? " " : "", dict_string(job, "Detail"),
                 dict_double(job, "Progress") * 100, dict_bool(job, "SafeToUnplug") ? "" : ", do not unplug");
    print_field(name, text);
    json_object_put(job);
}

/* A raw backup of this unit that has its EFS2: the second way. */
static const char *find_raw_backup(json_object *list, const char *serial)
{
    for (size_t i = 0; *serial && i < json_object_array_length(list); i++) {
        json_object *b = json_object_array_get_idx(list, i);
        if (strcmp(dict_string(b, "ChipSerial"), serial) == 0 &&
            strcmp(dict_string(b, "State"), "complete") == 0 && strcmp(dict_string(b, "Kind"), "xqcn") != 0)
            return path_id(dict_string(b, "path"));
    }
    return NULL;
}

/* How to leave factory test mode: what is missing, what of it is in the store, which command. */
static void print_way_out(sd_bus *bus, json_object *m)
{
    char command[160];
    bool runs = strcmp(dict_string(m, "Mode"), "normal") == 0;
    const char *fits = dict_string(m, "CalibrationBackup"), *port = dict_string(m, "KernelName");
    print_field("Calibration", "missing: it is in factory test mode (+CFUN: 5), and no network takes it");
    if (*fits && strcmp(fits, "/") != 0) {
        snprintf(command, sizeof(command), "qdlctl restore %s %.12s", port, path_id(fits));
        print_field("To leave it", command);
        print_field("That is", "this unit's own calibration, saved before, lies in the store");
        return;
    }
    json_object *list = NULL;
    const char *raw = NULL;
    if (bus_list(bus, "ListBackups", &list) == EXIT_OK)
        raw = find_raw_backup(list, dict_string(m, "ChipSerial"));
    if (raw)
        snprintf(command, sizeof(command), "qdlctl restore %s %.12s --partitions=EFS2", port, raw);
    else
        snprintf(command, sizeof(command), "qdlctl restore %s FILE.xqcn", port);
    print_field("To leave it", command);
    if (raw && !runs) { /* else the restore itself brings it back */
        snprintf(command, sizeof(command), "qdlctl reset %s", port);
        print_field("and then", command);
    }
    print_field(
        "", raw ? "a copy of this unit's EFS2 lies in the store"
                : "nothing of this unit is in the store; FILE is this unit's own, another's is not yours");
    json_object_put(list);
}

/* "The same command" is nobody's where a policy has given up. */
static void print_help(json_object *m)
{
    char text[256];
    bool rescue = strcmp(dict_string(m, "Policy"), "rescue") == 0;
    const char *port = *dict_string(m, "KernelName") ? dict_string(m, "KernelName") : dict_string(m, "Port");
    if (strncmp(dict_string(m, "Note"), "is left to a human", strlen("is left to a human")) != 0 ||
        strcmp(dict_string(m, "RecoveryHint"), "retry") != 0) {
        print_field("What helps", report_help(m));
        return;
    }
    snprintf(text, sizeof(text), "qdlctl %s %s does it once more; what failed is not counted any more then",
             rescue ? "rescue" : "catch", port);
    print_field("What helps", text);
}

static void print_modem(sd_bus *bus, json_object *m)
{
    const char *mode = dict_string(m, "Mode"), *model = dict_string(m, "Model");
    char usb[64] = "", when[FORMAT_SIZE], loop[LOOP_TEXT_SIZE];
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(modes[i].mode, mode) == 0)
            mode = modes[i].text;
    if (dict_u64(m, "VendorId"))
        snprintf(usb, sizeof(usb), "%04x:%04x at %s", (unsigned)dict_u64(m, "VendorId"),
                 (unsigned)dict_u64(m, "ProductId"), dict_string(m, "KernelName"));

    printf("%s\n", *model ? model : *dict_string(m, "Product") ? dict_string(m, "Product") : "modem");
    print_field("Mode", mode);
    print_field("Port", dict_string(m, "Port"));
    print_field("USB", usb);
    print_field("Product", dict_string(m, "Product"));
    print_field("Firmware", dict_string(m, "FirmwareVersion"));
    if (*dict_string(m, "FirmwareVersion") || *model)
        print_field("Known by",
                    dict_bool(m, "Confirmed") ? "this very unit" : "this port (a hint, not confirmed)");
    print_field("IMEI", dict_string(m, "Imei"));
    print_field("Chip serial", dict_string(m, "ChipSerial"));
    print_field("Chip", dict_string(m, "Chip"));
    print_field("Hardware id", dict_string(m, "HardwareId"));
    print_field("PK hash", dict_string(m, "PkHash"));
    print_field("Storage", dict_string(m, "Storage"));
    loop_text(m, loop);
    print_field("Looping", loop);
    if (dict_bool(m, "Held"))
        print_field("Held", "yes, kept in emergency download mode");
    print_job(bus, "Job", dict_string(m, "Job"));
    print_job(bus, "Interrupted", dict_string(m, "Interrupted"));
    format_time(dict_u64(m, "LastBackupTime"), when);
    print_field("Last backup", when);
    if (dict_bool(m, "FactoryTestMode"))
        print_way_out(bus, m);
    print_field("Policy", dict_string(m, "Policy"));
    if (*dict_string(m, "Note")) {
        char note[512];
        snprintf(note, sizeof(note), "it %s", dict_string(m, "Note"));
        print_field("Unasked", note);
    }
    print_field("Last error", dict_string(m, "LastError"));
    print_help(m);
}

int verb_status(sd_bus *bus, int argc, char **argv)
{
    json_object *list;
    int code;
    if (argc > 1) {
        json_object *modem;
        code = select_modem(bus, argv[1], MODEM_LOOK, &modem);
        if (code != EXIT_OK)
            return code;
        if (!print_json(modem))
            print_modem(bus, modem);
        json_object_put(modem);
        return EXIT_OK;
    }
    code = bus_list(bus, "ListModems", &list);
    if (code != EXIT_OK)
        return code;
    if (!print_json(list)) {
        size_t n = json_object_array_length(list);
        for (size_t i = 0; i < n; i++) {
            if (i > 0)
                printf("\n");
            print_modem(bus, json_object_array_get_idx(list, i));
        }
        if (n == 0)
            printf("No modem is there, and none is remembered.\n");
    }
    json_object_put(list);
    return EXIT_OK;
}
