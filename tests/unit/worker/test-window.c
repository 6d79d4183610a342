/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "worker/window.h"

#define S  USEC_PER_SEC
#define MS USEC_PER_MSEC

static const unsigned program = WINDOW_WORK(WINDOW_PROGRAM);

/* Nobody ever said anything of a window: nothing has an end. */
static void test_without_a_window(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 0, 0);
    window_open(&w, 100 * S);
    assert_false(window_is_known(&w));
    assert_int_equal(window_length(&w), 0);
    assert_true(window_deadline(&w) == USEC_INFINITY && window_overdue(&w) == USEC_INFINITY);
    assert_int_equal(window_fit(&w, program, 590, 4000 * S), 590);
    assert_true(window_has_room(&w, 3600 * S, 4000 * S));
    /* Gone once: anything may have been the reason. */
    window_close(&w, 103 * S, false);
    window_open(&w, 110 * S);
    assert_false(window_is_known(&w));
    assert_true(window_deadline(&w) == USEC_INFINITY);
    /* Twice: that is a loop; the shorter one counts. */
    window_close(&w, 116 * S, false);
    window_open(&w, 120 * S);
    assert_true(window_is_known(&w));
    assert_int_equal(window_length(&w), 3 * S);
}

/* Sent away by us is no measure, neither of a loop nor of its length. */
static void test_our_own_doing(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 0, 0);
    for (int i = 1; i < 5; i++) {
        window_open(&w, (usec_t)i * 10 * S);
        window_close(&w, (usec_t)i * 10 * S + 2 * S, true);
    }
    assert_false(window_is_known(&w));
    window_close(&w, 90 * S, false); /* of nothing */
    assert_int_equal(w.losses, 0);
}

static void test_margin(void **state)
{
    (void)state;
    static const struct {
        usec_t window, end;
    } cases[] = {{14 * S, 12600 * MS}, {6 * S, 5400 * MS}, {3 * S, 2700 * MS}, {2 * S, 1700 * MS},
                 {300 * MS, 0},        {100 * MS, 0},      {301 * MS, 1 * MS}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct window w;
        window_init(&w, cases[i].window, 20 * S);
        window_open(&w, 50 * S);
        assert_true(window_is_known(&w));
        assert_int_equal(window_deadline(&w), 50 * S + cases[i].end);
        assert_true(window_overdue(&w) > 50 * S + cases[i].window);
        assert_int_equal(window_fit(&w, program, 9, 50 * S + cases[i].end), 0);
        assert_false(window_has_room(&w, 0, 50 * S + cases[i].end));
    }
}

/* The last few measures count, the shortest of them but for one. */
static void test_measures(void **state)
{
    (void)state;
    static const usec_t lengths[] = {5 * S, 7 * S, 6 * S, 7 * S, 7 * S, 7 * S};
    static const usec_t expected[] = {5 * S, 7 * S, 6 * S, 6 * S, 7 * S, 7 * S};
    struct window w;
    usec_t now = 100 * S;
    window_init(&w, 9 * S, 0);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        window_open(&w, now);
        now += lengths[i];
        window_close(&w, now, false);
        now += 3 * S;
        window_open(&w, now);
        assert_int_equal(window_length(&w), expected[i]);
        window_close(&w, now, true);
    }
}

/* A modem that stays is held, or has longer windows too. */
static void test_outlived(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_open(&w, 100 * S);
    window_close(&w, 102 * S, false);
    window_open(&w, 110 * S);
    assert_int_equal(window_length(&w), 2 * S);
    window_outlived(&w);
    assert_int_equal(window_length(&w), 6 * S);
    assert_int_equal(window_deadline(&w), 110 * S + 5400 * MS);
    window_outlived(&w);
    assert_int_equal(window_length(&w), 0);
    assert_true(window_deadline(&w) == USEC_INFINITY && window_is_known(&w));
    assert_int_equal(window_fit(&w, program, 590, 200 * S), 590);
    /* Only in this one; but with a third measure the short one is an outlier. */
    window_close(&w, 300 * S, true);
    window_open(&w, 310 * S);
    assert_int_equal(window_length(&w), 2 * S);
    window_close(&w, 320 * S, false);
    window_open(&w, 330 * S);
    assert_int_equal(window_length(&w), 6 * S);
}

