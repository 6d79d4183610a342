/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include "../fake-firehose.h"
#include "base/io.h"
#include "link/keys.h"
#include "storage/mibib.h"

enum { PAGE = 2048, BLOCKS = 2048 };

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void seal(uint8_t *image)
{
    put_u32(image + 3 * PAGE + 12, mibib_crc(image, 2 * PAGE));
}

/* name[i], first[i], length[i] as a MIBIB with a good CRC. */
struct entry {
    const char *name;
    uint32_t first, length;
};

static void make(uint8_t *image, uint32_t age, const struct entry *entries, uint32_t n)
{
    memset(image, 0xff, 4 * PAGE);
    put_u32(image, 0xfe569fac);
    put_u32(image + 4, 0xcd7f127a);
    put_u32(image + 8, 4);
    put_u32(image + 12, age);
    uint8_t *p = image + PAGE;
    put_u32(p, 0x55ee73aa);
    put_u32(p + 4, 0xe35ebddb);
    put_u32(p + 8, 4);
    put_u32(p + 12, n);
    for (uint32_t i = 0; i < n && entries[i].name; i++) {
        uint8_t *entry = p + 16 + i * 28;
        memset(entry, 0, 16);
        memcpy(entry, entries[i].name, strnlen(entries[i].name, 16));
        put_u32(entry + 16, entries[i].first);
        put_u32(entry + 20, entries[i].length);
    }
    p = image + 3 * PAGE;
    put_u32(p, 0x9d41bea1);
    put_u32(p + 4, 0xf1ded2ea);
    put_u32(p + 8, 1);
    seal(image);
}

static const struct entry usual[] = {
    {"0:SBL", 0, 10},
    {"0:MIBIB", 10, 10},
    {"0:EFS2", 20, 136},
    {"RAWDATA", 196, 10},
    {"0:system", 1458, 0xffffffff},
    {NULL},
};
enum { USUAL = ARRAY_SIZE(usual) - 1 };

static void test_crc(void **state)
{
    (void)state;
    /* The catalogue's check value of CRC-32/MPEG-2 has init 0xFFFFFFFF; with init 0 and no final xor
     * "123456789" gives this. */
    assert_int_equal(mibib_crc("123456789", 9), 0x89a1897f);
    assert_int_equal(mibib_crc("", 0), 0);
}

static void test_parse(void **state)
{
    (void)state;
    uint8_t image[4 * PAGE];
    struct mibib_table t;
    struct error e;
    make(image, 3, usual, USUAL);
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, &e), 0);
    assert_int_equal(t.n_partitions, 5);
    assert_int_equal(t.age, 3);
    assert_int_equal(t.version, 4);
    assert_true(t.crc_present && t.crc_valid);
    assert_string_equal(t.partitions[0].name, "SBL");
    assert_true(t.partitions[4].grows);
    assert_int_equal(t.partitions[4].n_blocks, BLOCKS - 1458);

    assert_ptr_equal(mibib_find(&t, "0:efs2"), &t.partitions[2]);
    assert_ptr_equal(mibib_find(&t, "rawdata"), &t.partitions[3]);
    assert_null(mibib_find(&t, "EFS"));
    assert_ptr_equal(mibib_at(&t, 155), &t.partitions[2]);
    assert_null(mibib_at(&t, 156));
    assert_ptr_equal(mibib_at(&t, 2047), &t.partitions[4]);
    assert_null(mibib_at(&t, 2048));

    assert_int_equal(mibib_parse(image, PAGE, 0, &t, &e), 0);
    assert_int_equal(t.partitions[4].n_blocks, 0);
    assert_ptr_equal(mibib_at(&t, 100000), &t.partitions[4]);
    assert_null(mibib_at(&t, 1457));

    image[PAGE + 30] ^= 1;
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, &e), 0);
    assert_true(t.crc_present);
    assert_false(t.crc_valid);
    memset(image + 3 * PAGE, 0xff, PAGE);
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, &e), 0);
    assert_false(t.crc_present || t.crc_valid);
}

