/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/log-about.h"

#include <inttypes.h>

#include "service/history.h"

enum { NUMBER_SIZE = 24 };

static void add(struct log_field *fields, size_t *n, const char *key, const char *value)
{
    if (*n < LOG_FIELDS_MAX - 1 && value && *value)
        fields[(*n)++] = (struct log_field){key, value};
}

static void add_modem(struct log_field *fields, size_t *n, const struct modem *m)
{
    add(fields, n, LOG_FIELD_PORT, m->port);
    add(fields, n, LOG_FIELD_SERIAL, m->chip_serial);
    add(fields, n, LOG_FIELD_MODE, m->mode);
}

void log_about_job(const struct job *j, enum log_event event, int level, const char *text)
{
    struct log_field fields[LOG_FIELDS_MAX] = {{0}};
    char number[NUMBER_SIZE], uid[NUMBER_SIZE];
    size_t n = 0;
    snprintf(number, sizeof(number), "%" PRIu64, j->id);
    snprintf(uid, sizeof(uid), "%u", j->owner_uid);
    add(fields, &n, LOG_FIELD_JOB, number);
    add(fields, &n, LOG_FIELD_KIND, job_kind_name(j->job_kind));
    add(fields, &n, LOG_FIELD_UID, uid);
    add(fields, &n, LOG_FIELD_RESULT, j->result);
    add(fields, &n, LOG_FIELD_ERROR, j->error_name);
    add(fields, &n, LOG_FIELD_BACKUP, j->backup_id);
    add(fields, &n, LOG_FIELD_FIRMWARE, j->firmware_id);
    if (j->modem)
        add_modem(fields, &n, j->modem);
    log_event(event, level, fields, "Job %s %s", job_title(j), text);
    history_add_job(j, event, text);
}

void log_about_modem(const struct modem *m, enum log_event event, int level, const char *text)
{
    struct log_field fields[LOG_FIELDS_MAX] = {{0}};
    size_t n = 0;
    add_modem(fields, &n, m);
    log_event(event, level, fields, "%s", text);
    history_add_modem(m, event, text);
}

void log_about_backup(const struct backup *b, enum log_event event, int level, const char *text)
{
    struct log_field fields[LOG_FIELDS_MAX] = {{0}};
    size_t n = 0;
    add(fields, &n, LOG_FIELD_BACKUP, b->id);
    add(fields, &n, LOG_FIELD_SERIAL, b->chip_serial);
    log_event(event, level, fields, "%s", text);
}
