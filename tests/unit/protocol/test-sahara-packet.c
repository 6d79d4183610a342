/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sahara packets, names and reset (protocol/sahara-packet.c, sahara-names.c). */

#include "../sahara-modem.h"

#include "protocol/sahara-packet.h"

/* ---- tables ---- */

static void test_status_names(void **state)
{
    (void)state;
    for (uint32_t s = 0; s <= 0x28; s++) {
        char code[16];
        snprintf(code, sizeof(code), "(0x%02x)", s);
        assert_non_null(strstr(sahara_status_name(s), code));
        assert_true(strlen(sahara_status_name(s)) > strlen(code) + 4);
    }
    assert_string_equal(sahara_status_name(0x21), "hash-table auth failure (0x21)");
    assert_string_equal(sahara_status_name(0x25), "image auth failure (0x25)");
    assert_string_equal(sahara_status_name(0x29), "unknown status 0x29");
    assert_string_equal(sahara_status_name(UINT32_MAX), "unknown status 0xffffffff");
}

static void test_chip_names(void **state)
{
    (void)state;
    assert_string_equal(sahara_chip_name(0x000cf0e100040000), "SDX55");
    assert_string_equal(sahara_chip_name(0x000e50e100000000), "SDX55");
    assert_string_equal(sahara_chip_name(0x600cf0e1ffffffff), "SDX55"); /* revision 6 */
    assert_string_equal(sahara_chip_name(0x0004a0e100420029), "MDM9607");
    assert_string_equal(sahara_chip_name(0x001990e100040000), "SDX62");
    assert_string_equal(sahara_chip_name(0x000960e1ull << 32), "SDX24");
    assert_null(sahara_chip_name(0x010cf0e100000000));
    assert_null(sahara_chip_name(0));
}

static void test_parse_hello(void **state)
{
    (void)state;
    uint8_t packet[0x30 + 1] = {0};
    struct sahara_hello hello;
    for (uint32_t version = 1; version <= 3; version++) {
        pbl_hello(packet, version, 2);
        assert_int_equal(sahara_parse_hello(packet, 0x30, &hello), 0);
        assert_int_equal(hello.version, version);
        assert_int_equal(hello.compatible, 1);
        assert_int_equal(hello.max_packet, 0x400);
        assert_int_equal(hello.mode, SAHARA_MODE_MEMORY_DEBUG);
    }
    const struct sahara_hello before = hello;
    for (size_t size = 0; size <= 0x31; size++)
        if (size != 0x30)
            assert_int_equal(sahara_parse_hello(packet, size, &hello), -EPROTO);
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0x00, 2}, {0x03, 1}, {0x04, 0x2f}, {0x05, 1}, {0x08, 0}, {0x14, 4}, {0x17, 0x80}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        pbl_hello(packet, 1, 0);
        packet[bad[i].at] = bad[i].value;
        assert_int_equal(sahara_parse_hello(packet, 0x30, &hello), -EPROTO);
    }
    assert_memory_equal(&hello, &before, sizeof(hello));
}

/* ---- packets ---- */

static void host_receive_three(struct peer_case *c, struct transport *t)
{
    static const uint32_t expected[] = {SAHARA_RESET_RESP, SAHARA_HELLO, SAHARA_READ_DATA};
    for (size_t i = 0; i < ARRAY_SIZE(expected) && c->r == 0; i++) {
        struct sahara_packet p;
        c->r = sahara_packet_receive(t, &p, deadline_in(2 * USEC_PER_SEC));
        if (c->r == 0 && p.command != expected[i])
            c->r = -EBADMSG;
        c->numbers[i] = c->r == 0 ? p.size : 0;
    }
}

enum cut { CUT_GLUED, CUT_BYTES, CUT_ZLPS, CUT_PACKETS, CUT_COUNT };

