/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Windowed flashing against a NAND in memory with a clock that only its commands move: the window closes when
 * it closes, at every moment that there is.
 */

#include "flash-fixture.h"
#include "worker/pieces.h"

#define MS USEC_PER_MSEC

/* What a command costs this modem. */
static const usec_t erase_block = 3 * MS, program_page = 10 * MS, read_page = 1 * MS, command = 5 * MS,
                    startup = 200 * MS, gap = 1000 * MS;

static usec_t now;
static usec_t window_end; /* the power goes; USEC_INFINITY: it does not */
static usec_t deadline;   /* what the job thinks: nothing may be in flight behind it */
static unsigned n_late;
static usec_t busy;   /* spent in commands */
static usec_t cut_at; /* once so much is spent, the power goes, whatever the window; USEC_INFINITY: never */
static bool was_cut, strict;

int clock_gettime(clockid_t id, struct timespec *ret)
{
    (void)id;
    *ret = (struct timespec){.tv_sec = (time_t)(now / USEC_PER_SEC),
                             .tv_nsec = (long)(now % USEC_PER_SEC * 1000)};
    return 0;
}

static bool changes(enum fake_verb verb)
{
    return verb == FAKE_ERASE || verb == FAKE_PROGRAM;
}

/* Time passes, and the power may go in the middle. */
static void on_command(struct firehose *nand, enum fake_verb verb, const struct firehose_range *range)
{
    static const usec_t page_cost[] = {[FAKE_READ] = read_page,
                                       [FAKE_ERASE] = erase_block / FIX_PAGES_PER_BLOCK,
                                       [FAKE_PROGRAM] = program_page,
                                       [FAKE_DIGEST] = read_page,
                                       [FAKE_VENDOR] = 0,
                                       [FAKE_POWER] = 0,
                                       [FAKE_DRAIN] = 0};
    usec_t start = now + command;
    usec_t took = command + (range ? range->count * page_cost[verb] : 0);
    if (busy + took > cut_at) {
        window_end = MIN_OF(window_end, now + (cut_at - busy));
        cut_at = USEC_INFINITY;
        was_cut = true;
    }
    busy += took;
    now += took;
    n_late += changes(verb) && now > deadline;
    if (now <= window_end)
        return;
    nand->fail_at = (unsigned)nand->n_commands + 1;
    nand->fail_with = -ENODEV;
    if (verb == FAKE_PROGRAM && window_end > start) {
        /* So many pages are there; the one that was being written is not. */
        nand->fail_at = 0;
        nand->unplug_after_pages = (unsigned)((window_end - start) / program_page) + 1;
    }
    now = window_end;
}

static struct window *clock_of;

static bool stays(void)
{
    usec_t overdue = window_overdue(clock_of);
    if (window_end <= overdue)
        return false;
    now = overdue;
    return true;
}

struct loop {
    struct fixture *x;
    usec_t length; /* of a window; 0: none */
    usec_t told;   /* what the service says of it */
    unsigned windows, most;
};

static void appear(struct loop *l)
{
    struct window *w = &l->x->session.window;
    window_open(w, now);
    window_end = l->length ? now + l->length : USEC_INFINITY;
    now += startup;
    deadline = window_deadline(w);
    l->x->nand->before = on_command;
    clock_of = w;
    fix_stays = stays;
    l->x->nand->fail_at = 0;
    l->x->nand->unplug_after_pages = 0;
    l->x->session.appearances++;
    l->windows++;
}

static void vanish(struct loop *l)
{
    if (l->length)
        now = window_end;
    window_close(&l->x->session.window, now, false);
    now += gap;
}

static struct loop start(usec_t length, usec_t told)
{
    struct loop l = {.x = fix_new(), .length = length, .told = told, .most = 400};
    l.x->nand->no_auto_erase = strict;
    now = 1000 * USEC_PER_SEC;
    n_late = 0;
    busy = 0;
    cut_at = USEC_INFINITY;
    was_cut = false;
    window_init(&l.x->session.window, told, told + gap);
    window_set_block_size(&l.x->session.window, FIX_PAGE * FIX_PAGES_PER_BLOCK);
    return l;
}

