/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Flash rule 7: what is printed, and what is refused before a byte is printed. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/firehose-internal.h"

static const struct firehose_range good = {4096, 64, 640, 128, 1279};

static void expect_text(const struct firehose_text *text, const char *tag)
{
    char expected[sizeof(text->data)];
    int n = snprintf(expected, sizeof(expected),
                     "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n%s\n</data>\n", tag);
    assert_int_equal(text->size, n);
    assert_memory_equal(text->data, expected, text->size);
}

#define ADDRESS                                                                                              \
    "SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"128\" physical_partition_number=\"0\" "           \
    "start_sector=\"640\" last_sector=\"1279\""

static void test_documents(void **state)
{
    (void)state;
    struct firehose_text t;
    assert_int_equal(firehose_print_nop(&t, NULL), 0);
    expect_text(&t, "<nop />");
    assert_int_equal(firehose_print_storage_info(&t, NULL), 0);
    expect_text(&t, "<getstorageinfo physical_partition_number=\"0\" />");
    assert_int_equal(firehose_print_erase(&t, &good, NULL), 0);
    expect_text(&t, "<erase PAGES_PER_BLOCK=\"64\" " ADDRESS " />");
    assert_int_equal(firehose_print_program(&t, &good, NULL), 0);
    expect_text(&t, "<program PAGES_PER_BLOCK=\"64\" " ADDRESS " />");
    assert_int_equal(firehose_print_read(&t, &good, false, NULL), 0);
    expect_text(&t, "<read PAGES_PER_BLOCK=\"64\" " ADDRESS " />");
    assert_int_equal(firehose_print_read(&t, &good, true, NULL), 0);
    expect_text(&t, "<read PAGES_PER_BLOCK=\"64\" " ADDRESS " skip_bad_block=\"1\" />");
    assert_int_equal(firehose_print_digest(&t, &good, NULL), 0);
    expect_text(&t, "<getsha256digest " ADDRESS " />");
    assert_int_equal(firehose_print_configure(&t, 8192, true, NULL), 0);
    expect_text(&t, "<configure MemoryName=\"nand\" Verbose=\"0\" AlwaysValidate=\"0\" "
                    "MaxDigestTableSizeInBytes=\"2048\" "
                    "MaxPayloadSizeToTargetInBytes=\"8192\" ZlpAwareHost=\"1\" SkipStorageInit=\"0\" />");
    assert_int_equal(firehose_print_power(&t, FIREHOSE_POWER_EDL, NULL), 0);
    expect_text(&t, "<power value=\"reset_to_edl\" DelayInSeconds=\"1\" />");
}

static const struct firehose_vendor_check vendor = {
    .sector_size = 4096,
    .pages_per_block = 64,
    .rawdata_start_sector = 23040,
    .rawdata_sectors = 640,
    .project_name = "RM502QGLAA",
    .project_type = "M4G",
};

static void test_vendor_check(void **state)
{
    (void)state;
    struct firehose_text t;
    assert_int_equal(firehose_print_vendor_check(&t, &vendor, NULL), 0);
    expect_text(&t, "<erase vendor=\"quectel\" SECTOR_SIZE_IN_BYTES=\"4096\" start_sector=\"0\" "
                    "num_partition_sectors=\"64\" last_sector=\"63\" a_rawdata_start_sector=\"23040\" "
                    "b_rawdata_num_sector=\"640\" c_project_name=\"RM502QGLAA\" d_project_type=\"M4G\" />");
    struct firehose_vendor_check v = vendor;
    v.project_type[0] = '\0';
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), 0);
    assert_null(strstr(t.data, "d_project_type"));

    static const char *const names[] = {"",    "a\"b",        "a b",  "a<b",
                                        "a&b", "caf\xc3\xa9", "a\nb", "x' erase='1"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        v = vendor;
        strcpy(v.project_name, names[i]);
        assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
        if (i == 0)
            continue;
        v = vendor;
        strcpy(v.project_type, names[i]);
        assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
    }
    v = vendor;
    memset(v.project_name, 'A', sizeof(v.project_name)); /* not terminated */
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
    v = vendor, v.sector_size = 0;
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
    v = vendor, v.pages_per_block = 0;
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
    v = vendor, v.rawdata_sectors = 0;
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
    v = vendor, v.rawdata_sectors = UINT64_MAX;
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
    v = vendor, v.rawdata_start_sector = UINT64_MAX;
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), -EINVAL);
}

