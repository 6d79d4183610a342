/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "normal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "diag.h"
#include "trace.h"

/* What a fault does before its answer: an end (negative), done with this request (1), or nothing (0). */
static int strike(struct diag *d, enum fault_kind k, uint64_t code)
{
    if (k == FAULT_NAK) {
        diag_refuse(d, code ? (enum diag_refusal)code : DIAG_BAD_COMMAND);
        return 1;
    }
    return front_strike(d->front, k);
}

/* One request: what is done, then what is said. */
static int exchange(struct diag *d, const uint8_t *request, size_t length)
{
    uint64_t offset = 0;
    enum fault_kind before, after;
    int r, ended = 0;

    trace("diag request=%llu length=%zu command=0x%02x", (unsigned long long)d->modem->faults.requests + 1,
          length, request[0]);
    d->request = request;
    d->request_length = length;
    d->answer_length = 0;
    before = faults_diag(&d->modem->faults, &offset);
    if (before == FAULT_SILENT)
        return 0;
    r = strike(d, before, offset);
    if (r == 0) {
        ended = diag_serve(d);
        if (ended < 0)
            return ended;
        after = faults_answered(&d->modem->faults, &offset);
        r = strike(d, after, offset);
        before = after != FAULT_NONE ? after : before;
    }
    if (r >= 0)
        r = diag_send_answer(d, before, offset);
    return r < 0 ? r : ended;
}

/* A frame has come to its end; is another one there already? */
static int on_frame(struct diag *d, bool another)
{
    size_t length = d->frame_too_long ? 0 : diag_decode(d->frame, d->frame_length);

    d->frame_length = 0;
    d->frame_too_long = false;
    if (length == 0)
        return 0;
    if (another)
        violation("DIAG requests without waiting for the answer");
    return exchange(d, d->frame, length);
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
        r = on_frame(d, length - i > 1 && memchr(bytes + i + 1, DIAG_END, length - i - 1) &&
                            bytes[i + 1] != DIAG_END);
        if (r)
            return r;
    }
    return 0;
}

/* The earlier of two times, 0 being never. */
static int64_t earlier(int64_t a, int64_t b)
{
    return !a || (b && b < a) ? b : a;
}

static int serve(struct diag *d, int64_t until)
{
    uint8_t bytes[FRONT_DATAGRAM_MAX];
    size_t length;
    int r = diag_tail(d);

    while (r == 0) {
        int64_t next_log = diag_floods(d) ? d->next_log ?: 1 : 0;

        r = front_read_until(d->front, bytes, sizeof(bytes), earlier(until, next_log), &length);
        if (r == 0)
            r = on_bytes(d, bytes, length);
        else if (r == -ETIMEDOUT && (!until || trace_now() < until))
            r = 0;
        if (r == 0 && diag_floods(d))
            r = diag_flood(d);
    }
    return r;
}

int normal_run(struct modem *m, const char *version, int64_t us)
{
    int64_t until = us >= 0 ? trace_now() + us : 0;
    struct diag *d = malloc(sizeof(*d));
    int r;

    if (!d)
        return -ENOMEM;
    trace("state normal version=%s", version);
    diag_start(d, m, version);
    r = serve(d, until);
    diag_stop(d);
    free(d);
    return r == -ETIMEDOUT ? MODE_TIME : r;
}
