/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sahara packets and the upload (protocol/sahara.c, sahara-packet.c, sahara-names.c); command mode:
 * test-sahara-command.c. */

#include "../sahara-modem.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "protocol/sahara.h"

enum { IMAGE_SIZE = 50000, IMAGE_ID = 13 };

static uint8_t image[IMAGE_SIZE];

static const struct sahara_hello hello2 = {.version = 2, .compatible = 1, .max_packet = 0x400};

/* ---- tables ---- */

static void test_status_names(void **state)
{
    (void)state;
    for (uint32_t s = 0; s <= 0x28; s++) {
        char code[16];
        snprintf(code, sizeof(code), "(0x%02x)", s);
        assert_non_null(strstr(sahara_status_name(s), code));
        assert_true(strlen(sahara_status_name(s)) > strlen(code) + 4);
    }
    assert_string_equal(sahara_status_name(0x21), "hash-table auth failure (0x21)");
    assert_string_equal(sahara_status_name(0x25), "image auth failure (0x25)");
    assert_string_equal(sahara_status_name(0x29), "unknown status 0x29");
    assert_string_equal(sahara_status_name(UINT32_MAX), "unknown status 0xffffffff");
}

static void test_chip_names(void **state)
{
    (void)state;
    assert_string_equal(sahara_chip_name(0x000cf0e100040000), "SDX55");
    assert_string_equal(sahara_chip_name(0x000e50e100000000), "SDX55");
    assert_string_equal(sahara_chip_name(0x600cf0e1ffffffff), "SDX55"); /* revision 6 */
    assert_string_equal(sahara_chip_name(0x0004a0e100420029), "MDM9607");
    assert_string_equal(sahara_chip_name(0x001990e100040000), "SDX62");
    assert_string_equal(sahara_chip_name(0x000960e1ull << 32), "SDX24");
    assert_null(sahara_chip_name(0x010cf0e100000000));
    assert_null(sahara_chip_name(0));
}

static void test_parse_hello(void **state)
{
    (void)state;
    uint8_t packet[0x30 + 1] = {0};
    struct sahara_hello hello;
    for (uint32_t version = 1; version <= 3; version++) {
        pbl_hello(packet, version, 2);
        assert_int_equal(sahara_parse_hello(packet, 0x30, &hello), 0);
        assert_int_equal(hello.version, version);
        assert_int_equal(hello.compatible, 1);
        assert_int_equal(hello.max_packet, 0x400);
        assert_int_equal(hello.mode, SAHARA_MODE_MEMORY_DEBUG);
    }
    const struct sahara_hello before = hello;
    for (size_t size = 0; size <= 0x31; size++)
        if (size != 0x30)
            assert_int_equal(sahara_parse_hello(packet, size, &hello), -EPROTO);
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0x00, 2}, {0x03, 1}, {0x04, 0x2f}, {0x05, 1}, {0x08, 0}, {0x14, 4}, {0x17, 0x80}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        pbl_hello(packet, 1, 0);
        packet[bad[i].at] = bad[i].value;
        assert_int_equal(sahara_parse_hello(packet, 0x30, &hello), -EPROTO);
    }
    assert_memory_equal(&hello, &before, sizeof(hello));
}

/* ---- packets ---- */

static void host_receive_three(struct peer_case *c, struct transport *t)
{
    static const uint32_t expected[] = {SAHARA_RESET_RESP, SAHARA_HELLO, SAHARA_READ_DATA};
    for (size_t i = 0; i < ARRAY_SIZE(expected) && c->r == 0; i++) {
        uint8_t packet[0x10] = {0};
        size_t size;
        uint32_t command;
        c->r = sahara_receive(t, packet, sizeof(packet), &size, &command, deadline_in(2 * USEC_PER_SEC));
        if (c->r == 0 && command != expected[i])
            c->r = -EBADMSG;
        c->numbers[i] = c->r == 0 ? size : 0;
    }
}

enum cut { CUT_GLUED, CUT_BYTES, CUT_ZLPS, CUT_PACKETS, CUT_COUNT };

