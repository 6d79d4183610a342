/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "service/progress.h"

#define START    (100 * USEC_PER_SEC)
#define REALTIME ((usec_t)1700000000 * USEC_PER_SEC)
#define MIB      (UINT64_C(1) << 20)

/* ms milliseconds after the start, `done` of 100 MiB. */
static void tell(struct progress *p, unsigned ms, uint64_t ppm, uint64_t done)
{
    usec_t passed = ms * USEC_PER_MSEC;
    progress_update(p, ppm, done, 100 * MIB, START + passed, REALTIME + passed);
}

static void test_never_backwards(void **state _unused_)
{
    struct progress p = {0};
    tell(&p, 0, 500000, 0);
    assert_true(p.fraction == 0.5);
    tell(&p, 100, 400000, 0);
    assert_true(p.fraction == 0.5);
    tell(&p, 200, 3000000, 0);
    assert_true(p.fraction == 1.0);
}

static void test_steady_rate(void **state _unused_)
{
    struct progress p = {0};
    for (unsigned i = 0; i <= 30; i++) {
        tell(&p, i * 200, 0, i * 2 * MIB);
        /* 2 MiB every 200 ms; no end is guessed before 2 s of data */
        if (i > 0)
            assert_in_range(p.rate, 10 * MIB - 10, 10 * MIB + 10);
        assert_int_equal(p.expected_end == 0, i < 10);
    }
    usec_t left = p.expected_end - (REALTIME + 6000 * USEC_PER_MSEC);
    assert_in_range(left, 4 * USEC_PER_SEC - USEC_PER_MSEC, 4 * USEC_PER_SEC + USEC_PER_MSEC);
}

static void test_rate_is_smoothed(void **state _unused_)
{
    struct progress p = {0};
    uint64_t done = 0;
    for (unsigned i = 0; i < 20; i++)
        tell(&p, i * 200, 0, done += 2 * MIB);
    tell(&p, 20 * 200, 0, done += 20 * MIB); /* a burst of ten times the rate */
    assert_in_range(p.rate, 10 * MIB, 20 * MIB);
}

static void test_gaps_do_not_count(void **state _unused_)
{
    struct progress p = {0};
    for (unsigned i = 0; i <= 20; i++)
        tell(&p, i * 200, 0, i * 2 * MIB);
    uint64_t rate = p.rate;
    tell(&p, 20 * 200 + 60000, 0, 41 * MIB); /* a minute of erasing */
    assert_int_equal(p.rate, rate);
    tell(&p, 20 * 200 + 60200, 0, 43 * MIB);
    assert_in_range(p.rate, rate - 10, rate + 10);
}

static void test_restart_and_pause(void **state _unused_)
{
    struct progress p = {0};
    for (unsigned i = 0; i <= 20; i++)
        tell(&p, i * 200, i * 10000, i * 2 * MIB);
    assert_true(p.expected_end > 0);
    tell(&p, 5000, 900000, MIB); /* another phase counts from zero */
    assert_int_equal(p.rate, 0);
    assert_int_equal(p.expected_end, 0);
    assert_true(p.fraction == 0.9);
    tell(&p, 5200, 900000, 3 * MIB);
    assert_true(p.rate > 0);
    progress_pause(&p);
    assert_int_equal(p.rate, 0);
    assert_int_equal(p.expected_end, 0);
    assert_int_equal(p.bytes_done, 3 * MIB);
}

static void test_at_the_same_time(void **state _unused_)
{
    struct progress p = {0};
    tell(&p, 0, 0, 0);
    tell(&p, 0, 0, MIB);
    tell(&p, 0, 0, 2 * MIB);
    assert_int_equal(p.rate, 0); /* nothing can be divided by no time */
    tell(&p, 1000, 0, 3 * MIB);
    assert_int_equal(p.rate, 3 * MIB);
    /* the end: nothing is left to guess */
    tell(&p, 4000, 0, 100 * MIB);
    assert_int_equal(p.expected_end, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_backwards),   cmocka_unit_test(test_steady_rate),
        cmocka_unit_test(test_rate_is_smoothed),  cmocka_unit_test(test_gaps_do_not_count),
        cmocka_unit_test(test_restart_and_pause), cmocka_unit_test(test_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
