/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The recovery ladder (protocol/detect.c): every state a modem was found in, and what brings it back. */

#include "../sahara-modem.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#include "protocol/detect.h"

static const char nop[] = "<nop";
static const char ack[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<response value=\"ACK\" rawmode=\"false\" />\n"
    "</data>\n";
static const char log_document[] = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<log value=\"INFO: "
                                   "Calling handler for nop\" /></data>";

/* What the modem is and does; each script below is one row of the table at the end. */
struct expectation {
    const char *name;
    void (*modem)(struct peer *p, const void *arg);
    bool known; /* not fresh */
    enum detect_state state;
    unsigned rungs;
    unsigned ms; /* until it is found, with REST */
};

/* A transfer takes time on its own (peer.h), before or after the host has looked at the clock. */
enum { GIVE_MS = 5 };

static bool took(const struct peer_case *c, unsigned ms, unsigned give)
{
    unsigned found = (unsigned)(c->took / USEC_PER_MSEC);
    return found + give >= ms && found <= ms + give;
}

/* How long the queue is listened to afterwards: nothing may be left in it. */
#define REST (20 * USEC_PER_MSEC)

struct outcome {
    struct detect_result result;
    size_t rest; /* bytes that are still in the queue: none */
};

static void on_silence(void *userdata)
{
    ++*(unsigned *)userdata;
}

static void host_detect(struct peer_case *c, struct transport *t)
{
    const struct expectation *x = c->arg;
    struct outcome o = {.result = {.rungs = 4711}};
    unsigned silences = 0;
    c->r = detect_modem(t, !x->known, on_silence, &silences, &o.result, &c->e);
    /* Told before the first rung, and only if there is one. */
    if (c->r == 0 && silences != (o.result.rungs > 0))
        c->r = -EBADE;
    uint8_t rest[64];
    while (c->r == 0 && transport_read(t, rest, sizeof(rest), deadline_in(REST), &o.rest, NULL) == 0)
        if (o.rest > 0)
            break;
    memcpy(c->bytes, &o, sizeof(o));
}

/* The next datagram: 'R'eset, 's'tate machine, 'h'ello resp, 'n'op, 'S'witch mode, '?' other data, 'C' clear
   halt, 'P'ort reset, 0 the end. */
static char next(struct peer *p)
{
    uint8_t got[VIRTUAL_DATA_MAX + 1] = {0};
    ssize_t n = peer_hear(p, got, VIRTUAL_DATA_MAX);
    if (n < 0)
        return 0;
    if (p->type == VIRTUAL_CLEAR_HALT)
        return 'C';
    if (p->type == VIRTUAL_RESET)
        return 'P';
    if (strstr((char *)got, nop))
        return 'n';
    uint32_t head[3];
    memcpy(head, got, sizeof(head));
    if (n < 8 || le32toh(head[1]) != (size_t)n)
        return '?';
    switch (le32toh(head[0])) {
    case PBL_RESET:
        return n == 8 ? 'R' : '?';
    case PBL_RESET_STATE_MACHINE:
        return n == 8 ? 's' : '?';
    case PBL_HELLO_RESP:
        return n == 0x30 ? 'h' : '?';
    case PBL_SWITCH_MODE:
        return n == 12 && head[2] == 0 ? 'S' : '?';
    default:
        return '?';
    }
}

/* Hears exactly these, in this order, and answers none. */
static bool ignores(struct peer *p, const char *sequence)
{
    for (; *sequence; sequence++) {
        char c = next(p);
        if (c != *sequence) {
            if (c)
                peer_complain(p, "expected '%c', heard '%c'", *sequence, c);
            return false;
        }
    }
    return true;
}

static void hello_and_silence(struct peer *p)
{
    pbl_say_hello(p, 2, 0);
    if (next(p) != 0)
        peer_complain(p, "something was sent after the HELLO");
}

/* ---- Sahara ---- */

static void says_hello(struct peer *p, const void *arg)
{
    (void)arg;
    hello_and_silence(p);
}

static void says_hello_late(struct peer *p, const void *arg)
{
    (void)arg;
    peer_sleep(p, 400 * USEC_PER_MSEC);
    hello_and_silence(p);
}

static void stammers_hello(struct peer *p, const void *arg)
{
    uint8_t hello[0x30];
    (void)arg;
    peer_stammer(p, hello, pbl_hello(hello, 2, 0));
    peer_be_silent(p);
}

static void says_hello_twice(struct peer *p, const void *arg)
{
    uint8_t both[0x60];
    (void)arg;
    pbl_hello(both, 1, 0);
    pbl_hello(both + 0x30, 2, 0); /* the newer one counts */
    peer_say(p, both, sizeof(both));
    peer_be_silent(p);
}

static void crashed(struct peer *p, const void *arg)
{
    (void)arg;
    pbl_say_hello(p, 2, 2);
    peer_be_silent(p);
}

static void left_over_reset_resp(struct peer *p, const void *arg)
{
    (void)arg;
    PBL_SAY(p, PBL_RESET_RESP);
    hello_and_silence(p);
}

static void hello_lost(struct peer *p, const void *arg)
{
    (void)arg;
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

/* The same, but the chip needs its time between RESET_RESP and HELLO. */
static void hello_lost_slow(struct peer *p, const void *arg)
{
    (void)arg;
    if (ignores(p, "R")) {
        peer_sleep(p, 900 * USEC_PER_MSEC);
        PBL_SAY(p, PBL_RESET_RESP);
        peer_sleep(p, 900 * USEC_PER_MSEC);
        hello_and_silence(p);
    }
}

static void hello_lost_resp_glued(struct peer *p, const void *arg)
{
    uint8_t both[0x38];
    (void)arg;
    pbl_packet(both, PBL_RESET_RESP, NULL, 0);
    pbl_hello(both + 8, 2, 0);
    if (ignores(p, "R"))
        peer_say(p, both, sizeof(both));
    peer_be_silent(p);
}

static void only_state_machine(struct peer *p, const void *arg)
{
    (void)arg;
    if (ignores(p, "Rs"))
        hello_and_silence(p);
}

/* Waits for HELLO_RESP and takes nothing else for an answer; is led through command mode to its HELLO. */
static void only_hello_resp(struct peer *p, const void *arg)
{
    (void)arg;
    if (!ignores(p, "Rsh"))
        return;
    PBL_SAY(p, PBL_CMD_READY);
    if (ignores(p, "S"))
        hello_and_silence(p);
}

/* Refuses that too; then RESET is heard. */
static void hello_resp_refused(struct peer *p, const void *arg)
{
    (void)arg;
    if (!ignores(p, "Rsh"))
        return;
    PBL_SAY(p, PBL_END_IMAGE, 0, 0x18);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

/* Somebody else (or our <nop/>) wrote junk: END_IMAGE_TX, then RESET -> RESET_RESP -> HELLO (quirk 39). */
static void left_over_end_image(struct peer *p, const void *arg)
{
    (void)arg;
    PBL_SAY(p, PBL_END_IMAGE, 13, 0x05);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

static void pbl_does_not_know_nop(struct peer *p, const void *arg)
{
    (void)arg;
    if (!ignores(p, "n"))
        return;
    PBL_SAY(p, PBL_END_IMAGE, 0, 0x01);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

static void left_in_command_mode(struct peer *p, const void *arg)
{
    (void)arg;
    PBL_SAY(p, PBL_EXECUTE_RESP, 1, 4);
    if (ignores(p, "S"))
        hello_and_silence(p);
}

/* In mid transfer, and the 8 bytes of RESET are a transfer too short. */
static void stuck_short(struct peer *p, const void *arg)
{
    (void)arg;
    PBL_SAY(p, PBL_READ_DATA, 13, 0x3000, 0x1000);
    if (!ignores(p, "R"))
        return;
    PBL_SAY(p, PBL_END_IMAGE, 13, 0x0a);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

static void swallow(struct peer *p, size_t size)
{
    uint8_t data[VIRTUAL_DATA_MAX];
    size_t done = 0;
    while (done < size && !p->over) {
        ssize_t n = peer_hear(p, data, sizeof(data));
        done += n > 0 ? (size_t)n : 0;
    }
    if (!p->over && done != size)
        peer_complain(p, "wanted %zu bytes, got %zu", size, done);
}

/* In mid transfer, and whatever comes counts as data until there is enough of it. */
static void stuck_swallows(struct peer *p, const void *arg)
{
    (void)arg;
    PBL_SAY(p, PBL_READ_DATA, 13, 0x3000, 0x1000);
    swallow(p, 0x1000);
    PBL_SAY(p, PBL_READ_DATA64, 13, 0, 0x4000, 0, 0x5001, 0);
    swallow(p, 0x5001);
    PBL_SAY(p, PBL_END_IMAGE, 13, 0x22);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

/* The same, but READ_DATA was read by the host that is gone. */
static void stuck_swallows_unseen(struct peer *p, const void *arg)
{
    uint8_t data[VIRTUAL_DATA_MAX];
    size_t done = 0;
    (void)arg;
    while (done < 0x1000 && !p->over) {
        ssize_t n = peer_hear(p, data, sizeof(data));
        done += n > 0 ? (size_t)n : 0;
    }
    PBL_SAY(p, PBL_END_IMAGE, 13, 0x0b);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

static void only_after_clear_halt(struct peer *p, const void *arg)
{
    (void)arg;
    if (!ignores(p, "Rshn?C"))
        return;
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

static void only_after_port_reset(struct peer *p, const void *arg)
{
    (void)arg;
    if (ignores(p, "Rshn?CRnP"))
        hello_and_silence(p);
}

static void crash_dump_begun(struct peer *p, const void *arg)
{
    (void)arg;
    PBL_SAY(p, PBL_MEMORY_DEBUG64, 0x1000, 0, 0x100, 0);
    if (ignores(p, "s"))
        pbl_say_hello(p, 2, 2);
    peer_be_silent(p);
}

static void noise_then_hello(struct peer *p, const void *arg)
{
    (void)arg;
    peer_say(p, "\x00\xff\x13 noise", 9);
    peer_say(p, NULL, 0);
    hello_and_silence(p);
}

/* A HELLO that breaks off is no HELLO; RESET brings a whole one. */
static void truncated_hello(struct peer *p, const void *arg)
{
    uint8_t hello[0x30];
    (void)arg;
    pbl_hello(hello, 2, 0);
    peer_say(p, hello, 20);
    if (ignores(p, "R")) {
        PBL_SAY(p, PBL_RESET_RESP);
        hello_and_silence(p);
    }
}

static void impossible_hello(struct peer *p, const void *arg)
{
    (void)arg;
    pbl_say_hello(p, 2, 17);
    if (ignores(p, "R"))
        hello_and_silence(p);
}

/* ---- Firehose ---- */

static void answers_nops(struct peer *p)
{
    char c;
    while ((c = next(p)) != 0) {
        if (c != 'n')
            peer_complain(p, "heard '%c' although a programmer runs", c);
        peer_say_text(p, log_document);
        peer_say_text(p, ack);
        peer_say_text(p, log_document); /* quirk 3: also behind the response */
    }
}

static void programmer_held(struct peer *p, const void *arg)
{
    (void)arg;
    answers_nops(p);
}

static void programmer_banner(struct peer *p, const void *arg)
{
    (void)arg;
    peer_say_text(p, log_document);
    peer_say_text(p, log_document);
    answers_nops(p);
}

static void programmer_newline_first(struct peer *p, const void *arg)
{
    (void)arg;
    peer_say(p, "\0\n", 2);
    peer_say_text(p, "\r\n<?xml version=\"1.0\" ?><data><log value=\"late\" /></data>");
    answers_nops(p);
}

/* An answer to the host before us waits in front of that to our <nop/>. */
static void programmer_old_answer(struct peer *p, const void *arg)
{
    (void)arg;
    peer_say_text(p, ack);
    answers_nops(p);
}

/* The response split into transfers in the middle of its name. */
static void programmer_split(struct peer *p, const void *arg)
{
    (void)arg;
    while (next(p) != 0) {
        const char *middle = strstr(ack, "sponse");
        peer_say(p, ack, (size_t)(middle - ack));
        peer_say_text(p, middle);
    }
}

static void programmer_only_after_pbl_rungs(struct peer *p, const void *arg)
{
    (void)arg;
    if (ignores(p, "Rsh"))
        answers_nops(p);
}

/* In the middle of a read that a host before us had asked for: raw data, then the ACK. */
static void programmer_pours(struct peer *p, const void *arg)
{
    static uint8_t page[8192];
    (void)arg;
    for (size_t i = 0; i < sizeof(page); i++)
        page[i] = (uint8_t)(i % 251);
    page[0] = 0x7e;
    for (unsigned i = 0; i < 500; i++)
        peer_say(p, page, sizeof(page));
    peer_say_text(p, ack);
    answers_nops(p);
}

/* In the middle of a program command: it wants this much and then ACKs. */
static void programmer_wants_raw(struct peer *p, const void *arg)
{
    uint8_t data[VIRTUAL_DATA_MAX];
    (void)arg;
    while (p->heard < 2000000)
        if (peer_hear(p, data, sizeof(data)) < 0)
            return;
    for (size_t i = 0; i < 100; i++)
        if (data[i] != 0xff)
            peer_complain(p, "fed with 0x%02x", data[i]);
    peer_say_text(p, ack);
    /* A piece may have been under way; junk to a programmer. */
    char c;
    while ((c = next(p)) != 0)
        if (c == 'n')
            peer_say_text(p, ack);
}

static void streaming(struct peer *p, const void *arg)
{
    (void)arg;
    if (ignores(p, "R"))
        peer_say(p, "\x7e\x0e\x01\x02\x03\x7e", 6);
    peer_be_silent(p);
}

#define SAHARA   DETECT_SAHARA
#define FIREHOSE DETECT_FIREHOSE

static const struct expectation found[] = {
    {"hello", says_hello, false, SAHARA, 0, 20},
    {"hello, known", says_hello, true, SAHARA, 0, 20},
    {"hello late", says_hello_late, false, SAHARA, 0, 420},
    {"hello in pieces", stammers_hello, false, SAHARA, 0, 26},
    {"hello twice", says_hello_twice, false, SAHARA, 0, 20},
    {"crashed", crashed, false, DETECT_CRASH_DUMP, 0, 20},
    {"left-over RESET_RESP", left_over_reset_resp, false, SAHARA, 0, 20},
    {"hello lost", hello_lost, false, SAHARA, 1, 1020},
    {"hello lost, slow", hello_lost_slow, false, SAHARA, 1, 2820},
    {"hello lost, glued", hello_lost_resp_glued, false, SAHARA, 1, 1020},
    {"state machine", only_state_machine, false, SAHARA, 2, 2320},
    {"HELLO_RESP", only_hello_resp, false, SAHARA, 3, 2820},
    {"HELLO_RESP refused", hello_resp_refused, false, SAHARA, 3, 2820},
    {"left-over END_IMAGE_TX", left_over_end_image, false, SAHARA, 0, 20},
    {"left-over END_IMAGE_TX, known", left_over_end_image, true, SAHARA, 0, 20},
    {"nop unknown", pbl_does_not_know_nop, true, SAHARA, 1, 70},
    {"command mode", left_in_command_mode, true, SAHARA, 0, 20},
    {"stuck, short", stuck_short, true, SAHARA, 0, 20},
    {"stuck, swallows", stuck_swallows, true, SAHARA, 0, 320},
    {"stuck, swallows unseen", stuck_swallows_unseen, false, SAHARA, 5, 4320},
    {"stuck, swallows unseen, known", stuck_swallows_unseen, true, SAHARA, 5, 5370},
    {"clear halt", only_after_clear_halt, false, SAHARA, 6, 5120},
    {"port reset", only_after_port_reset, false, SAHARA, 8, 6620},
    {"dump begun", crash_dump_begun, true, DETECT_CRASH_DUMP, 0, 20},
    {"noise", noise_then_hello, false, SAHARA, 0, 20},
    {"truncated hello", truncated_hello, false, SAHARA, 1, 1320},
    {"impossible hello", impossible_hello, false, SAHARA, 1, 1320},
    {"held", programmer_held, true, FIREHOSE, 1, 120},
    {"held, fresh", programmer_only_after_pbl_rungs, false, FIREHOSE, 4, 3070},
    {"banner", programmer_banner, false, FIREHOSE, 0, 70},
    {"newline first", programmer_newline_first, false, FIREHOSE, 0, 70},
    {"old answer", programmer_old_answer, true, FIREHOSE, 0, 70},
    {"split", programmer_split, true, FIREHOSE, 1, 120},
    {"pours", programmer_pours, true, FIREHOSE, 0, 133},
    {"wants raw data", programmer_wants_raw, true, FIREHOSE, 5, 5906},
    {"streaming", streaming, false, DETECT_STREAMING, 1, 1020},
};

static void test_found(void **state)
{
    (void)state;
    enum { N = ARRAY_SIZE(found) };
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++)
        cases[i] = (struct peer_case){
            .name = found[i].name, .modem = found[i].modem, .arg = &found[i], .host = host_detect};
    peer_play(cases, N);
    bool ok = true;
    for (size_t i = 0; i < N; i++) {
        const struct expectation *x = &found[i];
        struct outcome o;
        memcpy(&o, cases[i].bytes, sizeof(o));
        unsigned ms = (unsigned)(cases[i].took / USEC_PER_MSEC);
        if (cases[i].r != 0 || o.result.state != x->state || o.result.rungs != x->rungs || o.rest != 0 ||
            !took(&cases[i], x->ms, GIVE_MS)) {
            print_error("%s: %d %s, state %d, %u rungs, %zu left, %u ms\n", x->name, cases[i].r,
                        cases[i].e.message, o.result.state, o.result.rungs, o.rest, ms);
            ok = false;
        }
        if (x->state == DETECT_SAHARA || x->state == DETECT_CRASH_DUMP) {
            assert_int_equal(o.result.hello.version, 2);
            assert_int_equal(o.result.hello.mode, x->state == DETECT_CRASH_DUMP ? 2 : 0);
        }
    }
    assert_true(ok);
}

/* ---- what cannot be brought back ---- */

static void silent(struct peer *p, const void *arg)
{
    (void)arg;
    peer_be_silent(p);
}

/* RESET, and a new one answered by RESET_RESP without a HELLO, for ever. */
static void reset_resp_for_ever(struct peer *p, const void *arg)
{
    (void)arg;
    while (next(p) != 0)
        PBL_SAY(p, PBL_RESET_RESP);
}

static void end_image_for_ever(struct peer *p, const void *arg)
{
    (void)arg;
    while (PBL_SAY(p, PBL_END_IMAGE, 0, 1))
        ;
}

static void noise_for_ever(struct peer *p, const void *arg)
{
    static uint8_t noise[VIRTUAL_DATA_MAX];
    (void)arg;
    memset(noise, 0xa5, sizeof(noise));
    while (peer_say(p, noise, sizeof(noise)))
        ;
}

static void zlps_for_ever(struct peer *p, const void *arg)
{
    (void)arg;
    while (peer_say(p, NULL, 0))
        ;
}

static void noise_and_silence(struct peer *p, const void *arg)
{
    (void)arg;
    peer_say_text(p, "AT+QFASTBOOT\r\n");
    peer_be_silent(p);
}

static void programmer_without_answer(struct peer *p, const void *arg)
{
    (void)arg;
    peer_say_text(p, log_document);
    char c;
    while ((c = next(p)) != 0)
        if (strchr("Rsh", c))
            peer_complain(p, "heard '%c' although a programmer runs", c);
}

static void logs_for_ever(struct peer *p, const void *arg)
{
    (void)arg;
    while (peer_say_text(p, log_document))
        ;
}

static void test_lost(void **state)
{
    (void)state;
    static const struct {
        struct expectation x;
        enum error_kind kind;
        const char *says;
        unsigned give_ms; /* one that talks is ahead by what fits into the queue */
    } lost[] = {
        {{"silent", silent, .ms = 7800}, ERROR_TIMEOUT, "says nothing", 0},
        {{"RESET_RESP for ever", reset_resp_for_ever, .ms = 10501}, ERROR_TIMEOUT, "speaks Sahara", 0},
        {{"END_IMAGE_TX for ever", end_image_for_ever, .ms = 1900}, ERROR_SAHARA_FAILED, "no HELLO", 200},
        {{"noise for ever", noise_for_ever, .known = true, .ms = 2050},
         ERROR_SAHARA_FAILED,
         "neither Sahara nor Firehose",
         200},
        /* So many in a row are silence; how many more there are while they are thrown away, 0 to 2 s of them,
         * is as the two threads run. */
        {{"ZLPs for ever", zlps_for_ever, .ms = 1200}, ERROR_TIMEOUT, "says nothing", 1100},
        {{"noise", noise_and_silence, .ms = 7800}, ERROR_TIMEOUT, "41542b5146415354", 0},
        {{"programmer", programmer_without_answer, .ms = 14800}, ERROR_TIMEOUT, "<nop/>", 0},
        {{"logs for ever", logs_for_ever, .ms = 8720}, ERROR_TIMEOUT, "<nop/>", 200},
    };
    enum { N = ARRAY_SIZE(lost) };
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++)
        cases[i] = (struct peer_case){
            .name = lost[i].x.name, .modem = lost[i].x.modem, .arg = &lost[i].x, .host = host_detect};
    peer_play(cases, N);
    bool ok = true;
    for (size_t i = 0; i < N; i++) {
        struct outcome o;
        memcpy(&o, cases[i].bytes, sizeof(o));
        unsigned ms = (unsigned)(cases[i].took / USEC_PER_MSEC);
        if (cases[i].e.kind != lost[i].kind || !strstr(cases[i].e.message, lost[i].says) ||
            !took(&cases[i], lost[i].x.ms, MAX_OF(lost[i].give_ms, (unsigned)GIVE_MS)) ||
            o.result.rungs != 4711) {
            print_error("%s: %d %s, %u ms\n", lost[i].x.name, cases[i].r, cases[i].e.message, ms);
            ok = false;
        }
    }
    assert_true(ok);
}

/* ---- unplugged, called off ---- */

struct unplug {
    struct expectation x; /* first: host_detect() looks at it */
    unsigned after;       /* datagrams heard */
};

static void unplugs(struct peer *p, const void *arg)
{
    const struct unplug *u = arg;
    for (unsigned i = 0; i < u->after; i++)
        if (next(p) == 0)
            return;
}

/* -ENODEV on any rung returns at once. */
static void test_unplugged(void **state)
{
    (void)state;
    enum { RUNGS = 10, N = 2 * RUNGS };
    static struct unplug unplug[N];
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++) {
        unplug[i] = (struct unplug){.x.known = i % 2, .after = (unsigned)i / 2};
        cases[i] =
            (struct peer_case){.name = "unplug", .modem = unplugs, .arg = &unplug[i], .host = host_detect};
    }
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++) {
        if (cases[i].e.kind != ERROR_MODEM_GONE || cases[i].r != -ENODEV)
            fail_msg("unplugged after %u: %d %s", unplug[i].after, cases[i].r, cases[i].e.message);
        if (unplug[i].after == 0)
            assert_true(cases[i].took == 0);
        assert_true(cases[i].took < 10 * USEC_PER_SEC);
    }
}

static int wake(void *userdata)
{
    (void)userdata;
    return -ECANCELED;
}

static void host_called_off(struct peer_case *c, struct transport *t)
{
    _cleanup_close_ int fd = eventfd(1, EFD_CLOEXEC);
    transport_set_waker(t, fd, wake, NULL);
    host_detect(c, t);
}

static void test_called_off(void **state)
{
    (void)state;
    static const struct expectation x = {.name = "called off"};
    struct peer_case c = {.name = x.name, .modem = silent, .arg = &x, .host = host_called_off};
    peer_play(&c, 1);
    assert_int_equal(c.e.kind, ERROR_CANCELLED);
    assert_int_equal(c.r, -ECANCELED);
    assert_true(c.took == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_unplugged),
        cmocka_unit_test(test_called_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
