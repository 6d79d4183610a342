/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Inside the transport floor: what transport.c needs from a backend (usb.c, stream.c). All waiting is done in
 * transport.c, by one poll() over the backend's descriptors and the waker's; a backend never waits for the
 * modem.
 */

#include <poll.h>

#include "transport/inbox.h"
#include "transport/transport.h"

enum {
    TRANSPORT_POLL_MAX =
        8, /* descriptors of one backend: libusb has its event pipe, its timer and the node */
};

struct transport_ops {
    /* Fills in what to wait for (at most TRANSPORT_POLL_MAX); the number. */
    size_t (*poll_fds)(struct transport *t, struct pollfd *fds);
    /* Called with what poll() said of them when one is ready: takes in what arrived, notes what left. Results
     * go into struct transport. */
    void (*process)(struct transport *t, const struct pollfd *fds);
    /* There is room in the inbox again. May be NULL. */
    void (*resume)(struct transport *t);
    /*
     * Before a read gives up after waiting in vain: brings out bytes that lie in an unfinished IN transfer.
     * True if the inbox has got something. May be NULL.
     */
    bool (*salvage)(struct transport *t);
    /* Posts a copy of at most TRANSPORT_CHUNK_MAX bytes (0: a ZLP); only called with a slot free. */
    int (*submit)(struct transport *t, const void *data, size_t size, unsigned flags);
    /* Both cancel what is in flight and forget the errors first, whatever they return. */
    int (*clear_halt)(struct transport *t);
    int (*reset)(struct transport *t);
    /* Frees the whole of t but the inbox's content. */
    void (*free)(struct transport *t);
};

/* The head of a backend's own struct. */
struct transport {
    const struct transport_ops *ops;
    struct inbox inbox;
    size_t max_packet;  /* of the OUT endpoint */
    unsigned in_flight; /* slots, at most TRANSPORT_QUEUE_DEPTH */
    /* Those of them whose data the device has not taken yet. The ZLP that ends a transfer is not waited for:
       a device may take it only with the next command, and say its answer before (reference/edl.md 2.10). */
    unsigned untaken;
    unsigned unheard; /* payloads queued, and chunks read, since IN and the waker were looked at */
    bool gone;        /* -ENODEV from now on (what is in the inbox can still be read) */
    int in_error;     /* negative: no more IN until clear_halt or reset */
    int out_error;    /* negative: an OUT transfer failed, and all that stood behind it was cancelled */
    /* Until then an -EIO waits for company: a pulled plug shows as transfer errors first, as -ENODEV a little
     * later. */
    usec_t verdict_at;
    int waker_fd;
    transport_waker waker;
    void *waker_userdata;
};

void usb_prepare(void);
/* Each takes ownership of fd, also on failure. */
int usb_open(int fd, enum transport_use use, struct transport **ret, struct error *e);
int stream_open(int fd, struct transport **ret, struct error *e);
