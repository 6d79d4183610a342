/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "service/config.h"

static char directory[] = "/tmp/test-config.XXXXXX";

static int setup(void **state _unused_)
{
    return mkdtemp(directory) ? 0 : -1;
}

static int teardown(void **state _unused_)
{
    return rmdir(directory);
}

static char *path_of(const char *name)
{
    char *path = text_printf("%s/%s", directory, name);
    assert_non_null(path);
    return path;
}

static void put(const char *name, const char *text)
{
    _cleanup_free_ char *path = path_of(name);
    _cleanup_fclose_ FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
}

static struct config load(void)
{
    struct config c;
    _cleanup_free_ char *path = path_of("qdld.conf");
    assert_int_equal(config_load(&c, path), 0);
    return c;
}

static struct config load_text(const char *text)
{
    put("qdld.conf", text);
    struct config c = load();
    _cleanup_free_ char *path = path_of("qdld.conf");
    assert_int_equal(unlink(path), 0);
    return c;
}

static void test_no_file_is_the_defaults(void **state _unused_)
{
    const struct config c = load();
    /* What the interface promises (design/interfaces.md "Limits"). */
    assert_int_equal(c.jobs_per_uid, 8);
    assert_int_equal(c.imports_per_uid, 2);
    assert_int_equal(c.pending_auth_per_uid, 16);
    assert_int_equal(c.jobs_max, 64);
    assert_int_equal(c.import_workers_max, 4);
    assert_int_equal(c.package_bytes_max, UINT64_C(4) << 30);
    assert_int_equal(c.package_entries_max, 4096);
    assert_int_equal(c.library_bytes_max, UINT64_C(16) << 30);
    assert_int_equal(c.reserve_free, UINT64_C(1) << 30);
    assert_int_equal(c.input_timeout, 60 * USEC_PER_SEC);
    assert_int_equal(c.log_bytes_max, 4 << 20);
    assert_int_equal(c.jobs_linger, 64);
    assert_int_equal(c.jobs_linger_time, UINT64_C(7) * 24 * 3600 * USEC_PER_SEC);
    assert_int_equal(c.ready_timeout, 10 * USEC_PER_SEC);
    assert_int_equal(c.stop_timeout, 120 * USEC_PER_SEC);
}

/* The shipped file says the defaults; without its marks it must mean them. */
static void test_the_shipped_file(void **state _unused_)
{
    _cleanup_fclose_ FILE *in = fopen("systemd/qdld.conf", "re");
    assert_non_null(in);
    char text[16384] = "", line[512];
    unsigned settings = 0;
    while (fgets(line, sizeof(line), in)) {
        bool marked = line[0] == '#' && line[1] >= 'A' && line[1] <= 'Z' && strchr(line, '=');
        settings += marked;
        strcat(text, marked ? line + 1 : line);
        assert_true(strlen(text) < sizeof(text) - sizeof(line));
    }
    assert_true(settings >= 16);
    struct config defaults = load(), shipped = load_text(text);
    assert_memory_equal(&defaults, &shipped, sizeof(defaults));
}

static void test_units(void **state _unused_)
{
    struct config c = load_text(
        "[Limits]\nJobLogMax=8192\nPackageSizeMax=2M\nStopSec=7\nJobsMax=3\n[Backup]\nReserveFree=1T\n");
    assert_int_equal(c.log_bytes_max, 8192);
    assert_int_equal(c.package_bytes_max, 2 << 20);
    assert_int_equal(c.stop_timeout, 7 * USEC_PER_SEC);
    assert_int_equal(c.jobs_max, 3);
    assert_int_equal(c.reserve_free, UINT64_C(1) << 40);
}

/* Each bad line is passed over, and what stands around it counts. */
static void test_bad_lines(void **state _unused_)
{
    struct config c =
        load_text("[Limits]\nJobsMax=3\nStopSec=121\nPreflightSec=-1\nJobLogMax=1X\nInputTimeoutSec=5M\n"
                  "JobsPerUser=\nnonsense\n[Nowhere]\nJobsMax=5\n[Limits]\nImportsPerUser=1\n");
    struct config defaults = load();
    assert_int_equal(c.jobs_max, 3);
    assert_int_equal(c.imports_per_uid, 1);
    assert_int_equal(c.stop_timeout, defaults.stop_timeout);
    assert_int_equal(c.ready_timeout, defaults.ready_timeout);
    assert_int_equal(c.log_bytes_max, defaults.log_bytes_max);
    assert_int_equal(c.input_timeout, defaults.input_timeout);
    assert_int_equal(c.jobs_per_uid, defaults.jobs_per_uid);
}

static void test_drop_ins_in_order(void **state _unused_)
{
    _cleanup_free_ char *dir = path_of("qdld.conf.d");
    assert_int_equal(mkdir(dir, 0700), 0);
    static const char *const names[] = {"qdld.conf.d/20-b.conf", "qdld.conf.d/10-a.conf",
                                        "qdld.conf.d/30-c.conf.off"};
    put(names[0], "[Limits]\nJobsMax=20\n");
    put(names[1], "[Limits]\nJobsMax=10\nImportsPerUser=1\n");
    put(names[2], "[Limits]\nJobsMax=30\n");
    struct config c = load_text("[Limits]\nJobsMax=5\nJobsPerUser=4\n");
    assert_int_equal(c.jobs_max, 20);
    assert_int_equal(c.imports_per_uid, 1);
    assert_int_equal(c.jobs_per_uid, 4);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        _cleanup_free_ char *path = path_of(names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_file_is_the_defaults),
        cmocka_unit_test(test_the_shipped_file),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_drop_ins_in_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
