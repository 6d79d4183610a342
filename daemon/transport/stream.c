/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A virtual modem behind a SOCK_SEQPACKET socket (transport/virtual.h). The socket's buffers play the part of
 * the transfers in flight; sends and receives never block, so that logs are taken in also while the modem
 * takes nothing.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/ops.h"
#include "transport/virtual.h"

_Static_assert((int)TRANSPORT_CHUNK_MAX <= (int)VIRTUAL_DATA_MAX, "a chunk fits one datagram");

enum { TYPE_SIZE = 1, DATAGRAM_MAX = TYPE_SIZE + VIRTUAL_DATA_MAX };

struct slot {
    size_t size;
    bool zlp; /* an empty data datagram follows */
    uint8_t datagram[DATAGRAM_MAX];
};

struct stream {
    struct transport base;
    int fd;
    unsigned first; /* the oldest of base.in_flight slots */
    struct slot slots[TRANSPORT_QUEUE_DEPTH];
    uint8_t received[DATAGRAM_MAX];
};

/* The errno of a socket as the transport's: the other end of an unplugged modem is simply not there any more.
 */
static int socket_error(int number)
{
    switch (number) {
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
        return -ENODEV;
    default:
        return -EIO;
    }
}

static void fail(int *which, struct transport *t, int error)
{
    if (error == -ENODEV)
        t->gone = true;
    else
        *which = error;
}

/* 1 sent, 0 no room, negative an error. */
static int send_datagram(struct stream *s, const void *data, size_t size)
{
    for (;;) {
        if (send(s->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 1;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR)
            return socket_error(errno);
    }
}

/* Takes in what is there, at most until the inbox is full. */
static void pull_in(struct stream *s)
{
    struct transport *t = &s->base;
    while (!t->gone && t->in_error == 0 && !inbox_is_full(&t->inbox)) {
        /* MSG_TRUNC: the true length, so that an oversized datagram is seen and not cut in silence. */
        ssize_t n = recv(s->fd, s->received, sizeof(s->received), MSG_DONTWAIT | MSG_TRUNC);
        /* ECONNRESET: the modem left without taking all that we sent. It is told once, ahead of what the
           modem said before, which is still there. */
        if (n < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            fail(&t->in_error, t, socket_error(errno));
            return;
        }
        if (n == 0) { /* every datagram has its type byte: an empty one is the end */
            t->gone = true;
            return;
        }
        size_t size = (size_t)n - TYPE_SIZE;
        if (size > VIRTUAL_DATA_MAX || s->received[0] != VIRTUAL_DATA) {
            t->in_error = -EIO;
            return;
        }
        bool boundary = size == 0 || size % t->max_packet != 0;
        int r = inbox_push(&t->inbox, s->received + TYPE_SIZE, size, boundary);
        if (r < 0)
            t->in_error = r;
    }
}

/* Sends what there is room for. */
static void push_out(struct stream *s)
{
    static const uint8_t zlp = VIRTUAL_DATA;
    while (s->base.in_flight > 0 && !s->base.gone && s->base.out_error == 0) {
        struct slot *slot = &s->slots[s->first];
        int r = 1;
        if (slot->size > 0)
            r = send_datagram(s, slot->datagram, slot->size);
        if (r > 0 && slot->size > 0) {
            slot->size = 0;
            s->base.untaken--;
        }
        if (r > 0 && slot->zlp)
            r = send_datagram(s, &zlp, sizeof(zlp));
        if (r < 0) {
            pull_in(s); /* its last words, before it counts as gone */
            fail(&s->base.out_error, &s->base, r);
        }
        if (r <= 0)
            return;
        s->first = (s->first + 1) % TRANSPORT_QUEUE_DEPTH;
        s->base.in_flight--;
    }
}

static size_t stream_poll_fds(struct transport *t, struct pollfd *fds)
{
    struct stream *s = (struct stream *)t;
    short events = 0;
    if (t->in_error == 0 && !inbox_is_full(&t->inbox))
        events |= POLLIN;
    if (t->in_flight > 0 && t->out_error == 0)
        events |= POLLOUT;
    fds[0] = (struct pollfd){.fd = s->fd, .events = events};
    return 1;
}

static void stream_process(struct transport *t, const struct pollfd *fds)
{
    struct stream *s = (struct stream *)t;
    bool reading = t->in_error == 0 && !inbox_is_full(&t->inbox);
    if (fds[0].revents & ~POLLOUT)
        pull_in(s);
    push_out(s);
    if (!reading) {
        /* Nothing is asked for now, but the unplug is told all the same; what it had still to say is not
         * waited for. */
        struct pollfd p = {.fd = s->fd};
        if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR))
            t->gone = true;
    }
}

