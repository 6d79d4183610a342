/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Gate 1 as a whole: a good package in every container, every broken one with its own line, the files of a
 * real one. */

#include "support.h"

static void check_good(const struct package *p)
{
    if (p->n_problems > 0)
        fail_msg("a good package has problems:\n%s", support_problems_of(p));
    assert_true(p->version_known);
    assert_string_equal(p->version.name, VERSION);
    assert_string_equal(p->chip, "SDX55");
    assert_string_equal(p->product, "RM502QGLAA");
    assert_int_equal(p->geometry.page_size, 4096);
    assert_int_equal(p->geometry.pages_per_block, 64);
    assert_string_equal(p->programmer->path, "update/firehose/prog_firehose_sdx55.mbn");
    assert_string_equal(p->rawprogram->path, "update/firehose/rawprogram_nand_p4K_b256K_update.xml");
    assert_false(p->factory_only);
    assert_true(p->capabilities.digest && p->capabilities.skip_bad_block && p->capabilities.vendor_check);
    assert_true(p->table_known && p->table.crc_valid);
    assert_int_equal(p->table.n_partitions, 15);
    assert_int_equal(p->chip_blocks, 2048);
    assert_int_equal(p->n_commands, 20);
    assert_int_equal(package_check(p, NULL), 0);
}

static void test_same_id_in_every_container(void **state)
{
    (void)state;
    static const char *const names[] = {"a.zip", "a.7z", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"};
    char id[33] = "";
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct package *p = support_open(support_make(names[i], "--size", "3M", NULL));
        check_good(p);
        assert_string_equal(p->top, VERSION);
        if (*id)
            assert_string_equal(p->id, id);
        snprintf(id, sizeof(id), "%s", p->id);
        support_close(p);
    }
    /* Without its top directory the content is the same, and the name is not known. */
    struct package *p = support_open(support_make("flat.zip", "--size", "3M", "--flat", NULL));
    assert_string_equal(p->id, id);
    assert_string_equal(p->top, "");
    assert_false(p->version_known);
    assert_int_equal(p->n_problems, 0);
    support_close(p);
    p = support_open(support_make("other.zip", "--size", "3M", "--seed", "2", NULL));
    assert_string_not_equal(p->id, id);
    support_close(p);
}

static void test_name_of_archive(void **state)
{
    (void)state;
    struct archive_options options = support_options();
    struct archive_result result;
    struct error e = {0};
    struct package *p;
    int archive = support_make("flat2.zip", "--flat", "--small", NULL), store = support_store();

    options.name = VERSION ".zip";
    assert_int_equal(archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e), 0);
    close(archive);
    assert_int_equal(package_open(store, NULL, &p, &e), 0);
    assert_true(p->version_known);
    assert_string_equal(p->version.prefix, "RM502QGLAA");
    package_free(p);
    /* A hint of the caller counts before it. */
    assert_int_equal(package_open(store, "/home/me/EG25GGBR07A08M2G.7z", &p, &e), 0);
    assert_string_equal(p->version.prefix, "EG25GGB");
    support_close(p);
}

static void test_variants(void **state)
{
    (void)state;
    struct package *p = support_open(
        support_make("v1.zip", "--chip", "MDM9x07", "--version", "EG25GGBR07A08M2G_30.006.30.006", NULL));
    if (p->n_problems > 0)
        fail_msg("%s", support_problems_of(p));
    assert_string_equal(p->chip, "MDM9x07");
    assert_int_equal(p->geometry.page_size, 2048);
    support_close(p);

    p = support_open(support_make("v2.zip", "--small", "--vendor-tag", "--literals", "last_sector", NULL));
    if (p->n_problems > 0)
        fail_msg("%s", support_problems_of(p));
    assert_true(p->capabilities.last_sector);
    assert_false(p->capabilities.vendor_check || p->capabilities.digest || p->capabilities.skip_bad_block);
    support_close(p);

    p = support_open(support_make("v3.zip", "--small", "--grow", NULL));
    if (p->n_problems > 0)
        fail_msg("%s", support_problems_of(p));
    assert_int_equal(p->chip_blocks, 0);
    assert_true(p->table.partitions[14].grows);
    support_close(p);
}