static void modem_three(struct peer *p, const void *arg)
{
    uint8_t all[8 + 0x30 + 0x14];
    size_t n = pbl_packet(all, PBL_RESET_RESP, NULL, 0);
    n += pbl_hello(all + n, 2, 0);
    n += pbl_packet(all + n, PBL_READ_DATA, (const uint32_t[]){13, 0, 52}, 3);
    switch (*(const enum cut *)arg) {
    case CUT_GLUED:
        peer_say(p, all, n);
        break;
    case CUT_BYTES:
        peer_stammer(p, all, n);
        break;
    case CUT_ZLPS:
        for (unsigned i = 0; i < 20; i++)
            peer_say(p, NULL, 0);
        peer_say(p, all, 12);
        peer_say(p, NULL, 0);
        peer_say(p, all + 12, n - 12);
        break;
    default:
        peer_say(p, all, 8);
        peer_say(p, all + 8, 0x30);
        peer_say(p, all + 0x38, 0x14);
        break;
    }
    peer_be_silent(p);
}

static void test_packets_are_taken_apart(void **state)
{
    (void)state;
    static const enum cut cuts[CUT_COUNT] = {CUT_GLUED, CUT_BYTES, CUT_ZLPS, CUT_PACKETS};
    struct peer_case cases[CUT_COUNT] = {0};
    for (size_t i = 0; i < CUT_COUNT; i++)
        cases[i] = (struct peer_case){
            .name = "packets", .modem = modem_three, .arg = &cuts[i], .host = host_receive_three};
    peer_play(cases, CUT_COUNT);
    for (size_t i = 0; i < CUT_COUNT; i++) {
        assert_int_equal(cases[i].r, 0);
        assert_int_equal(cases[i].numbers[0], 8);
        assert_int_equal(cases[i].numbers[1], 0x10); /* as much as the buffer holds */
        assert_int_equal(cases[i].numbers[2], 0x10);
    }
}

struct bytes {
    size_t size;
    uint8_t bytes[64];
    bool unplug;
};

static void modem_says(struct peer *p, const void *arg)
{
    const struct bytes *b = arg;
    if (b->size > 0)
        peer_say(p, b->bytes, b->size);
    if (!b->unplug)
        peer_be_silent(p);
}

static void host_receive_one(struct peer_case *c, struct transport *t)
{
    uint8_t packet[16];
    size_t size = 4711;
    uint32_t command = 4711;
    c->r = sahara_receive(t, packet, sizeof(packet), &size, &command, deadline_in(200 * USEC_PER_MSEC));
    c->numbers[0] = size;
    c->numbers[1] = command;
}

/* A HELLO that breaks off at every byte, by silence and by unplug. */
static void test_truncated_packets(void **state)
{
    (void)state;
    enum { N = 2 * 0x30 };
    static struct bytes cut[N];
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++) {
        cut[i].size = i / 2;
        cut[i].unplug = i % 2;
        pbl_hello(cut[i].bytes, 2, 0);
        cases[i] = (struct peer_case){
            .name = "truncated", .modem = modem_says, .arg = &cut[i], .host = host_receive_one};
    }
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cases[i].r, cut[i].unplug ? -ENODEV : cut[i].size == 0 ? -ETIMEDOUT : -EPROTO);
        assert_int_equal(cases[i].numbers[0], 4711);
        assert_int_equal(cases[i].numbers[1], 4711);
    }
}

/* A HELLO with every single byte of its header wrong, and headers that lie about their length. */
static void test_garbage_headers(void **state)
{
    (void)state;
    static const struct {
        uint32_t command, length;
        int r;
    } headers[] = {
        {PBL_HELLO, 0x2f, -EPROTO},
        {PBL_HELLO, 0, -EPROTO},
        {PBL_HELLO, 7, -EPROTO},
        {PBL_HELLO, 0x401, -EPROTO},
        {PBL_HELLO, UINT32_MAX, -EPROTO},
        {PBL_RESET_RESP, 7, -EPROTO},
        {PBL_END_IMAGE, 0x0f, -EPROTO},
        {PBL_READ_DATA64, 0x1f, -EPROTO},
        {PBL_HELLO_RESP, 0x30, -EPROTO},
        {PBL_RESET, 8, -EPROTO},
        {PBL_EXECUTE_DATA, 0x0c, -EPROTO},
        {0, 8, -EPROTO},
        {0x14, 0x30, -EPROTO},
        {UINT32_MAX, 8, -EPROTO},
        {PBL_HELLO | 0x100, 0x30, -EPROTO},
        {PBL_HELLO | 0x1000000, 0x30, -EPROTO},
        {PBL_RESET_RESP, 8, 0},
        {PBL_CMD_READY, 12, 0},
        {PBL_HELLO, 0x30, 0},
    };
    enum { N = ARRAY_SIZE(headers) };
    static struct bytes said[N];
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++) {
        pbl_hello(said[i].bytes, 2, 0);
        uint32_t raw[2] = {htole32(headers[i].command), htole32(headers[i].length)};
        memcpy(said[i].bytes, raw, sizeof(raw));
        said[i].size = 0x30;
        cases[i] = (struct peer_case){
            .name = "header", .modem = modem_says, .arg = &said[i], .host = host_receive_one};
    }
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++)
        if (cases[i].r != headers[i].r)
            fail_msg("header %zu: %d", i, cases[i].r);
}

