/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Framing of DIAG: the known answers of reference/diag.md 1.1, and frames in every shape a stream has. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "protocol/hdlc.h"

static const struct {
    const char *payload;
    size_t size;
    const char *frame;
    size_t frame_size;
} known[] = {
#define FRAME(payload, frame)                                                                                \
    {                                                                                                        \
        payload, sizeof(payload) - 1, frame, sizeof(frame) - 1                                               \
    }
    FRAME("\x00", "\x00\x78\xf0\x7e"),
    FRAME("\x1c", "\x1c\x95\x2a\x7e"),
    FRAME("\x7c", "\x7c\x93\x49\x7e"),
    FRAME("\x0c", "\x0c\x14\x3a\x7e"),
    FRAME("\x51", "\x51\x74\xb3\x7e"),
    FRAME("\x4b\x65\x01\x00", "\x4b\x65\x01\x00\x54\x0f\x7e"),
    FRAME("\x3a", "\x3a\xa1\x6e\x7e"),
    FRAME("\x29\x01\x00", "\x29\x01\x00\x31\x40\x7e"),
    FRAME("\x29\x02\x00", "\x29\x02\x00\x59\x6a\x7e"),
    FRAME("\x29\x04\x00", "\x29\x04\x00\x89\x3e\x7e"),
    FRAME("\x29\x05\x00", "\x29\x05\x00\x51\x27\x7e"),
    FRAME("\x41"
          "000000",
          "\x41"
          "000000\xdf\x8a\x7e"),
    FRAME("\x46\xff\xff\xff\xff\xff\xff\xff\xfe", "\x46\xff\xff\xff\xff\xff\xff\xff\xfe\x77\x65\x7e"),
    FRAME("\x4b\x0f\x00\x00", "\x4b\x0f\x00\x00\xbb\x60\x7e"),
    FRAME("\x4b\x13\x0b\x00\x2f\x00", "\x4b\x13\x0b\x00\x2f\x00\x19\x11\x7e"),
    FRAME("\x7d\x05\x00\x00\x00\x00\x00\x00", "\x7d\x5d\x05\x00\x00\x00\x00\x00\x00\x74\x41\x7e"),
};

static void test_crc(void **state)
{
    (void)state;
    assert_int_equal(hdlc_crc("123456789", 9), 0x906e);
}

static void test_known_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        uint8_t out[HDLC_ENCODED_MAX(16)];
        assert_int_equal(hdlc_encode(known[i].payload, known[i].size, out), known[i].frame_size);
        assert_memory_equal(out, known[i].frame, known[i].frame_size);

        struct hdlc_decoder d = {0};
        size_t size, used = hdlc_decode(&d, (const uint8_t *)known[i].frame, known[i].frame_size, &size);
        assert_int_equal(used, known[i].frame_size);
        assert_int_equal(size, known[i].size);
        assert_memory_equal(d.frame, known[i].payload, size);
        assert_int_equal(d.dropped, 0);
    }
}

/* A stream as it comes: the tail of an older frame, a leading flag, a frame with one bit wrong, two glued. */
static const uint8_t stream[] = {0x12, 0x34, 0x56, 0x7e, 0x7e, 0x7c, 0x93, 0x49, 0x7e, 0x7c, 0x93, 0x48,
                                 0x7e, 0x1c, 0x95, 0x2a, 0x7e, 0x00, 0x78, 0xf0, 0x7e, 0x3a, 0xa1};

static void test_stream(void **state)
{
    static const uint8_t commands[] = {0x7c, 0x1c, 0x00};
    (void)state;
    /* In one piece, byte by byte, and everything between. */
    for (size_t step = 1; step <= sizeof(stream); step++) {
        struct hdlc_decoder d = {0};
        size_t found = 0;
        for (size_t at = 0; at < sizeof(stream);) {
            size_t end = MIN_OF(at + step, sizeof(stream));
            while (at < end) {
                size_t size, n = hdlc_decode(&d, stream + at, end - at, &size);
                assert_in_range(n, 1, end - at);
                at += n;
                if (size == 0)
                    continue;
                assert_in_range(found, 0, ARRAY_SIZE(commands) - 1);
                assert_int_equal(size, 1);
                assert_int_equal(d.frame[0], commands[found++]);
            }
        }
        assert_int_equal(found, ARRAY_SIZE(commands));
        assert_int_equal(d.dropped, 2);
    }
}

static void test_every_byte(void **state)
{
    (void)state;
    uint8_t payload[1024], out[HDLC_ENCODED_MAX(sizeof(payload))];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 31 ^ i >> 3);
    for (size_t n = 1; n <= sizeof(payload); n++) {
        struct hdlc_decoder d = {0};
        size_t size, length = hdlc_encode(payload, n, out);
        assert_true(length <= HDLC_ENCODED_MAX(n));
        assert_null(memchr(out, HDLC_FLAG, length - 1));
        assert_int_equal(hdlc_decode(&d, out, length, &size), length);
        assert_int_equal(size, n);
        assert_memory_equal(d.frame, payload, n);
    }
}

/* Too long, escape before the flag, and shorter than a CRC: dropped, and the next one is heard. */
static void test_no_frames(void **state)
{
    static const uint8_t good[] = {0x1c, 0x95, 0x2a, 0x7e};
    (void)state;
    struct hdlc_decoder d = {0};
    size_t size;
    static uint8_t endless[3 * HDLC_PAYLOAD_MAX];
    memset(endless, 0x55, sizeof(endless));
    assert_int_equal(hdlc_decode(&d, endless, sizeof(endless), &size), sizeof(endless));
    assert_int_equal(size, 0);
    assert_int_equal(hdlc_decode(&d, (const uint8_t *)"\x7e", 1, &size), 1);
    assert_int_equal(size, 0);
    assert_int_equal(d.dropped, 1);
    assert_int_equal(hdlc_decode(&d, (const uint8_t *)"\x1c\x95\x2a\x7d\x7e\x1c\x7e\xff\xff\x7e", 10, &size),
                     10);
    assert_int_equal(size, 0);
    assert_int_equal(d.dropped, 4);
    assert_int_equal(hdlc_decode(&d, good, sizeof(good), &size), sizeof(good));
    assert_int_equal(size, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),        cmocka_unit_test(test_known_frames), cmocka_unit_test(test_stream),
        cmocka_unit_test(test_every_byte), cmocka_unit_test(test_no_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
