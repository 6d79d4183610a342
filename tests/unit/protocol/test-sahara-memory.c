/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory debug mode; hostile tables as a whole are tests/service/test_dump.py's, with the virtual modem. */

#include "../sahara-modem.h"

#include "protocol/sahara-memory.h"

enum {
    MEMORY_READ = 0x0a,
    MEMORY_READ64 = 0x11,
    TABLE = 0x1000,
    BASE = 0x80000000,
    LARGE = 512 * 1024 + 700
};

static const struct sahara_hello hello2 = {.version = 2, .compatible = 1, .max_packet = 0x400, .mode = 2};

/* A modem with one region. */
struct lender {
    bool wide, zlp, refuses;
    uint64_t length, table_size; /* table_size 0: one entry */
};

static void put(uint8_t *at, uint64_t value, bool wide)
{
    value = htole64(value);
    memcpy(at, &value, wide ? 8 : 4);
}

static bool expect_read(struct peer *p, const struct lender *m, uint64_t address, uint64_t length)
{
    return m->wide ? PBL_EXPECT(p, MEMORY_READ64, (uint32_t)address, (uint32_t)(address >> 32),
                                (uint32_t)length, (uint32_t)(length >> 32))
                   : PBL_EXPECT(p, MEMORY_READ, (uint32_t)address, (uint32_t)length);
}

static uint8_t byte_at(uint64_t address)
{
    return (uint8_t)(address * 2654435761u >> 24);
}

static bool lend(struct peer *p, const struct lender *m, uint64_t address, uint64_t length)
{
    for (uint64_t done = 0; done < length;) {
        uint8_t data[4096];
        size_t n = (size_t)MIN_OF((uint64_t)sizeof(data), length - done);
        for (size_t i = 0; i < n; i++)
            data[i] = byte_at(address + done + i);
        if (!peer_say(p, data, n))
            return false;
        done += n;
    }
    return !m->zlp || length % 512 != 0 || peer_say(p, "", 0);
}

static void modem(struct peer *p, const void *arg)
{
    const struct lender *m = arg;
    uint8_t entry[64] = {0};
    size_t size = m->wide ? 64 : 52, number = m->wide ? 8 : 4;
    uint64_t told = m->table_size ? m->table_size : size;
    if (!pbl_expect_hello_resp(p, 2, 2))
        return;
    if (m->wide)
        PBL_SAY(p, PBL_MEMORY_DEBUG64, TABLE, 0, (uint32_t)told, (uint32_t)(told >> 32));
    else
        PBL_SAY(p, PBL_MEMORY_DEBUG, TABLE, (uint32_t)told);
    put(entry + number, BASE, m->wide);
    put(entry + 2 * number, m->length, m->wide);
    memcpy(entry + 3 * number, "words\nand more", 14);
    memcpy(entry + 3 * number + 20, "../x\0garbage", 12);
    if (m->table_size) {
        peer_be_silent(p);
        return;
    }
    if (!expect_read(p, m, TABLE, size) || !peer_say(p, entry, size))
        return;
    for (uint64_t done = 0, n; done < m->length; done += n) {
        n = MIN_OF((uint64_t)512 * 1024, m->length - done);
        if (!expect_read(p, m, BASE + done, n))
            return;
        if (m->refuses) {
            PBL_SAY(p, PBL_END_IMAGE, 0, 0x19);
            break;
        }
        if (!lend(p, m, BASE + done, n))
            return;
    }
    peer_be_silent(p);
}

struct taken {
    uint64_t n, wrong;
};

static int take(void *userdata, const void *data, size_t size, struct error *e)
{
    struct taken *t = userdata;
    (void)e;
    for (size_t i = 0; i < size; i++)
        t->wrong += ((const uint8_t *)data)[i] != byte_at(BASE + t->n + i);
    t->n += size;
    return 0;
}

static void host(struct peer_case *c, struct transport *t)
{
    struct sahara_memory m = {0};
    struct taken taken = {0};
    c->r = sahara_memory_open(t, &hello2, &m, &c->e);
    if (c->r == 0 && m.n_regions == 1) {
        c->numbers[3] = strcmp(m.regions[0].name, "_._x") == 0;
        c->numbers[4] = strcmp(m.regions[0].description, "words?and more") == 0;
        c->r = sahara_memory_read(t, &m, &m.regions[0], take, &taken, &c->e);
    }
    c->numbers[0] = taken.n;
    c->numbers[1] = taken.wrong;
    c->numbers[2] = m.left_out;
    c->numbers[5] = m.n_regions > 0 && m.regions[0].name[0] == '.';
    sahara_memory_done(&m);
}

static void test_regions(void **state)
{
    (void)state;
    static const struct lender lenders[] = {
        {.wide = true, .length = 100},
        {.length = 100},
        {.wide = true, .length = 1024, .zlp = true},
        {.wide = true, .length = LARGE, .zlp = true},
        {.length = LARGE},
    };
    struct peer_case cases[ARRAY_SIZE(lenders)] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(lenders); i++)
        cases[i] = (struct peer_case){.name = "a region", .modem = modem, .arg = &lenders[i], .host = host};
    peer_play(cases, ARRAY_SIZE(cases));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(cases[i].r, 0);
        assert_int_equal(cases[i].numbers[0], lenders[i].length);
        assert_int_equal(cases[i].numbers[1], 0);
        assert_true(cases[i].numbers[3] && cases[i].numbers[4] && !cases[i].numbers[5]);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct lender lender = {.wide = true, .length = 5000, .refuses = true};
    struct peer_case c = {.name = "refused", .modem = modem, .arg = &lender, .host = host};
    peer_play(&c, 1);
    assert_int_equal(c.e.kind, ERROR_SAHARA_FAILED);
    assert_non_null(strstr(c.e.message, "invalid memory read"));
    assert_int_equal(c.numbers[0], 0);
}

/* What the modem says of its table is held to bounds before a byte of it is asked for. */
static void test_tables_that_are_none(void **state)
{
    (void)state;
    static const struct lender lenders[] = {
        {.wide = true, .table_size = UINT64_MAX - 63},
        {.wide = true, .table_size = 65},
        {.wide = true, .table_size = 64 * 1024 + 64},
        {.table_size = UINT32_MAX},
        {.table_size = 53},
    };
    struct peer_case cases[ARRAY_SIZE(lenders)] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(lenders); i++)
        cases[i] = (struct peer_case){.name = "no table", .modem = modem, .arg = &lenders[i], .host = host};
    peer_play(cases, ARRAY_SIZE(cases));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(cases[i].e.kind, ERROR_SAHARA_FAILED);
}

/* Empty, or beyond every bound: left out. */
static void test_regions_that_are_none(void **state)
{
    (void)state;
    static const struct lender lenders[] = {
        {.wide = true, .length = 0},
        {.wide = true, .length = UINT64_MAX - 5},
        {.wide = true, .length = (UINT64_C(4) << 30) + 1},
        {.length = 0x80000001},
    };
    struct peer_case cases[ARRAY_SIZE(lenders)] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(lenders); i++)
        cases[i] = (struct peer_case){.name = "no region", .modem = modem, .arg = &lenders[i], .host = host};
    for (size_t i = 0; i < ARRAY_SIZE(lenders); i++) {
        /* The modem waits for reads that never come: the host hangs up. */
        peer_play(&cases[i], 1);
        assert_int_equal(cases[i].r, 0);
        assert_int_equal(cases[i].numbers[2], 1);
        assert_int_equal(cases[i].numbers[0], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tables_that_are_none),
        cmocka_unit_test(test_regions_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
