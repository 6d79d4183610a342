/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Command mode (protocol/sahara-command.c): who is it, and back to a HELLO from wherever that ends. */

#include "../sahara-modem.h"

#include "protocol/sahara.h"

enum { HELLO_AGAIN = 0x77 }; /* max_packet of the fresh HELLO, to tell it from the first */

enum trouble {
    NONE,
    SLOW,            /* every answer takes 2 s */
    REFUSES_MODE,    /* END_IMAGE_TX instead of CMD_READY */
    IGNORES_MODE,    /* READ_DATA instead */
    REFUSES_ALL,     /* each command with END_IMAGE_TX status 1 */
    REFUSES_SECOND,  /* the HWID or chip id */
    EMPTY_ALL,       /* data_len 0 */
    HUGE_ALL,        /* data_len beyond any buffer */
    REFUSES_DATA,    /* END_IMAGE_TX where the data were announced */
    OTHER_COMMAND,   /* EXECUTE_RESP for something else */
    SILENT_COMMAND,  /* no EXECUTE_RESP */
    SILENT_DATA,     /* announces and does not deliver */
    SHORT_DATA,      /* delivers one byte less */
    GARBAGE_COMMAND, /* text instead of EXECUTE_RESP */
    SILENT_LEAVE,    /* SWITCH_MODE is not answered */
    REFUSES_LEAVE,   /* SWITCH_MODE is answered by END_IMAGE_TX */
    LOST,            /* and nothing whatever is answered from the first command on */
};

struct modem {
    uint32_t version;
    enum trouble trouble;
    size_t serial_size, hwid_size;
    uint8_t hwid[64];
    size_t hash_size;
    uint8_t hash[256];
    unsigned stammer; /* raw data in pieces of this size */
    unsigned unplug_at;
    unsigned n_events;
    unsigned asked[16]; /* how often each command was asked */
};

static bool event(struct peer *p, struct modem *m)
{
    if (++m->n_events == m->unplug_at)
        p->over = true;
    return !p->over;
}

static void say_fresh_hello(struct peer *p, const struct modem *m)
{
    const uint32_t words[10] = {m->version, 1, HELLO_AGAIN, 0};
    uint8_t hello[0x30];
    peer_say(p, hello, pbl_packet(hello, PBL_HELLO, words, ARRAY_SIZE(words)));
}

/* The rest of a conversation that went wrong: whatever comes is an error, RESET starts anew. */
static void wait_for_reset(struct peer *p, struct modem *m)
{
    uint8_t got[VIRTUAL_DATA_MAX];
    for (;;) {
        ssize_t n = peer_hear(p, got, sizeof(got));
        if (n < 0)
            return;
        if (n == 8 && got[0] == PBL_RESET) {
            PBL_SAY(p, PBL_RESET_RESP);
            say_fresh_hello(p, m);
            peer_be_silent(p);
            return;
        }
        PBL_SAY(p, PBL_END_IMAGE, 0, 1);
    }
}

static void say_data(struct peer *p, const struct modem *m, const uint8_t *data, size_t size)
{
    size_t step = m->stammer ? m->stammer : size;
    for (size_t at = 0; at < size; at += step)
        peer_say(p, data + at, MIN_OF(step, size - at));
}

