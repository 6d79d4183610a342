/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * program and read: raw data between two ACKs (reference/edl.md 2.5, 2.6). The length is known to both sides
 * before the first byte, and nothing but it tells where raw data end: what they contain is never looked at.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "protocol/firehose-internal.h"

enum {
    ERASED = 0xff,
    PACKET = 512,
    /* Line ends and NULs behind a document that shares its transfer with raw data. */
    PADDING_MAX = 16,
};

/* After a NAK in the middle of data: what is posted already is taken quickly or not at all. */
#define ABORT_FLUSH (2 * USEC_PER_SEC)
/* What looks like a NAK in the place of data is one if nothing follows so long. */
#define SUSPICION (2 * USEC_PER_SEC)

/* No transfer may take longer than this, however steadily it dribbles. */
static usec_t transfer_deadline(enum firehose_verb verb, uint64_t total)
{
    return deadline_in(firehose_limits[verb].answer + firehose_limits[verb].raw +
                       total / FIREHOSE_RATE_MIN * USEC_PER_SEC);
}

static uint64_t range_bytes(const struct firehose_range *r)
{
    return r->count * r->sector_size; /* both were bounded when the document was printed */
}

/* The answer that opens raw mode: 0, or the error of a NAK. */
static int open_raw(struct firehose *f, enum firehose_verb verb, const struct firehose_text *text,
                    struct error *e)
{
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_begin(f, verb, text, e);
    if (r < 0)
        return r;
    r = firehose_await(f, verb, deadline_in(firehose_limits[verb].answer), true, &answer, e);
    if (r < 0)
        return r;
    return answer.ack ? 0 : firehose_refused(f, verb, e);
}

/* The answer behind raw data. */
static int close_raw(struct firehose *f, enum firehose_verb verb, struct error *e)
{
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_await(f, verb, deadline_in(firehose_limits[verb].final), false, &answer, e);
    if (r < 0)
        return r;
    return answer.ack ? 0 : firehose_refused(f, verb, e);
}

/* ---- program ---- */

struct upload {
    struct firehose *f;
    uint64_t done, total;
    usec_t end;
};

/* The programmer left raw mode before it had everything: what is still posted must not become its next
 * document. */
static void abort_upload(struct firehose *f)
{
    if (transport_flush(f->transport, deadline_in(ABORT_FLUSH)) < 0)
        (void)transport_clear_halt(f->transport);
}

/*
 * Logs are read while data flow, or the programmer stops to take them (8.4). 0: go on. An answer in here is a
 * NAK, or the sign that the two sides count differently; an ACK that stays in raw mode
 * (AckRawDataEveryNumPackets) is neither.
 */
static int listen(struct upload *u, struct error *e)
{
    struct firehose *f = u->f;
    for (;;) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        int r = firehose_receive(f, 0, &d);
        if (r == -ETIMEDOUT)
            return 0;
        if (r < 0) {
            f->stuck_in_raw = true;
            return firehose_fail(f, FIREHOSE_PROGRAM, r, e);
        }
        if (xml_attribute(d, "AttemptRetry") || (firehose_is_ack(d) && firehose_is_raw(d)))
            continue;
        abort_upload(f);
        if (!firehose_is_ack(d))
            return firehose_refused(f, FIREHOSE_PROGRAM, e);
        r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "the modem ended program after at most %" PRIu64 " of %" PRIu64 " bytes with an ACK",
                      u->done, u->total);
        error_words(e, firehose_command_words(f));
        return r;
    }
}

/* A transfer failed; a NAK that explains it may be there. */
static int upload_failed(struct upload *u, int error, struct error *e)
{
    if (error != -ENODEV) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        if (firehose_receive(u->f, 0, &d) == 0 && !firehose_is_ack(d)) {
            abort_upload(u->f);
            return firehose_refused(u->f, FIREHOSE_PROGRAM, e);
        }
        u->f->stuck_in_raw = true;
        (void)transport_clear_halt(u->f->transport);
    }
    int r = firehose_fail(u->f, FIREHOSE_PROGRAM, error, e);
    return r;
}

