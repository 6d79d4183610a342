/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/hdlc.h"

enum {
    HDLC_ESCAPE = 0x7d,
    HDLC_FLIP = 0x20,
    CRC_POLYNOMIAL = 0x8408, /* reflected */
    CRC_START = 0xffff,
    CRC_RESIDUE = 0xf0b8, /* of a payload with its CRC behind it, without the final inversion */
};

/* Half a byte at a time: NV items are read by the thousand. */
#define STEP(crc)  ((crc)&1 ? (crc) >> 1 ^ CRC_POLYNOMIAL : (crc) >> 1)
#define ENTRY(n)   STEP(STEP(STEP(STEP(n))))
#define ENTRIES(n) ENTRY(n), ENTRY((n) + 1), ENTRY((n) + 2), ENTRY((n) + 3)
static const uint16_t crc_table[] = {ENTRIES(0), ENTRIES(4), ENTRIES(8), ENTRIES(12)};

static uint16_t crc_add(uint16_t crc, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        crc = (uint16_t)(crc >> 4 ^ crc_table[crc & 0xf]);
        crc = (uint16_t)(crc >> 4 ^ crc_table[crc & 0xf]);
    }
    return crc;
}

uint16_t hdlc_crc(const void *data, size_t size)
{
    return (uint16_t)~crc_add(CRC_START, data, size);
}

static size_t put(uint8_t *out, size_t n, uint8_t byte)
{
    if (byte == HDLC_FLAG || byte == HDLC_ESCAPE) {
        out[n++] = HDLC_ESCAPE;
        byte ^= HDLC_FLIP;
    }
    out[n++] = byte;
    return n;
}

size_t hdlc_encode(const void *payload, size_t size, uint8_t *out)
{
    const uint8_t *bytes = payload;
    uint16_t crc = hdlc_crc(payload, size);
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n = put(out, n, bytes[i]);
    n = put(out, n, (uint8_t)crc);
    n = put(out, n, (uint8_t)(crc >> 8));
    out[n++] = HDLC_FLAG;
    return n;
}

/* The frame is over; the size of its payload, 0 if it has none. */
static size_t finish(struct hdlc_decoder *d)
{
    bool good = !d->spoiled && !d->escaped && d->size > HDLC_CRC_SIZE &&
                crc_add(CRC_START, d->frame, d->size) == CRC_RESIDUE;
    if (!good && (d->size > 0 || d->spoiled))
        d->dropped++;
    size_t payload = good ? d->size - HDLC_CRC_SIZE : 0;
    d->size = 0;
    d->escaped = d->spoiled = false;
    return payload;
}

size_t hdlc_decode(struct hdlc_decoder *d, const uint8_t *data, size_t size, size_t *ret_size)
{
    *ret_size = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = data[i];
        if (byte == HDLC_FLAG) {
            *ret_size = finish(d);
            if (*ret_size > 0)
                return i + 1;
            continue;
        }
        if (byte == HDLC_ESCAPE && !d->escaped) {
            d->escaped = true;
            continue;
        }
        if (d->escaped)
            byte ^= HDLC_FLIP;
        d->escaped = false;
        if (d->size == sizeof(d->frame))
            d->spoiled = true;
        else
            d->frame[d->size++] = byte;
    }
    return size;
}
