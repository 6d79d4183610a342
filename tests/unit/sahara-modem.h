/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The words of a PBL (reference/edl.md 1.1) for scripts on peer.h: written from the reference, not from our
 * code. */

#include "peer.h"

#include <endian.h>

enum {
    PBL_HELLO = 0x01,
    PBL_HELLO_RESP = 0x02,
    PBL_READ_DATA = 0x03,
    PBL_END_IMAGE = 0x04,
    PBL_DONE = 0x05,
    PBL_DONE_RESP = 0x06,
    PBL_RESET = 0x07,
    PBL_RESET_RESP = 0x08,
    PBL_MEMORY_DEBUG = 0x09,
    PBL_CMD_READY = 0x0b,
    PBL_SWITCH_MODE = 0x0c,
    PBL_EXECUTE = 0x0d,
    PBL_EXECUTE_RESP = 0x0e,
    PBL_EXECUTE_DATA = 0x0f,
    PBL_MEMORY_DEBUG64 = 0x10,
    PBL_READ_DATA64 = 0x12,
    PBL_RESET_STATE_MACHINE = 0x13,
    PBL_WORDS_MAX = 12,
};

/* A packet of n 32-bit words behind the header; returns its size. */
static inline size_t pbl_packet(uint8_t *out, uint32_t command, const uint32_t *words, size_t n)
{
    uint32_t raw[2 + PBL_WORDS_MAX] = {htole32(command), htole32((uint32_t)(8 + 4 * n))};
    for (size_t i = 0; i < n; i++)
        raw[2 + i] = htole32(words[i]);
    memcpy(out, raw, 8 + 4 * n);
    return 8 + 4 * n;
}

#define PBL_SAY(p, command, ...)                                                                             \
    ({                                                                                                       \
        const uint32_t _w[] = {0, ##__VA_ARGS__};                                                            \
        uint8_t _b[8 + 4 * PBL_WORDS_MAX];                                                                   \
        peer_say(p, _b, pbl_packet(_b, command, _w + 1, ARRAY_SIZE(_w) - 1));                                \
    })
#define PBL_EXPECT(p, command, ...)                                                                          \
    ({                                                                                                       \
        const uint32_t _w[] = {0, ##__VA_ARGS__};                                                            \
        uint8_t _b[8 + 4 * PBL_WORDS_MAX];                                                                   \
        peer_expect(p, _b, pbl_packet(_b, command, _w + 1, ARRAY_SIZE(_w) - 1));                             \
    })

static inline size_t pbl_hello(uint8_t out[0x30], uint32_t version, uint32_t mode)
{
    const uint32_t words[10] = {version, 1, 0x400, mode};
    return pbl_packet(out, PBL_HELLO, words, ARRAY_SIZE(words));
}

static inline bool pbl_say_hello(struct peer *p, uint32_t version, uint32_t mode)
{
    uint8_t hello[0x30];
    return peer_say(p, hello, pbl_hello(hello, version, mode));
}

/* HELLO_RESP with our own version, status 0 and this mode. */
static inline bool pbl_expect_hello_resp(struct peer *p, uint32_t version, uint32_t mode)
{
    return PBL_EXPECT(p, PBL_HELLO_RESP, version, 1, 0, mode, 0, 0, 0, 0, 0, 0);
}
