/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What of a modem or a job is news to the person at the desktop. Compares two dictionaries of the same object
 * (ListModems, ListJobs), knows neither bus.
 */

#include <json-c/json.h>
#include <stdbool.h>

struct news {
    char summary[128], body[1024];
    bool urgent;     /* somebody has to do something */
    bool can_rescue; /* a package is known for it, and nothing is at work: Modem.Rescue may be offered */
};

/* before: NULL for one that was not there when we last looked. False: nothing that anybody has to hear of. */
bool news_of_modem(json_object *before, json_object *now, struct news *out);

/*
 * modem: the name of what it works on, for people. before: NULL for a new job. Jobs that change nothing are
 * news only if nobody but a policy asked for them and they failed.
 */
bool news_of_job(json_object *before, json_object *now, const char *modem, struct news *out);

/* "RM502QGL at 1-2", "device at 1-2". */
void news_name(json_object *modem, char *out, size_t size);
