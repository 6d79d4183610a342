/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/save-cache.h"

enum { PAGE = 512, PAGES = 4, BLOCKS = 16, AT = 4096 };

struct fixture {
    struct worker worker;
    struct session session;
    int journal, file;
    uint8_t data[PAGES * PAGE], states[PAGES];
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->session.worker = &f->worker;
    f->session.identity = (struct sahara_identity){.have_serial = true, .serial = 0x49cbd7ef};
    f->session.identity_known = true;
    f->session.geometry = (struct nand_geometry){PAGE, PAGES, BLOCKS};
    f->journal = memfd_create("journal", 0);
    f->file = memfd_create("file", 0);
    assert_true(f->journal >= 0 && f->file >= 0);
    const uint8_t states[PAGES] = {NAND_PAGE_DATA, NAND_PAGE_ERASED, NAND_PAGE_DATA, NAND_PAGE_UNREADABLE};
    memcpy(f->states, states, PAGES);
    memset(f->data, 0xff, sizeof(f->data));
    memset(f->data, 1, PAGE);
    memset(f->data + 2 * (size_t)PAGE, 2, PAGE);
    assert_int_equal(pwrite(f->file, f->data, sizeof(f->data), AT), sizeof(f->data));
}

static void teardown(struct fixture *f)
{
    close(f->journal);
    close(f->file);
}

static void begin(struct fixture *f, struct save_cache *c, bool anew)
{
    struct error e = {0};
    assert_int_equal(save_cache_open(c, f->journal, f->file, &f->session, BACKUP_MAP_READ, anew, &e), 0);
}

/* Is block 5 there, as it was? */
static bool has(struct fixture *f, bool anew)
{
    struct save_cache c;
    uint8_t data[PAGES * PAGE] = {0}, states[PAGES] = {0};
    begin(f, &c, anew);
    bool found = save_cache_take(&c, 5, data, states) == 1;
    if (found) {
        assert_memory_equal(data, f->data, sizeof(data));
        assert_memory_equal(states, f->states, sizeof(states));
        assert_int_equal(c.taken, 1);
    }
    assert_int_equal(save_cache_take(&c, 6, data, states), 0);
    save_cache_done(&c);
    return found;
}

static void note(struct fixture *f)
{
    struct save_cache c;
    begin(f, &c, false);
    save_cache_note(&c, 5, AT, f->data, f->states);
    save_cache_done(&c);
}

static void test_noted_and_taken(void **state _unused_)
{
    struct fixture f;
    setup(&f);
    assert_false(has(&f, false));
    note(&f);
    assert_true(has(&f, false));
    assert_true(has(&f, false));
    assert_false(has(&f, true)); /* from the beginning */
    assert_false(has(&f, false));
    teardown(&f);
}

/* The last word on a block counts. */
static void test_noted_twice(void **state _unused_)
{
    struct fixture f;
    setup(&f);
    note(&f);
    memset(f.data, 7, PAGE);
    assert_int_equal(pwrite(f.file, f.data, sizeof(f.data), AT), sizeof(f.data));
    note(&f);
    assert_true(has(&f, false));
    teardown(&f);
}

static void test_of_another_one(void **state _unused_)
{
    struct fixture f;
    struct save_cache c;
    struct error e = {0};
    uint8_t states[PAGES];
    setup(&f);
    note(&f);
    f.session.identity.serial++;
    assert_false(has(&f, false));
    f.session.identity.serial--;
    assert_false(has(&f, false)); /* the other one's is there now */
    note(&f);
    assert_int_equal(save_cache_open(&c, f.journal, f.file, &f.session, BACKUP_MAP_TOLD, false, &e), 0);
    assert_int_equal(save_cache_take(&c, 5, f.data, states), 0);
    save_cache_done(&c);
    /* One that does not say who it is goes on from nothing and leaves nothing. */
    f.session.identity.serial = 0;
    note(&f);
    assert_false(has(&f, false));
    assert_int_equal(save_cache_open(&c, -1, f.file, &f.session, BACKUP_MAP_READ, false, &e), 0);
    assert_null(c.blocks);
    teardown(&f);
}

/* A byte of the file's data or of the journal is another one: it is read from the modem. */
static void test_every_byte(void **state _unused_)
{
    struct fixture f;
    struct stat st;
    setup(&f);
    note(&f);
    assert_int_equal(fstat(f.journal, &st), 0);
    for (int which = 0; which < 2; which++) {
        int fd = which ? f.journal : f.file;
        off_t end = which ? st.st_size : AT + 3 * PAGE;
        for (off_t at = which ? 0 : AT; at < end; at += which ? 1 : 97) {
            uint8_t byte, other;
            if (!which && (at - AT) / PAGE == 1)
                continue; /* a hole: nothing is read of it */
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            other = byte ^ 0x10;
            struct fixture copy = f;
            copy.journal = memfd_create("journal", 0);
            uint8_t journal[1024];
            assert_int_equal(pread(f.journal, journal, (size_t)st.st_size, 0), st.st_size);
            assert_int_equal(pwrite(copy.journal, journal, (size_t)st.st_size, 0), st.st_size);
            assert_int_equal(pwrite(which ? copy.journal : fd, &other, 1, at), 1);
            assert_false(has(&copy, false));
            close(copy.journal);
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
    }
    assert_true(has(&f, false));
    /* Torn. */
    assert_int_equal(ftruncate(f.journal, st.st_size - 1), 0);
    assert_false(has(&f, false));
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noted_and_taken),
        cmocka_unit_test(test_noted_twice),
        cmocka_unit_test(test_of_another_one),
        cmocka_unit_test(test_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
