/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A USB port on a kernel with FunctionFS and a UDC (dummy_hcd has as many as wanted): what the modem sends
 * lies in the FIFOs of a gadget.
 *
 *   gadget.c           one appearance
 *   gadget-tree.c      configfs and the mount: a gadget from its first directory to the last
 *   gadget-pipes.c     the two endpoints: packets to datagrams and back
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "port.h"

/* ---- gadget.c ---- */

/* A port_serve; udc: a name in /sys/class/udc. */
int gadget_serve(const char *udc, const struct port_identity *id, int connection, int leash);

/* ---- gadget-tree.c ---- */

enum { GADGET_PATH_MAX = 256 };

struct gadget {
    char name[64], udc[64], function[80];
    char tree[GADGET_PATH_MAX], mount[GADGET_PATH_MAX];
    int control, in, out; /* ep0 and the pipes of the live interface */
    unsigned packet;      /* wMaxPacketSize of the pipes */
};

/* Takes away what a port that was killed left on this UDC. */
void gadget_init(struct gadget *g, const char *udc);

/* Onto the bus; the host enumerates it from now on. 0 or -errno, with what failed on standard error. */
int gadget_plug(struct gadget *g, const struct port_identity *id);

/* Off the bus: transfers that are under way end with ESHUTDOWN. The files stay open. */
void gadget_unbind(struct gadget *g);

/* Closes the files and removes everything. */
void gadget_remove(struct gadget *g);

/* ---- gadget-pipes.c ---- */

struct gadget_pipes;

/* connection: SEQPACKET to the modem. NULL: no memory, or no AIO context. */
struct gadget_pipes *gadget_pipes_new(const struct gadget *g, int connection);

/* Only after the gadget was unbound: waits for the transfers under way. */
struct gadget_pipes *gadget_pipes_free(struct gadget_pipes *p);

/* Readable when transfers have ended. */
int gadget_pipes_fd(const struct gadget_pipes *p);

/* What to wait for on the connection now (poll events). */
short gadget_pipes_events(struct gadget_pipes *p);

/* The host has configured the gadget, or taken the configuration away. What it had not collected is kept. */
void gadget_pipes_enable(struct gadget_pipes *p, bool enabled);

/* Moves all that can be moved. 0; -ENODEV: the modem has shut down its side and the host has collected what
 * it said. */
int gadget_pipes_run(struct gadget_pipes *p);
