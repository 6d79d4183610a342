/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include "flash-fixture.h"

static int run(struct fixture *x, struct error *e)
{
    *e = (struct error){0};
    int r = x->flash.destructive ? steps_recheck(&x->flash, e) : 0;
    return r < 0 ? r : steps_run(&x->flash, e);
}

/* The same call again, by a new process, finishes it. */
static void again_completes(struct fixture *x)
{
    struct error e;
    fix_stop(x);
    assert_true(fix_start(x));
    assert_int_equal(run(x, &e), 0);
    fix_assert_complete(x);
}

static void test_whole_flash(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++) {
        struct fixture *x = fix_new();
        struct error e;
        x->nand->erased_fill = digest ? 0xff : 0xee; /* on such a build the all-0xFF page of each image reads
                                                        as 0xFF only if it was written */
        x->session.capabilities.digest = digest;
        assert_false(fix_start(x));
        assert_int_equal(run(x, &e), 0);
        assert_true(x->flash.complete && x->flash.destructive && fix_told_destructive);
        assert_true(fix_unsafe && !fix_cancelable);
        fix_assert_complete(x);
        assert_int_equal(x->flash.work_done, x->flash.work_total);
        assert_int_equal(x->flash.bytes_written, x->plan.bytes_to_write);
        assert_int_equal(x->session.erased_fill, x->nand->erased_fill);
        fix_free(x);
    }
}

/* Flash rules 6 and 7: the order, and that no command reaches beyond its own partition. */
static void test_order_and_ranges(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    assert_int_equal(run(x, &e), 0);
    bool first = true, sbl_written = false;
    for (size_t i = 0; i < x->nand->n_commands; i++) {
        const struct fake_command *c = &x->nand->commands[i];
        if (c->verb != FAKE_ERASE && c->verb != FAKE_PROGRAM)
            continue;
        if (first)
            assert_true(c->verb == FAKE_ERASE && c->range.start == 0);
        first = false;
        assert_false(sbl_written);
        sbl_written = c->verb == FAKE_PROGRAM && c->range.start == 0;
        uint64_t block = c->range.start / FIX_PAGES_PER_BLOCK,
                 end = (c->range.last + 1) / FIX_PAGES_PER_BLOCK;
        static const uint64_t borders[] = {SBL, MIBIB, EFS2, BOOT, MISC, SYSTEM, FIX_END};
        for (size_t k = 0; k < ARRAY_SIZE(borders); k++)
            assert_false(block < borders[k] && end > borders[k]);
    }
    assert_true(sbl_written);
    assert_non_null(strstr(fix_phases, "erase SBL\nerase MIBIB\nprogram MIBIB\nverify MIBIB\nerase boot\n"));
    fix_free(x);
}

static void test_bad_blocks(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    x->nand->bad[1] = x->nand->bad[BOOT + 2] = x->nand->bad[SYSTEM + 6] = x->nand->bad[MISC] = true;
    fix_start(x);
    assert_int_equal(run(x, &e), 0);
    fix_assert_complete(x);
    assert_int_equal(x->flash.error_logs, 0); /* a bad block was never addressed by an erase */
    for (size_t i = 0; i < x->nand->n_commands; i++)
        if (x->nand->commands[i].verb == FAKE_ERASE &&
            x->nand->commands[i].range.start / FIX_PAGES_PER_BLOCK >= BOOT &&
            x->nand->commands[i].range.start / FIX_PAGES_PER_BLOCK < MISC)
            assert_int_equal(x->nand->commands[i].range.count, FIX_PAGES_PER_BLOCK);
    fix_free(x);
}

