/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A USB port for the virtual modem. It is the other end of daemon/transport/virtual.h, in a process of its
 * own: a connection of the modem becomes a device on the bus, its end the unplug. So whatever the modem does
 * (busy, hung, stopped, killed), the port behaves as hardware does: a process of the host that comes or goes
 * is not noticed, and a modem that dies leaves the bus.
 *
 *   gadget.c   a port of a USB device controller (dummy_hcd has as many as wanted)
 *   usbip.c    a port of vhci_hcd, or a test's socket
 */

#include <linux/usb/ch9.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* What the modem says of itself when it plugs itself in. */
struct port_identity {
    unsigned vid, pid, interfaces;
    unsigned live, protocol; /* the interface with the pipes, and its bInterfaceProtocol */
    bool super_speed;
    char product[200], version[128]; /* version: of what it runs, empty in other modes */
};

struct port {
    pid_t process;
    int leash; /* the port ends when this closes */
    struct sockaddr_un address;
    socklen_t address_length;
};

enum { PORT_SUPER_SPEED_PACKET = 1024, PORT_HIGH_SPEED_PACKET = 512 };

/*
 * Its interfaces. The live one (9008's only one, or DIAG) is ff/ff/protocol and has two endpoints. The others
 * are there to be seen: serial ports ff/00/00, and last ff/ff/ff for the network, with three each
 * (reference/diag.md 1.3).
 */
bool port_is_serial(const struct port_identity *id, unsigned number);
struct usb_interface_descriptor port_interface(const struct port_identity *id, unsigned number);

/* One appearance, until the modem closes its connection (0) or the leash is let go (-ECANCELED). */
typedef int (*port_serve)(const char *where, const struct port_identity *id, int connection, int leash);

/* Starts the port's process. 0 or -errno. */
int port_start(struct port *p, port_serve serve, const char *where);

/* Unplugs what is plugged and waits for the end of the process: its exit status, 0 if it never failed. */
int port_stop(struct port *p);
