/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What goes out: answers, right or spoiled, and the logs that nobody asked for (reference/diag.md 1.2). */

#include "diag.h"

#include <string.h>

#include "trace.h"

enum { SLOW_MS = 1000, LONG_SURPLUS = 3, MULTI_RADIO_HEAD = 8, LOG_SIZE_MIN = 20, LOG_SIZE_RANGE = 380 };

/* Who comes unasked, and by which command it is silenced. */
static const struct {
    uint8_t type;
    enum diag_command silenced_by;
} unasked[] = {
    {0x10, DIAG_LOG_CONFIG}, {0x79, DIAG_EXT_MSG}, {0x60, DIAG_EVENTS},     {0x1F, DIAG_EXT_MSG},
    {0x92, DIAG_EXT_MSG},    {0x99, DIAG_EXT_MSG}, {0x98, DIAG_LOG_CONFIG}, {0x9B, DIAG_LOG_CONFIG},
};

enum { UNASKED = sizeof(unasked) / sizeof(unasked[0]) };

/* ---- bytes ---- */

static int send_now(struct diag *d)
{
    size_t length = d->wire_length, at = 0, piece = length;
    int r = 0;

    d->wire_length = 0;
    if (d->scenario->diag_split > 0)
        piece = (size_t)d->scenario->diag_split;
    while (r == 0 && at < length) {
        size_t n = length - at < piece ? length - at : piece;

        r = front_write(d->front, d->wire + at, n);
        /* The port ends a transfer that fills its packets. */
        if (r == 0 && n % d->front->plug.max_packet == 0)
            r = front_write_zlp(d->front);
        at += n;
    }
    return r;
}

/* A frame at the end of what goes out next. */
static int add_frame(struct diag *d, const uint8_t *payload, size_t length)
{
    int r = 0;

    if (sizeof(d->wire) - d->wire_length < 2 * (length + DIAG_CRC_SIZE) + 1)
        r = send_now(d);
    d->wire_frame = d->wire_length;
    d->wire_length += diag_encode(payload, length, d->wire + d->wire_length);
    return r;
}

/* ---- unasked ---- */

static bool is_silenced(const struct diag *d, enum diag_command by)
{
    return by == DIAG_LOG_CONFIG ? d->logs_off : by == DIAG_EXT_MSG ? d->messages_off : d->events_off;
}

static int add_log(struct diag *d, unsigned kind)
{
    uint8_t log[LOG_SIZE_MIN + LOG_SIZE_RANGE + MULTI_RADIO_HEAD];
    uint32_t noise = ++d->logs_sent * 0x9E3779B1u;
    size_t length = LOG_SIZE_MIN + (noise >> 8) % LOG_SIZE_RANGE;

    for (size_t i = 0; i < length; i++) {
        noise = noise * 1664525 + 1013904223;
        log[i] = (uint8_t)(noise >> 24);
    }
    log[0] = unasked[kind].type;
    /* The wrapper has another packet inside, which looks like an answer. */
    if (log[0] == 0x98)
        memcpy(log + MULTI_RADIO_HEAD, d->last, d->last_length < 8 ? d->last_length : 8);
    return add_frame(d, log, length);
}

int diag_flood(struct diag *d)
{
    int64_t now = trace_now();

    if (now < d->next_log)
        return 0;
    d->next_log = now + d->scenario->diag_flood_us;
    /* What nobody collects is thrown away. */
    if (!front_takes(d->front))
        return 0;
    for (unsigned i = 0; i < UNASKED; i++) {
        unsigned kind = (d->logs_sent + i) % UNASKED;

        if (d->scenario->diag_flood == FLOOD_ALWAYS || !is_silenced(d, unasked[kind].silenced_by)) {
            int r = add_log(d, kind);
            return r < 0 ? r : send_now(d);
        }
    }
    return 0;
}

bool diag_floods(const struct diag *d)
{
    if (d->scenario->diag_flood == FLOOD_UNTIL_SILENCED)
        return !d->logs_off || !d->messages_off || !d->events_off;
    return d->scenario->diag_flood == FLOOD_ALWAYS;
}

int diag_tail(struct diag *d)
{
    static const uint8_t tail[] = {0x33, 0x7D, 0x5E, 0x00, 0x21, 0xC4, DIAG_END};

    if (!d->scenario->diag_tail)
        return 0;
    memcpy(d->wire, tail, sizeof(tail));
    d->wire_length = sizeof(tail);
    return send_now(d);
}

/* ---- answers ---- */

static int add_spoiled(struct diag *d, enum fault_kind how)
{
    size_t length = d->answer_length;
    int r;

    if (how == FAULT_SHORT)
        length = (length + 1) / 2;
    if (how == FAULT_LONG) {
        memset(d->answer + length, 0x7E, LONG_SURPLUS);
        length += LONG_SURPLUS;
    }
    if (how == FAULT_FLIP) /* in the data: behind them an item's answer has its status */
        d->answer[length / 2] ^= 1;
    if (how == FAULT_OTHER || how == FAULT_STALE)
        r = add_frame(d, d->last, d->last_length);
    else
        r = add_frame(d, d->answer, length);
    if (how == FAULT_CRC)
        d->wire[d->wire_length - 2] ^= 0x01;
    if (how == FAULT_CUT)
        d->wire_length = d->wire_frame + (d->wire_length - d->wire_frame) / 2;
    if (r == 0 && (how == FAULT_TWICE || how == FAULT_STALE))
        r = add_frame(d, d->answer, d->answer_length);
    return r;
}

int diag_send_answer(struct diag *d, enum fault_kind how, uint64_t milliseconds)
{
    int r = 0;

    if (d->scenario->diag_us > 0)
        r = front_wait_off(d->front, d->scenario->diag_us);
    if (r == 0 && how == FAULT_SLOW)
        r = front_wait_off(d->front, (int64_t)(milliseconds ? milliseconds : SLOW_MS) * 1000);
    for (int64_t i = 0; r == 0 && i < d->scenario->diag_logs; i++) {
        r = add_log(d, (unsigned)i % UNASKED);
        if (r == 0 && !d->scenario->diag_glue)
            r = send_now(d);
    }
    if (r == 0 && how != FAULT_SILENT && d->answer_length)
        r = add_spoiled(d, how);
    if (r == 0 && d->scenario->diag_glue)
        r = add_log(d, 0);
    memcpy(d->last, d->answer, d->answer_length);
    d->last_length = d->answer_length;
    return r < 0 ? r : send_now(d);
}
