/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which interface is DIAG: compositions as their dumps show them (reference/diag.md 1.3, edl.md 3.1). */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "transport/usb-interface.h"

enum { INTERFACES_MAX = 10 };

/* class, subclass, protocol, number of endpoints: 2 is a bulk pair, 3 one with an interrupt in front. */
struct one {
    uint8_t class, subclass, protocol, endpoints;
};

struct device {
    struct libusb_config_descriptor config;
    struct libusb_interface interfaces[INTERFACES_MAX];
    struct libusb_interface_descriptor descriptors[INTERFACES_MAX];
    struct libusb_endpoint_descriptor endpoints[INTERFACES_MAX][3];
};

static void make(struct device *d, const struct one *list, uint8_t n)
{
    memset(d, 0, sizeof(*d));
    d->config.bNumInterfaces = n;
    d->config.interface = d->interfaces;
    for (uint8_t i = 0; i < n; i++) {
        struct libusb_interface_descriptor *x = &d->descriptors[i];
        unsigned skip = list[i].endpoints - 2u;
        *x = (struct libusb_interface_descriptor){.bInterfaceNumber = i,
                                                  .bNumEndpoints = list[i].endpoints,
                                                  .bInterfaceClass = list[i].class,
                                                  .bInterfaceSubClass = list[i].subclass,
                                                  .bInterfaceProtocol = list[i].protocol,
                                                  .endpoint = d->endpoints[i]};
        d->interfaces[i] = (struct libusb_interface){.altsetting = x, .num_altsetting = 1};
        if (skip)
            d->endpoints[i][0] = (struct libusb_endpoint_descriptor){
                .bEndpointAddress = 0x8f, .bmAttributes = LIBUSB_ENDPOINT_TRANSFER_TYPE_INTERRUPT};
        for (unsigned k = 0; k < 2; k++)
            d->endpoints[i][skip + k] = (struct libusb_endpoint_descriptor){
                .bEndpointAddress = (uint8_t)((k ? 0x00 : 0x80) | (i + 1)),
                .bmAttributes = LIBUSB_ENDPOINT_TRANSFER_TYPE_BULK,
                .wMaxPacketSize = 512};
    }
}

static int choose(const struct one *list, uint8_t n, uint16_t vid, uint16_t pid)
{
    struct device d;
    struct usb_interface found = {0};
    make(&d, list, n);
    int r = usb_interface_choose_diag(&d.config, vid, pid, &found);
    if (r == 0)
        assert_int_equal(found.in, 0x81 + found.number);
    return r == 0 ? found.number : r;
}

#define CHOOSE(vid, pid, ...)                                                                                \
    choose((const struct one[]){__VA_ARGS__},                                                                \
           sizeof((const struct one[]){__VA_ARGS__}) / sizeof(struct one), vid, pid)

static void test_compositions(void **state)
{
    (void)state;
    /* RM500Q: DIAG ff/ff/30, NMEA, AT, modem ff/00/00, QMI ff/ff/ff with three. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0800, {0xff, 0xff, 0x30, 2}, {0xff, 0, 0, 3}, {0xff, 0, 0, 3},
                            {0xff, 0, 0, 3}, {0xff, 0xff, 0xff, 3}),
                     0);
    /* EC25: ff/ff/ff with two. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0125, {0xff, 0xff, 0xff, 2}, {0xff, 0, 0, 3}, {0xff, 0, 0, 3},
                            {0xff, 0, 0, 3}, {0xff, 0xff, 0xff, 3}),
                     0);
    /* EC25 with usbnet=1: the net pair comes first. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0125, {2, 6, 0, 3}, {10, 0, 0, 2}, {0xff, 0xff, 0xff, 2},
                            {0xff, 0, 0, 3}, {0xff, 0, 0, 3}),
                     2);
    /* ff/ff/30 goes before an ff/ff/ff that stands in front of it. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0801, {0xff, 0xff, 0xff, 2}, {0xff, 0xff, 0x30, 2}), 1);
    /* The crash dump of SDX55: one interface. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0800, {0xff, 0xff, 0xff, 2}), 0);
    /* QMI alone, storage, nothing. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0800, {0xff, 0xff, 0xff, 3}), -ENOENT);
    assert_int_equal(CHOOSE(0x2c7c, 0x0800, {8, 6, 0x50, 2}), -ENOENT);
}

static void test_exceptions(void **state)
{
    (void)state;
    /* ThinkPad's RM520N: MBIM in front, DIAG is 3 whatever its protocol says. */
    assert_int_equal(
        CHOOSE(0x2c7c, 0x0803, {2, 14, 0, 3}, {10, 0, 2, 2}, {0xff, 0xff, 0xff, 2}, {0xff, 0xff, 0x40, 2}),
        3);
    assert_int_equal(CHOOSE(0x2c7c, 0x0514, {0xff, 0xff, 0xff, 2}, {0xff, 0, 0, 3}, {0xff, 0xff, 0xff, 2}),
                     2);
    /* The same interfaces of a model that is no exception. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0512, {0xff, 0xff, 0xff, 2}, {0xff, 0, 0, 3}, {0xff, 0xff, 0xff, 2}),
                     0);
    /* An exception in a composition that has no such interface. */
    assert_int_equal(CHOOSE(0x2c7c, 0x0128, {0xff, 0xff, 0x30, 2}), 0);
    /* Or another class there. */
    assert_int_equal(
        CHOOSE(0x2c7c, 0x0128, {2, 14, 0, 3}, {10, 0, 2, 2}, {0xff, 0xff, 0x30, 2}, {3, 0, 0, 2}), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_compositions),
                                       cmocka_unit_test(test_exceptions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
