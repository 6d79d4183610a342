/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How the programmer's documents come out: whole, split, glued, with NULs behind them, late (reference/edl.md
 * 8). */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programmer.h"
#include "trace.h"

enum { TEXT_MAX = 1024, DOCUMENT_OUT_MAX = 8192 };

static const char garbage[] = "\xF0\xE9\x88\x14";

static int append(char **buffer, size_t *length, size_t *capacity, const void *data, size_t n)
{
    if (*length + n > *capacity) {
        size_t size = (*length + n) * 2;
        char *p = realloc(*buffer, size);
        if (!p)
            return -ENOMEM;
        *buffer = p;
        *capacity = size;
    }
    memcpy(*buffer + *length, data, n);
    *length += n;
    return 0;
}

static int end_transfer(struct programmer *p, size_t length)
{
    if (length == 0 || length % p->front->plug.max_packet || p->scenario->in_zlp == IN_ZLP_NO)
        return 0;
    return front_write_zlp(p->front);
}

int speak_flush(struct programmer *p)
{
    size_t split = p->scenario->split > 0 ? (size_t)p->scenario->split : p->out_length,
           length = p->out_length;
    int r = 0;

    p->out_length = 0;
    for (size_t at = 0; r == 0 && at < length; at += split) {
        size_t n = length - at < split ? length - at : split;
        r = front_write(p->front, p->out + at, n);
        if (r == 0)
            r = end_transfer(p, n);
    }
    return r;
}

static int queue(struct programmer *p, const char *document, size_t length)
{
    static const char nuls[256];
    size_t trailing = p->scenario->trailing_nuls < 256 ? (size_t)p->scenario->trailing_nuls : 255;
    int r = append(&p->out, &p->out_length, &p->out_capacity, document, length);

    if (r == 0)
        r = append(&p->out, &p->out_length, &p->out_capacity, nuls, trailing);
    if (r == 0 && !p->scenario->glue)
        r = speak_flush(p);
    return r;
}

static int send_late(struct programmer *p)
{
    size_t at = 0, length = p->late_length;
    int r = 0;

    p->late_length = 0;
    while (r == 0 && at < length) {
        size_t n = strlen(p->late + at);
        r = queue(p, p->late + at, n);
        at += n + 1;
    }
    return r;
}

static int log_text(struct programmer *p, const char *text)
{
    char escaped[TEXT_MAX * 6], document[DOCUMENT_OUT_MAX];
    int n;

    document_escape(escaped, sizeof(escaped), text);
    n = snprintf(document, sizeof(document),
                 "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<log value=\"%s%s\" /></data>",
                 escaped, p->scenario->garbage_text ? garbage : "");
    trace("log %s", text);
    if (p->scenario->logs_after_response && !p->answered)
        return append(&p->late, &p->late_length, &p->late_capacity, document, (size_t)n + 1);
    return queue(p, document, (size_t)n);
}

int speak_log(struct programmer *p, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return log_text(p, text);
}

int speak_big_log(struct programmer *p, size_t length)
{
    static const char head[] = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<log value=\"";
    char *text = malloc(length);
    int r = -ENOMEM;

    trace("log of %zu bytes", length);
    if (text) {
        memset(text, 'x', length);
        r = append(&p->out, &p->out_length, &p->out_capacity, head, sizeof(head) - 1);
        if (r == 0)
            r = append(&p->out, &p->out_length, &p->out_capacity, text, length);
        if (r == 0)
            r = append(&p->out, &p->out_length, &p->out_capacity, "\" /></data>", 11);
        if (r == 0)
            r = speak_flush(p);
    }
    free(text);
    return r;
}

int speak_response(struct programmer *p, bool ack, bool raw, const char *attributes)
{
    char document[DOCUMENT_OUT_MAX];
    int n, r = 0;

    p->answered = !raw;
    if (!raw) {
        enum fault_kind k = faults_done(&p->modem->faults);
        r = front_strike(p->front, k);
        if (r < 0)
            return r;
        if (p->front->nak_next) {
            p->front->nak_next = false;
            ack = false;
        }
    }
    n = snprintf(document, sizeof(document),
                 "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<response value=\"%s\" %s%s/></data>",
                 ack ? "ACK" : "NAK", *attributes ? "" : (raw ? "rawmode=\"true\" " : "rawmode=\"false\" "),
                 attributes);
    trace("response %s rawmode=%s", ack ? "ACK" : "NAK", raw ? "true" : "false");
    if (p->hold)
        r = append(&p->out, &p->out_length, &p->out_capacity, document, (size_t)n);
    else
        r = queue(p, document, (size_t)n);
    /* While raw data are on their way, nothing else is. */
    if (r == 0 && !raw)
        r = send_late(p);
    if (r == 0 && !p->hold)
        r = speak_flush(p);
    if (r == 0 && !ack && p->scenario->after_nak == NAK_HANG)
        r = front_hang(p->front);
    return r;
}

int speak_nak(struct programmer *p, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    int r;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    r = log_text(p, text);
    return r < 0 ? r : speak_response(p, false, false, "");
}

int speak_raw(struct programmer *p, const uint8_t *data, size_t length, bool last)
{
    int r;

    p->front->raw = true;
    if (p->out_length) {
        /* Behind the ACK in the same transfer, and then that transfer ends. */
        size_t total = p->out_length + length;
        r = append(&p->out, &p->out_length, &p->out_capacity, data, length);
        p->out_length = 0;
        if (r == 0)
            r = front_write(p->front, p->out, total);
        length = total;
    } else {
        r = front_write(p->front, data, length);
    }
    if (r == 0 && (last || p->scenario->in_zlp == IN_ZLP_EACH))
        r = end_transfer(p, length);
    p->front->raw = false;
    return r;
}

void speak_free(struct programmer *p)
{
    free(p->out);
    free(p->late);
    p->out = p->late = NULL;
}