static int send_payload(struct upload *u, const uint8_t *data, size_t size, struct error *e)
{
    struct firehose *f = u->f;
    usec_t deadline = MIN_OF(u->end, deadline_in(firehose_limits[FIREHOSE_PROGRAM].raw));
    int r = transport_queue(f->transport, data, size, f->zlp_aware ? TRANSPORT_ZLP : 0, deadline);
    if (r < 0)
        return upload_failed(u, r, e);
    u->done += size;
    /* With everything posted the next answer is the final one. */
    bool heard = transport_has_input(f->transport) || xml_splitter_buffered(f->splitter) > 0;
    return u->done < u->total && heard ? listen(u, e) : 0;
}

int firehose_program(struct firehose *f, const struct firehose_range *range, firehose_source source,
                     firehose_progress on_progress, void *userdata, struct error *e)
{
    struct firehose_text text;
    int r = firehose_print_program(&text, range, e);
    if (r < 0)
        return r;
    /* Payloads hold whole pages (2.3). */
    size_t step = f->payload - f->payload % range->sector_size;
    if (step == 0)
        return error_set(e, ERROR_FIREHOSE_FAILED,
                         "the modem's payload of %" PRIu32 " bytes does not hold a page of %" PRIu32,
                         f->payload, range->sector_size);
    r = open_raw(f, FIREHOSE_PROGRAM, &text, e);
    if (r < 0)
        return r;

    struct upload u = {.f = f, .total = range_bytes(range)};
    u.end = transfer_deadline(FIREHOSE_PROGRAM, u.total);
    int source_error = 0;
    /* Several payloads a call of the source: it is a system call behind. */
    const size_t piece = sizeof(f->out) - sizeof(f->out) % step;
    uint64_t fetched = 0;
    while (u.done < u.total) {
        size_t n = (size_t)MIN_OF((uint64_t)step, u.total - u.done), at = (size_t)(u.done % piece);
        if (u.done == fetched) {
            size_t size = (size_t)MIN_OF((uint64_t)piece, u.total - u.done);
            if (source_error == 0)
                source_error = source(userdata, u.done, f->out, size, e);
            /* The modem waits for the whole length; without the rest it would take our next document for
             * data. */
            if (source_error < 0)
                memset(f->out, ERASED, size);
            fetched += size;
        }
        r = send_payload(&u, f->out + at, n, source_error < 0 ? NULL : e);
        if (r < 0)
            return source_error < 0 ? source_error : r;
        if (on_progress && source_error == 0)
            on_progress(userdata, u.done, u.total);
    }
    r = transport_flush(f->transport, MIN_OF(u.end, deadline_in(firehose_limits[FIREHOSE_PROGRAM].raw)));
    if (r < 0)
        r = upload_failed(&u, r, source_error < 0 ? NULL : e);
    else
        r = close_raw(f, FIREHOSE_PROGRAM, source_error < 0 ? NULL : e);
    return source_error < 0 ? source_error : r;
}

/* ---- read ---- */

struct download {
    struct firehose *f;
    firehose_sink sink;
    void *userdata;
    uint64_t done, total;
    size_t padding_left; /* of the ACK, may come before the data */
    int sink_error;
    char suspect[1024]; /* a transfer in the place of data that may be a NAK; "" if the last one was not */
    size_t suspect_size;
};

static void deliver(struct download *d, const void *data, size_t size, struct error *e)
{
    if (d->sink_error == 0)
        d->sink_error = d->sink(d->userdata, d->done, data, size, e);
    d->done += size;
}

static int download_failed(struct download *d, int error, struct error *e);

/* Takes in the rest of a transfer that holds the ACK and data, as far as it fits: its length tells the two
 * apart. */