/* One that differs by less than the margin is no other window. */
static void test_outlived_alike(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_open(&w, 100 * S);
    window_close(&w, 105 * S + 900 * MS, false);
    window_open(&w, 110 * S);
    window_outlived(&w);
    assert_int_equal(window_length(&w), 0);
}

static void test_absence(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 10 * S);
    window_open(&w, 100 * S);
    assert_false(window_was_long_absent(&w));
    window_close(&w, 106 * S, false);
    window_open(&w, 110 * S);
    assert_int_equal(w.absent, 4 * S);
    assert_false(window_was_long_absent(&w));
    window_close(&w, 116 * S, false);
    window_open(&w, 150 * S);
    assert_true(window_was_long_absent(&w));
    /* Its loop takes so long: were it in doubt each time, nothing would ever be verified to the end. */
    window_close(&w, 156 * S, false);
    window_open(&w, 190 * S);
    assert_false(window_was_long_absent(&w));
    window_close(&w, 196 * S, false);
    window_open(&w, 299 * S);
    assert_true(window_was_long_absent(&w));
    window_init(&w, 0, 0);
    window_open(&w, 1 * S);
    window_close(&w, 2 * S, false);
    window_open(&w, 61 * S);
    assert_false(window_was_long_absent(&w));
    window_close(&w, 62 * S, false);
    window_open(&w, 123 * S);
    assert_true(window_was_long_absent(&w));
}

static void test_fit(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_open(&w, 100 * S);
    /* Unknown rates are a slow modem's: 1 MB/s and a quarter to spare. */
    assert_int_equal(window_cost(&w, program, 4), 5 * 256 * 1024);
    window_set_block_size(&w, 128 * 1024);
    assert_int_equal(window_cost(&w, program, 4), 5 * 128 * 1024);
    assert_int_equal(window_fit(&w, program, 500, 101 * S), 1);
    /* 40 ms a block, 10 ms a look: no piece longer than a quarter of 5.4 s, none beyond what is left. */
    window_took(&w, WINDOW_PROGRAM, 10, 400 * MS);
    window_took(&w, WINDOW_LOOK, 10, 100 * MS);
    const unsigned both = program | WINDOW_WORK(WINDOW_LOOK);
    assert_int_equal(window_cost(&w, both, 4), 250 * MS);
    assert_int_equal(window_fit(&w, both, 500, 101 * S), 5400 * MS / 4 / (62500));
    assert_int_equal(window_fit(&w, both, 7, 101 * S), 7);
    assert_int_equal(window_fit(&w, both, 500, 105 * S + 150 * MS), 4);
    assert_int_equal(window_fit(&w, both, 500, 105 * S + 338 * MS), 0);
    /* A block that needs more than a quarter is tried all the same. */
    window_took(&w, WINDOW_PROGRAM, 1, 2 * S);
    assert_int_equal(window_fit(&w, program, 500, 101 * S), 1);
    assert_int_equal(window_fit(&w, program, 500, 103 * S), 0);
    assert_true(window_has_room(&w, 2400 * MS, 103 * S));
    assert_false(window_has_room(&w, 2401 * MS, 103 * S));
}

static void test_costs(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_took(&w, WINDOW_ERASE, 0, 5 * S);
    assert_int_equal(w.cost[WINDOW_ERASE], 10 * MS);
    window_took(&w, WINDOW_ERASE, 4, 8 * MS);
    assert_int_equal(w.cost[WINDOW_ERASE], 2 * MS);
    window_took(&w, WINDOW_ERASE, 1, 6 * MS); /* slower: at once */
    assert_int_equal(w.cost[WINDOW_ERASE], 6 * MS);
    window_took(&w, WINDOW_ERASE, 1, 2 * MS);
    assert_int_equal(w.cost[WINDOW_ERASE], 4 * MS);
    window_set_block_size(&w, 131072);
    assert_int_equal(w.cost[WINDOW_ERASE], 4 * MS);
    assert_int_equal(w.cost[WINDOW_PROGRAM], 131072);
}

