/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/io.h"
#include "service/record.h"

static char directory[] = "/tmp/qdld-test-record-XXXXXX";
static struct store store = {-1, -1, -1};

static int setup(void **state)
{
    (void)state;
    return mkdtemp(directory) && store_open(&store, directory, NULL) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    store_close(&store);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct record *r = record_new(), *back = NULL;
    assert_int_equal(record_set(r, "LABEL", "two\nlines = \\"), 0);
    assert_int_equal(record_set_u64(r, "SIZE", UINT64_MAX), 0);
    assert_int_equal(record_set(r, "GONE", "x"), 0);
    assert_int_equal(record_set(r, "GONE", NULL), 0);
    assert_int_equal(record_set(r, "LABEL", "again \\ \xc3\xbc"), 0);
    assert_int_equal(record_save(r, store.fd_jobs, "1.rec"), 0);
    assert_int_equal(record_load(store.fd_jobs, "1.rec", &back), 0);
    assert_string_equal(record_get(back, "LABEL"), "again \\ \xc3\xbc");
    assert_string_equal(record_get(back, "GONE"), "");
    assert_true(record_get_u64(back, "SIZE", 0) == UINT64_MAX);
    assert_int_equal(record_get_u64(back, "LABEL", 5), 5);
    record_free(r);
    record_free(back);
}

static void test_what_is_no_text_stays_escaped(void **state)
{
    (void)state;
    struct record *r = NULL;
    static const char torn[] = "A=x\\xff\\x0ay\nENDED=1790000000000000\n";
    assert_int_equal(store_write(store.fd_jobs, "3.rec", torn, strlen(torn)), 0);
    assert_int_equal(record_load(store.fd_jobs, "3.rec", &r), 0);
    assert_string_equal(record_get(r, "A"), "x\\xff\\x0ay");
    assert_true(record_get_u64(r, "ENDED", 0) == UINT64_C(1790000000000000));
    record_free(r);
}

static void test_damaged_is_set_aside(void **state)
{
    (void)state;
    struct record *r = NULL;
    static const char torn[] = "A=1\nB=\\x4";
    assert_int_equal(store_write(store.fd_jobs, "2.rec", torn, strlen(torn)), 0);
    assert_int_equal(record_load(store.fd_jobs, "2.rec", &r), -EBADMSG);
    assert_null(r);
    assert_int_equal(record_load(store.fd_jobs, "2.rec", &r), -ENOENT);
    struct stat st;
    assert_int_equal(fstatat(store.fd_jobs, "2.rec.bad", &st, 0), 0);
    /* What is left of one when the power goes before its data are written. */
    assert_int_equal(store_write(store.fd_jobs, "4.rec", "", 0), 0);
    assert_int_equal(record_load(store.fd_jobs, "4.rec", &r), -EBADMSG);
    assert_int_equal(fstatat(store.fd_jobs, "4.rec.bad", &st, 0), 0);
}

static void test_store_links_once(void **state)
{
    (void)state;
    int fd = store_tmpfile(store.fd_firmware);
    assert_true(fd >= 0);
    assert_int_equal(io_pwrite_full(fd, "data", 4, 0), 0);
    assert_int_equal(store_link(store.fd_firmware, fd, "aa.tar"), 0);
    assert_int_equal(store_link(store.fd_firmware, fd, "aa.tar"), -EEXIST);
    assert_int_equal(store_used(store.fd_firmware), 4);
    struct stat st;
    assert_int_equal(fstatat(store.fd_firmware, "aa.tar", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close(fd);
}

static int collect(void *userdata, const char *name)
{
    strcat(userdata, name);
    strcat(userdata, " ");
    return 0;
}

static void test_list_skips_links(void **state)
{
    (void)state;
    char names[256] = "";
    assert_int_equal(store_write(store.fd_modems, "b.rec", "A=1\n", 4), 0);
    assert_int_equal(store_write(store.fd_modems, "a.rec", "A=1\n", 4), 0);
    assert_int_equal(symlinkat("/etc/passwd", store.fd_modems, "c.rec"), 0);
    assert_int_equal(store_list(store.fd_modems, ".rec", collect, names), 0);
    assert_string_equal(names, "a.rec b.rec ");
    assert_int_equal(store_open_file(store.fd_modems, "c.rec", O_RDONLY), -ELOOP);
}

static void test_space(void **state)
{
    (void)state;
    struct config c;
    struct error e;
    assert_int_equal(config_load(&c, "/nonexistent/qdld.conf"), 0);
    c.reserve_free = 0;
    assert_int_equal(store_check_space(&store, &c, 1, 0, &e), 0);
    assert_int_equal(store_check_space(&store, &c, c.library_bytes_max + 1, 0, &e), -ENOSPC);
    assert_int_equal(store_check_space(&store, &c, 1, c.library_bytes_max, &e), -ENOSPC);
    assert_int_equal(e.kind, ERROR_NO_SPACE);
    c.reserve_free = UINT64_MAX;
    assert_int_equal(store_check_space(&store, &c, 1, 0, &e), -ENOSPC);
}

static void test_config(void **state)
{
    (void)state;
    struct config c;
    char path[128];
    snprintf(path, sizeof(path), "%s/qdld.conf", directory);
    FILE *f = fopen(path, "w");
    fputs(
        "[Limits]\nPackageSizeMax=64M\nJobsPerUser=3\nJobsMax=0\nImportsPerUser=-1\nBogus=1\nJobsLinger=abc\n"
        "[Flash]\nWaitDeviceSec=5\nnonsense\n",
        f);
    fclose(f);
    assert_int_equal(config_load(&c, path), 0);
    assert_true(c.package_bytes_max == 64 << 20);
    assert_int_equal(c.jobs_per_uid, 3);
    assert_int_equal(c.jobs_max, 64);       /* below the least */
    assert_int_equal(c.imports_per_uid, 2); /* not a number */
    assert_int_equal(c.jobs_linger, 64);
    assert_true(c.wait_device == 5 * USEC_PER_SEC);
    assert_true(c.boot_timeout == 180 * USEC_PER_SEC);
    assert_true(c.package_entries_max == 4096);

    /* A drop-in stands above the file. */
    char dropin[160];
    snprintf(dropin, sizeof(dropin), "%s.d", path);
    mkdir(dropin, 0700);
    strcat(dropin, "/10-local.conf");
    f = fopen(dropin, "w");
    fputs("[Limits]\nJobsPerUser=5\n", f);
    fclose(f);
    assert_int_equal(config_load(&c, path), 0);
    assert_int_equal(c.jobs_per_uid, 5);
    assert_true(c.package_bytes_max == 64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_what_is_no_text_stays_escaped),
        cmocka_unit_test(test_damaged_is_set_aside),
        cmocka_unit_test(test_store_links_once),
        cmocka_unit_test(test_list_skips_links),
        cmocka_unit_test(test_space),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