static void append(struct stream *s, uint8_t type, const void *data, size_t size, bool zlp)
{
    struct slot *slot = &s->slots[(s->first + s->base.in_flight) % TRANSPORT_QUEUE_DEPTH];
    slot->datagram[0] = type;
    if (size > 0)
        memcpy(slot->datagram + TYPE_SIZE, data, size);
    slot->size = TYPE_SIZE + size;
    slot->zlp = zlp;
    s->base.in_flight++;
    s->base.untaken++;
    /* Behind one that found no room there is none either: poll() tells when. */
    if (s->base.in_flight == 1)
        push_out(s);
}

static int stream_submit(struct transport *t, const void *data, size_t size, unsigned flags)
{
    bool zlp = flags & TRANSPORT_ZLP && size > 0 && size % t->max_packet == 0;
    append((struct stream *)t, VIRTUAL_DATA, data, size, zlp);
    return t->gone ? -ENODEV : t->out_error;
}

/* What was not sent is dropped (as transfers are cancelled) and the request goes in its place. */
static int request(struct transport *t, uint8_t type)
{
    t->in_flight = t->untaken = 0;
    t->in_error = t->out_error = 0;
    append((struct stream *)t, type, NULL, 0, false);
    return t->gone ? -ENODEV : t->out_error;
}

static int stream_clear_halt(struct transport *t)
{
    return request(t, VIRTUAL_CLEAR_HALT);
}

static int stream_reset(struct transport *t)
{
    return request(t, VIRTUAL_RESET);
}

static void stream_free(struct transport *t)
{
    struct stream *s = (struct stream *)t;
    close_fd(s->fd);
    free(s);
}

static const struct transport_ops stream_ops = {
    .poll_fds = stream_poll_fds,
    .process = stream_process,
    .submit = stream_submit,
    .clear_halt = stream_clear_halt,
    .reset = stream_reset,
    .free = stream_free,
};

int stream_open(int fd, struct transport **ret, struct error *e)
{
    _cleanup_close_ int owned = fd;
    int type = 0, domain = 0;
    socklen_t type_size = sizeof(type), domain_size = sizeof(domain);
    if (getsockopt(owned, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 ||
        getsockopt(owned, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) < 0)
        return error_set(e, ERROR_FAILED, "the virtual modem's socket cannot be looked at: %s",
                         strerror(errno));
    if (domain != AF_UNIX || type != SOCK_SEQPACKET)
        return error_set(
            e, ERROR_INVALID_ARGS,
            "the virtual modem's socket should be AF_UNIX SOCK_SEQPACKET, but has family %d and type %d",
            domain, type);

    /* What lies in the socket stands for transfers in flight. On USB all but one are when one has ended and
     * its sender wakes up; of an AF_UNIX socket the kernel wakes it only when a quarter is left. */
    int buffer = 4 * TRANSPORT_QUEUE_DEPTH * TRANSPORT_CHUNK_MAX;
    if (setsockopt(owned, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0)
        return error_set(e, ERROR_FAILED, "the virtual modem's socket has no send buffer: %s",
                         strerror(errno));

    struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(e, ERROR_FAILED, "no memory for the virtual modem");
    s->fd = steal_fd(&owned);
    s->base.ops = &stream_ops;
    s->base.max_packet = VIRTUAL_MAX_PACKET;
    s->base.waker_fd = -1;
    append(s, VIRTUAL_POLL, NULL, 0, false);
    if (s->base.gone || s->base.out_error < 0) {
        stream_free(&s->base);
        return error_set(e, ERROR_MODEM_GONE, "the virtual modem was unplugged before it could be opened");
    }
    *ret = &s->base;
    return 0;
}
