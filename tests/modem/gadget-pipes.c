/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gadget.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <poll.h>
#include <unistd.h>

#include "front.h"

enum {
    /* What the device's FIFO takes while nobody reads it: one packet a request, because a request of more
       would wait for the end of a transfer that ends with a full packet. */
    OUT_REQUESTS = 32,
    OUT_BUFFER = FRONT_DATAGRAM_MAX,
    /* Transfers that lie ready for the host. One would do, as in a real device, but dummy_hcd looks at its
       queues only once a jiffy (4 ms). */
    IN_REQUESTS = 8,
    EVENTS = OUT_REQUESTS + IN_REQUESTS,
    /* Room for one full datagram on its way to the modem. */
    SEND_BUFFER = OUT_BUFFER,
};

enum request_state { REQUEST_FREE, REQUEST_FILLED, REQUEST_POSTED, REQUEST_DONE };

struct out_request {
    struct iocb block; /* first */
    enum request_state state;
    ssize_t result;
    uint8_t data[PORT_SUPER_SPEED_PACKET];
};

struct in_request {
    struct iocb block; /* first */
    enum request_state state;
    size_t length;
    uint8_t data[1 + FRONT_IN_FRAME];
};

struct gadget_pipes {
    int connection, event;
    int in, out;
    ssize_t packet;
    aio_context_t context;
    bool enabled;
    bool last; /* the modem sends nothing more: what lies ready is to be collected before it leaves */

    /* Rings: transfers end in the order in which they were posted. */
    struct out_request outs[OUT_REQUESTS];
    struct in_request ins[IN_REQUESTS];
    unsigned next_out, next_in;
    uint8_t out_data[1 + OUT_BUFFER]; /* type byte, then packets that make one datagram */
    size_t out_length;
    bool out_full; /* it can only be sent, not grow */
};

static int aio_submit(struct gadget_pipes *p, struct iocb *block)
{
    return syscall(SYS_io_submit, p->context, 1, &block) == 1 ? 0 : -errno;
}

static struct iocb block_for(const struct gadget_pipes *p, int fd, unsigned operation, void *data,
                             size_t length)
{
    return (struct iocb){.aio_data = (uint64_t)fd,
                         .aio_fildes = (uint32_t)fd,
                         .aio_lio_opcode = (uint16_t)operation,
                         .aio_buf = (uint64_t)(uintptr_t)data,
                         .aio_nbytes = length,
                         .aio_flags = IOCB_FLAG_RESFD,
                         .aio_resfd = (uint32_t)p->event};
}

struct gadget_pipes *gadget_pipes_new(const struct gadget *g, int connection)
{
    struct gadget_pipes *p = calloc(1, sizeof(*p));
    int size = SEND_BUFFER;

    if (!p)
        return NULL;
    *p = (struct gadget_pipes){.connection = connection,
                               .in = g->in,
                               .out = g->out,
                               .packet = (ssize_t)g->packet,
                               .out_data = {FRONT_DATA}};
    setsockopt(connection, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    p->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->event < 0 || syscall(SYS_io_setup, EVENTS, &p->context) < 0) {
        if (p->event >= 0)
            close(p->event);
        free(p);
        return NULL;
    }
    return p;
}

struct gadget_pipes *gadget_pipes_free(struct gadget_pipes *p)
{
    if (!p)
        return NULL;
    syscall(SYS_io_destroy, p->context);
    close(p->event);
    free(p);
    return NULL;
}

int gadget_pipes_fd(const struct gadget_pipes *p)
{
    return p->event;
}

static struct in_request *free_in(struct gadget_pipes *p)
{
    for (unsigned i = 0; i < IN_REQUESTS; i++) {
        struct in_request *q = &p->ins[(p->next_in + i) % IN_REQUESTS];
        if (q->state == REQUEST_FREE)
            return q;
    }
    return NULL;
}

short gadget_pipes_events(struct gadget_pipes *p)
{
    short events = 0;

    if (p->enabled && !p->last && free_in(p))
        events |= POLLIN;
    if (p->out_length > 0 || p->out_full)
        events |= POLLOUT;
    return events;
}

/* ---- host to modem ---- */

static void post_out(struct gadget_pipes *p)
{
    for (unsigned i = 0; i < OUT_REQUESTS; i++) {
        struct out_request *q = &p->outs[(p->next_out + i) % OUT_REQUESTS];

        if (q->state != REQUEST_FREE)
            continue;
        q->block = block_for(p, p->out, IOCB_CMD_PREAD, q->data, (size_t)p->packet);
        if (aio_submit(p, &q->block) < 0)
            return;
        q->state = REQUEST_POSTED;
    }
}

