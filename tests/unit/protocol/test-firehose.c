/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Banner, configure, answers and logs: each quirk of reference/edl.md 2 and 8 a case. Raw data are in
 * test-firehose-data.c. */

#include "../firehose-modem.h"

#include <limits.h>
#include <sys/eventfd.h>

#include "base/text.h"
#include "protocol/firehose-internal.h"

static const struct firehose_range block10 = {4096, 64, 640, 64, 703};

/* ---- one nop, with logs noted ---- */

static void host_nop(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    firehose_on_log(f, log_to_notes, c);
    c->r = firehose_nop(f, &c->e);
}

static void host_two_nops(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    firehose_on_log(f, log_to_notes, c);
    c->r = firehose_nop(f, &c->e);
    note(c, "first %d|", c->r);
    if (c->r == 0)
        c->r = firehose_nop(f, &c->e);
}

static const char nul_tail[] = ACK "\0\0\0\r\n";

static void test_answers(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"plain", modem_steps, STEPS({"<nop", ACK}), host_nop},
        {"stammered", modem_steps, STEPS({"<nop", LOG("INFO: slow") ACK, STEP_STAMMER}), host_nop},
        {"glued logs", modem_steps, STEPS({"<nop", LOG("INFO: a") LOG("WARN: b") ACK LOG("INFO: late")}),
         host_nop},
        {"separate logs", modem_steps, STEPS({"<nop", LOG("INFO: a")}, {NULL, LOG("b")}, {NULL, ACK}),
         host_nop},
        {"NULs", modem_steps, STEPS({"<nop", nul_tail, 0, sizeof(nul_tail)}, {"<nop", "\n\n" ACK}),
         host_two_nops},
        {"garbage around", modem_steps, STEPS({"<nop", "\xf0\xe9\x88\x14" ACK "\xf0\xe9"}), host_nop},
        {"garbage in a log", modem_steps, STEPS({"<nop", LOG("INFO: \xf0\xe9\x88\x14 & \"<") ACK}), host_nop},
        {"other case", modem_steps, STEPS({"<nop", SAY("<Response Value='ack' RawMode='False'/>")}),
         host_nop},
        {"no rawmode", modem_steps, STEPS({"<nop", ANSWER("value='ACK'")}), host_nop},
        {"ZLP first", modem_steps, STEPS({"<nop", NULL, STEP_ZLP}, {NULL, ACK, STEP_ZLP}), host_nop},
        {"unknown tag", modem_steps, STEPS({"<nop", SAY("<surprise/>") ACK}), host_nop},
        {"retry", modem_steps, STEPS({"<nop", ANSWER("value='NAK' AttemptRetry='1'") ACK}), host_nop},
        {"restart", modem_steps, STEPS({"<nop", ANSWER("value='NAK' AttemptRestart='1'")}), host_nop},
        {"NAK", modem_steps, STEPS({"<nop", LOG("INFO: x") LOG("ERROR: why") LOG("INFO: y") NAK}), host_nop},
        {"NAK, then why", modem_steps, STEPS({"<nop", NAK}, {NULL, LOG("ERROR: because")}), host_nop},
        {"neither", modem_steps, STEPS({"<nop", ANSWER("value='MAYBE'")}), host_nop},
        {"no value", modem_steps, STEPS({"<nop", ANSWER("rawmode='false'")}), host_nop},
        {"gone", modem_steps, STEPS({"<nop", LOG("INFO: bye"), STEP_UNPLUG}), host_nop},
        {"levels", modem_steps,
         STEPS({"<nop", LOG("DEBUG: d") LOG("ERROR 14: Line 3: HANDLE") LOG("ERRORS") ACK}), host_nop},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, "I:INFO: slow|"},
        {0, ERROR_NONE, NULL, "I:INFO: a|W:WARN: b|"},
        {0, ERROR_NONE, NULL, "I:INFO: a|I:b|"},
        {0, ERROR_NONE, NULL, "first 0|"},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, "I:INFO: \\xf0\\xe9\\x88\\x14 & \"<|"},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "", ""},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "ERROR: why", "I:INFO: x|E:ERROR: why|I:INFO: y|"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "ERROR: because", "E:ERROR: because|"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "", ""},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "", ""},
        {-ENODEV, ERROR_MODEM_GONE, "INFO: bye", "I:INFO: bye|"},
        {0, ERROR_NONE, NULL, "D:DEBUG: d|E:ERROR 14: Line 3: HANDLE|I:ERRORS|"},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
}