/* A packet longer than any buffer, with all its bytes. */
static void modem_huge_packet(struct peer *p, const void *arg)
{
    static uint8_t packet[0x2000];
    const uint32_t header[] = {htole32(PBL_HELLO), htole32(sizeof(packet))};
    (void)arg;
    memcpy(packet, header, sizeof(header));
    peer_say(p, packet, sizeof(packet));
    peer_be_silent(p);
}

static void test_huge_packet(void **state)
{
    (void)state;
    struct peer_case c = {.name = "huge", .modem = modem_huge_packet, .host = host_receive_one};
    peer_play(&c, 1);
    assert_int_equal(c.r, -EPROTO);
    assert_int_equal(c.numbers[0], 4711);
}

static void modem_floods_zlps(struct peer *p, const void *arg)
{
    (void)arg;
    while (peer_say(p, NULL, 0))
        ;
}

static void test_endless_zlps(void **state)
{
    (void)state;
    struct peer_case c = {.name = "zlps", .modem = modem_floods_zlps, .host = host_receive_one};
    peer_play(&c, 1);
    assert_int_equal(c.r, -ETIMEDOUT);
}

/* ---- upload ---- */

/* One modem that wants an image, with its habits. */
struct pbl {
    uint32_t version, image_id;
    bool wide;               /* READ_DATA64 */
    bool hello_too;          /* a second HELLO crosses our answer */
    unsigned hello_again_at; /* before this request (from 1) the session starts anew */
    bool hello_again_before; /* the first answer is not taken, a second one is wanted */
    bool overread;
    bool strays;
    uint32_t done;
    /* The fault: at this event (from 1: each packet that we send or await) the modem is unplugged. */
    unsigned unplug_at;
    unsigned n_events;    /* counted for the caller of a run without a fault */
    unsigned whole_at;    /* in this event the host sends what makes the image whole */
    unsigned accepted_at; /* the first event after END_IMAGE_TX */
};

static const struct {
    uint32_t offset, length;
} requests[] = {
    {0, 0x34},        {0x34, 0x80},     {0x1000, 0x1000}, {0x2000, 0x9d0},  {0, 0x34},
    {0x3000, 0x1000}, {0x4000, 0x4001}, {0x29d0, 0x630},  {0x8001, 0x3fff}, {0xc000, 848},
};

static bool event(struct peer *p, struct pbl *m)
{
    m->n_events++;
    if (m->n_events == m->unplug_at)
        p->over = true;
    return !p->over;
}

static void serve_request(struct peer *p, struct pbl *m, uint32_t offset, uint32_t length)
{
    uint8_t data[0x8000], expected[0x8000];
    if (!event(p, m))
        return;
    if (m->wide)
        PBL_SAY(p, PBL_READ_DATA64, m->image_id, 0, offset, 0, length, 0);
    else
        PBL_SAY(p, PBL_READ_DATA, m->image_id, offset, length);
    if (offset < IMAGE_SIZE && offset + length + 4096 >= IMAGE_SIZE && m->whole_at == 0)
        m->whole_at = m->n_events + 1;
    if (!event(p, m) || !peer_take(p, data, length))
        return;
    for (uint32_t i = 0; i < length; i++)
        expected[i] = offset + i < IMAGE_SIZE ? image[offset + i] : 0xff;
    if (memcmp(data, expected, length) != 0)
        peer_complain(p, "wrong data at %u+%u", offset, length);
}

static void greet(struct peer *p, struct pbl *m)
{
    if (event(p, m))
        pbl_expect_hello_resp(p, m->version, 0);
}

