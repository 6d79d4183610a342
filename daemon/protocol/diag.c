/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/diag.h"

#include <errno.h>

#include "protocol/diag-inner.h"

enum {
    MAX_TRIES = 2,
    COMMAND_SPC = 0x41,
    COMMAND_PASSWORD = 0x46,
    COMMAND_VERSION = 0x1c, /* DIAG_VER: answered by everything that speaks DIAG, even by BAD_CMD */
    ACCEPTED = 1,
    /* The least of a question that a refusal must echo to count as one of ours, if the question has so much.
     */
    ECHO_LEAST = 4,
};

static const usec_t patience = 5 * USEC_PER_SEC;
/* For the three commands that silence a modem: one that does not know them may not answer. */
static const usec_t silence_patience = 1 * USEC_PER_SEC;
/* A ROM that wants to lend its memory says so at once, or has said it to somebody before us. */
static const usec_t hello_patience = 1 * USEC_PER_SEC;

/* ---- life ---- */

struct diag *diag_free(struct diag *d)
{
    free(d);
    return NULL;
}

enum diag_refusal diag_refusal(const struct diag *d)
{
    return d->refusal;
}

/* ---- one frame out, one in ---- */

static int failed(int r, struct error *e)
{
    switch (r) {
    case -ENODEV:
        return error_set(e, ERROR_MODEM_GONE, "the modem went away in the middle of a DIAG exchange");
    case -ETIMEDOUT:
        return error_set(e, ERROR_TIMEOUT, "the modem does not answer on its DIAG interface");
    case -ECANCELED:
    case -EINTR:
        return r;
    default:
        return error_set(e, ERROR_DIAG_FAILED, "the modem's DIAG interface fails: %s", strerror(-r));
    }
}

static int send_frame(struct diag *d, const void *payload, size_t size, usec_t deadline)
{
    size_t n = hdlc_encode(payload, size, d->frame);
    return transport_write(d->transport, d->frame, n, TRANSPORT_ZLP, deadline);
}

/* The next whole frame; its payload lies in the decoder. */
static int receive_frame(struct diag *d, usec_t deadline, size_t *ret_size)
{
    for (;;) {
        while (d->input_at < d->input_size) {
            size_t size;
            d->input_at +=
                hdlc_decode(&d->decoder, d->input + d->input_at, d->input_size - d->input_at, &size);
            if (size > 0) {
                *ret_size = size;
                return 0;
            }
        }
        d->input_at = d->input_size = 0;
        /* A flood of half a frame a millisecond must not keep us here for ever. */
        if (now_usec() >= deadline)
            return -ETIMEDOUT;
        int r = transport_read(d->transport, d->input, sizeof(d->input), deadline, &d->input_size, NULL);
        if (r < 0)
            return r;
    }
}

/* ---- which of them is the answer ---- */

static bool is_refusal(uint8_t code)
{
    switch (code) {
    case DIAG_BAD_COMMAND:
    case DIAG_BAD_PARAMETER:
    case DIAG_BAD_LENGTH:
    case DIAG_BAD_DEVICE:
    case DIAG_BAD_MODE:
    case DIAG_BAD_SPC:
    case DIAG_BAD_SECURITY:
    case DIAG_BAD_TRANSACTION:
    case DIAG_DISALLOWED:
        return true;
    default:
        return false;
    }
}

static bool refuses(const struct diag_question *q, const uint8_t *frame, size_t size)
{
    if (q->request[0] == frame[0] || !is_refusal(frame[0]))
        return false;
    size_t n = MIN_OF(size - 1, q->size);
    return n >= MIN_OF(q->size, (size_t)ECHO_LEAST) && memcmp(frame + 1, q->request, n) == 0;
}

/* Everything else is a log, an event or the answer to an older question. */
static bool answers(const struct diag_question *q, const uint8_t *frame, size_t size)
{
    size_t echo = MAX_OF(q->echo, (size_t)1);
    if (size < echo || memcmp(frame, q->request, echo) != 0)
        return false;
    if (q->key_size == 0)
        return true;
    return size >= q->key_found_at + q->key_size &&
           memcmp(frame + q->key_found_at, q->request + q->key_at, q->key_size) == 0;
}

