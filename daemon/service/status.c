/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/status.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/text.h"
#include "service/job.h"
#include "service/modem.h"

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
        if (!job_finished(j) && j->process)
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

/* A path, or with '@' a name in the abstract namespace. */
static bool send_now(const char *path, const char *line)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if ((*path != '/' && *path != '@') || length >= sizeof(address.sun_path))
        return false;
    memcpy(address.sun_path, path, length);
    if (*path == '@')
        address.sun_path[0] = '\0';
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && sendto(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) >= 0;
}

void status_tell(struct manager *m)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path)
        return;
    char text[STATUS_MAX];
    status_print(m, text);
    if (m->status && strcmp(text, m->status) == 0)
        return;
    _cleanup_free_ char *line = text_printf("STATUS=%s", text);
    if (!line || !send_now(path, line))
        return;
    free(m->status);
    m->status = strdup(text);
}
