/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/cleanup.h"
#include "service/catch-rule.h"

static void test_each_clause(void **state _unused_)
{
    static const struct {
        struct catch_case c;
        enum catch_verdict verdict;
        const char *why;
    } rows[] = {
        /* a stranger: a phone in EDL */
        {{.edl = true}, CATCH_LEAVE, "phone"},
        {{.edl = true, .chip = true},
         CATCH_LEAVE,
         "phone"}, /* the chip alone proves nothing: others make them */
        {{.edl = true, .pk_hash = true}, CATCH_LEAVE, "phone"}, /* nor does a key alone */
        {{.edl = true, .asked = true}, CATCH_LEAVE, "phone"},
        /* one that loops may be identified, once */
        {{.edl = true, .looping = true}, CATCH_IDENTIFY, "asked"},
        {{.edl = true, .looping = true, .chip = true}, CATCH_IDENTIFY, "asked"},
        {{.edl = true, .looping = true, .asked = true}, CATCH_LEAVE, "phone"},
        {{.edl = true, .looping = true, .asked = true, .chip = true}, CATCH_LEAVE, "phone"},
        /* known by port or serial */
        {{.edl = true, .quectel = true}, CATCH_HOLD, "Quectel modem before"},
        {{.edl = true, .quectel = true, .looping = true}, CATCH_HOLD, "Quectel modem before"},
        /* a user armed it */
        {{.edl = true, .armed = true}, CATCH_HOLD, "policy says so"},
        /* chip and key */
        {{.edl = true, .chip = true, .pk_hash = true}, CATCH_HOLD, "takes programmers"},
        {{.edl = true, .chip = true, .pk_hash = true, .asked = true}, CATCH_HOLD, "takes programmers"},
        /* the administrator's word */
        {{.edl = true, .unknown = true}, CATCH_HOLD, "CatchUnknown"},
        /* off goes before everything */
        {{.edl = true, .off = true, .quectel = true, .unknown = true}, CATCH_LEAVE, "policy is off"},
        {{.edl = true, .off = true, .chip = true, .pk_hash = true}, CATCH_LEAVE, "policy is off"},
        {{.edl = true, .off = true, .looping = true}, CATCH_LEAVE, "policy is off"},
        /* another mode is not caught, whoever it is */
        {{.armed = true, .quectel = true, .unknown = true, .looping = true}, CATCH_LEAVE, "not in 9008"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *why = NULL;
        enum catch_verdict v = catch_judge(&rows[i].c, &why);
        if (v != rows[i].verdict || !why || !strstr(why, rows[i].why))
            fail_msg("row %zu: %d, \"%s\"", i, (int)v, why ? why : "");
    }
}

/* Whatever else is true: without a reason of the table there is no programmer. */
static void test_nobody_is_caught_without_a_reason(void **state _unused_)
{
    enum { CASES = 1 << 9 };
    for (unsigned i = 0; i < CASES; i++) {
        const char *why = NULL;
        struct catch_case c = {i & 1, i & 2, i & 4, i & 8, i & 16, i & 32, i & 64, i & 128, i & 256};
        enum catch_verdict v = catch_judge(&c, &why);
        assert_non_null(why);
        bool reason = c.armed || c.quectel || (c.chip && c.pk_hash) || c.unknown;
        assert_int_equal(v == CATCH_HOLD, c.edl && !c.off && reason);
        assert_true(v != CATCH_IDENTIFY || (c.edl && !c.off && c.looping && !c.asked));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_clause),
        cmocka_unit_test(test_nobody_is_caught_without_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
