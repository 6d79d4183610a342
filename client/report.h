/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The end of a job in words for people, and as an exit code. Knows the job's JSON dictionary only. */

#include <json-c/json.h>
#include "qdlctl.h"

int report_exit_code(json_object *job);
/* "the modem has not come back" for a Job.Result that is no plain word; else the result itself. */
const char *report_words(const char *result);
/* What Job.RecoveryHint means, a sentence; "". */
const char *report_help(json_object *job);
/*
 * What was done (stdout, not with --quiet), or what went wrong and what helps (stderr). Nothing with --json:
 * there the job's last line says it.
 */
void report_result(json_object *job);
