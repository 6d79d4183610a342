/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/io.h"
#include "worker/journal.h"

enum { RECORDS = 6 };

static struct journal_key a_key(void)
{
    struct journal_key key = {
        .unit = {.have_serial = true,
                 .have_hwid = true,
                 .serial = 0x49cbd7ef,
                 .hwid = 0x000cf0e100040000,
                 .pk_hash_size = 48},
        .firmware = "0123456789abcdef0123456789abcdef",
    };
    memset(key.unit.pk_hash, 0xd9, sizeof(key.unit.pk_hash));
    memset(key.plan, 1, sizeof(key.plan));
    memset(key.programmer, 2, sizeof(key.programmer));
    memset(key.options, 3, sizeof(key.options));
    return key;
}

static struct journal_record record(unsigned i)
{
    return (struct journal_record){.kind = i % 2 ? JOURNAL_DONE : JOURNAL_INTENT,
                                   .action = (uint8_t)(i / 2),
                                   .first_block = 10 * (i / 2),
                                   .n_blocks = 10,
                                   .pages = 7 * (i / 2)};
}

static int file_of(void)
{
    int fd = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    return fd;
}

static off_t size_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static void fill(int fd, const struct journal_key *key, unsigned n)
{
    struct journal j;
    const char *why = NULL;
    assert_int_equal(journal_load(&j, fd, key, &why, NULL), 0);
    assert_non_null(why);
    assert_int_equal(journal_start(&j, NULL), 0);
    for (unsigned i = 0; i < n; i++) {
        struct journal_record r = record(i);
        assert_int_equal(journal_append(&j, &r, NULL), 0);
    }
    journal_done(&j);
}

/* How many records a load gives; -1 if the journal is void. */
static int count(int fd, const struct journal_key *key, const char **ret_why)
{
    struct journal j;
    const char *why = NULL;
    assert_int_equal(journal_load(&j, fd, key, &why, NULL), 0);
    int n = why ? -1 : (int)j.n_records;
    assert_true(!why == j.writable);
    for (int i = 0; i < n; i++) {
        struct journal_record r = record((unsigned)i);
        assert_memory_equal(&j.records[i].first_block, &r.first_block, 24);
        assert_int_equal(j.records[i].kind, r.kind);
    }
    if (ret_why)
        *ret_why = why;
    journal_done(&j);
    return n;
}

static void test_replay(void **state)
{
    (void)state;
    _cleanup_close_ int fd = file_of();
    struct journal_key key = a_key();
    fill(fd, &key, RECORDS);
    assert_int_equal(size_of(fd), JOURNAL_HEADER_SIZE + RECORDS * JOURNAL_RECORD_SIZE);
    assert_int_equal(count(fd, &key, NULL), RECORDS);

    struct journal j;
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    struct journal_record step = record(2), other = record(2);
    assert_int_equal(journal_find(&j, &step)->kind, JOURNAL_DONE);
    other.pages++;
    assert_null(journal_find(&j, &other));
    other = step;
    other.n_blocks++;
    assert_null(journal_find(&j, &other));
    /* An intent behind a done takes it back. */
    step.kind = JOURNAL_INTENT;
    assert_int_equal(journal_append(&j, &step, NULL), 0);
    assert_int_equal(journal_find(&j, &step)->kind, JOURNAL_INTENT);
    journal_done(&j);
}

static void test_torn_tails(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    _cleanup_close_ int whole = file_of();
    fill(whole, &key, RECORDS);
    off_t size = size_of(whole);
    for (off_t n = 0; n <= size; n++) {
        _cleanup_close_ int fd = file_of();
        uint8_t bytes[JOURNAL_HEADER_SIZE + RECORDS * JOURNAL_RECORD_SIZE];
        assert_int_equal(io_pread_full(whole, bytes, (size_t)n, 0), 0);
        assert_int_equal(io_pwrite_full(fd, bytes, (size_t)n, 0), 0);
        int whole_records =
            n < JOURNAL_HEADER_SIZE ? 0 : (int)((n - JOURNAL_HEADER_SIZE) / JOURNAL_RECORD_SIZE);
        assert_int_equal(count(fd, &key, NULL), whole_records ? whole_records : -1);
        if (whole_records == 0)
            continue;
        /* It goes on behind the last whole record, and the rest of the torn one is gone. */
        struct journal j;
        struct journal_record next = record((unsigned)whole_records);
        assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
        assert_int_equal(journal_append(&j, &next, NULL), 0);
        journal_done(&j);
        assert_int_equal(size_of(fd), JOURNAL_HEADER_SIZE + (whole_records + 1) * JOURNAL_RECORD_SIZE);
        assert_int_equal(count(fd, &key, NULL), whole_records + 1);
    }
}