static void refuse(const struct entry *entries, uint32_t n, uint64_t blocks, const char *word)
{
    uint8_t image[4 * PAGE];
    struct mibib_table t = {.n_partitions = 77};
    struct error e = {0};
    make(image, 1, entries, n);
    assert_int_equal(mibib_parse(image, PAGE, blocks, &t, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
    assert_non_null(strstr(e.message, word));
    assert_int_equal(t.n_partitions, 77);
}

static void test_refused(void **state)
{
    (void)state;
    refuse((struct entry[]){{"A", 0, 10}, {"B", 9, 1}}, 2, BLOCKS, "B begins at block 9 inside A");
    refuse((struct entry[]){{"A", 5, 10}, {"B", 0, 6}}, 2, BLOCKS, "A begins at block 5 inside B");
    refuse((struct entry[]){{"A", 5, 1}, {"B", 5, 1}}, 2, BLOCKS, "begins at block 5 inside");
    refuse((struct entry[]){{"A", 5, 0}}, 1, BLOCKS, "empty");
    refuse((struct entry[]){{"B", 10, 1}, {"A", 0, 0xffffffff}}, 2, BLOCKS, "rest of the chip");
    refuse((struct entry[]){{"A", 0, 2049}}, 1, BLOCKS, "beyond");
    refuse((struct entry[]){{"A", 2048, 0xffffffff}}, 1, BLOCKS, "beyond");
    refuse((struct entry[]){{"A", 0xffffffff, 0xffffffff}}, 1, 0, "beyond");
    refuse((struct entry[]){{"A", 0xfffffff0, 0xfffffff0}}, 1, 0, "beyond");
    refuse((struct entry[]){{"A", 0, 0xffffffff}, {"B", 10, 1}}, 2, BLOCKS, "rest of the chip");
    refuse((struct entry[]){{"A", 0, 0xffffffff}, {"B", 10, 1}}, 2, 0, "rest of the chip");
    refuse((struct entry[]){{"A", 0, 1}, {"0:a", 1, 1}}, 2, BLOCKS, "two partitions");
    refuse((struct entry[]){{"0:", 0, 1}}, 1, BLOCKS, "name");
    refuse((struct entry[]){{"a\nb", 0, 1}}, 1, BLOCKS, "name");
    refuse((struct entry[]){{"\xc3\xa4", 0, 1}}, 1, BLOCKS, "name");
    refuse(usual, 0, BLOCKS, "0 partitions");
    refuse(usual, 73, BLOCKS, "73 partitions"); /* 72 entries fill a page of 2 KiB */
    refuse(usual, 0xffffffff, BLOCKS, "partitions");

    uint8_t image[4 * PAGE];
    struct mibib_table t;
    struct error e;
    make(image, 1, usual, USUAL);
    image[0] ^= 1;
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, &e), -EBADMSG);
    assert_non_null(strstr(e.message, "magic"));
    make(image, 1, usual, USUAL);
    image[PAGE + 4] ^= 1;
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, &e), -EBADMSG);
    put_u32(image, 0xaa7d1b9a);
    put_u32(image + 4, 0x1f7d48bc);
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, &e), -EBADMSG);
    assert_non_null(strstr(e.message, "bare user table"));
    assert_int_equal(mibib_parse(image, 16, BLOCKS, &t, &e), -EBADMSG);
}

static void test_long_name(void **state)
{
    (void)state;
    uint8_t image[4 * PAGE];
    struct mibib_table t;
    make(image, 1, (struct entry[]){{"ABCDEFGHIJKLMNOPQRST", 0, 1}}, 1);
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, NULL), 0);
    assert_string_equal(t.partitions[0].name, "ABCDEFGHIJKLMNOP");
}

