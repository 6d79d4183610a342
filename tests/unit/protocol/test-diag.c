/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Asking and being answered in DIAG: protocol/diag.c, diag-info.c, diag-nv.c. */

#include "../diag-modem.h"

#include "protocol/diag.h"

struct script {
    bool (*modem)(struct peer *p);
    int (*host)(struct peer_case *c, struct diag *d);
};

static void play_modem(struct peer *p, const void *arg)
{
    const struct script *s = arg;
    if (modem_answer_opening(p) && s->modem(p))
        peer_be_silent(p);
}

static void play_host(struct peer_case *c, struct transport *t)
{
    const struct script *s = c->arg;
    _cleanup_(diag_freep) struct diag *d = NULL;
    c->r = diag_open(t, &d, &c->e);
    if (c->r == 0)
        c->r = s->host(c, d);
}

static struct peer_case play(const char *name, struct script s)
{
    struct peer_case c = {.name = name, .modem = play_modem, .arg = &s, .host = play_host};
    peer_play(&c, 1);
    return c;
}

/* ---- who it is ---- */

#define BUILD_ANSWER "\x7c\x01\x00\x00\xe1\x00\x0e\x00\x86\x01\x00\x00RM502QGLAAR11A02M4G\0RM502Q-GL\0"

static int host_build(struct peer_case *c, struct diag *d)
{
    struct diag_build build;
    int r = diag_read_build(d, &build, &c->e);
    if (r == 0 && (strcmp(build.version, "RM502QGLAAR11A02M4G") != 0 ||
                   strcmp(build.model, "RM502Q-GL") != 0 || build.model_id != 0x186))
        return -EBADMSG;
    return r;
}

static bool modem_build(struct peer *p)
{
    return MODEM_EXPECT(p, "\x7c") && MODEM_SAY(p, BUILD_ANSWER);
}

/* A tail of an older frame, logs of every kind, an answer to somebody else, the echo of another command. */
static bool modem_build_in_noise(struct peer *p)
{
    static const uint8_t kinds[] = {0x10, 0x1f, 0x60, 0x79, 0x7e, 0x92, 0x98, 0x99, 0x9a, 0x9b, 0x9d};
    uint8_t log[300] = {0};
    if (!MODEM_EXPECT(p, "\x7c") || !peer_say(p, "\x01\x02\x7d\x5e\x03\x7e", 6))
        return false;
    for (unsigned i = 0; i < 2000; i++) {
        log[0] = kinds[i % sizeof(kinds)];
        log[1] = (uint8_t)i;
        if (!modem_say(p, log, 20 + i % 280))
            return false;
    }
    /* A refusal of something that was not asked is none of our question. */
    return MODEM_SAY(p, "\x13\x7d\x05\x00\x00") && MODEM_SAY(p, "\x26\x26\x02") && MODEM_SAY(p, BUILD_ANSWER);
}

static bool modem_build_cut(struct peer *p)
{
    return MODEM_EXPECT(p, "\x7c") && MODEM_SAY(p, "\x7c\x01\x00\x00\xe1\x00");
}

static bool modem_build_unterminated(struct peer *p)
{
    return MODEM_EXPECT(p, "\x7c") && modem_say(p, BUILD_ANSWER, sizeof(BUILD_ANSWER) - 3);
}

static int host_build_any(struct peer_case *c, struct diag *d)
{
    struct diag_build build;
    int r = diag_read_build(d, &build, &c->e);
    if (r == 0)
        c->numbers[0] = strlen(build.version) + strlen(build.model);
    return r;
}

static void test_build(void **state)
{
    (void)state;
    struct peer_case c = play("build", (struct script){modem_build, host_build});
    assert_int_equal(c.r, 0);
    c = play("in noise", (struct script){modem_build_in_noise, host_build});
    assert_int_equal(c.r, 0);
    c = play("cut", (struct script){modem_build_cut, host_build});
    assert_int_equal(c.r, -EPROTO);
    assert_int_equal(c.e.kind, ERROR_DIAG_FAILED);
    c = play("unterminated", (struct script){modem_build_unterminated, host_build_any});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.numbers[0], 19 + 8); /* "RM502Q-G": the last byte and the NUL are missing */
}

