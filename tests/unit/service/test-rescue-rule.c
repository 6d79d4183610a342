/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/rescue-rule.h"

/* A known modem that is away, with a programmer for it: everything begins here. */
#define AWAY .verdict = CATCH_HOLD, .candidate = true
#define HELD .held = true, .verdict = CATCH_HOLD, .candidate = true

static void test_each_step(void **state _unused_)
{
    static const struct {
        struct rescue_facts f;
        enum rescue_action action;
    } rows[] = {
        {{AWAY}, RESCUE_STANDBY},
        {{.verdict = CATCH_HOLD}, RESCUE_NOTHING}, /* nothing to upload */
        {{.verdict = CATCH_LEAVE, .candidate = true}, RESCUE_NOTHING},
        {{.verdict = CATCH_IDENTIFY, .candidate = true}, RESCUE_ASK},
        {{.verdict = CATCH_IDENTIFY}, RESCUE_ASK},
        {{AWAY, .rescue = true, .firmware = true}, RESCUE_STANDBY},
        {{HELD}, RESCUE_NOTHING}, /* policy hold: that was all */
        {{HELD, .rescue = true, .firmware = true}, RESCUE_FLASH},
        {{HELD, .rescue = true}, RESCUE_NOTHING}, /* its package is not there, or not ready */
        {{HELD, .firmware = true}, RESCUE_NOTHING},
        {{HELD, .rescue = true, .firmware = true, .unsaved = true, .gave_up = true}, RESCUE_SAVE},
        {{HELD, .unsaved = true}, RESCUE_SAVE},
        {{HELD, .rescue = true, .firmware = true, .stopped = true}, RESCUE_NOTHING},
        {{AWAY, .rescue = true, .firmware = true, .stopped = true}, RESCUE_STANDBY}, /* held it may be */
        {{AWAY, .unsaved = true}, RESCUE_STANDBY},
        {{AWAY, .gave_up = true}, RESCUE_NOTHING},
        {{AWAY, .waiting = true}, RESCUE_NOTHING},
        {{HELD, .rescue = true, .firmware = true, .gave_up = true}, RESCUE_NOTHING},
        {{HELD, .rescue = true, .firmware = true, .waiting = true}, RESCUE_NOTHING},
        {{HELD, .rescue = true, .firmware = true, .wanted = true}, RESCUE_NOTHING},
        {{AWAY, .wanted = true}, RESCUE_NOTHING},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rescue_next(&rows[i].f) != rows[i].action)
            fail_msg("row %zu: %d", i, (int)rescue_next(&rows[i].f));
}

/* Whatever else is true. */
static void test_what_is_never_done(void **state _unused_)
{
    enum { CASES = 1 << 12 };
    for (unsigned i = 0; i < CASES; i++)
        for (int v = CATCH_LEAVE; v <= CATCH_HOLD; v++) {
            struct rescue_facts f = {i & 1,
                                     i & 2,
                                     i & 4,
                                     i & 8,
                                     i & 16,
                                     i & 32,
                                     i & 64,
                                     i & 128,
                                     i & 256,
                                     i & 512,
                                     i & 1024,
                                     i & 2048,
                                     (enum catch_verdict)v};
            enum rescue_action a = rescue_next(&f);
            if (f.stopping || f.busy || f.off || f.wanted)
                assert_int_equal(a, RESCUE_NOTHING);
            if (a == RESCUE_FLASH)
                assert_true(f.held && f.rescue && f.firmware && !f.gave_up && !f.waiting && !f.stopped);
            if (a == RESCUE_STANDBY)
                assert_true(!f.held && v == CATCH_HOLD && f.candidate && !f.gave_up && !f.waiting);
            if (a == RESCUE_ASK)
                assert_true(!f.held && v == CATCH_IDENTIFY);
        }
}

static void test_failures(void **state _unused_)
{
    static const struct {
        const char *result;
        enum error_kind kind;
        enum rescue_failure failure;
    } rows[] = {
        {"failed", ERROR_MODEM_GONE, FAILURE_AGAIN},
        {"failed", ERROR_TIMEOUT, FAILURE_AGAIN},
        {"failed", ERROR_FIREHOSE_FAILED, FAILURE_AGAIN},
        {"failed", ERROR_FAILED, FAILURE_AGAIN},
        {"not-returned", ERROR_TIMEOUT, FAILURE_AGAIN},
        {"interrupted", ERROR_MODEM_GONE, FAILURE_AGAIN},
        {"interrupted", ERROR_INTERRUPTED, FAILURE_OTHER},
        {"failed", ERROR_WRONG_UNIT, FAILURE_AGAIN},
        {"failed", ERROR_WRONG_FIRMWARE, FAILURE_FINAL},
        {"failed", ERROR_VERSION_UNKNOWN, FAILURE_FINAL},
        {"failed", ERROR_CALIBRATION_AT_RISK, FAILURE_FINAL},
        {"failed", ERROR_PROGRAMMER_REJECTED, FAILURE_FINAL},
        {"cancelled", ERROR_CANCELLED, FAILURE_FINAL},
        {"wrong-version", ERROR_FAILED, FAILURE_FINAL},
        {"no-calibration", ERROR_FAILED, FAILURE_FINAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rescue_judge_failure(rows[i].result, rows[i].kind) != rows[i].failure)
            fail_msg("row %zu", i);
}

static void test_the_pause_doubles_and_ends(void **state _unused_)
{
    assert_int_equal(rescue_pause(60, 1), 60);
    assert_int_equal(rescue_pause(60, 2), 120);
    assert_int_equal(rescue_pause(60, 5), 960);
    assert_int_equal(rescue_pause(60 * USEC_PER_SEC, 1000), 3600 * USEC_PER_SEC);
    assert_int_equal(rescue_pause(86400 * USEC_PER_SEC, 1), 3600 * USEC_PER_SEC);
    assert_int_equal(rescue_pause(0, 5), 0);
}

static void test_a_day(void **state _unused_)
{
    enum { DAY = 86400, NOW = 1700000000 };
    struct rescue_day d = {0}, again;
    rescue_day_add(&d, NOW - DAY);
    rescue_day_add(&d, NOW - DAY + 1);
    rescue_day_add(&d, NOW);
    assert_int_equal(rescue_day_count(&d, NOW), 2);
    assert_int_equal(rescue_day_count(&d, NOW + DAY), 0);
    /* The clock was set back: by a little it still counts, by years it does not count for ever. */
    assert_int_equal(rescue_day_count(&d, NOW - 60), 3);
    assert_int_equal(rescue_day_count(&d, 60), 0);
    _cleanup_free_ char *text = rescue_day_print(&d);
    assert_string_equal(text, "1699913600,1699913601,1700000000");
    rescue_day_read(&again, text);
    assert_int_equal(again.n, 3);
    assert_int_equal(again.at[2], NOW);
    rescue_day_read(&again, "");
    assert_int_equal(again.n, 0);
    rescue_day_read(&again, ",x,-1,5,99999999999999999999999999");
    assert_int_equal(again.n, 1);
    for (unsigned i = 0; i < 3 * RESCUE_DAY_MAX; i++)
        rescue_day_add(&d, NOW + i);
    assert_int_equal(rescue_day_count(&d, NOW), RESCUE_DAY_MAX);
    free(rescue_day_print(&d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_step),
        cmocka_unit_test(test_what_is_never_done),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_a_day),
        cmocka_unit_test(test_the_pause_doubles_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