/* A power cut may leave the file longer than what was written: zeros, or what lay there before. */
static void test_tail_of_garbage(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    _cleanup_close_ int fd = file_of();
    fill(fd, &key, 3);
    assert_int_equal(ftruncate(fd, size_of(fd) + 10 * JOURNAL_RECORD_SIZE), 0);
    assert_int_equal(count(fd, &key, NULL), 3);

    uint8_t first[JOURNAL_RECORD_SIZE];
    assert_int_equal(io_pread_full(fd, first, sizeof(first), JOURNAL_HEADER_SIZE), 0);
    assert_int_equal(io_pwrite_full(fd, first, sizeof(first), JOURNAL_HEADER_SIZE + 3 * JOURNAL_RECORD_SIZE),
                     0);
    assert_int_equal(count(fd, &key, NULL), 3);
}

static void test_every_byte_counts(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    _cleanup_close_ int fd = file_of();
    fill(fd, &key, RECORDS);
    for (off_t n = 0; n < size_of(fd); n++) {
        uint8_t byte, changed;
        assert_int_equal(io_pread_full(fd, &byte, 1, (uint64_t)n), 0);
        changed = byte ^ 0x20;
        assert_int_equal(io_pwrite_full(fd, &changed, 1, (uint64_t)n), 0);
        int before = n < JOURNAL_HEADER_SIZE ? 0 : (int)((n - JOURNAL_HEADER_SIZE) / JOURNAL_RECORD_SIZE);
        assert_int_equal(count(fd, &key, NULL), before ? before : -1);
        assert_int_equal(io_pwrite_full(fd, &byte, 1, (uint64_t)n), 0);
    }
    assert_int_equal(count(fd, &key, NULL), RECORDS);
}

/* A modem that was slow once did not say everything: what it said is the same. */
static void test_less_of_the_same_unit(void **state)
{
    (void)state;
    const struct journal_key key = a_key();
    struct journal_key less = key;
    const char *why;
    less.unit.have_hwid = false;
    less.unit.hwid = 0;
    less.unit.pk_hash_size = 0;
    memset(less.unit.pk_hash, 0, sizeof(less.unit.pk_hash));

    _cleanup_close_ int fd = file_of();
    fill(fd, &key, RECORDS);
    assert_int_equal(count(fd, &less, &why), RECORDS);

    /* What is appended then belongs to the journal that is there. */
    struct journal j;
    struct journal_record next = record(RECORDS);
    assert_int_equal(journal_load(&j, fd, &less, &why, NULL), 0);
    assert_int_equal(journal_append(&j, &next, NULL), 0);
    journal_done(&j);
    assert_int_equal(count(fd, &key, &why), RECORDS + 1);

    /* Another hash is another hash, of whatever length. */
    less = key;
    less.unit.pk_hash_size = 32;
    assert_int_equal(count(fd, &less, &why), -1);
    assert_string_equal(why, "it is of another unit");
}

static void test_other_keys(void **state)
{
    (void)state;
    const struct journal_key key = a_key();
    _cleanup_close_ int fd = file_of();
    const char *why;
    fill(fd, &key, RECORDS);

    struct journal_key other = key;
    other.unit.serial++;
    assert_int_equal(count(fd, &other, &why), -1);
    assert_string_equal(why, "it is of another unit");
    other = key;
    other.unit.hwid++;
    assert_int_equal(count(fd, &other, &why), -1);
    other = key;
    other.unit.pk_hash[47]++;
    assert_int_equal(count(fd, &other, &why), -1);
    other = key;
    other.unit.have_serial = false;
    assert_int_equal(count(fd, &other, &why), -1);
    other = key;
    other.firmware[31] = 'e';
    assert_int_equal(count(fd, &other, &why), -1);
    assert_string_equal(why, "it is of another firmware");
    other = key;
    other.plan[31]++;
    assert_int_equal(count(fd, &other, &why), -1);
    assert_string_equal(why, "its plan was another one");
    other = key;
    other.programmer[0]++;
    assert_int_equal(count(fd, &other, &why), -1);
    assert_string_equal(why, "its programmer was another one");
    other = key;
    other.options[5]++;
    assert_int_equal(count(fd, &other, &why), -1);
    assert_string_equal(why, "its options were others");

    /* Another job's header over the same records: theirs stay theirs. */
    struct journal j;
    uint8_t old[RECORDS * JOURNAL_RECORD_SIZE];
    assert_int_equal(io_pread_full(fd, old, sizeof(old), JOURNAL_HEADER_SIZE), 0);
    assert_int_equal(journal_load(&j, fd, &other, NULL, NULL), 0);
    assert_int_equal(journal_start(&j, NULL), 0);
    assert_int_equal(io_pwrite_full(fd, old, sizeof(old), JOURNAL_HEADER_SIZE), 0);
    journal_done(&j);
    assert_int_equal(count(fd, &other, &why), -1);
    assert_string_equal(why, "nothing was done yet");
}

