/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* XQCN and the file that a calibration lies in: scanner, reader, writer, container. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "backup/calibration.h"
#include "base/clock.h"
#include "base/io.h"

static int memory(const char *text, size_t size)
{
    int fd = memfd_create("xqcn", 0);
    assert_true(fd >= 0);
    assert_int_equal(io_pwrite_full(fd, text, size, 0), 0);
    return fd;
}

static int read_text(const char *text, struct calibration **ret, struct error *e)
{
    int fd = memory(text, strlen(text));
    *ret = NULL;
    int r = xqcn_read(fd, 0, strlen(text), ret, e);
    if (r < 0)
        close(fd); /* else the calibration needs it */
    return r;
}

#define HEAD                                                                                                 \
    "<?xml version=\"1.0\" encoding=\"Windows-1252\" ?>\n<Storage Name='x.xqcn'><Storage "                   \
    "Name='00000186'><Storage Name='default'>"
#define TAIL                                                                                                 \
    "</Storage></Storage><Stream Length='6' Name='File_Version' Value='02 00 00 00 00 00'/></Storage>\n"
#define FILES(section, dir, data)                                                                            \
    "<Storage Name='" section "'><Storage Name='EFS_Dir'>" dir "</Storage><Storage Name='EFS_Data'>" data    \
    "</Storage></Storage>"
#define STREAM(length, name, value) "<Stream Length='" length "' Name='" name "' Value='" value "'/>"
/* "/nv/a" */
#define PATH_A     "2F 6E 76 2F 61"
#define PATH_A_NUL PATH_A " 00"
#define RFNV_HEAD  "01 00 01 01 80 3D D5 12"

