/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usbip.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "front.h"

enum command { CMD_SUBMIT = 1, CMD_UNLINK, RET_SUBMIT, RET_UNLINK };

enum {
    TRANSFER_MAX = 1 << 20,
    FLAG_ZERO_PACKET = 0x40,
    SPEED_HIGH = 3, /* enum usb_device_speed */
    SPEED_SUPER = 5,
    DEVICE_ID = 1,
    ATTACH_TRIES = 500, /* of 10 ms: the kernel is done with the device that was there before */
    SEND_BUFFER = FRONT_DATAGRAM_MAX,
    AT_PORTS = 8,
};

/* All fields in network byte order; what a command does not name is 0. */
struct header {
    uint32_t command, seqnum, device, in, endpoint;
    union {
        struct {
            uint32_t flags, length, start_frame, packets, interval;
            uint8_t setup[USBIP_SETUP_SIZE];
        } submit;
        struct {
            uint32_t status, length, start_frame, packets, errors;
        } submitted;
        uint32_t unlink; /* a seqnum; then a status */
        uint8_t all[28];
    };
};

/* What the host has submitted and did not get back yet. */
struct urb {
    struct urb *next;
    uint32_t seqnum;
    uint8_t address;
    bool zero_packet;
    size_t length, position;
    uint8_t data[];
};

struct usbip {
    const struct port_identity *id;
    int wire, connection;
    size_t packet;
    struct urb *first, **end; /* in the order in which they came, of all endpoints */
    bool configured, polled;
    bool last; /* the modem sends nothing more: what lies ready is to be collected before it leaves */

    uint8_t in[1 + FRONT_IN_FRAME]; /* a datagram of the modem, type byte first */
    size_t in_length, in_position;
    bool in_there;
    struct usbip_at at[AT_PORTS]; /* by interface */
};

/* ---- the host's side ---- */

