/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A USB port without a controller: the device's side of USB/IP as the kernel's vhci_hcd speaks it
 * (Documentation/ usb/usbip_protocol.rst, from CMD_SUBMIT on). A turn of command and answer takes as long as
 * the processes need, where dummy_hcd takes two jiffies; and there is somebody at the AT ports, so that
 * ModemManager has a modem.
 *
 *   usbip.c           one appearance: what the host submits and takes back, and the pipes
 *   usbip-device.c    descriptors and control requests
 *   usbip-at.c        the AT ports
 */

#include <stddef.h>
#include <stdint.h>

#include "port.h"

/* ---- usbip.c ---- */

/* A port_serve; where: the number of a port of vhci_hcd.0, or the path of a socket where a test plays the
 * kernel. */
int usbip_serve(const char *where, const struct port_identity *id, int connection, int leash);

/* ---- usbip-device.c ---- */

enum { USBIP_DESCRIPTOR_MAX = 512, USBIP_SETUP_SIZE = 8 };

/* What an endpoint is for. */
enum usbip_role { USBIP_NOBODY, USBIP_LIVE, USBIP_AT };

/* address: with the direction in bit 7. *ret_interface: whose it is. */
enum usbip_role usbip_role_of(const struct port_identity *id, uint8_t address, unsigned *ret_interface);

/* What the pipes are told of a control request. */
enum usbip_news { USBIP_NO_NEWS, USBIP_CONFIGURED, USBIP_HALT_CLEARED };

/* The answer to a request, at most USBIP_DESCRIPTOR_MAX bytes; -EPIPE: a stall. */
int usbip_control(const struct port_identity *id, const uint8_t setup[USBIP_SETUP_SIZE], uint8_t *answer,
                  size_t *ret_length, enum usbip_news *ret_news);

/* ---- usbip-at.c ---- */

enum { USBIP_AT_LINE = 256, USBIP_AT_TEXT = 2048 };

/* One AT port: the command that is being typed, and what is still to be said. */
struct usbip_at {
    char line[USBIP_AT_LINE], text[USBIP_AT_TEXT];
    size_t line_length, text_length;
};

/* What came from the host. What it is answered is appended to at->text. */
void usbip_at_take(struct usbip_at *at, const struct port_identity *id, const uint8_t *bytes, size_t length);