static int send_out(struct gadget_pipes *p)
{
    if (p->out_length == 0 && !p->out_full)
        return 0;
    if (send(p->connection, p->out_data, 1 + p->out_length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return errno == EAGAIN ? -EAGAIN : -ENODEV;
    p->out_length = 0;
    p->out_full = false;
    return 0;
}

/* Packets that lie ready go out together, up to the end of their transfer. */
static int forward_out(struct gadget_pipes *p)
{
    int r;

    while (p->outs[p->next_out].state == REQUEST_DONE) {
        struct out_request *q = &p->outs[p->next_out];

        /* A ZLP is a datagram of its own: behind whole packets it would be lost. */
        if (p->out_full || q->result == 0) {
            r = send_out(p);
            if (r < 0)
                return r == -EAGAIN ? 0 : r;
        }
        if (q->result >= 0) {
            memcpy(p->out_data + 1 + p->out_length, q->data, (size_t)q->result);
            p->out_length += (size_t)q->result;
            p->out_full = q->result < p->packet || p->out_length == OUT_BUFFER;
        }
        q->state = REQUEST_FREE;
        p->next_out = (p->next_out + 1) % OUT_REQUESTS;
    }
    r = send_out(p);
    return r == -EAGAIN ? 0 : r;
}

/* ---- modem to host ---- */

/* Takes what the modem says as long as there is room. */
static int fetch_in(struct gadget_pipes *p)
{
    struct in_request *q;

    while (!p->last && (q = free_in(p))) {
        ssize_t n = recv(p->connection, q->data, sizeof(q->data), MSG_DONTWAIT);

        if (n < 0)
            return errno == EAGAIN ? 0 : -ENODEV;
        p->last = n == 0;
        if (n == 0)
            break;
        q->length = (size_t)n - 1;
        q->state = REQUEST_FILLED;
    }
    return p->last && p->ins[p->next_in].state == REQUEST_FREE ? -ENODEV : 0;
}

static void post_in(struct gadget_pipes *p)
{
    for (unsigned i = 0; i < IN_REQUESTS; i++) {
        struct in_request *q = &p->ins[(p->next_in + i) % IN_REQUESTS];

        if (q->state != REQUEST_FILLED)
            continue;
        q->block = block_for(p, p->in, IOCB_CMD_PWRITE, q->data + 1, q->length);
        if (aio_submit(p, &q->block) < 0)
            return;
        q->state = REQUEST_POSTED;
    }
}

/* The host has it; or it was taken back with the configuration, and waits for the next one. */
static void on_in_end(struct gadget_pipes *p, struct in_request *q, int64_t result)
{
    q->state = result < 0 ? REQUEST_FILLED : REQUEST_FREE;
    if (result >= 0)
        p->next_in = (unsigned)(q - p->ins + 1) % IN_REQUESTS;
}

/* ---- both ---- */

static void on_end(struct gadget_pipes *p, const struct io_event *e)
{
    struct iocb *block = (struct iocb *)(uintptr_t)e->obj;
    struct out_request *q;

    if ((int)e->data == p->in) {
        on_in_end(p, (struct in_request *)block, e->res);
        return;
    }
    q = (struct out_request *)block;
    q->state = REQUEST_DONE;
    q->result = (ssize_t)e->res;
}

static void collect(struct gadget_pipes *p)
{
    struct io_event events[EVENTS];
    struct timespec now = {0};
    uint64_t count;
    long n;

    if (read(p->event, &count, sizeof(count)) < 0)
        return;
    n = syscall(SYS_io_getevents, p->context, 0, EVENTS, events, &now);
    for (long i = 0; i < n; i++)
        on_end(p, &events[i]);
}

void gadget_pipes_enable(struct gadget_pipes *p, bool enabled)
{
    uint8_t poll_cue = FRONT_POLL, reset = FRONT_RESET;

    if (enabled == p->enabled)
        return;
    p->enabled = enabled;
    send(p->connection, enabled ? &poll_cue : &reset, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int gadget_pipes_run(struct gadget_pipes *p)
{
    int r;

    collect(p);
    r = forward_out(p);
    if (r == 0 && p->enabled)
        r = fetch_in(p);
    if (p->enabled) {
        post_in(p);
        post_out(p);
    }
    return r;
}
