/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Following a job to its end: a live bar on a terminal, plain lines elsewhere, JSON lines with --json (the
 * last is the finished job). Ctrl-C detaches and says how to follow and cancel; a second one within 2 s asks
 * to cancel, and a third leaves at once. The job itself never depends on this.
 */

#include <json-c/json.h>
#include "qdlctl.h"

/*
 * Follows until the job is finished (or --timeout). Prints its result, unless result_text is false (a step
 * before the real one). Returns the exit code of the result; *ret_job (may be NULL) is the job's last state,
 * to be put by the caller.
 */
int follow_job(sd_bus *bus, const char *path, bool result_text, json_object **ret_job);
/* After a call that started a job: follows it, or with --no-wait prints its number (with --json the job). */
int follow_or_leave(sd_bus *bus, const char *path);
