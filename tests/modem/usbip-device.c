/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usbip.h"

#include <errno.h>
#include <linux/usb/ch9.h>
#include <string.h>

#include "front.h"

enum {
    NOTIFY_PACKET = 10,
    NOTIFY_INTERVAL = 9,
    EP0_HIGH_SPEED = 64,
    EP0_SUPER_SPEED = 9, /* as a power of two */
    USB_2 = 0x0200,
    USB_3 = 0x0300,
    LANGUAGE = 0x0409,
    STRING_MANUFACTURER = 1,
    STRING_PRODUCT = 2,
    POWER_HIGH_SPEED = 250,  /* of 2 mA */
    POWER_SUPER_SPEED = 100, /* of 8 mA */
    FIRST_AT = 2,
    LAST_AT = 3, /* reference/diag.md 1.3 */
};

static unsigned packet_of(const struct port_identity *id)
{
    return id->super_speed ? PORT_SUPER_SPEED_PACKET : PORT_HIGH_SPEED_PACKET;
}

/* ---- descriptors ---- */

/* A list of them that grows, and the numbers of endpoints that are spent. */
struct list {
    uint8_t *bytes;
    size_t length;
    unsigned in, out;
};

static void add(struct list *l, const void *descriptor, size_t length)
{
    memcpy(l->bytes + l->length, descriptor, length);
    l->length += length;
}

static void add_endpoint(struct list *l, const struct port_identity *id, uint8_t direction, uint8_t type)
{
    bool notifies = type == USB_ENDPOINT_XFER_INT;
    struct usb_endpoint_descriptor e = {
        .bLength = USB_DT_ENDPOINT_SIZE,
        .bDescriptorType = USB_DT_ENDPOINT,
        .bEndpointAddress = (uint8_t)(direction | (direction == USB_DIR_IN ? ++l->in : ++l->out)),
        .bmAttributes = type,
        .wMaxPacketSize = (uint16_t)(notifies ? NOTIFY_PACKET : packet_of(id)),
        .bInterval = notifies ? NOTIFY_INTERVAL : 0,
    };
    struct usb_ss_ep_comp_descriptor companion = {.bLength = sizeof(companion),
                                                  .bDescriptorType = USB_DT_SS_ENDPOINT_COMP,
                                                  .wBytesPerInterval = notifies ? NOTIFY_PACKET : 0};

    add(l, &e, USB_DT_ENDPOINT_SIZE);
    if (id->super_speed)
        add(l, &companion, sizeof(companion));
}

static void add_interface(struct list *l, const struct port_identity *id, unsigned number)
{
    struct usb_interface_descriptor i = port_interface(id, number);

    add(l, &i, sizeof(i));
    add_endpoint(l, id, USB_DIR_IN, USB_ENDPOINT_XFER_BULK);
    add_endpoint(l, id, USB_DIR_OUT, USB_ENDPOINT_XFER_BULK);
    if (number != id->live)
        add_endpoint(l, id, USB_DIR_IN, USB_ENDPOINT_XFER_INT);
}

static size_t configuration(const struct port_identity *id, uint8_t *bytes)
{
    struct list l = {.bytes = bytes};
    struct usb_config_descriptor c = {
        .bLength = USB_DT_CONFIG_SIZE,
        .bDescriptorType = USB_DT_CONFIG,
        .bNumInterfaces = (uint8_t)id->interfaces,
        .bConfigurationValue = 1,
        .bmAttributes = USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_WAKEUP,
        .bMaxPower = id->super_speed ? POWER_SUPER_SPEED : POWER_HIGH_SPEED,
    };

    add(&l, &c, USB_DT_CONFIG_SIZE);
    for (unsigned i = 0; i < id->interfaces; i++)
        add_interface(&l, id, i);
    c.wTotalLength = (uint16_t)l.length;
    memcpy(bytes, &c, USB_DT_CONFIG_SIZE);
    return l.length;
}

static size_t device(const struct port_identity *id, uint8_t *bytes)
{
    struct usb_device_descriptor d = {
        .bLength = USB_DT_DEVICE_SIZE,
        .bDescriptorType = USB_DT_DEVICE,
        .bcdUSB = id->super_speed ? USB_3 : USB_2,
        .bMaxPacketSize0 = id->super_speed ? EP0_SUPER_SPEED : EP0_HIGH_SPEED,
        .idVendor = (uint16_t)id->vid,
        .idProduct = (uint16_t)id->pid,
        .iManufacturer = STRING_MANUFACTURER,
        .iProduct = STRING_PRODUCT,
        .bNumConfigurations = 1,
    };

    memcpy(bytes, &d, sizeof(d));
    return sizeof(d);
}

