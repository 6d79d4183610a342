/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which interface of a device is ours: in EDL by its descriptors, never by a number; in normal mode by what
 * the model is known to do, then by its descriptors.
 */

#include <libusb.h>
#include <stddef.h>
#include <stdint.h>

struct usb_interface {
    uint8_t number;
    uint8_t in, out; /* endpoint addresses */
    size_t in_max_packet, out_max_packet;
};

/*
 * The first interface (alternate setting 0) of class ff/ff with protocol ff, 10, 11 or 13 that has exactly
 * one bulk IN and one bulk OUT endpoint of a sane wMaxPacketSize (reference/edl.md 3.1, 4). -ENOENT if there
 * is none.
 */
int usb_interface_choose(const struct libusb_config_descriptor *config, struct usb_interface *ret);

/*
 * The DIAG (DM) interface of a modem that runs its firmware (reference/diag.md 1.3, edl.md 3.1): where the
 * table of exceptions says; else the first of class ff/ff/30, else the first of class ff/ff/ff, each with
 * exactly two bulk endpoints and no other (ff/ff/ff with three is QMI). -ENOENT if there is none.
 */
int usb_interface_choose_diag(const struct libusb_config_descriptor *config, uint16_t vid, uint16_t pid,
                              struct usb_interface *ret);
