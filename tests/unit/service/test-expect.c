/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "link/keys.h"
#include "service/expect.h"

static bool anywhere(const char *key)
{
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++)
        for (int stage = STAGE_PREPARING; stage <= STAGE_HOLDING; stage++)
            if (expect_key((enum job_kind)kind, (enum link_stage)stage, key))
                return true;
    return false;
}

/* The table knows every key that the link lets through, and BUILD= is not among them: process.c takes it. */
static void test_every_key_has_a_row(void **state _unused_)
{
    for (size_t i = 0; link_keys_from_worker[i]; i++) {
        const char *key = link_keys_from_worker[i];
        char full[64];
        snprintf(full, sizeof(full), "%s%s", key, key[strlen(key) - 1] == '.' ? "x" : "");
        if (strcmp(key, KEY_BUILD) == 0)
            assert_false(anywhere(full));
        else if (!anywhere(full))
            fail_msg("no job may ever say %s", full);
    }
    for (size_t i = 0; link_keys_from_service[i]; i++)
        if (strcmp(link_keys_from_service[i], KEY_MESSAGE) != 0) /* both sides explain themselves by it */
            assert_false(anywhere(link_keys_from_service[i]));
}

static void test_stages(void **state _unused_)
{
    assert_true(expect_key(JOB_FLASH, STAGE_PREPARING, KEY_READY));
    assert_false(expect_key(JOB_FLASH, STAGE_RUNNING, KEY_READY));
    /* The pre-flight touches no modem. */
    static const char *const of_a_modem[] = {KEY_WAIT_DEVICE, KEY_SERIAL,      KEY_MODE,
                                             KEY_TABLE,       KEY_DESTRUCTIVE, KEY_UNSAFE};
    for (size_t i = 0; i < ARRAY_SIZE(of_a_modem); i++) {
        assert_false(expect_key(JOB_FLASH, STAGE_PREPARING, of_a_modem[i]));
        assert_true(expect_key(JOB_FLASH, STAGE_RUNNING, of_a_modem[i]));
        assert_false(expect_key(JOB_FLASH, STAGE_ENDED, of_a_modem[i]));
        assert_false(expect_key(JOB_FLASH, STAGE_HOLDING, of_a_modem[i]));
        assert_false(expect_key(JOB_IMPORT, STAGE_RUNNING, of_a_modem[i]));
        assert_false(expect_key(JOB_PLAN, STAGE_RUNNING, of_a_modem[i]));
    }
    assert_false(expect_key(JOB_FLASH, STAGE_ENDED, KEY_RESULT));
    assert_false(expect_key(JOB_FLASH, STAGE_HOLDING, KEY_RESULT));
    assert_true(expect_key(JOB_FLASH, STAGE_HOLDING, KEY_LOG));
}

static void test_kinds(void **state _unused_)
{
    assert_false(expect_key(JOB_IDENTIFY, STAGE_RUNNING, KEY_DESTRUCTIVE));
    assert_false(expect_key(JOB_RESET, STAGE_RUNNING, KEY_DESTRUCTIVE));
    assert_false(expect_key(JOB_FLASH, STAGE_RUNNING, KEY_PLAN));
    assert_false(expect_key(JOB_IMPORT, STAGE_ENDED, KEY_HOLDING));
    assert_true(expect_key(JOB_IDENTIFY, STAGE_ENDED, KEY_HOLDING));
    assert_false(expect_key(JOB_IDENTITY, STAGE_ENDED, KEY_HOLDING));
    assert_true(expect_key(JOB_IMPORT, STAGE_RUNNING, "FIRMWARE.id"));
    assert_false(expect_key(JOB_IDENTIFY, STAGE_RUNNING, "FIRMWARE.id"));
    assert_false(expect_key(JOB_IMPORT, STAGE_RUNNING, "NOTHING"));
}

/* Flash rule 5: whoever is about to write may ask for its backup to be stored, at no other time and nobody
 * else. */
static void test_backups(void **state _unused_)
{
    static const enum job_kind writing[] = {JOB_FLASH, JOB_RESTORE},
                               reading[] = {JOB_IMPORT, JOB_VERIFY, JOB_BACKUP};
    for (size_t i = 0; i < ARRAY_SIZE(writing); i++) {
        assert_true(expect_key(writing[i], STAGE_RUNNING, KEY_BACKUP));
        assert_true(expect_key(writing[i], STAGE_RUNNING, "BACKUP.sha256"));
        assert_true(expect_key(writing[i], STAGE_RUNNING, KEY_DESTRUCTIVE));
        assert_false(expect_key(writing[i], STAGE_PREPARING, KEY_BACKUP));
        assert_false(expect_key(writing[i], STAGE_ENDED, KEY_BACKUP));
    }
    for (size_t i = 0; i < ARRAY_SIZE(reading); i++) {
        assert_false(expect_key(reading[i], STAGE_RUNNING, KEY_BACKUP));
        assert_true(expect_key(reading[i], STAGE_RUNNING, "BACKUP.sha256"));
    }
    assert_false(expect_key(JOB_BACKUP, STAGE_RUNNING, KEY_DESTRUCTIVE));
    assert_false(expect_key(JOB_IDENTIFY, STAGE_RUNNING, "BACKUP.sha256"));
    assert_true(job_kind_has_modem(JOB_BACKUP));
    assert_true(job_kind_has_modem(JOB_RESTORE));
}

static void test_names(void **state _unused_)
{
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++)
        assert_int_equal(job_kind_from_name(job_kind_name((enum job_kind)kind)), kind);
    assert_null(job_kind_name(JOB_KIND_COUNT));
    assert_int_equal(job_kind_from_name(""), JOB_KIND_COUNT);
    assert_int_equal(job_kind_from_name("Flash"), JOB_KIND_COUNT);
    assert_true(job_kind_has_modem(JOB_FLASH));
    assert_true(job_kind_has_modem(JOB_RESET));
    assert_false(job_kind_has_modem(JOB_IMPORT));
    assert_false(job_kind_has_modem(JOB_PLAN));
    assert_true(expect_result("done"));
    assert_true(expect_result("no-calibration"));
    assert_false(expect_result(""));
    assert_false(expect_result("Done"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_has_a_row),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_backups),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
