/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/firehose.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "protocol/firehose-internal.h"

/* reference/edl.md 2.12: the longest time that a tool had a reason for. Erase 4 s on SDX55, 15 s with 8+8
 * Gbit. */
#define SEC USEC_PER_SEC
const struct firehose_limit firehose_limits[FIREHOSE_VERB_COUNT] = {
    [FIREHOSE_START] = {"the programmer's start", 0, 0, 0, 0},
    [FIREHOSE_NOP] = {"nop", 5 * SEC, 5 * SEC, 0, 0},
    [FIREHOSE_CONFIGURE] = {"configure", 5 * SEC, 10 * SEC, 0, 0},
    [FIREHOSE_STORAGE_INFO] = {"getstorageinfo", 5 * SEC, 10 * SEC, 0, 0},
    [FIREHOSE_ERASE] = {"erase", 5 * SEC, 60 * SEC, 0, 0},
    [FIREHOSE_PROGRAM] = {"program", 5 * SEC, 10 * SEC, 15 * SEC, 120 * SEC},
    [FIREHOSE_READ] = {"read", 5 * SEC, 10 * SEC, 30 * SEC, 30 * SEC},
    [FIREHOSE_DIGEST] = {"getsha256digest", 5 * SEC, 30 * SEC, 0, 0},
    [FIREHOSE_VENDOR_CHECK] = {"the vendor check", 5 * SEC, 30 * SEC, 0, 0},
    [FIREHOSE_POWER] = {"power", 5 * SEC, 10 * SEC, 0, 0},
};

/* A NAK whose reason comes behind it, an ACK whose log does (2.1: the order is not guaranteed): ends with the
 * log. */
#define LINGER (50 * USEC_PER_MSEC)
/* Back into step: how long the answer that is owed may follow that of the nop. */
#define RESYNC_SILENCE (300 * USEC_PER_MSEC)

/* ---- life ---- */

struct firehose *firehose_new(struct transport *t)
{
    _cleanup_free_ struct firehose *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->splitter = xml_splitter_new();
    if (!f->splitter)
        return NULL;
    f->transport = t;
    f->payload = FIREHOSE_PAYLOAD_DEFAULT;
    f->documents_left = FIREHOSE_DOCUMENTS_MAX;
    f->reads_left = FIREHOSE_READS_MAX;
    return steal_ptr(f);
}

struct firehose *firehose_free(struct firehose *f)
{
    if (!f)
        return NULL;
    xml_splitter_free(f->splitter);
    free(f);
    return NULL;
}

/* ---- logs ---- */

void firehose_on_log(struct firehose *f,
                     void (*on_log)(void *userdata, enum firehose_log_level level, const char *text),
                     void *userdata)
{
    f->on_log = on_log;
    f->log_userdata = userdata;
}

unsigned firehose_error_count(const struct firehose *f)
{
    return f->n_errors;
}

const char *firehose_first_error(const struct firehose *f)
{
    return f->first_error;
}

void firehose_clear_errors(struct firehose *f)
{
    f->n_errors = 0;
    f->first_error[0] = '\0';
}

bool firehose_vip(const struct firehose *f)
{
    return f->vip;
}

static void emit(struct firehose *f, enum firehose_log_level level, const char *text)
{
    if (f->on_log)
        f->on_log(f->log_userdata, level, text);
}

void firehose_note(struct firehose *f, enum firehose_log_level level, const char *format, ...)
{
    char text[256], line[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    text_clean(text, strlen(text), line, sizeof(line));
    emit(f, level, line);
}

/* "ERROR: text", on 9x07 also "ERROR 14: Line 1285: text" (2.6). *ret_text is what follows the level. */
static enum firehose_log_level parse_level(const char *line, const char **ret_text)
{
    static const char *const prefixes[] = {
        [FIREHOSE_LOG_DEBUG] = "DEBUG",
        [FIREHOSE_LOG_INFO] = "INFO",
        [FIREHOSE_LOG_WARN] = "WARN",
        [FIREHOSE_LOG_ERROR] = "ERROR",
    };
    line += strspn(line, " ");
    *ret_text = line;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(line, prefixes[i], n) != 0 || (line[n] != ':' && line[n] != ' '))
            continue;
        if (line[n] == ':')
            *ret_text = line + n + 1 + strspn(line + n + 1, " ");
        return (enum firehose_log_level)i;
    }
    return FIREHOSE_LOG_INFO;
}

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