/* One EXECUTE. False: the conversation has left the usual way. */
static bool execute(struct peer *p, struct modem *m, uint32_t command)
{
    static const uint8_t serial[8] = {0xef, 0xd7, 0xcb, 0x49, 1, 2, 3, 4};
    bool is_id = command == 2 || command == 10;
    const uint8_t *data = command == 1 ? serial : is_id ? m->hwid : m->hash;
    size_t size = command == 1 ? m->serial_size : is_id ? m->hwid_size : m->hash_size;

    if (m->trouble == SLOW)
        peer_sleep(p, 2 * USEC_PER_SEC);
    if (m->trouble == SILENT_COMMAND || (m->trouble == LOST)) {
        if (m->trouble == LOST)
            peer_be_silent(p);
        else
            wait_for_reset(p, m);
        return false;
    }
    if (m->trouble == GARBAGE_COMMAND) {
        peer_say_text(p, "what?");
        wait_for_reset(p, m);
        return false;
    }
    if (m->trouble == REFUSES_ALL || (m->trouble == REFUSES_SECOND && is_id))
        return PBL_SAY(p, PBL_END_IMAGE, 0, 1);
    if (m->trouble == EMPTY_ALL || size == 0)
        return PBL_SAY(p, PBL_EXECUTE_RESP, command, 0);
    if (m->trouble == HUGE_ALL)
        return PBL_SAY(p, PBL_EXECUTE_RESP, command, 0x7fffffff);
    if (m->trouble == OTHER_COMMAND) {
        PBL_SAY(p, PBL_EXECUTE_RESP, 0x55, 4);
        wait_for_reset(p, m);
        return false;
    }
    if (!PBL_SAY(p, PBL_EXECUTE_RESP, command, (uint32_t)size) || !event(p, m) ||
        !PBL_EXPECT(p, PBL_EXECUTE_DATA, command) || !event(p, m))
        return false;
    switch (m->trouble) {
    case REFUSES_DATA:
        return PBL_SAY(p, PBL_END_IMAGE, 0, 0x20);
    case SILENT_DATA:
        wait_for_reset(p, m);
        return false;
    case SHORT_DATA:
        peer_say(p, data, size - 1);
        wait_for_reset(p, m);
        return false;
    default:
        say_data(p, m, data, size);
        return !p->over;
    }
}

static void modem_commands(struct peer *p, const void *arg)
{
    struct modem *m = (struct modem *)arg;
    uint32_t got[4];
    if (!event(p, m) || !pbl_expect_hello_resp(p, m->version, 3) || !event(p, m))
        return;
    if (m->trouble == REFUSES_MODE || m->trouble == IGNORES_MODE) {
        if (m->trouble == REFUSES_MODE)
            PBL_SAY(p, PBL_END_IMAGE, 0, 0x18);
        else
            PBL_SAY(p, PBL_READ_DATA, 13, 0, 0x34);
        wait_for_reset(p, m);
        return;
    }
    PBL_SAY(p, PBL_CMD_READY);
    while (event(p, m)) {
        ssize_t n = peer_hear(p, got, sizeof(got));
        if (n < 0)
            return;
        if (n != 12 || le32toh(got[1]) != 12) {
            peer_complain(p, "a packet of %zd bytes in command mode", n);
            return;
        }
        if (le32toh(got[0]) == PBL_SWITCH_MODE)
            break;
        if (le32toh(got[0]) != PBL_EXECUTE || le32toh(got[2]) >= ARRAY_SIZE(m->asked)) {
            peer_complain(p, "command 0x%x in command mode", le32toh(got[0]));
            return;
        }
        m->asked[le32toh(got[2])]++;
        if (!execute(p, m, le32toh(got[2])))
            return;
    }
    if (!event(p, m))
        return;
    if (got[2] != 0)
        peer_complain(p, "left for mode %u", le32toh(got[2]));
    if (m->trouble == REFUSES_LEAVE)
        PBL_SAY(p, PBL_END_IMAGE, 0, 0x1c);
    if (m->trouble == SILENT_LEAVE || m->trouble == REFUSES_LEAVE) {
        wait_for_reset(p, m);
        return;
    }
    say_fresh_hello(p, m);
    peer_be_silent(p);
}

struct outcome {
    struct sahara_hello hello;
    struct sahara_identity identity;
};
_Static_assert(sizeof(struct outcome) <= sizeof(((struct peer_case *)0)->bytes), "the outcome fits a case");

static void host_identify(struct peer_case *c, struct transport *t)
{
    const struct modem *m = c->arg;
    struct outcome o = {.hello = {.version = m->version, .compatible = 1, .max_packet = 0x400}};
    c->r = sahara_identify(t, &o.hello, &o.identity, &c->e);
    memcpy(c->bytes, &o, sizeof(o));
}

static void play(struct modem *modems, struct outcome *ret, struct peer_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cases[i] = (struct peer_case){
            .name = "identify", .modem = modem_commands, .arg = &modems[i], .host = host_identify};
    peer_play(cases, n);
    for (size_t i = 0; i < n; i++)
        memcpy(&ret[i], cases[i].bytes, sizeof(ret[i]));
}

enum fault { WHOLE, SHORT_SERIAL, SHORT_HWID, ZERO_HWID, LONG_HWID };