static void modem_upload(struct peer *p, const void *arg)
{
    struct pbl *m = (struct pbl *)arg;
    if (m->hello_too)
        pbl_say_hello(p, m->version, 0);
    greet(p, m);
    if (m->hello_again_before && event(p, m)) {
        pbl_say_hello(p, m->version, 0);
        greet(p, m);
    }
    if (m->strays)
        PBL_SAY(p, PBL_RESET_RESP);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        if (i + 1 == m->hello_again_at && event(p, m)) {
            pbl_say_hello(p, m->version, 0);
            greet(p, m);
            m->hello_again_at = 0;
            i = 0;
        }
        serve_request(p, m, requests[i].offset, requests[i].length);
    }
    if (m->overread) {
        serve_request(p, m, IMAGE_SIZE - 100, 4096);
        serve_request(p, m, IMAGE_SIZE + 5000, 20000);
    }
    if (!event(p, m))
        return;
    PBL_SAY(p, PBL_END_IMAGE, m->image_id, 0);
    m->accepted_at = m->n_events + 1;
    if (!event(p, m))
        return;
    PBL_EXPECT(p, PBL_DONE);
    if (!event(p, m))
        return;
    PBL_SAY(p, PBL_DONE_RESP, m->done);
    peer_be_silent(p);
}

static void on_progress(void *userdata, uint64_t sent, uint64_t total)
{
    struct peer_case *c = userdata;
    if (sent <= c->numbers[0] || total != IMAGE_SIZE || sent > total)
        c->numbers[1]++; /* must not happen */
    c->numbers[0] = sent;
}

static void host_upload(struct peer_case *c, struct transport *t)
{
    struct sahara_hello hello = hello2;
    if (c->arg && c->modem == modem_upload)
        hello.version = ((const struct pbl *)c->arg)->version;
    c->r = sahara_upload(t, &hello, image, sizeof(image), on_progress, c, &c->e);
}

static void test_upload(void **state)
{
    (void)state;
    static struct pbl modems[] = {
        {.version = 1, .image_id = IMAGE_ID, .done = 1},
        {.version = 2, .image_id = IMAGE_ID, .done = 1},
        {.version = 3, .image_id = IMAGE_ID, .done = 1, .wide = true},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .hello_too = true},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .hello_again_before = true},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .hello_again_at = 1},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .hello_again_at = 5},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .overread = true},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .overread = true, .wide = true},
        {.version = 2, .image_id = IMAGE_ID, .done = 1, .strays = true},
        {.version = 2, .image_id = 0x0b, .done = 1},
        {.version = 2, .image_id = 7, .done = 0},
        {.version = 2, .image_id = 13, .done = 0},
        {.version = 2, .image_id = 21, .done = 0},
    };
    enum { N = ARRAY_SIZE(modems) };
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++)
        cases[i] = (struct peer_case){
            .name = "upload", .modem = modem_upload, .arg = &modems[i], .host = host_upload};
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++) {
        if (cases[i].r != 0)
            fail_msg("upload %zu: %d %s", i, cases[i].r, cases[i].e.message);
        assert_int_equal(cases[i].numbers[0], IMAGE_SIZE);
        assert_int_equal(cases[i].numbers[1], 0);
    }
}

static void test_done_refused(void **state)
{
    (void)state;
    static struct pbl modems[] = {
        {.version = 2, .image_id = 0x0b, .done = 0},
        {.version = 2, .image_id = 34, .done = 0},
        {.version = 2, .image_id = 13, .done = 2},
    };
    static struct peer_case cases[ARRAY_SIZE(modems)];
    for (size_t i = 0; i < ARRAY_SIZE(modems); i++)
        cases[i] =
            (struct peer_case){.name = "done", .modem = modem_upload, .arg = &modems[i], .host = host_upload};
    peer_play(cases, ARRAY_SIZE(modems));
    for (size_t i = 0; i < ARRAY_SIZE(modems); i++)
        assert_int_equal(cases[i].e.kind, ERROR_SAHARA_FAILED);
    assert_non_null(strstr(cases[0].e.message, "image 11"));
    assert_non_null(strstr(cases[2].e.message, "status 2"));
}