/* What a package that can be imported is refused for. */
static void test_broken(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        enum error_kind error;
        const char *text;
    } broken[] = {
        {"missing-image", ERROR_FIRMWARE_INCOMPLETE, "update/tz.mbn is missing"},
        {"truncated-image", ERROR_FIRMWARE_INVALID, "tz.mbn is empty"},
        {"xml-bomb", ERROR_FIRMWARE_INVALID, "document type declaration"},
        {"external-entity", ERROR_FIRMWARE_INVALID, "document type declaration"},
        {"not-xml", ERROR_FIRMWARE_INVALID, "the rawprogram XML cannot be read: line"},
        {"negative", ERROR_FIRMWARE_INVALID, "start_sector=\"-64\" is not a plain number"},
        {"overflow", ERROR_FIRMWARE_INVALID, "num_partition_sectors=\"18446744073709551680\" is too large"},
        {"wrap", ERROR_FIRMWARE_INVALID, "num_partition_sectors=\"18446744073709551552\" is too large"},
        {"expression", ERROR_FIRMWARE_INVALID, "start_sector=\"NUM_DISK_SECTORS-33.\" is not a plain number"},
        {"image-too-large", ERROR_FIRMWARE_INVALID,
         "update/sec.dat has 257 pages, more than the 256 of its partition"},
        {"overlap", ERROR_FIRMWARE_INVALID, "overlap"},
        {"unaligned", ERROR_FIRMWARE_INVALID, "is not on block borders"},
        {"straddle", ERROR_FIRMWARE_INVALID, "reaches over the end of sec"},
        {"beyond-chip", ERROR_FIRMWARE_INVALID, "lies beyond the chip's 2048 blocks"},
        {"no-programmer", ERROR_FIRMWARE_INCOMPLETE, "there is no programmer"},
        {"two-programmers", ERROR_FIRMWARE_INVALID, "there are several programmers"},
        {"erase-no-range", ERROR_FIRMWARE_INVALID, "has no start_sector"},
        {"erase-no-sector-size", ERROR_FIRMWARE_INVALID, "has no SECTOR_SIZE_IN_BYTES"},
        {"disk-patch", ERROR_FIRMWARE_INVALID, "aims at the disk"},
        {"unpatched", ERROR_FIRMWARE_INVALID, "lacks what the patch"},
        {"bad-table-crc", ERROR_FIRMWARE_INVALID, "the CRC of its partition table is wrong"},
        {"table-without-crc", ERROR_FIRMWARE_INVALID, "table.mbn: the CRC of its partition table is missing"},
        {"two-tables", ERROR_FIRMWARE_INVALID,
         "it writes two partition tables, update/firehose/partition_complete_p4K_b256K.mbn and "
         "update/misc.img"},
        {"geometry-disagrees", ERROR_FIRMWARE_INVALID,
         "has sectors of 512 bytes, the package's pages have 4096"},
        {"project-disagrees", ERROR_FIRMWARE_INVALID,
         "the package's name says RM502QGLAA, its vendor check says RM520NGLAA"},
        {"traversal", ERROR_FIRMWARE_INVALID, "is not a name inside the package"},
        {"wrong-md5", ERROR_FIRMWARE_INVALID, "update/tz.mbn does not match md5.txt"},
        {"half-md5", ERROR_FIRMWARE_INVALID, "update/tz.mbn does not match md5.txt"},
        {"md5-missing", ERROR_FIRMWARE_INVALID, "md5.txt does not list update/tz.mbn"},
        {"md5-garbage", ERROR_FIRMWARE_INVALID, "md5.txt line 3 is no entry"},
        {"no-md5", ERROR_FIRMWARE_INCOMPLETE, "there is no md5.txt"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        struct error e = {0};
        struct package *p =
            support_open(support_make("broken.tar", "--small", "--break", broken[i].kind, NULL));
        if (!strstr(support_problems_of(p), broken[i].text))
            fail_msg("%s: no line says \"%s\":\n%s", broken[i].kind, broken[i].text, support_problems_of(p));
        assert_int_equal(package_check(p, &e), -EBADMSG);
        if (e.kind != broken[i].error)
            fail_msg("%s: %s instead of %s", broken[i].kind, error_name(e.kind), error_name(broken[i].error));
        support_close(p);
    }
}