static int one_window(struct loop *l, bool resumed, struct error *e)
{
    *e = (struct error){0};
    if (l->x->flash.destructive)
        pieces_resume(&l->x->flash, resumed);
    int r = pieces_run(&l->x->flash, e);
    if (r == -ENODEV)
        fix_assert_safe(l->x);
    return r;
}

/* Until it is complete; halving as job-flash.c does. */
static int run(struct loop *l, struct error *e)
{
    struct flash *f = &l->x->flash;
    for (bool resumed = f->destructive;; resumed = false) {
        appear(l);
        int r = one_window(l, resumed, e);
        if (r != -ENODEV || l->windows > l->most)
            return r;
        vanish(l);
        bool useful = pieces_finished(f) > f->best;
        f->best = MAX_OF(f->best, pieces_finished(f));
        if (useful)
            window_accepted(&l->x->session.window);
        else if (window_in_vain(&l->x->session.window) == WINDOW_TOO_SHORT)
            return r;
    }
}

static void end(struct loop *l)
{
    fix_free(l->x);
}

/* The windows are what they are said to be: no command is ever cut off, and the flash is as it would be. */
static void test_windows(void **state)
{
    (void)state;
    static const usec_t lengths[] = {700 * MS,  800 * MS,  900 * MS,  1000 * MS,
                                     1500 * MS, 3000 * MS, 60000 * MS};
    unsigned before = 1000;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
        for (int digest = 0; digest < 2; digest++) {
            struct loop l = start(lengths[i], lengths[i]);
            struct error e;
            l.x->session.capabilities.digest = digest;
            l.x->nand->erased_fill = digest ? 0xff : 0xee;
            fix_start(l.x);
            int r = run(&l, &e);
            if (r < 0)
                fail_msg("%llu ms: %s", (unsigned long long)(lengths[i] / MS), e.message);
            fix_assert_complete(l.x);
            assert_true(l.x->flash.complete);
            assert_int_equal(n_late, 0);
            assert_int_equal(l.x->flash.bytes_written, l.x->plan.bytes_to_write);
            assert_int_equal(l.x->flash.work_done, l.x->flash.work_total);
            assert_true(l.windows <= before + 1);
            before = digest ? l.windows : before;
            end(&l);
        }
    assert_int_equal(before, 1);
}

static void test_bad_blocks_everywhere(void **state)
{
    (void)state;
    static const uint64_t bad[] = {SBL + 1,  MIBIB, MIBIB + 2, BOOT,       BOOT + 2,
                                   BOOT + 3, MISC,  MISC + 3,  SYSTEM + 1, SYSTEM + 7};
    for (usec_t length = 700 * MS; length <= 1500 * MS; length += 100 * MS) {
        struct loop l = start(length, length);
        struct error e;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
            l.x->nand->bad[bad[i]] = true;
        fix_start(l.x);
        int r = run(&l, &e);
        if (r < 0)
            fail_msg("%llu ms: %s", (unsigned long long)(length / MS), e.message);
        fix_assert_complete(l.x);
        assert_int_equal(n_late, 0);
        assert_int_equal(l.x->nand->errors, 0); /* none of them was ever addressed */
        end(&l);
    }
}

/* The power goes at every command, and at every page of every program command. */
static void cut_everywhere(bool new_process, uint64_t goes_bad, bool blind)
{
    const usec_t length = blind ? 2000 * MS : 900 * MS;
    usec_t total = 0;
    for (usec_t cut = command / 2; total == 0 || cut < total; cut += program_page / 2) {
        struct loop l = start(length, length);
        struct error e = {0};
        l.x->nand->bad[BOOT + 1] = !blind;
        l.x->nand->goes_bad_block = goes_bad;
        l.x->nand->goes_bad_armed = goes_bad > 0;
        l.x->session.capabilities.skip_bad_block = !blind;
        cut_at = total > 0 ? cut : USEC_INFINITY;
        fix_start(l.x);
        int r = -ENODEV;
        while (r == -ENODEV && !was_cut) {
            appear(&l);
            r = one_window(&l, false, &e);
            if (r == -ENODEV)
                vanish(&l);
        }
        if (total == 0) {
            total = busy;
            assert_true(r == 0 && total > 30 * program_page);
        }
        if (r == -ENODEV && new_process) {
            fix_stop(l.x);
            fix_start(l.x);
        }
        if (r == -ENODEV)
            r = run(&l, &e);
        if (r < 0)
            fail_msg("cut after %llu ms: %s", (unsigned long long)(cut / MS), e.message);
        fix_assert_complete(l.x);
        end(&l);
    }
}

