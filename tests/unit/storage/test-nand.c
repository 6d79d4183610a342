/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <cmocka.h>
#include "../fake-firehose.h"
#include "storage/nand.h"

static void test_geometry_names(void **state)
{
    (void)state;
    struct nand_geometry g = {4096, 64, 2048};
    char name[32];
    nand_geometry_name(&g, name, sizeof(name));
    assert_string_equal(name, "p4K_b256K");

    static const struct {
        const char *name;
        uint32_t page_size, pages_per_block;
    } good[] = {
        {"p4K_b256K", 4096, 64},
        {"p2K_b128K", 2048, 64},
        {"partition_complete_p2K_b128K.mbn", 2048, 64},
        {"rawprogram_nand_p4K_b256K_update.xml", 4096, 64},
        {"p8K_b8K", 8192, 1},
        {"p_p4K_b256K", 4096, 64},
        {"p4K_b25_p2K_b128K.xml", 2048, 64},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct nand_geometry parsed = {.blocks = 7};
        assert_int_equal(nand_geometry_parse(good[i].name, &parsed), 0);
        assert_int_equal(parsed.page_size, good[i].page_size);
        assert_int_equal(parsed.pages_per_block, good[i].pages_per_block);
        assert_int_equal(parsed.blocks, 0);
    }

    static const char *const bad[] = {
        "",           "p4K",        "p4K_b256",          "p0K_b256K",
        "p4K_b2K",    "p3K_b192K",  "p04K_b256K",        "P4K_B256K",
        "xp4K_b256K", "p4K_b256Kx", "p4K_b99999999999K", "p99999999999999999999K_b256K",
        "p-4K_b256K"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct nand_geometry parsed = {.page_size = 7};
        assert_int_equal(nand_geometry_parse(bad[i], &parsed), -EINVAL);
        assert_int_equal(parsed.page_size, 7);
    }
}

static void test_capabilities(void **state)
{
    (void)state;
    static const char file[] = "\0\1skip_bad_block\0getsha256digest\0last_secto";
    struct nand_capabilities c;
    nand_capabilities_read(file, sizeof(file), &c);
    assert_true(c.skip_bad_block && c.digest);
    assert_false(c.last_sector || c.vendor_check || c.pages_per_block);
    nand_capabilities_read("", 0, &c);
    assert_false(c.skip_bad_block || c.digest || c.last_sector || c.vendor_check || c.pages_per_block);
}

static void test_page_states(void **state)
{
    (void)state;
    uint8_t page[64];
    static const struct {
        uint8_t value, fill;
        enum nand_page_state state;
    } rows[] = {
        {0xff, 0xee, NAND_PAGE_ERASED}, {0xff, 0xff, NAND_PAGE_ERASED},     {0xee, 0xee, NAND_PAGE_ERASED},
        {0xee, 0xff, NAND_PAGE_DATA},   {0xfa, 0xee, NAND_PAGE_UNREADABLE}, {0xbd, 0xff, NAND_PAGE_BAD},
        {0x00, 0xff, NAND_PAGE_DATA},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        memset(page, rows[i].value, sizeof(page));
        assert_int_equal(nand_page_state(page, sizeof(page), rows[i].fill), rows[i].state);
        page[sizeof(page) - 1] ^= 1;
        assert_int_equal(nand_page_state(page, sizeof(page), rows[i].fill), NAND_PAGE_DATA);
    }
    assert_int_equal(nand_page_state(page, 0, 0xff), NAND_PAGE_DATA);
}

static void test_map(void **state)
{
    (void)state;
    struct nand_map m;
    assert_int_equal(nand_map_init(&m, 19), 0);
    for (uint64_t b = 0; b < 19; b++)
        assert_false(nand_map_is_bad(&m, b) || nand_map_is_known(&m, b));
    assert_true(nand_map_is_bad(&m, 19));
    nand_map_set(&m, 18, true);
    nand_map_set(&m, 8, true);
    nand_map_set(&m, 7, false);
    nand_map_set(&m, 19, true);
    assert_true(nand_map_is_bad(&m, 18) && nand_map_is_bad(&m, 8) && nand_map_is_known(&m, 7));
    assert_false(nand_map_is_bad(&m, 7) || nand_map_is_known(&m, 9));
    assert_int_equal(nand_map_count_bad(&m, 0, 19), 2);
    assert_int_equal(nand_map_count_bad(&m, 8, 10), 1);
    assert_int_equal(nand_map_good(&m, 0, 0), 0);
    assert_int_equal(nand_map_good(&m, 8, 0), 9);
    assert_int_equal(nand_map_good(&m, 5, 3), 9);
    assert_int_equal(nand_map_good(&m, 10, 7), 17);
    assert_int_equal(nand_map_good(&m, 10, 8), 19); /* there are not so many */
    assert_int_equal(nand_map_good(&m, 30, 1), 30);
    nand_map_set(&m, 8, false);
    assert_false(nand_map_is_bad(&m, 8));
    nand_map_done(&m);
    assert_int_equal(nand_map_init(&m, UINT64_MAX), -EFBIG);
}