static void modem_three(struct peer *p, const void *arg)
{
    uint8_t all[8 + 0x30 + 0x14];
    size_t n = pbl_packet(all, PBL_RESET_RESP, NULL, 0);
    n += pbl_hello(all + n, 2, 0);
    n += pbl_packet(all + n, PBL_READ_DATA, (const uint32_t[]){13, 0, 52}, 3);
    switch (*(const enum cut *)arg) {
    case CUT_GLUED:
        peer_say(p, all, n);
        break;
    case CUT_BYTES:
        peer_stammer(p, all, n);
        break;
    case CUT_ZLPS:
        for (unsigned i = 0; i < 20; i++)
            peer_say(p, NULL, 0);
        peer_say(p, all, 12);
        peer_say(p, NULL, 0);
        peer_say(p, all + 12, n - 12);
        break;
    default:
        peer_say(p, all, 8);
        peer_say(p, all + 8, 0x30);
        peer_say(p, all + 0x38, 0x14);
        break;
    }
    peer_be_silent(p);
}

static void test_packets_are_taken_apart(void **state)
{
    (void)state;
    static const enum cut cuts[CUT_COUNT] = {CUT_GLUED, CUT_BYTES, CUT_ZLPS, CUT_PACKETS};
    struct peer_case cases[CUT_COUNT] = {0};
    for (size_t i = 0; i < CUT_COUNT; i++)
        cases[i] = (struct peer_case){
            .name = "packets", .modem = modem_three, .arg = &cuts[i], .host = host_receive_three};
    peer_play(cases, CUT_COUNT);
    for (size_t i = 0; i < CUT_COUNT; i++) {
        assert_int_equal(cases[i].r, 0);
        assert_int_equal(cases[i].numbers[0], 8);
        assert_int_equal(cases[i].numbers[1], 0x30);
        assert_int_equal(cases[i].numbers[2], 0x14);
    }
}

struct bytes {
    size_t size;
    uint8_t bytes[64];
    bool unplug;
};

static void modem_says(struct peer *p, const void *arg)
{
    const struct bytes *b = arg;
    if (b->size > 0)
        peer_say(p, b->bytes, b->size);
    if (!b->unplug)
        peer_be_silent(p);
}

static void host_receive_one(struct peer_case *c, struct transport *t)
{
    struct sahara_packet p = {.command = 4711};
    c->r = sahara_packet_receive(t, &p, deadline_in(200 * USEC_PER_MSEC));
    c->numbers[0] = p.command;
}

/* A HELLO that breaks off at every byte, by silence and by unplug. */
static void test_truncated_packets(void **state)
{
    (void)state;
    enum { N = 2 * 0x30 };
    static struct bytes cut[N];
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++) {
        cut[i].size = i / 2;
        cut[i].unplug = i % 2;
        pbl_hello(cut[i].bytes, 2, 0);
        cases[i] = (struct peer_case){
            .name = "truncated", .modem = modem_says, .arg = &cut[i], .host = host_receive_one};
    }
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cases[i].r, cut[i].unplug ? -ENODEV : cut[i].size == 0 ? -ETIMEDOUT : -EPROTO);
        assert_int_equal(cases[i].numbers[0], 0); /* no command */
    }
}

/* A HELLO with every single byte of its header wrong, and headers that lie about their length. */
static void test_garbage_headers(void **state)
{
    (void)state;
    static const struct {
        uint32_t command, length;
        int r;
    } headers[] = {
        {PBL_HELLO, 0x2f, -EPROTO},
        {PBL_HELLO, 0, -EPROTO},
        {PBL_HELLO, 7, -EPROTO},
        {PBL_HELLO, 0x401, -EPROTO},
        {PBL_HELLO, UINT32_MAX, -EPROTO},
        {PBL_RESET_RESP, 7, -EPROTO},
        {PBL_END_IMAGE, 0x0f, -EPROTO},
        {PBL_READ_DATA64, 0x1f, -EPROTO},
        {PBL_HELLO_RESP, 0x30, -EPROTO},
        {PBL_RESET, 8, -EPROTO},
        {PBL_EXECUTE_DATA, 0x0c, -EPROTO},
        {0, 8, -EPROTO},
        {0x14, 0x30, -EPROTO},
        {UINT32_MAX, 8, -EPROTO},
        {PBL_HELLO | 0x100, 0x30, -EPROTO},
        {PBL_HELLO | 0x1000000, 0x30, -EPROTO},
        {PBL_RESET_RESP, 8, 0},
        {PBL_CMD_READY, 12, 0},
        {PBL_HELLO, 0x30, 0},
    };
    enum { N = ARRAY_SIZE(headers) };
    static struct bytes said[N];
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++) {
        pbl_hello(said[i].bytes, 2, 0);
        uint32_t raw[2] = {htole32(headers[i].command), htole32(headers[i].length)};
        memcpy(said[i].bytes, raw, sizeof(raw));
        said[i].size = 0x30;
        cases[i] = (struct peer_case){
            .name = "header", .modem = modem_says, .arg = &said[i], .host = host_receive_one};
    }
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++)
        if (cases[i].r != headers[i].r)
            fail_msg("header %zu: %d", i, cases[i].r);
}

