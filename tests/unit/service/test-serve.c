/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "service/serve.h"

static void test_who_asks_for_nothing_gets_nothing(void **state _unused_)
{
    for (int there = 0; there < THERE_COUNT; there++)
        assert_int_equal(serve_action(WANTS_NOTHING, (enum serve_there)there), SERVE_NOTHING);
}

static void test_edl_is_given_and_nothing_else(void **state _unused_)
{
    for (int there = 0; there < THERE_COUNT; there++)
        assert_int_equal(serve_action(WANTS_EDL, (enum serve_there)there),
                         there == THERE_EDL || there == THERE_DUMP ? SERVE_GIVE : SERVE_NOTHING);
}

static void test_diag_is_given_in_normal_mode(void **state _unused_)
{
    for (int there = 0; there < THERE_COUNT; there++) {
        bool running = there == THERE_NORMAL || there == THERE_DUMP;
        assert_int_equal(serve_action(WANTS_DIAG, (enum serve_there)there),
                         running ? SERVE_GIVE : SERVE_NOTHING);
        assert_int_equal(serve_action(WANTS_DIAG | WANTS_EDL, (enum serve_there)there),
                         running || there == THERE_EDL ? SERVE_GIVE : SERVE_NOTHING);
    }
}

static void test_normal_is_told_wherever_it_is(void **state _unused_)
{
    static const unsigned wants[] = {WANTS_NORMAL, WANTS_EDL | WANTS_NORMAL};
    for (size_t i = 0; i < ARRAY_SIZE(wants); i++) {
        assert_int_equal(serve_action(wants[i], THERE_NORMAL), SERVE_TELL);
        assert_int_equal(serve_action(wants[i], THERE_NOTHING), SERVE_ELSEWHERE);
        assert_int_equal(serve_action(wants[i], THERE_OTHER), SERVE_NEWS);
    }
    assert_int_equal(serve_action(WANTS_NORMAL, THERE_EDL), SERVE_NEWS);
    assert_int_equal(serve_action(WANTS_EDL | WANTS_NORMAL, THERE_EDL), SERVE_GIVE);
}

static void test_what_is_there(void **state _unused_)
{
    assert_int_equal(serve_there("absent"), THERE_NOTHING);
    assert_int_equal(serve_there("edl"), THERE_EDL);
    assert_int_equal(serve_there("crash-dump"), THERE_DUMP);
    assert_int_equal(serve_there("normal"), THERE_NORMAL);
    assert_int_equal(serve_there("fastboot"), THERE_OTHER);
    assert_int_equal(serve_there("unknown"), THERE_OTHER);
    assert_int_equal(serve_action(WANTS_COUNT, THERE_EDL), SERVE_NOTHING);
    assert_int_equal(serve_action(WANTS_EDL, THERE_COUNT), SERVE_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_asks_for_nothing_gets_nothing),
        cmocka_unit_test(test_edl_is_given_and_nothing_else),
        cmocka_unit_test(test_diag_is_given_in_normal_mode),
        cmocka_unit_test(test_normal_is_told_wherever_it_is),
        cmocka_unit_test(test_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
