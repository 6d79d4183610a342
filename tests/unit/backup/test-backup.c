/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup-inner.h"
#include "base/io.h"
#include "base/text.h"

enum { PAGE = 512, PAGES = 4, BLOCKS = 40, BLOCK = PAGE * PAGES, CASES = 200 };

static const char TABLE[] =
    "NAME=SBL\nFIRST=0\nBLOCKS=3\n\nNAME=EFS2\nFIRST=5\nBLOCKS=8\n\nNAME=misc\nFIRST=20\nBLOCKS=2\n";

/* A chip: the state of each page and what it holds. */
struct chip {
    uint8_t states[BLOCKS][PAGES];
    uint8_t data[BLOCKS][BLOCK];
};

static uint64_t seed;

static unsigned rnd(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 33) % n;
}

static void fill(struct chip *c, unsigned unreadable)
{
    for (unsigned b = 0; b < BLOCKS; b++) {
        bool bad = rnd(6) == 0, empty = rnd(3) == 0;
        for (unsigned p = 0; p < PAGES; p++) {
            c->states[b][p] = bad                          ? NAND_PAGE_BAD
                              : empty || rnd(3) == 0       ? NAND_PAGE_ERASED
                              : unreadable && rnd(20) == 0 ? NAND_PAGE_UNREADABLE
                                                           : NAND_PAGE_DATA;
            for (unsigned i = 0; i < PAGE; i++)
                c->data[b][p * PAGE + i] = (uint8_t)rnd(256);
        }
    }
}

static struct backup facts(void)
{
    struct backup b = {.kind = BACKUP_CALIBRATION,
                       .created = UINT64_C(1790000000000000),
                       .unit = {.have_serial = true,
                                .serial = 0x49cbd7ef,
                                .have_hwid = true,
                                .hwid = UINT64_C(0x000e50e100040000),
                                .pk_hash_size = 32},
                       .chip = "SDX55",
                       .model = "RM502Q-GL",
                       .version = "RM502QGLAAR05A03M4G_01.001/é",
                       .version_confirmed = true,
                       .geometry = {PAGE, PAGES, BLOCKS},
                       .table = (char *)(uintptr_t)TABLE};
    memset(b.unit.pk_hash, 0xd9, 32);
    return b;
}

static const struct {
    const char *name;
    uint64_t first, n;
} parts[] = {{"SBL", 0, 3}, {"EFS2", 5, 8}, {"blocks-14-19", 14, 6}, {"mi/sc", 20, 2}, {"-x y", 30, 10}};

static uint32_t portion; /* pages given to the writer at once; 0: whole blocks */

static int put(struct backup_writer *w, const uint8_t *states, const uint8_t *data, struct error *e)
{
    uint32_t n = portion ? portion : PAGES;
    int r = 0;
    for (uint32_t at = 0; r == 0 && at < PAGES; at += n)
        r = backup_writer_pages(w, states, data, at, MIN_OF(n, PAGES - at), e);
    return r;
}

static int make(const struct chip *c, const struct backup *f, int fd, const struct backup **ret,
                struct backup_writer **ret_writer, struct error *e)
{
    int r = backup_writer_new(fd, f, ret_writer, e);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++) {
        r = backup_writer_begin(*ret_writer, parts[i].name, parts[i].first, parts[i].n, e);
        for (uint64_t b = parts[i].first; r == 0 && b < parts[i].first + parts[i].n; b++)
            r = put(*ret_writer, c->states[b], c->data[b], e);
        if (r == 0)
            r = backup_writer_end(*ret_writer, e);
    }
    return r < 0 ? r : backup_writer_finish(*ret_writer, ret, e);
}

static int make_file(const struct chip *c)
{
    _cleanup_(backup_writer_freep) struct backup_writer *w = NULL;
    struct backup f = facts();
    const struct backup *made;
    struct error e = {0};
    int fd = memfd_create("backup", MFD_CLOEXEC);
    assert_true(fd >= 0);
    if (make(c, &f, fd, &made, &w, &e) < 0)
        fail_msg("%s", e.message);
    return fd;
}