/* ---- an answer that belongs to no command must not pass for that of the next ---- */

static void host_wait_between(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    firehose_on_log(f, log_to_notes, c);
    c->r = firehose_nop(f, &c->e);
    note(c, "first %d|", c->r);
    /* The late answer is in the same burst as the first, or the test would race with it. */
    if (c->r == 0)
        c->r = firehose_erase(f, &block10, &c->e);
}

#define STRAY_ACK "W:qdld: an answer that belongs to no command was passed over: ACK|"
#define STRAY_NAK "W:qdld: an answer that belongs to no command was passed over: NAK|"
#define STRAY_RAW "W:qdld: an answer that belongs to no command was passed over: ACK rawmode=true|"

static void test_late_answers(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"a second ACK is not that of the erase", modem_steps,
         STEPS({"<nop", ACK ACK}, {"<erase", LOG("ERROR: refused") NAK}), host_wait_between},
        {"a late NAK is not that of the erase", modem_steps,
         STEPS({"<nop", ACK LOG("INFO: late") NAK}, {"<erase", ACK}), host_wait_between},
        {"raw is no answer to an erase", modem_steps, STEPS({"<nop", ACK}, {"<erase", ACK_RAW NAK}),
         host_wait_between},
    };
    const struct expected expected[] = {
        {-EPROTO, ERROR_FIREHOSE_FAILED, "ERROR: refused", "first 0|" STRAY_ACK "E:ERROR: refused|"},
        {0, ERROR_NONE, NULL, "first 0|I:INFO: late|" STRAY_NAK},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "", "first 0|" STRAY_RAW},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
}

/* A command that was given up, by the waker and on the modem's cue, so that nothing here depends on time. */
struct given_up {
    int event;
    const char *late; /* said for the erase when the resync's nop comes */
    const char *nop_answer;
};

static void modem_late(struct peer *p, const void *arg)
{
    const struct given_up *g = arg;
    char text[4096];
    uint64_t one = 1;
    if (!hear_document(p, "<erase", text, sizeof(text)) || write(g->event, &one, sizeof(one)) != sizeof(one))
        return;
    if (!hear_document(p, "<nop", text, sizeof(text)))
        return;
    peer_say_text(p, g->late);
    peer_say_text(p, g->nop_answer);
    play_steps(p, STEPS({"<getstorageinfo", LOG("INFO: in step") NAK}));
}

static int give_up(void *userdata)
{
    uint64_t n;
    return read(*(int *)userdata, &n, sizeof(n)) == sizeof(n) ? -ECANCELED : -EIO;
}

static void host_given_up(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct firehose_storage storage;
    int event = ((const struct given_up *)c->arg)->event;
    transport_set_waker(t, event, give_up, &event);
    c->r = firehose_erase(f, &block10, &c->e);
    note(c, "erase %d %s|", c->r == -ECANCELED, error_name(c->e.kind));
    firehose_on_log(f, log_to_notes, c);
    c->r = firehose_storage_info(f, &storage, &c->e);
}

static void test_given_up(void **state)
{
    (void)state;
    struct given_up args[] = {
        {eventfd(0, EFD_CLOEXEC), LOG("INFO: erased") ACK, ACK},
        {eventfd(0, EFD_CLOEXEC), "", ACK},     /* its answer was lost for ever */
        {eventfd(0, EFD_CLOEXEC), ACK_RAW, ""}, /* had it been a program: the nop would be data now */
    };
    struct peer_case cases[] = {
        {"answer owed", modem_late, &args[0], host_given_up},
        {"answer lost", modem_late, &args[1], host_given_up},
        {"stuck in raw", modem_late, &args[2], host_given_up},
    };
    const struct expected expected[] = {
        {-EPROTO, ERROR_FIREHOSE_FAILED, "INFO: in step",
         "erase 1 Cancelled|I:INFO: erased|" STRAY_ACK STRAY_ACK "I:INFO: in step|"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "INFO: in step", "erase 1 Cancelled|" STRAY_ACK "I:INFO: in step|"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, "erase 1 Cancelled|" STRAY_RAW},
    };
    play(cases, expected, ARRAY_SIZE(cases));
    for (size_t i = 0; i < ARRAY_SIZE(args); i++)
        close(args[i].event);
}