static void test_cut_everywhere(void **state)
{
    (void)state;
    cut_everywhere(false, 0, false);
    cut_everywhere(true, 0, false);
}

/* Where the programmer does not erase by itself (9x07, as far as is known), what was cut off is erased first.
 */
static void test_cut_on_strict_flash(void **state)
{
    (void)state;
    strict = true;
    cut_everywhere(false, 0, false);
    cut_everywhere(true, 0, false);
    strict = false;
}

/* A block that goes bad under a piece shifts what follows it, whatever happens then. */
static void test_cut_with_a_dying_block(void **state)
{
    (void)state;
    static const uint64_t blocks[] = {BOOT, BOOT + 2, BOOT + 3, SYSTEM + 1, SYSTEM + 7, MIBIB};
    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
        cut_everywhere(false, blocks[i], false);
        cut_everywhere(true, blocks[i], false);
    }
}

/* Who cannot show bad blocks splits nothing. */
static void test_blind(void **state)
{
    (void)state;
    struct loop l = start(2000 * MS, 2000 * MS);
    struct error e;
    l.x->session.capabilities.skip_bad_block = false;
    fix_start(l.x);
    assert_int_equal(run(&l, &e), 0);
    fix_assert_complete(l.x);
    assert_int_equal(n_late, 0);
    unsigned programs = 0, erases = 0;
    for (size_t i = 0; i < l.x->nand->n_commands; i++) {
        programs += l.x->nand->commands[i].verb == FAKE_PROGRAM;
        erases += l.x->nand->commands[i].verb == FAKE_ERASE;
    }
    assert_int_equal(programs, 5);
    assert_int_equal(erases, 5);
    end(&l);
    cut_everywhere(false, 0, true);
    cut_everywhere(true, 0, true);
}

/* Killed behind any record of the journal. */
static void test_every_journal(void **state)
{
    (void)state;
    for (off_t n = 1;; n++) {
        struct loop l = start(900 * MS, 900 * MS);
        struct error e;
        l.x->nand->bad[BOOT + 1] = l.x->nand->bad[SYSTEM] = l.x->nand->bad[MISC + 3] = true;
        fix_start(l.x);
        assert_int_equal(run(&l, &e), 0);
        off_t records = (off_t)l.x->flash.journal.n_records;
        vanish(&l);
        fix_stop(l.x);
        if (n > records) {
            assert_true(records > 25);
            end(&l);
            break;
        }
        assert_int_equal(ftruncate(l.x->fd_journal, JOURNAL_HEADER_SIZE + n * JOURNAL_RECORD_SIZE), 0);
        /* The first record only says which blocks were bad before: nothing was begun. */
        assert_int_equal(fix_start(l.x), n > 1);
        assert_int_equal(run(&l, &e), 0);
        fix_assert_complete(l.x);
        end(&l);
    }
}

/* Nobody's fault, but nothing fits. */
static void test_too_short(void **state)
{
    (void)state;
    static const usec_t lengths[] = {250 * MS, 350 * MS, 500 * MS};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct loop l = start(lengths[i], lengths[i]);
        struct error e;
        l.x->session.capabilities.skip_bad_block = true;
        fix_start(l.x);
        assert_int_equal(run(&l, &e), -ENODEV);
        assert_true(l.windows <= 30);
        assert_int_equal(n_late, 0);
        fix_assert_safe(l.x);
        end(&l);
    }
}

/* The windows are shorter than the service said: they are measured, and the pieces shrink. */
static void test_wrong_forecast(void **state)
{
    (void)state;
    struct loop l = start(900 * MS, 6000 * MS);
    struct error e;
    fix_start(l.x);
    assert_int_equal(run(&l, &e), 0);
    fix_assert_complete(l.x);
    end(&l);
}

