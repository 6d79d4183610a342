/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "flash-fixture.h"

enum { STEP_WRITE_BOOT = 7 };

static struct fixture *flashed(bool digest)
{
    struct fixture *x = fix_new();
    struct error e;
    x->session.capabilities.digest = digest;
    fix_start(x);
    assert_int_equal(steps_run(&x->flash, &e), 0);
    x->nand->n_commands = 0;
    return x;
}

static int verify(struct fixture *x, struct error *e)
{
    *e = (struct error){0};
    return verify_image(&x->flash, &x->plan.steps[STEP_WRITE_BOOT], e);
}

static void test_digest(void **state)
{
    (void)state;
    struct fixture *x = flashed(true);
    struct error e;
    assert_int_equal(verify(x, &e), 0);
    assert_int_equal(x->nand->n_commands, 1);
    const struct firehose_range *r = &x->nand->commands[0].range;
    assert_int_equal(x->nand->commands[0].verb, FAKE_DIGEST);
    assert_int_equal(r->start, BOOT * FIX_PAGES_PER_BLOCK);
    assert_int_equal(r->count, 13); /* the image's pages, not the partition's */
    assert_int_equal(r->last, (BOOT + 8) * FIX_PAGES_PER_BLOCK - 1);
    fix_free(x);
}

/* The library's file is no longer what gate 1 saw: that the modem holds it is no success. */
static void test_library_that_changed(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++) {
        struct fixture *x = flashed(digest);
        struct error e;
        x->files[2].pages_sha256[5] ^= 1;
        assert_int_equal(verify(x, &e), -EBADMSG);
        assert_int_equal(e.kind, ERROR_DIGEST_MISMATCH);
        assert_non_null(strstr(e.message, "changed while it was flashed"));
        fix_free(x);
    }
}

static void test_every_page_counts(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++)
        for (uint64_t page = 0; page < 13; page++) {
            struct fixture *x = flashed(digest);
            struct error e;
            char text[64];
            fake_at(x->nand, BOOT * FIX_PAGES_PER_BLOCK + page)[FIX_PAGE - 1] ^= 1;
            assert_int_equal(verify(x, &e), -EBADMSG);
            assert_int_equal(e.kind, ERROR_DIGEST_MISMATCH);
            snprintf(text, sizeof(text), "1 of 13 pages differ, the first is page %llu",
                     (unsigned long long)page);
            assert_non_null(strstr(e.message, text));
            fix_free(x);
        }
}

/* Page 2 of each image is all 0xFF: on some builds it reads as the erased fill, in the digest too. */
static void test_erased_page(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++) {
        struct fixture *x = flashed(digest);
        struct error e;
        x->nand->erased_fill = x->session.erased_fill = 0xee;
        x->nand->pages[BOOT * FIX_PAGES_PER_BLOCK + 2] = FAKE_ERASED;
        assert_int_equal(verify(x, &e), 0);
        /* Any other page that reads erased is missing. */
        x->nand->pages[BOOT * FIX_PAGES_PER_BLOCK + 3] = FAKE_ERASED;
        assert_int_equal(verify(x, &e), -EBADMSG);
        x->nand->pages[BOOT * FIX_PAGES_PER_BLOCK + 3] = FAKE_UNREADABLE;
        assert_int_equal(verify(x, &e), -EBADMSG);
        /* And that page does not pass with other data in it. */
        x->nand->pages[BOOT * FIX_PAGES_PER_BLOCK + 3] = FAKE_WRITTEN;
        x->nand->pages[BOOT * FIX_PAGES_PER_BLOCK + 2] = FAKE_UNREADABLE;
        assert_int_equal(verify(x, &e), -EBADMSG);
        fix_free(x);
    }
}

static void test_no_digest_after_all(void **state)
{
    (void)state;
    struct fixture *x = flashed(true);
    struct error e;
    x->nand->no_digest = true;
    assert_int_equal(verify(x, &e), 0);
    assert_false(x->session.capabilities.digest);
    x->nand->n_commands = 0;
    assert_int_equal(verify(x, &e), 0);
    assert_int_equal(x->nand->n_commands, 1);
    assert_int_equal(x->nand->commands[0].verb, FAKE_READ);
    fix_free(x);
}

/* A command that fails is no verdict about the data. */
static void test_failing_command(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++) {
        struct fixture *x = flashed(digest);
        struct error e;
        x->nand->fail_at = 1;
        x->nand->fail_with = -ENODEV;
        assert_int_equal(verify(x, &e), -ENODEV);
        assert_int_equal(e.kind, ERROR_MODEM_GONE);
        x->nand->n_commands = 0;
        x->nand->fail_with = -EPROTO;
        assert_int_equal(verify(x, &e), -EPROTO);
        fix_free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_library_that_changed),
        cmocka_unit_test(test_every_page_counts),
        cmocka_unit_test(test_erased_page),
        cmocka_unit_test(test_no_digest_after_all),
        cmocka_unit_test(test_failing_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
