/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* DIAG's framing: any stream in any pieces yields the same frames, and each of them goes round. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/hdlc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t decode(const uint8_t *data, size_t size, size_t step, unsigned *ret_dropped)
{
    struct hdlc_decoder *d = calloc(1, sizeof(*d));
    uint8_t *frame = malloc(HDLC_ENCODED_MAX(HDLC_PAYLOAD_MAX));
    uint32_t sum = 0;
    assert(d && frame);
    for (size_t at = 0; at < size;) {
        size_t end = at + step < size ? at + step : size;
        while (at < end) {
            size_t n, taken = hdlc_decode(d, data + at, end - at, &n);
            assert(taken > 0 && taken <= end - at && n <= HDLC_PAYLOAD_MAX);
            at += taken;
            sum = sum * 31 + (uint32_t)n;
            if (n == 0)
                continue;
            size_t length = hdlc_encode(d->frame, n, frame), again;
            assert(length <= HDLC_ENCODED_MAX(n) && frame[length - 1] == HDLC_FLAG);
            struct hdlc_decoder *back = calloc(1, sizeof(*back));
            assert(back && hdlc_decode(back, frame, length, &again) == length);
            assert(again == n && memcmp(back->frame, d->frame, n) == 0);
            free(back);
        }
    }
    *ret_dropped = d->dropped;
    free(frame);
    free(d);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned whole, bytes;
    (void)decode(data, size, size ? size : 1, &whole);
    (void)decode(data, size, 1, &bytes);
    assert(whole == bytes);
    uint8_t *frame = malloc(HDLC_ENCODED_MAX(size));
    if (!frame || size == 0 || size > HDLC_PAYLOAD_MAX) {
        free(frame);
        return 0;
    }
    struct hdlc_decoder *d = calloc(1, sizeof(*d));
    size_t n;
    assert(d);
    size_t length = hdlc_encode(data, size, frame);
    assert(hdlc_decode(d, frame, length, &n) == length && n == size && memcmp(d->frame, data, size) == 0);
    free(d);
    free(frame);
    return 0;
}