/* SBL, its verification and the reset share a window: one that a window left behind goes first in the next.
 */
static void test_sbl_does_not_outlive_its_window(void **state)
{
    (void)state;
    struct loop l = start(60 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    struct error e;
    fix_start(l.x);
    assert_int_equal(run(&l, &e), 0);
    size_t program = 0;
    for (size_t i = 0; i < l.x->nand->n_commands; i++)
        if (l.x->nand->commands[i].verb == FAKE_PROGRAM && l.x->nand->commands[i].range.start == 0)
            program = i;
    for (size_t i = program + 1; i < l.x->nand->n_commands; i++)
        assert_true(l.x->nand->commands[i].verb == FAKE_READ || l.x->nand->commands[i].verb == FAKE_DIGEST);
    size_t before = l.x->nand->n_commands;
    l.x->flash.complete = false;
    vanish(&l);
    assert_int_equal(run(&l, &e), 0);
    fix_assert_complete(l.x);
    bool first = true;
    for (size_t i = before; first && i < l.x->nand->n_commands; i++)
        if (changes(l.x->nand->commands[i].verb)) {
            assert_true(l.x->nand->commands[i].verb == FAKE_ERASE && l.x->nand->commands[i].range.start == 0);
            first = false;
        }
    assert_false(first);
    end(&l);
}

/* What rotted between two windows is written again, once, with all that lies behind it. */
static void test_rotten(void **state)
{
    (void)state;
    static const uint64_t places[] = {MIBIB, BOOT, BOOT + 2, SYSTEM + 1, SYSTEM + 8};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct loop l = start(60 * USEC_PER_SEC, 60 * USEC_PER_SEC);
        struct error e;
        uint8_t wrong[FIX_PAGE] = "not what we wrote";
        fix_start(l.x);
        assert_int_equal(run(&l, &e), 0);
        fix_stop(l.x);
        fake_put(l.x->nand, places[i] * FIX_PAGES_PER_BLOCK, wrong, sizeof(wrong));
        vanish(&l);
        assert_true(fix_start(l.x));
        assert_int_equal(run(&l, &e), 0);
        fix_assert_complete(l.x);
        assert_non_null(strstr(fix_log, "is not there any more"));
        end(&l);
    }
}

/* Away for longer than its loop takes: somebody may have been at it, and nothing that was proven before
 * counts. */
static void test_long_absence(void **state)
{
    (void)state;
    for (int is_long = 0; is_long < 2; is_long++) {
        struct loop l = start(900 * MS, 900 * MS);
        struct error e;
        uint8_t wrong[FIX_PAGE] = "not what we wrote";
        fix_start(l.x);
        int r = -ENODEV;
        size_t verified = 3; /* the VERIFY of MIBIB */
        while (r == -ENODEV && !l.x->flash.steps[verified].done) {
            appear(&l);
            r = one_window(&l, false, &e);
            vanish(&l);
        }
        assert_int_equal(r, -ENODEV);
        if (is_long) {
            fake_put(l.x->nand, MIBIB * FIX_PAGES_PER_BLOCK, wrong, sizeof(wrong));
            now += 20 * (900 * MS + gap);
        }
        assert_int_equal(run(&l, &e), 0);
        fix_assert_complete(l.x);
        assert_int_equal(strstr(fix_log, "is not there any more") != NULL, is_long);
        end(&l);
    }
}

static void journal(struct fixture *x, enum journal_kind kind, enum plan_action action, uint64_t first,
                    uint64_t n, uint64_t pages)
{
    const struct journal_record record = {
        .kind = kind, .action = (uint8_t)action, .first_block = first, .n_blocks = n, .pages = pages};
    assert_int_equal(journal_append(&x->flash.journal, &record, NULL), 0);
}

/* What a journal says of boot (erased as a whole, an image of 13 pages in its four first blocks), record by
 * record. */
