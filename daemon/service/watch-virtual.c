/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/text.h"
#include "link/link.h"
#include "transport/virtual.h"

enum { MODEMS_MAX = 64 };

struct modem {
    struct modem *next;
    struct watch_virtual *watch;
    sd_event_source *source;
    struct appearance appearance;
    bool plugged; /* its first line came */
};

struct watch_virtual {
    struct watch base;
    struct watch_handler handler;
    sd_event *event;
    sd_event_source *source;
    char *path;
    int fd;
    struct modem *modems;
};

static struct modem *modem_free(struct modem *m)
{
    if (!m)
        return NULL;
    for (struct modem **i = &m->watch->modems; *i; i = &(*i)->next)
        if (*i == m) {
            *i = m->next;
            break;
        }
    sd_event_source_disable_unref(m->source);
    if (m->plugged)
        m->watch->handler.gone(m->watch->handler.userdata, &m->appearance);
    close_fd(m->appearance.virtual_fd);
    free(m->appearance.key);
    free(m->appearance.port);
    free(m->appearance.kernel_name);
    free(m->appearance.product);
    free(m);
    return NULL;
}

static int replace(char **p, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*p);
    *p = copy;
    return 0;
}

static int on_plug_field(void *userdata, const char *key, const char *value)
{
    struct appearance *a = userdata;
    uint64_t number;
    if (!text_is_clean(value, strlen(value))) /* as no descriptor of a device comes here either */
        return -EBADMSG;
    if (strcmp(key, "PORT") == 0)
        return replace(&a->port, value);
    if (strcmp(key, "KERNEL") == 0)
        return replace(&a->kernel_name, value);
    if (strcmp(key, "PRODUCT") == 0)
        return replace(&a->product, value);
    if (strcmp(key, "VID") == 0 || strcmp(key, "PID") == 0) {
        if (text_parse_u64(value, 16, UINT16_MAX, &number) < 0)
            return -EBADMSG;
        *(key[0] == 'V' ? &a->vid : &a->pid) = (uint16_t)number;
        return 0;
    }
    if (strcmp(key, "INTERFACES") == 0) {
        if (text_parse_u64(value, 10, 32, &number) < 0)
            return -EBADMSG;
        a->interfaces = (unsigned)number;
        return 0;
    }
    /* MAX_PACKET is the transport's; what a later modem says besides does not concern us. */
    return 0;
}

/* The modem's first datagram: it plugs itself in. Refused when it is not text or names no candidate. */
static int read_plug(struct modem *m)
{
    char line[VIRTUAL_PLUG_MAX];
    ssize_t n = recv(m->appearance.virtual_fd, line, sizeof(line), MSG_DONTWAIT | MSG_TRUNC);
    if (n <= 0 || (size_t)n > sizeof(line))
        return -EBADMSG;
    struct appearance *a = &m->appearance;
    int r = link_parse_text(line, (size_t)n, on_plug_field, NULL, a, NULL);
    if (r < 0)
        return r;
    if (!a->port || !appearance_port_fits(a->port) || !a->kernel_name ||
        !appearance_is_candidate(a->vid, a->pid))
        return -EBADMSG;
    /* As a path in sysfs: the same for everything that comes to this place on its bus. A modem's USB 2 and
       SuperSpeed sides are two places of one port. */
    a->key = text_printf("virtual:%s", a->kernel_name);
    if (!a->key)
        return -ENOMEM;
    return a->product ? 0 : replace(&a->product, "");
}

/* A place holds one device: the end of an older appearance there may not have been seen yet. */
static void end_older(struct modem *m)
{
    for (struct modem *i = m->watch->modems; i; i = i->next)
        if (i != m && i->plugged && strcmp(i->appearance.key, m->appearance.key) == 0) {
            modem_free(i);
            return;
        }
}

static int on_modem(sd_event_source *source, int fd _unused_, uint32_t events, void *userdata)
{
    struct modem *m = userdata;
    if (!m->plugged && (events & EPOLLIN) && read_plug(m) == 0) {
        /* From now on only its end is of interest: the data are a worker's. */
        sd_event_source_set_io_events(source, EPOLLRDHUP);
        end_older(m);
        m->plugged = true;
        m->watch->handler.appeared(m->watch->handler.userdata, &m->appearance);
        return 0;
    }
    modem_free(m);
    return 0;
}

static int on_connect(sd_event_source *source _unused_, int fd, uint32_t events _unused_, void *userdata)
{
    struct watch_virtual *w = userdata;
    size_t n = 0;
    for (struct modem *i = w->modems; i; i = i->next)
        n++;
    _cleanup_close_ int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0 || n >= MODEMS_MAX)
        return 0;

    struct modem *m = calloc(1, sizeof(*m));
    if (!m)
        return 0;
    *m = (struct modem){.watch = w, .next = w->modems};
    m->appearance.virtual_fd = steal_fd(&connection);
    w->modems = m;
    if (sd_event_add_io(w->event, &m->source, m->appearance.virtual_fd, EPOLLIN | EPOLLRDHUP, on_modem, m) <
        0)
        modem_free(m);
    return 0;
}

static void watch_virtual_free(struct watch *base)
{
    struct watch_virtual *w = (struct watch_virtual *)base;
    while (w->modems)
        modem_free(w->modems);
    sd_event_source_disable_unref(w->source);
    close_fd(w->fd);
    if (w->path)
        unlink(w->path);
    free(w->path);
    sd_event_unref(w->event);
    free(w);
}

static const struct watch_ops virtual_ops = {.free = watch_virtual_free};

int watch_virtual_new(sd_event *event, const char *path, const struct watch_handler *handler,
                      struct watch **ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);

    struct watch_virtual *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    *w = (struct watch_virtual){
        .base.ops = &virtual_ops, .handler = *handler, .event = sd_event_ref(event), .fd = -1};
    int r = 0;
    w->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    if (w->fd < 0 || bind(w->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        r = -errno;
    else if (!(w->path = strdup(path)))
        r = -ENOMEM;
    else if (chmod(path, 0666) < 0 || listen(w->fd, MODEMS_MAX) < 0)
        r = -errno;
    else
        r = sd_event_add_io(event, &w->source, w->fd, EPOLLIN, on_connect, w);
    if (r < 0) {
        watch_virtual_free(&w->base);
        return r;
    }
    *ret = &w->base;
    return 0;
}
