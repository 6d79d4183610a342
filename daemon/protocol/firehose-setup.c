/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From a programmer that has just started to one that takes commands: banner, configure; and the nop. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "protocol/firehose-internal.h"

/* How long a programmer may say nothing before it is asked: at first (it has to start), and between two logs.
 */
#define BANNER_FIRST_SILENCE (2 * USEC_PER_SEC)
#define BANNER_SILENCE       (1 * USEC_PER_SEC)
/* A banner that is longer than this is none. */
#define BANNER_MAX (10 * USEC_PER_SEC)

bool firehose_banner_seen(const struct firehose *f)
{
    return f->functions[0] || f->banner_complete || f->banner_listing;
}

bool firehose_banner_has(const struct firehose *f, const char *function)
{
    size_t n = strlen(function);
    for (const char *p = f->functions; n > 0 && (p = strcasestr(p, function)); p += n)
        if (p > f->functions && p[-1] == ' ' && p[n] == ' ')
            return true;
    return false;
}

int firehose_nop(struct firehose *f, struct error *e)
{
    struct firehose_text text;
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_print_nop(&text, e);
    if (r < 0)
        return r;
    r = firehose_transact(f, FIREHOSE_NOP, &text, &answer, e);
    if (r < 0)
        return r;
    return answer.ack ? 0 : firehose_refused(f, FIREHOSE_NOP, e);
}

/* Logs until the banner's last line: 1; 0 when there is silence before it; negative as firehose_receive(). */
static int read_banner(struct firehose *f)
{
    usec_t end = deadline_in(BANNER_MAX), deadline = deadline_in(BANNER_FIRST_SILENCE);
    f->documents_left = FIREHOSE_DOCUMENTS_MAX;
    f->reads_left = FIREHOSE_READS_MAX;
    f->garbage = 0;
    while (!f->banner_complete) {
        _cleanup_(xml_document_freep) struct xml_document *d = NULL;
        unsigned documents = f->documents_left;
        int r = firehose_step(f, MIN_OF(deadline, end), &d);
        if (r == -ETIMEDOUT || now_usec() > end)
            return 0;
        if (r < 0)
            return r;
        if (r > 0)
            firehose_pass_over(f, d);
        if (documents != f->documents_left)
            deadline = deadline_in(BANNER_SILENCE);
    }
    return 1;
}

int firehose_await_banner(struct firehose *f, struct error *e)
{
    int r = read_banner(f);
    if (r < 0)
        return firehose_fail(f, FIREHOSE_START, r, e);
    if (r > 0)
        return 0;

    /* No banner, or no end of it: a programmer that runs already says none (2.2), and a nop is harmless to
     * all of them. */
    bool heard = f->documents_left < FIREHOSE_DOCUMENTS_MAX;
    r = firehose_nop(f, e);
    if (r != -ETIMEDOUT)
        return r;
    if (heard || f->documents_left < FIREHOSE_DOCUMENTS_MAX)
        return r;
    r = error_set(
        e, ERROR_PROGRAMMER_REJECTED,
        "the modem took the programmer and then said nothing: it is probably not signed for this modem");
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

/* ---- configure ---- */

/* A number of bytes out of an answer; 0 if it is absent or none. */
static uint32_t attribute_bytes(const struct xml_document *d, const char *name)
{
    const char *value = xml_attribute(d, name);
    uint64_t n;
    return value && text_parse_u64(value, 10, UINT32_MAX, &n) == 0 ? (uint32_t)n : 0;
}

/* 1 ACK, 0 NAK: what it wants is in *ret_wanted (0: it does not say). */
static int configure_once(struct firehose *f, uint32_t payload, uint32_t *ret_agreed, uint32_t *ret_wanted,
                          uint32_t *ret_supported, struct error *e)
{
    /*
     * ZlpAwareHost="1": the modem expects a ZLP behind every OUT transfer of whole packets, and gets it. It
     * is the mode in which the vendor's own tool and the others flash NAND (2.10); "0" would save a
     * transaction a payload, but which of the programmers honour it is not known, and one that does not would
     * wait for ever.
     */
    const bool zlp_aware = true;
    struct firehose_text text;
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_print_configure(&text, payload, zlp_aware, e);
    if (r < 0)
        return r;
    r = firehose_transact(f, FIREHOSE_CONFIGURE, &text, &answer, e);
    if (r < 0)
        return r;

    uint32_t told = attribute_bytes(answer.document, "MaxPayloadSizeToTargetInBytes");
    *ret_wanted = told;
    *ret_supported = attribute_bytes(answer.document, "MaxPayloadSizeToTargetInBytesSupported");
    if (!answer.ack)
        return 0;
    const char *memory = xml_attribute(answer.document, "MemoryName");
    if (memory && !text_equal_nocase(memory, "nand"))
        return error_set(e, ERROR_FIREHOSE_FAILED, "the modem was configured for nand and answered \"%s\"",
                         memory);
    f->zlp_aware = zlp_aware;
    /* Attributes may be missing (8.8): then it is what we asked for. An ACK never gives more than that. */
    *ret_agreed = told > 0 ? MIN_OF(told, payload) : payload;
    return 1;
}

/* What can be sent in one transfer of ours and holds whole packets. */
static uint32_t usable(uint32_t payload)
{
    enum { PACKET = 512 };
    payload = MIN_OF(payload, (uint32_t)TRANSPORT_CHUNK_MAX);
    return payload - payload % PACKET;
}

int firehose_configure(struct firehose *f, uint32_t payload, struct error *e)
{
    if (f->vip)
        return error_set(e, ERROR_UNSUPPORTED,
                         "this programmer takes only signed tables (VIP), which are not supported");

    uint32_t asked = payload ? usable(payload) : FIREHOSE_PAYLOAD_DEFAULT, agreed = 0, wanted = 0,
             supported = 0;
    int r = configure_once(f, asked, &agreed, &wanted, &supported, e);
    if (r < 0)
        return r;
    if (r == 0) {
        if (usable(wanted) == 0) /* it refuses for another reason */
            return firehose_refused(f, FIREHOSE_CONFIGURE, e);
        asked = usable(wanted);
        r = configure_once(f, asked, &agreed, &wanted, &supported, e);
        if (r < 0)
            return r;
        if (r == 0)
            return firehose_refused(f, FIREHOSE_CONFIGURE, e);
        supported = 0; /* it has said what it takes */
    }
    if (usable(agreed) == 0)
        return error_set(e, ERROR_FIREHOSE_FAILED,
                         "the modem agreed to a payload of %" PRIu32 " bytes, expected at least 512", agreed);

    /* Up only where it matters, and some refuse to be configured twice: then the first holds (2.3). */
    if (usable(supported) >= 2 * agreed) {
        uint32_t larger = usable(supported), second = 0;
        r = configure_once(f, larger, &second, &wanted, &supported, e);
        if (r < 0)
            return r;
        if (r == 0)
            firehose_note(f, FIREHOSE_LOG_INFO,
                          "qdld: a payload of %" PRIu32 " bytes was refused, %" PRIu32 " stay", larger,
                          agreed);
        else if (usable(second) > 0)
            agreed = second;
    }
    f->payload = usable(agreed);
    return 0;
}

uint32_t firehose_payload_size(const struct firehose *f)
{
    return f->payload;
}
