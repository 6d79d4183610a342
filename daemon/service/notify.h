/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What systemd is told while the service runs: not sd_notify(), which waits for PID 1 to read, and that takes
 * its time when it reloads.
 */

#include <stdbool.h>

/* "KEY=VALUE" lines to $NOTIFY_SOCKET, with a descriptor unless fd is negative (it stays the caller's). False
 * without the socket, and if there is no room for it now. */
bool notify_send(const char *lines, int fd);