/* A packet longer than any buffer, with all its bytes. */
static void modem_huge_packet(struct peer *p, const void *arg)
{
    static uint8_t packet[0x2000];
    const uint32_t header[] = {htole32(PBL_HELLO), htole32(sizeof(packet))};
    (void)arg;
    memcpy(packet, header, sizeof(header));
    peer_say(p, packet, sizeof(packet));
    peer_be_silent(p);
}

static void test_huge_packet(void **state)
{
    (void)state;
    struct peer_case c = {.name = "huge", .modem = modem_huge_packet, .host = host_receive_one};
    peer_play(&c, 1);
    assert_int_equal(c.r, -EPROTO);
    assert_int_equal(c.numbers[0], 0);
}

static void modem_floods_zlps(struct peer *p, const void *arg)
{
    (void)arg;
    while (peer_say(p, NULL, 0))
        ;
}

static void test_endless_zlps(void **state)
{
    (void)state;
    struct peer_case c = {.name = "zlps", .modem = modem_floods_zlps, .host = host_receive_one};
    peer_play(&c, 1);
    assert_int_equal(c.r, -ETIMEDOUT);
}

/* ---- reset ---- */

static void host_reset(struct peer_case *c, struct transport *t)
{
    c->r = sahara_reset(t, &c->e);
}

static void modem_resets(struct peer *p, const void *arg)
{
    const char *how = arg;
    PBL_EXPECT(p, PBL_RESET);
    if (strcmp(how, "resp") == 0)
        PBL_SAY(p, PBL_RESET_RESP);
    else if (strcmp(how, "hello") == 0)
        pbl_say_hello(p, 2, 0);
    else if (strcmp(how, "late") == 0) {
        PBL_SAY(p, PBL_END_IMAGE, 13, 1);
        PBL_SAY(p, PBL_RESET_RESP);
    } else if (strcmp(how, "garbage") == 0)
        peer_say_text(p, "nonsense");
    else if (strcmp(how, "gone") == 0)
        return;
    peer_be_silent(p);
}

static void modem_gone(struct peer *p, const void *arg)
{
    (void)p;
    (void)arg;
}

static void test_reset(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {.name = "resp", .modem = modem_resets, .arg = "resp", .host = host_reset},
        {.name = "hello", .modem = modem_resets, .arg = "hello", .host = host_reset},
        {.name = "late", .modem = modem_resets, .arg = "late", .host = host_reset},
        {.name = "gone", .modem = modem_resets, .arg = "gone", .host = host_reset},
        {.name = "gone before", .modem = modem_gone, .host = host_reset},
        {.name = "garbage", .modem = modem_resets, .arg = "garbage", .host = host_reset},
        {.name = "silent", .modem = modem_resets, .arg = "silent", .host = host_reset},
    };
    peer_play(cases, ARRAY_SIZE(cases));
    for (size_t i = 0; i < 5; i++)
        if (cases[i].r != 0)
            fail_msg("%s: %d %s", cases[i].name, cases[i].r, cases[i].e.message);
    assert_int_equal(cases[5].e.kind, ERROR_SAHARA_FAILED);
    assert_int_equal(cases[6].e.kind, ERROR_TIMEOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_chip_names),
        cmocka_unit_test(test_parse_hello),
        cmocka_unit_test(test_packets_are_taken_apart),
        cmocka_unit_test(test_truncated_packets),
        cmocka_unit_test(test_garbage_headers),
        cmocka_unit_test(test_huge_packet),
        cmocka_unit_test(test_endless_zlps),
        cmocka_unit_test(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
