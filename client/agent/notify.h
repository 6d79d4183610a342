/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The desktop's notifications (org.freedesktop.Notifications 1.2, on the session bus): one bubble for each of
 * our objects, which newer news replaces.
 */

#include "news.h"

#include <systemd/sd-bus.h>

struct notify;

/* Somebody pressed "Rescue" in the bubble of this modem. */
typedef void (*notify_rescue)(const char *modem_path, void *userdata);

/* bus: the session's, attached to an event loop; referenced. 0 or -errno. */
int notify_new(sd_bus *bus, notify_rescue on_rescue, void *userdata, struct notify **ret);
struct notify *notify_free(struct notify *n);

/* Shows it for the object at `path`. What the desktop refuses is said on stderr and is no error. */
void notify_show(struct notify *n, const char *path, const struct news *news);
