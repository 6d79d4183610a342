/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The framing of DIAG (reference/diag.md 1.1): escape(payload || CRC-16/X-25, little-endian) || 0x7E. Pure
 * functions on buffers; who reads and writes is diag.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HDLC_FLAG = 0x7e,
    HDLC_CRC_SIZE = 2,
    /* The largest payload taken in; twice what the largest answer that we ask for needs. */
    HDLC_PAYLOAD_MAX = 16384,
};

/* CRC-16/X-25: check value 0x906e of "123456789". */
uint16_t hdlc_crc(const void *data, size_t size);

/* What a payload of this size needs at most: each of its bytes escaped, two flags. */
#define HDLC_ENCODED_MAX(size) (2 * ((size_t)(size) + HDLC_CRC_SIZE) + 2)

/* Writes one whole frame, without a leading flag; its length. out holds HDLC_ENCODED_MAX(size) bytes. */
size_t hdlc_encode(const void *payload, size_t size, uint8_t *out);

/* A zeroed one is ready. The first frame may be the tail of an older one: it has no valid CRC and is dropped.
 */
struct hdlc_decoder {
    uint8_t frame[HDLC_PAYLOAD_MAX + HDLC_CRC_SIZE];
    size_t size;
    bool escaped;
    bool spoiled;     /* too long, or a flag behind an escape: dropped at its end */
    unsigned dropped; /* frames that were no frames */
};

/*
 * Takes bytes in until one frame is whole or all are taken; the number taken. *ret_size > 0: a frame with a
 * valid CRC, its payload at d->frame until the next call. Empty frames (a leading 0x7E) and bad ones are
 * passed over.
 */
size_t hdlc_decode(struct hdlc_decoder *d, const uint8_t *data, size_t size, size_t *ret_size);