static void test_replay(void **state)
{
    (void)state;
    static const struct {
        enum journal_kind kind;
        enum plan_action action;
        uint64_t first, n, pages;
        uint64_t finished, dirty; /* of the image, afterwards */
        bool done, half;
    } records[] = {
        {JOURNAL_INTENT, PLAN_ERASE, 0, 8, 0, 0, 0, false, false},
        {JOURNAL_DONE, PLAN_ERASE, 0, 8, 0, 0, 0, false, false},
        {JOURNAL_PIECE_INTENT, PLAN_WRITE, 0, 2, 8, 0, 2, false, false},
        {JOURNAL_PIECE_DONE, PLAN_WRITE, 0, 2, 8, 2, 0, false, false},
        {JOURNAL_PIECE_INTENT, PLAN_WRITE, 2, 2, 5, 2, 4, false, false},
        {JOURNAL_PIECE_INTENT, PLAN_WRITE, 2, 1, 4, 2, 4, false, false}, /* a smaller one; the dirt stays */
        {JOURNAL_PIECE_DONE, PLAN_WRITE, 2, 1, 4, 3, 0, false, false},
        {JOURNAL_PIECE_DONE, PLAN_WRITE, 1, 1, 4, 3, 0, false, false},   /* of nothing that was begun */
        {JOURNAL_PIECE_INTENT, PLAN_WRITE, 1, 1, 4, 1, 2, false, false}, /* done again: with all behind it */
        {JOURNAL_PIECE_DONE, PLAN_WRITE, 1, 1, 4, 2, 0, false, false},
        {JOURNAL_DONE, PLAN_WRITE, 0, 8, 13, 4, 0, true, false},
        {JOURNAL_PIECE_INTENT, PLAN_WRITE, 3, 1, 1, 3, 4, false, false},
        {JOURNAL_PIECE_INTENT, PLAN_ERASE, 0, 3, 0, 0, 0, false, false}, /* takes the image along */
        {JOURNAL_INTENT, PLAN_WRITE, 0, 8, 13, 0, 8, false, true},
    };
    struct loop l = start(60 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    struct fixture *x = l.x;
    const size_t image = 7; /* the WRITE of boot */
    fix_start(x);
    assert_int_equal(journal_start(&x->flash.journal, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
        journal(x, records[i].kind, records[i].action, BOOT + records[i].first, records[i].n,
                records[i].pages);
        memset(x->flash.steps, 0, x->plan.n_steps * sizeof(*x->flash.steps));
        steps_from_journal(&x->flash);
        const struct flash_step *st = &x->flash.steps[image];
        if (st->finished != records[i].finished || st->dirty != records[i].dirty ||
            st->done != records[i].done || st->half != records[i].half)
            fail_msg("record %zu: finished %llu dirty %llu done %d half %d", i,
                     (unsigned long long)st->finished, (unsigned long long)st->dirty, st->done, st->half);
    }
    end(&l);
}

/* A page that never holds what it is given ends the job, and SBL stays erased. */
static void test_never_right(void **state)
{
    (void)state;
    struct loop l = start(60 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    struct error e;
    fix_start(l.x);
    l.x->nand->garble_page = BOOT * FIX_PAGES_PER_BLOCK + 1;
    l.x->nand->garble_times = 1000;
    assert_int_equal(run(&l, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_DIGEST_MISMATCH);
    assert_true(fix_is_erased(l.x, SBL, 4));
    end(&l);
}

/* More than three that die are a dying flash. */
static void test_dying(void **state)
{
    (void)state;
    struct loop l = start(60 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    struct error e;
    fix_start(l.x);
    for (uint64_t b = SYSTEM; b < SYSTEM + 4; b++)
        l.x->nand->bad[b] = true; /* since the gate */
    assert_int_equal(run(&l, &e), -EPROTO);
    assert_int_equal(e.hint, HINT_CONTACT_VENDOR);
    fix_assert_safe(l.x);
    end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_bad_blocks_everywhere),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_cut_on_strict_flash),
        cmocka_unit_test(test_cut_with_a_dying_block),
        cmocka_unit_test(test_blind),
        cmocka_unit_test(test_every_journal),
        cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_wrong_forecast),
        cmocka_unit_test(test_sbl_does_not_outlive_its_window),
        cmocka_unit_test(test_rotten),
        cmocka_unit_test(test_long_absence),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_never_right),
        cmocka_unit_test(test_dying),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