/* A flood that never ends: the deadline counts, not the number of packets. */
static bool modem_flood(struct peer *p)
{
    static const uint8_t log[64] = {0x10};
    uint8_t request[64];
    if (modem_hear(p, request, sizeof(request)) < 0)
        return false;
    while (modem_say(p, log, sizeof(log)))
        ;
    return false;
}

static void test_flood(void **state)
{
    (void)state;
    struct peer_case c = play("flood", (struct script){modem_flood, host_build});
    assert_int_equal(c.r, -ETIMEDOUT);
    assert_int_equal(c.e.kind, ERROR_TIMEOUT);
    assert_in_range(c.took, 5 * USEC_PER_SEC, 12 * USEC_PER_SEC);
}

static int host_oper_mode(struct peer_case *c, struct diag *d)
{
    uint32_t mode = 99;
    int r = diag_read_oper_mode(d, &mode, &c->e);
    c->numbers[0] = mode;
    return r;
}

static bool modem_oper_mode(struct peer *p)
{
    return MODEM_EXPECT(p, "\x4b\x0f\x00\x00") &&
           MODEM_SAY(p, "\x4b\x0f\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00");
}

static void test_oper_mode(void **state)
{
    (void)state;
    struct peer_case c = play("oper mode", (struct script){modem_oper_mode, host_oper_mode});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.numbers[0], DIAG_OPER_FACTORY_TEST);
}

/* ---- refusals ---- */

static bool modem_does_not_know(struct peer *p)
{
    return MODEM_EXPECT(p, "\x4b\x0f\x00\x00") && MODEM_SAY(p, "\x13\x4b\x0f\x00\x00");
}

static bool modem_is_in_bad_mode(struct peer *p)
{
    return MODEM_EXPECT(p, "\x4b\x0f\x00\x00") && MODEM_SAY(p, "\x18\x4b\x0f\x00\x00");
}

static void test_refusals(void **state)
{
    (void)state;
    struct peer_case c = play("unknown", (struct script){modem_does_not_know, host_oper_mode});
    assert_int_equal(c.r, -EOPNOTSUPP);
    assert_int_equal(c.e.kind, ERROR_UNSUPPORTED);
    c = play("bad mode", (struct script){modem_is_in_bad_mode, host_oper_mode});
    assert_int_equal(c.r, -EPROTO);
    assert_non_null(strstr(c.e.message, "operating mode"));
}

/* ---- the locks: asked for first, tried once, never guessed ---- */

#define OPER_MODE_REQUEST "\x4b\x0f\x00\x00"
#define OPER_MODE_ANSWER  "\x4b\x0f\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00"

static bool modem_wants_both(struct peer *p)
{
    return MODEM_EXPECT(p, OPER_MODE_REQUEST) && MODEM_SAY(p, "\x42" OPER_MODE_REQUEST) &&
           MODEM_EXPECT(p, "\x41"
                           "000000") &&
           MODEM_SAY(p, "\x41\x01") && MODEM_EXPECT(p, OPER_MODE_REQUEST) &&
           MODEM_SAY(p, "\x47" OPER_MODE_REQUEST) &&
           MODEM_EXPECT(p, "\x46\xff\xff\xff\xff\xff\xff\xff\xfe") && MODEM_SAY(p, "\x46\x01") &&
           MODEM_EXPECT(p, OPER_MODE_REQUEST) && MODEM_SAY(p, OPER_MODE_ANSWER);
}

