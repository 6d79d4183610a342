/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What happened: a row for every event of the journal (service/log.h) that is about a modem or a job, the
 * last HISTORY_MAX of them, in jobs/history; Manager.GetHistory. Jobs linger for days, and the journal may be
 * gone or closed to a user. A row is a line of fields between tabs; it is appended as it comes, nothing is
 * synced, and a line that was cut off by a crash is left out when it is read.
 *
 * What a modem does in every turn of its loop (appeared, held) is told once, when it begins to loop.
 */

#include "service/log.h"
#include "service/manager.h"

enum { HISTORY_MAX = 1000 };

struct history;

/* Reads what was written by earlier runs. -ENOMEM. */
int history_load(struct manager *m);
struct history *history_free(struct history *h);

/* Of a job, with its modem if it has one; or of a modem. The text is cleaned and cut. */
void history_add_job(const struct job *j, enum log_event event, const char *text);
void history_add_modem(const struct modem *m, enum log_event event, const char *text);

/* Manager.GetHistory. */
int history_method_get(sd_bus_message *message, void *userdata, sd_bus_error *error);
