/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a modem's loop looks like to people. */

#include <json-c/json.h>
#include "qdlctl.h"

enum { LOOP_TEXT_SIZE = 192 };

/* "every 14.0 s, window 9.2 s, 7 seen, next in 3 s"; "" if it does not loop. */
void loop_text(json_object *modem, char out[LOOP_TEXT_SIZE]);
