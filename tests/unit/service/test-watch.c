/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What ids, product strings and appearances mean, without any device. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "service/watch.h"

static void test_candidates(void **state)
{
    (void)state;
    static const struct {
        uint16_t vid, pid;
        bool candidate;
    } cases[] = {
        {0x2c7c, 0x0800, true},                           /* RM502Q */
        {0x2c7c, 0x0125, true},  {0x2c7c, 0x6008, true},  /* EM061K-GL: Qualcomm in spite of its number */
        {0x2c7c, 0x6009, true},  {0x2c7c, 0x6005, false}, /* ASR */
        {0x2c7c, 0x600a, false}, {0x2c7c, 0x6fff, false}, {0x2c7c, 0x8101, false}, /* HiSilicon */
        {0x2c7c, 0x7001, true},  {0x2c7c, 0x9000, true},  {0x05c6, 0x9008, true},  {0x05c6, 0x900e, true},
        {0x05c6, 0x9091, true},  {0x05c6, 0x9092, true},  {0x05c6, 0x90db, true},  {0x3c93, 0xffff, true},
        {0x3763, 0x3c93, true},  {0x105b, 0xe0ab, true},  {0x105b, 0xe0b0, true},  {0x18d1, 0xd00d, true},
        {0x05c6, 0x9009, false}, {0x05c6, 0x1000, false}, {0x18d1, 0x4ee7, false}, /* somebody's phone */
        {0x1d6b, 0x0002, false},                                                   /* a root hub */
        {0x0000, 0x0000, false}, {0xffff, 0x3c93, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (appearance_is_candidate(cases[i].vid, cases[i].pid) != cases[i].candidate)
            fail_msg("%04x:%04x should be %d", cases[i].vid, cases[i].pid, cases[i].candidate);
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        uint16_t vid, pid;
        unsigned interfaces;
        const char *kind;
    } cases[] = {
        {0x2c7c, 0x0800, 5, "normal"},     {0x2c7c, 0x0800, 1, "crash-dump"}, /* SDX55's dump */
        {0x2c7c, 0x0800, 0, "normal"},                                        /* not known: not a dump */
        {0x2c7c, 0x6005, 5, "unknown"},    {0x05c6, 0x9008, 1, "edl"},        {0x105b, 0xe0b0, 1, "edl"},
        {0x05c6, 0x900e, 1, "crash-dump"}, {0x05c6, 0x9006, 2, "crash-dump"}, {0x05c6, 0x9091, 4, "normal"},
        {0x05c6, 0x9091, 1, "crash-dump"}, {0x05c6, 0x901f, 1, "normal"},     {0x3c93, 0xffff, 9, "normal"},
        {0x18d1, 0xd00d, 1, "fastboot"},   {0x1234, 0x5678, 1, "unknown"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct appearance a = {.vid = cases[i].vid, .pid = cases[i].pid, .interfaces = cases[i].interfaces};
        assert_string_equal(appearance_kind(&a), cases[i].kind);
    }
}

static void test_serials(void **state)
{
    (void)state;
    char serial[9];
    static const struct {
        const char *product, *serial;
    } good[] = {
        {"QUSB_BULK_CID:0410_SN:49CBD7EF", "49cbd7ef"},
        {"QUSB_BULK_SN:0011aaFF", "0011aaff"},
        {"QUSB_BULK_CID:0410_SN:49CBD7EF_X", "49cbd7ef"},
        {"QUSB_BULK_SN:49CBD7EF tail", "49cbd7ef"},
        {"QUSB_BULK_SN:1234", "00001234"}, /* printed without its leading zeros */
        {"QUSB_BULK_SN:0", "00000000"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(appearance_serial(good[i].product, serial), 0);
        assert_string_equal(serial, good[i].serial);
    }

    static const char *const bad[] = {
        "",
        "QHSUSB__BULK",
        "RM502Q-GL",
        "SN:1234",
        "_SN:",
        "QUSB_BULK_SN:_1",
        "QUSB_BULK_SN:123456789",
        "QUSB_BULK_SN:4g",
        "QUSB_BULK_SN:+123",
        "QUSB_BULK_SN:\\x001234",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        strcpy(serial, "before");
        assert_int_equal(appearance_serial(bad[i], serial), -ENOENT);
        assert_string_equal(serial, "before");
    }
}

/* Its encoded form names files, with what is behind it. */
static void test_ports(void **state)
{
    (void)state;
    char port[201] = "";
    assert_true(appearance_port_fits(""));
    assert_true(appearance_port_fits("pci-0000:00:14.0-usb-0:1.2.3.4.5.6"));
    assert_true(appearance_port_fits("platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3.4.2"));
    memset(port, ':', 66);
    assert_true(appearance_port_fits(port));
    port[66] = ':';
    assert_false(appearance_port_fits(port));
    memset(port, 'a', 199);
    assert_false(appearance_port_fits(port)); /* the first one is escaped if it is a digit: counted so */
    port[198] = '\0';
    assert_true(appearance_port_fits(port));
}

static void test_freeing(void **state)
{
    (void)state;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
    struct appearance *a = calloc(1, sizeof(*a));
    assert_non_null(a);
    a->key = strdup("virtual:1");
    a->virtual_fd = sv[0];
    assert_null(appearance_free(a));
    assert_int_equal(fcntl(sv[0], F_GETFD), -1);
    close(sv[1]);
    assert_null(appearance_free(NULL));
    assert_null(watch_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidates), cmocka_unit_test(test_kinds),   cmocka_unit_test(test_serials),
        cmocka_unit_test(test_ports),      cmocka_unit_test(test_freeing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