/* Unplugged at every packet: before, at and after each. */
static void test_upload_unplugged(void **state)
{
    (void)state;
    struct pbl probe = {.version = 2, .image_id = IMAGE_ID, .done = 1};
    struct peer_case c = {.name = "probe", .modem = modem_upload, .arg = &probe, .host = host_upload};
    peer_play(&c, 1);
    assert_int_equal(c.r, 0);
    assert_in_range(probe.n_events, 20, 40);
    for (unsigned at = 1; at <= probe.n_events; at++) {
        struct pbl m = {.version = 2, .image_id = IMAGE_ID, .done = 1, .unplug_at = at};
        c = (struct peer_case){.name = "unplug", .modem = modem_upload, .arg = &m, .host = host_upload};
        peer_play(&c, 1);
        /* Gone with the whole image but without a word about it: the signature (1.3). Otherwise its window is
         * over. */
        bool whole = at >= probe.whole_at && at < probe.accepted_at;
        enum error_kind expected = whole ? ERROR_PROGRAMMER_REJECTED : ERROR_MODEM_GONE;
        /* In that one event the modem may or may not have got the bytes. */
        if (at == probe.whole_at && c.e.kind == ERROR_MODEM_GONE)
            continue;
        if (c.e.kind != expected || c.r != error_errno(expected))
            fail_msg("unplugged at %u of %u: %d %s", at, probe.n_events, c.r, c.e.message);
        assert_true(c.took < 2 * USEC_PER_SEC);
    }
}

static void modem_end_image(struct peer *p, const void *arg)
{
    pbl_expect_hello_resp(p, 2, 0);
    PBL_SAY(p, PBL_READ_DATA, IMAGE_ID, 0, 64);
    uint8_t data[64];
    peer_take(p, data, sizeof(data));
    PBL_SAY(p, PBL_END_IMAGE, IMAGE_ID, *(const uint32_t *)arg);
    peer_be_silent(p);
}

static void test_every_status(void **state)
{
    (void)state;
    enum { N = 0x2a };
    static uint32_t statuses[N];
    static struct peer_case cases[N];
    for (uint32_t s = 1; s < N; s++) {
        statuses[s] = s;
        cases[s] = (struct peer_case){
            .name = "status", .modem = modem_end_image, .arg = &statuses[s], .host = host_upload};
    }
    peer_play(cases + 1, N - 1);
    for (uint32_t s = 1; s < N; s++) {
        assert_true(cases[s].r < 0);
        assert_non_null(strstr(cases[s].e.message, sahara_status_name(s)));
        assert_string_equal(cases[s].e.words, sahara_status_name(s));
    }
    static const uint32_t rejected[] = {0x06, 0x08, 0x09, 0x12, 0x14, 0x21, 0x22, 0x23, 0x25, 0x26};
    static const uint32_t failed[] = {0x01, 0x02, 0x04, 0x05, 0x0a, 0x0d, 0x16, 0x18, 0x24, 0x27, 0x28, 0x29};
    for (size_t i = 0; i < ARRAY_SIZE(rejected); i++) {
        assert_int_equal(cases[rejected[i]].e.kind, ERROR_PROGRAMMER_REJECTED);
        assert_int_equal(cases[rejected[i]].e.hint, HINT_WRONG_FIRMWARE);
    }
    for (size_t i = 0; i < ARRAY_SIZE(failed); i++)
        assert_int_equal(cases[failed[i]].e.kind, ERROR_SAHARA_FAILED);
}

/* Packets that a modem says instead of READ_DATA, after HELLO_RESP. */
struct hostile {
    const char *name;
    enum error_kind kind;
    const char *says;
    size_t n;
    uint32_t words[8]; /* command first */
    unsigned times;
};

static void modem_hostile(struct peer *p, const void *arg)
{
    const struct hostile *h = arg;
    uint8_t packet[8 + 4 * PBL_WORDS_MAX], data[VIRTUAL_DATA_MAX];
    size_t size = pbl_packet(packet, h->words[0], h->words + 1, h->n - 1);
    pbl_expect_hello_resp(p, 2, 0);
    for (unsigned i = 0; i < MAX_OF(h->times, 1u); i++) {
        peer_say(p, packet, size);
        if (h->times > 1 && peer_hear(p, data, sizeof(data)) < 0)
            return;
    }
    peer_be_silent(p);
}