/* All names of a line; what sticks to one is cut off (stray bytes, 8.2). */
static void add_functions(struct firehose *f, const char *names)
{
    static const char separators[] = " ,;\t\r\n";
    for (;;) {
        names += strspn(names, separators);
        size_t n = strspn(names, name_characters);
        size_t used = strlen(f->functions);
        if (!*names || used + n + 3 > sizeof(f->functions))
            return;
        if (n > 0)
            snprintf(f->functions + used, sizeof(f->functions) - used, "%s%.*s ", used ? "" : " ", (int)n,
                     names);
        names += strcspn(names, separators);
    }
}

/* 2.2: a head, a log for each name and an end; or all of it in one line (9x07, and SDX62 by 3.6). */
static void note_banner(struct firehose *f, const char *text)
{
    static const char head[] = "Supported Functions", end[] = "End of supported functions";
    if (strncasecmp(text, end, sizeof(end) - 1) == 0) {
        f->banner_listing = false;
        f->banner_complete = true;
    } else if (strncasecmp(text, head, sizeof(head) - 1) == 0) {
        const char *names = strchr(text, ':');
        f->functions[0] = '\0';
        add_functions(f, names ? names + 1 : "");
        f->banner_complete = f->functions[0] != '\0';
        f->banner_listing = !f->banner_complete;
    } else if (f->banner_listing && !strpbrk(text, " :=")) {
        add_functions(f, text);
    }
}

static void handle_log(struct firehose *f, const struct xml_document *d)
{
    const char *value = xml_attribute(d, "value");
    if (!value)
        return;
    const char *text;
    enum firehose_log_level level = parse_level(value, &text);
    char line[FIREHOSE_LINE_SIZE];
    text_clean(value, strlen(value), line, sizeof(line));

    text_clean(value, strlen(value), f->command_last, sizeof(f->command_last));
    if (level == FIREHOSE_LOG_ERROR) {
        f->command_failed = true;
        if (f->n_errors++ == 0)
            memcpy(f->first_error, f->command_last, sizeof(f->first_error));
        if (!f->command_error[0])
            memcpy(f->command_error, f->command_last, sizeof(f->command_error));
    }
    if (strstr(text, "VIP is enabled"))
        f->vip = true;
    note_banner(f, text);
    if (f->on_line)
        f->on_line(f->line_userdata, text);
    emit(f, level, line);
}

const char *firehose_command_words(const struct firehose *f)
{
    return f->command_error[0] ? f->command_error : f->command_last;
}

/* ---- documents in ---- */

int firehose_step(struct firehose *f, usec_t deadline, struct xml_document **ret)
{
    _cleanup_(xml_document_freep) struct xml_document *d = NULL;
    size_t garbage = 0, n;
    int r = xml_splitter_next(f->splitter, &d, &garbage);
    if (r == -EBADMSG) {
        /* Some bytes between documents are nothing new (F0 E9 88 14, 8.2). A modem that says nothing else is
         * not understood. */
        f->garbage += garbage;
        return f->garbage > FIREHOSE_GARBAGE_MAX ? -EBADMSG : 0;
    }
    if (r < 0)
        return r;
    if (r > 0) {
        if (f->documents_left == 0)
            return -EOVERFLOW;
        f->documents_left--;
        if (d->kind == XML_RESPONSE) {
            *ret = steal_ptr(d);
            return 1;
        }
        if (d->kind == XML_LOG)
            handle_log(f, d);
        return 0;
    }

    if (f->reads_left == 0)
        return -EOVERFLOW;
    f->reads_left--;
    r = transport_read(f->transport, f->in, sizeof(f->in), deadline, &n, &f->boundary);
    return r < 0 ? r : xml_splitter_feed(f->splitter, f->in, n);
}

int firehose_receive(struct firehose *f, usec_t deadline, struct xml_document **ret)
{
    for (;;) {
        int r = firehose_step(f, deadline, ret);
        if (r != 0)
            return r < 0 ? r : 0;
        /* A modem that never stops to talk is over its time, too. */
        if (deadline != 0 && now_usec() > deadline)
            return -ETIMEDOUT;
    }
}

bool firehose_is_ack(const struct xml_document *d)
{
    const char *value = xml_attribute(d, "value");
    return value && text_equal_nocase(value, "ACK");
}

bool firehose_is_raw(const struct xml_document *d)
{
    const char *mode = xml_attribute(d, "rawmode");
    return mode && text_equal_nocase(mode, "true");
}

