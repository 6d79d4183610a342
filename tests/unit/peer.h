/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A scripted modem for unit tests: a thread that plays the device on the other end of a socket pair
 * (transport/virtual.h) while the test plays the host through transport_open(). Each case has a time of its
 * own (peer-clock.h), in which only waiting takes time, and each transfer of the modem. Cases run side by
 * side. The script's own complaints are kept and told at the end.
 */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "peer-clock.h"
#include "transport/transport.h"
#include "transport/virtual.h"

enum { PEER_HEX_SHOWN = 24 };

/* What a transfer of the modem takes at least: a microframe of USB. */
#define PEER_TRANSFER ((usec_t)125)

struct peer_case;

struct peer {
    int fd;
    bool over;    /* the host has closed, or the script has failed: everything returns at once */
    char type;    /* of the last datagram heard */
    size_t heard; /* bytes of data in all */
    struct peer_clock clock;
    char complaint[400];
    struct peer_case *playing;
};

struct peer_case {
    const char *name;
    void (*modem)(struct peer *p, const void *arg);
    const void *arg;
    void (*host)(struct peer_case *c, struct transport *t);
    /* What the host function leaves for the test to look at. */
    int r;
    struct error e;
    usec_t took;
    union {
        uint64_t numbers[8];
        uint8_t bytes[256];
    };
    /* Inside. */
    struct peer peer;
    int host_fd;
    pthread_t modem_thread, host_thread;
};

static inline void _printf_(2, 3) peer_complain(struct peer *p, const char *format, ...)
{
    if (!p->complaint[0]) {
        va_list ap;
        va_start(ap, format);
        vsnprintf(p->complaint, sizeof(p->complaint), format, ap);
        va_end(ap);
    }
    p->over = true;
}

/* Until the socket is ready for `events` or the host has hung up (true), or for so long. */
static inline bool peer_wait(struct peer *p, short events, usec_t usec)
{
    int r = peer_clock_wait(&p->clock, p->fd, events, usec);
    if (r < 0)
        peer_complain(p, "heard nothing for too long");
    return r > 0;
}

/* For so long, whatever the host does. */
static inline void peer_sleep(struct peer *p, usec_t usec)
{
    if (peer_clock_wait(&p->clock, -1, 0, usec) < 0)
        peer_complain(p, "slept for too long");
}

/* One datagram's payload; its type is in p->type. -1: the host is gone (no complaint). */
static inline ssize_t peer_hear(struct peer *p, void *buffer, size_t size)
{
    uint8_t datagram[1 + VIRTUAL_DATA_MAX];
    ssize_t n;
    if (p->over)
        return -1;
    do
        n = recv(p->fd, datagram, sizeof(datagram), MSG_DONTWAIT);
    while (n < 0 && errno == EAGAIN && peer_wait(p, POLLIN, USEC_INFINITY));
    if (n <= 0) {
        p->over = true;
        return -1;
    }
    p->type = (char)datagram[0];
    if (p->type == VIRTUAL_DATA)
        p->heard += (size_t)n - 1;
    memcpy(buffer, datagram + 1, MIN_OF((size_t)n - 1, size));
    return n - 1;
}

/* Exactly `size` bytes of data over as many datagrams as it takes, no ZLP among them. False if the host went.
 */
static inline bool peer_take(struct peer *p, void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        uint8_t piece[VIRTUAL_DATA_MAX];
        ssize_t n = peer_hear(p, piece, sizeof(piece));
        if (n < 0)
            return false;
        if (p->type != VIRTUAL_DATA || n == 0 || (size_t)n > size - done) {
            peer_complain(p, "%zu of %zu bytes were there, then came '%c' with %zd", done, size, p->type, n);
            return false;
        }
        memcpy((uint8_t *)buffer + done, piece, (size_t)n);
        done += (size_t)n;
    }
    return true;
}