static void test_hostile_requests(void **state)
{
    (void)state;
    static const struct hostile hostile[] = {
        {"huge length",
         ERROR_SAHARA_FAILED,
         "4294967295 bytes at offset 0",
         4,
         {PBL_READ_DATA, 13, 0, UINT32_MAX},
         0},
        {"offset", ERROR_SAHARA_FAILED, "at offset 4294967295", 4, {PBL_READ_DATA, 13, UINT32_MAX, 1}, 0},
        {"sum wraps",
         ERROR_SAHARA_FAILED,
         "at offset 4294967040",
         4,
         {PBL_READ_DATA, 13, 0xffffff00, 0x200},
         0},
        {"zero", ERROR_SAHARA_FAILED, "asks for 0 bytes", 4, {PBL_READ_DATA, 13, 0, 0}, 0},
        {"sum wraps 64",
         ERROR_SAHARA_FAILED,
         "18446744073709551615",
         7,
         {PBL_READ_DATA64, 13, 0, 100, 0, UINT32_MAX, UINT32_MAX},
         0},
        {"offset 64",
         ERROR_SAHARA_FAILED,
         "18446744073709551615",
         7,
         {PBL_READ_DATA64, 13, 0, UINT32_MAX, UINT32_MAX, 2, 0},
         0},
        {"above 4 GiB", ERROR_SAHARA_FAILED, "4294967296", 7, {PBL_READ_DATA64, 13, 0, 0, 1, 64, 0}, 0},
        {"for ever", ERROR_SAHARA_FAILED, "reads for ever", 4, {PBL_READ_DATA, 13, 0, 16000}, 1000},
        {"hello for ever", ERROR_SAHARA_FAILED, "", 11, {PBL_HELLO, 2, 1, 0x400, 0}, 1000},
        {"done unasked", ERROR_SAHARA_FAILED, "command 0x06", 2, {PBL_DONE_RESP, 1}, 0},
        {"end unread", ERROR_SAHARA_FAILED, "has not read", 3, {PBL_END_IMAGE, 13, 0}, 0},
        {"crashed", ERROR_WRONG_MODE, "crashed", 3, {PBL_MEMORY_DEBUG, 0x1000, 0x100}, 0},
        {"crashed 64", ERROR_WRONG_MODE, "crashed", 5, {PBL_MEMORY_DEBUG64, 0, 1, 2, 3}, 0},
        {"no packet", ERROR_SAHARA_FAILED, "no Sahara packet (3c3f786d", 2, {0x6d783f3c, 0}, 0},
    };
    enum { N = ARRAY_SIZE(hostile) };
    static struct peer_case cases[N];
    for (size_t i = 0; i < N; i++)
        cases[i] = (struct peer_case){
            .name = hostile[i].name, .modem = modem_hostile, .arg = &hostile[i], .host = host_upload};
    peer_play(cases, N);
    for (size_t i = 0; i < N; i++) {
        if (cases[i].e.kind != hostile[i].kind || !strstr(cases[i].e.message, hostile[i].says))
            fail_msg("%s: %d %s", hostile[i].name, cases[i].r, cases[i].e.message);
        assert_true(cases[i].took < 3 * USEC_PER_SEC);
    }
}

static void modem_changes_image(struct peer *p, const void *arg)
{
    uint8_t data[64];
    (void)arg;
    pbl_expect_hello_resp(p, 2, 0);
    PBL_SAY(p, PBL_READ_DATA, 13, 0, 64);
    peer_take(p, data, sizeof(data));
    PBL_SAY(p, PBL_READ_DATA, 14, 0, 64);
    peer_be_silent(p);
}

static void modem_strays_for_ever(struct peer *p, const void *arg)
{
    (void)arg;
    pbl_expect_hello_resp(p, 2, 0);
    while (PBL_SAY(p, PBL_RESET_RESP))
        ;
}

static void test_more_hostility(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {.name = "image id", .modem = modem_changes_image, .host = host_upload},
        {.name = "strays", .modem = modem_strays_for_ever, .host = host_upload},
    };
    peer_play(cases, ARRAY_SIZE(cases));
    assert_int_equal(cases[0].e.kind, ERROR_SAHARA_FAILED);
    assert_non_null(strstr(cases[0].e.message, "image 14 in the middle of image 13"));
    assert_int_equal(cases[1].e.kind, ERROR_SAHARA_FAILED);
    assert_non_null(strstr(cases[1].e.message, "command 0x08"));
}

/* ---- silence: these take their time-outs, together ---- */