static void expect_refused(const struct firehose_range *r, bool also_read)
{
    struct error e = {};
    struct firehose_text t = {.size = 77};
    assert_int_equal(firehose_print_erase(&t, r, &e), -EINVAL);
    assert_int_equal(e.kind, ERROR_INVALID_ARGS);
    assert_int_equal(firehose_print_program(&t, r, NULL), also_read || r->start % 64 ? -EINVAL : 0);
    if (also_read) {
        assert_int_equal(firehose_print_read(&t, r, true, NULL), -EINVAL);
        assert_int_equal(firehose_print_digest(&t, r, NULL), -EINVAL);
        assert_int_equal(t.size, 77); /* nothing was printed */
    } else {
        assert_int_equal(firehose_print_read(&t, r, true, NULL), 0);
    }
}

static void test_contradictions(void **state)
{
    (void)state;
    static const struct firehose_range bad[] = {
        {0, 64, 640, 128, 1279},                        /* no sector size */
        {512, 64, 640, 128, 1279},                      /* not a NAND page */
        {4096, 0, 640, 128, 1279},                      /* no block size */
        {4096, 65, 640, 128, 1279},                     /* no power of two */
        {4096, 64, 640, 0, 1279},                       /* no count: the whole disk to a programmer */
        {4096, 64, 640, 128, 766},                      /* last sector before the end of the range */
        {4096, 64, 640, 128, 0},                        /* no last sector */
        {4096, 64, 640, 128, 639},                      /* before its start */
        {4096, 64, 640, 128, (uint64_t)UINT32_MAX + 1}, /* cut to 32 bits it would be 0 */
        {4096, 64, (uint64_t)1 << 32, 64, ((uint64_t)1 << 32) + 63},
        {4096, 64, UINT64_MAX - 63, 64, UINT64_MAX},
        {4096, 64, 64, UINT64_MAX, 127}, /* start + count wraps */
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_refused(&bad[i], true);
    /* Not on block borders: an erase takes whole blocks, a program erases the block that it starts in. */
    static const struct firehose_range crooked[] = {
        {4096, 64, 641, 64, 767},
        {4096, 64, 640, 65, 767},
        {4096, 64, 640, 64, 704},
        {4096, 64, 640, 1, 703},
    };
    for (size_t i = 0; i < ARRAY_SIZE(crooked); i++)
        expect_refused(&crooked[i], false);

    struct firehose_text t;
    assert_int_equal(firehose_print_configure(&t, 0, true, NULL), -EINVAL);
    assert_int_equal(firehose_print_configure(&t, 1000, true, NULL), -EINVAL);
    assert_int_equal(firehose_print_power(&t, (enum firehose_power)3, NULL), -EINVAL);
}

/* 2.1: a length that is a multiple of 512 makes the device wait for a ZLP. */
static void test_no_whole_packets(void **state)
{
    (void)state;
    struct firehose_text t = {};
    for (size_t size = 1; size < sizeof(t.data); size++) {
        memset(t.data, 'x', sizeof(t.data));
        t.size = size;
        firehose_end_text(&t);
        assert_int_equal(t.size, size % 512 == 0 ? size + 1 : size);
        assert_int_equal(t.data[t.size - 1], size % 512 == 0 ? '\n' : 'x');
    }
    /* The longest document that there is. */
    struct firehose_vendor_check v = vendor;
    v.rawdata_start_sector = v.rawdata_sectors = 2000000000;
    memset(v.project_name, 'N', sizeof(v.project_name) - 1);
    memset(v.project_type, 'T', sizeof(v.project_type) - 1);
    assert_int_equal(firehose_print_vendor_check(&t, &v, NULL), 0);
    assert_int_not_equal(t.size % 512, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_vendor_check),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_no_whole_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
