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

    PROTOCOL_DIAG = 0x30,
    DIAG_ENDPOINTS = 2,

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

/* ---- normal mode ---- */

/* Modems whose DIAG is not where the descriptors say (QFirehose, qfenix, ModemManager's udev rules). */
static const struct {
    uint16_t vid, pid;
    uint8_t interface;
} exceptions[] = {
    {0x2c7c, 0x0127, 3}, /* EM05CEFC-LNV */
    {0x2c7c, 0x0128, 3}, /* EM060K-GL */
    {0x2c7c, 0x012c, 3}, /* EM060K-GL */
    {0x2c7c, 0x012e, 3}, /* EM120K-GL */
    {0x2c7c, 0x012f, 3}, /* EM120K-GL */
    {0x2c7c, 0x0139, 3}, /* EM061K-GL */
    {0x2c7c, 0x013c, 3}, /* RM255C-GL */
    {0x2c7c, 0x0309, 3}, /* EM05E-EDU */
    {0x2c7c, 0x030a, 3}, /* EM05-G */
    {0x2c7c, 0x030d, 3}, /* EM05G-FCCL */
    {0x2c7c, 0x0310, 3}, /* EM05-CN */
    {0x2c7c, 0x0311, 3}, /* EM05-G-SE10 */
    {0x2c7c, 0x0315, 3}, /* EM05-G STD */
    {0x2c7c, 0x0803, 3}, /* RM520N-GL ThinkPad */
    {0x2c7c, 0x0804, 3}, /* RM520N-GL Zebra */
    {0x2c7c, 0x6008, 3}, /* EM061K-GL */
    {0x2c7c, 0x6009, 3}, /* EM061K-GL */
    {0x2c7c, 0x0133, 2}, /* RG650V-EU */
    {0x2c7c, 0x030b, 2}, /* EG120K */
    {0x2c7c, 0x0514, 2}, /* EG060K-EA */
    {0x05c6, 0x90db, 2}, /* SDX55 reference */
    {0x3c93, 0xffff, 8}, /* OEM EC20/EG060K */
};

static bool is_vendor(const struct libusb_interface_descriptor *i)
{
    return i->bInterfaceClass == CLASS_VENDOR && i->bInterfaceSubClass == SUBCLASS_VENDOR;
}

static bool is_excepted(uint16_t vid, uint16_t pid, uint8_t *ret_number)
{
    for (size_t i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++)
        if (exceptions[i].vid == vid && exceptions[i].pid == pid) {
            *ret_number = exceptions[i].interface;
            return true;
        }
    return false;
}

static int find_diag(const struct libusb_config_descriptor *config, int number, int protocol,
                     struct usb_interface *ret)
{
    for (unsigned n = 0; n < config->bNumInterfaces; n++) {
        const struct libusb_interface *interface = &config->interface[n];
        if (interface->num_altsetting < 1)
            continue;
        const struct libusb_interface_descriptor *i = &interface->altsetting[0];
        bool fits = number >= 0 ? i->bInterfaceNumber == number
                                : i->bInterfaceProtocol == protocol && i->bNumEndpoints == DIAG_ENDPOINTS;
        if (is_vendor(i) && fits && take_endpoints(i, ret) == 0)
            return 0;
    }
    return -ENOENT;
}

int usb_interface_choose_diag(const struct libusb_config_descriptor *config, uint16_t vid, uint16_t pid,
                              struct usb_interface *ret)
{
    uint8_t number;
    /* Another composition (usbnet) moves it; then the descriptors decide as for everybody else. */
    if (is_excepted(vid, pid, &number) && find_diag(config, number, -1, ret) == 0)
        return 0;
    int r = find_diag(config, -1, PROTOCOL_DIAG, ret);
    return r == 0 ? 0 : find_diag(config, -1, PROTOCOL_PBL, ret);
}
