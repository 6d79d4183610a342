/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the person with the brick is told, in one place: what to do now, and what never. */

#include <json-c/json.h>
#include <stdbool.h>

/* Nothing is there: how to make 9008 appear. */
void words_wait(const char *where);
/* It appeared. bridged: after it was asked for the bridge. */
void words_seen(json_object *modem, bool bridged);
/* What a job that failed asks for before the next try; false: no repetition helps. */
bool words_again(json_object *job);
/* Is that the bridge? */
bool words_want_bridge(json_object *job);
/* Behind everything: what may be the matter with a modem that boots. */
void words_end(json_object *job);