static bool modem_has_another_spc(struct peer *p)
{
    return MODEM_EXPECT(p, OPER_MODE_REQUEST) && MODEM_SAY(p, "\x42" OPER_MODE_REQUEST) &&
           MODEM_EXPECT(p, "\x41"
                           "000000") &&
           MODEM_SAY(p, "\x41\x00") && MODEM_EXPECT(p, OPER_MODE_REQUEST) &&
           MODEM_SAY(p, "\x42" OPER_MODE_REQUEST);
}

static int host_oper_mode_twice(struct peer_case *c, struct diag *d)
{
    int r = host_oper_mode(c, d);
    return r == -EPROTO ? host_oper_mode(c, d) : 0;
}

static bool modem_wants_spc_for_ever(struct peer *p)
{
    return MODEM_EXPECT(p, OPER_MODE_REQUEST) && MODEM_SAY(p, "\x42" OPER_MODE_REQUEST) &&
           MODEM_EXPECT(p, "\x41"
                           "000000") &&
           MODEM_SAY(p, "\x41\x01") && MODEM_EXPECT(p, OPER_MODE_REQUEST) &&
           MODEM_SAY(p, "\x42" OPER_MODE_REQUEST);
}

static void test_locks(void **state)
{
    (void)state;
    struct peer_case c = play("both", (struct script){modem_wants_both, host_oper_mode});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.numbers[0], DIAG_OPER_ONLINE);
    c = play("another SPC", (struct script){modem_has_another_spc, host_oper_mode_twice});
    assert_int_equal(c.r, -EPROTO);
    assert_non_null(strstr(c.e.message, "none is guessed"));
    c = play("for ever", (struct script){modem_wants_spc_for_ever, host_oper_mode});
    assert_int_equal(c.r, -EPROTO);
}

/* ---- late answers ---- */

/* The first answer comes after the patience: the question is asked again, and both answers are ours. */
static bool modem_is_late(struct peer *p)
{
    if (!MODEM_EXPECT(p, OPER_MODE_REQUEST))
        return false;
    peer_sleep(p, 6 * USEC_PER_SEC);
    return MODEM_SAY(p, "\x4b\x0f\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00") && MODEM_EXPECT(p, "\x1c") &&
           MODEM_SAY(p, "\x1c\x00\x00") && MODEM_EXPECT(p, OPER_MODE_REQUEST) &&
           MODEM_SAY(p, OPER_MODE_ANSWER);
}

static void test_late(void **state)
{
    (void)state;
    struct peer_case c = play("late", (struct script){modem_is_late, host_oper_mode});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.numbers[0], DIAG_OPER_ONLINE); /* not the late one: it answers an older question */
    assert_in_range(c.took, 5 * USEC_PER_SEC, 8 * USEC_PER_SEC);
}

/* What writes is not sent twice. */
static bool hears_no_more(struct peer *p)
{
    uint8_t request[256];
    ssize_t n = modem_hear(p, request, sizeof(request));
    if (n > 0)
        peer_complain(p, "asked once more: %02x %02x, %zd bytes", request[0], request[1], n);
    return false;
}

static bool modem_swallows_mode(struct peer *p)
{
    return MODEM_EXPECT(p, "\x29\x01\x00") && MODEM_EXPECT(p, "\x1c") && MODEM_SAY(p, "\x1c\x00\x00") &&
           hears_no_more(p);
}

static int host_offline(struct peer_case *c, struct diag *d)
{
    return diag_set_mode(d, DIAG_MODE_OFFLINE, &c->e);
}

static bool modem_leaves_on_reset(struct peer *p)
{
    if (MODEM_EXPECT(p, "\x29\x02\x00"))
        p->over = true;
    return false;
}

static int host_reset(struct peer_case *c, struct diag *d)
{
    return diag_set_mode(d, DIAG_MODE_RESET, &c->e);
}

static void test_modes(void **state)
{
    (void)state;
    struct peer_case c = play("swallowed", (struct script){modem_swallows_mode, host_offline});
    assert_int_equal(c.r, -ETIMEDOUT);
    c = play("left", (struct script){modem_leaves_on_reset, host_reset});
    assert_int_equal(c.r, 0);
}