static void assert_holds(const struct backup *b, const struct chip *c)
{
    uint8_t found[BLOCK];
    struct error e = {0};
    assert_int_equal(b->n_parts, ARRAY_SIZE(parts));
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        const struct backup_part *p = &b->parts[i];
        assert_string_equal(p->name, parts[i].name);
        assert_int_equal(p->first_block, parts[i].first);
        assert_int_equal(p->n_blocks, parts[i].n);
        for (uint64_t k = p->first_block; k < p->first_block + p->n_blocks; k++) {
            assert_int_equal(backup_block_is_bad(b, p, k), c->states[k][0] == NAND_PAGE_BAD);
            if (backup_block_is_bad(b, p, k))
                continue;
            assert_int_equal(backup_read_block(b, p, k, found, &e), 0);
            uint32_t used = 0;
            for (uint32_t n = 0; n < PAGES; n++) {
                enum nand_page_state s = (enum nand_page_state)c->states[k][n];
                uint8_t want[PAGE];
                assert_int_equal(backup_page_state(b, p, k, n), s);
                memset(want, 0xff, sizeof(want));
                if (s == NAND_PAGE_DATA)
                    memcpy(want, c->data[k] + n * PAGE, PAGE);
                assert_memory_equal(found + n * PAGE, want, PAGE);
                if (s != NAND_PAGE_ERASED)
                    used = n + 1;
            }
            assert_int_equal(backup_block_pages(b, p, k), used);
        }
    }
}

/* A partition that ends in pages that could not be read, several in a row and over a block's end: they count
 * as written, have their room in the image, and come back as erased. */
static void test_unreadable_at_the_end(void **state _unused_)
{
    static struct chip c;
    struct error e = {0};
    memset(c.states, NAND_PAGE_ERASED, sizeof(c.states));
    memset(c.data, 0x5a, sizeof(c.data));
    c.states[30][0] = NAND_PAGE_DATA;
    for (unsigned page = 2; page < PAGES + 2; page++)
        c.states[30 + page / PAGES][page % PAGES] = NAND_PAGE_UNREADABLE;
    _cleanup_close_ int fd = make_file(&c);
    _cleanup_(backup_freep) struct backup *b = NULL;
    if (backup_open(fd, &b, &e) < 0 || backup_check(b, NULL, NULL, &e) < 0)
        fail_msg("%s", e.message);
    assert_holds(b, &c);
    assert_int_equal(backup_find(b, "-x y")->size, (PAGES + 2) * PAGE);
}

static void test_round_trip(void **state _unused_)
{
    static struct chip c;
    for (unsigned i = 0; i < CASES; i++) {
        struct error e = {0};
        _cleanup_(backup_freep) struct backup *b = NULL;
        _cleanup_(backup_writer_freep) struct backup_writer *w = NULL;
        const struct backup *made;
        struct backup f = facts();
        seed = i + 1;
        fill(&c, i % 2);
        _cleanup_close_ int fd = memfd_create("backup", MFD_CLOEXEC);
        if (make(&c, &f, fd, &made, &w, &e) < 0 || backup_open(fd, &b, &e) < 0 ||
            backup_check(b, NULL, NULL, &e) < 0)
            fail_msg("case %u: %s", i, e.message);
        assert_holds(b, &c);
        assert_string_equal(b->id, made->id);
        assert_int_equal(b->state, made->state);
        assert_int_equal(b->file_size, made->file_size);
        assert_memory_equal(b->content_sha256, made->content_sha256, SHA256_SIZE);
        assert_string_equal(b->version, f.version);
        assert_string_equal(b->table, TABLE);
        assert_int_equal(b->unit.serial, f.unit.serial);
        assert_int_equal(b->unit.hwid, f.unit.hwid);
        assert_int_equal(b->unit.pk_hash_size, 32);
    }
}

static void test_states(void **state _unused_)
{
    static struct chip c;
    struct error e = {0};
    for (unsigned i = 0; i < 3; i++) {
        _cleanup_(backup_freep) struct backup *b = NULL;
        memset(&c, 0, sizeof(c));
        if (i == 1)
            memset(c.states[5], NAND_PAGE_ERASED, sizeof(c.states[5]) * 8);
        if (i == 2)
            c.states[6][1] = NAND_PAGE_UNREADABLE;
        _cleanup_close_ int fd = make_file(&c);
        assert_int_equal(backup_open(fd, &b, &e), 0);
        assert_int_equal(b->state, i == 0 ? BACKUP_COMPLETE : i == 1 ? BACKUP_BLANK : BACKUP_DAMAGED);
    }
}