/* The modem's loaders go by names: they take any order, and entries of length 0. */
static void test_any_order(void **state)
{
    (void)state;
    static const struct entry odd[] = {{"0:system", 1458, 0xffffffff},
                                       {"0:EFS2", 20, 136},
                                       {"spare", 2048, 0},
                                       {"0:SBL", 0, 10},
                                       {"EFS2", 30, 0},
                                       {"0:MIBIB", 10, 10}};
    static const char *const names[] = {"SBL", "MIBIB", "EFS2", "system"};
    uint8_t image[4 * PAGE];
    struct mibib_table t;
    struct error e = {0};
    for (uint64_t blocks = 0; blocks <= BLOCKS; blocks += BLOCKS) {
        make(image, 1, odd, ARRAY_SIZE(odd));
        assert_int_equal(mibib_parse(image, PAGE, blocks, &t, &e), 0);
        assert_int_equal(t.n_partitions, ARRAY_SIZE(names));
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            assert_string_equal(t.partitions[i].name, names[i]);
        assert_int_equal(t.partitions[2].first_block, 20);
        assert_int_equal(t.partitions[2].n_blocks, 136);
        assert_true(t.partitions[3].grows);
        assert_int_equal(t.partitions[3].n_blocks, blocks ? BLOCKS - 1458 : 0);
    }
}

static void test_is_image(void **state)
{
    (void)state;
    uint8_t image[4 * PAGE];
    make(image, 1, usual, USUAL);
    assert_true(mibib_is_image(image, MIBIB_MAGIC_SIZE));
    assert_false(mibib_is_image(image, MIBIB_MAGIC_SIZE - 1));
    assert_false(mibib_is_image(image + PAGE, MIBIB_MAGIC_SIZE));
}

static void place(struct firehose *f, uint64_t block, const uint8_t *image)
{
    for (unsigned i = 0; i < 4; i++)
        if (i != 2)
            fake_put(f, block * f->g.pages_per_block + i, image + i * PAGE, PAGE);
}

static void test_read(void **state)
{
    (void)state;
    struct firehose *f = fake_new(PAGE, 8, 64);
    struct nand_capabilities caps = {.skip_bad_block = true};
    struct mibib_table t;
    struct error e = {0};
    uint64_t block = 99;
    uint8_t image[4 * PAGE];
    const struct entry small[] = {{"0:SBL", 0, 10}, {"0:MIBIB", 10, 10}, {"0:rest", 20, 0xffffffff}};
    f->erased_fill = 0xee;

    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -ENOENT);
    assert_int_equal(e.kind, ERROR_NONE);

    make(image, 4, small, 3);
    place(f, 10, image);
    make(image, 6, small, 3);
    place(f, 12, image);
    make(image, 9, small, 3); /* the youngest, but damaged */
    image[PAGE + 20] ^= 4;
    place(f, 13, image);
    make(image, 8, small, 3); /* without a CRC page: only if nothing better is there */
    memset(image + 3 * PAGE, 0xff, PAGE);
    place(f, 11, image);
    f->bad[14] = true;
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), 0);
    assert_int_equal(block, 12);
    assert_int_equal(t.age, 6);
    assert_int_equal(t.partitions[2].n_blocks, 44);

    /* What it sees on the way is known afterwards; of a bad block it says nothing, and nothing of what it did
     * not read. */
    struct nand_map map;
    assert_int_equal(nand_map_init(&map, 64), 0);
    assert_int_equal(mibib_read(f, &f->g, &caps, &map, &t, &block, &e), 0);
    for (uint64_t b = 0; b < 64; b++)
        assert_int_equal(nand_map_is_known(&map, b), b <= 32 && b != 14);
    assert_int_equal(nand_map_count_bad(&map, 0, 64), 0);
    nand_map_done(&map);
    /* By a programmer that hides bad blocks nothing is learned of them. */
    caps.skip_bad_block = false;
    assert_int_equal(nand_map_init(&map, 64), 0);
    assert_int_equal(mibib_read(f, &f->g, &caps, &map, &t, &block, &e), 0);
    for (uint64_t b = 0; b < 64; b++)
        assert_false(nand_map_is_known(&map, b));
    nand_map_done(&map);
    caps.skip_bad_block = true;

    fake_erase_block(f, 10);
    fake_erase_block(f, 12);
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), 0);
    assert_int_equal(block, 11);
    fake_erase_block(f, 11);
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -ENOENT);

    make(image, 1, small, 3);
    place(f, 32, image); /* the last of the known places, behind what is scanned */
    caps.skip_bad_block = false;
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), 0);
    assert_int_equal(block, 32);

    /* A page elsewhere that is refused hides no table; a copy with such a page is none. */
    f->fail_at = (unsigned)f->n_commands + 1;
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), 0);
    assert_int_equal(block, 32);
    f->fail_at = (unsigned)f->n_commands + 5;
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -ENOENT);
    f->fail_at = (unsigned)f->n_commands + 5;
    f->fail_with = -ENODEV;
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -ENODEV);
    fake_free(f);
}

