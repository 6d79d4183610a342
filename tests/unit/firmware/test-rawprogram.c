/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/rawprogram.h"
#include "firmware/ranges.h"
#include "fake-package.h"

#define BASE "update/firehose"
#define RANGE                                                                                                \
    "PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"640\" start_sector=\"0\""

static struct package *package_with(const char *path)
{
    struct package *p = fake_new();
    fake_add(p, path, "data", 4);
    return p;
}

static struct package *parse_in(struct package *p, const char *inside)
{
    char text[8192];
    snprintf(text, sizeof(text), "<?xml version=\"1.0\" ?>\n<data>\n%s\n</data>\n", inside);
    assert_int_equal(rawprogram_parse(p, BASE, text, strlen(text)), 0);
    return p;
}

static struct package *parse(const char *inside)
{
    return parse_in(package_with("update/sbl1.mbn"), inside);
}

static void test_commands(void **state)
{
    (void)state;
    struct package *p =
        parse("<!-- a comment with <program filename=\"x\"/> in it -->\n"
              "<program filename=\"..\\sbl1.mbn\" " RANGE " physical_partition_number=\"0\" label=\"x\" "
              "last_sector=\"639\"/>\n"
              "<program filename=\"\" " RANGE "/>\n"
              "<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"64\" start_sector=\"640\"/>\n"
              "<erase SECTOR_SIZE_IN_BYTES=\"0\"/>\n"
              "<erase vendor=\"quectel\" a_rawdata_start_sector=\"4608\" b_rawdata_num_sector=\"320\" "
              "c_project_name=\"RM502QAEAA\" d_project_type=\"STD\"/>");
    fake_expect(p, NULL);
    assert_int_equal(p->n_commands, 3);
    const struct package_command *c = p->commands;
    assert_int_equal(c[0].kind, COMMAND_PROGRAM);
    assert_ptr_equal(c[0].file, &p->files[0]);
    assert_true(p->files[0].referenced);
    assert_int_equal(c[0].sector_size, 2048);
    assert_int_equal(c[0].pages_per_block, 64);
    assert_int_equal(c[0].start, 0);
    assert_int_equal(c[0].count, 640);
    assert_int_equal(c[0].last, 639);
    assert_int_equal(c[0].line, 4);
    assert_int_equal(c[1].kind, COMMAND_ERASE);
    assert_int_equal(c[1].pages_per_block, 0);
    assert_true(c[1].last == UINT64_MAX);
    assert_int_equal(c[2].kind, COMMAND_VENDOR);
    assert_string_equal(c[2].vendor.project_name, "RM502QAEAA");
    assert_string_equal(c[2].vendor.project_type, "STD");
    assert_int_equal(c[2].vendor.rawdata_start_sector, 4608);
    assert_int_equal(c[2].vendor.rawdata_sectors, 320);
    support_close(p);
}