/* The content is the unit's and the flash's, not the hour's; and all of it counts. */
static void test_content(void **state _unused_)
{
    static struct chip c;
    uint8_t first[SHA256_SIZE] = {0};
    seed = 3;
    fill(&c, 0);
    c.states[5][0] = NAND_PAGE_DATA;
    for (unsigned i = 0; i < 6; i++) {
        struct backup f = facts();
        struct error e = {0};
        _cleanup_(backup_writer_freep) struct backup_writer *w = NULL;
        const struct backup *made;
        struct chip copy = c;
        f.created += i == 1;
        f.version[0] = i == 2 ? 'X' : 'R';
        f.unit.serial += i == 3;
        copy.data[5][0] ^= i == 4;
        memset(copy.states[6], i == 5 ? NAND_PAGE_BAD : NAND_PAGE_ERASED, PAGES);
        _cleanup_close_ int fd = memfd_create("backup", MFD_CLOEXEC);
        assert_int_equal(make(&copy, &f, fd, &made, &w, &e), 0);
        if (i == 0)
            memcpy(first, made->content_sha256, sizeof(first));
        assert_int_equal(memcmp(first, made->content_sha256, sizeof(first)) == 0, i < 3);
    }
}

/* Whatever byte of the file is another one: refused, or, in an image, found by its digest. */
static void test_every_byte(void **state _unused_)
{
    static struct chip c;
    seed = 7;
    fill(&c, 1);
    _cleanup_close_ int fd = make_file(&c);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 0; at < st.st_size; at += at < st.st_size / 2 ? 5 : 1) {
        struct error e = {0};
        _cleanup_(backup_freep) struct backup *b = NULL;
        uint8_t byte, other;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        other = (uint8_t)(byte ^ (1u << at % 8));
        assert_int_equal(pwrite(fd, &other, 1, at), 1);
        if (backup_open(fd, &b, &e) == 0 && backup_check(b, NULL, NULL, &e) == 0)
            fail_msg("byte %lld of %lld may be changed", (long long)at, (long long)st.st_size);
        if (e.kind != ERROR_BACKUP_DAMAGED && e.kind != ERROR_UNSUPPORTED)
            fail_msg("byte %lld: %s", (long long)at, e.message);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    struct error e = {0};
    _cleanup_(backup_freep) struct backup *b = NULL;
    assert_int_equal(backup_open(fd, &b, &e), 0);
    assert_int_equal(backup_check(b, NULL, NULL, &e), 0);
}

static void test_every_length(void **state _unused_)
{
    static struct chip c;
    seed = 9;
    fill(&c, 0);
    _cleanup_close_ int fd = make_file(&c);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t size = st.st_size - 1; size >= 0; size--) {
        struct error e = {0};
        struct backup *b = NULL;
        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_equal(backup_open(fd, &b, &e), error_errno(ERROR_BACKUP_DAMAGED));
    }
    _cleanup_close_ int longer = make_file(&c);
    struct error e = {0};
    struct backup *b = NULL;
    assert_int_equal(ftruncate(longer, st.st_size + 1), 0);
    assert_int_equal(backup_open(longer, &b, &e), error_errno(ERROR_BACKUP_DAMAGED));
    assert_int_equal(ftruncate(longer, st.st_size + TAR_BLOCK), 0);
    assert_int_equal(backup_open(longer, &b, &e), error_errno(ERROR_BACKUP_DAMAGED));
}

/* ---- manifests that are well-formed and lie ---- */

static void expect_refused(const char *text, const char *what)
{
    struct error e = {0};
    _cleanup_(backup_freep) struct backup *b = NULL;
    if (manifest_parse(text, strlen(text), &b, &e) == 0)
        fail_msg("taken: %s", what);
    assert_int_equal(e.kind, ERROR_BACKUP_DAMAGED);
}

