/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transport/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/ops.h"

/*
 * A read that waited at least this long in vain looks into the unfinished IN transfer before it says timeout.
 * Shorter waits are drains of a queue, where taking the transfer back would be all cost and no use.
 */
#define SALVAGE_AFTER (20 * USEC_PER_MSEC)

void transport_prepare(void)
{
    usb_prepare();
}

int transport_open(int fd, enum transport_use use, struct transport **ret, struct error *e)
{
    _cleanup_close_ int owned = fd;
    struct stat st;
    if (fstat(owned, &st) < 0)
        return error_set(e, ERROR_FAILED, "the modem's descriptor cannot be looked at: %s", strerror(errno));
    if (S_ISCHR(st.st_mode))
        return usb_open(steal_fd(&owned), use, ret, e);
    if (S_ISSOCK(st.st_mode))
        return stream_open(steal_fd(&owned), ret, e);
    return error_set(e, ERROR_INVALID_ARGS,
                     "the modem's descriptor should be a usbfs node or a socket, but has file type 0%o",
                     (unsigned)(st.st_mode & S_IFMT));
}

struct transport *transport_free(struct transport *t)
{
    if (!t)
        return NULL;
    inbox_clear(&t->inbox);
    t->ops->free(t);
    return NULL;
}

void transport_set_waker(struct transport *t, int fd, transport_waker waker, void *userdata)
{
    t->waker_fd = fd;
    t->waker = waker;
    t->waker_userdata = userdata;
}

size_t transport_max_packet(const struct transport *t)
{
    return t->max_packet;
}

/*
 * One wait: until the backend or the waker has something, or the deadline. 1 something happened, 0 the
 * deadline is over; negative what the waker returned or poll() failed with. t may be NULL.
 */
static int wait_once(struct transport *t, int fd, transport_waker waker, void *userdata, usec_t deadline)
{
    struct pollfd fds[1 + TRANSPORT_POLL_MAX] = {{.fd = waker ? fd : -1, .events = POLLIN}};
    size_t n = t && !t->gone ? t->ops->poll_fds(t, fds + 1) : 0;
    int ready = poll(fds, 1 + n, deadline_poll_ms(deadline));
    if (ready < 0)
        return errno == EINTR ? 1 : -errno;
    if (ready == 0)
        return deadline == USEC_INFINITY || now_usec() < deadline ? 1 : 0;

    bool backend = false;
    for (size_t i = 1; i <= n; i++)
        backend |= fds[i].revents != 0;
    if (backend)
        t->ops->process(t, fds + 1);
    if (fds[0].revents & POLLNVAL)
        return -EBADF;
    if (fds[0].revents) {
        int r = waker(userdata);
        if (r < 0)
            return r;
    }
    return 1;
}

static int wait_event(struct transport *t, usec_t deadline)
{
    t->unheard = 0;
    return wait_once(t, t->waker_fd, t->waker, t->waker_userdata, deadline);
}

/* Takes in what is ready, without waiting: also a caller who never has to wait hears the waker. */
static int pump(struct transport *t)
{
    int r = wait_event(t, 0);
    return r < 0 ? r : 0;
}

/* What this error of a direction means by now; 0: nothing yet, go on waiting (see verdict_at). */
static int verdict(const struct transport *t, int error)
{
    if (t->gone)
        return -ENODEV;
    if (error == -EIO && now_usec() < t->verdict_at)
        return 0;
    return error;
}

/* How long to wait for it. */
static usec_t verdict_deadline(const struct transport *t, int error, usec_t deadline)
{
    return error == -EIO ? MIN_OF(t->verdict_at, deadline) : deadline;
}

/* One wait of the write side. 0: look again. */
static int wait_out(struct transport *t, usec_t deadline)
{
    int r = wait_event(t, verdict_deadline(t, t->out_error, deadline));
    if (r < 0)
        return r;
    if (r > 0 || (deadline > now_usec() && !t->gone))
        return 0;
    /* Over. What is known is worth more than that it took long. */
    if (t->gone)
        return -ENODEV;
    return t->out_error < 0 ? t->out_error : -ETIMEDOUT;
}

static void pop(struct transport *t, void *buffer, size_t size, size_t *ret_size, bool *ret_boundary)
{
    bool was_full = inbox_is_full(&t->inbox);
    bool boundary;
    *ret_size = inbox_pop(&t->inbox, buffer, size, &boundary);
    if (ret_boundary)
        *ret_boundary = boundary;
    if (was_full && !inbox_is_full(&t->inbox) && t->ops->resume && !t->gone)
        t->ops->resume(t);
}