/* Three windows without an accepted piece: half of it; down to one block, and then it is too short. */
static void test_in_vain(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_open(&w, 100 * S);
    window_took(&w, WINDOW_PROGRAM, 1, 1 * MS);
    for (uint64_t piece = 20; piece > 1; piece /= 2)
        for (int i = 1; i <= WINDOW_VAIN_MAX; i++) {
            window_begun(&w, piece);
            window_begun(&w, 1);
            assert_int_equal(window_in_vain(&w), i < WINDOW_VAIN_MAX ? WINDOW_GO_ON : WINDOW_SMALLER);
            assert_int_equal(window_fit(&w, program, 20, 101 * S), i < WINDOW_VAIN_MAX ? piece : piece / 2);
        }
    window_begun(&w, 1);
    assert_int_equal(window_in_vain(&w), WINDOW_GO_ON);
    window_accepted(&w);
    for (int i = 1; i <= WINDOW_VAIN_MAX; i++) {
        window_begun(&w, 1);
        assert_int_equal(window_in_vain(&w), i < WINDOW_VAIN_MAX ? WINDOW_GO_ON : WINDOW_TOO_SHORT);
    }
}

/* Costs that were measured in a bad moment do not keep the job from trying for ever. */
static void test_costs_in_doubt(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_open(&w, 100 * S);
    window_took(&w, WINDOW_PROGRAM, 1, 10 * S);
    assert_int_equal(window_fit(&w, program, 5, 100 * S), 0);
    assert_int_equal(window_in_vain(&w), WINDOW_GO_ON);
    assert_int_equal(window_fit(&w, program, 5, 100 * S), 1);
    window_begun(&w, 1);
    assert_int_equal(window_in_vain(&w), WINDOW_GO_ON);
    assert_int_equal(w.cost[WINDOW_PROGRAM], 2500 * MS); /* it was tried now: no more doubt */
}

/* The size of a block is told in every appearance. */
static void test_doubt_outlives_the_window(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 6 * S, 0);
    window_set_block_size(&w, 131072);
    assert_int_equal(window_in_vain(&w), WINDOW_GO_ON);
    window_set_block_size(&w, 131072);
    assert_int_equal(w.cost[WINDOW_PROGRAM], 131072 / 4);
}

/* What was cut off takes longer than that; when it was cut off at once nothing is learned. */
static void test_cut_off(void **state _unused_)
{
    struct window w;
    window_init(&w, 3 * USEC_PER_SEC, 0);
    window_took(&w, WINDOW_PROGRAM, 1, 100 * USEC_PER_MSEC);
    usec_t before = window_cost(&w, WINDOW_WORK(WINDOW_PROGRAM), 4);
    window_cut_off(&w, WINDOW_PROGRAM, 4, 40 * USEC_PER_MSEC);
    assert_int_equal(window_cost(&w, WINDOW_WORK(WINDOW_PROGRAM), 4), before);
    window_cut_off(&w, WINDOW_PROGRAM, 4, 2 * USEC_PER_SEC);
    assert_true(window_cost(&w, WINDOW_WORK(WINDOW_PROGRAM), 4) >= 2 * USEC_PER_SEC);
}

/* What has to be done in one window is named until something was accepted, also when pieces get smaller. */
static void test_whole(void **state _unused_)
{
    struct window w;
    window_init(&w, 3 * USEC_PER_SEC, 0);
    window_whole(&w, "SBL");
    window_begun(&w, 4);
    for (unsigned i = 0; i < WINDOW_VAIN_MAX; i++)
        (void)window_in_vain(&w);
    assert_string_equal(w.whole, "SBL");
    window_accepted(&w);
    assert_null(w.whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_window),
        cmocka_unit_test(test_our_own_doing),
        cmocka_unit_test(test_margin),
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_outlived),
        cmocka_unit_test(test_outlived_alike),
        cmocka_unit_test(test_absence),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_costs),
        cmocka_unit_test(test_in_vain),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_costs_in_doubt),
        cmocka_unit_test(test_doubt_outlives_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