static void test_read_map(void **state)
{
    (void)state;
    struct firehose *f = fake_new(512, 4, 16);
    uint8_t bd[512];
    memset(bd, 0xbd, sizeof(bd));
    f->bad[5] = f->bad[9] = true;
    fake_put(f, 6 * 4, bd, sizeof(bd)); /* an image page that happens to look bad */
    f->erased_fill = 0xee;

    struct nand_map m;
    struct nand_capabilities caps = {.skip_bad_block = true};
    struct error e;
    assert_int_equal(nand_map_init(&m, 16), 0);
    assert_int_equal(nand_read_map(f, &f->g, &caps, 4, 5, &m, &e), 0);
    assert_true(nand_map_is_bad(&m, 5));
    assert_int_equal(nand_map_count_bad(&m, 0, 16), 1); /* 9 was not looked at */
    assert_true(nand_map_is_known(&m, 4) && nand_map_is_known(&m, 8));
    assert_false(nand_map_is_known(&m, 3) || nand_map_is_known(&m, 9));
    for (size_t i = 0; i < f->n_commands; i++)
        assert_int_equal(f->commands[i].range.last % 4, 3);

    assert_int_equal(nand_read_map(f, &f->g, &caps, 12, 5, &m, &e), -EINVAL);
    assert_int_equal(nand_read_map(f, &f->g, &caps, UINT64_MAX, 2, &m, &e), -EINVAL);
    caps.skip_bad_block = false;
    assert_int_equal(nand_read_map(f, &f->g, &caps, 0, 1, &m, &e), -EOPNOTSUPP);
    caps.skip_bad_block = true;
    /* A page that is refused cannot be read; a bad block would show its fill. */
    f->fail_at = (unsigned)f->n_commands + 1;
    assert_int_equal(nand_read_map(f, &f->g, &caps, 0, 1, &m, &e), 0);
    assert_true(nand_map_is_known(&m, 0) && !nand_map_is_bad(&m, 0));
    f->fail_at = (unsigned)f->n_commands + 1; /* of the two around block 5 */
    assert_int_equal(nand_read_map(f, &f->g, &caps, 4, 2, &m, &e), 0);
    assert_true(nand_map_is_bad(&m, 5) && !nand_map_is_bad(&m, 4));
    f->fail_at = (unsigned)f->n_commands + 1;
    f->fail_with = -ENODEV;
    assert_int_equal(nand_read_map(f, &f->g, &caps, 0, 1, &m, &e), -ENODEV);
    f->fail_at = (unsigned)f->n_commands + 1;
    assert_int_equal(nand_read_map(f, &f->g, &caps, 4, 2, &m, &e), -ENODEV);
    assert_int_equal(firehose_error_count(f), 0);
    nand_map_done(&m);
    fake_free(f);
}

/* Blocks of nothing but 0xBD, as an image may hold them, are not bad; only they cost one read more. */
static void test_read_map_of_such_data(void **state)
{
    (void)state;
    struct firehose *f = fake_new(512, 4, 16);
    struct nand_capabilities caps = {.skip_bad_block = true, .last_sector = true};
    struct nand_map m;
    struct error e;
    uint8_t bd[512];
    memset(bd, 0xbd, sizeof(bd));
    for (uint64_t page = 6 * 4; page < 8 * 4; page++)
        fake_put(f, page, bd, sizeof(bd));
    f->bad[8] = true;
    assert_int_equal(nand_map_init(&m, 16), 0);
    assert_int_equal(nand_read_map(f, &f->g, &caps, 0, 16, &m, &e), 0);
    assert_false(nand_map_is_bad(&m, 6) || nand_map_is_bad(&m, 7));
    assert_true(nand_map_is_bad(&m, 8));
    assert_int_equal(nand_map_count_bad(&m, 0, 16), 1);
    assert_int_equal(f->n_commands, 16 / 2 + 3 * 3); /* two with one command, and three each for 6, 7 and 8 */
    /* A modem that goes away at the last look has no bad block for that. */
    f->n_commands = 0;
    f->fail_at = 3;
    f->fail_with = -ENODEV;
    nand_map_set(&m, 8, false);
    assert_int_equal(nand_read_map(f, &f->g, &caps, 8, 1, &m, &e), -ENODEV);
    assert_false(nand_map_is_bad(&m, 8));
    nand_map_done(&m);
    fake_free(f);
}

static void test_range(void **state)
{
    (void)state;
    struct nand_geometry g = {4096, 64, 2048};
    struct firehose_range r = nand_range(&g, 10, 3);
    assert_int_equal(r.sector_size, 4096);
    assert_int_equal(r.pages_per_block, 64);
    assert_int_equal(r.start, 640);
    assert_int_equal(r.count, 192);
    assert_int_equal(r.last, 831);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_geometry_names), cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_page_states),    cmocka_unit_test(test_map),
        cmocka_unit_test(test_read_map),       cmocka_unit_test(test_read_map_of_such_data),
        cmocka_unit_test(test_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