/* ---- bounds ---- */

/* So many logs, each a transfer, and then the answer. */
static void modem_many_logs(struct peer *p, const void *arg)
{
    char text[4096];
    if (!hear_document(p, "<nop", text, sizeof(text)))
        return;
    for (unsigned n = *(const unsigned *)arg; n > 0; n--)
        if (!peer_say_text(p, LOG("INFO: I could go on like this for ever")))
            return;
    peer_say_text(p, ACK);
    peer_be_silent(p);
}

static void modem_slow_logs(struct peer *p, const void *arg)
{
    char text[4096];
    (void)arg;
    if (!hear_document(p, "<nop", text, sizeof(text)))
        return;
    while (peer_say_text(p, LOG("INFO: I could go on like this for ever")))
        peer_sleep(p, USEC_PER_SEC);
}

static void modem_endless_line(struct peer *p, const void *arg)
{
    (void)arg;
    char text[4096];
    if (!hear_document(p, "<nop", text, sizeof(text)))
        return;
    peer_say_text(p, XML_HEAD "<data><log value=\"");
    memset(text, 'a', sizeof(text));
    for (size_t n = 0; n < 1024 * 1024 && peer_say(p, text, sizeof(text)); n += sizeof(text))
        ;
    peer_say_text(p, "\"/></data>" ACK);
    peer_be_silent(p);
}

static void modem_endless_garbage(struct peer *p, const void *arg)
{
    (void)arg;
    char text[4096];
    if (!hear_document(p, "<nop", text, sizeof(text)))
        return;
    memset(text, 0x7e, sizeof(text));
    while (peer_say(p, text, sizeof(text)))
        ;
}

static void modem_endless_padding(struct peer *p, const void *arg)
{
    (void)arg;
    char text[4096];
    if (!hear_document(p, "<nop", text, sizeof(text)))
        return;
    while (peer_say(p, "\0\n", 2))
        ;
}

static void host_quiet_nop(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    c->r = firehose_nop(f, &c->e);
}

/* All that ends by a deadline, side by side. */
static void test_bounds(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"1 MiB line", modem_endless_line, NULL, host_quiet_nop},
        {"endless garbage", modem_endless_garbage, NULL, host_quiet_nop},
        {"garbage and silence", modem_steps, STEPS({"<nop", "no XML at all"}), host_quiet_nop},
        {"silence", modem_steps, STEPS({"<nop", NULL}), host_quiet_nop},
        {"logs only", modem_steps, STEPS({"<nop", LOG("INFO: thinking")}), host_quiet_nop},
        {"half a document", modem_steps, STEPS({"<nop", XML_HEAD "<data><response value=\"ACK\"/>"}),
         host_quiet_nop},
    };
    const struct expected expected[] = {
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-ETIMEDOUT, ERROR_TIMEOUT, NULL, NULL},
        {-ETIMEDOUT, ERROR_TIMEOUT, NULL, NULL},
        {-ETIMEDOUT, ERROR_TIMEOUT, "INFO: thinking", NULL},
        {-ETIMEDOUT, ERROR_TIMEOUT, NULL, NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_in_range(cases[i].took, 0, 20 * USEC_PER_SEC);
    assert_non_null(strstr(cases[2].e.message, "13 bytes that are no Firehose document"));
    assert_int_equal(cases[3].e.hint, HINT_POWER_CYCLE);

    assert_true(cases[3].took == 5 * USEC_PER_SEC);
    assert_in_range(cases[4].took, 5 * USEC_PER_SEC, 5 * USEC_PER_SEC + PEER_TRANSFER);
}

