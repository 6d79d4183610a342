/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What gate 2 judges without a plan: chips, project names. The gate as a whole is tested with the virtual
 * modem. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "worker/gate.h"
#include "worker/project.h"

static void test_chips(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"SDX55", "SDX55"},     {"sdx55", "SDX55"},     {"SDX6x", "SDX62"},  {"SDX6x", "SDX65"},
        {"MDM9x07", "MDM9607"}, {"MDM9x07", "MDM9207"}, {"9x07", "MDM9607"}, {"SDX55", "SDX55M"},
        {"MDM9x65", "SDX20"},   {"SDX20", "MDM9x65"},   {"", "SDX55"},       {"SDX55", ""},
        {"SDX20", "SDX20"},     {"MDM9x05", "MDM9205"},
    };
    static const char *const different[][2] = {
        {"SDX55", "MDM9607"},   {"MDM9x07", "SDX55"},   {"SDX55", "SDX62"},   {"SDX24", "SDX20"},
        {"SDX6x", "SDX55"},     {"MDM9x07", "MDM9205"}, {"SDX20", "MDM9607"}, {"SDX55", "SDX50M"},
        {"MDM9x65", "MDM9607"}, {"SDX7x", "SDX62"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(same); i++)
        assert_true(gate_chips_agree(same[i][0], same[i][1]));
    for (size_t i = 0; i < ARRAY_SIZE(different); i++)
        assert_false(gate_chips_agree(different[i][0], different[i][1]));
}

static int chip(uint64_t hwid, bool have, const char *package_chip, unsigned allow)
{
    struct session session = {.identity = {.have_hwid = have, .hwid = hwid}};
    struct package package = {0};
    struct flash f = {.session = &session, .package = &package, .options = {.allow = allow}};
    struct error e = {0};
    snprintf(package.chip, sizeof(package.chip), "%s", package_chip);
    int r = gate_chip(&f, &e);
    if (r < 0)
        assert_int_equal(e.kind, ERROR_WRONG_FIRMWARE);
    return r;
}

static void test_chip_gate(void **state)
{
    (void)state;
    static const uint64_t sdx55 = 0x000e50e100040000, mdm9607 = 0x0004a0e100000000,
                          unknown = 0x0bad00e100000000;
    assert_int_equal(chip(sdx55, true, "SDX55", 0), 0);
    assert_int_equal(chip(mdm9607, true, "SDX55", 0), -EPERM);
    assert_int_equal(chip(sdx55, true, "MDM9x07", 0), -EPERM);
    assert_int_equal(chip(mdm9607, true, "SDX55", ALLOW_WRONG_FIRMWARE), 0);
    assert_int_equal(chip(mdm9607, true, "SDX55", ALLOW_WRONG_UNIT), -EPERM);
    assert_int_equal(chip(mdm9607, false, "SDX55", 0), 0); /* it told nothing: others judge */
    assert_int_equal(chip(unknown, true, "SDX55", 0), 0);
}

static void test_project(void **state)
{
    (void)state;
    static const uint8_t magic[8] = {0x24, 0x04, 0x19, 0x20, 0x25, 0x04, 0x19, 0x20};
    uint8_t data[256];
    char name[PROJECT_NAME_SIZE] = "untouched";

    memset(data, 0xff, sizeof(data));
    assert_int_equal(project_find(data, sizeof(data), name), 0);
    memcpy(data + 100, magic, sizeof(magic));
    assert_int_equal(project_find(data, sizeof(data), name), 0); /* 0xFF is no name */
    assert_string_equal(name, "untouched");
    memset(data + 116, 0, 32);
    assert_int_equal(project_find(data, sizeof(data), name), 0); /* nor is nothing */
    memcpy(data + 116, "RM502QGLAA", 10);
    assert_int_equal(project_find(data, sizeof(data), name), 1);
    assert_string_equal(name, "RM502QGLAA");
    memset(data + 116, 'A', 32); /* without a NUL it ends where the type begins */
    assert_int_equal(project_find(data, sizeof(data), name), 1);
    assert_int_equal(strlen(name), 32);
    data[120] = '\n';
    assert_int_equal(project_find(data, sizeof(data), name), 0);

    /* Cut anywhere, in a buffer of exactly that size, it is found only whole. */
    memset(data + 116, 0, 32);
    memcpy(data + 116, "RM502QGLAA", 10);
    for (size_t n = 0; n <= sizeof(data); n++) {
        uint8_t *exact = malloc(n + 1);
        assert_non_null(exact);
        memcpy(exact + 1, data, n);
        assert_int_equal(project_find(exact + 1, n, name), n >= 100 + 0x30);
        free(exact);
    }
}

static void test_project_agrees(void **state)
{
    (void)state;
    struct plan_step steps[2] = {{.action = PLAN_ERASE}, {.action = PLAN_CHECK_VENDOR}};
    struct plan plan = {.steps = steps, .n_steps = 2};
    struct package package = {.version_known = true};
    struct flash f = {.plan = &plan, .package = &package};
    assert_int_equal(version_parse("RM502QGLAAR11A02M4G_01.001.01.001", &package.version), 0);
    assert_true(project_agrees(&f, "RM502QGLAA"));
    assert_false(project_agrees(&f, "RM502QAEAA"));
    assert_false(project_agrees(&f, "RM502QGL"));
    assert_false(project_agrees(&f, "RM502QGLAAX"));
    assert_false(project_agrees(&f, "EG25GGB"));
    snprintf(steps[1].vendor.project_name, sizeof(steps[1].vendor.project_name), "EG25GGB");
    assert_true(project_agrees(&f, "EG25GGB"));
    package.version_known = false;
    assert_false(project_agrees(&f, "RM502QGLAA"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chips),
        cmocka_unit_test(test_chip_gate),
        cmocka_unit_test(test_project),
        cmocka_unit_test(test_project_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
