/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../fake-firehose.h"
#include "worker/look.h"

enum { PAGE = 512, PAGES = 8, BLOCKS = 64, BLOCK = 20 };

static char logged[4096];

void worker_log(struct worker *w, const char *format, ...)
{
    (void)w;
    snprintf(logged, sizeof(logged), "%s", format);
}

struct fixture {
    struct session session;
    struct nand_map map;
    struct look look;
    struct look_piece piece;
    uint8_t data[2 * PAGES * PAGE], states[2 * PAGES];
    struct error e;
};

static struct firehose *setup(struct fixture *x, enum backup_map how)
{
    struct firehose *f = fake_new(PAGE, PAGES, BLOCKS);
    memset(x, 0, sizeof(*x));
    logged[0] = '\0';
    x->session.firehose = f;
    x->session.geometry = f->g;
    x->session.capabilities.skip_bad_block = how == BACKUP_MAP_READ;
    assert_int_equal(nand_map_init(&x->map, BLOCKS), 0);
    /* No service is there that could ask for an end. */
    x->look = (struct look){
        .session = &x->session, .how = how, .map = &x->map, .fill = LOOK_ERASED_EE, .to_the_end = true};
    x->piece = (struct look_piece){.first = BLOCK, .n = 1, .data = x->data, .states = x->states};
    return f;
}

static void teardown(struct fixture *x)
{
    nand_map_done(&x->map);
    fake_free(x->session.firehose);
}

/* "d.ub" for data, erased, unreadable, bad. */
static const char *states(const struct fixture *x)
{
    static char text[2 * PAGES + 1];
    for (size_t i = 0; i < x->piece.n * PAGES; i++)
        text[i] = "d.ub"[x->states[i]];
    text[x->piece.n * PAGES] = '\0';
    return text;
}

static void put(struct firehose *f, uint64_t block, uint32_t page, uint8_t byte)
{
    uint8_t data[PAGE];
    memset(data, byte, sizeof(data));
    fake_put(f, block * PAGES + page, data, sizeof(data));
}

static void test_states(void **state _unused_)
{
    struct fixture x;
    struct firehose *f = setup(&x, BACKUP_MAP_READ);
    f->erased_fill = 0xee;
    put(f, BLOCK, 0, 1);
    put(f, BLOCK, 2, 0xbd); /* what a bad block reads as */
    put(f, BLOCK, 3, 2);
    f->pages[BLOCK * PAGES + 3] = FAKE_UNREADABLE;
    f->bad[BLOCK + 1] = true;
    x.piece.n = 2;
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), 0);
    assert_string_equal(states(&x), "d.du....bbbbbbbb");
    assert_true(nand_map_is_bad(&x.map, BLOCK + 1) && !nand_map_is_bad(&x.map, BLOCK));
    teardown(&x);
}

/* 0xEE is erased where anything on the chip shows it so, and data where all else that is erased reads 0xFF.
 */
static void test_fill(void **state _unused_)
{
    struct fixture x;
    struct firehose *f = setup(&x, BACKUP_MAP_READ);
    put(f, BLOCK, 0, 0xee);
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), 0);
    assert_string_equal(states(&x), "d.......");
    assert_true(x.look.fill_settled && x.look.fill == LOOK_ERASED_FF);
    teardown(&x);

    f = setup(&x, BACKUP_MAP_READ);
    f->erased_fill = 0xee;
    put(f, BLOCK, 0, 1);
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), 0);
    assert_string_equal(states(&x), "d.......");
    assert_int_equal(x.look.fill, LOOK_ERASED_EE);
    teardown(&x);

    /* A chip that is full to its last pages tells nothing: no 0xEE is ever data then. */
    f = setup(&x, BACKUP_MAP_READ);
    for (uint64_t b = 0; b < BLOCKS; b++)
        put(f, b, PAGES - 1, 3);
    put(f, BLOCK, 0, 0xee);
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), 0);
    assert_string_equal(states(&x), "......."
                                    "d");
    teardown(&x);
}

static unsigned refused_page;

/* Every read that covers this page is refused. */
static void refuse(struct firehose *f, enum fake_verb verb, const struct firehose_range *range)
{
    bool covers = range && range->start <= refused_page && refused_page < range->start + range->count;
    f->fail_at = verb == FAKE_READ && covers ? (unsigned)f->n_commands + 1 : 0;
}

static void test_one_refused_page(void **state _unused_)
{
    for (int how = BACKUP_MAP_READ; how <= BACKUP_MAP_NONE; how++) {
        struct fixture x;
        struct firehose *f = setup(&x, (enum backup_map)how);
        for (uint32_t i = 0; i < 5; i++)
            put(f, BLOCK, i, (uint8_t)(i + 1));
        refused_page = BLOCK * PAGES + 2;
        f->before = refuse;
        assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), 0);
        assert_string_equal(states(&x), "ddudd...");
        assert_int_equal(x.data[3 * PAGE], 4);
        teardown(&x);
    }
}

/* Where nobody knows the bad blocks one of which no page can be read is bad; only so many of them. */
static void test_refused_from_the_first_page_to_the_last(void **state _unused_)
{
    struct fixture x;
    struct firehose *f = setup(&x, BACKUP_MAP_NONE);
    f->bad[BLOCK] = true;
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), 0);
    assert_string_equal(states(&x), "bbbbbbbb");
    x.look.refused = 64;
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), -EPROTO);
    assert_int_equal(x.e.hint, HINT_CONTACT_VENDOR);
    teardown(&x);
}

static void test_modem_that_goes(void **state _unused_)
{
    struct fixture x;
    struct firehose *f = setup(&x, BACKUP_MAP_READ);
    f->fail_with = -ENODEV;
    f->fail_at = 1;
    assert_int_equal(look_at_piece(&x.look, &x.piece, false, &x.e), -ENODEV);
    assert_int_equal(x.e.kind, ERROR_MODEM_GONE);
    teardown(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_one_refused_page),
        cmocka_unit_test(test_refused_from_the_first_page_to_the_last),
        cmocka_unit_test(test_modem_that_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
