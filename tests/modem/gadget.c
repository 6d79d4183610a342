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

int gadget_serve(const char *udc, const struct port_identity *id, int connection, int leash)
{
    struct gadget g;
    struct gadget_pipes *pipes;
    int r;

    gadget_init(&g, udc);
    r = gadget_plug(&g, id);
    pipes = r == 0 ? gadget_pipes_new(&g, connection) : NULL;
    if (r == 0)
        r = pipes ? carry(&g, pipes, connection, leash) : -ENOMEM;
    gadget_unbind(&g);
    gadget_pipes_free(pipes);
    gadget_remove(&g);
    return r;
}
