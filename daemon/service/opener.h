/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Opens a modem's node anew for one worker, without holding up the loop: open() of a usbfs node takes the
 * device's lock, which somebody else may have for seconds (a driver's probe, a port reset by another tool).
 * So a thread opens it and sends the descriptor through a socket; if nobody wants it any more it is closed
 * there.
 */

#include <systemd/sd-event.h>
#include "service/watch.h"

enum { OPENERS_MAX = 64 /* threads at once; one that hangs in open() stays until the kernel lets it go */ };

struct opener;

/* fd: the handler's, O_RDWR | O_CLOEXEC; or the negative errno of opening. The opener is to be freed then. */
typedef void (*opener_handler)(void *userdata, int fd);

/* `a` is not needed any more afterwards. -errno: it cannot even be tried. */
int opener_start(sd_event *event, const struct appearance *a, opener_handler handler, void *userdata,
                 struct opener **ret);
/* Before the handler was called: it will not be. */
struct opener *opener_free(struct opener *o);

/* True if it only says that the device has left; gone() is on its way then, and there is nothing to tell. */
bool opener_is_gone(int error);
/*
 * Why a node could not be opened, for the user: which, the errno, what to do. ModemBusy, LimitExceeded,
 * Failed, with a hint. `error` is negative.
 */
int opener_explain(const char *node, int error, struct error *e);