/* Every command fails once with the modem gone; then either the same process goes on or a new one does. */
static void test_unplugged_at_every_command(void **state)
{
    (void)state;
    for (int new_process = 0; new_process < 2; new_process++)
        for (unsigned n = 1;; n++) {
            struct fixture *x = fix_new();
            struct error e;
            x->nand->bad[BOOT + 1] = true;
            x->nand->erased_fill = 0xee;
            fix_start(x);
            x->nand->fail_at = n;
            x->nand->fail_with = -ENODEV;
            int r = run(x, &e);
            if (r == 0) {
                assert_true(n > 40); /* all of them were tried */
                fix_free(x);
                break;
            }
            assert_int_equal(r, -ENODEV);
            fix_assert_safe(x);
            if (new_process) {
                fix_stop(x);
                assert_int_equal(fix_start(x), x->nand->n_changing > 0);
            }
            assert_int_equal(run(x, &e), 0);
            fix_assert_complete(x);
            fix_free(x);
        }
}

/* The same in the middle of a program command, at every page of every image. */
static void unplug_inside_a_program(bool no_auto_erase, bool blind)
{
    static const unsigned total = 7 + 4 + 13 + 10 + 5;
    for (unsigned page = 1; page <= total; page++) {
        struct fixture *x = fix_new();
        struct error e;
        x->nand->no_auto_erase = no_auto_erase;
        x->session.capabilities.skip_bad_block = !blind;
        fix_start(x);
        x->nand->unplug_after_pages = page;
        assert_int_equal(run(x, &e), -ENODEV);
        again_completes(x);
        fix_free(x);
    }
}

static void test_unplugged_inside_a_program(void **state)
{
    (void)state;
    unplug_inside_a_program(false, false);
}

/* Two images in one erased range, the second one half written: neither may be written over what is there. */
static void test_half_an_image_on_strict_flash(void **state)
{
    (void)state;
    unplug_inside_a_program(true, false);
    unplug_inside_a_program(true, true);
}

/* Flash rule 6 hangs on it: an SBL erase that was only ACKed stops the job before anything else is touched.
 */
static void test_sbl_that_is_not_erased(void **state)
{
    (void)state;
    for (uint64_t block = SBL; block < MIBIB; block++) {
        struct fixture *x = fix_new();
        struct error e;
        fix_start(x);
        x->nand->stubborn[block] = true;
        assert_int_equal(run(x, &e), -EPROTO);
        assert_true(fix_is_untouched(x, MIBIB, FIX_BLOCKS - MIBIB));
        fix_free(x);
    }
}

/* What lay behind an image survives an erase that was only ACKed: it must be found. */
static void test_stale_blocks_behind_an_image(void **state)
{
    (void)state;
    static const uint64_t behind[] = {SBL + 2,    SBL + 3,    MIBIB + 1,  BOOT + 4,   BOOT + 7,
                                      SYSTEM + 3, SYSTEM + 6, SYSTEM + 9, SYSTEM + 13};
    for (size_t i = 0; i < ARRAY_SIZE(behind); i++) {
        struct fixture *x = fix_new();
        struct error e;
        fix_start(x);
        x->nand->stubborn[behind[i]] = true;
        assert_int_equal(run(x, &e), -EPROTO);
        assert_int_equal(e.hint, HINT_CONTACT_VENDOR);
        fix_free(x);
    }
}

static void test_done_is_not_trusted(void **state)
{
    (void)state;
    static const uint64_t places[] = {SBL,  MIBIB,       BOOT,       SYSTEM + 7, MISC + 1,
                                      MISC, SYSTEM + 13, SYSTEM + 6, BOOT + 7};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct fixture *x = fix_new();
        struct error e;
        uint8_t wrong[FIX_PAGE] = "not what we wrote";
        fix_start(x);
        assert_int_equal(run(x, &e), 0);
        fix_stop(x);
        fake_put(x->nand, places[i] * FIX_PAGES_PER_BLOCK, wrong, sizeof(wrong));
        assert_true(fix_start(x));
        unsigned before = x->nand->n_changing;
        assert_int_equal(run(x, &e), 0);
        fix_assert_complete(x);
        assert_true(x->nand->n_changing > before);
        /* With anything but SBL wrong, SBL went first again. */
        for (size_t k = 0; places[i] != SBL && k < x->nand->n_commands; k++)
            if (x->nand->n_commands && x->nand->commands[k].verb == FAKE_ERASE && k > 60) {
                assert_int_equal(x->nand->commands[k].range.start, 0);
                break;
            }
        fix_free(x);
    }
}

