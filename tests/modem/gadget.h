/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A USB port for the virtual modem, on a kernel with FunctionFS and a UDC (dummy_hcd has as many as wanted).
 * It is the other end of daemon/transport/virtual.h, in a process of its own: a connection of the modem
 * becomes a gadget on the UDC, its end the unplug. So whatever the modem does (busy, hung, stopped, killed),
 * the port behaves as hardware does: data wait in its FIFOs, a process of the host that comes or goes is not
 * noticed, and a modem that dies leaves the bus.
 *
 *   gadget.c           the process: connections, one appearance after the other
 *   gadget-tree.c      configfs and the mount: a gadget from its first directory to the last
 *   gadget-pipes.c     the two endpoints: packets to datagrams and back
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* ---- gadget.c ---- */

struct gadget_port {
    pid_t process;
    int leash; /* the port ends when this closes */
    struct sockaddr_un address;
    socklen_t address_length;
};

/* Starts the port's process on a UDC (a name in /sys/class/udc). 0 or -errno. */
int gadget_port_start(struct gadget_port *p, const char *udc);

/* Unplugs what is plugged and waits for the end of the process: its exit status, 0 if it never failed. */
int gadget_port_stop(struct gadget_port *p);

/* ---- gadget-tree.c ---- */

enum { GADGET_PATH_MAX = 256, GADGET_MAX_PACKET = 512, GADGET_SUPER_SPEED_PACKET = 1024 };

struct gadget_identity {
    unsigned vid, pid, interfaces;
    unsigned live, protocol; /* the interface with the pipes, and its bInterfaceProtocol */
    bool super_speed;
    char product[200];
};

struct gadget {
    char name[64], udc[64], function[80];
    char tree[GADGET_PATH_MAX], mount[GADGET_PATH_MAX];
    int control, in, out; /* ep0 and the pipes of the live interface */
    unsigned packet;      /* wMaxPacketSize of the pipes */
};

/* Takes away what a port that was killed left on this UDC. */
void gadget_init(struct gadget *g, const char *udc);

/* Onto the bus; the host enumerates it from now on. 0 or -errno, with what failed on standard error. */
int gadget_plug(struct gadget *g, const struct gadget_identity *id);

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
