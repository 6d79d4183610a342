/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/dump-file.h"

static const struct sahara_region regions[] = {
    {.address = 0x80000000, .length = 1000, .name = "OCIMEM.BIN", .description = "memory"},
    {.address = 0, .length = 512, .name = "SHA256SUMS", .description = "a name of ours"},
    {.address = 0xffffffff0, .length = 70000, .name = "dump.txt", .description = ""},
};

/* Of the last region only a part comes. */
static int make(struct dump_facts *ret)
{
    int fd = memfd_create("dump", MFD_CLOEXEC);
    _cleanup_(dump_writer_freep) struct dump_writer *w = dump_writer_new(fd);
    *ret = (struct dump_facts){.damaged = true,
                               .serial = "49cbd7ef",
                               .chip = "SDX55",
                               .model = "RM502Q-GL",
                               .created = 1790000000000000};
    for (size_t i = 0; i < ARRAY_SIZE(regions); i++) {
        uint8_t data[500];
        memset(data, (int)i + 1, sizeof(data));
        assert_int_equal(dump_writer_begin(w, &regions[i], NULL), 0);
        for (uint64_t done = 0; done + sizeof(data) <= MIN_OF(regions[i].length, (uint64_t)1000);
             done += sizeof(data))
            assert_int_equal(dump_writer_data(w, data, sizeof(data), NULL), 0);
        assert_int_equal(dump_writer_end(w, NULL), 0);
    }
    assert_int_equal(dump_writer_finish(w, ret, NULL), 0);
    return fd;
}

static int check(int fd, struct dump_facts *ret)
{
    struct error e = {0};
    int r = dump_check(fd, ret, NULL, NULL, &e);
    assert_true(r == 0 || (e.kind == ERROR_BACKUP_DAMAGED && strlen(e.message) > 10));
    return r;
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    struct dump_facts made, read;
    int fd = make(&made);
    assert_true(dump_is_file(fd));
    assert_int_equal(check(fd, &read), 0);
    assert_string_equal(read.id, made.id);
    assert_memory_equal(read.sha256, made.sha256, SHA256_SIZE);
    assert_string_equal(read.partitions, "OCIMEM.BIN,SHA256SUMS,dump.txt");
    assert_string_equal(read.serial, "49cbd7ef");
    assert_string_equal(read.model, "RM502Q-GL");
    assert_int_equal(read.created, made.created);
    assert_int_equal(read.file_size, made.file_size);
    assert_true(read.damaged);
    close(fd);
}

/* A region takes no more than its length. */
static void test_too_much(void **state)
{
    (void)state;
    int fd = memfd_create("dump", MFD_CLOEXEC);
    _cleanup_(dump_writer_freep) struct dump_writer *w = dump_writer_new(fd);
    uint8_t data[513] = {0};
    assert_int_equal(dump_writer_begin(w, &regions[1], NULL), 0);
    assert_int_not_equal(dump_writer_data(w, data, sizeof(data), NULL), 0);
    assert_int_equal(dump_writer_data(w, data, 512, NULL), 0);
    assert_int_not_equal(dump_writer_data(w, data, 1, NULL), 0);
    close(fd);
}

/* No byte of it can be another one. */
static void test_every_byte_counts(void **state)
{
    (void)state;
    struct dump_facts facts;
    int fd = make(&facts);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 0; at < st.st_size; at += at < 2048 || at > st.st_size - 4096 ? 1 : 257) {
        uint8_t byte, other;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        other = byte ^ 0x20;
        assert_int_equal(pwrite(fd, &other, 1, at), 1);
        if (check(fd, &facts) == 0)
            fail_msg("byte %lld does not count", (long long)at);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(check(fd, &facts), 0);
    close(fd);
}

static void test_every_length(void **state)
{
    (void)state;
    struct dump_facts facts;
    int fd = make(&facts);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size + 512), 0);
    assert_int_not_equal(check(fd, &facts), 0);
    for (off_t size = st.st_size - 512; size >= 0; size -= 512) {
        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_not_equal(check(fd, &facts), 0);
    }
    assert_false(dump_is_file(fd));
    close(fd);
}

static int stop(void *userdata, uint64_t done, uint64_t total)
{
    (void)userdata;
    assert_true(done <= total);
    return -ECANCELED;
}

static void test_it_can_be_ended(void **state)
{
    (void)state;
    struct dump_facts facts;
    int fd = make(&facts);
    assert_int_equal(dump_check(fd, &facts, stop, NULL, NULL), -ECANCELED);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read), cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_every_byte_counts),       cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_it_can_be_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