/* What the modem goes by and we cannot read is told, and no older copy speaks for it. */
static void test_read_refused(void **state)
{
    (void)state;
    struct firehose *f = fake_new(PAGE, 8, 64);
    struct nand_capabilities caps = {.skip_bad_block = true};
    struct mibib_table t = {.n_partitions = 77};
    struct error e = {0};
    uint64_t block = 99;
    uint8_t image[4 * PAGE];
    const struct entry small[] = {{"0:SBL", 0, 10}, {"0:MIBIB", 10, 10}, {"0:rest", 20, 0xffffffff}};
    const struct entry twisted[] = {{"0:SBL", 0, 10}, {"0:MIBIB", 9, 10}, {"0:rest", 20, 0xffffffff}};

    make(image, 4, small, 3);
    place(f, 10, image);
    make(image, 5, twisted, 3);
    place(f, 12, image);
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    assert_non_null(strstr(e.message, "in block 12"));
    assert_non_null(strstr(e.message, "MIBIB begins at block 9 inside SBL"));
    assert_int_equal(t.n_partitions, 77);
    assert_int_equal(block, 99);

    /* As old as a good one it still refuses, wherever it lies; older it does not matter. */
    make(image, 5, small, 3);
    fake_erase_block(f, 10);
    place(f, 10, image);
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -EPERM);
    make(image, 6, small, 3);
    fake_erase_block(f, 10);
    place(f, 10, image);
    assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), 0);
    assert_int_equal(t.age, 6);

    /* With a wrong CRC or none it is no copy, even as the only one. */
    fake_erase_block(f, 10);
    for (unsigned i = 0; i < 2; i++) {
        make(image, 9, twisted, 3);
        if (i == 0)
            image[PAGE + 20] ^= 4;
        else
            memset(image + 3 * PAGE, 0xff, PAGE);
        fake_erase_block(f, 12);
        place(f, 12, image);
        assert_int_equal(mibib_read(f, &f->g, &caps, NULL, &t, &block, &e), -ENOENT);
    }
    fake_free(f);
}

static void test_unit_data(void **state)
{
    (void)state;
    assert_true(mibib_is_unit_data("EFS2") && mibib_is_unit_data("0:rawdata") &&
                mibib_is_unit_data("SYS_REV") && mibib_is_unit_data("cust_info"));
    assert_false(mibib_is_unit_data("efs") || mibib_is_unit_data("efs2x") || mibib_is_unit_data("") ||
                 mibib_is_unit_data("sec"));
}

