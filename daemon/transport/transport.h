/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Bytes to and from one modem: a pair of bulk endpoints behind a descriptor. usb.c speaks to a usbfs node
 * through libusb, stream.c to a virtual modem through a socket (transport/virtual.h); everything above is the
 * same code. Runs in a worker only; blocking, with absolute deadlines (base/clock.h).
 *
 * IN transfers are posted from the moment of opening and stay posted: a PBL sends its HELLO with the first IN
 * token and only once (reference/edl.md 1.5), and a programmer whose logs are not drained stops to accept OUT
 * data (2.1). What arrives is queued in order with its transfer boundaries, up to 512 KiB; then the modem has
 * to wait until somebody reads.
 *
 * A deadline in the past (0) means: only what can be done without waiting. A write that ended with -ETIMEDOUT
 * or with the waker's error leaves its transfers posted, the modem may take them any time later;
 * transport_clear_halt() cancels them. -EPIPE and -EIO of a direction stay until transport_clear_halt() or
 * transport_reset(). What was received before an error or an unplug can still be read, then the error is
 * told.
 *
 * Errors common to all functions: -ENODEV the modem is gone (told apart from a timeout), -ETIMEDOUT, -EPIPE
 * an endpoint is stalled, -ECANCELED or whatever the waker returned, -EIO anything else the kernel reports.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"

enum {
    TRANSPORT_QUEUE_DEPTH = 4,   /* OUT transfers in flight; two already hide the host's latency */
    TRANSPORT_CHUNK_MAX = 16384, /* the largest single OUT transfer that upper floors hand in at once */
};

enum transport_flags {
    /* A transfer whose length is a multiple of the OUT endpoint's wMaxPacketSize is ended by a ZLP (2.10). */
    TRANSPORT_ZLP = 1 << 0,
};

/* Which interface of the device is opened. */
enum transport_use {
    TRANSPORT_EDL,
    TRANSPORT_DIAG, /* the DM interface of a modem in normal mode (transport/usb-interface.h) */
};

struct transport;

/*
 * For tests: the modem can be one end of socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv): give sv[0] to
 * transport_open() and play the device on sv[1] with the datagrams of transport/virtual.h (the plugging-in
 * datagram is the service's business and not sent here). The first one to arrive there is VIRTUAL_POLL;
 * closing sv[1] is the unplug.
 */

/*
 * Called while a function waits, when the waker's descriptor is readable. 0: go on waiting; negative: the
 * wait ends with this error (transfers that are posted stay posted). It must consume what made the descriptor
 * readable.
 */
typedef int (*transport_waker)(void *userdata);

/* While there is time: all of the next transport_open() that needs no device. Harmless to repeat. */
void transport_prepare(void);
/*
 * Takes ownership of fd, also on failure. A character device is opened as usbfs (kernel driver detached, the
 * interface with one bulk IN and one bulk OUT endpoint claimed; BUSY is retried up to 1 s), a socket as a
 * virtual modem. ModemBusy (-EBUSY) if somebody else keeps the claim, ModemGone (-ENODEV), WrongMode
 * (-EPROTOTYPE) if the device has no such interface, InvalidArgs (-EINVAL) for any other kind of descriptor,
 * Failed (-EIO).
 */
int transport_open(int fd, enum transport_use use, struct transport **ret, struct error *e);
/*
 * Cancels what is posted, releases the interface, closes. The kernel driver is not given back in EDL; in
 * normal mode it is, if it was taken away: the modem's owner wants his ttyUSB again. Takes NULL.
 */
struct transport *transport_free(struct transport *t);
DEFINE_CLEANUP(struct transport *, transport_free)

void transport_set_waker(struct transport *t, int fd, transport_waker waker, void *userdata);

/* wMaxPacketSize of the OUT endpoint, from its descriptor (512, 1024 at SuperSpeed). */
size_t transport_max_packet(const struct transport *t);

/*
 * Up to `size` bytes of the next IN transfer; what does not fit stays for the next call. *ret_size 0 is a ZLP
 * and not an end; *ret_boundary (may be NULL) tells if a transfer ended with the last byte returned. Data in
 * whole packets that no ZLP ended has no boundary, although nothing may follow it (2.10): count bytes, and do
 * not wait for the boundary. -EINVAL for size 0.
 */
int transport_read(struct transport *t, void *buffer, size_t size, usec_t deadline, size_t *ret_size,
                   bool *ret_boundary);

/*
 * True if something was received and not read yet, as of the last call that looked: costs nothing, so that a
 * writer of bulk data, whose every call takes in what arrived, need not ask the kernel once more.
 */
bool transport_has_input(const struct transport *t);

/*
 * size 0 is a ZLP of its own. With TRANSPORT_ZLP and more than one chunk only the end of the whole is ended.
 * Writes all of it and waits until the device has taken it (and everything queued before).
 */
int transport_write(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline);

/*
 * Copies at most TRANSPORT_CHUNK_MAX bytes into a free slot and returns as soon as the transfer is posted;
 * waits only while TRANSPORT_QUEUE_DEPTH are in flight; IN transfers and the waker are looked at once a
 * queueful. An error of an earlier transfer is reported here or by the flush. -EINVAL above
 * TRANSPORT_CHUNK_MAX.
 */
int transport_queue(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline);
/* Waits until the device has taken all data; a ZLP that ends a transfer may still be on its way. */
int transport_flush(struct transport *t, usec_t deadline);

/* Throws away what was received and queued so far (a stale document before a new start). */
void transport_drop_input(struct transport *t);
/* Cancels the OUT transfers in flight and clears a halt of both endpoints; the IN transfers are posted again.
 */
int transport_clear_halt(struct transport *t);
/* USB port reset, the last resort of the recovery ladder; the device may re-enumerate (-ENODEV afterwards).
 */
int transport_reset(struct transport *t);

/*
 * Waits for the waker alone (a worker between two appearances, or a holder). With a transport, what arrives
 * meanwhile is queued; t may be NULL. Returns what the waker returned if it was negative, -ETIMEDOUT at the
 * deadline, -ENODEV if the modem went.
 */
int transport_wait(struct transport *t, int fd, transport_waker waker, void *userdata, usec_t deadline);