static int exchange(struct diag *d, const struct diag_question *q, usec_t deadline, size_t *ret_size)
{
    d->refusal = DIAG_REFUSED_NOT;
    int r = send_frame(d, q->request, q->size, deadline);
    while (r == 0) {
        size_t size;
        r = receive_frame(d, deadline, &size);
        if (r < 0)
            break;
        if (refuses(q, d->decoder.frame, size)) {
            d->refusal = d->decoder.frame[0];
            *ret_size = size;
            return 0;
        }
        if (answers(q, d->decoder.frame, size)) {
            *ret_size = size;
            return 0;
        }
    }
    return r;
}

/*
 * After a question that was not answered in time: one that the same part of the modem answers behind it, so
 * that an answer that comes late is not taken for that of the next question (most EFS answers name no path).
 */
static int resynchronise(struct diag *d, const struct diag_question *q)
{
    static const uint8_t version[] = {COMMAND_VERSION};
    const uint8_t query[] = {DIAG_SUBSYSTEM, q->size > 1 ? q->request[1] : 0, EFS_QUERY, 0};
    bool efs = q->request[0] == DIAG_SUBSYSTEM && (query[1] == EFS_ALTERNATE || query[1] == EFS_STANDARD);
    const struct diag_question sync = {.request = efs ? query : version,
                                       .size = efs ? sizeof(query) : sizeof(version),
                                       .echo = efs ? sizeof(query) : sizeof(version)};
    size_t size;
    return exchange(d, &sync, deadline_in(patience), &size);
}

static int try(struct diag *d, const struct diag_question *q, size_t *ret_size)
{
    usec_t each = q->patience ? q->patience : patience;
    int r = exchange(d, q, deadline_in(each), ret_size);
    for (unsigned i = 1; i < MAX_TRIES && r == -ETIMEDOUT; i++) {
        if (resynchronise(d, q) < 0 || q->writes)
            return r;
        r = exchange(d, q, deadline_in(each), ret_size);
    }
    return r;
}

/* ---- unlocking ---- */

