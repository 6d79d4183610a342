/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The upload of a programmer (protocol/sahara.c). */

#include "../sahara-modem.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "protocol/sahara.h"

enum { IMAGE_SIZE = 50000, IMAGE_ID = 13 };

static uint8_t image[IMAGE_SIZE];

static const struct sahara_hello hello2 = {.version = 2, .compatible = 1, .max_packet = 0x400};

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
        /* Gone with the whole image but without a word about it: the signature (1.3), or its window ended,
         * which the caller judges. Otherwise its window is over. */
        bool whole = at >= probe.whole_at && at < probe.accepted_at;
        enum error_kind expected = whole ? ERROR_PROGRAMMER_REJECTED : ERROR_MODEM_GONE;
        /* In that one event the modem may or may not have got the bytes. */
        if (at == probe.whole_at && c.e.kind == ERROR_MODEM_GONE)
            continue;
        if (c.e.kind != expected || c.r != -ENODEV)
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
    (void)arg;
    pbl_expect_hello_resp(p, 2, 0);
    PBL_SAY(p, PBL_READ_DATA, 13, 0, 1000000);
    PBL_SAY(p, PBL_END_IMAGE, 13, 0x21);
    peer_wait(p, 0, USEC_INFINITY); /* until it hangs up */
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

int main(void)
{
    for (size_t i = 0; i < sizeof(image); i++)
        image[i] = (uint8_t)(i * 7 + (i >> 8) * 13);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload),           cmocka_unit_test(test_done_refused),
        cmocka_unit_test(test_upload_unplugged), cmocka_unit_test(test_every_status),
        cmocka_unit_test(test_hostile_requests), cmocka_unit_test(test_more_hostility),
        cmocka_unit_test(test_silence),          cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_empty_programmer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