/* ---- into EDL ---- */

static int host_edl(struct peer_case *c, struct diag *d)
{
    return diag_enter_edl(d, &c->e);
}

static bool modem_echoes_edl(struct peer *p)
{
    return MODEM_EXPECT(p, "\x4b\x65\x01\x00") && MODEM_SAY(p, "\x4b\x65\x01\x00");
}

static bool modem_only_knows_dload(struct peer *p)
{
    return MODEM_EXPECT(p, "\x4b\x65\x01\x00") && MODEM_SAY(p, "\x13\x4b\x65\x01\x00") &&
           MODEM_EXPECT(p, "\x3a") && MODEM_SAY(p, "\x3a");
}

static bool modem_leaves_for_edl(struct peer *p)
{
    if (MODEM_EXPECT(p, "\x4b\x65\x01\x00"))
        p->over = true;
    return false;
}

static bool modem_knows_neither(struct peer *p)
{
    return MODEM_EXPECT(p, "\x4b\x65\x01\x00") && MODEM_SAY(p, "\x13\x4b\x65\x01\x00") &&
           MODEM_EXPECT(p, "\x3a") && MODEM_SAY(p, "\x13\x3a");
}

static void test_edl(void **state)
{
    (void)state;
    assert_int_equal(play("echo", (struct script){modem_echoes_edl, host_edl}).r, 0);
    assert_int_equal(play("dload", (struct script){modem_only_knows_dload, host_edl}).r, 0);
    assert_int_equal(play("leaves", (struct script){modem_leaves_for_edl, host_edl}).r, 0);
    struct peer_case c = play("neither", (struct script){modem_knows_neither, host_edl});
    assert_int_equal(c.r, -EOPNOTSUPP);
}

/* ---- numbered items ---- */

static bool modem_nv(struct peer *p, const char *head, size_t head_size, size_t size, uint8_t status)
{
    uint8_t packet[138] = {0};
    memcpy(packet, head, head_size);
    if (!modem_expect(p, packet, size))
        return false;
    /* The answer to an older question comes first. */
    uint8_t older[138];
    memcpy(older, packet, size);
    older[head_size - 1] ^= 1;
    if (!modem_say(p, older, size))
        return false;
    for (size_t i = 0; i < 128; i++)
        packet[head_size + i] = (uint8_t)(0x7c + i % 3); /* 7c 7d 7e: escaped on the way */
    packet[size - 2] = status;
    return modem_say(p, packet, size);
}

static bool modem_nv_550(struct peer *p)
{
    return modem_nv(p, "\x26\x26\x02", 3, 133, 0);
}

static bool modem_nv_second(struct peer *p)
{
    return modem_nv(p, "\x4b\x30\x01\x00\x26\x02\x01\x00", 8, 138, 5);
}

static bool modem_nv_refused(struct peer *p)
{
    uint8_t packet[133] = {0x26, 0x26, 0x02};
    return modem_expect(p, packet, sizeof(packet)) && modem_refuse(p, 0x14, packet, sizeof(packet));
}

static int host_nv(struct peer_case *c, struct diag *d)
{
    unsigned status = 99;
    int r = diag_nv_read(d, DIAG_NV_IMEI, 0, c->bytes, &status, &c->e);
    c->bytes[200] = (uint8_t)status;
    return r;
}

static int host_nv_second(struct peer_case *c, struct diag *d)
{
    unsigned status = 99;
    int r = diag_nv_read(d, DIAG_NV_IMEI, 1, c->bytes, &status, &c->e);
    c->bytes[200] = (uint8_t)status;
    return r;
}

static bool modem_takes_item(struct peer *p)
{
    uint8_t packet[133] = {0x27, 0x0a, 0x00};
    memset(packet + 3, 0xab, 128);
    if (!modem_expect(p, packet, sizeof(packet)))
        return false;
    packet[131] = 7;
    return modem_say(p, packet, sizeof(packet));
}

