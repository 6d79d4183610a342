/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What leaves the worker of an IMEI: a digest with the machine's key, and a masked form (worker/running.c).
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "worker/running.h"

static const char imei[] = "490154203237518";

static struct worker with_key(char *key)
{
    static struct worker_option options[2];
    static char name[] = "imei-key", came[] = "came-from-normal", yes[] = "1";
    options[0] = (struct worker_option){.name = name, .value = key};
    options[1] = (struct worker_option){.name = came, .value = yes};
    return (struct worker){.options = options, .n_options = ARRAY_SIZE(options)};
}

static void test_mask(void **state)
{
    (void)state;
    char masked[DIAG_IMEI_DIGITS + 1];
    running_mask_imei(imei, masked);
    assert_string_equal(masked, "49***********18");
    running_mask_imei("", masked);
    assert_string_equal(masked, "");
}

static void test_hash(void **state)
{
    (void)state;
    char key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
         other[] = "010102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", bad[] = "00";
    char a[SHA256_HEX_SIZE], b[SHA256_HEX_SIZE];
    struct worker w = with_key(key);
    assert_int_equal(running_imei_hash(&w, imei, a), 0);
    assert_int_equal(strlen(a), 64);
    assert_null(strstr(a, imei));
    assert_int_equal(running_imei_hash(&w, imei, b), 0);
    assert_string_equal(a, b);
    assert_int_equal(running_imei_hash(&w, "490154203237526", b), 0);
    assert_string_not_equal(a, b);
    w = with_key(other); /* another machine knows nothing of it */
    assert_int_equal(running_imei_hash(&w, imei, b), 0);
    assert_string_not_equal(a, b);
    assert_int_equal(running_imei_hash(&w, "", b), -EINVAL);
    w = with_key(bad);
    assert_int_equal(running_imei_hash(&w, imei, b), -EINVAL);
}

static void test_comes_first(void **state)
{
    (void)state;
    char key[] = "";
    struct worker w = with_key(key), none = {.n_options = 0};
    assert_true(running_comes_first(&w));
    assert_false(running_comes_first(&none));
}

static enum backup_flaw known(struct worker *w, const char *flaw, const char *of, uint32_t serial)
{
    char value[32], whose[16];
    struct worker_option options[] = {{.name = (char *)(uintptr_t) "calibration-flaw", .value = value},
                                      {.name = (char *)(uintptr_t) "calibration-flaw-of", .value = whose}};
    const struct sahara_identity unit = {.have_serial = serial != 1, .serial = serial};
    snprintf(value, sizeof(value), "%s", flaw);
    snprintf(whose, sizeof(whose), "%s", of);
    w->options = options;
    w->n_options = ARRAY_SIZE(options);
    return running_known_flaw(w, &unit);
}

static void test_known_flaw(void **state)
{
    (void)state;
    enum { NO_SERIAL = 1 };
    struct worker w = {0};
    assert_int_equal(known(&w, "factory-test", "", NO_SERIAL), BACKUP_FLAW_FACTORY_TEST);
    assert_int_equal(known(&w, "half-written", "49cbd7ef", 0x49cbd7ef), BACKUP_FLAW_HALF_WRITTEN);
    assert_int_equal(known(&w, "half-written", "49cbd7ef", NO_SERIAL), BACKUP_FLAW_HALF_WRITTEN);
    assert_int_equal(known(&w, "half-written", "49cbd7ef", 0x49cbd7ee), BACKUP_FLAW_NONE); /* another unit */
    assert_int_equal(known(&w, "", "49cbd7ef", 0x49cbd7ef), BACKUP_FLAW_NONE);
    w.told_online = true; /* its own word counts more */
    assert_int_equal(known(&w, "factory-test", "", NO_SERIAL), BACKUP_FLAW_NONE);
    w = (struct worker){.told_factory_test = true};
    assert_int_equal(known(&w, "half-written", "", NO_SERIAL), BACKUP_FLAW_FACTORY_TEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mask), cmocka_unit_test(test_hash),
                                       cmocka_unit_test(test_comes_first), cmocka_unit_test(test_known_flaw)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