/* A modem that does not stop to talk ends by a count, or by the time if it is slow. */
static void test_endless(void **state)
{
    (void)state;
    static const unsigned most = FIREHOSE_DOCUMENTS_MAX - 1, more = FIREHOSE_DOCUMENTS_MAX,
                          endless = UINT_MAX;
    struct peer_case cases[] = {
        {"as many logs as are borne", modem_many_logs, &most, host_quiet_nop},
        {"one more", modem_many_logs, &more, host_quiet_nop},
        {"logs for ever", modem_many_logs, &endless, host_quiet_nop},
        {"slow logs", modem_slow_logs, NULL, host_quiet_nop},
        {"padding", modem_endless_padding, NULL, host_quiet_nop},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "go on like this", NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "go on like this", NULL},
        {-ETIMEDOUT, ERROR_TIMEOUT, "go on like this", NULL},
        {-ETIMEDOUT, ERROR_TIMEOUT, NULL, NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    for (size_t i = 1; i <= 2; i++) {
        assert_non_null(strstr(cases[i].e.message, "does not stop to log, more than 10000 documents"));
        assert_true(cases[i].took < 5 * USEC_PER_SEC); /* not by the time */
    }
    assert_in_range(cases[3].took, 5 * USEC_PER_SEC, 6 * USEC_PER_SEC);
    assert_in_range(cases[4].took, 5 * USEC_PER_SEC, 6 * USEC_PER_SEC);
}

static void host_asks_whether_refused(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    c->r = firehose_nop(f, &c->e);
    note(c, "%s", firehose_is_refusal(&c->e) ? "refused" : "broken");
    if (c->r < 0 && firehose_is_refusal(&c->e) && firehose_nop(f, &(struct error){0}) == 0)
        note(c, ", then well");
}

/* Only of a modem that said no itself the next command may expect better. */
static void test_refused_or_broken(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"NAK", modem_steps, STEPS({"<nop", NAK}, {"<nop", ACK}), host_asks_whether_refused},
        {"1 MiB line", modem_endless_line, NULL, host_asks_whether_refused},
        {"endless garbage", modem_endless_garbage, NULL, host_asks_whether_refused},
        {"logs for ever", modem_many_logs, &(unsigned){UINT_MAX}, host_asks_whether_refused},
        {"silence", modem_steps, STEPS({"<nop", NULL}), host_asks_whether_refused},
    };
    const struct expected expected[] = {
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, "refused, then well"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, "broken"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, "broken"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, "broken"},
        {-ETIMEDOUT, ERROR_TIMEOUT, NULL, "broken"},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
}

/* ---- banner ---- */

#define NAMES                                                                                                \
    LOG("INFO: program")                                                                                     \
    LOG("INFO: read")                                                                                        \
    LOG("INFO: nop")                                                                                         \
    LOG("INFO: patch")                                                                                       \
    LOG("INFO: configure")                                                                                   \
    LOG("INFO: erase")                                                                                       \
    LOG("INFO: "                                                                                             \
        "getsha256digest")
#define SDX55_HEAD                                                                                           \
    LOG("INFO: Binary build date: Apr 19 2020")                                                              \
    LOG("INFO: Binary build date: Apr 19 2020")                                                              \
    LOG("INFO: Chip serial num: 0 (0x0)") LOG("INFO: Supported Functions (15):")
#define SDX55_END LOG("INFO: End of supported functions 15")

static void host_banner(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    c->r = firehose_await_banner(f, &c->e);
    note(c, "%s%s%s%s%s", firehose_banner_seen(f) ? "seen " : "",
         firehose_banner_has(f, "getsha256digest") ? "digest " : "",
         firehose_banner_has(f, "erase") ? "erase " : "", firehose_banner_has(f, "sha256") ? "part " : "",
         firehose_vip(f) ? "vip" : "");
}

