/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "worker/save.h"

static const struct mibib_table table = {
    .partitions = {{"sbl", 0, 10, false},
                   {"MIBIB", 10, 10, false},
                   {"EFS2", 20, 44, false},
                   {"boot", 70, 5, false},
                   {"devinfo", 80, 1, false},
                   {"system", 100, 0, true}},
    .n_partitions = 6,
};

static char *list(struct save *s)
{
    static char text[4096];
    text[0] = '\0';
    for (size_t i = 0; i < s->n_ranges; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s@%llu+%llu ", s->ranges[i].name,
                 (unsigned long long)s->ranges[i].first_block, (unsigned long long)s->ranges[i].n_blocks);
    return text;
}

static void test_always(void **state _unused_)
{
    struct save s = {0};
    assert_int_equal(save_add_always(&s, &table, NULL), 0);
    assert_string_equal(list(&s), "sbl@0+10 MIBIB@10+10 EFS2@20+44 devinfo@80+1 ");
    save_done(&s);
}

static void test_named(void **state _unused_)
{
    struct save s = {0};
    struct error e = {0};
    const struct mibib_union own = {{&table}, 1}, none = {{NULL}, 0};
    assert_int_equal(save_add_named(&s, &own, "boot,0:efs2,EFS2", &e), 0);
    assert_string_equal(list(&s), "EFS2@20+44 boot@70+5 ");
    assert_int_equal(save_add_named(&s, &own, "bootx", &e), -EINVAL);
    assert_int_equal(save_add_named(&s, &none, "boot", &e), -EINVAL);
    assert_int_equal(save_add_named(&s, &own, "a-name-that-is-longer-than-any-in-a-table", &e), -EINVAL);
    save_done(&s);
}

/* Every block once, whatever the table leaves out. */
static void test_all(void **state _unused_)
{
    const struct mibib_table *tables[] = {&table, NULL};
    for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
        for (uint64_t blocks = 128; blocks <= 65536; blocks *= 2) {
            struct save s = {0};
            uint64_t at = 0;
            assert_int_equal(save_add_all(&s, tables[t], blocks, NULL), 0);
            assert_true(s.n_ranges <= BACKUP_PARTS_MAX);
            for (size_t i = 0; i < s.n_ranges; i++) {
                assert_int_equal(s.ranges[i].first_block, at);
                at += s.ranges[i].n_blocks;
            }
            assert_true(at >= blocks);
            save_done(&s);
        }
}

static void test_overlap(void **state _unused_)
{
    struct save s = {0};
    assert_int_equal(save_add(&s, "a", 10, 10, NULL), 0);
    assert_int_equal(save_add(&s, "inside", 12, 3, NULL), 0);
    assert_int_equal(save_add(&s, "behind", 15, 10, NULL), 0);
    assert_int_equal(save_add(&s, "before", 5, 10, NULL), 0);
    assert_string_equal(list(&s), "blocks-5-9@5+5 a@10+10 blocks-20-24@20+5 ");
    /* Around what is there, and behind it. */
    assert_int_equal(save_add(&s, "wide", 2, 30, NULL), 0);
    assert_string_equal(list(&s),
                        "blocks-2-4@2+3 blocks-5-9@5+5 a@10+10 blocks-20-24@20+5 blocks-25-31@25+7 ");
    /* No name twice: a file of that name is there. */
    assert_int_equal(save_add(&s, "A", 40, 2, NULL), 0);
    assert_string_equal(list(&s), "blocks-2-4@2+3 blocks-5-9@5+5 a@10+10 blocks-20-24@20+5 blocks-25-31@25+7 "
                                  "blocks-40-41@40+2 ");
    save_done(&s);
}

/* Of another table: only what is the unit's own, and only where it is not saved already. */
static void test_unit_data_elsewhere(void **state _unused_)
{
    const struct mibib_table other = {
        .partitions = {{"SBL", 0, 12, false}, {"EFS2", 60, 20, false}, {"boot", 90, 5, false}},
        .n_partitions = 3,
    };
    struct save s = {0};
    assert_int_equal(save_add_always(&s, &table, NULL), 0);
    assert_int_equal(save_add_unit_data(&s, &other, NULL), 0);
    assert_string_equal(list(&s), "sbl@0+10 MIBIB@10+10 EFS2@20+44 blocks-64-79@64+16 devinfo@80+1 ");
    /* Neither is taken from what an earlier job has read. */
    for (size_t i = 0; i < s.n_ranges; i++)
        assert_int_equal(s.ranges[i].unit_data, i == 2 || i == 3);
    save_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_always),
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_unit_data_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
