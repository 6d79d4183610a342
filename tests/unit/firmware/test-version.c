/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "support.h"

static void test_parts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model, *prefix, *baseline, *release, *memory, *edition;
    } names[] = {
        {VERSION, "RM502QGL", "RM502QGLAA", "R11", "A02", "M4G", "01.001.01.001"},
        {"EG25GGBR07A08M2G_30.006.30.006", "EG25G", "EG25GGB", "R07", "A08", "M2G", "30.006.30.006"},
        {"EC25EUGAR06A07M4G", "EC25EU", "EC25EUGA", "R06", "A07", "M4G", ""},
        {"RM500QGLABR11A03M4G_BETA_0318", "RM500QGL", "RM500QGLAB", "R11", "A03", "M4G", "BETA_0318"},
        {"BG95M3LAR02A04", "BG95M3", "BG95M3LA", "R02", "A04", "", ""},
        {"EC200UCNAAR03A11M08", "EC200UCN", "EC200UCNAA", "R03", "A11", "M08", ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct version v;
        assert_int_equal(version_parse(names[i].name, &v), 0);
        assert_string_equal(v.name, names[i].name);
        assert_string_equal(v.model, names[i].model);
        assert_string_equal(v.prefix, names[i].prefix);
        assert_string_equal(v.baseline, names[i].baseline);
        assert_string_equal(v.release, names[i].release);
        assert_string_equal(v.memory, names[i].memory);
        assert_string_equal(v.edition, names[i].edition);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        "firmware",
        "update",
        "R11A02M4G",
        "AAR11A02M4G",
        "RM502QGLAA",
        "RM502QGLAAR11",
        "RM502QGLAAR1A02M4G",
        "RM502QGLAAR11A02X4G",
        "RM502QGLAAR11A02M",
        "RM502QGLAAR11A02M4G 01.001",
        "RM502QGLAAR11A02M4G_01/../x",
        "RM502QGLAAR11A02M4G_01\n",
        "RM502QGLAAR11A02M4G.zip",
        "rm502qglaar11a02m4g",
        "RM502QGLAAR11A02M4GGGGGGGGGGGGG",
        "RM502QGLAAR11A02M4G_"
        "0123456789012345678901234567890123456789012345678901234567890123456789",
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct version v = {.name = "untouched"};
        if (version_parse(names[i], &v) != -EINVAL)
            fail_msg("\"%s\" was taken for a version name", names[i]);
        assert_string_equal(v.name, "untouched");
    }
}

static int match(const char *package, const char *modem, struct error *e)
{
    struct version p, m;
    assert_int_equal(version_parse(package, &p), 0);
    assert_int_equal(version_parse(modem, &m), 0);
    *e = (struct error){0};
    return version_match(&p, &m, e);
}

static void test_match(void **state)
{
    (void)state;
    struct error e;
    assert_int_equal(match(VERSION, "RM502QGLAAR11A01M4G_01.000.01.000", &e), 0);
    /* A memory code that one of them lacks is not compared. */
    assert_int_equal(match(VERSION, "RM502QGLAAR11A01", &e), 0);

    static const struct {
        const char *modem, *part;
    } wrong[] = {
        {"RM502QAEAAR11A02M4G", "RM502QAEAA"},
        {"RM502QGLABR11A02M4G", "RM502QGLAB"},
        {"RM502QGLAAR05A02M4G", "baseline R11 instead of R05"},
        {"RM502QGLAAR11A02M8G", "memory M4G instead of M8G"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(match(VERSION, wrong[i].modem, &e), -EPERM);
        assert_int_equal(e.kind, ERROR_WRONG_FIRMWARE);
        assert_int_equal(e.hint, HINT_WRONG_FIRMWARE);
        assert_non_null(strstr(e.message, VERSION));
        assert_non_null(strstr(e.message, wrong[i].modem));
        assert_non_null(strstr(e.message, wrong[i].part));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_match),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
