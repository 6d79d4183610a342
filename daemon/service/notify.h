/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What systemd is told, the watchdog included: not sd_notify(), which waits for PID 1 to read, and that takes
 * its time when it reloads. Nothing here waits.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

/* "KEY=VALUE" lines to $NOTIFY_SOCKET, with a descriptor unless fd is negative (it stays the caller's). False
 * without the socket, and if there is no room for it now. */
bool notify_send(const char *lines, int fd);

struct notify;

/* Tells the watchdog from here on, if systemd asks for it ($WATCHDOG_USEC). -ENOMEM, or what the loop says.
 */
int notify_new(sd_event *event, struct notify **ret);
struct notify *notify_free(struct notify *n);

/* For what must not be lost (READY=1, STOPPING=1): sent now, or by the loop as soon as there is room, in the
 * order of the calls; at most 16 wait. Nothing is told without the socket. */
void notify_surely(struct notify *n, const char *lines);