void firehose_pass_over(struct firehose *f, const struct xml_document *d)
{
    const char *value = xml_attribute(d, "value");
    /* The late start of a transfer that we gave up: it takes the next document for data. */
    if (f->owes_answer && firehose_is_ack(d) && firehose_is_raw(d))
        f->stuck_in_raw = true;
    firehose_note(f, FIREHOSE_LOG_WARN, "qdld: an answer that belongs to no command was passed over: %.32s%s",
                  value ? value : "(no value)", firehose_is_raw(d) ? " rawmode=true" : "");
}

/* What is there already: late logs, and answers that nobody waits for any more. -ETIMEDOUT: nothing is left.
 */
static int read_late(struct firehose *f)
{
    f->documents_left = FIREHOSE_DOCUMENTS_MAX;
    f->reads_left = FIREHOSE_DRAIN_READS_MAX;
    f->garbage = 0;
    for (;;) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        int r = firehose_receive(f, 0, &d);
        if (r < 0)
            return r;
        firehose_pass_over(f, d);
        if (!xml_attribute(d, "AttemptRetry"))
            f->owes_answer = false;
    }
}

void firehose_linger(struct firehose *f, const bool *seen)
{
    usec_t deadline = deadline_in(LINGER);
    while (!*seen && now_usec() < deadline) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        int r = firehose_step(f, deadline, &d);
        if (r < 0)
            return; /* whatever it is, the next command meets it again */
        if (r > 0)
            firehose_pass_over(f, d);
    }
}

/* ---- errors ---- */

int firehose_fail(struct firehose *f, enum firehose_verb verb, int error, struct error *e)
{
    const char *name = firehose_limits[verb].name;
    int r;
    switch (error) {
    case -ENODEV:
        r = error_set(e, ERROR_MODEM_GONE, "the modem went away during %s", name);
        error_hint(e, HINT_RETRY);
        break;
    case -ETIMEDOUT:
        r = f->garbage > 0
                ? error_set(e, ERROR_TIMEOUT,
                            "no answer to %s in time, only %zu bytes that are no Firehose document", name,
                            f->garbage)
                : error_set(e, ERROR_TIMEOUT, "no answer to %s in time", name);
        error_hint(e, HINT_POWER_CYCLE);
        break;
    case -ECANCELED:
        r = error_set(e, ERROR_CANCELLED, "cancelled during %s", name);
        break;
    case -EINTR:
        r = error_set(e, ERROR_INTERRUPTED, "interrupted during %s", name);
        break;
    case -ENOMEM:
        (void)error_set(e, ERROR_FAILED, "no memory during %s", name);
        r = error;
        break;
    case -EBADMSG:
        r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "%s: expected a Firehose document, found %zu bytes that are none", name, f->garbage);
        error_hint(e, HINT_POWER_CYCLE);
        break;
    case -ENOBUFS:
        r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "%s: the modem sent more than %d KiB without the end of a document", name,
                      XML_DOCUMENT_MAX / 1024);
        error_hint(e, HINT_POWER_CYCLE);
        break;
    case -EOVERFLOW:
        r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "%s: the modem does not stop to log, more than %d documents without an answer", name,
                      FIREHOSE_DOCUMENTS_MAX);
        error_hint(e, HINT_POWER_CYCLE);
        break;
    case -EPIPE:
    case -EIO:
        r = error_set(e, ERROR_FIREHOSE_FAILED, "%s: %s", name,
                      error == -EPIPE ? "the modem stalled its endpoint" : "the transfer failed");
        error_hint(e, HINT_POWER_CYCLE);
        break;
    default: /* a waker's own */
        (void)error_set(e, ERROR_FAILED, "%s was ended: %s", name, strerror(-error));
        r = error;
        break;
    }
    error_words(e, firehose_command_words(f));
    return r;
}

int firehose_refused(struct firehose *f, enum firehose_verb verb, struct error *e)
{
    /* The sentences with which programmers refuse another geometry (2.4). */
    static const char *const geometry[] = {
        "different from device sector size",
        "must be equal to disk sector size",
        "must be equal to disk pages per block",
    };
    const char *name = firehose_limits[verb].name, *words;
    firehose_linger(f, &f->command_failed);
    words = firehose_command_words(f);

    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(geometry) && r == 0; i++)
        if (strstr(words, geometry[i]))
            r = error_set(e, ERROR_GEOMETRY_DIFFERS,
                          "the modem refused %s: its flash has another page or block size", name);
    if (r == 0)
        r = error_set(e, ERROR_FIREHOSE_FAILED, "the modem refused %s", name);
    error_words(e, words);
    /* "Failed to open device, type:nand": nothing can be read or written any more (2.6, 6.21). */
    if (strstr(words, "Failed to open device"))
        error_hint(e, HINT_CONTACT_VENDOR);
    return r;
}