/* RM502Q: MSM id, OEM and model, low bytes first; 32 bytes of hash. */
static struct modem sdx55(uint32_t version, enum trouble trouble, enum fault fault)
{
    struct modem m = {
        .version = version,
        .trouble = trouble,
        .serial_size = fault == SHORT_SERIAL ? 3 : 4,
        .hwid_size = fault == SHORT_HWID  ? 7
                     : fault == LONG_HWID ? 0x18
                                          : 8,
        .hwid = {0x00, 0x00, 0x04, 0x00, 0xe1, 0xf0, 0x0c, 0x00},
        .hash_size = 32,
        .hash = {0xd9, 0x35, 0x7d, 0xb8, [31] = 0x11},
    };
    if (fault == ZERO_HWID)
        memset(m.hwid, 0, sizeof(m.hwid));
    return m;
}

static void test_identify(void **state)
{
    (void)state;
    struct modem modems[] = {
        sdx55(2, NONE, WHOLE),
        sdx55(1, NONE, WHOLE),
        sdx55(2, NONE, WHOLE),
        sdx55(2, NONE, LONG_HWID),
    };
    modems[2].stammer = 1;
    enum { N = ARRAY_SIZE(modems) };
    struct outcome o[N];
    struct peer_case cases[N];
    play(modems, o, cases, N);
    for (size_t i = 0; i < N; i++) {
        if (cases[i].r != 0)
            fail_msg("%zu: %s", i, cases[i].e.message);
        assert_int_equal(o[i].hello.max_packet, HELLO_AGAIN);
        assert_int_equal(o[i].identity.sahara_version, modems[i].version);
        assert_true(o[i].identity.have_serial);
        assert_int_equal(o[i].identity.serial, 0x49cbd7ef);
        assert_true(o[i].identity.have_hwid);
        assert_int_equal(o[i].identity.hwid, 0x000cf0e100040000);
        assert_int_equal(o[i].identity.pk_hash_size, 32);
        assert_memory_equal(o[i].identity.pk_hash, modems[i].hash, 32);
        assert_true(o[i].identity.complete);
        assert_false(o[i].identity.persuaded);
        assert_int_equal(modems[i].asked[10], 0);
        assert_true(cases[i].took < USEC_PER_SEC);
    }
}

static void test_chip_id_v3(void **state)
{
    (void)state;
    struct modem modems[] = {
        sdx55(3, NONE, WHOLE),
        sdx55(3, NONE, WHOLE),
        sdx55(4, NONE, WHOLE),
        sdx55(3, NONE, WHOLE),
    };
    static const uint8_t ids[] = {0xe1, 0x90, 0x19, 0x00, 0x04, 0x00, 0x07, 0x00, 0x29, 0x00};
    static const size_t sizes[] = {44, 46, 48, 43};
    for (size_t i = 0; i < ARRAY_SIZE(modems); i++) {
        modems[i].hwid_size = sizes[i];
        memset(modems[i].hwid, 0xa5, sizeof(modems[i].hwid));
        memcpy(modems[i].hwid + 36, ids, sizeof(ids));
    }
    memset(modems[1].hwid + 40, 0, 2); /* no OEM id: the alternative counts */
    enum { N = ARRAY_SIZE(modems) };
    struct outcome o[N];
    struct peer_case cases[N];
    play(modems, o, cases, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cases[i].r, 0);
        assert_int_equal(modems[i].asked[2], 0);
        assert_int_equal(modems[i].asked[10], 1);
        assert_int_equal(o[i].identity.have_hwid, i != 3);
    }
    assert_int_equal(o[0].identity.hwid, 0x001990e100040007);
    assert_int_equal(o[1].identity.hwid, 0x001990e100290007);
    assert_int_equal(o[2].identity.hwid, 0x001990e100040007);
}

