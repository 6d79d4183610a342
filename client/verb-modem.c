/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The single steps on a modem: identify, enter-edl and reset. */
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "select.h"

static int append_reset_options(sd_bus_message *m)
{
    if (options.queue)
        return sd_bus_message_append(m, "a{sv}", 2, "mode", "s", options.mode ? options.mode : "normal",
                                     "queue", "b", 1);
    return sd_bus_message_append(m, "a{sv}", 1, "mode", "s", options.mode ? options.mode : "normal");
}

static int run_on_modem(sd_bus *bus, int argc, char **argv, const char *member,
                        int (*append)(sd_bus_message *m))
{
    json_object *modem;
    sd_bus_message *m = NULL;
    char *job = NULL;
    int code = select_modem(bus, argc > 1 ? argv[1] : NULL, MODEM_WORK, &modem);
    if (code != EXIT_OK)
        return code;
    agent_start();
    int r = bus_new_call(bus, &m, dict_string(modem, "path"), "org.qdld1.Modem", member);
    if (r >= 0)
        r = append(m);
    code = bus_call_job(bus, r, m, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(bus, job);
    json_object_put(modem);
    free(job);
    return code;
}

int verb_identify(sd_bus *bus, int argc, char **argv)
{
    return run_on_modem(bus, argc, argv, "Identify", bus_append_queue_option);
}

int verb_enter_edl(sd_bus *bus, int argc, char **argv)
{
    return run_on_modem(bus, argc, argv, "EnterEdl", bus_append_queue_option);
}

int verb_reset(sd_bus *bus, int argc, char **argv)
{
    return run_on_modem(bus, argc, argv, "Reset", append_reset_options);
}