static int unlock(struct diag *d, struct error *e)
{
    static const uint8_t spc[] = {COMMAND_SPC, '0', '0', '0', '0', '0', '0'};
    static const uint8_t password[] = {COMMAND_PASSWORD, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
    bool wants_spc = d->refusal == DIAG_BAD_SPC;
    bool *sent = wants_spc ? &d->spc_sent : &d->password_sent;
    const struct diag_question q = {.request = wants_spc ? spc : password,
                                    .size = wants_spc ? sizeof(spc) : sizeof(password),
                                    .writes = true};
    const char *what = wants_spc ? "service programming code (SPC)" : "security password";
    size_t size;

    enum diag_refusal asked = d->refusal;
    if (!*sent) {
        *sent = true;
        int r = try(d, &q, &size);
        if (r < 0)
            return failed(r, e);
        if (d->refusal == DIAG_REFUSED_NOT && size > 1 && d->decoder.frame[1] == ACCEPTED)
            return 0;
    }
    d->refusal = asked;
    return error_set(e, ERROR_DIAG_FAILED,
                     "the modem wants a %s and does not take the default one; none is guessed", what);
}

/* ---- asking ---- */

static const char *refusal_name(enum diag_refusal code)
{
    switch (code) {
    case DIAG_BAD_PARAMETER:
        return "bad parameter";
    case DIAG_BAD_LENGTH:
        return "bad length";
    case DIAG_BAD_DEVICE:
        return "bad device";
    case DIAG_BAD_MODE:
        return "not in this operating mode";
    case DIAG_BAD_TRANSACTION:
        return "bad transaction";
    case DIAG_DISALLOWED:
        return "disallowed";
    default:
        return "refused";
    }
}

static int refused(const struct diag *d, const struct diag_question *q, struct error *e)
{
    bool unknown = d->refusal == DIAG_BAD_COMMAND;
    enum error_kind kind = unknown ? ERROR_UNSUPPORTED : ERROR_DIAG_FAILED;
    char command[16] = "";
    if (q->quiet)
        return error_errno(kind);
    for (size_t i = 0; i < MIN_OF(q->size, (size_t)DIAG_SUBSYSTEM_HEADER); i++)
        snprintf(command + 3 * i, sizeof(command) - 3 * i, "%02x ", q->request[i]);
    return error_set(e, kind, "the modem's firmware %s the DIAG command %s(0x%02x%s%s)",
                     unknown ? "does not know" : "refuses", command, (unsigned)d->refusal,
                     unknown ? "" : ", ", unknown ? "" : refusal_name(d->refusal));
}

int diag_ask(struct diag *d, const struct diag_question *q, const uint8_t **ret, size_t *ret_size,
             struct error *e)
{
    size_t size = 0;
    for (;;) {
        int r = try(d, q, &size);
        if (r < 0)
            return failed(r, e);
        if (d->refusal == DIAG_REFUSED_NOT)
            break;
        if (d->refusal != DIAG_BAD_SPC && d->refusal != DIAG_BAD_SECURITY)
            return refused(d, q, e);
        r = unlock(d, e);
        if (r < 0)
            return r;
    }
    if (size < q->least)
        return error_set(
            e, ERROR_DIAG_FAILED,
            "the modem's answer to DIAG command %02x should have at least %zu bytes, but has %zu",
            q->request[0], q->least, size);
    *ret = d->decoder.frame;
    *ret_size = size;
    return 0;
}

int diag_pause(struct diag *d, usec_t usec, struct error *e)
{
    usec_t deadline = deadline_in(usec);
    size_t size;
    int r = 0;
    while (r == 0)
        r = receive_frame(d, deadline, &size);
    return r == -ETIMEDOUT ? 0 : failed(r, e);
}

/* ---- opening ---- */

/* Logs, debug messages, events (1.2). Whether it takes them does not matter: what comes is passed over. */
static int silence(struct diag *d, struct error *e)
{
    static const uint8_t logs[] = {0x73, 0, 0, 0, 0, 0, 0, 0}, messages[] = {0x7d, 5, 0, 0, 0, 0, 0, 0},
                         events[] = {0x60, 0};
    const struct diag_question all[] = {
        {.request = logs, .size = sizeof(logs)},
        {.request = messages, .size = sizeof(messages)},
        {.request = events, .size = sizeof(events)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        size_t size;
        int r = exchange(d, &all[i], deadline_in(silence_patience), &size);
        if (r < 0 && r != -ETIMEDOUT)
            return failed(r, e);
    }
    return 0;
}

int diag_open_crashed(struct transport *t, struct diag **ret, struct error *e)
{
    _cleanup_(diag_freep) struct diag *d = calloc(1, sizeof(*d));
    if (!d)
        return error_set(e, ERROR_FAILED, "no memory for the DIAG session");
    d->transport = t;
    int r = transport_read(t, d->input, sizeof(d->input), deadline_in(hello_patience), &d->input_size, NULL);
    if (r < 0 && r != -ETIMEDOUT)
        return failed(r, e);
    d->input_size = 0;
    *ret = steal_ptr(d);
    return 0;
}

int diag_open(struct transport *t, struct diag **ret, struct error *e)
{
    static const uint8_t version[] = {COMMAND_VERSION};
    const struct diag_question hello = {.request = version, .size = sizeof(version)};
    _cleanup_(diag_freep) struct diag *d = calloc(1, sizeof(*d));
    size_t size;
    if (!d)
        return error_set(e, ERROR_FAILED, "no memory for the DIAG session");
    d->transport = t;
    transport_drop_input(t);
    int r = silence(d, e);
    if (r < 0)
        return r;
    /* Behind the last of the three, so that a late answer to one of them is not taken for another. */
    r = try(d, &hello, &size);
    if (r < 0)
        return failed(r, e);
    *ret = steal_ptr(d);
    return 0;
}