/* Started again for the same unit and plan: the records of the first start would fit, and must not come back.
 */
static void test_started_again(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    struct journal j;
    _cleanup_close_ int fd = file_of();
    fill(fd, &key, RECORDS);
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    assert_int_equal(journal_start(&j, NULL), 0);
    assert_int_equal(size_of(fd), JOURNAL_HEADER_SIZE);
    struct journal_record first = record(0);
    assert_int_equal(journal_append(&j, &first, NULL), 0);
    journal_done(&j);
    assert_int_equal(count(fd, &key, NULL), 1);
}

static void test_unknown_unit(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    key.unit.serial = 0;
    _cleanup_close_ int fd = file_of();
    fill(fd, &key, RECORDS);
    assert_int_equal(count(fd, &key, NULL), -1);
    key.unit.have_serial = false;
    fill(fd, &key, RECORDS);
    assert_int_equal(count(fd, &key, NULL), -1);
}

static void test_finished(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    _cleanup_close_ int fd = file_of();
    fill(fd, &key, RECORDS);
    struct journal j;
    struct journal_record end = {.kind = JOURNAL_FINISHED};
    const char *why;
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    assert_int_equal(journal_append(&j, &end, NULL), 0);
    journal_done(&j);
    assert_int_equal(count(fd, &key, &why), -1);
    assert_string_equal(why, "that flash was finished");
}

static void test_errors(void **state)
{
    (void)state;
    struct journal_key key = a_key();
    struct error e = {0};
    struct journal j;
    struct journal_record r = record(0);
    _cleanup_close_ int fd = file_of();
    assert_int_equal(journal_load(&j, -1, &key, NULL, &e), -EIO);
    assert_int_equal(journal_load(&j, fd, &key, NULL, &e), 0);
    assert_true(journal_append(&j, &r, &e) < 0); /* not started */
    assert_int_equal(size_of(fd), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    assert_true(journal_start(&j, &e) < 0);
    assert_false(j.writable);
    journal_done(&j);
}

/* What lets a second call wait for normal mode instead of 9008. */
static void test_completed(void **state)
{
    (void)state;
    static const struct journal_record complete = {.kind = JOURNAL_COMPLETE};
    _cleanup_close_ int fd = file_of();
    struct journal_key key = a_key(), stranger = a_key();
    struct journal j;
    assert_false(journal_was_completed(&j, fd, &key)); /* empty */
    fill(fd, &key, 3);
    assert_false(journal_was_completed(&j, fd, &key));
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    assert_int_equal(journal_append(&j, &complete, NULL), 0);
    journal_done(&j);

    key.unit = (struct sahara_identity){0}; /* nobody asked the modem yet */
    assert_true(journal_was_completed(&j, fd, &key));
    assert_int_equal(j.n_records, 4);
    assert_false(j.writable);
    journal_done(&j);
    stranger.unit.serial++;
    assert_false(journal_was_completed(&j, fd, &stranger));
    stranger = key;
    stranger.options[0] ^= 1;
    assert_false(journal_was_completed(&j, fd, &stranger));

    /* The modem left for its boot; that is no other end. */
    static const struct journal_record finished = {.kind = JOURNAL_FINISHED};
    key = a_key();
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    assert_int_equal(journal_append(&j, &finished, NULL), 0);
    journal_done(&j);
    assert_true(journal_was_completed(&j, fd, &key));
    journal_done(&j);

    /* Something was begun behind it; or it ended before. */
    assert_int_equal(ftruncate(fd, JOURNAL_HEADER_SIZE + 4 * JOURNAL_RECORD_SIZE), 0);
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    struct journal_record more = record(3);
    assert_int_equal(journal_append(&j, &more, NULL), 0);
    journal_done(&j);
    assert_false(journal_was_completed(&j, fd, &key));
    assert_int_equal(ftruncate(fd, 0), 0);
    fill(fd, &key, 3);
    assert_int_equal(journal_load(&j, fd, &key, NULL, NULL), 0);
    assert_int_equal(journal_append(&j, &finished, NULL), 0);
    journal_done(&j);
    assert_false(journal_was_completed(&j, fd, &key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_completed),
        cmocka_unit_test(test_torn_tails),
        cmocka_unit_test(test_tail_of_garbage),
        cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_less_of_the_same_unit),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_unknown_unit),
        cmocka_unit_test(test_finished),
        cmocka_unit_test(test_started_again),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