static void test_nothing_to_do_again(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    assert_int_equal(run(x, &e), 0);
    fix_stop(x);
    assert_true(fix_start(x));
    unsigned before = x->nand->n_changing;
    assert_int_equal(run(x, &e), 0);
    assert_int_equal(x->nand->n_changing, before);
    assert_true(x->flash.complete);
    assert_int_equal(x->flash.resumed, 10); /* 5 writes and 5 erases */
    fix_free(x);
}

/* Flash rule 9: an SBL that is not right is erased again. */
static void test_wrong_sbl(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    x->nand->garble_page = 3;
    x->nand->garble_times = 1;
    assert_int_equal(run(x, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_DIGEST_MISMATCH);
    assert_non_null(strstr(e.message, "SBL"));
    assert_true(fix_is_erased(x, SBL, 4));
    assert_false(x->flash.complete);
    again_completes(x);
    fix_free(x);
}

/* Nothing but what was verified stays in SBL: whatever fails from its program command on, it is erased again.
 */
static void test_sbl_is_dropped(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    assert_int_equal(run(x, &e), 0);
    unsigned total = (unsigned)x->nand->n_commands, program = 0;
    for (unsigned i = 0; i < total; i++)
        if (x->nand->commands[i].verb == FAKE_PROGRAM && x->nand->commands[i].range.start == 0)
            program = i + 1;
    assert_true(program > 0 && program < total);
    fix_free(x);
    for (unsigned n = program; n <= total; n++) {
        x = fix_new();
        fix_start(x);
        x->nand->fail_at = n;
        x->nand->fail_with = -EPROTO;
        assert_int_equal(run(x, &e), -EPROTO);
        assert_true(fix_is_erased(x, SBL, 4));
        assert_null(strstr(e.message, "could not be erased"));
        again_completes(x);
        fix_free(x);
    }
}

static struct fixture *refuse_from;

/* From here on everything is refused, the erase too. */
static void refuse_all(struct firehose *f, enum fake_verb verb, const struct firehose_range *range)
{
    if (verb == FAKE_DIGEST && range->start == 0)
        refuse_from->nand->fail_from = (unsigned)f->n_commands + 1;
}

static void test_sbl_cannot_be_dropped(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    refuse_from = x;
    x->nand->before = refuse_all;
    x->nand->fail_with = -EPROTO;
    assert_int_equal(run(x, &e), -EPROTO);
    assert_false(fix_is_erased(x, SBL, 1));
    assert_int_equal(e.kind, ERROR_FIREHOSE_FAILED);
    assert_int_equal(e.hint, HINT_BRIDGE_USB_BOOT);
    assert_non_null(strstr(e.message, "could not be erased again"));
    /* The same call made again finds what is there. */
    x->nand->before = NULL;
    x->nand->fail_from = 0;
    again_completes(x);
    fix_free(x);
}

static bool sbl_was_written;

static void stop_behind_sbl(struct firehose *f, enum fake_verb verb, const struct firehose_range *range)
{
    (void)f;
    if (verb == FAKE_PROGRAM && range->start == 0) {
        sbl_was_written = true;
        fix_check_result = -EINTR;
    }
}

/* STOP waits for the verification of an SBL. */
static void test_no_stop_behind_sbl(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    sbl_was_written = false;
    x->nand->before = stop_behind_sbl;
    assert_int_equal(run(x, &e), 0);
    assert_true(sbl_was_written && x->flash.complete);
    fix_assert_complete(x);
    fix_free(x);
}

static unsigned erases_of_sbl;

/* Its first block goes bad in the very erase that the fill is learned from. */
static void go_bad_at_erase(struct firehose *f, enum fake_verb verb, const struct firehose_range *range)
{
    if (verb == FAKE_ERASE && range->start == 0)
        erases_of_sbl++;
    if (verb == FAKE_READ && erases_of_sbl == 1)
        f->bad[0] = true;
}

static void test_goes_bad_in_probed_erase(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    erases_of_sbl = 0;
    x->nand->erased_fill = 0xee;
    x->nand->before = go_bad_at_erase;
    assert_int_equal(run(x, &e), 0);
    assert_true(nand_map_is_bad(&x->flash.map, 0));
    assert_int_equal(x->session.erased_fill, 0xee);
    fix_assert_complete(x);
    fix_free(x);
}

/* Lost in the middle of an image, with a block gone bad under it: erased again, that block is not addressed.
 * The map for that is read again by the job that saw it happen; one that begins with the gate has read it. */
static void test_map_of_what_was_begun(void **state)
{
    (void)state;
    for (int new_process = 0; new_process < 2; new_process++) {
        struct fixture *x = fix_new();
        struct error e;
        fix_start(x);
        x->nand->goes_bad_block = BOOT + 1;
        x->nand->goes_bad_armed = true;
        x->nand->unplug_after_pages = 4 + 11; /* of MIBIB, and into the third block of boot */
        assert_int_equal(run(x, &e), -ENODEV);
        assert_true(x->nand->bad[BOOT + 1]);
        if (new_process) {
            fix_stop(x);
            assert_true(fix_start(x));
        }
        size_t first = x->nand->n_commands, seams = 0;
        assert_int_equal(run(x, &e), 0);
        fix_assert_complete(x);
        assert_int_equal(x->flash.error_logs, 0);
        for (size_t i = first; x->nand->commands[i].verb != FAKE_ERASE; i++) {
            const struct firehose_range *r = &x->nand->commands[i].range;
            seams += x->nand->commands[i].verb == FAKE_READ && r->count == 2 &&
                     r->start / FIX_PAGES_PER_BLOCK >= BOOT && r->start / FIX_PAGES_PER_BLOCK < MISC;
        }
        assert_int_equal(seams, new_process ? 0 : 4);
        fix_free(x);
    }
}

static unsigned looks_left;

/* Only an image is digested, or read in more than a page or two neighbours. */
static void refuse_a_look(struct firehose *f, enum fake_verb verb, const struct firehose_range *range)
{
    bool look = verb == FAKE_DIGEST || (verb == FAKE_READ && range->count > 2);
    if (look && looks_left > 0 && --looks_left == 0)
        f->fail_at = (unsigned)f->n_commands + 1;
}

/* What cannot be read back when the job goes on is not there: it is written again. */
static void test_recheck_is_refused(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++)
        for (unsigned n = 1; n <= 5; n++) {
            struct fixture *x = fix_new();
            struct error e;
            x->session.capabilities.digest = digest;
            fix_start(x);
            assert_int_equal(run(x, &e), 0);
            fix_stop(x);
            assert_true(fix_start(x));
            looks_left = n;
            x->nand->before = refuse_a_look;
            x->nand->fail_with = -EPROTO;
            assert_int_equal(run(x, &e), 0);
            assert_int_equal(looks_left, 0);
            assert_true(x->flash.resumed < 10);
            fix_assert_complete(x);
            fix_free(x);
        }
}