static void test_pk_hash_forms(void **state)
{
    (void)state;
    static const struct {
        size_t sent, digest; /* as it is sent, and what it is */
        unsigned repeat;     /* how often the digest stands there; zeros behind */
        uint8_t last;        /* its last byte */
        size_t expected;
    } forms[] = {
        {32, 32, 1, 1, 32},
        {48, 48, 1, 1, 48},
        {64, 64, 1, 1, 64},
        {0x60, 32, 3, 1, 32},
        {0x60, 48, 2, 1, 48},
        {0xc0, 48, 4, 1, 48},
        {0xc0, 32, 6, 1, 32},
        {0x80, 64, 2, 1, 64},
        {0xc0, 64, 3, 1, 64},
        /* Zero padded, also where the digest itself ends with a zero. */
        {0x60, 32, 1, 1, 32},
        {0x60, 48, 1, 1, 48},
        {0xc0, 64, 1, 1, 64},
        {0x60, 48, 1, 0, 48},
        {64, 32, 1, 0, 32},
        /* A digest that ends with a zero and stands alone; one of several that is not whole at the end. */
        {32, 32, 1, 0, 32},
        {48, 48, 1, 0, 48},
        {0x80, 48, 2, 1, 48},
        /* No key; too little; too much. */
        {32, 32, 0, 0, 0},
        {0x60, 32, 0, 0, 0},
        {16, 16, 1, 1, 0},
    };
    enum { N = ARRAY_SIZE(forms) };
    static struct modem modems[N];
    for (size_t i = 0; i < N; i++) {
        modems[i] = sdx55(2, NONE, WHOLE);
        memset(modems[i].hash, 0, sizeof(modems[i].hash));
        modems[i].hash_size = forms[i].sent;
        for (unsigned k = 0; k < forms[i].repeat; k++)
            for (size_t b = 0; b < forms[i].digest; b++)
                modems[i].hash[k * forms[i].digest + b] =
                    b + 1 == forms[i].digest ? forms[i].last : (uint8_t)(b * 5 + 1);
    }
    struct outcome o[N];
    struct peer_case cases[N];
    play(modems, o, cases, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cases[i].r, 0);
        if (o[i].identity.pk_hash_size != forms[i].expected)
            fail_msg("form %zu: %zu bytes instead of %zu", i, o[i].identity.pk_hash_size, forms[i].expected);
        assert_memory_equal(o[i].identity.pk_hash, modems[i].hash, forms[i].expected);
    }
}

static void test_missing_parts(void **state)
{
    (void)state;
    struct modem modems[] = {
        sdx55(2, REFUSES_SECOND, WHOLE), sdx55(3, REFUSES_ALL, WHOLE),  sdx55(2, EMPTY_ALL, WHOLE),
        sdx55(2, HUGE_ALL, WHOLE),       sdx55(2, REFUSES_DATA, WHOLE), sdx55(2, NONE, SHORT_SERIAL),
        sdx55(2, NONE, SHORT_HWID),      sdx55(2, NONE, ZERO_HWID),
    };
    enum { N = ARRAY_SIZE(modems) };
    struct outcome o[N];
    struct peer_case cases[N];
    play(modems, o, cases, N);
    static const struct {
        bool serial, hwid, hash;
    } told[N] = {{1, 0, 1}, {0}, {0}, {0}, {0}, {0, 1, 1}, {1, 0, 1}, {1, 0, 1}};
    for (size_t i = 0; i < N; i++) {
        if (cases[i].r != 0)
            fail_msg("%zu: %s", i, cases[i].e.message);
        assert_int_equal(o[i].hello.max_packet, HELLO_AGAIN);
        assert_int_equal(o[i].identity.have_serial, told[i].serial);
        assert_int_equal(o[i].identity.have_hwid, told[i].hwid);
        assert_int_equal(o[i].identity.pk_hash_size, told[i].hash ? 32 : 0);
        assert_true(o[i].identity.complete);
        /* Every question is asked once, whatever became of the one before. */
        assert_int_equal(modems[i].asked[1], 1);
        assert_int_equal(modems[i].asked[3], 1);
        assert_true(cases[i].took < USEC_PER_SEC);
    }
}

/* The conversation broke off: the ladder brings the HELLO back, and what was told before is kept. */
static void test_back_to_hello(void **state)
{
    (void)state;
    struct modem modems[] = {
        sdx55(2, REFUSES_MODE, WHOLE),    sdx55(2, IGNORES_MODE, WHOLE), sdx55(2, OTHER_COMMAND, WHOLE),
        sdx55(2, SILENT_COMMAND, WHOLE),  sdx55(2, SILENT_DATA, WHOLE),  sdx55(2, SHORT_DATA, WHOLE),
        sdx55(2, GARBAGE_COMMAND, WHOLE), sdx55(2, SILENT_LEAVE, WHOLE), sdx55(2, REFUSES_LEAVE, WHOLE),
    };
    enum { N = ARRAY_SIZE(modems) };
    struct outcome o[N];
    struct peer_case cases[N];
    play(modems, o, cases, N);
    for (size_t i = 0; i < N; i++) {
        if (cases[i].r != 0)
            fail_msg("%zu: %s", i, cases[i].e.message);
        assert_int_equal(o[i].hello.max_packet, HELLO_AGAIN);
        bool left_late = modems[i].trouble == SILENT_LEAVE || modems[i].trouble == REFUSES_LEAVE;
        assert_int_equal(o[i].identity.have_serial, left_late);
        assert_int_equal(o[i].identity.have_hwid, left_late);
        assert_int_equal(o[i].identity.complete, left_late);
        assert_true(o[i].identity.persuaded);
        assert_true(cases[i].took < 5 * USEC_PER_SEC);
    }
}

