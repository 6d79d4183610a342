/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a flash would do, asked for and shown; and FIRMWARE on the command line: in the library, or imported
 * on the way. */

#include <json-c/json.h>
#include "qdlctl.h"
#include "select.h"

/* An array of dictionaries, the first is the summary. An exit code. */
int plan_get(sd_bus *bus, const char *modem, const char *firmware, json_object **ret);
void plan_show(json_object *plan);
/* Its end: a row a partition (plan-table.c). */
void plan_print_table(json_object *plan);
/* One paragraph for the question before a flash. */
void plan_summary(json_object *plan);

/*
 * FIRMWARE on the command line: with a slash it is a path, otherwise the library goes first; a file is
 * imported on the way. What is both is refused: the file may have another content. *ret: an object path,
 * malloc'ed.
 */
int plan_find_firmware(sd_bus *bus, const char *verb, const char *selector, char **ret);
/* [MODEM] FIRMWARE of plan and flash: *ret_modem is the modem's dictionary, *ret_firmware an object path
 * (malloc'ed). */
int plan_arguments(sd_bus *bus, int argc, char **argv, enum modem_use use, json_object **ret_modem,
                   char **ret_firmware);