/* A list that a programmer told is enough not to address a bad block with an erase. */
static void test_told_bad_blocks(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    x->session.capabilities = (struct nand_capabilities){0};
    x->session.storage.bad_block_list = true;
    x->nand->no_skip_bad_block = x->nand->no_digest = true;
    x->nand->bad[BOOT + 2] = true;
    fix_start(x);
    nand_map_set(&x->flash.map, BOOT + 2, true);
    assert_int_equal(run(x, &e), 0);
    fix_assert_complete(x);
    assert_int_equal(x->flash.error_logs, 0);
    for (size_t i = 0; i < x->nand->n_commands; i++) {
        const struct fake_command *c = &x->nand->commands[i];
        uint64_t first = c->range.start / FIX_PAGES_PER_BLOCK;
        assert_false(c->verb == FAKE_ERASE && first <= BOOT + 2 &&
                     BOOT + 2 < first + c->range.count / FIX_PAGES_PER_BLOCK);
    }
    fix_free(x);
}

static void test_wrong_partition(void **state)
{
    (void)state;
    for (int digest = 0; digest < 2; digest++) {
        struct fixture *x = fix_new();
        struct error e;
        x->session.capabilities.digest = digest;
        fix_start(x);
        x->nand->garble_page = BOOT * FIX_PAGES_PER_BLOCK + 5;
        x->nand->garble_times = 1;
        assert_int_equal(run(x, &e), -EBADMSG);
        assert_non_null(strstr(e.message, "page 5"));
        assert_true(fix_is_erased(x, SBL, 4));
        again_completes(x);
        fix_free(x);
    }
}

