/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "bus.h"
#include "output.h"

/* What a modem is doing, in two words. */
static const char *activity(json_object *m)
{
    if (strcmp(dict_string(m, "Job"), "/") != 0)
        return "busy";
    if (dict_bool(m, "Held"))
        return "held";
    if (strcmp(dict_string(m, "Interrupted"), "/") != 0)
        return "interrupted";
    if (dict_bool(m, "Looping"))
        return "looping";
    return "";
}

int verb_list(sd_bus *bus, int argc, char **argv)
{
    static const char *const titles[] = {"PORT", "USB", "MODE", "MODEL", "SERIAL", "FIRMWARE", "STATE", NULL};
    json_object *list;
    (void)argc;
    (void)argv;
    int code = bus_list(bus, "ListModems", &list);
    if (code != EXIT_OK)
        return code;
    size_t n = json_object_array_length(list);
    if (!print_json(list) && n == 0 && !options.quiet) {
        printf("No modem is there, and none is remembered.\n");
    } else if (options.json == JSON_OFF && n > 0) {
        struct table t;
        table_init(&t, titles);
        for (size_t i = 0; i < n; i++) {
            json_object *m = json_object_array_get_idx(list, i);
            const char *model = dict_string(m, "Model");
            table_cell(&t, dict_string(m, "Port"));
            table_cell(&t, dict_string(m, "KernelName"));
            table_cell(&t, dict_string(m, "Mode"));
            /* A hint is marked: it is what this port held before, not what was proven to be there now. */
            table_cellf(&t, "%s%s", model, *model && !dict_bool(m, "Confirmed") ? "?" : "");
            table_cell(&t, dict_string(m, "ChipSerial"));
            table_cell(&t, dict_string(m, "FirmwareVersion"));
            table_cell(&t, activity(m));
        }
        table_print(&t);
    }
    json_object_put(list);
    return EXIT_OK;
}
