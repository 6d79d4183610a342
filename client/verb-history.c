/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "bus.h"
#include "output.h"
#include "select.h"

/* Root sees everybody's jobs (org.qdld1.manage); others see their own and what the service did. */
static int ask_rows(sd_bus *bus, const char *modem, json_object **ret)
{
    sd_bus_message *m = NULL, *reply = NULL;
    int all = geteuid() == 0;
    int r = bus_new_call(bus, &m, "/org/qdld1", "org.qdld1.Manager", "GetHistory");
    if (r >= 0 && modem)
        r = sd_bus_message_append(m, "a{sv}", 2, "all", "b", all, "modem", "o", modem);
    else if (r >= 0)
        r = sd_bus_message_append(m, "a{sv}", 1, "all", "b", all);
    int code = bus_call(bus, r, m, &reply);
    if (code != EXIT_OK)
        return code;
    json_object *rows = json_object_new_array(), *row;
    if (sd_bus_message_enter_container(reply, 'a', "a{sv}") >= 0)
        while (sd_bus_message_at_end(reply, 0) == 0 && (row = bus_read_dict(reply)))
            json_object_array_add(rows, row);
    sd_bus_message_unref(reply);
    *ret = rows;
    return EXIT_OK;
}

static void print_rows(json_object *rows)
{
    static const char *const titles[] = {"TIME", "PORT", "SERIAL", "EVENT", "JOB", "TEXT", NULL};
    struct table t;
    table_init(&t, titles);
    for (size_t i = 0; i < json_object_array_length(rows); i++) {
        json_object *row = json_object_array_get_idx(rows, i);
        char when[FORMAT_SIZE];
        format_time(dict_u64(row, "time"), when);
        table_cell(&t, when);
        table_cell(&t, dict_string(row, "port"));
        table_cell(&t, dict_string(row, "serial"));
        table_cell(&t, dict_string(row, "event"));
        if (dict_u64(row, "job"))
            table_cellf(&t, "%llu (%s)", (unsigned long long)dict_u64(row, "job"), dict_string(row, "kind"));
        else
            table_cell(&t, "");
        table_cell(&t, dict_string(row, "text"));
    }
    table_print(&t);
}

int verb_history(sd_bus *bus, int argc, char **argv)
{
    json_object *modem = NULL, *rows;
    int code = argc > 1 ? select_modem(bus, argv[1], MODEM_LOOK, &modem) : EXIT_OK;
    if (code == EXIT_OK)
        code = ask_rows(bus, modem ? dict_string(modem, "path") : NULL, &rows);
    json_object_put(modem);
    if (code != EXIT_OK)
        return code;
    if (!print_json(rows)) {
        if (json_object_array_length(rows) > 0)
            print_rows(rows);
        else if (!options.quiet)
            printf("Nothing has happened yet.\n");
    }
    json_object_put(rows);
    return EXIT_OK;
}
