/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "trace.h"

enum {
    CONNECT_RETRY_US = 20000,
    FLUSH_US = 500000,
    BUSY_GRAIN_US = 500,
    WAITING_MAX = 64,
    /* The kernel's least: a second small datagram waits until the host took the first (POLLOUT needs three
       quarters of it free). A modem has no memory for what its host does not collect. */
    SEND_BUFFER = 0,
    /* A quarter may be full for POLLOUT, the kernel doubles what it is asked for, and a datagram of one frame
       takes about twice its size. */
    SEND_BUFFER_PER_BYTE = 4,
};

static int signal_pipe[2] = {-1, -1};
static volatile sig_atomic_t terminated, stops_when_gone;

static void on_signal(int number)
{
    int saved = errno;

    if (number == SIGUSR1)
        stops_when_gone = 1;
    else if (number == SIGHUP)
        trace_go_on();
    else
        terminated = 1;
    if (write(signal_pipe[1], "", 1) < 0)
        errno = saved;
    errno = saved;
}

int front_catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};

    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGHUP, &a, NULL); /* SIGUSR2 is the still clock's */
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

bool front_address_of_path(struct front_address *a, const char *path)
{
    *a = (struct front_address){.address = {.sun_family = AF_UNIX}, .length = sizeof(a->address)};
    if (strlen(path) >= sizeof(a->address.sun_path))
        return false;
    strcpy(a->address.sun_path, path);
    return true;
}

void front_init(struct front *f, const struct front_address *host, int given_fd, struct faults *faults)
{
    *f = (struct front){.host = *host, .fd = -1, .given_fd = given_fd, .faults = faults};
    f->waiting_tail = &f->waiting;
    f->host_wait_us = -1;
}

static void free_datagrams(struct front *f)
{
    free(f->current);
    f->current = NULL;
    for (struct datagram *d = f->waiting, *next; d; d = next) {
        next = d->next;
        free(d);
    }
    f->waiting = NULL;
    f->waiting_tail = &f->waiting;
    f->waiting_count = 0;
    f->after_current = FAULT_NONE;
}

void front_free(struct front *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    free_datagrams(f);
    free(f->spare);
    f->spare = NULL;
}

const char *front_end_name(enum end_reason why)
{
    static const char *const names[] = {"none", "window", "fault", "port-reset", "terminated", "no-host"};

    return names[why];
}

int front_end(struct front *f, enum end_reason why)
{
    if (f->ended == END_NONE) {
        f->ended = why;
        trace("power off reason=%s", front_end_name(why));
    }
    return -ENODEV;
}

/* -ENODEV when the modem has lost its power meanwhile. */
static int check_alive(struct front *f)
{
    if (f->ended != END_NONE)
        return -ENODEV;
    if (terminated)
        return front_end(f, END_TERMINATED);
    if (f->power_until && trace_now() >= f->power_until)
        return front_end(f, END_WINDOW);
    return 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

/* What the pipe woke us for is in variables; that it ends it is told for ever. */
static void empty_pipe(void)
{
    char words[16];

    while (!terminated && read(signal_pipe[0], words, sizeof(words)) > 0)
        ;
}

/* Waits for events on the socket until a time (0: none). 1 there are events, 0 it is time, -ENODEV. */
static int wait_events(struct front *f, short events, int64_t until, short *ret_events)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = signal_pipe[0], .events = POLLIN}, {.fd = f->fd, .events = events}};
        int64_t limit = earlier(until, f->power_until), left = -1;
        struct timespec t;
        int r = check_alive(f);

        if (r < 0)
            return r;
        if (limit) {
            left = limit - trace_now();
            if (left <= 0 && limit == until)
                return 0;
            left = left < 0 ? 0 : left;
            t = (struct timespec){.tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000};
        }
        trace_flush();
        r = ppoll(p, 2, limit ? &t : NULL, NULL);
        if (r > 0 && p[0].revents)
            empty_pipe();
        if (r > 0 && p[1].revents) {
            *ret_events = p[1].revents;
            return 1;
        }
        if (r < 0 && errno != EINTR)
            return front_end(f, END_NO_HOST);
    }
}

