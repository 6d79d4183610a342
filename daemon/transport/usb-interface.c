/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transport/usb-interface.h"

#include <errno.h>
#include <stdbool.h>

enum {
    CLASS_VENDOR = 0xff,
    SUBCLASS_VENDOR = 0xff,
    /* EC25's PBL says ff, SDX55's 11; 10 and 13 were seen on other chips. */
    PROTOCOL_PBL = 0xff,
    PROTOCOL_10 = 0x10,
    PROTOCOL_11 = 0x11,
    PROTOCOL_13 = 0x13,

    MAX_PACKET_MASK = 0x07ff,    /* the bits above are for isochronous endpoints */
    BULK_MAX_PACKET_LEAST = 8,   /* full speed; what is smaller is no bulk endpoint */
    BULK_MAX_PACKET_MOST = 1024, /* SuperSpeed */
};

static bool speaks_edl(const struct libusb_interface_descriptor *i)
{
    if (i->bInterfaceClass != CLASS_VENDOR || i->bInterfaceSubClass != SUBCLASS_VENDOR)
        return false;
    switch (i->bInterfaceProtocol) {
    case PROTOCOL_PBL:
    case PROTOCOL_10:
    case PROTOCOL_11:
    case PROTOCOL_13:
        return true;
    default:
        return false;
    }
}

static int take_endpoints(const struct libusb_interface_descriptor *i, struct usb_interface *ret)
{
    struct usb_interface found = {.number = i->bInterfaceNumber};
    unsigned n_in = 0, n_out = 0;
    for (unsigned n = 0; n < i->bNumEndpoints; n++) {
        const struct libusb_endpoint_descriptor *ep = &i->endpoint[n];
        if ((ep->bmAttributes & LIBUSB_TRANSFER_TYPE_MASK) != LIBUSB_ENDPOINT_TRANSFER_TYPE_BULK)
            continue;
        size_t max_packet = ep->wMaxPacketSize & MAX_PACKET_MASK;
        if (max_packet < BULK_MAX_PACKET_LEAST || max_packet > BULK_MAX_PACKET_MOST)
            return -ENOENT;
        if (ep->bEndpointAddress & LIBUSB_ENDPOINT_IN) {
            found.in = ep->bEndpointAddress;
            found.in_max_packet = max_packet;
            n_in++;
        } else {
            found.out = ep->bEndpointAddress;
            found.out_max_packet = max_packet;
            n_out++;
        }
    }
    if (n_in != 1 || n_out != 1)
        return -ENOENT;
    *ret = found;
    return 0;
}

int usb_interface_choose(const struct libusb_config_descriptor *config, struct usb_interface *ret)
{
    for (unsigned n = 0; n < config->bNumInterfaces; n++) {
        const struct libusb_interface *interface = &config->interface[n];
        if (interface->num_altsetting < 1)
            continue;
        const struct libusb_interface_descriptor *i = &interface->altsetting[0];
        if (speaks_edl(i) && take_endpoints(i, ret) == 0)
            return 0;
    }
    return -ENOENT;
}