static size_t string(const char *text, uint8_t *bytes)
{
    size_t n = 2;

    for (; *text && n + 2 <= UINT8_MAX; n += 2) {
        bytes[n] = (uint8_t)*text++;
        bytes[n + 1] = 0;
    }
    bytes[0] = (uint8_t)n;
    bytes[1] = USB_DT_STRING;
    return n;
}

static int descriptor(const struct port_identity *id, unsigned type, unsigned index, uint8_t *answer,
                      size_t *ret)
{
    static const uint8_t languages[] = {4, USB_DT_STRING, LANGUAGE & 0xFF, LANGUAGE >> 8};

    if (type == USB_DT_DEVICE)
        *ret = device(id, answer);
    else if (type == USB_DT_CONFIG && index == 0)
        *ret = configuration(id, answer);
    else if (type == USB_DT_STRING && index == 0)
        memcpy(answer, languages, *ret = sizeof(languages));
    else if (type == USB_DT_STRING && index == STRING_MANUFACTURER)
        *ret = string("Qualcomm CDMA Technologies MSM", answer);
    else if (type == USB_DT_STRING && index == STRING_PRODUCT)
        *ret = string(id->product, answer);
    else
        return -EPIPE;
    return 0;
}

/* ---- endpoints ---- */

enum usbip_role usbip_role_of(const struct port_identity *id, uint8_t address, unsigned *ret_interface)
{
    uint8_t bytes[USBIP_DESCRIPTOR_MAX];
    size_t length = configuration(id, bytes);
    bool bulk = false;
    unsigned interface = 0;

    for (size_t at = 0; at < length; at += bytes[at]) {
        if (bytes[at + 1] == USB_DT_INTERFACE)
            interface = bytes[at + 2];
        bulk = bytes[at + 1] == USB_DT_ENDPOINT && bytes[at + 3] == USB_ENDPOINT_XFER_BULK;
        if (bytes[at + 1] == USB_DT_ENDPOINT && bytes[at + 2] == address)
            break;
        bulk = false;
    }
    *ret_interface = interface;
    if (!bulk)
        return USBIP_NOBODY;
    if (interface == id->live)
        return USBIP_LIVE;
    return port_is_serial(id, interface) && interface >= FIRST_AT && interface <= LAST_AT ? USBIP_AT
                                                                                          : USBIP_NOBODY;
}

/* ---- requests ---- */

static int standard(const struct port_identity *id, const struct usb_ctrlrequest *s, uint8_t *answer,
                    size_t *ret, enum usbip_news *ret_news)
{
    switch (s->bRequest) {
    case USB_REQ_GET_DESCRIPTOR:
        return descriptor(id, s->wValue >> 8, s->wValue & 0xFF, answer, ret);
    case USB_REQ_GET_STATUS:
        memset(answer, 0, *ret = 2);
        return 0;
    case USB_REQ_SET_CONFIGURATION:
        *ret_news = s->wValue ? USBIP_CONFIGURED : USBIP_NO_NEWS;
        return 0;
    case USB_REQ_CLEAR_FEATURE:
        if ((s->bRequestType & USB_RECIP_MASK) == USB_RECIP_ENDPOINT && s->wValue == USB_ENDPOINT_HALT)
            *ret_news = USBIP_HALT_CLEARED;
        return 0;
    default:
        return s->bRequestType & USB_DIR_IN ? -EPIPE : 0;
    }
}

int usbip_control(const struct port_identity *id, const uint8_t setup[USBIP_SETUP_SIZE], uint8_t *answer,
                  size_t *ret_length, enum usbip_news *ret_news)
{
    struct usb_ctrlrequest s;
    int r = 0;

    memcpy(&s, setup, sizeof(s)); /* little-endian, as we are */
    *ret_length = 0;
    *ret_news = USBIP_NO_NEWS;
    if ((s.bRequestType & USB_TYPE_MASK) == USB_TYPE_STANDARD)
        r = standard(id, &s, answer, ret_length, ret_news);
    else if (s.bRequestType & USB_DIR_IN)
        r = -EPIPE; /* a serial driver sets its lines, and is told that it may; nobody is asked anything */
    if (*ret_length > s.wLength)
        *ret_length = s.wLength;
    return r;
}