static void test_text(void **state)
{
    (void)state;
    uint8_t image[4 * PAGE];
    struct mibib_table t, back;
    const struct entry odd[] = {{"a\\b=c", 0, 10}, {"B", 12, 10}, {"C", 30, 0xffffffff}};
    for (uint64_t blocks = 0; blocks <= BLOCKS; blocks += BLOCKS) {
        make(image, 1, odd, 3);
        assert_int_equal(mibib_parse(image, PAGE, blocks, &t, NULL), 0);
        _cleanup_free_ char *text = mibib_print(&t);
        assert_non_null(text);
        assert_int_equal(mibib_scan(text, strlen(text), &back), 0);
        assert_int_equal(back.n_partitions, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_string_equal(back.partitions[i].name, t.partitions[i].name);
            assert_int_equal(back.partitions[i].first_block, t.partitions[i].first_block);
            assert_int_equal(back.partitions[i].n_blocks, t.partitions[i].n_blocks);
            assert_int_equal(back.partitions[i].grows, t.partitions[i].grows);
        }
        /* Cut anywhere it is a shorter table or none, never a crash or a wrong number. */
        for (size_t n = 0; n < strlen(text); n++) {
            struct mibib_table cut;
            if (mibib_scan(text, n, &cut) == 0)
                assert_true(cut.n_partitions >= 1 && cut.n_partitions <= 3);
        }
    }
    static const char *const bad[] = {
        "",
        "NAME=A\n",
        "NAME=A\nFIRST=0\n",
        "FIRST=0\nBLOCKS=1\n",
        "NAME=A\nFIRST=-1\nBLOCKS=1\n",
        "NAME=A\nFIRST=0\nBLOCKS=99999999999\n",
        "NAME=A\nFIRST=0\nBLOCKS=1\nX=1\n",
        "NAME=A\nNAME=B\nFIRST=0\nBLOCKS=1\n",
        "NAME=A\nFIRST=0\nFIRST=0\nBLOCKS=1\n",
        "NAME=AAAAAAAAAAAAAAAAA\nFIRST=0\nBLOCKS=1\n",
        "NAME=A\nFIRST=0\nBLOCKS=0\n",
        "NAME=A\nFIRST=0\nBLOCKS=2\n\nNAME=B\nFIRST=1\nBLOCKS=1\n",
        "NAME=A\\x01\nFIRST=0\nBLOCKS=1\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(mibib_scan(bad[i], strlen(bad[i]), &back), -EBADMSG);
}

/* ---- several ---- */

#define SBL      "NAME=SBL\nFIRST=0\nBLOCKS=10\n"
#define EFS2(at) "NAME=EFS2\nFIRST=" #at "\nBLOCKS=4\n"

/* How many tables it has, and that EFS2 lies at these places in them; 0: it cannot be read. */
static size_t several(const char *text, uint64_t first, uint64_t second)
{
    struct mibib_tables t = {0};
    int r = mibib_scan_several(text, strlen(text), &t);
    if (r < 0) {
        assert_int_equal(r, -EBADMSG);
        assert_null(t.table);
        return 0;
    }
    const uint64_t places[] = {first, second};
    size_t n = t.n;
    for (size_t i = 0; i < MIN_OF(n, 2); i++) {
        const struct mibib_partition *efs2 = mibib_find(&t.table[i], "EFS2");
        assert_int_equal(efs2 ? efs2->first_block : 0, places[i]);
    }
    assert_ptr_equal(mibib_newest(&t), &t.table[n - 1]);
    mibib_tables_done(&t);
    return n;
}

static void test_several(void **state)
{
    (void)state;
    assert_int_equal(several(SBL "\n" EFS2(20), 20, 0), 1);
    assert_int_equal(several(SBL "\n" EFS2(20) RECORDED_BETWEEN SBL "\n" EFS2(77), 20, 77), 2);
    /* Also where no block tells. */
    assert_int_equal(several(SBL RECORDED_BETWEEN EFS2(20), 0, 20), 2);
    /* As an earlier version wrote them. */
    assert_int_equal(several(SBL "\n" EFS2(20) "\n" SBL "\n" EFS2(77), 20, 77), 2);
    assert_int_equal(several(EFS2(20) "\n" EFS2(77), 20, 77), 2);
    assert_int_equal(several(EFS2(20) "\nNAME=x\nFIRST=23\nBLOCKS=9\n", 20, 0), 2);
    assert_int_equal(
        several(EFS2(20) "\nNAME=x\nFIRST=30\nBLOCKS=0\nGROWS=1\n\nNAME=y\nFIRST=40\nBLOCKS=1\n", 20, 0), 2);
    assert_int_equal(several(SBL "\n" EFS2(20) "\n" SBL "\n" EFS2(77) RECORDED_BETWEEN EFS2(99), 20, 77), 3);
    /* More blank lines than there are between two, in front and behind. */
    assert_int_equal(several("\n\n\n" SBL "\n\n\n\n\n" EFS2(20) "\n\n\n\n", 0, 20), 2);

    /* One of them is bad: none of them is believed. */
    static const char *const bad[] = {
        "",
        "\n",
        RECORDED_BETWEEN "\n",
        SBL RECORDED_BETWEEN "garbage\n" RECORDED_BETWEEN EFS2(20),
        SBL "garbage\n" RECORDED_BETWEEN EFS2(20),
        SBL RECORDED_BETWEEN "NAME=EFS2\nFIRST=20\n",
        SBL RECORDED_BETWEEN "NAME=EFS2\nFIRST=20\nBLOCKS=4", /* of 44? */
        SBL RECORDED_BETWEEN "NAME=EFS2\nFIRST=20\n" RECORDED_BETWEEN "BLOCKS=4\n",
        SBL "\nNAME=x\nFIRST=9\nBLOCKS=0\n",
        SBL "\nNAME=x\nFIRST=4294967295\nBLOCKS=2\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(several(bad[i], 0, 0), 0);
    struct mibib_tables none;
    assert_int_equal(mibib_scan_several(SBL "\0\n", sizeof(SBL) + 1, &none), -EBADMSG);
}

static void test_too_many(void **state)
{
    (void)state;
    static const char *const between[] = {"\n", RECORDED_BETWEEN};
    for (size_t k = 0; k < ARRAY_SIZE(between); k++) {
        char text[(MIBIB_TABLES_MAX + 1) * 64] = SBL;
        struct mibib_table own, package;
        for (size_t n = 1; n <= MIBIB_TABLES_MAX; n++) {
            struct mibib_tables t;
            assert_int_equal(mibib_scan_several(text, strlen(text), &t), 0);
            assert_int_equal(t.n, n);
            const struct mibib_union u = mibib_unite(&own, &t, &package);
            assert_int_equal(u.n, n + 2);
            assert_ptr_equal(u.table[0], &own);
            assert_ptr_equal(u.table[1], mibib_newest(&t));
            assert_ptr_equal(u.table[n], &t.table[0]);
            assert_ptr_equal(u.table[n + 1], &package);
            mibib_tables_done(&t);
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", between[k], SBL);
        }
        assert_int_equal(several(text, 0, 0), 0);
    }
    const struct mibib_union nothing = mibib_unite(NULL, NULL, NULL);
    assert_int_equal(nothing.n, 0);
}

/* A real package's table, where one is at hand: tests/unit is run from the top of the tree. */
static void test_real(void **state)
{
    (void)state;
    static const char *const places[] = {"../shared/data/eg25g", "../../shared/data/eg25g"};
    const char *directory = getenv("QDLD_SAMPLES");
    char path[512];
    _cleanup_close_ int fd = -1;
    for (size_t i = 0; fd < 0 && i < ARRAY_SIZE(places) + 1; i++) {
        const char *at = i == 0 ? directory : places[i - 1];
        if (!at)
            continue;
        snprintf(path, sizeof(path), "%s/partition_complete_p2K_b128K.mbn", at);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0)
        skip();
    _cleanup_free_ char *image = NULL;
    size_t size;
    struct mibib_table t;
    assert_int_equal(io_read_file(fd, 1 << 20, &image, &size), 0);
    assert_int_equal(size, 4 * PAGE);
    assert_int_equal(mibib_crc(image, 2 * PAGE), 0xde5d6102);
    assert_int_equal(mibib_parse(image, PAGE, BLOCKS, &t, NULL), 0);
    assert_true(t.crc_valid);
    assert_int_equal(t.n_partitions, 17);
    assert_string_equal(t.partitions[2].name, "EFS2");
    assert_int_equal(t.partitions[2].first_block, 20);
    assert_int_equal(t.partitions[2].n_blocks, 136);
    assert_int_equal(mibib_find(&t, "system")->first_block + mibib_find(&t, "system")->n_blocks, BLOCKS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),          cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_read),         cmocka_unit_test(test_unit_data),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_several),
        cmocka_unit_test(test_too_many),     cmocka_unit_test(test_real),
        cmocka_unit_test(test_any_order),    cmocka_unit_test(test_is_image),
        cmocka_unit_test(test_read_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