static int complete_glued(struct download *d, struct error *e)
{
    struct firehose *f = d->f;
    usec_t deadline = deadline_in(firehose_limits[FIREHOSE_READ].raw);
    size_t behind;
    while (!f->boundary && (behind = xml_splitter_buffered(f->splitter)) % PACKET > PADDING_MAX &&
           behind < d->total && behind + sizeof(f->in) <= XML_DOCUMENT_MAX) {
        size_t n;
        int r = transport_read(f->transport, f->in, sizeof(f->in), deadline, &n, &f->boundary);
        if (r == 0)
            r = xml_splitter_feed(f->splitter, f->in, n);
        if (r < 0)
            return download_failed(d, r, e);
    }
    return 0;
}

/*
 * The ACK and the first data in one transfer (8.1): data are what is behind the document's padding. Nothing
 * on the wire tells the two apart when data begin with zeros. But data come in whole packets, so an odd rest
 * of the transfer is padding; failing that, a modem pads its documents alike. A wrong guess shifts the data
 * and is seen at their end, where no document follows.
 */
static int take_glued(struct download *d, struct error *e)
{
    struct firehose *f = d->f;
    int r = complete_glued(d, e);
    if (r < 0)
        return r;
    size_t behind = xml_splitter_buffered(f->splitter), odd = behind % PACKET, padding = odd, tail = 0;
    bool known = xml_splitter_tail(f->splitter, &tail);
    bool by_packets =
        odd <= PADDING_MAX && (f->boundary || !known) && xml_splitter_drop_padding(f->splitter, odd);
    if (!by_packets) {
        padding = odd == tail || behind < PACKET || !f->boundary ? MIN_OF(tail, behind) : 0;
        if (!xml_splitter_drop_padding(f->splitter, padding))
            padding = 0;
    }
    if (padding == behind && tail > padding)
        d->padding_left = tail - padding;
    while (d->done < d->total) {
        size_t n = xml_splitter_take_raw(f->splitter, f->in,
                                         (size_t)MIN_OF((uint64_t)sizeof(f->in), d->total - d->done));
        if (n == 0)
            break;
        deliver(d, f->in, n, e);
    }
    return 0;
}

/* The ACK's padding in a transfer of its own. */
static bool is_late_padding(struct download *d, size_t size)
{
    bool yes = d->f->boundary && size <= d->padding_left && xml_is_padding(d->f->in, size);
    d->padding_left = yes ? d->padding_left - size : 0;
    return yes;
}

/* Raw data may contain anything, "<?xml" too. But a short transfer that begins so, behind which nothing
 * comes, was an answer. */
static void suspect(struct download *d, size_t size, bool boundary)
{
    static const char start[] = "<?xml";
    d->suspect_size = 0;
    if (boundary && size % PACKET != 0 && size <= sizeof(d->suspect) && size > sizeof(start) &&
        memcmp(d->f->in, start, sizeof(start) - 1) == 0) {
        memcpy(d->suspect, d->f->in, size);
        d->suspect_size = size;
    }
}