/* Every form of a directory entry that was seen, and the order of the two sides mixed. */
static void test_section_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum calibration_section section;
        bool head;
    } table[] = {
        {HEAD FILES("Provisioning_Item_Files", STREAM("6", "00000000", PATH_A_NUL),
                    STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_PROVISIONING, false},
        {HEAD FILES("Provisioning_Item_Files", STREAM("5", "00000000", PATH_A),
                    STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_PROVISIONING, false},
        {HEAD FILES("NV_Items", STREAM("5", "0000000A", PATH_A), STREAM("2", "0000000a", "01 02")) TAIL,
         CALIBRATION_NV_ITEMS, false},
        {HEAD FILES("NV_Items", STREAM("6", "00000000", PATH_A_NUL), STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_NV_ITEMS, false},
        {HEAD FILES("EFS_Backup", STREAM("13", "00000000", RFNV_HEAD " " PATH_A),
                    STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_EFS_BACKUP, true},
        {HEAD FILES("EFS_Backup", STREAM("14", "00000000", RFNV_HEAD " " PATH_A_NUL),
                    STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_EFS_BACKUP, true},
        {HEAD FILES("EFS_Backup", STREAM("5", "00000000", PATH_A), STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_EFS_BACKUP, false},
        {HEAD FILES("Provisioning_Item_Files", STREAM("14", "00000000", RFNV_HEAD " " PATH_A_NUL),
                    STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_PROVISIONING, true},
        {HEAD FILES("NV_Items", STREAM("13", "00000000", RFNV_HEAD " " PATH_A),
                    STREAM("2", "00000000", "01 02")) TAIL,
         CALIBRATION_NV_ITEMS, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct calibration *c;
        struct error e = {0};
        if (read_text(table[i].text, &c, &e) < 0)
            fail_msg("%zu: %s", i, e.message);
        assert_int_equal(c->n_files, 1);
        assert_string_equal(c->files[0].path, "/nv/a");
        assert_int_equal(c->files[0].section, table[i].section);
        assert_int_equal(c->files[0].has_head, table[i].head);
        uint8_t *data = NULL;
        assert_int_equal(calibration_load(c, &c->files[0], &data, &e), 0);
        assert_memory_equal(data, "\x01\x02", 2);
        free(data);
        close(c->fd);
        calibration_free(c);
    }
}

/* Quotes, case, blanks, order of attributes, closed elements: what is tolerated. */
static void test_forms(void **state)
{
    static const char *const good[] = {
        "<Storage Name=\"x\">\r\n <Storage\tName=\"00000000\" >\n<Storage Name='default'>"
        "<Stream Value=\"01 00\" Name='Feature_Mask' Length=\"2\"></Stream>"
        "<Storage Name='NV_Items'><Storage Name='EFS_Dir'><Stream Name='00000000' Length='5' Value='2f 6e 76 "
        "2F 61' />"
        "</Storage><Storage Name='EFS_Data'><Stream Length='0' Name='00000000' Value=''/></Storage></Storage>"
        "<Storage Name='Empty'/></Storage></Storage>\n"
        "<Stream Length='6' Name='File_Version' Value='02 00 00 00 00 00'/></Storage>",
        HEAD FILES("NV_Items", STREAM("5", "00000000", PATH_A),
                   STREAM("0", "00000000", "")) "<Storage Name='A &amp; B'/>" TAIL,
        "\xef\xbb\xbf" HEAD FILES("NV_Items", STREAM("5", "00000000", PATH_A), STREAM("0", "00000000", ""))
            TAIL,
        HEAD "<Storage Name='Roaming_Lists'>" STREAM("1", "0", "00") "</Storage>" FILES(
            "NV_Items", STREAM("5", "00000000", PATH_A), STREAM("0", "00000000", "")) TAIL,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct calibration *c;
        struct error e = {0};
        if (read_text(good[i], &c, &e) < 0)
            fail_msg("%zu: %s", i, e.message);
        assert_int_equal(c->n_files, 1);
        assert_int_equal(c->files[0].size, 0);
        assert_int_equal(c->ignored, i == 3);
        close(c->fd);
        calibration_free(c);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *word;
        enum error_kind kind;
    } bad[] = {
        {"", "it is empty", ERROR_BACKUP_DAMAGED},
        {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "QCN", ERROR_UNSUPPORTED},
        {"hello", "text has no place", ERROR_BACKUP_DAMAGED},
        {"<!DOCTYPE x [<!ENTITY a 'b'>]><Storage Name='x'/>", "DTD", ERROR_BACKUP_DAMAGED},
        {"<?xml version='1.0'?><!-- x --><Storage Name='x'/>", "comments", ERROR_BACKUP_DAMAGED},
        {"<html/>", "\"html\" is none", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='&lol;'/>", "entities", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a&'/>", "entities", ERROR_BACKUP_DAMAGED},
        {"<Storage/>", "has a Name", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a' Name='b'/>", "twice", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a' Value=''/>", "no meaning", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'Name='b'/>", "blank is expected", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'>", "ends inside of Storage \"a\"", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'></Stream>", "</Storage> is expected", ERROR_BACKUP_DAMAGED},
        {"</Storage>", "an end of nothing", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'/><Storage Name='b'/>", "behind the end", ERROR_BACKUP_DAMAGED},
        {"<Stream Length='0' Name='a' Value=''/>", "outside of any", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='2' Name='a' Value='00'/></Storage>", "Length of a is 2",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='x' Name='a' Value='00'/></Storage>", "a Length is",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='1' Name='a' Value='0'/></Storage>", "half a byte",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='1' Name='a' Value='00 '/></Storage>", "half a byte",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='2' Name='a' Value='0000'/></Storage>", "between two bytes",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='1' Name='a' Value='0G'/></Storage>", "line 1, column 55",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'>\n\n<Stream Length='1' Name='a' Value='00'>x</Stream></Storage>",
         "line 3, column 40", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='1' Value='00'/></Storage>", "has Name, Length and Value",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='1'><Storage Name='00000000'><Storage Name='3'><Storage Name='4'><Storage Name='5'>"
         "<Storage Name='6'><Storage Name='7'><Storage Name='8'><Storage Name='9'>",
         "more than 8", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='a'><Stream Length='99999999999' Name='a' Value='00'/></Storage>", "a Length is",
         ERROR_BACKUP_DAMAGED},
        {"<Storage Name='x'><Storage Name='model'/></Storage>", "model storage", ERROR_BACKUP_DAMAGED},
        {HEAD "</Storage></Storage></Storage>", "no File_Version", ERROR_BACKUP_DAMAGED},
        {HEAD TAIL, "nothing in it", ERROR_BACKUP_DAMAGED},
        {"<Storage Name='x'><Stream Length='6' Name='File_Version' Value='01 00 00 00 00 00'/></Storage>",
         "version 1", ERROR_UNSUPPORTED},
        {HEAD "<Storage Name='NV_NUMBERED_ITEMS'>" STREAM("3", "NV_ITEM_ARRAY", "88 00 01") "</Storage>" TAIL,
         "not a multiple", ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("5", "00000000", PATH_A), "") TAIL, "one entry and one content",
         ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", "", STREAM("0", "00000000", "")) TAIL, "one entry and one content",
         ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("5", "00000000", PATH_A) STREAM("5", "00000000", PATH_A),
                    STREAM("0", "00000000", "") STREAM("0", "00000000", "")) TAIL,
         "one entry and one content", ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("5", "00000000", PATH_A) STREAM("5", "00000001", PATH_A),
                    STREAM("0", "00000000", "") STREAM("0", "00000001", "")) TAIL,
         "comes twice", ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("5", "zero", PATH_A), STREAM("0", "zero", "")) TAIL,
         "the number \"zero\"", ERROR_BACKUP_DAMAGED},
        /* "/../a", "a", "//a", a NUL inside */
        {HEAD FILES("NV_Items", STREAM("5", "00000000", "2F 2E 2E 2F 61"), STREAM("0", "00000000", "")) TAIL,
         "no path", ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("1", "00000000", "61"), STREAM("0", "00000000", "")) TAIL, "no path",
         ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("3", "00000000", "2F 2F 61"), STREAM("0", "00000000", "")) TAIL,
         "no path", ERROR_BACKUP_DAMAGED},
        {HEAD FILES("NV_Items", STREAM("4", "00000000", "2F 61 00 61"), STREAM("0", "00000000", "")) TAIL,
         "no path", ERROR_BACKUP_DAMAGED},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct calibration *c;
        struct error e = {0};
        int r = read_text(bad[i].text, &c, &e);
        if (r >= 0 || e.kind != bad[i].kind || !strstr(e.message, bad[i].word))
            fail_msg("%zu (%s): %d %s", i, bad[i].word, r, e.message);
    }
}

/* ---- round trips ---- */

static struct calibration *make(size_t items, size_t files, size_t file_size)
{
    static const uint8_t imei[CALIBRATION_NV_DATA] = {0x08, 0x4a, 0x09, 0x51, 0x24, 0x30, 0x32, 0x57, 0x81};
    struct calibration *c = calibration_new();
    char path[64];
    assert_non_null(c);
    c->model_id = 0x186;
    snprintf(c->version, sizeof(c->version), "RM502QGLAAR11A02M4G");
    snprintf(c->tool, sizeof(c->tool), "a test");
    memcpy(c->features, "\x01\x00\xff", 3);
    c->n_features = 3;
    assert_int_equal(calibration_add_nv(c, 550, 0, imei), 0);
    for (size_t i = 0; i < items; i++) {
        uint8_t data[CALIBRATION_NV_DATA];
        memset(data, (int)i, sizeof(data));
        assert_int_equal(calibration_add_nv(c, (uint16_t)(i % 500), (uint16_t)(i / 500), data), 0);
    }
    for (size_t i = 0; i < files; i++) {
        uint8_t *data = malloc(file_size);
        assert_non_null(data);
        for (size_t k = 0; k < file_size; k++)
            data[k] = (uint8_t)(k * 31 + i);
        snprintf(path, sizeof(path), i % 2 ? "/nv/item_files/rfnv/%08zu" : "/nv/item_files/modem/%zu",
                 20000 + i);
        assert_int_equal(calibration_add_file(c, path, data, file_size), 0);
    }
    assert_int_equal(calibration_add_file(c, "/rfc/empty", NULL, 0), 0);
    calibration_sort(c);
    return c;
}

static void expect_same(const struct calibration *a, const struct calibration *b)
{
    struct error e;
    assert_int_equal(a->model_id, b->model_id);
    assert_int_equal(a->esn, b->esn);
    assert_string_equal(a->version, b->version);
    assert_string_equal(a->tool, b->tool);
    assert_int_equal(a->n_features, b->n_features);
    assert_memory_equal(a->features, b->features, a->n_features);
    assert_int_equal(a->n_nv, b->n_nv);
    assert_memory_equal(a->nv, b->nv, a->n_nv * sizeof(*a->nv));
    assert_int_equal(a->n_files, b->n_files);
    for (size_t i = 0; i < a->n_files; i++) {
        const struct calibration_file *x = &a->files[i], *y = &b->files[i];
        uint8_t *p = NULL, *q = NULL;
        assert_string_equal(x->path, y->path);
        assert_int_equal(x->section, y->section);
        assert_int_equal(x->has_head, y->has_head);
        assert_memory_equal(x->head, y->head, sizeof(x->head));
        assert_int_equal(x->size, y->size);
        assert_int_equal(calibration_load(a, x, &p, &e), 0);
        assert_int_equal(calibration_load(b, y, &q, &e), 0);
        if (x->size > 0)
            assert_memory_equal(p, q, (size_t)x->size);
        free(p);
        free(q);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    struct calibration *c = make(1200, 50, 5000), *back = NULL;
    struct error e = {0};
    uint64_t size = 0, again = 0;
    int fd = memfd_create("xqcn", 0), second = memfd_create("again", 0);
    assert_int_equal(xqcn_write(c, fd, 7, &size, &e), 0);
    if (xqcn_read(fd, 7, size, &back, &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(back->ignored, 0);
    expect_same(c, back);
    /* And its text is the same, byte for byte. */
    assert_int_equal(xqcn_write(back, second, 0, &again, &e), 0);
    assert_int_equal(size, again);
    char *a = malloc(size), *b = malloc(size);
    assert_int_equal(io_pread_full(fd, a, size, 7), 0);
    assert_int_equal(io_pread_full(second, b, size, 0), 0);
    assert_memory_equal(a, b, size);
    free(a);
    free(b);
    calibration_free(c);
    calibration_free(back);
    close(fd);
    close(second);
}

static void test_container(void **state)
{
    (void)state;
    struct calibration *c = make(10, 6, 300), *back = NULL;
    struct calibration_facts facts = {.created = 1790000000000000,
                                      .chip = "SDX55",
                                      .version = "RM502QGLAAR11A02M4G"},
                             found;
    struct error e = {0};
    int fd = memfd_create("file", 0);
    if (calibration_store(fd, c, &facts, &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(facts.state, BACKUP_COMPLETE);
    assert_true(calibration_is_file(fd));
    if (calibration_open(fd, &back, &found, &e) < 0)
        fail_msg("%s", e.message);
    expect_same(c, back);
    assert_string_equal(found.id, facts.id);
    assert_string_equal(found.version, facts.version);
    assert_int_equal(found.created, facts.created);
    char imei[16];
    assert_true(calibration_imei(back, imei));
    assert_string_equal(imei, "490154203237518");
    assert_int_equal(calibration_count_rfnv(back), 3);
    calibration_free(back);

    /* No byte of it can be another one, and none be missing. */
    for (uint64_t at = 0; at < facts.file_size; at += at < 4096 || at + 8192 > facts.file_size ? 1 : 97) {
        uint8_t byte, other;
        assert_int_equal(io_pread_full(fd, &byte, 1, at), 0);
        other = byte ^ 1;
        assert_int_equal(io_pwrite_full(fd, &other, 1, at), 0);
        back = NULL;
        if (calibration_open(fd, &back, &found, &e) == 0)
            fail_msg("byte %llu of %llu can be another one", (unsigned long long)at,
                     (unsigned long long)facts.file_size);
        assert_int_equal(io_pwrite_full(fd, &byte, 1, at), 0);
    }
    assert_int_equal(calibration_open(fd, &back, &found, &e), 0); /* so it was that byte each time */
    calibration_free(back);
    for (uint64_t size = facts.file_size - 1; size > 0; size /= 2) {
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        assert_true(calibration_open(fd, &back, &found, &e) < 0);
    }
    calibration_free(c);
    close(fd);
}

static void test_where_it_lies(void **state)
{
    (void)state;
    static const char *const in[] = {"/nv/item_files/rfnv/00020000", "/nv/item_files/rfnv", "/rfc",
                                     "/rfc/a/b", "/nv/item_files/mcs/tcxomgr/xo_factory_cal"},
                             *const out[] = {"/", "/nv/item_files/rfnvs", "/rfcx/a", "/nv/item_files/mcs/a",
                                             "/nvm/num/550"};
    for (size_t i = 0; i < ARRAY_SIZE(in); i++)
        assert_true(calibration_is_rf(in[i]));
    for (size_t i = 0; i < ARRAY_SIZE(out); i++)
        assert_false(calibration_is_rf(out[i]));
}

/* What is known against it lies in the file, so that whoever reads it judges alike; nothing is not mentioned.
 */
static void test_flaws(void **state)
{
    (void)state;
    const struct calibration_facts flaws[] = {
        {.created = 1}, {.created = 1, .half_written = true}, {.created = 1, .n_unreadable = 7, .n_lost = 3}};
    for (size_t i = 0; i < ARRAY_SIZE(flaws); i++) {
        struct calibration *c = make(0, 4, 10), *back = NULL;
        struct calibration_facts facts = flaws[i], found;
        struct error e = {0};
        int fd = memfd_create("file", 0);
        if (calibration_store(fd, c, &facts, &e) < 0 || calibration_open(fd, &back, &found, &e) < 0)
            fail_msg("%s", e.message);
        assert_int_equal(found.state, i == 0 ? BACKUP_COMPLETE : BACKUP_DAMAGED);
        assert_int_equal(found.half_written, flaws[i].half_written);
        _cleanup_free_ char *whole = calloc(1, (size_t)facts.file_size);
        assert_int_equal(io_pread_full(fd, whole, (size_t)facts.file_size, 0), 0);
        size_t n = (size_t)facts.file_size;
        assert_int_equal(found.n_lost, flaws[i].n_lost);
        assert_int_equal(memmem(whole, n, "half_written", strlen("half_written")) != NULL, i == 1);
        assert_int_equal(memmem(whole, n, "unreadable_cal", strlen("unreadable_cal")) != NULL, i == 2);
        calibration_free(c);
        calibration_free(back);
        close(fd);
    }
}

static void test_judgement(void **state)
{
    (void)state;
    const struct calibration_facts good = {.created = 1}, factory_test = {.factory_test = true},
                                   half = {.half_written = true}, lost = {.n_lost = 1};
    struct calibration *c = make(0, 4, 10);
    assert_int_equal(calibration_judge(c, &good), BACKUP_COMPLETE);
    assert_int_equal(calibration_judge(c, &factory_test), BACKUP_BLANK); /* never a good one */
    assert_int_equal(calibration_judge(c, &half), BACKUP_DAMAGED);
    assert_int_equal(calibration_judge(c, &lost), BACKUP_DAMAGED);
    c->nv[0].data[8] ^= 0x10; /* no IMEI */
    assert_int_equal(calibration_judge(c, &good), BACKUP_BLANK);
    assert_int_equal(calibration_judge(c, &half), BACKUP_BLANK);
    calibration_free(c);
    c = make(0, 1, 10); /* no rfnv */
    assert_int_equal(calibration_judge(c, &good), BACKUP_BLANK);
    calibration_free(c);
}

/* What is no path of a modem's is passed over, whatever ends its line. */
static void test_lists(void **state)
{
    static const char text[] =
        "/nv/item_files/a\n\n# a comment\r\n/nv/item_files/b\r\nnv/c\n/nv/../d\n/\n/nv//e\n"
        "/nv/\xc3\xb6\n/nv/f/\n/nv/g\0/nv/h";
    static const char *const expected[] = {"/nv/item_files/a", "/nv/item_files/b", "/nv/g", "/nv/h"};
    char path[CALIBRATION_PATH_MAX];
    size_t at = 0, n = 0;
    (void)state;
    while (calibration_next_listed((const uint8_t *)text, sizeof(text) - 1, &at, path)) {
        assert_true(n < ARRAY_SIZE(expected));
        assert_string_equal(path, expected[n++]);
    }
    assert_int_equal(n, ARRAY_SIZE(expected));
    at = 0;
    assert_false(calibration_next_listed(NULL, 0, &at, path));

    /* One that is too long is no path, one byte less is. */
    char *line = malloc(2 * CALIBRATION_PATH_MAX);
    assert_non_null(line);
    memset(line, 'x', 2 * CALIBRATION_PATH_MAX);
    line[0] = '/';
    line[CALIBRATION_PATH_MAX] = '\n';
    at = 0;
    assert_false(calibration_next_listed((uint8_t *)line, CALIBRATION_PATH_MAX + 1, &at, path));
    at = 0;
    assert_true(calibration_next_listed((uint8_t *)line, CALIBRATION_PATH_MAX - 1, &at, path));
    assert_int_equal(strlen(path), CALIBRATION_PATH_MAX - 1);
    free(line);

    assert_true(calibration_is_list("/nv/item_files/conf/mmode.conf"));
    assert_false(calibration_is_list("/nv/item_files/conf/multisim_ftm_mode"));
    assert_false(calibration_is_list("/data/other.conf"));
}

/* Four times the size takes about four times as long; values of megabytes are nothing special. */
static void test_speed_is_linear(void **state)
{
    (void)state;
    usec_t took[2];
    for (unsigned i = 0; i < 2; i++) {
        struct calibration *c = make(0, 2, i ? 8 << 20 : 2 << 20), *back = NULL;
        struct error e = {0};
        uint64_t size;
        int fd = memfd_create("large", 0);
        assert_int_equal(xqcn_write(c, fd, 0, &size, &e), 0);
        usec_t start = clock_usec(CLOCK_THREAD_CPUTIME_ID);
        assert_int_equal(xqcn_read(fd, 0, size, &back, &e), 0);
        took[i] = clock_usec(CLOCK_THREAD_CPUTIME_ID) - start;
        calibration_free(back);
        calibration_free(c);
        close(fd);
    }
    assert_true(took[1] < 10 * took[0] + 100 * USEC_PER_MSEC);
    /* 48 MiB of text: libxml2 needed minutes for it. */
    assert_true(took[1] < 10 * USEC_PER_SEC);
}

/* One value of so many bytes, in front of its Length or behind it. */
static int read_value(uint64_t bytes, bool first, struct error *e)
{
    enum { PIECE = 3 << 16 };
    static char piece[PIECE];
    char length[64], end[512];
    struct calibration *c = NULL;
    int fd = memfd_create("value", 0);
    uint64_t at = 0;
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof(piece); i += 3)
        memcpy(piece + i, "00 ", 3);
    snprintf(length, sizeof(length), " Length='%llu' Name='Roaming'", (unsigned long long)bytes);
    snprintf(end, sizeof(end),
             "'%s/></Storage>" FILES("NV_Items", STREAM("5", "00000000", PATH_A), STREAM("0", "00000000", ""))
                 TAIL,
             first ? length : "");
    const char *begin[] = {HEAD "<Storage Name='Other'><Stream", first ? "" : length, " Value='"};
    for (size_t i = 0; i < ARRAY_SIZE(begin); at += strlen(begin[i++]))
        assert_int_equal(io_pwrite_full(fd, begin[i], strlen(begin[i]), at), 0);
    for (uint64_t left = 3 * bytes - 1, n; left > 0; left -= n, at += n) {
        n = MIN_OF(left, (uint64_t)sizeof(piece));
        assert_int_equal(io_pwrite_full(fd, piece, (size_t)n, at), 0);
    }
    assert_int_equal(io_pwrite_full(fd, end, strlen(end), at), 0);
    int r = xqcn_read(fd, 0, at + strlen(end), &c, e);
    calibration_free(c);
    close(fd);
    return r;
}

static void test_limits(void **state)
{
    (void)state;
    struct calibration *c = NULL;
    struct error e = {0};
    int fd = memfd_create("huge", 0);
    assert_int_equal(ftruncate(fd, (off_t)(XQCN_FILE_MAX + 1)), 0);
    assert_int_equal(xqcn_read(fd, 0, XQCN_FILE_MAX + 1, &c, &e), -EFBIG);
    close(fd);

    e = (struct error){0};
    if (read_value(XQCN_VALUE_MAX, true, &e) < 0)
        fail_msg("64 MiB: %s", e.message);
    assert_true(read_value(XQCN_VALUE_MAX + 1, false, &e) < 0);
    assert_non_null(strstr(e.message, "a Length is a number up to 67108864"));
    assert_int_equal(read_value(XQCN_VALUE_MAX + 1, true, &e), -EFBIG);
    assert_non_null(strstr(e.message, "larger than 64 MiB"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_section_forms), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_container),     cmocka_unit_test(test_flaws),
        cmocka_unit_test(test_where_it_lies), cmocka_unit_test(test_judgement),
        cmocka_unit_test(test_lists),         cmocka_unit_test(test_speed_is_linear),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
