/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands of one document and one answer: erase, digest, the vendor's check, power. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "protocol/firehose-internal.h"

/* A digest reads the whole range first: so much more time for it than the answer itself takes. */
#define DIGEST_RATE_MIN ((uint64_t)1024 * 1024) /* bytes a second */
/* After power: a modem that says nothing for so long (more than the delay of the command) will do so for
 * ever. */
#define POWER_SILENCE (3 * USEC_PER_SEC)
#define POWER_MAX     (15 * USEC_PER_SEC)

int firehose_erase(struct firehose *f, const struct firehose_range *range, struct error *e)
{
    struct firehose_text text;
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_print_erase(&text, range, e);
    if (r < 0)
        return r;
    r = firehose_transact(f, FIREHOSE_ERASE, &text, &answer, e);
    if (r < 0)
        return r;
    return answer.ack ? 0 : firehose_refused(f, FIREHOSE_ERASE, e);
}

/* ---- digest ---- */

struct digest_told {
    bool seen, contradicts;
    uint8_t value[32];
};

enum { DIGEST_HEX = 64 };

static void take_digest(struct digest_told *d, const char *hex, size_t size)
{
    char text[DIGEST_HEX + 1];
    uint8_t value[sizeof(d->value)];
    if (size != DIGEST_HEX)
        return;
    memcpy(text, hex, DIGEST_HEX);
    text[DIGEST_HEX] = '\0';
    if (text_unhex(text, value, sizeof(value)) < 0)
        return;
    if (d->seen && memcmp(d->value, value, sizeof(value)) != 0)
        d->contradicts = true;
    memcpy(d->value, value, sizeof(value));
    d->seen = true;
}

/* "INFO: Digest <64 hex>" (2.5). */
static void take_digest_line(void *userdata, const char *text)
{
    static const char digits[] = "0123456789abcdefABCDEF", word[] = "digest";
    const char *p = strcasestr(text, word);
    if (!p)
        return;
    p += sizeof(word) - 1;
    p += strspn(p, " :=");
    take_digest(userdata, p, strspn(p, digits));
}

int firehose_digest(struct firehose *f, const struct firehose_range *range, uint8_t ret[32], struct error *e)
{
    struct firehose_text text;
    struct digest_told told = {};
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_print_digest(&text, range, e);
    if (r < 0)
        return r;

    usec_t patience = firehose_limits[FIREHOSE_DIGEST].answer +
                      range->count * range->sector_size / DIGEST_RATE_MIN * USEC_PER_SEC;
    firehose_listen(f, take_digest_line, &told);
    r = firehose_begin(f, FIREHOSE_DIGEST, &text, e);
    if (r == 0)
        r = firehose_await(f, FIREHOSE_DIGEST, deadline_in(patience), false, &answer, e);
    if (r == 0 && answer.ack) {
        static const char *const names[] = {"Digest", "SHA256"}; /* case is ignored */
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            const char *value = xml_attribute(answer.document, names[i]);
            if (value)
                take_digest(&told, value, strlen(value));
        }
        firehose_linger(f, &told.seen);
    }
    firehose_listen(f, NULL, NULL);
    if (r < 0)
        return r;
    if (!answer.ack || !told.seen) {
        if (!answer.ack)
            firehose_linger(f, &f->command_failed);
        r = error_set(e, ERROR_UNSUPPORTED, "the programmer %s getsha256digest",
                      answer.ack ? "gave no digest for" : "refused");
        error_words(e, firehose_command_words(f));
        return r;
    }
    if (told.contradicts)
        return error_set(e, ERROR_FIREHOSE_FAILED, "the modem told two different digests of one range");
    memcpy(ret, told.value, sizeof(told.value));
    return 0;
}

/* ---- vendor check ---- */

struct verdict {
    bool seen;
    bool ok, against;
};

/* "[harden] project name or type = RM502Q ok!", "… error!", "not find RAWDATA partition in mibib" (2.7). */
static void take_verdict(void *userdata, const char *text)
{
    struct verdict *v = userdata;
    bool harden = strstr(text, "[harden]");
    v->ok |= harden && strstr(text, " ok!"); /* not its end: stray bytes may follow (8.2) */
    v->against |= strstr(text, "not find") || (harden && strstr(text, "error"));
    v->seen = v->ok || v->against;
}

int firehose_vendor_check(struct firehose *f, const struct firehose_vendor_check *check, bool *ret_agreed,
                          struct error *e)
{
    struct firehose_text text;
    struct verdict verdict = {};
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_print_vendor_check(&text, check, e);
    if (r < 0)
        return r;

    firehose_listen(f, take_verdict, &verdict);
    r = firehose_transact(f, FIREHOSE_VENDOR_CHECK, &text, &answer, e);
    if (r == 0)
        firehose_linger(f, &verdict.seen);
    firehose_listen(f, NULL, NULL);
    if (r < 0)
        return r;
    if (!answer.ack) {
        r = error_set(e, ERROR_WRONG_FIRMWARE, "the modem refused the package's project \"%s\"",
                      check->project_name);
        error_hint(e, HINT_WRONG_FIRMWARE);
        error_words(e, firehose_command_words(f));
        return r;
    }
    *ret_agreed = verdict.ok && !verdict.against;
    return 0;
}

/* ---- power ---- */

/* All that a modem which resets can make of a transfer (8.22). */
static bool is_gone(int error)
{
    return error == -ENODEV || error == -EIO || error == -EPIPE;
}

int firehose_power(struct firehose *f, enum firehose_power mode, struct error *e)
{
    struct firehose_text text;
    int r = firehose_print_power(&text, mode, e);
    if (r < 0)
        return r;
    struct error own = {};
    r = firehose_begin(f, FIREHOSE_POWER, &text, &own);
    if (r == -ENODEV && f->sent)
        return 0; /* it was quicker than the report that it has taken the document */
    if (r < 0) {
        if (e)
            *e = own;
        return r;
    }

    usec_t end = deadline_in(POWER_MAX), deadline = deadline_in(firehose_limits[FIREHOSE_POWER].answer);
    for (bool answered = false;;) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        r = firehose_step(f, deadline, &d);
        if (is_gone(r))
            return 0;
        if (r == 0 && now_usec() > deadline)
            r = -ETIMEDOUT;
        /* Its last logs have to be read or it never resets (2.11); what they are does not matter any more. */
        if (answered && (r == -ETIMEDOUT || r == -EOVERFLOW || r == -EBADMSG || r == -ENOBUFS))
            return 0;
        if (r < 0) {
            f->owes_answer = !answered;
            return firehose_fail(f, FIREHOSE_POWER, r, e);
        }
        if (answered)
            deadline = MIN_OF(end, deadline_in(POWER_SILENCE));
        if (r == 0 || answered || firehose_is_raw(d) || xml_attribute(d, "AttemptRetry"))
            continue;
        if (!firehose_is_ack(d)) {
            r = firehose_refused(f, FIREHOSE_POWER, e);
            if (mode == FIREHOSE_POWER_EDL && r == -EPROTO) { /* 9x07 knows only reset and off (2.5) */
                r = error_set(e, ERROR_UNSUPPORTED, "this programmer cannot reset to EDL");
                error_words(e, firehose_command_words(f));
            }
            return r;
        }
        answered = true;
        deadline = MIN_OF(end, deadline_in(POWER_SILENCE));
    }
}
