/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/status.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "service/job.h"
#include "service/modem.h"
#include "service/notify.h"

enum { ITEM_MAX = 256, MORE_MAX = 24, SUFFIX_MAX = 40, PERCENT = 100 };

struct line {
    char *out;
    size_t length;
    unsigned left_out;
};

static void add(struct line *line, const char *item)
{
    const char *separator = line->length > 0 ? "; " : "";
    size_t need = strlen(separator) + strlen(item);
    if (line->left_out > 0 || line->length + need + MORE_MAX + SUFFIX_MAX >= STATUS_MAX)
        line->left_out++;
    else
        line->length +=
            (size_t)snprintf(line->out + line->length, STATUS_MAX - line->length, "%s%s", separator, item);
}

static void add_job(struct line *line, const struct job *j)
{
    char item[ITEM_MAX];
    snprintf(item, sizeof(item), "%s%s%s: %s %d %%", job_title(j), j->modem ? " on " : "",
             j->modem ? modem_title(j->modem) : "", j->phase && *j->phase ? j->phase : j->state,
             (int)(j->progress.fraction * PERCENT));
    add(line, item);
}

void status_print(const struct manager *m, char out[STATUS_MAX])
{
    struct line line = {.out = out};
    if (m->stopping)
        add(&line, "Stopping");
    for (const struct job *j = m->jobs; j; j = j->next)
        if (!job_finished(j) && j->job_state != JOB_STANDBY && j->process)
            add_job(&line, j);
    for (const struct modem *i = m->modems; i; i = i->next)
        if (i->holder) {
            char item[ITEM_MAX];
            snprintf(item, sizeof(item), "holding %s", modem_title(i));
            add(&line, item);
        }
    if (line.length == 0)
        add(&line, "Idle");
    char more[MORE_MAX] = "";
    if (line.left_out > 0)
        snprintf(more, sizeof(more), "; %u more", line.left_out);
    snprintf(out + line.length, STATUS_MAX - line.length, "%s%s", more,
             m->restart_wanted && !m->stopping ? "; starts anew when idle" : "");
}

void status_tell(struct manager *m)
{
    char text[STATUS_MAX];
    status_print(m, text);
    if (m->status && strcmp(text, m->status) == 0)
        return;
    _cleanup_free_ char *line = text_printf("STATUS=%s", text);
    if (!line || !notify_send(line, -1))
        return;
    free(m->status);
    m->status = strdup(text);
}
