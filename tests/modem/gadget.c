/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gadget.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/usb/functionfs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "front.h"

/* ---- the port's process ---- */

/* The first datagram of an appearance: KEY=VALUE lines. */
static bool parse_plug(char *text, struct gadget_identity *id)
{
    char *rest = text, *line;

    *id = (struct gadget_identity){0};
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
            id->super_speed = strtoul(value, NULL, 10) == GADGET_SUPER_SPEED_PACKET;
        else if (strcmp(line, "PRODUCT") == 0)
            snprintf(id->product, sizeof(id->product), "%s", value);
    }
    return id->vid && id->pid;
}

/* Requests that the kernel does not answer itself: a serial driver sets its lines, and is told that it may.
 */
static void answer_setup(int control, const struct usb_ctrlrequest *setup)
{
    uint8_t nothing[1];
    bool to_host = setup->bRequestType & USB_DIR_IN;
    ssize_t n;

    if (!to_host && setup->wLength == 0)
        n = read(control, nothing, 0);
    else
        /* The wrong direction is a stall. */
        n = to_host ? read(control, nothing, 0) : write(control, nothing, 0);
    (void)n;
}

static void on_control(int control, struct gadget_pipes *pipes)
{
    struct usb_functionfs_event events[4];
    ssize_t n = read(control, events, sizeof(events));

    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(events[0]); i++) {
        switch (events[i].type) {
        case FUNCTIONFS_ENABLE:
            gadget_pipes_enable(pipes, true);
            break;
        case FUNCTIONFS_DISABLE:
        case FUNCTIONFS_UNBIND:
            gadget_pipes_enable(pipes, false);
            break;
        case FUNCTIONFS_SETUP:
            answer_setup(control, &events[i].u.setup);
            break;
        default:
            break;
        }
    }
}

/* Until the modem closes its connection (0) or the leash is let go (-ECANCELED). */
static int carry(const struct gadget *g, struct gadget_pipes *pipes, int connection, int leash)
{
    for (;;) {
        struct pollfd p[] = {{.fd = leash, .events = POLLIN},
                             {.fd = connection, .events = gadget_pipes_events(pipes)},
                             {.fd = g->control, .events = POLLIN},
                             {.fd = gadget_pipes_fd(pipes), .events = POLLIN}};

        if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0 && errno != EINTR)
            return -errno;
        if (p[0].revents)
            return -ECANCELED;
        /* No more power: nothing that was ready gets out. */
        if (p[1].revents & (POLLHUP | POLLERR))
            return 0;
        if (p[2].revents & POLLIN)
            on_control(g->control, pipes);
        if (gadget_pipes_run(pipes) < 0)
            return 0;
    }
}

/* One appearance of the modem. */
static int serve(struct gadget *g, int connection, int leash)
{
    struct gadget_identity id;
    char text[FRONT_PLUG_MAX + 1];
    struct gadget_pipes *pipes;
    ssize_t n = recv(connection, text, FRONT_PLUG_MAX, 0);
    int r;

    if (n <= 0)
        return 0;
    text[n] = '\0';
    if (!parse_plug(text, &id))
        return -EBADMSG;
    r = gadget_plug(g, &id);
    pipes = r == 0 ? gadget_pipes_new(g, connection) : NULL;
    if (r == 0)
        r = pipes ? carry(g, pipes, connection, leash) : -ENOMEM;
    gadget_unbind(g);
    gadget_pipes_free(pipes);
    gadget_remove(g);
    return r;
}

static int run(const char *udc, int listener, int leash)
{
    struct gadget g;
    int r = 0;

    gadget_init(&g, udc);
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
        r = serve(&g, connection, leash);
        close(connection);
    }
    return r == -ECANCELED ? 0 : r;
}

/* ---- the modem's side ---- */

/* An address that the kernel finds. */
static int listen_somewhere(struct gadget_port *p)
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

int gadget_port_start(struct gadget_port *p, const char *udc)
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
        /* It ends by its leash only, after the gadget is gone; Ctrl-C reaches it too. */
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        close(leash[1]);
        _exit(run(udc, listener, leash[0]) < 0 ? 1 : 0);
    }
    close(listener);
    close(leash[0]);
    p->leash = leash[1];
    return 0;
}

int gadget_port_stop(struct gadget_port *p)
{
    int status;

    close(p->leash);
    return waitpid(p->process, &status, 0) == p->process && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
