/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/mouth.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/text.h"

struct mouth {
    int fd;
    sd_event_source *source;
    mouth_handler handler;
    void *userdata;
    size_t told; /* bytes of the process so far */
    char line[MOUTH_LINE_MAX];
    size_t size;
};

static void tell_line(struct mouth *m)
{
    char clean[4 * MOUTH_LINE_MAX + 1]; /* \xNN for every byte */
    if (m->size > 0 && text_clean(m->line, m->size, clean, sizeof(clean)) > 0)
        m->handler(m->userdata, clean);
    m->size = 0;
}

static void shut(struct mouth *m)
{
    tell_line(m);
    m->source = sd_event_source_disable_unref(m->source);
    m->fd = close_fd(m->fd);
}

static void take(struct mouth *m, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\n' || m->size == sizeof(m->line))
            tell_line(m);
        if (data[i] != '\n')
            m->line[m->size++] = data[i];
    }
}

/* One read; false when there is nothing (now, or any more). */
static bool listen_once(struct mouth *m)
{
    char data[4096];
    ssize_t n = m->fd < 0 ? 0 : read(m->fd, data, MIN_OF(sizeof(data), MOUTH_BYTES_MAX - m->told));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        shut(m);
        return false;
    }
    m->told += (size_t)n;
    take(m, data, (size_t)n);
    if (m->told < MOUTH_BYTES_MAX)
        return true;
    shut(m);
    m->handler(m->userdata, "(it says more, which is not kept)");
    return false;
}

static int on_words(sd_event_source *source _unused_, int fd _unused_, uint32_t events _unused_,
                    void *userdata)
{
    listen_once(userdata);
    return 0;
}

int mouth_new(sd_event *event, mouth_handler handler, void *userdata, struct mouth **ret, int *ret_end)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return -errno;
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    struct mouth *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->handler = handler;
    m->userdata = userdata;
    m->fd = steal_fd(&ours);
    int r = sd_event_add_io(event, &m->source, m->fd, EPOLLIN, on_words, m);
    /* What it has to do comes before what it has to say. */
    if (r >= 0)
        r = sd_event_source_set_priority(m->source, SD_EVENT_PRIORITY_IDLE);
    if (r < 0) {
        mouth_free(m);
        return r;
    }
    *ret = m;
    *ret_end = steal_fd(&theirs);
    return 0;
}

void mouth_finish(struct mouth *m)
{
    while (listen_once(m))
        ;
    tell_line(m);
}

struct mouth *mouth_free(struct mouth *m)
{
    if (!m)
        return NULL;
    sd_event_source_disable_unref(m->source);
    close_fd(m->fd);
    free(m);
    return NULL;
}
