/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "port.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "front.h"

/* ---- what a device says of itself ---- */

bool port_is_serial(const struct port_identity *id, unsigned number)
{
    return number != id->live && number + 1 < id->interfaces;
}

struct usb_interface_descriptor port_interface(const struct port_identity *id, unsigned number)
{
    bool live = number == id->live, serial = port_is_serial(id, number);
    return (struct usb_interface_descriptor){
        .bLength = sizeof(struct usb_interface_descriptor),
        .bDescriptorType = USB_DT_INTERFACE,
        .bInterfaceNumber = (uint8_t)number,
        .bNumEndpoints = live ? 2 : 3,
        .bInterfaceClass = USB_CLASS_VENDOR_SPEC,
        .bInterfaceSubClass = serial ? 0 : USB_CLASS_VENDOR_SPEC,
        .bInterfaceProtocol = (uint8_t)(serial ? 0
                                        : live ? id->protocol
                                               : USB_CLASS_VENDOR_SPEC),
    };
}

/* ---- the port's process ---- */

/* The first datagram of an appearance: KEY=VALUE lines. */
static bool parse_plug(char *text, struct port_identity *id)
{
    char *rest = text, *line;

    *id = (struct port_identity){0};
    while ((line = strsep(&rest, "\n"))) {
        char *value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = '\0';
        if (strcmp(line, "VID") == 0)
            id->vid = (unsigned)strtoul(value, NULL, 16);
        else if (strcmp(line, "PID") == 0)
            id->pid = (unsigned)strtoul(value, NULL, 16);
        else if (strcmp(line, "INTERFACES") == 0)
            id->interfaces = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(line, "LIVE") == 0)
            id->live = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(line, "PROTOCOL") == 0)
            id->protocol = (unsigned)strtoul(value, NULL, 16);
        else if (strcmp(line, "MAX_PACKET") == 0)
            id->super_speed = strtoul(value, NULL, 10) == PORT_SUPER_SPEED_PACKET;
        else if (strcmp(line, "PRODUCT") == 0)
            snprintf(id->product, sizeof(id->product), "%s", value);
        else if (strcmp(line, "VERSION") == 0)
            snprintf(id->version, sizeof(id->version), "%s", value);
    }
    return id->vid && id->pid;
}

static int appear(port_serve serve, const char *where, int connection, int leash)
{
    struct port_identity id;
    char text[FRONT_PLUG_MAX + 1];
    ssize_t n = recv(connection, text, FRONT_PLUG_MAX, 0);

    if (n <= 0)
        return 0;
    text[n] = '\0';
    return parse_plug(text, &id) ? serve(where, &id, connection, leash) : -EBADMSG;
}

static int run(port_serve serve, const char *where, int listener, int leash)
{
    int r = 0;

    while (r == 0) {
        struct pollfd p[] = {{.fd = leash, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        int connection;

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return -errno;
        if (p[0].revents)
            return 0;
        connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            continue;
        r = appear(serve, where, connection, leash);
        close(connection);
    }
    return r == -ECANCELED ? 0 : r;
}

/* ---- the modem's side ---- */

/* An address that the kernel finds. */
static int listen_somewhere(struct port *p)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    p->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    p->address_length = sizeof(p->address);
    if (bind(fd, (struct sockaddr *)&p->address, sizeof(sa_family_t)) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&p->address, &p->address_length) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int port_start(struct port *p, port_serve serve, const char *where)
{
    int leash[2], listener = listen_somewhere(p);

    if (listener < 0)
        return listener;
    if (pipe2(leash, O_CLOEXEC) < 0) {
        close(listener);
        return -errno;
    }
    p->process = fork();
    if (p->process < 0)
        return -errno;
    if (p->process == 0) {
        /* It ends by its leash only, after the device is gone; Ctrl-C reaches it too. */
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        close(leash[1]);
        _exit(run(serve, where, listener, leash[0]) < 0 ? 1 : 0);
    }
    close(listener);
    close(leash[0]);
    p->leash = leash[1];
    return 0;
}

int port_stop(struct port *p)
{
    int status;

    close(p->leash);
    return waitpid(p->process, &status, 0) == p->process && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
