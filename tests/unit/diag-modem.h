/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A scripted modem that speaks DIAG, on peer.h. Its framing is its own: a copy of the CRC of
 * reference/diag.md 1.1, so that a mistake in ours does not cancel out.
 */

#include "peer.h"

enum { DIAG_FRAME_MAX = 20000 };

static inline uint16_t modem_crc(const uint8_t *data, size_t size)
{
    uint16_t crc = 0xffff;
    for (size_t i = 0; i < size; i++)
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc ^ data[i] >> bit) & 1 ? crc >> 1 ^ 0x8408 : crc >> 1);
    return (uint16_t)(crc ^ 0xffff);
}

static inline size_t modem_frame(const void *payload, size_t size, uint8_t *out)
{
    uint8_t all[DIAG_FRAME_MAX / 2];
    uint16_t crc = modem_crc(payload, size);
    size_t n = 0;
    memcpy(all, payload, size);
    all[size++] = (uint8_t)crc;
    all[size++] = (uint8_t)(crc >> 8);
    for (size_t i = 0; i < size; i++) {
        if (all[i] == 0x7e || all[i] == 0x7d) {
            out[n++] = 0x7d;
            out[n++] = all[i] ^ 0x20;
        } else {
            out[n++] = all[i];
        }
    }
    out[n++] = 0x7e;
    return n;
}

static inline bool modem_say(struct peer *p, const void *payload, size_t size)
{
    uint8_t frame[DIAG_FRAME_MAX];
    return peer_say(p, frame, modem_frame(payload, size, frame));
}

/* The next request, over as many transfers as it takes; its length, -1 when the host is gone. */
static inline ssize_t modem_hear(struct peer *p, uint8_t *out, size_t size)
{
    static _Thread_local uint8_t raw[DIAG_FRAME_MAX];
    size_t have = 0, n = 0;
    do {
        ssize_t got = peer_hear(p, raw + have, sizeof(raw) - have);
        if (got < 0)
            return -1;
        if (p->type == VIRTUAL_DATA)
            have += (size_t)got;
    } while (have == 0 || raw[have - 1] != 0x7e);
    for (size_t i = 0; i + 1 < have && n < size; i++)
        out[n++] = raw[i] == 0x7d ? raw[++i] ^ 0x20 : raw[i];
    if (n < 3 || modem_crc(out, n - 2) != (out[n - 2] | out[n - 1] << 8)) {
        peer_complain(p, "a request of %zu bytes has no valid CRC", n);
        return -1;
    }
    return (ssize_t)n - 2;
}

/* Byte 0 the code, the request echoed behind it. */
static inline bool modem_refuse(struct peer *p, uint8_t code, const uint8_t *request, size_t size)
{
    uint8_t answer[DIAG_FRAME_MAX / 2] = {code};
    memcpy(answer + 1, request, size);
    return modem_say(p, answer, size + 1);
}

/* What diag_open() asks, answered by echo. */
static inline bool modem_answer_opening(struct peer *p)
{
    static const uint8_t commands[] = {0x73, 0x7d, 0x60, 0x1c};
    for (size_t i = 0; i < sizeof(commands); i++) {
        uint8_t request[64];
        ssize_t n = modem_hear(p, request, sizeof(request));
        if (n < 0)
            return false;
        if (request[0] != commands[i]) {
            peer_complain(p, "opening %zu should ask %02x, asked %02x", i, commands[i], request[0]);
            return false;
        }
        if (!modem_say(p, request, (size_t)n))
            return false;
    }
    return true;
}

/* The next request must be exactly this. */
static inline bool modem_expect(struct peer *p, const void *payload, size_t size)
{
    uint8_t request[DIAG_FRAME_MAX / 2];
    ssize_t n = modem_hear(p, request, sizeof(request));
    if (n < 0)
        return false;
    if ((size_t)n == size && memcmp(request, payload, size) == 0)
        return true;
    peer_complain(p, "expected a request of %zu bytes, got %zd: %02x %02x %02x %02x %02x", size, n,
                  request[0], request[1], request[2], request[3], request[4]);
    return false;
}

#define MODEM_EXPECT(p, literal) modem_expect(p, literal, sizeof(literal) - 1)
#define MODEM_SAY(p, literal)    modem_say(p, literal, sizeof(literal) - 1)