/* The next datagram must be data and exactly these. */
static inline bool peer_expect(struct peer *p, const void *data, size_t size)
{
    uint8_t got[VIRTUAL_DATA_MAX];
    ssize_t n = peer_hear(p, got, sizeof(got));
    if (n < 0)
        return false;
    if (p->type == VIRTUAL_DATA && (size_t)n == size && memcmp(got, data, size) == 0)
        return true;
    char hex[2 * PEER_HEX_SHOWN + 1] = "";
    for (size_t i = 0; i < MIN_OF((size_t)n, (size_t)PEER_HEX_SHOWN); i++)
        snprintf(hex + 2 * i, 3, "%02x", got[i]);
    peer_complain(p, "expected %zu bytes of data (%02x...), got '%c' with %zd: %s", size,
                  size ? *(const uint8_t *)data : 0, p->type, n, hex);
    return false;
}

/* The next datagram must be of this kind (VIRTUAL_RESET and so on). */
static inline bool peer_expect_type(struct peer *p, char type)
{
    uint8_t got[VIRTUAL_DATA_MAX];
    ssize_t n = peer_hear(p, got, sizeof(got));
    if (n >= 0 && p->type != type)
        peer_complain(p, "expected '%c', got '%c' with %zd bytes", type, p->type, n);
    return n >= 0 && p->type == type;
}

/* Data as one transfer (no ZLP behind whole packets). size 0 is a ZLP. False if the host went. */
static inline bool peer_say(struct peer *p, const void *data, size_t size)
{
    size_t done = 0;
    do {
        uint8_t datagram[1 + VIRTUAL_DATA_MAX] = {VIRTUAL_DATA};
        size_t n = MIN_OF(size - done, (size_t)VIRTUAL_DATA_MAX);
        if (n > 0)
            memcpy(datagram + 1, (const uint8_t *)data + done, n);
        ssize_t r = -1;
        while (!p->over && (r = send(p->fd, datagram, 1 + n, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0)
            p->over = errno != EAGAIN || !peer_wait(p, POLLOUT, USEC_INFINITY);
        if (r < 0)
            return false;
        peer_clock_spend(&p->clock, PEER_TRANSFER);
        done += n;
    } while (done < size);
    return true;
}

static inline bool peer_say_text(struct peer *p, const char *text)
{
    return peer_say(p, text, strlen(text));
}

/* Every byte in a transfer of its own. */
static inline bool peer_stammer(struct peer *p, const void *data, size_t size)
{
    bool ok = true;
    for (size_t i = 0; i < size; i++)
        ok = ok && peer_say(p, (const uint8_t *)data + i, 1);
    return ok;
}

/* Takes everything and says nothing until the host closes. */
static inline void peer_be_silent(struct peer *p)
{
    uint8_t dropped[VIRTUAL_DATA_MAX];
    while (peer_hear(p, dropped, sizeof(dropped)) >= 0)
        ;
}

static inline void *peer_modem_thread(void *userdata)
{
    struct peer_case *c = userdata;
    struct peer *p = &c->peer;
    if (peer_expect_type(p, VIRTUAL_POLL))
        c->modem(p, c->arg);
    p->fd = close_fd(p->fd); /* the unplug */
    peer_clock_leave(&p->clock);
    return NULL;
}

static inline void *peer_host_thread(void *userdata)
{
    struct peer_case *c = userdata;
    struct transport *t = NULL;
    peer_clock_enter(&c->peer.clock);
    usec_t start = now_usec();
    c->r = transport_open(c->host_fd, TRANSPORT_EDL, &t, &c->e);
    if (c->r == 0)
        c->host(c, t);
    c->took = now_usec() - start;
    transport_free(t);
    peer_clock_exit();
    return NULL;
}

/* Plays all cases at the same time and fails the test if a script complained. */
static inline void peer_play(struct peer_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct peer_case *c = &cases[i];
        int pair[2];
        assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
        c->host_fd = pair[0];
        c->peer = (struct peer){.fd = pair[1], .playing = c};
        peer_clock_open(&c->peer.clock);
        assert_int_equal(pthread_create(&c->modem_thread, NULL, peer_modem_thread, c), 0);
        assert_int_equal(pthread_create(&c->host_thread, NULL, peer_host_thread, c), 0);
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(cases[i].host_thread, NULL);
        pthread_join(cases[i].modem_thread, NULL);
        peer_clock_close(&cases[i].peer.clock);
    }
    for (size_t i = 0; i < n; i++)
        if (cases[i].peer.complaint[0])
            fail_msg("%s: the modem says: %s (host: %d %s)", cases[i].name, cases[i].peer.complaint,
                     cases[i].r, cases[i].e.message);
}
