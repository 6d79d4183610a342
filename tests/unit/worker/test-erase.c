/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "flash-fixture.h"

enum { STEP_ERASE_BOOT = 4, STEP_ERASE_MISC = 5, STEP_ERASE_SYSTEM = 6, STEP_WRITE_BOOT = 7 };

static const struct plan_step *step(struct fixture *x, size_t i)
{
    return &x->plan.steps[i];
}

static unsigned count(struct fixture *x, enum fake_verb verb)
{
    unsigned n = 0;
    for (size_t i = 0; i < x->nand->n_commands; i++)
        n += x->nand->commands[i].verb == verb;
    return n;
}

static void test_one_command_or_one_a_block(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    x->nand->bad[MISC + 1] = true;
    fix_start(x);
    assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_BOOT), &e), 0);
    assert_int_equal(count(x, FAKE_ERASE), 1);
    assert_true(fix_is_erased(x, BOOT, 8));
    assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    assert_int_equal(count(x, FAKE_ERASE), 1 + 3);
    for (size_t i = 1; i < x->nand->n_commands; i++) {
        const struct firehose_range *r = &x->nand->commands[i].range;
        assert_int_equal(r->last, r->start + FIX_PAGES_PER_BLOCK - 1);
        assert_int_not_equal(r->start / FIX_PAGES_PER_BLOCK, MISC + 1);
    }
    assert_true(fix_is_erased(x, MISC, 4));
    fix_free(x);
}

static void test_ack_without_erase(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e = {0};
    uint64_t block = 0;
    fix_start(x);
    x->nand->stubborn[MISC + 2] = true;
    assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 0);
    assert_int_equal(block, MISC + 2);
    unsigned erases = count(x, FAKE_ERASE);
    assert_int_equal(erase_ensure(&x->flash, step(x, STEP_ERASE_MISC), &e), -EPROTO);
    assert_int_equal(count(x, FAKE_ERASE), erases + 1); /* its second chance, and no third */
    assert_int_equal(e.hint, HINT_CONTACT_VENDOR);
    assert_non_null(strstr(e.message, "block 24 of misc"));
    x->nand->stubborn[MISC + 2] = false;
    assert_int_equal(erase_ensure(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    assert_true(fix_is_erased(x, MISC, 4));
    fix_free(x);
}

/* First and last page: a block that an interrupted erase left half full is seen by either. */
static void test_both_ends_of_a_block(void **state)
{
    (void)state;
    for (unsigned page = 0; page < FIX_PAGES_PER_BLOCK; page += FIX_PAGES_PER_BLOCK - 1) {
        struct fixture *x = fix_new();
        struct error e;
        uint64_t block;
        fix_start(x);
        assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
        assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 1);
        fake_put(x->nand, (MISC + 3) * FIX_PAGES_PER_BLOCK + page, "old", 3);
        assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 0);
        assert_int_equal(block, MISC + 3);
        fix_free(x);
    }
}

/* Two neighbours share a command, and neither speaks for the other: wherever one page in a partition is not
 * erased, its own block is told. */
static void test_looks_share_commands(void **state)
{
    (void)state;
    const uint32_t ends[] = {0, FIX_PAGES_PER_BLOCK - 1};
    struct error e;
    uint64_t block;
    for (unsigned bad = 0; bad <= 4; bad++) /* 4: none */
        for (unsigned i = 0; i < 4; i++)
            for (size_t k = 0; k < ARRAY_SIZE(ends); k++) {
                struct fixture *x = fix_new();
                x->nand->bad[MISC + bad] = bad < 4;
                fix_start(x);
                assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
                unsigned before = count(x, FAKE_READ);
                assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 1);
                /* One more than there are good blocks; an inner bad one parts them. */
                assert_int_equal(count(x, FAKE_READ) - before, bad == 0 || bad == 3 ? 4 : 5);
                fake_put(x->nand, (MISC + i) * FIX_PAGES_PER_BLOCK + ends[k], "old", 3);
                assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), i == bad);
                if (i != bad)
                    assert_int_equal(block, MISC + i);
                fix_free(x);
            }
}

static void test_fill(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    uint64_t block;
    x->nand->erased_fill = 0xee;
    fix_start(x);
    assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 0); /* not known yet */
    assert_int_equal(erase_probe_fill(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    assert_int_equal(x->session.erased_fill, 0xee);
    assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 1);
    fix_free(x);
}

/* A block that went bad under the image moves its end by one: that block is the image's, and must not be
 * erased. */
static void test_shifted_image_is_not_stale(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    x->nand->goes_bad_block = BOOT + 1;
    x->nand->goes_bad_armed = true;
    assert_int_equal(steps_run(&x->flash, &e), 0);
    assert_true(x->nand->bad[BOOT + 1]);
    fix_assert_complete(x);
    assert_int_equal(erase_new_bad(&x->flash), 1);
    for (size_t i = 0; i < x->nand->n_commands; i++)
        if (x->nand->commands[i].verb == FAKE_ERASE)
            assert_int_not_equal(x->nand->commands[i].range.start / FIX_PAGES_PER_BLOCK, BOOT + 4);
    fix_free(x);
}

static void test_dying_flash(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e = {0};
    x->nand->bad[SYSTEM] = true; /* known before: does not count */
    fix_start(x);
    x->nand->bad[SYSTEM + 1] = x->nand->bad[SYSTEM + 2] = x->nand->bad[SYSTEM + 3] = true;
    assert_int_equal(erase_read_map(&x->flash, SYSTEM, 14, &e), 0);
    assert_int_equal(erase_new_bad(&x->flash), 3);
    x->nand->bad[SYSTEM + 4] = true;
    assert_int_equal(erase_read_map(&x->flash, SYSTEM, 14, &e), -EPROTO);
    assert_int_equal(e.hint, HINT_CONTACT_VENDOR);
    assert_non_null(strstr(e.message, "4 blocks"));
    fix_free(x);
}

/* It went bad between the map and the look: not a failure of the erase. */
static void test_goes_bad_after_the_erase(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    uint64_t block;
    fix_start(x);
    assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    x->nand->bad[MISC] = true;
    assert_int_equal(erase_check(&x->flash, step(x, STEP_ERASE_MISC), &block, &e), 1);
    assert_true(nand_map_is_bad(&x->flash.map, MISC));
    fix_free(x);
}

static void test_error_logs_are_counted(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    x->nand->bad[MISC] = true; /* behind our back: the erase is ACKed and says ERROR */
    assert_int_equal(erase_range(&x->flash, step(x, STEP_ERASE_MISC), &e), 0);
    assert_int_equal(x->flash.error_logs, 1);
    assert_non_null(strstr(fix_log, "out of good blocks"));
    assert_int_equal(firehose_error_count(x->nand), 0);
    fix_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_command_or_one_a_block), cmocka_unit_test(test_ack_without_erase),
        cmocka_unit_test(test_both_ends_of_a_block),       cmocka_unit_test(test_fill),
        cmocka_unit_test(test_shifted_image_is_not_stale), cmocka_unit_test(test_dying_flash),
        cmocka_unit_test(test_goes_bad_after_the_erase),   cmocka_unit_test(test_error_logs_are_counted),
        cmocka_unit_test(test_looks_share_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
