/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "link/link.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"

void link_message_reset(struct link_message *m)
{
    for (size_t i = 0; i < m->n_fields; i++)
        free(m->fields[i].value);
    for (size_t i = 0; i < m->n_fds; i++)
        close_fd(m->fds[i]);
    m->size = m->n_fields = m->n_fds = 0;
}

void link_message_done(struct link_message *m)
{
    link_message_reset(m);
}

int link_add(struct link_message *m, const char *key, const char *value)
{
    _cleanup_free_ char *escaped = text_escape(value, strlen(value));
    if (!escaped)
        return -ENOMEM;
    if (m->n_fields == LINK_FIELDS_MAX)
        return -E2BIG;
    size_t key_size = strlen(key), value_size = strlen(escaped);
    if (m->size + key_size + value_size + 2 > LINK_MESSAGE_MAX)
        return -EMSGSIZE;
    char *p = m->buffer + m->size;
    memcpy(p, key, key_size);
    p[key_size] = '=';
    memcpy(p + key_size + 1, escaped, value_size);
    p[key_size + 1 + value_size] = '\n';
    m->size += key_size + value_size + 2;
    /* Only counted: the fields of a message that is being built are never looked up. */
    m->fields[m->n_fields++] = (struct link_field){0};
    return 0;
}

int link_addf(struct link_message *m, const char *key, const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        return -ENOMEM;
    _cleanup_free_ char *owned = text;
    return link_add(m, key, owned);
}

int link_add_fd(struct link_message *m, int fd)
{
    if (m->n_fds == LINK_FDS_MAX) {
        close_fd(fd);
        return -E2BIG;
    }
    m->fds[m->n_fds++] = fd;
    return 0;
}

int link_send(int socket, struct link_message *m)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * LINK_FDS_MAX)];
    } control;
    struct iovec iov = {.iov_base = m->buffer, .iov_len = m->size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (m->n_fds > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * m->n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * m->n_fds);
        memcpy(CMSG_DATA(c), m->fds, sizeof(int) * m->n_fds);
    }

    ssize_t n;
    do
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    int r = n < 0 ? -errno : 0;
    if (r == -ECONNRESET)
        r = -EPIPE;
    link_message_reset(m);
    return r;
}

static bool key_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

static bool key_allowed(const char *key, const char *const *allowed)
{
    for (; *allowed; allowed++) {
        size_t n = strlen(*allowed);
        bool prefix = (*allowed)[n - 1] == '.';
        if (prefix ? strncmp(key, *allowed, n) == 0 && key[n] : strcmp(key, *allowed) == 0)
            return true;
    }
    return false;
}

/* Cuts "KEY=value" at p (NUL-terminated, `size` bytes) in two; the value comes back unescaped and malloc'ed.
 */
static int split_line(char *p, size_t size, const char **ret_key, char **ret_value)
{
    char *equals = memchr(p, '=', size);
    if (!equals || equals == p || !text_is_clean(p, size))
        return -EBADMSG;
    for (char *c = p; c < equals; c++)
        if (!key_char(*c))
            return -EBADMSG;
    *equals = '\0';
    int r = text_unescape(equals + 1, ret_value);
    if (r < 0)
        return r == -ENOMEM ? r : -EBADMSG;
    *ret_key = p;
    return 0;
}

static int parse_fields(struct link_message *m, const char *const *allowed)
{
    if (m->size == 0 || m->buffer[m->size - 1] != '\n')
        return -EBADMSG;
    for (char *p = m->buffer, *end = m->buffer + m->size; p < end;) {
        char *newline = memchr(p, '\n', (size_t)(end - p));
        *newline = '\0';
        if (m->n_fields == LINK_FIELDS_MAX)
            return -EBADMSG;
        struct link_field *f = &m->fields[m->n_fields];
        int r = split_line(p, (size_t)(newline - p), &f->key, &f->value);
        if (r < 0)
            return r;
        m->n_fields++;
        if (!key_allowed(f->key, allowed))
            return -EBADMSG;
        p = newline + 1;
    }
    return 0;
}

int link_receive(int socket, int flags, const char *const *allowed, struct link_message *m)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * LINK_FDS_MAX)];
    } control;

    link_message_reset(m);
    struct iovec iov = {.iov_base = m->buffer, .iov_len = LINK_MESSAGE_MAX};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    /* ECONNRESET comes once, before what is queued, if the other side ended without reading all of ours: its
       last words are still there. */
    ssize_t n;
    do
        n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0)
        return -errno;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        m->n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(m->fds, CMSG_DATA(c), m->n_fds * sizeof(int));
    }
    if (n == 0 && m->n_fds == 0)
        return 0;
    m->size = (size_t)n;
    m->buffer[m->size] = '\0';

    int r = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EBADMSG : parse_fields(m, allowed);
    if (r < 0) {
        link_message_reset(m);
        return r;
    }
    return 1;
}

const char *link_get(const struct link_message *m, const char *key)
{
    for (size_t i = 0; i < m->n_fields; i++)
        if (strcmp(m->fields[i].key, key) == 0)
            return m->fields[i].value;
    return NULL;
}

int link_steal_fd(struct link_message *m)
{
    for (size_t i = 0; i < m->n_fds; i++)
        if (m->fds[i] >= 0)
            return steal_fd(&m->fds[i]);
    return -1;
}

int link_parse_text(const char *text, size_t size,
                    int (*on_field)(void *userdata, const char *key, const char *value),
                    int (*on_record)(void *userdata), void *userdata, size_t *ret_line)
{
    bool open = false;
    size_t line = 0;
    for (const char *p = text, *end = text + size; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t n = newline ? (size_t)(newline - p) : (size_t)(end - p);
        int r = 0;
        line++;
        if (n == 0) {
            if (open && on_record)
                r = on_record(userdata);
            open = false;
        } else {
            _cleanup_free_ char *copy = strndup(p, n), *value = NULL;
            const char *key = NULL;
            r = copy && strlen(copy) == n ? split_line(copy, n, &key, &value) : -EBADMSG;
            if (r == 0)
                r = on_field(userdata, key, value);
            open = true;
        }
        if (r < 0) {
            if (ret_line)
                *ret_line = line;
            return r;
        }
        p += n + (newline ? 1 : 0);
    }
    return open && on_record ? on_record(userdata) : 0;
}
