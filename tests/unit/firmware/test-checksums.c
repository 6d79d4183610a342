/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/checksums.h"
#include "fake-package.h"

/* md5 of "one" and "two" */
#define ONE "f97c5d29941bfb1b2fdab0874906ab82"
#define TWO "b8a9f715dbb64fd5c56e7783c6820a61"

static struct package *two_files(void)
{
    struct package *p = fake_new();
    fake_add(p, "update/one.mbn", "one", 3);
    fake_add(p, "update/firehose/two.mbn", "two", 3);
    p->files[0].referenced = p->files[1].referenced = true;
    return p;
}

static void check(struct package *p, const char *text)
{
    struct checksums list = {0};
    assert_int_equal(checksums_parse(p, text, strlen(text), &list), 0);
    checksums_check(p, &list);
    checksums_done(&list);
}

static void test_forms(void **state)
{
    (void)state;
    static const char *const good[] = {
        "VERSION:1.0\r\nFILE:START\r\nFILE:\\update\\one.mbn:F97C5D29941BFB1B2FDAB0874906AB82\r\n"
        "FILE:\\update\\firehose\\two.mbn:B8A9F715DBB64FD5C56E7783C6820A61\r\nFILE:END\r\n",
        "FILE:START\n:\\update\\one.mbn:" ONE "\n:\\update\\firehose\\two.mbn:" TWO "\nFILE:END",
        "\\update\\one.mbn:" ONE "\n/update/firehose/two.mbn:" TWO "\n",
        ONE "  update/one.mbn\n" TWO " *./update/firehose/two.mbn\n",
        "\xef\xbb\xbf" ONE "\tUPDATE/One.MBN   \r\n\r\n  " TWO "  update\\firehose\\two.mbn",
        ONE "  update/one.mbn\n" ONE "  update/one.mbn\n" TWO "  update/firehose/two.mbn\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct package *p = two_files();
        check(p, good[i]);
        fake_expect(p, NULL);
        support_close(p);
    }
}

static void test_findings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *problem;
    } bad[] = {
        {"", "lists no file"},
        {"hello\n" ONE "  update/one.mbn\n", "line 1 is no entry"},
        {ONE "  ../../etc/passwd\n", "line 1 is no entry"},
        {"FILE:C:\\x:" ONE "\n", "line 1 is no entry"},
        {"FILE:\\update\\one.mbn:" ONE "0\n", "line 1 is no entry"},
        {"FILE:\\update\\one.mbn:f97c5d29941bfb1b\n", "line 1 is no entry"},
        {"FILE::" ONE "\n", "line 1 is no entry"},
        {"FILE:START\n" ONE "  update/one.mbn\n", "FILE:END is missing"},
        {ONE "  update/one.mbn\n" TWO "  update/one.mbn\n", "another digest than further up"},
        {TWO "  update/one.mbn\n", "update/one.mbn does not match md5.txt: expected " TWO ", found " ONE},
        /* only the first half is right */
        {"f97c5d29941bfb1b0000000000000000  update/one.mbn\n", "update/one.mbn does not match"},
        {ONE "  update/one.mbn\n", "md5.txt does not list update/firehose/two.mbn"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct package *p = two_files();
        check(p, bad[i].text);
        fake_expect(p, bad[i].problem);
        support_close(p);
    }
}

static void test_notes(void **state)
{
    (void)state;
    struct package *p = two_files();
    p->files[1].referenced = false;
    check(p, "FILE:START\r\nFILE:\\update\\one.mbn:" ONE "\r\nFILE:\\upgrade\\targetfiles.zip:" TWO
             "\r\nFILE:END\r\n");
    fake_expect(p, NULL);
    assert_true(fake_has_note(p, "upgrade/targetfiles.zip"));
    assert_true(fake_has_note(p, "nothing refers to update/firehose/two.mbn"));
    support_close(p);

    /* A file that nothing refers to must match all the same if it is listed. */
    p = two_files();
    p->files[1].referenced = false;
    check(p, ONE "  update/one.mbn\n" ONE "  update/firehose/two.mbn\n");
    fake_expect(p, "update/firehose/two.mbn does not match");
    support_close(p);
}

static void test_hostile(void **state)
{
    (void)state;
    struct package *p = two_files();
    struct checksums list = {0};
    size_t size = 1024 * 1024;
    char *text = malloc(size);
    assert_non_null(text);

    memset(text, 'a', size); /* one endless line */
    assert_int_equal(checksums_parse(p, text, size, &list), 0);
    fake_expect(p, "line 1 is no entry");
    checksums_done(&list);
    memset(text, '\n', size);
    assert_int_equal(checksums_parse(p, text, size, &list), 0);
    checksums_done(&list);
    memset(text, 0, size);
    assert_int_equal(checksums_parse(p, text, size, &list), 0);
    checksums_done(&list);
    support_close(p);

    /* More files than a package may have. */
    p = two_files();
    size_t n = 0;
    for (int i = 0; i <= PACKAGE_FILES_MAX + 10; i++)
        n += (size_t)snprintf(text + n, size - n, ONE "  f%d\n", i);
    assert_int_equal(checksums_parse(p, text, n, &list), 0);
    assert_int_equal(list.n_entries, PACKAGE_FILES_MAX);
    fake_expect(p, "lists more than 4096 files");
    checksums_done(&list);
    free(text);
    support_close(p);
}

static void test_real(void **state)
{
    (void)state;
    size_t size = 0, table_size = 0;
    char *text = fake_real("md5.txt", &size),
         *table = fake_real("partition_complete_p2K_b128K.mbn", &table_size);
    struct checksums list = {0};
    if (!text || !table)
        skip();
    struct package *p = fake_new();
    fake_add(p, "update/firehose/partition_complete_p2K_b128K.mbn", table, table_size);
    p->files[0].referenced = true;
    assert_int_equal(checksums_parse(p, text, size, &list), 0);
    assert_int_equal(list.n_entries, 19);
    checksums_check(p, &list);
    fake_expect(p, NULL);
    checksums_done(&list);
    support_close(p);
    free(text);
    free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),   cmocka_unit_test(test_findings), cmocka_unit_test(test_notes),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