static int write_wire(struct usbip *u, const void *data, size_t length)
{
    const uint8_t *p = data;

    while (length > 0) {
        ssize_t n = send(u->wire, p, length, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return -ENODEV;
        p += n > 0 ? n : 0;
        length -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int read_wire(struct usbip *u, void *data, size_t length)
{
    return length == 0 || recv(u->wire, data, length, MSG_WAITALL) == (ssize_t)length ? 0 : -ENODEV;
}

static int give_back(struct usbip *u, uint32_t seqnum, int status, const void *data, size_t sent,
                     size_t length)
{
    struct header h = {.command = htonl(RET_SUBMIT), .seqnum = htonl(seqnum)};
    int r;

    h.submitted.status = htonl((uint32_t)status);
    h.submitted.length = htonl((uint32_t)length);
    r = write_wire(u, &h, sizeof(h));
    return r == 0 && sent > 0 ? write_wire(u, data, sent) : r;
}

/* Takes it out of the list. */
static struct urb *take(struct usbip *u, struct urb *urb)
{
    struct urb **i = &u->first;

    while (*i != urb)
        i = &(*i)->next;
    *i = urb->next;
    if (u->end == &urb->next)
        u->end = i;
    return urb;
}

static int complete(struct usbip *u, struct urb *urb)
{
    bool in = urb->address & 0x80;
    int r = give_back(u, urb->seqnum, 0, urb->data, in ? urb->position : 0, in ? urb->position : urb->length);

    free(take(u, urb));
    return r;
}

static int on_unlink(struct usbip *u, uint32_t seqnum, uint32_t of)
{
    struct header h = {.command = htonl(RET_UNLINK), .seqnum = htonl(seqnum)};

    for (struct urb *i = u->first; i; i = i->next)
        if (i->seqnum == of) {
            free(take(u, i));
            h.unlink = htonl((uint32_t)-ECONNRESET);
            break;
        }
    return write_wire(u, &h, sizeof(h));
}

static void tell_modem(struct usbip *u, uint8_t type)
{
    send(u->connection, &type, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int on_control(struct usbip *u, uint32_t seqnum, const struct header *h)
{
    uint8_t answer[USBIP_DESCRIPTOR_MAX];
    enum usbip_news news;
    size_t length;
    int r = usbip_control(u->id, h->submit.setup, answer, &length, &news);

    if (news == USBIP_HALT_CLEARED)
        tell_modem(u, FRONT_CLEAR_HALT);
    if (news == USBIP_CONFIGURED && u->configured) {
        tell_modem(u, FRONT_RESET);
        u->polled = false;
    }
    u->configured |= news == USBIP_CONFIGURED;
    return give_back(u, seqnum, r, answer, r == 0 ? length : 0, r == 0 ? length : 0);
}

static int on_submit(struct usbip *u, const struct header *h)
{
    bool in = ntohl(h->in);
    uint8_t address = (uint8_t)(ntohl(h->endpoint) | (in ? 0x80 : 0));
    size_t length = ntohl(h->submit.length);
    struct urb *urb;

    if (length > TRANSFER_MAX)
        return -EBADMSG;
    urb = calloc(1, sizeof(*urb) + length);
    if (!urb)
        return -ENOMEM;
    *urb = (struct urb){.seqnum = ntohl(h->seqnum),
                        .address = address,
                        .zero_packet = ntohl(h->submit.flags) & FLAG_ZERO_PACKET,
                        .length = length};
    if (!in && read_wire(u, urb->data, length) < 0) {
        free(urb);
        return -ENODEV;
    }
    if (ntohl(h->endpoint) == 0) {
        free(urb);
        return on_control(u, ntohl(h->seqnum), h);
    }
    *u->end = urb;
    u->end = &urb->next;
    return 0;
}

static int on_wire(struct usbip *u)
{
    struct header h;
    int r = read_wire(u, &h, sizeof(h));

    if (r < 0)
        return r;
    if (ntohl(h.command) == CMD_UNLINK)
        return on_unlink(u, ntohl(h.seqnum), ntohl(h.unlink));
    return ntohl(h.command) == CMD_SUBMIT ? on_submit(u, &h) : -EBADMSG;
}

/* ---- the pipes ---- */

/* -EAGAIN: the modem takes nothing now. */
static int send_part(struct usbip *u, const uint8_t *data, size_t length)
{
    static const uint8_t type = FRONT_DATA;
    struct iovec v[] = {{(void *)&type, 1}, {(void *)data, length}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

    if (sendmsg(u->connection, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 0;
    return errno == EAGAIN ? -EAGAIN : -ENODEV;
}

static int run_out(struct usbip *u, struct urb *urb)
{
    while (urb->position < urb->length || urb->length == 0 || urb->zero_packet) {
        size_t n = urb->length - urb->position;
        bool ends = urb->position == urb->length;
        int r;

        if (n > FRONT_DATAGRAM_MAX)
            n = FRONT_DATAGRAM_MAX;
        /* Behind a short packet there is no other one. */
        if (ends && urb->length % u->packet)
            break;
        r = send_part(u, urb->data + urb->position, n);
        if (r < 0)
            return r;
        urb->position += n;
        if (ends)
            break;
    }
    return complete(u, urb);
}

/* One datagram ahead, so that the end behind it is seen. */
static int fetch(struct usbip *u)
{
    ssize_t n;

    if (u->in_there || u->last)
        return 0;
    n = recv(u->connection, u->in, sizeof(u->in), MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN ? 0 : -ENODEV;
    u->last = n == 0;
    u->in_there = n > 0;
    u->in_length = (size_t)n;
    u->in_position = 1;
    return 0;
}

/* -EAGAIN: it waits for more. */
static int run_in(struct usbip *u, struct urb *urb)
{
    if (!u->polled)
        tell_modem(u, FRONT_POLL);
    u->polled = true;
    for (;;) {
        size_t n;
        bool ends;
        int r = fetch(u);

        if (r < 0)
            return r;
        if (!u->in_there)
            return -EAGAIN;
        n = u->in_length - u->in_position;
        if (n > urb->length - urb->position)
            n = urb->length - urb->position;
        memcpy(urb->data + urb->position, u->in + u->in_position, n);
        urb->position += n;
        u->in_position += n;
        u->in_there = u->in_position < u->in_length;
        ends = !u->in_there && (u->in_length - 1) % u->packet != 0;
        if (ends || u->in_length == 1 || urb->position == urb->length)
            return complete(u, urb);
    }
}

static int run_at(struct usbip *u, struct usbip_at *at, struct urb *urb)
{
    size_t n = at->text_length < urb->length ? at->text_length : urb->length;

    if (!(urb->address & 0x80)) {
        usbip_at_take(at, u->id, urb->data, urb->length);
        return complete(u, urb);
    }
    if (n == 0)
        return -EAGAIN;
    memcpy(urb->data, at->text, n);
    memmove(at->text, at->text + n, at->text_length -= n);
    urb->position = n;
    return complete(u, urb);
}

static int run_one(struct usbip *u, struct urb *urb)
{
    unsigned interface;

    switch (usbip_role_of(u->id, urb->address, &interface)) {
    case USBIP_LIVE:
        return urb->address & 0x80 ? run_in(u, urb) : run_out(u, urb);
    case USBIP_AT:
        return interface < AT_PORTS ? run_at(u, &u->at[interface], urb) : -EAGAIN;
    default:
        /* Nobody reads and nobody speaks there. */
        return -EAGAIN;
    }
}

/* Whatever can be moved; of each endpoint one after the other. *ret_out: an OUT transfer waits for the modem.
 */
static int run_urbs(struct usbip *u, bool *ret_out)
{
    uint32_t waiting = 0; /* a bit for each endpoint, IN ones from 16 on */
    bool at_again;

    do {
        at_again = false;
        for (struct urb *i = u->first, *next; i; i = next) {
            uint32_t bit = 1u << ((i->address & 0x0F) + (i->address & 0x80 ? 16 : 0));
            uint8_t address = i->address;
            unsigned interface;
            int r;

            next = i->next;
            if (waiting & bit)
                continue;
            r = run_one(u, i);
            if (r == -EAGAIN)
                waiting |= bit;
            else if (r < 0)
                return r;
            else if (usbip_role_of(u->id, address, &interface) == USBIP_AT && !(address & 0x80)) {
                at_again = true;
                waiting &= 0xFFFF;
            }
        }
    } while (at_again);
    *ret_out = waiting & (1u << ((u->id->live + 1) & 0x0F));
    return u->last && !u->in_there ? -ENODEV : 0;
}

/* ---- an appearance ---- */

static int carry(struct usbip *u, int leash)
{
    for (;;) {
        bool out = false;
        int r = u->configured ? fetch(u) : 0;

        if (r == 0)
            r = run_urbs(u, &out);
        if (r < 0)
            return r == -ENODEV ? 0 : r;
        bool room = u->configured && !u->in_there && !u->last;
        struct pollfd p[] = {
            {.fd = leash, .events = POLLIN},
            {.fd = u->connection, .events = (short)((room ? POLLIN : 0) | (out ? POLLOUT : 0))},
            {.fd = u->wire, .events = POLLIN}};
        if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0 && errno != EINTR)
            return -errno;
        if (p[0].revents)
            return -ECANCELED;
        /* No more power: nothing that was ready gets out. */
        if (p[1].revents & (POLLHUP | POLLERR))
            return 0;
        if (p[2].revents && (r = on_wire(u)) < 0)
            return r == -ENODEV ? 0 : r;
    }
}

/* The other end of the wire goes to the kernel. */
static int attach_kernel(const char *where, const struct port_identity *id, int fd)
{
    static const char path[] = "/sys/devices/platform/vhci_hcd.0/attach";
    const struct timespec pause = {.tv_nsec = 10000000};
    char text[64];
    int n = snprintf(text, sizeof(text), "%lu %d %d %d", strtoul(where, NULL, 10), fd, DEVICE_ID,
                     id->super_speed ? SPEED_SUPER : SPEED_HIGH);
    int attribute = open(path, O_WRONLY | O_CLOEXEC), r = attribute < 0 ? -errno : -EBUSY;

    for (int i = 0; r == -EBUSY && i < ATTACH_TRIES; i++) {
        r = write(attribute, text, (size_t)n) < 0 ? -errno : 0;
        if (r == -EBUSY)
            nanosleep(&pause, NULL);
    }
    if (attribute >= 0)
        close(attribute);
    return r;
}

static int attach(const char *where, const struct port_identity *id, int *ret)
{
    struct front_address a;
    int wires[2], r;

    if (*where == '/') {
        if (!front_address_of_path(&a, where))
            return -ENAMETOOLONG;
        *ret = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return *ret < 0 || connect(*ret, (struct sockaddr *)&a.address, a.length) < 0 ? -errno : 0;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wires) < 0)
        return -errno;
    r = attach_kernel(where, id, wires[1]);
    close(wires[1]);
    *ret = wires[0];
    return r;
}

int usbip_serve(const char *where, const struct port_identity *id, int connection, int leash)
{
    struct usbip *u = calloc(1, sizeof(*u));
    int size = SEND_BUFFER, r;

    if (!u)
        return -ENOMEM;
    *u = (struct usbip){.id = id,
                        .wire = -1,
                        .connection = connection,
                        .packet = id->super_speed ? PORT_SUPER_SPEED_PACKET : PORT_HIGH_SPEED_PACKET,
                        .end = &u->first};
    setsockopt(connection, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    r = attach(where, id, &u->wire);
    if (r < 0)
        fprintf(stderr, "virtual-modem: usbip on %s: %s\n", where, strerror(-r));
    else
        r = carry(u, leash);
    if (u->wire >= 0)
        close(u->wire);
    while (u->first)
        free(take(u, u->first));
    free(u);
    return r;
}
