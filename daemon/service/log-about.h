/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Events (service/log.h) with the fields of what they are about. */

#include "service/backup.h"
#include "service/job.h"
#include "service/log.h"
#include "service/modem.h"

/* The text begins with the job's title by itself. */
void log_about_job(const struct job *j, enum log_event event, int level, const char *text);
/* The text is a whole sentence. */
void log_about_modem(const struct modem *m, enum log_event event, int level, const char *text);
void log_about_backup(const struct backup *b, enum log_event event, int level, const char *text);
