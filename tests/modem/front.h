/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The modem's end of the wire: two bulk pipes as its ROM and its programmer see them. Everything here waits
 * by poll and gives -ENODEV as soon as the modem has lost its power or its place (why stands in `ended`); the
 * caller unwinds.
 *
 * A host that closes its end has not unplugged anything: the modem stays in the state it was in, appears
 * again as soon as somebody listens, and goes on with what it waited for. Nothing is sent IN before the host
 * has polled.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "fault.h"

/* The socket's wire, daemon/transport/virtual.h. */
enum front_type { FRONT_DATA = 'D', FRONT_POLL = 'P', FRONT_CLEAR_HALT = 'H', FRONT_RESET = 'R' };
enum { FRONT_DATAGRAM_MAX = 16384, FRONT_PLUG_MAX = 1024, FRONT_IN_FRAME = 4096 };

enum end_reason {
    END_NONE,
    END_WINDOW,     /* the loop cut the power */
    END_FAULT,      /* unplugged by a fault */
    END_PORT_RESET, /* the host reset the port and the scenario lets that count */
    END_TERMINATED, /* SIGTERM */
    END_NO_HOST,    /* nobody there for too long, or the only connection is gone */
};

struct plug {
    const char *port, *kernel;
    char product[200];
    unsigned vid, pid, interfaces, max_packet;
    /* Only a USB port wants to know: the one that has the pipes, and what normal mode says at its AT ports.
     */
    unsigned live_interface, live_protocol;
    const char *version;
};

struct datagram {
    struct datagram *next;
    size_t length, position;
    bool ends_transfer;
    uint8_t data[FRONT_DATAGRAM_MAX];
};

/* Where the host listens; length 0: nowhere, there is only the fd that was given. */
struct front_address {
    struct sockaddr_un address;
    socklen_t length;
};

struct front {
    struct front_address host;
    int fd, given_fd;
    struct plug plug;
    bool polled;
    bool
        raw; /* what is sent is raw data: a host that takes them finds their lines of the trace behind them */
    bool unsettled; /* something was sent and may not have been collected */
    enum end_reason ended;
    int64_t power_until; /* µs of CLOCK_MONOTONIC; 0: no end */
    int64_t host_wait_us;
    int in_posted; /* bytes that the host's controller takes in without the host; 0: only while it waits */
    bool port_reset_restarts;
    bool usb; /* at the other end is a port: it loses what is not collected, and if it is gone, it is gone */

    struct datagram *current; /* what is being read; then the ones that came before the host polled */
    struct datagram *waiting, **waiting_tail;
    struct datagram *spare;
    unsigned waiting_count;
    enum fault_kind after_current; /* happens when current is used up */

    struct faults *faults;
    bool nak_next, garbage_next;
    int64_t busy_us; /* time that the device owes */
};

/* False: the path is too long for a socket. */
bool front_address_of_path(struct front_address *a, const char *path);

void front_init(struct front *f, const struct front_address *host, int given_fd, struct faults *faults);
void front_free(struct front *f);

/* Installs the handlers for SIGTERM, SIGINT, SIGUSR1 (it stops when it is gone) and SIGHUP (trace_go_on());
 * once a process. */
int front_catch_signals(void);

/* Plugs itself in: connects, sends the first datagram. */
int front_appear(struct front *f, const struct plug *p);

/* Waits until the host has collected what was sent, at most as long as a modem would before it resets itself.
 */
void front_flush(struct front *f);

/* Gone from the bus. */
void front_vanish(struct front *f);

/* It is gone, and stops here if a test wants it to. */
void front_gone(struct front *f);

/*
 * One OUT transfer: waits until size bytes are there or the host ended its transfer with a short packet (then
 * fewer, perhaps none). What is beyond size stays for the next call.
 */
int front_read(struct front *f, void *buffer, size_t size, size_t *ret_length);

/* The same until a time of trace_now(), 0 for ever: -ETIMEDOUT, nothing came until then. */
int front_read_until(struct front *f, void *buffer, size_t size, int64_t until, size_t *ret_length);

/* Sends bytes IN without an end of transfer of their own: if length is a multiple of the packet size, more or
   a ZLP follows. Waits until the host has polled and takes them. */
int front_write(struct front *f, const void *data, size_t length);
int front_write_zlp(struct front *f);

/* Something that is written now goes out at once: the host has polled, and collected what was there. */
bool front_takes(const struct front *f);

/* The device works for so long and looks at nothing; small times are added up. */
int front_busy(struct front *f, int64_t us);

/* Waits for us microseconds (or for ever: -1) with the modem on the bus. 0, -ENODEV. */
int front_wait(struct front *f, int64_t us);

/* Like front_wait, but the modem is off the bus. */
int front_wait_off(struct front *f, int64_t us);

/* Does not answer any more until it loses power. Always -ENODEV. */
int front_hang(struct front *f);

/* Unplugs itself. Always -ENODEV. */
int front_end(struct front *f, enum end_reason why);

/* Carries out unplug and hang (-ENODEV) and notes nak and garbage for the next answer (0). */
int front_strike(struct front *f, enum fault_kind k);

const char *front_end_name(enum end_reason why);
