/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/*
 * The two pipes of bare-writer: a socket that a virtual modem connects to, or a usbfs node (a path below
 * /dev/bus/usb), where one transfer at a time is under way, as in the tools that we are compared with.
 */
enum { LINK_PAYLOAD = 8192, LINK_TRANSFER_MAX = 16384 };

/* Prints what failed, with errno, and exits. */
__attribute__((noreturn)) void link_fail(const char *what);

/* Waits for a modem on the socket, or claims the interface of the node that has two bulk endpoints. */
void link_open(const char *path);

void link_put(const void *data, size_t size);

/* The next transfer with data, at most `size` bytes of it (USB: whole packets of 512); its size. */
size_t link_get(void *data, size_t size);

/* The next transfer, which has to be one without data. */
void link_get_zlp(void);