static void take_all(struct peer *p)
{
    uint8_t data[VIRTUAL_DATA_MAX];
    pbl_expect_hello_resp(p, 2, 0);
    for (uint32_t at = 0; at < IMAGE_SIZE; at += 10000) {
        PBL_SAY(p, PBL_READ_DATA, 13, at, 10000);
        peer_take(p, data, 10000);
    }
}

static void modem_silent_at_end(struct peer *p, const void *arg)
{
    (void)arg;
    take_all(p);
    peer_be_silent(p);
}

static void modem_silent_after_done(struct peer *p, const void *arg)
{
    (void)arg;
    take_all(p);
    PBL_SAY(p, PBL_END_IMAGE, 13, 0);
    peer_be_silent(p);
}

static void modem_silent_in_between(struct peer *p, const void *arg)
{
    uint8_t data[64];
    (void)arg;
    pbl_expect_hello_resp(p, 2, 0);
    PBL_SAY(p, PBL_READ_DATA, 13, 0, 64);
    peer_take(p, data, sizeof(data));
    peer_be_silent(p);
}

static void modem_silent_at_once(struct peer *p, const void *arg)
{
    (void)arg;
    peer_be_silent(p);
}

/* Starts again and again, as often as it has got everything. */
static void modem_starts_anew(struct peer *p, const void *arg)
{
    (void)arg;
    take_all(p);
    pbl_say_hello(p, 2, 0);
    take_all(p);
    pbl_say_hello(p, 2, 0);
    peer_be_silent(p);
}

/* Does not take the data any more and has said why. */
static void modem_takes_nothing(struct peer *p, const void *arg)
{
    struct pollfd hung_up = {.fd = p->fd};
    (void)arg;
    pbl_expect_hello_resp(p, 2, 0);
    PBL_SAY(p, PBL_READ_DATA, 13, 0, 1000000);
    PBL_SAY(p, PBL_END_IMAGE, 13, 0x21);
    poll(&hung_up, 1, PEER_PATIENCE_SEC * 1000);
}

static void modem_truncated_request(struct peer *p, const void *arg)
{
    uint8_t packet[0x14];
    (void)arg;
    pbl_expect_hello_resp(p, 2, 0);
    pbl_packet(packet, PBL_READ_DATA, (const uint32_t[]){13, 0, 52}, 3);
    peer_say(p, packet, 11);
    peer_be_silent(p);
}

static void test_silence(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {.name = "at the end", .modem = modem_silent_at_end, .host = host_upload},
        {.name = "after DONE", .modem = modem_silent_after_done, .host = host_upload},
        {.name = "in between", .modem = modem_silent_in_between, .host = host_upload},
        {.name = "at once", .modem = modem_silent_at_once, .host = host_upload},
        {.name = "anew", .modem = modem_starts_anew, .host = host_upload},
        {.name = "truncated", .modem = modem_truncated_request, .host = host_upload},
        {.name = "takes nothing", .modem = modem_takes_nothing, .host = host_upload},
    };
    peer_play(cases, ARRAY_SIZE(cases));
    static const enum error_kind kinds[] = {ERROR_PROGRAMMER_REJECTED,
                                            ERROR_PROGRAMMER_REJECTED,
                                            ERROR_TIMEOUT,
                                            ERROR_TIMEOUT,
                                            ERROR_PROGRAMMER_REJECTED,
                                            ERROR_SAHARA_FAILED,
                                            ERROR_PROGRAMMER_REJECTED};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (cases[i].e.kind != kinds[i])
            fail_msg("%s: %d %s", cases[i].name, cases[i].r, cases[i].e.message);
        assert_true(cases[i].took < 8 * USEC_PER_SEC);
    }
    assert_non_null(strstr(cases[0].e.message, "whole programmer (50000 bytes)"));
    assert_non_null(strstr(cases[2].e.message, "after 64 of the programmer's 50000 bytes"));
    assert_int_equal(cases[2].e.hint, HINT_POWER_CYCLE);
    assert_non_null(strstr(cases[4].e.message, "started anew"));
    assert_non_null(strstr(cases[5].e.message, "breaks off after 11 bytes"));
    assert_non_null(strstr(cases[6].e.message, "(0x21)"));
}

/* ---- called off ---- */

static int wake(void *userdata)
{
    struct peer_case *c = userdata;
    return -(int)c->numbers[3];
}

