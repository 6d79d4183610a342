/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "output.h"
#include "plan.h"

static int show_plan(sd_bus *bus, json_object *modem, const char *firmware)
{
    json_object *plan;
    int code = plan_get(bus, dict_string(modem, "path"), firmware, &plan);
    if (code != EXIT_OK)
        return code;
    if (!print_json(plan))
        plan_show(plan);
    json_object_put(plan);
    return EXIT_OK;
}

int verb_plan(sd_bus *bus, int argc, char **argv)
{
    json_object *modem;
    char *firmware = NULL;
    int code = plan_arguments(bus, argc, argv, MODEM_LOOK, &modem, &firmware);
    if (code != EXIT_OK)
        return code;
    code = show_plan(bus, modem, firmware);
    json_object_put(modem);
    free(firmware);
    return code;
}

/* Asked only where somebody can answer: a script has said what it wants by calling us. */
static int confirm(sd_bus *bus, json_object *modem, const char *firmware)
{
    json_object *plan;
    if (options.yes || options.json != JSON_OFF || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return EXIT_OK;
    int code = plan_get(bus, dict_string(modem, "path"), firmware, &plan);
    if (code != EXIT_OK)
        return code;
    print_field("Modem",
                *dict_string(modem, "Model") ? dict_string(modem, "Model") : dict_string(modem, "Product"));
    print_field("Chip serial", dict_string(modem, "ChipSerial"));
    print_field("Port", dict_string(modem, "Port"));
    plan_summary(plan);
    json_object_put(plan);
    if (ask("Flash it?"))
        return EXIT_OK;
    fprintf(stderr, "qdlctl: nothing was done\n");
    return EXIT_OTHER;
}

static int start(sd_bus *bus, const char *modem, const char *firmware)
{
    sd_bus_message *m = NULL;
    char *job = NULL;
    agent_start();
    int r = bus_new_call(bus, &m, modem, "org.qdld1.Modem", "Flash");
    if (r >= 0)
        r = sd_bus_message_append(m, "o", firmware);
    if (r >= 0)
        r = bus_append_flash_options(m);
    int code = bus_call_job(bus, r, m, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(bus, job);
    free(job);
    return code;
}

int verb_flash(sd_bus *bus, int argc, char **argv)
{
    json_object *modem;
    char *firmware = NULL;
    int code = plan_arguments(bus, argc, argv, MODEM_WORK, &modem, &firmware);
    if (code != EXIT_OK)
        return code;
    if (options.dry_run) {
        code = show_plan(bus, modem, firmware);
    } else {
        code = confirm(bus, modem, firmware);
        if (code == EXIT_OK)
            code = start(bus, dict_string(modem, "path"), firmware);
    }
    json_object_put(modem);
    free(firmware);
    return code;
}