static void test_stop_between_steps(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    fix_start(x);
    fix_check_result = -EINTR;
    assert_int_equal(run(x, &e), -EINTR);
    assert_int_equal(x->nand->n_changing, 0);
    assert_false(x->flash.destructive || fix_told_destructive);
    fix_free(x);
}

/* Nothing is changed before its intent is on the disk. */
static void test_journal_full(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    close(x->fd_journal);
    x->fd_journal = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(x->fd_journal, JOURNAL_HEADER_SIZE), 0);
    assert_int_equal(fcntl(x->fd_journal, F_ADD_SEALS, F_SEAL_GROW), 0);
    fix_start(x);
    assert_true(run(x, &e) < 0);
    assert_int_equal(x->nand->n_changing, 0);
    assert_false(fix_told_destructive);
    fix_free(x);
}

static void test_every_nak(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct fixture *x = fix_new();
        struct error e;
        fix_start(x);
        x->nand->fail_at = n;
        x->nand->fail_with = -EPROTO;
        int r = run(x, &e);
        if (r == 0) {
            fix_free(x);
            break;
        }
        assert_int_equal(r, -EPROTO);
        fix_assert_safe(x);
        fix_stop(x);
        fix_start(x);
        assert_int_equal(run(x, &e), 0);
        fix_assert_complete(x);
        fix_free(x);
    }
}

/* A programmer that hides bad blocks: whole partitions only, everything verified. */
static void test_without_skip_bad_block(void **state)
{
    (void)state;
    struct fixture *x = fix_new();
    struct error e;
    x->session.capabilities.skip_bad_block = false;
    x->session.capabilities.digest = false;
    x->nand->no_skip_bad_block = x->nand->no_digest = true;
    fix_start(x);
    assert_int_equal(run(x, &e), 0);
    fix_assert_complete(x);
    unsigned erases = 0;
    for (size_t i = 0; i < x->nand->n_commands; i++)
        erases += x->nand->commands[i].verb == FAKE_ERASE;
    assert_int_equal(erases, 5);
    fix_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_flash),
        cmocka_unit_test(test_order_and_ranges),
        cmocka_unit_test(test_bad_blocks),
        cmocka_unit_test(test_unplugged_at_every_command),
        cmocka_unit_test(test_unplugged_inside_a_program),
        cmocka_unit_test(test_half_an_image_on_strict_flash),
        cmocka_unit_test(test_sbl_that_is_not_erased),
        cmocka_unit_test(test_stale_blocks_behind_an_image),
        cmocka_unit_test(test_done_is_not_trusted),
        cmocka_unit_test(test_nothing_to_do_again),
        cmocka_unit_test(test_wrong_sbl),
        cmocka_unit_test(test_sbl_is_dropped),
        cmocka_unit_test(test_sbl_cannot_be_dropped),
        cmocka_unit_test(test_no_stop_behind_sbl),
        cmocka_unit_test(test_goes_bad_in_probed_erase),
        cmocka_unit_test(test_map_of_what_was_begun),
        cmocka_unit_test(test_recheck_is_refused),
        cmocka_unit_test(test_told_bad_blocks),
        cmocka_unit_test(test_wrong_partition),
        cmocka_unit_test(test_stop_between_steps),
        cmocka_unit_test(test_journal_full),
        cmocka_unit_test(test_every_nak),
        cmocka_unit_test(test_without_skip_bad_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