static char *replace(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("the manifest has no %s", from);
    return text_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

/* What is known against its calibration decides over its state, and only where there may be some. */
static void test_flaws(void **state _unused_)
{
    static struct chip c;
    seed = 19;
    fill(&c, 0);
    c.states[5][0] = NAND_PAGE_DATA;
    for (unsigned flaw = 0; flaw < BACKUP_FLAW_COUNT; flaw++) {
        static const enum backup_state states[] = {BACKUP_COMPLETE, BACKUP_BLANK, BACKUP_DAMAGED};
        _cleanup_(backup_writer_freep) struct backup_writer *w = NULL;
        _cleanup_(backup_freep) struct backup *b = NULL, *again = NULL;
        _cleanup_close_ int fd = memfd_create("backup", MFD_CLOEXEC);
        const struct backup *made;
        struct backup f = facts();
        struct error e = {0};
        f.flaw = (enum backup_flaw)flaw;
        if (make(&c, &f, fd, &made, &w, &e) < 0 || backup_open(fd, &b, &e) < 0)
            fail_msg("%s", e.message);
        assert_int_equal(made->state, states[flaw]);
        assert_int_equal(b->state, states[flaw]);
        assert_int_equal(b->flaw, flaw);
        /* None is not mentioned: it is as it always was. */
        _cleanup_free_ char *text = manifest_print(b);
        assert_int_equal(strstr(text, "calibration_flaw") != NULL, flaw > 0);
        if (flaw == 0)
            continue;
        _cleanup_free_ char *good =
            replace(text, flaw == BACKUP_FLAW_FACTORY_TEST ? "blank" : "damaged", "complete");
        _cleanup_free_ char *other = replace(text, backup_flaw_name(b->flaw), "other");
        _cleanup_free_ char *none = replace(text, backup_flaw_name(b->flaw), "");
        expect_refused(good, "a state that it has not");
        expect_refused(other, "a flaw that nobody knows");
        expect_refused(none, "an empty one");
        /* EFS2 and the unnamed blocks taken away, nothing else is judged by it. */
        b->parts[1].name[0] = b->parts[2].name[0] = 'X';
        assert_int_equal(backup_judge(b), BACKUP_COMPLETE);
        b->parts[2].name[0] = 'b';
        assert_int_equal(backup_judge(b), states[flaw]);
    }
}

static void test_lies(void **state _unused_)
{
    static struct chip c;
    static const char *const lies[][2] = {
        {"\"created\":1790000000000000", "\"created\":-1"},
        {"\"created\":1790000000000000", "\"created\":1790000000000000.0"},
        {"\"created\":1790000000000000", "\"created\":1790000000000000,\"more\":1"},
        {"\"page_size\":512", "\"page_size\":513"},
        {"\"page_size\":512", "\"page_size\":0"},
        {"\"pages_per_block\":4", "\"pages_per_block\":0"},
        {"\"pages_per_block\":4", "\"pages_per_block\":1000000"},
        {"\"blocks\":40", "\"blocks\":18446744073709551615"},
        {"\"blocks\":40", "\"blocks\":1048576"},
        {"\"blocks\":40", "\"blocks\":39"},
        {"\"kind\":\"calibration\"", "\"kind\":\"xqcn\""},
        {"\"kind\":\"calibration\"", "\"kind\":null"},
        {"\"kind\":\"calibration\"", "\"kind\":\"calib\\u0000ration\""},
        {"\"state\":\"complete\"", "\"state\":\"blank\""},
        {"\"name\":\"EFS2\"", "\"name\":\"\""},
        {"\"name\":\"EFS2\"", "\"name\":\"SBL\""},
        {"\"name\":\"EFS2\"", "\"name\":\"../../etc/passwd\""},
        {"\"first_block\":5", "\"first_block\":2"},
        {"\"first_block\":5", "\"first_block\":40"},
        {"\"first_block\":5", "\"first_block\":\"5\""},
        {"\"serial\":\"49cbd7ef\"", "\"serial\":\"49CBD7EF\""},
        {"\"serial\":\"49cbd7ef\"", "\"serial\":\"49cbd7e\""},
        {"\"model\":\"RM502Q-GL\"", "\"model\":\"RM502Q\\nGL\""},
        {"NAME=SBL", "NAME=EFS2"},
        {"\"format\":\"qdld-backup\"", "\"format\":\"qdld\""},
    };
    seed = 11;
    fill(&c, 0);
    c.states[5][0] = NAND_PAGE_DATA;
    _cleanup_close_ int fd = make_file(&c);
    _cleanup_(backup_freep) struct backup *b = NULL;
    struct error e = {0};
    assert_int_equal(backup_open(fd, &b, &e), 0);
    _cleanup_free_ char *text = manifest_print(b);
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        _cleanup_free_ char *lie = replace(text, lies[i][0], lies[i][1]);
        expect_refused(lie, lies[i][1]);
    }
    /* Maps of pages that cannot be, whatever they were. */
    static const char *const ranges[] = {"-1", "0-", "3-2", "0-99999999999999999999", "9999", "0  1", " 0",
                                         "0 ", "a",  "0,1"};
    const char *key = "\"erased_pages\":\"", *at = strstr(text, key);
    assert_non_null(at);
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        const char *end = strchr(at + strlen(key), '"');
        _cleanup_free_ char *lie = text_printf("%.*s%s%s%s", (int)(at - text), text, key, ranges[i], end);
        expect_refused(lie, ranges[i]);
    }
    expect_refused("", "nothing");
    expect_refused("[]", "a list");
    expect_refused("{}", "an empty object");
    expect_refused("[[[[[[[[[[[[[[[[[[[[", "deep");
}

/* ---- what other programs make of it ---- */