static bool modem_swallows_item(struct peer *p)
{
    uint8_t request[256];
    return modem_hear(p, request, sizeof(request)) == 133 && request[0] == 0x27 && MODEM_EXPECT(p, "\x1c") &&
           MODEM_SAY(p, "\x1c\x00\x00") && hears_no_more(p);
}

static int host_nv_write(struct peer_case *c, struct diag *d)
{
    uint8_t data[DIAG_NV_SIZE];
    unsigned status = 99;
    memset(data, 0xab, sizeof(data));
    int r = diag_nv_write(d, 10, 0, data, &status, &c->e);
    c->bytes[200] = (uint8_t)status;
    return r;
}

static void test_nv(void **state)
{
    (void)state;
    struct peer_case c = play("550", (struct script){modem_nv_550, host_nv});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.bytes[200], DIAG_NV_DONE);
    for (size_t i = 0; i < DIAG_NV_SIZE; i++)
        assert_int_equal(c.bytes[i], 0x7c + i % 3);
    c = play("second context", (struct script){modem_nv_second, host_nv_second});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.bytes[200], DIAG_NV_NOT_ACTIVE);
    assert_int_equal(c.bytes[0], 0); /* nothing was read */
    c = play("refused", (struct script){modem_nv_refused, host_nv});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.bytes[200], DIAG_NV_BAD_PARAMETER);
    c = play("written", (struct script){modem_takes_item, host_nv_write});
    assert_int_equal(c.r, 0);
    assert_int_equal(c.bytes[200], DIAG_NV_READ_ONLY);
    c = play("swallowed", (struct script){modem_swallows_item, host_nv_write});
    assert_int_equal(c.r, -ETIMEDOUT);
}

static void test_imei(void **state)
{
    (void)state;
    uint8_t data[DIAG_NV_SIZE] = {0x08, 0x4a, 0x09, 0x51, 0x24, 0x30, 0x32, 0x57, 0x81};
    char imei[DIAG_IMEI_DIGITS + 1] = "";
    assert_int_equal(diag_imei_parse(data, imei), 0);
    assert_string_equal(imei, "490154203237518");
    data[8] = 0x91; /* check digit */
    assert_int_equal(diag_imei_parse(data, imei), -EINVAL);
    data[8] = 0xf1;
    assert_int_equal(diag_imei_parse(data, imei), -EINVAL);
    static const uint8_t zeros[DIAG_NV_SIZE] = {0x08, 0x0a}, nothing[DIAG_NV_SIZE];
    uint8_t blank[DIAG_NV_SIZE];
    memset(blank, 0xff, sizeof(blank));
    assert_int_equal(diag_imei_parse(zeros, imei), -EINVAL);
    assert_int_equal(diag_imei_parse(nothing, imei), -EINVAL);
    assert_int_equal(diag_imei_parse(blank, imei), -EINVAL);
    assert_string_equal(imei, "490154203237518"); /* untouched */
}

/* ---- nobody there ---- */

static void modem_says_nothing(struct peer *p, const void *arg)
{
    (void)arg;
    peer_be_silent(p);
}

static void host_open(struct peer_case *c, struct transport *t)
{
    _cleanup_(diag_freep) struct diag *d = NULL;
    c->r = diag_open(t, &d, &c->e);
}

static void test_silent(void **state)
{
    (void)state;
    struct peer_case c = {.name = "silent", .modem = modem_says_nothing, .host = host_open};
    peer_play(&c, 1);
    assert_int_equal(c.r, -ETIMEDOUT);
    assert_in_range(c.took, 5 * USEC_PER_SEC, 30 * USEC_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build),    cmocka_unit_test(test_flood),  cmocka_unit_test(test_oper_mode),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_locks),  cmocka_unit_test(test_late),
        cmocka_unit_test(test_modes),    cmocka_unit_test(test_edl),    cmocka_unit_test(test_nv),
        cmocka_unit_test(test_imei),     cmocka_unit_test(test_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