static void test_banner(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"SDX55", modem_steps, STEPS({NULL, SDX55_HEAD NAMES SDX55_END}), host_banner},
        {"SDX55 stammered", modem_steps, STEPS({NULL, SDX55_HEAD NAMES SDX55_END, STEP_STAMMER}),
         host_banner},
        {"9x07", modem_steps,
         STEPS({NULL, LOG("INFO: Supported Functions: program read erase configure nop power benchmark "
                          "getstorageinfo")}),
         host_banner},
        {"SDX62 in one line", modem_steps,
         STEPS({NULL, LOG("INFO: Supported Functions (3): program, erase, getsha256digest")}), host_banner},
        {"stray bytes behind each text", modem_steps,
         STEPS({NULL, LOG("INFO: Supported Functions (2):\xf0\xe9") LOG("INFO: getsha256digest\xf0\xe9")
                          LOG("INFO: erase\xff") LOG("INFO: End of supported functions 2\xf0")}),
         host_banner},
        {"runs already", modem_steps, STEPS({"<nop", ACK}), host_banner},
        {"no end", modem_steps, STEPS({NULL, SDX55_HEAD NAMES}, {"<nop", ACK}), host_banner},
        {"VIP", modem_steps,
         STEPS({NULL,
                SDX55_HEAD SDX55_END LOG("INFO: VIP is enabled, receiving the signed table of size 8192")}),
         host_banner},
        {"VIP first", modem_steps,
         STEPS({NULL,
                LOG("INFO: VIP is enabled, receiving the signed table of size 8192") SDX55_HEAD SDX55_END}),
         host_banner},
        {"silent", modem_steps, STEPS({"<nop", NULL}), host_banner},
        {"talks, but does not answer", modem_steps, STEPS({NULL, LOG("INFO: hm")}, {"<nop", NULL}),
         host_banner},
        {"gone", modem_steps, STEPS({NULL, LOG("INFO: hm"), STEP_UNPLUG}), host_banner},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "seen digest erase "}, {0, ERROR_NONE, NULL, "seen digest erase "},
        {0, ERROR_NONE, NULL, "seen erase "},        {0, ERROR_NONE, NULL, "seen digest erase "},
        {0, ERROR_NONE, NULL, "seen digest erase "}, {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, "seen digest erase "}, {0, ERROR_NONE, NULL, NULL},
        {0, ERROR_NONE, NULL, "seen vip"},           {-EACCES, ERROR_PROGRAMMER_REJECTED, NULL, ""},
        {-ETIMEDOUT, ERROR_TIMEOUT, NULL, ""},       {-ENODEV, ERROR_MODEM_GONE, NULL, ""},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    /* No waiting behind the last line. */
    for (size_t i = 0; i < 4; i++)
        assert_in_range(cases[i].took, 0, USEC_PER_SEC);
}

/* ---- configure ---- */

#define CONFIGURED(max, supported)                                                                           \
    LOG("INFO: Calling handler for configure")                                                               \
    ANSWER("value='ACK' MemoryName='nand' MinVersionSupported='1' Version='1' "                              \
           "MaxPayloadSizeToTargetInBytes='" max "' MaxPayloadSizeToTargetInBytesSupported='" supported "' " \
           "MaxXMLSizeInBytes='4096' DateTime='Apr 19 2020 - 17:49:11'")
#define ASKED(n) "MaxPayloadSizeToTargetInBytes=\"" n "\""

static void configure(struct peer_case *c, struct transport *t, uint32_t payload)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    c->r = firehose_configure(f, payload, &c->e);
    note(c, "%u", firehose_payload_size(f));
}

static void host_configure(struct peer_case *c, struct transport *t)
{
    configure(c, t, 0);
}

static void host_configure_16k(struct peer_case *c, struct transport *t)
{
    configure(c, t, 16384);
}

static void host_configure_1m(struct peer_case *c, struct transport *t)
{
    configure(c, t, 1024 * 1024);
}

static void host_configure_vip(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    c->r = firehose_await_banner(f, &c->e);
    if (c->r == 0)
        c->r = firehose_configure(f, 0, &c->e);
}