int transport_read(struct transport *t, void *buffer, size_t size, usec_t deadline, size_t *ret_size,
                   bool *ret_boundary)
{
    if (size == 0)
        return -EINVAL;
    bool may_salvage = t->ops->salvage && deadline >= deadline_in(SALVAGE_AFTER);
    /* Whoever has nothing yet takes its look by waiting: one call an answer less, and NV items are asked for
     * by the thousand. Whoever has something looks as often as a writer. */
    int r = inbox_is_empty(&t->inbox) || ++t->unheard < TRANSPORT_QUEUE_DEPTH ? 0 : pump(t);
    if (r < 0)
        return r;
    while (inbox_is_empty(&t->inbox)) {
        r = verdict(t, t->in_error);
        if (r < 0)
            return r;
        /* A deadline that is over asks only for what is there. */
        bool waits = deadline > now_usec();
        r = wait_event(t, waits ? verdict_deadline(t, t->in_error, deadline) : 0);
        if (r < 0)
            return r;
        if ((waits && (r > 0 || deadline > now_usec())) || t->gone)
            continue;
        if (t->in_error < 0)
            return t->in_error;
        if (!inbox_is_empty(&t->inbox))
            break;
        if (!may_salvage || !t->ops->salvage(t))
            return t->gone ? -ENODEV : -ETIMEDOUT;
    }
    pop(t, buffer, size, ret_size, ret_boundary);
    return 0;
}

bool transport_has_input(const struct transport *t)
{
    return !inbox_is_empty(&t->inbox);
}

int transport_queue(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    if (size > TRANSPORT_CHUNK_MAX)
        return -EINVAL;
    /* A modem that is faster than we are never makes us wait, and a look costs as much as a small transfer:
     * once a queueful. */
    int r = 0;
    if (++t->unheard >= TRANSPORT_QUEUE_DEPTH)
        r = pump(t);
    if (r < 0)
        return r;
    for (;;) {
        r = verdict(t, t->out_error);
        if (r < 0)
            return r;
        if (t->in_flight < TRANSPORT_QUEUE_DEPTH && t->out_error == 0) {
            r = t->ops->submit(t, data, size, flags);
            if (r != -EIO)
                return r;
            continue; /* -EIO is out_error now, and gets its verdict */
        }
        r = wait_out(t, deadline);
        if (r < 0)
            return r;
    }
}

int transport_flush(struct transport *t, usec_t deadline)
{
    /* Taken already: whether the modem is still there the read of its answer tells. */
    bool taken = t->untaken == 0 && t->unheard < TRANSPORT_QUEUE_DEPTH;
    int r = taken ? 0 : pump(t);
    if (r < 0)
        return r;
    for (;;) {
        r = verdict(t, t->out_error);
        if (r < 0)
            return r;
        if (t->untaken == 0 && t->out_error == 0)
            return 0;
        r = wait_out(t, deadline);
        if (r < 0)
            return r;
    }
}

int transport_write(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    /* Only whole packets in front of the last chunk, so that no transfer ends before its time. */
    const size_t step = TRANSPORT_CHUNK_MAX - TRANSPORT_CHUNK_MAX % t->max_packet;
    size_t done = 0;
    do {
        size_t n = MIN_OF(size - done, step);
        bool last = done + n == size;
        int r =
            transport_queue(t, (const char *)data + done, n, last ? flags : flags & ~TRANSPORT_ZLP, deadline);
        if (r < 0)
            return r;
        done += n;
    } while (done < size);
    return transport_flush(t, deadline);
}

void transport_drop_input(struct transport *t)
{
    bool was_full = inbox_is_full(&t->inbox);
    if (!t->gone)
        (void)wait_once(t, -1, NULL, NULL, 0);
    inbox_clear(&t->inbox);
    if (was_full && t->ops->resume && !t->gone)
        t->ops->resume(t);
}

int transport_clear_halt(struct transport *t)
{
    if (t->gone)
        return -ENODEV;
    return t->ops->clear_halt(t);
}

int transport_reset(struct transport *t)
{
    if (t->gone)
        return -ENODEV;
    return t->ops->reset(t);
}

int transport_wait(struct transport *t, int fd, transport_waker waker, void *userdata, usec_t deadline)
{
    for (;;) {
        if (t && t->gone)
            return -ENODEV;
        int r = wait_once(t, fd, waker, userdata, deadline);
        if (r < 0)
            return r;
        if (r == 0 && !(t && t->gone))
            return -ETIMEDOUT;
    }
}