static int connect_socket(struct front *f)
{
    int fd, size = f->in_posted > 0 ? SEND_BUFFER_PER_BYTE * f->in_posted : SEND_BUFFER;

    if (f->given_fd >= 0) {
        fd = f->given_fd;
        f->given_fd = -1;
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return -errno;
    } else {
        if (!f->host.length)
            return front_end(f, END_NO_HOST);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            return -errno;
        if (connect(fd, (struct sockaddr *)&f->host.address, f->host.length) < 0) {
            int r = -errno;
            close(fd);
            return r;
        }
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    f->fd = fd;
    return 0;
}

static int send_plug(struct front *f)
{
    const struct plug *p = &f->plug;
    char text[FRONT_PLUG_MAX];
    int n = snprintf(text, sizeof(text),
                     "PORT=%s\nKERNEL=%s\nVID=%04x\nPID=%04x\nPRODUCT=%s\nINTERFACES=%u\nMAX_PACKET=%u\n",
                     p->port, p->kernel, p->vid, p->pid, p->product, p->interfaces, p->max_packet);

    if (f->usb && n > 0 && n < (int)sizeof(text))
        n += snprintf(text + n, sizeof(text) - (size_t)n, "LIVE=%u\nPROTOCOL=%02x\nVERSION=%.100s\n",
                      p->live_interface, p->live_protocol, p->version);
    if (n < 0 || n >= (int)sizeof(text))
        return -EMSGSIZE;
    return send(f->fd, text, (size_t)n, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Connects as soon as somebody listens. */
static int attach(struct front *f)
{
    int64_t give_up = f->host_wait_us >= 0 ? trace_now() + f->host_wait_us : 0;
    short events;
    int r;

    for (;;) {
        r = connect_socket(f);
        if (r == 0 && (r = send_plug(f)) == 0)
            break;
        if (f->fd >= 0)
            close(f->fd);
        f->fd = -1;
        if (r == -ENODEV)
            return r;
        if (f->usb && r == -ECONNREFUSED)
            return front_end(f, END_NO_HOST);
        if (give_up && trace_now() > give_up)
            return front_end(f, END_NO_HOST);
        r = wait_events(f, 0, trace_now() + CONNECT_RETRY_US, &events);
        if (r < 0)
            return r;
    }
    f->polled = f->unsettled = false;
    trace("plug %04x:%04x port=%s kernel=%s product=%s interfaces=%u", f->plug.vid, f->plug.pid, f->plug.port,
          f->plug.kernel, f->plug.product, f->plug.interfaces);
    return 0;
}

int front_appear(struct front *f, const struct plug *p)
{
    f->plug = *p;
    f->nak_next = f->garbage_next = false;
    f->busy_us = 0;
    faults_appear(f->faults);
    return attach(f);
}

void front_flush(struct front *f)
{
    short events;

    if (f->fd >= 0 && f->usb && shutdown(f->fd, SHUT_WR) == 0)
        wait_events(f, 0, trace_now() + FLUSH_US, &events);
}

void front_vanish(struct front *f)
{
    if (f->fd >= 0) {
        close(f->fd);
        trace("unplug");
    }
    f->fd = -1;
    free_datagrams(f);
    f->power_until = 0;
}

/* The host's process is gone, not the modem. */
static int host_gone(struct front *f)
{
    trace("host gone");
    close(f->fd);
    f->fd = -1;
    free_datagrams(f);
    return attach(f);
}

void front_gone(struct front *f)
{
    enum fault_kind k = faults_gone(f->faults);

    if (stops_when_gone)
        k = FAULT_STOP;
    stops_when_gone = 0;
    front_strike(f, k);
}

int front_strike(struct front *f, enum fault_kind k)
{
    switch (k) {
    case FAULT_UNPLUG:
        return front_end(f, END_FAULT);
    case FAULT_HANG:
        return front_hang(f);
    case FAULT_NAK:
        f->nak_next = true;
        return 0;
    case FAULT_GARBAGE:
        f->garbage_next = true;
        return 0;
    case FAULT_STOP:
        trace_flush();
        raise(SIGSTOP);
        return 0;
    default:
        return 0;
    }
}

static int control(struct front *f, uint8_t type)
{
    switch (type) {
    case FRONT_POLL:
        f->polled = true;
        trace("poll");
        return 0;
    case FRONT_CLEAR_HALT:
        trace("clear-halt");
        return 0;
    case FRONT_RESET:
        trace("port-reset");
        return f->port_reset_restarts ? front_end(f, END_PORT_RESET) : 0;
    default:
        violation("datagram of unknown type 0x%02x", type);
        return 0;
    }
}

/* Takes one datagram off the socket if there is one: *ret is NULL for a control message. -EAGAIN: there is
 * none. */
static int receive(struct front *f, struct datagram **ret)
{
    struct datagram *d = f->spare ? f->spare : malloc(sizeof(*d));
    uint8_t type = 0, surplus;
    struct iovec v[3] = {{&type, 1}, {d ? d->data : NULL, FRONT_DATAGRAM_MAX}, {&surplus, 1}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
    enum fault_kind k;
    ssize_t n;

    *ret = NULL;
    f->spare = NULL;
    if (!d)
        return -ENOMEM;
    n = recvmsg(f->fd, &m, MSG_DONTWAIT);
    if (n <= 0 || type != FRONT_DATA) {
        f->spare = d;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return -EAGAIN;
        return n <= 0 ? host_gone(f) : control(f, type);
    }
    if (n > 1 + FRONT_DATAGRAM_MAX) {
        violation("datagram longer than %d", FRONT_DATAGRAM_MAX);
        n = 1 + FRONT_DATAGRAM_MAX;
    }
    d->next = NULL;
    d->position = 0;
    d->length = (size_t)n - 1;
    d->ends_transfer = d->length == 0 || d->length % f->plug.max_packet != 0;
    k = faults_out(f->faults, d->length, &d->length);
    trace("out transfer=%llu length=%zu", (unsigned long long)f->faults->out_transfers, (size_t)n - 1);
    if (k == FAULT_UNPLUG || k == FAULT_HANG) {
        d->ends_transfer = false;
        f->after_current = k;
    } else if (k != FAULT_NONE) {
        d->length = (size_t)n - 1;
        front_strike(f, k);
    }
    *ret = d;
    return 0;
}

/* A device whose last words nobody collects does not take what comes OUT. */
static int settle(struct front *f, int64_t until)
{
    short events;
    int r;

    if (!f->unsettled)
        return 0;
    r = wait_events(f, POLLOUT, until, &events) ?: -ETIMEDOUT;
    f->unsettled = r == -ETIMEDOUT;
    return r < 0 ? r : 0;
}

/* Makes current the next datagram with something to say. -ETIMEDOUT: none came until then (0: for ever). */
static int next_datagram(struct front *f, int64_t until)
{
    short events;
    int r;

    while (!f->current) {
        if (f->waiting) {
            f->current = f->waiting;
            f->waiting = f->current->next;
            if (!f->waiting)
                f->waiting_tail = &f->waiting;
            f->waiting_count--;
            return 0;
        }
        if (f->after_current != FAULT_NONE)
            return front_strike(f, f->after_current);
        r = check_alive(f);
        if (r == 0)
            r = settle(f, until);
        if (r == 0)
            r = receive(f, &f->current);
        if (r == -EAGAIN)
            r = wait_events(f, POLLIN, until, &events) ?: -ETIMEDOUT;
        if (r < 0)
            return r;
    }
    return 0;
}

int front_read(struct front *f, void *buffer, size_t size, size_t *ret_length)
{
    return front_read_until(f, buffer, size, 0, ret_length);
}

int front_read_until(struct front *f, void *buffer, size_t size, int64_t until, size_t *ret_length)
{
    size_t got = 0;

    while (got < size) {
        struct datagram *d;
        size_t n;
        bool end;
        int r = next_datagram(f, until);

        if (r == -ETIMEDOUT && got)
            break;
        if (r < 0)
            return r;
        d = f->current;
        n = d->length - d->position < size - got ? d->length - d->position : size - got;
        memcpy((uint8_t *)buffer + got, d->data + d->position, n);
        got += n;
        d->position += n;
        if (d->position < d->length)
            break;
        end = d->ends_transfer;
        free(f->spare);
        f->spare = d;
        f->current = NULL;
        if (end)
            break;
    }
    *ret_length = got;
    return 0;
}

/* IN data wait in the device until the host polls; what the host writes meanwhile is kept in order. */
static int wait_for_poll(struct front *f)
{
    short events;

    while (!f->polled) {
        struct datagram *d = NULL;
        int r = check_alive(f);

        if (r == 0 && f->waiting_count < WAITING_MAX)
            r = receive(f, &d);
        if (d) {
            *f->waiting_tail = d;
            f->waiting_tail = &d->next;
            f->waiting_count++;
        }
        if (f->after_current != FAULT_NONE)
            return front_strike(f, f->after_current);
        if (r == -EAGAIN)
            r = wait_events(f, POLLIN, 0, &events);
        if (r < 0)
            return r;
        if (f->waiting_count >= WAITING_MAX)
            return front_hang(f);
    }
    return 0;
}

bool front_takes(const struct front *f)
{
    struct pollfd p = {.fd = f->fd, .events = POLLOUT};

    return f->polled && poll(&p, 1, 0) == 1 && p.revents == POLLOUT;
}

static int send_frame(struct front *f, const uint8_t *data, size_t length)
{
    uint8_t type = FRONT_DATA;
    struct iovec v[2] = {{&type, 1}, {(void *)(uintptr_t)data, length}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    uint8_t garbage[64];
    enum fault_kind k;
    size_t accepted;
    short events = 0;
    int r;

    for (;;) {
        r = wait_for_poll(f);
        if (r < 0)
            return r;
        if (f->raw && front_takes(f)) {
            r = check_alive(f);
            if (r < 0)
                return r;
            break;
        }
        r = wait_events(f, POLLOUT, 0, &events);
        if (r < 0)
            return r;
        if (!(events & POLLOUT) || events & (POLLHUP | POLLERR)) {
            r = host_gone(f);
            if (r < 0)
                return r;
            continue;
        }
        break;
    }
    k = faults_in(f->faults, length, &accepted);
    if (k == FAULT_GARBAGE)
        f->garbage_next = true;
    if (k == FAULT_STOP) {
        accepted = length;
        front_strike(f, k);
    }
    if (f->garbage_next) {
        f->garbage_next = false;
        memset(garbage, 0xA5, sizeof(garbage) - 1);
        v[1] = (struct iovec){garbage, sizeof(garbage) - 1};
    } else {
        v[1].iov_len = accepted;
    }
    f->unsettled = true;
    trace("in transfer=%llu length=%zu", (unsigned long long)f->faults->in_transfers, v[1].iov_len);
    if ((v[1].iov_len || !length) && sendmsg(f->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        return host_gone(f);
    return k == FAULT_UNPLUG || k == FAULT_HANG ? front_strike(f, k) : 0;
}

int front_write(struct front *f, const void *data, size_t length)
{
    const uint8_t *p = data;

    while (length) {
        size_t n = length < FRONT_IN_FRAME ? length : FRONT_IN_FRAME;
        int r = send_frame(f, p, n);

        if (r < 0)
            return r;
        p += n;
        length -= n;
    }
    return 0;
}

int front_write_zlp(struct front *f)
{
    return send_frame(f, NULL, 0);
}

int front_busy(struct front *f, int64_t us)
{
    if (us <= 0)
        return 0;
    f->busy_us += us;
    if (f->busy_us < BUSY_GRAIN_US)
        return 0;
    us = f->busy_us;
    f->busy_us = 0;
    return front_wait_off(f, us);
}

int front_wait_off(struct front *f, int64_t us)
{
    int64_t until = us < 0 ? 0 : trace_now() + us;
    int saved = f->fd, r;
    short events;

    /* Deaf to the host. */
    f->fd = -1;
    r = wait_events(f, 0, until, &events);
    f->fd = saved;
    return r;
}

int front_wait(struct front *f, int64_t us)
{
    int64_t until = us < 0 ? 0 : trace_now() + us;
    short events;
    int r;

    for (;;) {
        r = wait_events(f, 0, until, &events);
        if (r <= 0)
            return r;
        r = host_gone(f);
        if (r < 0)
            return r;
    }
}

int front_hang(struct front *f)
{
    int r;

    trace("hang");
    r = front_wait(f, -1);
    return r < 0 ? r : -ENODEV;
}