static void test_configure(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"SDX55", modem_steps, STEPS({ASKED("8192"), CONFIGURED("8192", "8192")}), host_configure},
        {"ZLP and nand", modem_steps, STEPS({"<configure MemoryName=\"nand\"", CONFIGURED("8192", "8192")}),
         host_configure},
        {"NAK with a size", modem_steps,
         STEPS({ASKED("16384"),
                LOG("ERROR: NAK: MaxPayloadSizeToTargetInBytes sent by host 16384 larger than supported 8192")
                    ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='8192'")},
               {ASKED("8192"), CONFIGURED("8192", "8192")}),
         host_configure_16k},
        {"NAK twice", modem_steps,
         STEPS({ASKED("16384"), ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='8192'")},
               {ASKED("8192"), LOG("ERROR: no") ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='4096'")}),
         host_configure_16k},
        {"NAK without a size", modem_steps,
         STEPS({ASKED("8192"), LOG("ERROR: Not support configure MemoryName nand") NAK}), host_configure},
        {"NAK with what was asked", modem_steps,
         STEPS({ASKED("8192"), ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='8192'")},
               {ASKED("8192"), CONFIGURED("8192", "8192")}),
         host_configure},
        {"NAK with more", modem_steps,
         STEPS({ASKED("8192"), ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='65536'")},
               {ASKED("16384"), CONFIGURED("16384", "65536")}),
         host_configure},
        {"NAK with nothing", modem_steps,
         STEPS({ASKED("8192"), ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='0'")}), host_configure},
        {"NAK with a bad number", modem_steps,
         STEPS({ASKED("8192"), ANSWER("value='NAK' MaxPayloadSizeToTargetInBytes='-1'")}), host_configure},
        {"more is supported", modem_steps,
         STEPS({ASKED("8192"), CONFIGURED("8192", "1048576")},
               {ASKED("16384"), CONFIGURED("16384", "1048576")}),
         host_configure},
        {"a second one refused", modem_steps,
         STEPS({ASKED("8192"), CONFIGURED("8192", "16384")}, {ASKED("16384"), LOG("ERROR: already") NAK}),
         host_configure},
        {"a little more is supported", modem_steps, STEPS({ASKED("8192"), CONFIGURED("8192", "12288")}),
         host_configure},
        {"ACK with less", modem_steps, STEPS({ASKED("8192"), CONFIGURED("4096", "4096")}), host_configure},
        {"ACK with more", modem_steps, STEPS({ASKED("8192"), CONFIGURED("1048576", "8192")}), host_configure},
        {"no attributes", modem_steps, STEPS({ASKED("8192"), ACK}), host_configure},
        {"attributes in other case", modem_steps,
         STEPS({ASKED("16384"), ANSWER("value='NAK' maxpayloadsizetotargetinbytes='4096'")},
               {ASKED("4096"), ANSWER("value='ACK' memoryname='NAND' maxpayloadsizetotargetinbytes='4096'")}),
         host_configure_16k},
        {"too much is never asked", modem_steps, STEPS({ASKED("16384"), CONFIGURED("16384", "1048576")}),
         host_configure_1m},
        {"another memory", modem_steps, STEPS({ASKED("8192"), ANSWER("value='ACK' MemoryName='eMMC'")}),
         host_configure},
        {"absurdly small", modem_steps, STEPS({ASKED("8192"), CONFIGURED("100", "100")}), host_configure},
        {"VIP", modem_steps,
         STEPS({NULL,
                LOG("INFO: VIP is enabled, receiving the signed table of size 8192") SDX55_HEAD SDX55_END}),
         host_configure_vip},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "8192"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "ERROR: no", NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "Not support configure", NULL},
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "16384"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {0, ERROR_NONE, NULL, "16384"},
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "4096"},
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "8192"},
        {0, ERROR_NONE, NULL, "4096"},
        {0, ERROR_NONE, NULL, "16384"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-EOPNOTSUPP, ERROR_UNSUPPORTED, NULL, NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),   cmocka_unit_test(test_late_answers),
        cmocka_unit_test(test_given_up),  cmocka_unit_test(test_banner),
        cmocka_unit_test(test_configure), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_endless),   cmocka_unit_test(test_refused_or_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
