/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "normal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "diag.h"
#include "trace.h"

static int send_answer(struct diag *d)
{
    static uint8_t wire[2 * (DIAG_ANSWER_MAX + DIAG_CRC_SIZE) + 1];
    size_t n;
    int r;

    if (d->answer_length == 0)
        return 0;
    n = diag_encode(d->answer, d->answer_length, wire);
    r = front_write(d->front, wire, n);
    /* The port ends a transfer that fills its packets. */
    return r == 0 && n % d->front->plug.max_packet == 0 ? front_write_zlp(d->front) : r;
}

/* A frame has come to its end. */
static int on_frame(struct diag *d)
{
    size_t length = d->frame_too_long ? 0 : diag_decode(d->frame, d->frame_length);
    int r, ended;

    d->frame_length = 0;
    d->frame_too_long = false;
    if (length == 0)
        return 0;
    trace("diag out length=%zu command=0x%02x", length, d->frame[0]);
    ended = diag_serve(d, d->frame, length);
    if (ended < 0)
        return ended;
    r = send_answer(d);
    return r < 0 ? r : ended;
}

static int on_bytes(struct diag *d, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        int r;

        if (bytes[i] != DIAG_END) {
            if (d->frame_length < sizeof(d->frame))
                d->frame[d->frame_length++] = bytes[i];
            else
                d->frame_too_long = true;
            continue;
        }
        r = on_frame(d);
        if (r)
            return r;
    }
    return 0;
}

int normal_run(struct modem *m, const char *version, int64_t us)
{
    int64_t until = us >= 0 ? trace_now() + us : 0;
    struct diag *d = malloc(sizeof(*d));
    uint8_t bytes[FRONT_DATAGRAM_MAX];
    size_t length;
    int r = 0;

    if (!d)
        return -ENOMEM;
    trace("state normal version=%s", version);
    diag_start(d, m, version);
    while (r == 0) {
        r = front_read_until(&m->front, bytes, sizeof(bytes), until, &length);
        if (r == 0)
            r = on_bytes(d, bytes, length);
    }
    diag_stop(d);
    free(d);
    return r == -ETIMEDOUT ? MODE_RESET : r;
}