static int download_failed(struct download *d, int error, struct error *e)
{
    struct firehose *f = d->f;
    if (d->suspect_size > 0 && error == -ETIMEDOUT &&
        xml_splitter_feed(f->splitter, d->suspect, d->suspect_size) == 0) {
        _cleanup_(xml_document_freep) struct xml_document *doc = NULL;
        if (firehose_receive(f, 0, &doc) == 0 && !firehose_is_ack(doc))
            return firehose_refused(f, FIREHOSE_READ, e);
    }
    f->owes_answer = true;
    if (error != -ETIMEDOUT)
        return firehose_fail(f, FIREHOSE_READ, error, e);
    int r = error_set(e, ERROR_TIMEOUT, "read: %" PRIu64 " of %" PRIu64 " bytes came, then nothing more",
                      d->done, d->total);
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

static int receive_data(struct download *d, uint32_t sector_size, struct error *e)
{
    struct firehose *f = d->f;
    const usec_t patience = firehose_limits[FIREHOSE_READ].raw;
    usec_t end = transfer_deadline(FIREHOSE_READ, d->total), deadline = deadline_in(patience);
    unsigned empty_left = FIREHOSE_READS_MAX;
    while (d->done < d->total) {
        size_t n, size = (size_t)MIN_OF((uint64_t)sizeof(f->in), d->total - d->done);
        usec_t until = MIN_OF(end, d->suspect_size > 0 ? deadline_in(SUSPICION) : deadline);
        int r = transport_read(f->transport, f->in, size, until, &n, &f->boundary);
        if (r == 0 && (now_usec() > end || (n == 0 && empty_left-- == 0)))
            r = -ETIMEDOUT;
        if (r < 0)
            return download_failed(d, r, e);
        if (n == 0)
            continue; /* a ZLP is no end (2.10) */
        if (is_late_padding(d, n))
            continue;
        uint64_t pages = d->done / sector_size;
        suspect(d, n, f->boundary);
        usec_t came = now_usec();
        deliver(d, f->in, n, d->sink_error == 0 ? e : NULL);
        usec_t ours = now_usec() - came; /* a disk's, and not the modem's */
        end += ours;
        deadline += ours;
        if (d->done / sector_size != pages)
            deadline = deadline_in(patience);
    }
    return 0;
}

static int too_much(const struct download *d, struct error *e)
{
    d->f->owes_answer = true;
    int r =
        error_set(e, ERROR_FIREHOSE_FAILED,
                  "read: more than the announced %" PRIu64 " bytes came before the modem's answer", d->total);
    error_hint(e, HINT_RETRY);
    return r;
}

/*
 * The data are complete when an answer follows them and nothing else. Anything in between, also mere padding
 * that comes without a document, means that we took something else for their beginning.
 */
static int finish_data(struct download *d, struct error *e)
{
    struct firehose *f = d->f;
    usec_t deadline = deadline_in(firehose_limits[FIREHOSE_READ].final);
    unsigned empty_left = FIREHOSE_READS_MAX;
    size_t n = 0;
    if (xml_splitter_buffered(f->splitter) == 0) {
        while (n == 0) {
            int r = transport_read(f->transport, f->in, sizeof(f->in), deadline, &n, &f->boundary);
            if (r == 0 && empty_left-- == 0)
                r = -ETIMEDOUT;
            if (r < 0)
                return download_failed(d, r, e);
        }
        if (!memchr(f->in, '<', n))
            return too_much(d, e);
        int r = xml_splitter_feed(f->splitter, f->in, n);
        if (r < 0)
            return download_failed(d, r, e);
    }
    size_t garbage = f->garbage;
    int r = close_raw(f, FIREHOSE_READ, e);
    return r == 0 && f->garbage != garbage ? too_much(d, e) : r;
}

int firehose_read(struct firehose *f, const struct firehose_range *range, bool skip_bad_block,
                  firehose_sink sink, void *userdata, struct error *e)
{
    struct firehose_text text;
    int r = firehose_print_read(&text, range, skip_bad_block, e);
    if (r < 0)
        return r;
    r = open_raw(f, FIREHOSE_READ, &text, e);
    if (r < 0)
        return r;

    struct download d = {.f = f, .sink = sink, .userdata = userdata, .total = range_bytes(range)};
    r = take_glued(&d, e);
    if (r == 0)
        r = receive_data(&d, range->sector_size, d.sink_error < 0 ? NULL : e);
    if (r == 0)
        r = finish_data(&d, d.sink_error < 0 ? NULL : e);
    return d.sink_error < 0 ? d.sink_error : r;
}

struct memory {
    uint8_t *data;
};

static int to_memory(void *userdata, uint64_t offset, const void *data, size_t size, struct error *e)
{
    (void)e;
    const struct memory *m = userdata;
    memcpy(m->data + offset, data, size);
    return 0;
}

int firehose_read_pages(struct firehose *f, const struct firehose_range *range, bool skip_bad_block,
                        void *ret, struct error *e)
{
    struct memory m = {.data = ret};
    return firehose_read(f, range, skip_bad_block, to_memory, &m, e);
}