/* ---- commands ---- */

static int send_document(struct firehose *f, enum firehose_verb verb, const struct firehose_text *document)
{
    f->sent = true;
    int r = transport_write(f->transport, document->data, document->size, 0,
                            deadline_in(firehose_limits[verb].send));
    if (r == -ENODEV) {
        struct xml_document *d = NULL; /* its last words */
        while (firehose_receive(f, 0, &d) == 0)
            d = xml_document_free(d);
    } else if (r < 0) {
        f->owes_answer = true; /* part of it may have arrived */
        (void)transport_clear_halt(f->transport);
    }
    return r;
}

static int refuse_stuck(enum firehose_verb verb, struct error *e)
{
    int r = error_set(e, ERROR_FIREHOSE_FAILED,
                      "%s cannot be sent: the modem still waits for raw data of a command that was given up",
                      firehose_limits[verb].name);
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

static void forget_words(struct firehose *f)
{
    f->command_error[0] = f->command_last[0] = '\0';
    f->command_failed = false;
}

/*
 * An earlier command was given up and its answer may still come: it must not pass for that of the next
 * command. A nop is answered behind it, so two answers, or one and then silence, and we are in step again.
 */
static int resync(struct firehose *f, struct error *e)
{
    struct firehose_text nop;
    int r = firehose_print_nop(&nop, e);
    if (r < 0)
        return r;
    r = send_document(f, FIREHOSE_NOP, &nop);
    if (r < 0)
        return firehose_fail(f, FIREHOSE_NOP, r, e);
    usec_t deadline = deadline_in(firehose_limits[FIREHOSE_NOP].answer);
    for (unsigned answers = 0; answers < 2;) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        r = firehose_receive(f, deadline, &d);
        if (r == -ETIMEDOUT && answers > 0)
            break;
        if (r < 0)
            return firehose_fail(f, FIREHOSE_NOP, r, e);
        firehose_pass_over(f, d);
        answers++;
        deadline = deadline_in(RESYNC_SILENCE);
    }
    if (f->stuck_in_raw)
        return refuse_stuck(FIREHOSE_NOP, e);
    f->owes_answer = false;
    return 0;
}

int firehose_begin(struct firehose *f, enum firehose_verb verb, const struct firehose_text *document,
                   struct error *e)
{
    if (f->stuck_in_raw)
        return refuse_stuck(verb, e);
    forget_words(f);
    f->sent = false;
    int r = read_late(f);
    if (r != -ETIMEDOUT && r != -EOVERFLOW)
        return firehose_fail(f, verb, r, e);
    if (f->stuck_in_raw)
        return refuse_stuck(verb, e);
    f->documents_left = FIREHOSE_DOCUMENTS_MAX;
    f->reads_left = FIREHOSE_READS_MAX;
    f->garbage = 0;
    if (f->owes_answer) {
        r = resync(f, e);
        if (r < 0)
            return r;
    }
    forget_words(f);
    r = send_document(f, verb, document);
    return r < 0 ? firehose_fail(f, verb, r, e) : 0;
}

int firehose_await(struct firehose *f, enum firehose_verb verb, usec_t deadline, bool raw,
                   struct firehose_answer *ret, struct error *e)
{
    for (;;) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        int r = firehose_receive(f, deadline, &d);
        if (r < 0) {
            f->owes_answer = true;
            return firehose_fail(f, verb, r, e);
        }
        if (xml_attribute(d, "AttemptRetry")) /* "read again": the answer proper follows (2.1) */
            continue;
        if (xml_attribute(d, "AttemptRestart")) {
            r = error_set(e, ERROR_FIREHOSE_FAILED, "the modem answered %s with the wish to begin again",
                          firehose_limits[verb].name);
            error_hint(e, HINT_POWER_CYCLE);
            error_words(e, firehose_command_words(f));
            return r;
        }
        bool ack = firehose_is_ack(d);
        if (ack && firehose_is_raw(d) != raw) {
            firehose_pass_over(f, d);
            continue;
        }
        *ret = (struct firehose_answer){.ack = ack, .document = steal_ptr(d)};
        return 0;
    }
}

int firehose_transact(struct firehose *f, enum firehose_verb verb, const struct firehose_text *document,
                      struct firehose_answer *ret, struct error *e)
{
    int r = firehose_begin(f, verb, document, e);
    if (r < 0)
        return r;
    return firehose_await(f, verb, deadline_in(firehose_limits[verb].answer), false, ret, e);
}