/* What an archive is refused for before anything of it is a package. */
static void test_broken_archive(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *name;
        enum error_kind error;
        const char *text; /* in the message or a problem */
    } broken[] = {
        {"parent-name", "b.zip", ERROR_FIRMWARE_INVALID, "climbs out"},
        {"parent-name", "b.tar", ERROR_FIRMWARE_INVALID, "climbs out"},
        {"absolute-name", "b.zip", ERROR_FIRMWARE_INVALID, "it is absolute"},
        {"absolute-name", "b.tar.gz", ERROR_FIRMWARE_INVALID, "it is absolute"},
        {"drive-name", "b.zip", ERROR_FIRMWARE_INVALID, "drive letter"},
        {"control-name", "b.tar", ERROR_FIRMWARE_INVALID, "control characters"},
        {"long-name", "b.tar.xz", ERROR_FIRMWARE_INVALID, "longer than 255"},
        {"duplicate", "b.zip", ERROR_FIRMWARE_INVALID, "update/tz.mbn is there twice"},
        {"symlink", "b.zip", ERROR_FIRMWARE_INVALID, "symbolic link"},
        {"symlink", "b.7z", ERROR_FIRMWARE_INVALID, "symbolic link"},
        {"symlink", "b.tar", ERROR_FIRMWARE_INVALID, "symbolic link"},
        {"hardlink", "b.tar", ERROR_FIRMWARE_INVALID, "hard link"},
        {"device", "b.tar.zst", ERROR_FIRMWARE_INVALID, "device"},
        {"many-entries", "b.tar", ERROR_TOO_LARGE, "more than 4096 members"},
        {"many-entries", "b.zip", ERROR_TOO_LARGE, "more than 4096 members"},
        {"truncated", "b.zip", ERROR_FIRMWARE_INVALID, "damaged"},
        {"truncated", "b.7z", ERROR_FIRMWARE_INVALID, "damaged"},
        {"truncated", "b.tar.gz", ERROR_FIRMWARE_INVALID, "damaged"},
        {"truncated", "b.tar.xz", ERROR_FIRMWARE_INVALID, "damaged"},
        {"empty", "b.zip", ERROR_FIRMWARE_INVALID, "empty"},
        {"garbage", "b.zip", ERROR_FIRMWARE_INVALID, "damaged or no zip, 7z or tar"},
        {"bomb", "b.zip", ERROR_TOO_LARGE, "unpacks to more than"},
        {"lying-bomb", "b.zip", ERROR_FIRMWARE_INVALID, "claims"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        struct support_problems problems = {0};
        struct error e = {0};
        int archive = support_make(broken[i].name, "--small", "--break", broken[i].kind, NULL);
        int r = support_import(archive, NULL, &problems, &e);
        if (r >= 0)
            fail_msg("%s in %s was imported", broken[i].kind, broken[i].name);
        if (e.kind != broken[i].error ||
            (!strstr(e.message, broken[i].text) && !strstr(problems.text, broken[i].text)))
            fail_msg("%s in %s: %s \"%s\", problems:\n%s", broken[i].kind, broken[i].name, error_name(e.kind),
                     e.message, problems.text);
    }
}

