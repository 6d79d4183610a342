/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "base/error.h"

static void test_set(void **state)
{
    (void)state;
    struct error e = {0};
    assert_int_equal(error_set(&e, ERROR_WRONG_UNIT, "serial %s,\nexpected %s", "1", "2"), -EPERM);
    assert_int_equal(e.kind, ERROR_WRONG_UNIT);
    assert_string_equal(e.message, "serial 1,\\x0aexpected 2");
    error_hint(&e, HINT_POWER_CYCLE);
    error_words(&e, "ERROR: bad\x01");
    assert_string_equal(e.words, "ERROR: bad\\x01");
    assert_string_equal(hint_name(e.hint), "power-cycle");
    /* A new error takes nothing over from the old one. */
    error_set(&e, ERROR_TIMEOUT, "x");
    assert_int_equal(e.hint, HINT_NONE);
    assert_string_equal(e.words, "");
    assert_int_equal(error_set(NULL, ERROR_TIMEOUT, "nobody listens"), -ETIMEDOUT);
}

static void test_long_message_is_cut(void **state)
{
    (void)state;
    struct error e;
    char text[4096];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&e, ERROR_FAILED, "%s", text);
    assert_int_equal(strlen(e.message), ERROR_MESSAGE_SIZE - 1);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 1; i < ERROR_KIND_COUNT; i++) {
        assert_non_null(error_name((enum error_kind)i));
        assert_int_equal(error_from_name(error_name((enum error_kind)i)), i);
        assert_true(error_errno((enum error_kind)i) < 0);
    }
    for (int i = 0; i < HINT_COUNT; i++)
        assert_int_equal(hint_from_name(hint_name((enum error_hint)i)), i);
    assert_int_equal(error_from_name("Nonsense"), ERROR_NONE);
    assert_null(error_name(ERROR_KIND_COUNT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_long_message_is_cut),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