/* A machine that is busy for a moment costs no part of the identity. */
static void test_slow(void **state)
{
    (void)state;
    struct modem m = sdx55(2, SLOW, WHOLE);
    struct outcome o;
    struct peer_case c;
    play(&m, &o, &c, 1);
    assert_int_equal(c.r, 0);
    assert_true(o.identity.have_serial && o.identity.have_hwid && o.identity.complete);
    assert_int_equal(o.identity.pk_hash_size, 32);
}

static void test_lost_for_good(void **state)
{
    (void)state;
    struct modem m = sdx55(2, LOST, WHOLE);
    struct outcome o;
    struct peer_case c;
    play(&m, &o, &c, 1);
    assert_int_equal(c.e.kind, ERROR_TIMEOUT);
    assert_int_equal(c.e.hint, HINT_POWER_CYCLE);
    assert_int_equal(o.hello.max_packet, 0x400); /* the old one stays */
    assert_false(o.identity.have_serial);
    assert_int_equal(o.identity.sahara_version, 2);
}

/* An old PBL: command mode refused, RESET_STATE_MACHINE unknown, and RESET restarts the chip. */
static void modem_restarts(struct peer *p, const void *arg)
{
    const struct modem *m = arg;
    pbl_expect_hello_resp(p, m->version, 3);
    PBL_SAY(p, PBL_END_IMAGE, 0, 0x01);
    PBL_EXPECT(p, PBL_RESET_STATE_MACHINE);
    PBL_SAY(p, PBL_END_IMAGE, 0, 0x01);
    PBL_EXPECT(p, PBL_RESET);
    PBL_SAY(p, PBL_RESET_RESP);
}

static void test_restart_on_the_way_back(void **state)
{
    (void)state;
    struct modem m = sdx55(2, NONE, WHOLE);
    struct peer_case c = {.name = "restarts", .modem = modem_restarts, .arg = &m, .host = host_identify};
    struct outcome o;
    peer_play(&c, 1);
    memcpy(&o, c.bytes, sizeof(o));
    assert_int_equal(c.e.kind, ERROR_MODEM_GONE);
    assert_int_equal(o.identity.sahara_version, 2);
    assert_true(o.identity.persuaded); /* told also with the error: that is why it went */
    assert_true(c.took < USEC_PER_SEC);
}

static void test_unplugged(void **state)
{
    (void)state;
    struct modem probe = sdx55(2, NONE, WHOLE);
    struct outcome o;
    struct peer_case c;
    play(&probe, &o, &c, 1);
    assert_int_equal(c.r, 0);
    assert_in_range(probe.n_events, 10, 20);
    unsigned told = 0;
    for (unsigned at = 1; at <= probe.n_events; at++) {
        struct modem m = sdx55(2, NONE, WHOLE);
        m.unplug_at = at;
        play(&m, &o, &c, 1);
        if (c.e.kind != ERROR_MODEM_GONE || c.r != -ENODEV)
            fail_msg("unplugged at %u of %u: %d %s", at, probe.n_events, c.r, c.e.message);
        assert_int_equal(o.hello.max_packet, 0x400);
        assert_true(c.took < USEC_PER_SEC);
        /* What was told before stays told. */
        unsigned now = o.identity.have_serial + o.identity.have_hwid + (o.identity.pk_hash_size > 0);
        assert_in_range(now, told, told + 1);
        told = now;
    }
    assert_int_equal(told, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identify),      cmocka_unit_test(test_chip_id_v3),
        cmocka_unit_test(test_pk_hash_forms), cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_back_to_hello), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_lost_for_good), cmocka_unit_test(test_restart_on_the_way_back),
        cmocka_unit_test(test_unplugged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