static void host_upload_woken(struct peer_case *c, struct transport *t)
{
    _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);
    c->numbers[3] = *(const unsigned *)c->arg;
    /* Awake from the first packet on. */
    transport_set_waker(t, fd, wake, c);
    eventfd_write(fd, 1);
    c->r = sahara_upload(t, &hello2, image, sizeof(image), NULL, NULL, &c->e);
}

static void test_called_off(void **state)
{
    (void)state;
    static const unsigned reasons[] = {ECANCELED, EINTR, ESHUTDOWN};
    struct peer_case cases[ARRAY_SIZE(reasons)];
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        cases[i] = (struct peer_case){
            .name = "woken", .modem = modem_silent_at_once, .arg = &reasons[i], .host = host_upload_woken};
    peer_play(cases, ARRAY_SIZE(reasons));
    assert_int_equal(cases[0].e.kind, ERROR_CANCELLED);
    assert_int_equal(cases[1].e.kind, ERROR_INTERRUPTED);
    assert_int_equal(cases[2].e.kind, ERROR_FAILED);
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        assert_int_equal(cases[i].r, -(int)reasons[i]);
        assert_true(cases[i].took < USEC_PER_SEC);
    }
}

static void host_upload_nothing(struct peer_case *c, struct transport *t)
{
    c->r = sahara_upload(t, &hello2, image, 0, NULL, NULL, &c->e);
}

static void test_empty_programmer(void **state)
{
    (void)state;
    struct peer_case c = {.name = "empty", .modem = modem_silent_at_once, .host = host_upload_nothing};
    peer_play(&c, 1);
    assert_int_equal(c.e.kind, ERROR_INVALID_ARGS);
}

/* ---- reset ---- */

static void host_reset(struct peer_case *c, struct transport *t)
{
    c->r = sahara_reset(t, &c->e);
}

static void modem_resets(struct peer *p, const void *arg)
{
    const char *how = arg;
    PBL_EXPECT(p, PBL_RESET);
    if (strcmp(how, "resp") == 0)
        PBL_SAY(p, PBL_RESET_RESP);
    else if (strcmp(how, "hello") == 0)
        pbl_say_hello(p, 2, 0);
    else if (strcmp(how, "late") == 0) {
        PBL_SAY(p, PBL_END_IMAGE, 13, 1);
        PBL_SAY(p, PBL_RESET_RESP);
    } else if (strcmp(how, "garbage") == 0)
        peer_say_text(p, "nonsense");
    else if (strcmp(how, "gone") == 0)
        return;
    peer_be_silent(p);
}

static void modem_gone(struct peer *p, const void *arg)
{
    (void)p;
    (void)arg;
}

static void test_reset(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {.name = "resp", .modem = modem_resets, .arg = "resp", .host = host_reset},
        {.name = "hello", .modem = modem_resets, .arg = "hello", .host = host_reset},
        {.name = "late", .modem = modem_resets, .arg = "late", .host = host_reset},
        {.name = "gone", .modem = modem_resets, .arg = "gone", .host = host_reset},
        {.name = "gone before", .modem = modem_gone, .host = host_reset},
        {.name = "garbage", .modem = modem_resets, .arg = "garbage", .host = host_reset},
        {.name = "silent", .modem = modem_resets, .arg = "silent", .host = host_reset},
    };
    peer_play(cases, ARRAY_SIZE(cases));
    for (size_t i = 0; i < 5; i++)
        if (cases[i].r != 0)
            fail_msg("%s: %d %s", cases[i].name, cases[i].r, cases[i].e.message);
    assert_int_equal(cases[5].e.kind, ERROR_SAHARA_FAILED);
    assert_int_equal(cases[6].e.kind, ERROR_TIMEOUT);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(image); i++)
        image[i] = (uint8_t)(i * 7 + (i >> 8) * 13);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_chip_names),
        cmocka_unit_test(test_parse_hello),
        cmocka_unit_test(test_packets_are_taken_apart),
        cmocka_unit_test(test_truncated_packets),
        cmocka_unit_test(test_garbage_headers),
        cmocka_unit_test(test_huge_packet),
        cmocka_unit_test(test_endless_zlps),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_done_refused),
        cmocka_unit_test(test_upload_unplugged),
        cmocka_unit_test(test_every_status),
        cmocka_unit_test(test_hostile_requests),
        cmocka_unit_test(test_more_hostility),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_empty_programmer),
        cmocka_unit_test(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