static void test_other_tools(void **state _unused_)
{
    static struct chip c;
    seed = 13;
    fill(&c, 1);
    _cleanup_close_ int fd = make_file(&c);
    char command[256];
    snprintf(command, sizeof(command),
             "d=$(mktemp -d) && cd $d && tar xf /proc/%d/fd/%d && sha256sum -c --quiet SHA256SUMS && "
             "xmllint --noout rawprogram.xml 2>/dev/null; r=$?; rm -rf $d; [ $r = 0 ] || [ $r = 127 ]",
             (int)getpid(), fd);
    assert_int_equal(system(command), 0);
}

/* A disk that is full at every write: NoSpace, and never a backup that opens. */
static void test_no_space(void **state _unused_)
{
    static struct chip c;
    seed = 17;
    fill(&c, 0);
    struct backup f = facts();
    _cleanup_close_ int whole = make_file(&c);
    struct stat st;
    assert_int_equal(fstat(whole, &st), 0);
    for (off_t room = 0; room < st.st_size; room += 97) {
        struct error e = {0};
        struct backup *b = NULL;
        const struct backup *made;
        _cleanup_(backup_writer_freep) struct backup_writer *w = NULL;
        /* Sealed against growth: a write behind its end fails (EPERM), as it would on a full disk. */
        _cleanup_close_ int fd = memfd_create("backup", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, room), 0);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
        assert_true(make(&c, &f, fd, &made, &w, &e) < 0);
        assert_true(e.message[0]);
        assert_true(backup_open(fd, &b, &e) < 0);
    }
}

static void test_in_portions(void **state _unused_)
{
    static struct chip c;
    static uint8_t whole[1 << 20], other[1 << 20];
    fill(&c, true);
    _cleanup_close_ int fd = make_file(&c);
    ssize_t size = pread(fd, whole, sizeof(whole), 0);
    assert_in_range(size, 1, sizeof(whole) - 1);
    for (portion = 1; portion <= PAGES; portion++) {
        _cleanup_close_ int again = make_file(&c);
        assert_int_equal(pread(again, other, sizeof(other), 0), size);
        assert_memory_equal(other, whole, (size_t)size);
    }
    portion = 0;
}

static void test_misuse(void **state _unused_)
{
    static struct chip c;
    struct backup f = facts();
    struct error e = {0};
    const struct backup *made;
    _cleanup_(backup_writer_freep) struct backup_writer *w = NULL;
    _cleanup_close_ int fd = memfd_create("backup", MFD_CLOEXEC);
    assert_int_equal(backup_writer_new(fd, &f, &w, &e), 0);
    assert_true(backup_writer_finish(w, &made, &e) < 0); /* nothing in it */
    assert_true(backup_writer_begin(w, "x", BLOCKS, 1, &e) < 0);
    assert_true(backup_writer_begin(w, "x", 1, BLOCKS, &e) < 0);
    assert_true(backup_writer_begin(w, "x", 1, 0, &e) < 0);
    assert_int_equal(backup_writer_begin(w, "x", 1, 2, &e), 0);
    assert_true(backup_writer_begin(w, "y", 4, 2, &e) < 0); /* in the middle of x */
    assert_true(backup_writer_end(w, &e) < 0);
    assert_true(backup_writer_pages(w, c.states[1], c.data[1], 1, 1, &e) < 0); /* not the next one */
    assert_true(backup_writer_pages(w, c.states[1], c.data[1], 0, PAGES + 1, &e) < 0);
    assert_int_equal(backup_writer_pages(w, c.states[1], c.data[1], 0, 1, &e), 0);
    assert_true(backup_writer_pages(w, c.states[1], c.data[1], 0, PAGES, &e) <
                0); /* in the middle of another one */
    assert_int_equal(backup_writer_pages(w, c.states[1], c.data[1], 1, PAGES - 1, &e), 0);
    assert_true(backup_writer_finish(w, &made, &e) < 0);
    assert_int_equal(backup_writer_pages(w, c.states[2], c.data[2], 0, PAGES, &e), 0);
    assert_true(backup_writer_pages(w, c.states[3], c.data[3], 0, PAGES, &e) < 0);
    assert_int_equal(backup_writer_end(w, &e), 0);
    assert_true(backup_writer_begin(w, "z", 2, 1, &e) < 0); /* where x lies */
    assert_int_equal(backup_writer_finish(w, &made, &e), 0);
}

static int setup(void **state _unused_)
{
    return digest_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unreadable_at_the_end),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_flaws),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_other_tools),
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_in_portions),
        cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
