/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"

static void check_clean(const char *in, size_t size, const char *expected)
{
    char out[256];
    size_t n = text_clean(in, size, out, sizeof(out));
    assert_string_equal(out, expected);
    assert_int_equal(n, strlen(expected));
    assert_true(text_is_clean(out, n));
}

static void test_clean(void **state)
{
    (void)state;
    check_clean("plain", 5, "plain");
    check_clean("tab\there\n", 9, "tab\\x09here\\x0a");
    check_clean("\xf0\xe9\x88\x14", 4, "\\xf0\\xe9\\x88\\x14"); /* seen in 9x07 logs */
    check_clean("gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f");
    check_clean("cut \xc3", 5, "cut \\xc3");
    check_clean("\xed\xa0\x80", 3, "\\xed\\xa0\\x80"); /* a surrogate */
    check_clean("\xc0\xaf", 2, "\\xc0\\xaf");          /* overlong */
    check_clean("\xc2\x85", 2, "\\xc2\\x85");          /* NEL ends a line for some */
    check_clean("a\0b", 3, "a\\x00b");
    /* Marks that turn the order of a line: what is shown would not be what is meant. */
    check_clean("EC25\xe2\x80\xaeLG-Q205", 14, "EC25\\xe2\\x80\\xaeLG-Q205");
    check_clean("\xe2\x81\xa6\xe2\x81\xa9", 6, "\\xe2\\x81\\xa6\\xe2\\x81\\xa9");
    check_clean("\xd8\x9c\xe2\x80\x8f", 5, "\\xd8\\x9c\\xe2\\x80\\x8f");
    check_clean("\xd7\x90\xe2\x80\x90", 5, "\xd7\x90\xe2\x80\x90"); /* a Hebrew letter, a hyphen */
}

static void test_clean_masks_imei(void **state)
{
    (void)state;
    check_clean("IMEI 861234567890123 ok", 23, "IMEI 86***********23 ok");
    check_clean("861234567890123abc", 18, "86***********23abc");
    /* A digest may have such a run by chance. */
    check_clean("0123456789abcdef0a12345678901234567b", 36, "0123456789abcdef0a12345678901234567b");
    check_clean("a12345678901234bcccccccccccccccc", 32, "a12345678901234bcccccccccccccccc");
    check_clean("a12345678901234bccccccccccccccc", 31, "a12**********34bccccccccccccccc");
    check_clean("8612345678901", 13, "8612345678901");         /* 13 digits are none */
    check_clean("12345678901234567", 17, "12345678901234567"); /* 17 neither */
    check_clean("86123456789012", 14, "86**********12");
    check_clean("8612345678901234,1", 18, "86************34,1");
}

static void test_clean_cuts_at_a_character(void **state)
{
    (void)state;
    char out[6];
    assert_int_equal(text_clean("abcd\xc3\xbc", 6, out, sizeof(out)), 4);
    assert_string_equal(out, "abcd");
    assert_int_equal(text_clean("abc\n", 4, out, sizeof(out)), 3);
    assert_string_equal(out, "abc");
    assert_int_equal(text_clean("x", 1, out, 1), 0);
}

static void test_fit(void **state)
{
    (void)state;
    assert_int_equal(text_fit("abc", 3), 3);
    assert_int_equal(text_fit("abcd", 3), 3);
    assert_int_equal(text_fit("ab\xc3\xbc", 4), 4);
    assert_int_equal(text_fit("ab\xc3\xbc", 3), 2);
    assert_int_equal(text_fit("ab\xf0\x9f\x98\x80x", 5), 2);
    assert_int_equal(text_fit("\xf0\x9f\x98\x80", 3), 0);
    assert_int_equal(text_fit("", 0), 0);
}

static void test_escape_round_trip(void **state)
{
    (void)state;
    char all[255];
    for (int i = 0; i < 255; i++)
        all[i] = (char)(i + 1);
    _cleanup_free_ char *escaped = text_escape(all, sizeof(all)), *back = NULL;
    assert_non_null(escaped);
    assert_true(text_is_clean(escaped, strlen(escaped)));
    assert_int_equal(text_unescape(escaped, &back), 0);
    assert_int_equal(strlen(back), sizeof(all));
    assert_memory_equal(back, all, sizeof(all));
}

static void test_unescape_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"\\", "\\n", "\\x", "\\x4", "\\xg0", "\\x00", "a\\"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char *out = NULL;
        assert_int_equal(text_unescape(bad[i], &out), -EINVAL);
        assert_null(out);
    }
}

static void test_parse_u64(void **state)
{
    (void)state;
    uint64_t v = 7;
    assert_int_equal(text_parse_u64("0", 10, 10, &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(text_parse_u64("18446744073709551615", 10, UINT64_MAX, &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(text_parse_u64("0x1f", 0, 255, &v), 0);
    assert_int_equal(v, 31);
    assert_int_equal(text_parse_u64("1F", 16, 255, &v), 0);
    assert_int_equal(v, 31);
    v = 7;
    static const char *const malformed[] = {"",   "-1", "+1", " 1", "1 ", "1x", "0x", "NUM_DISK_SECTORS-1.",
                                            "1.0"};
    for (size_t i = 0; i < ARRAY_SIZE(malformed); i++)
        assert_int_equal(text_parse_u64(malformed[i], 0, UINT64_MAX, &v), -EINVAL);
    assert_int_equal(text_parse_u64("18446744073709551616", 10, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(text_parse_u64("99999999999999999999999999", 10, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(text_parse_u64("256", 10, 255, &v), -ERANGE);
    assert_int_equal(v, 7);
}

static void test_hex(void **state)
{
    (void)state;
    unsigned char b[4] = {0};
    char out[9];
    assert_int_equal(text_unhex("00fFA5", b, 3), 0);
    assert_int_equal(b[1], 0xff);
    text_hex(b, 3, out);
    assert_string_equal(out, "00ffa5");
    assert_int_equal(text_unhex("00f", b, 2), -EINVAL);
    assert_int_equal(text_unhex("00fg", b, 2), -EINVAL);
    assert_int_equal(text_unhex("00ff00", b, 2), -EINVAL);
}

static void test_compare(void **state)
{
    (void)state;
    assert_true(text_starts_with("EFS2", "EF"));
    assert_false(text_starts_with("E", "EF"));
    assert_true(text_ends_with("a.conf", ".conf"));
    assert_false(text_ends_with("conf", ".conf"));
    assert_true(text_equal_nocase("EFS2", "efs2"));
    assert_false(text_equal_nocase("EFS2", "efs"));
    assert_true(text_equal_version("RM502QGLAAR11A02M4G_01.001.01.001", "RM502QGLAAR11A02M4G"));
    assert_true(text_equal_version("RM502QGLAAR11A02M4G_01.001.01.001", "RM502QGLAAR11A02M4G_02.002.02.002"));
    assert_false(
        text_equal_version("RM502QGLAAR11A02M4G_01.001.01.001", "RM502QGLAAR11A03M4G_01.001.01.001"));
    assert_false(text_equal_version("RM502QGLAAR11A02M4G", "RM502QGLAAR11A02M4"));
    assert_false(text_equal_version("", "") || text_equal_version("_1", "_2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_clean_masks_imei),
        cmocka_unit_test(test_clean_cuts_at_a_character),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_escape_round_trip),
        cmocka_unit_test(test_unescape_is_strict),
        cmocka_unit_test(test_parse_u64),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