static void test_refused_commands(void **state)
{
    (void)state;
    static const struct {
        const char *inside, *problem;
    } bad[] = {
        {"", "has no command"},
        {"<erase/>", "erase of line 3 has no SECTOR_SIZE_IN_BYTES"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" start_sector=\"0\"/>", "has no num_partition_sectors"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"64\"/>", "has no start_sector"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"0\" start_sector=\"0\"/>",
         "has no length"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"\" start_sector=\"0\"/>",
         "not a plain number"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\" 64\" start_sector=\"0\"/>",
         "not a plain number"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"0x40\" start_sector=\"0\"/>",
         "not a plain number"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"+64\" start_sector=\"0\"/>",
         "not a plain number"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"64\" start_sector=\"-1\"/>",
         "not a plain number"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"64\" start_sector=\"4294967296\"/>",
         "is too large"},
        {"<erase SECTOR_SIZE_IN_BYTES=\"2048\" num_partition_sectors=\"64\" "
         "start_sector=\"99999999999999999999999\"/>",
         "is too large"},
        {"<erase " RANGE " physical_partition_number=\"1\"/>", "physical partition 1"},
        {"<erase " RANGE " last_sector=\"638\"/>", "last_sector 638 lies before"},
        {"<erase " RANGE " PAGES_PER_BLOCK=\"64\"/>", "cannot be read"}, /* twice the same attribute */
        {"<program filename=\"..\\tz.mbn\" " RANGE "/>", "update/tz.mbn is missing"},
        {"<program filename=\"..\\..\\..\\x\" " RANGE "/>", "is not a name inside the package"},
        {"<program filename=\"C:\\x\" " RANGE "/>", "is not a name inside the package"},
        {"<program filename=\"..\\sbl1.mbn\" " RANGE " file_sector_offset=\"4\"/>", "file_sector_offset"},
        {"<program filename=\"..\\sbl1.mbn\" " RANGE " sparse=\"true\"/>", "sparse"},
        {"<erase vendor=\"someone\" " RANGE "/>", "vendor command of \"someone\""},
        {"<erase vendor=\"quectel\" c_project_name=\"x\"/>", "has no a_rawdata_start_sector"},
        {"<erase vendor=\"quectel\" a_rawdata_start_sector=\"1\" b_rawdata_num_sector=\"1\" "
         "c_project_name=\"a&quot;/>\"/>",
         "is not a plain name"},
        {"<erase QUECTEL_PART_CHECK=\"1\"/>", "has no SECTOR_SIZE_IN_BYTES"},
        {"<patch/>", "<patch> is not a command"},
        {"<zeroout " RANGE "/>", "<zeroout> is not a command"},
        {"<x><erase " RANGE "/></x>", "<x> is not a command"},
        {"<erase " RANGE ">", "cannot be read"},
        {"&undefined;", "cannot be read"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct package *p = parse(bad[i].inside);
        fake_expect(p, bad[i].problem);
        support_close(p);
    }
}

static void parse_whole(const char *text, size_t size, const char *problem)
{
    struct package *p = package_with("update/sbl1.mbn");
    assert_int_equal(rawprogram_parse(p, BASE, text, size), 0);
    fake_expect(p, problem);
    assert_int_equal(p->n_commands, 0);
    support_close(p);
}

static void test_hostile_xml(void **state)
{
    (void)state;
    static const struct {
        const char *text, *problem;
    } bad[] = {
        {"", "empty"},
        {"garbage", "cannot be read"},
        {"<patches/>", "root is <patches>"},
        {"<!DOCTYPE data><data/>", "document type declaration"},
        {"<!DOCTYPE data SYSTEM \"http://127.0.0.1/x.dtd\"><data/>", "document type declaration"},
        {"<!DOCTYPE data [<!ENTITY a \"b\"><!ENTITY c \"&a;&a;\">]><data>&c;</data>",
         "document type declaration"},
        {"<!DOCTYPE data [<!ENTITY % p SYSTEM \"file:///etc/passwd\">%p;]><data/>",
         "document type declaration"},
        {"<?xml version=\"1.0\" encoding=\"no-such-encoding\"?><data/>", "cannot be read"},
        {"<data>\xff\xfe</data>", "cannot be read"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        parse_whole(bad[i].text, strlen(bad[i].text), bad[i].problem);
    parse_whole("<data>\0</data>", 14, "NUL");

    /* One tag with hundreds of thousands of attributes: libxml2 would compare each with each. */
    size_t size = 2 * 1024 * 1024, n = 0;
    char *text = malloc(size);
    assert_non_null(text);
    n += (size_t)snprintf(text, size, "<data><erase ");
    for (unsigned i = 0; n + 32 < size; i++)
        n += (size_t)snprintf(text + n, size - n, "a%x='>' ", i);
    n += (size_t)snprintf(text + n, size - n, "/></data>");
    usec_t before = now_usec();
    parse_whole(text, n, "a tag is longer than 4096 bytes");

    /* Nested as deep as it gets, and as many elements as fit. */
    n = 0;
    while (n + 8 < size)
        n += (size_t)snprintf(text + n, size - n, "<data>");
    parse_whole(text, n, "<data> is not a command");
    n = (size_t)snprintf(text, size, "<data>");
    while (n + 32 < size)
        n += (size_t)snprintf(text + n, size - n, "<x a='1'/>");
    n += (size_t)snprintf(text + n, size - n, "</data>");
    parse_whole(text, n, "<x> is not a command");
    assert_true(now_usec() - before < 20 * USEC_PER_SEC);
    free(text);
}

static void test_too_many(void **state)
{
    (void)state;
    size_t size = 256 * 1024, n;
    char *text = malloc(size);
    struct package *p = package_with("update/sbl1.mbn");
    assert_non_null(text);
    n = (size_t)snprintf(text, size, "<data>");
    for (int i = 0; i < PACKAGE_STEPS_MAX + 5; i++)
        n += (size_t)snprintf(text + n, size - n, "<erase " RANGE "/>");
    n += (size_t)snprintf(text + n, size - n, "</data>");
    assert_int_equal(rawprogram_parse(p, BASE, text, n), 0);
    assert_int_equal(p->n_commands, PACKAGE_STEPS_MAX);
    fake_expect(p, "more than 512 commands");
    assert_int_equal(p->n_problems, 1);
    free(text);
    support_close(p);
}

/* ---- patches ---- */

static struct package *patch(struct package *p, const char *attributes)
{
    char text[2048];
    snprintf(text, sizeof(text),
             "<?xml version=\"1.0\" ?><patches><patch SECTOR_SIZE_IN_BYTES=\"16\" %s/></patches>",
             attributes);
    assert_int_equal(patch_check(p, BASE, text, strlen(text)), 0);
    return p;
}

static struct package *table_package(void)
{
    /* sector 0: bytes 0 to 15; sector 1: 2048 - 1458 = 590 at byte 4, all ones at byte 8 */
    static const uint8_t data[32] = {0,  1,  2,  3,  4,    5, 6, 7, 8,    9,    10,   11,   12, 13, 14, 15,
                                     42, 43, 44, 45, 0x4e, 2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0,  0,  0,  0};
    struct package *p = fake_new();
    fake_add(p, BASE "/table.mbn", data, sizeof(data));
    return p;
}

static void test_patches(void **state)
{
    (void)state;
    static const struct {
        const char *attributes, *problem;
    } patches[] = {
        {"filename=\"DISK\" start_sector=\"1\" byte_offset=\"0\" size_in_bytes=\"4\" value=\"0\"",
         "aims at the disk"},
        {"start_sector=\"1\" byte_offset=\"0\" size_in_bytes=\"4\" value=\"0\"", "aims at the disk"},
        {"filename=\"none.mbn\" start_sector=\"1\" byte_offset=\"0\" size_in_bytes=\"4\" value=\"0\"",
         "none.mbn is missing"},
        {"filename=\"..\\..\\..\\x\" start_sector=\"1\" byte_offset=\"0\" size_in_bytes=\"4\" value=\"0\"",
         "not a name inside"},
        {"filename=\"table.mbn\" start_sector=\"2\" byte_offset=\"0\" size_in_bytes=\"4\" value=\"0\"",
         "lies outside"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"13\" size_in_bytes=\"4\" value=\"0\"",
         "lies outside"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"0\" size_in_bytes=\"9\" value=\"0\"",
         "size_in_bytes"},
        {"filename=\"table.mbn\" start_sector=\"-1\" byte_offset=\"0\" size_in_bytes=\"4\" value=\"0\"",
         "start_sector"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" value=\"590\"",
         NULL},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" value=\"0x24e\"",
         NULL},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" value=\"591\"",
         "lacks what the patch"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" "
         "value=\"NUM_DISK_BLOCKS-1458.\"",
         NULL},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"8\" size_in_bytes=\"4\" "
         "value=\"NUM_DISK_BLOCKS-1458.\"",
         "lacks what the patch"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"12\" size_in_bytes=\"4\" "
         "value=\"NUM_DISK_BLOCKS-1458.\"",
         "lacks what the patch"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" "
         "value=\"NUM_DISK_BLOCKS-x.\"",
         "is not understood"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" "
         "value=\"CRC32(0,16)\"",
         "lacks what the patch"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" "
         "value=\"CRC32(0,99999999999)\"",
         "is not understood"},
        {"filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" value=\"CRC32(1)\"",
         "is not understood"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(patches); i++) {
        struct package *p = patch(table_package(), patches[i].attributes);
        fake_expect(p, patches[i].problem);
        support_close(p);
    }
    struct package *p = patch(table_package(), patches[11].attributes);
    assert_int_equal(p->chip_blocks, 2048);
    assert_true(p->files[0].referenced);
    support_close(p);
    p = patch(
        table_package(),
        "filename=\"table.mbn\" start_sector=\"1\" byte_offset=\"4\" size_in_bytes=\"4\" value=\"f(x)\"");
    fake_expect(p, NULL);
    assert_true(fake_has_note(p, "cannot be evaluated"));
    support_close(p);
}

/* ---- a real package ---- */

static void test_real(void **state)
{
    (void)state;
    static const char *const images[] = {
        "update/sbl1.mbn",
        "update/tz.mbn",
        "update/appsboot.mbn",
        "update/mdm9607-boot.img",
        "update/NON-HLOS.ubi",
        "update/usrdata.ubi",
        "update/mdm9607-recovery.ubi",
        "update/mdm9607-sysfs.ubi",
        "update/rpm.mbn",
    };
    size_t size = 0, patch_size = 0, table_size = 0;
    char *text = fake_real("rawprogram_nand_p2K_b128K_update.xml", &size);
    char *patches = fake_real("patch_p2K_b128K.xml", &patch_size);
    char *table = fake_real("partition_complete_p2K_b128K.mbn", &table_size);
    if (!text || !patches || !table)
        skip();

    struct package *p = fake_new();
    for (size_t i = 0; i < ARRAY_SIZE(images); i++)
        fake_add(p, images[i], "image", 5);
    fake_add(p, BASE "/partition_complete_p2K_b128K.mbn", table, table_size);
    assert_int_equal(rawprogram_parse(p, BASE, text, size), 0);
    assert_int_equal(p->n_commands, 22);
    assert_int_equal(patch_check(p, BASE, patches, patch_size), 0);
    fake_expect(p, NULL);
    assert_int_equal(p->chip_blocks, 2048);

    struct error e = {0};
    char *pages = calloc(MIBIB_PAGES, 2048);
    memcpy(pages, table, table_size);
    assert_int_equal(mibib_parse(pages, 2048, 0, &p->table, &e), 0);
    assert_true(p->table.crc_valid);
    p->table_known = true;
    ranges_check(p);
    fake_expect(p, NULL);

    /* One wrong byte in it and it lacks its CRC. */
    table[2048 + 100] ^= 1;
    assert_int_equal(io_pwrite_full(p->fd, table, table_size, p->files[9].offset), 0);
    assert_int_equal(patch_check(p, BASE, patches, patch_size), 0);
    fake_expect(p, "CRC32(0,4096)");
    support_close(p);
    free(pages);
    free(text);
    free(patches);
    free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),    cmocka_unit_test(test_refused_commands),
        cmocka_unit_test(test_hostile_xml), cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_patches),     cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
