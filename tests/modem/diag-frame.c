/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* HDLC as DIAG has it (reference/diag.md 1.1). */

#include "diag.h"

enum { CRC_REFLECTED = 0x8408 };

uint16_t diag_crc(const uint8_t *data, size_t length)
{
    uint16_t crc = 0xFFFF;

    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (uint16_t)(crc >> 1 ^ CRC_REFLECTED) : (uint16_t)(crc >> 1);
    }
    return (uint16_t)~crc;
}

static size_t escape(uint8_t byte, uint8_t *wire)
{
    if (byte != DIAG_END && byte != DIAG_ESCAPE) {
        wire[0] = byte;
        return 1;
    }
    wire[0] = DIAG_ESCAPE;
    wire[1] = byte ^ DIAG_ESCAPE_XOR;
    return 2;
}

size_t diag_encode(const uint8_t *payload, size_t length, uint8_t *wire)
{
    uint16_t crc = diag_crc(payload, length);
    size_t n = 0;

    for (size_t i = 0; i < length; i++)
        n += escape(payload[i], wire + n);
    n += escape((uint8_t)crc, wire + n);
    n += escape((uint8_t)(crc >> 8), wire + n);
    wire[n++] = DIAG_END;
    return n;
}

size_t diag_decode(uint8_t *frame, size_t length)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        uint8_t change = frame[i] == DIAG_ESCAPE ? DIAG_ESCAPE_XOR : 0;

        if (change && ++i == length)
            return 0;
        frame[n++] = frame[i] ^ change;
    }
    if (n <= DIAG_CRC_SIZE)
        return 0;
    n -= DIAG_CRC_SIZE;
    return diag_crc(frame, n) == (frame[n] | frame[n + 1] << 8) ? n : 0;
}