/* Everything that is wrong is listed, not only the first thing. */
static void test_all_problems(void **state)
{
    (void)state;
    struct package p = {0};
    struct error e = {0};
    package_missing(&p, "a is missing");
    for (int i = 0; i < 100; i++)
        package_problem(&p, "number %d \x1b", i);
    assert_int_equal(p.n_problems, PACKAGE_PROBLEMS_MAX);
    assert_int_equal(p.problems_dropped, 101 - PACKAGE_PROBLEMS_MAX);
    assert_string_equal(p.problems[1], "number 0 \\x1b");
    assert_int_equal(package_check(&p, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INCOMPLETE);
    assert_string_equal(e.message, "The package is incomplete: a is missing (and 100 more)");
    for (size_t i = 0; i < p.n_problems; i++)
        free(p.problems[i]);
}

/* The digest that a modem will be asked for: of whole pages, 0xFF behind the end of the file. */
static void test_pages_sha256(void **state)
{
    (void)state;
    struct package *p = support_open(support_make("pages.zip", "--small", NULL));
    unsigned whole = 0, padded = 0;
    for (size_t i = 0; i < p->n_files; i++) {
        const struct package_file *f = &p->files[i];
        const uint64_t page_size = p->geometry.page_size, size = DIV_ROUND_UP(f->size, page_size) * page_size;
        uint8_t found[SHA256_SIZE];
        if (!f->referenced)
            continue;
        _cleanup_free_ char *pages = malloc(size);
        assert_non_null(pages);
        assert_int_equal(package_read(p, f, 0, pages, size), 0);
        assert_int_equal(digest_sha256(pages, size, found), 0);
        assert_memory_equal(found, f->pages_sha256, SHA256_SIZE);
        whole += size == f->size;
        padded += size != f->size;
    }
    assert_true(whole > 0 && padded > 0);
    package_free(p);
}

/* A byte that turned in the library is found before it is flashed. */
static void test_store_damage(void **state)
{
    (void)state;
    struct error e = {0};
    struct package *p = support_open(support_make("damage.zip", "--small", NULL)), *again;
    const struct package_file *tz = package_find(p, "UPDATE/TZ.mbn");
    uint8_t byte;
    assert_non_null(tz);
    assert_int_equal(package_read(p, tz, 100, &byte, 1), 0);
    byte ^= 1;
    assert_int_equal(io_pwrite_full(p->fd, &byte, 1, tz->offset + 100), 0);
    assert_int_equal(package_open(p->fd, NULL, &again, &e), 0);
    assert_non_null(
        strstr(support_problems_of(again), "update/tz.mbn in the library is not what was imported"));
    package_free(again);

    /* The index itself. */
    struct stat st;
    assert_int_equal(fstat(p->fd, &st), 0);
    static const uint64_t from_end[] = {1, 40, 64, 200};
    for (size_t i = 0; i < ARRAY_SIZE(from_end); i++) {
        uint64_t at = (uint64_t)st.st_size - from_end[i];
        assert_int_equal(io_pread_full(p->fd, &byte, 1, at), 0);
        byte ^= 0x20;
        assert_int_equal(io_pwrite_full(p->fd, &byte, 1, at), 0);
        assert_int_equal(package_open(p->fd, NULL, &again, &e), -EBADMSG);
        assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
        byte ^= 0x20;
        assert_int_equal(io_pwrite_full(p->fd, &byte, 1, at), 0);
    }
    assert_int_equal(ftruncate(p->fd, 30), 0);
    assert_int_equal(package_open(p->fd, NULL, &again, &e), -EBADMSG);
    support_close(p);
}

static void test_read(void **state)
{
    (void)state;
    struct package *p = support_open(support_make("read.zip", "--small", NULL));
    const struct package_file *sbl = package_find(p, "update/sbl1.mbn");
    uint8_t bytes[16];
    char *all;
    size_t size;
    assert_int_equal(package_read(p, sbl, 0, bytes, 4), 0);
    assert_memory_equal(bytes, "\xd1\xdc\x4b\x84", 4);
    /* Past the end lies the erased value. */
    assert_int_equal(package_read(p, sbl, sbl->size - 2, bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes + 2, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 14);
    assert_int_equal(package_read(p, sbl, UINT64_MAX, bytes, 4), 0);
    assert_memory_equal(bytes, "\xff\xff\xff\xff", 4);
    assert_int_equal(package_load(p, sbl, sbl->size - 1, &all, &size), -EFBIG);
    assert_int_equal(package_load(p, sbl, sbl->size, &all, &size), 0);
    assert_int_equal(size, sbl->size);
    free(all);
    support_close(p);
}

static void test_resolve(void **state)
{
    (void)state;
    static const struct {
        const char *base, *name, *path;
    } names[] = {
        {"update/firehose", "..\\sbl1.mbn", "update/sbl1.mbn"},
        {"update/firehose", "partition_complete.mbn", "update/firehose/partition_complete.mbn"},
        {"update/firehose", "..\\..\\md5.txt", "md5.txt"},
        {"update/firehose", "./x//y", "update/firehose/x/y"},
        {"", "a", "a"},
        {"update", "..\\..\\etc\\shadow", NULL},
        {"update", "\\etc\\shadow", NULL},
        {"update", "/etc/shadow", NULL},
        {"update", "C:\\x", NULL},
        {"update", "a\nb", NULL},
        {"update", "..", NULL},
        {"", "..", NULL},
    };
    char path[PACKAGE_PATH_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int r = package_resolve(names[i].base, names[i].name, path, sizeof(path));
        assert_int_equal(r, names[i].path ? 0 : -EINVAL);
        if (names[i].path)
            assert_string_equal(path, names[i].path);
    }
    char long_name[1024];
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(package_resolve("update", long_name, path, sizeof(path)), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_id_in_every_container),
        cmocka_unit_test(test_name_of_archive),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_broken_archive),
        cmocka_unit_test(test_all_problems),
        cmocka_unit_test(test_pages_sha256),
        cmocka_unit_test(test_store_damage),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_resolve),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
