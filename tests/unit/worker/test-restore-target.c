/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "worker/restore.h"

enum { PAGES = 4, BLOCKS = 32, FIRST = 4, COUNT = 8 };

struct fixture {
    struct backup backup;
    struct backup_part part;
    uint8_t states[COUNT * PAGES];
    struct nand_map map;
    struct restore_part target;
    struct error e;
};

/* then: a letter a block: d data, . erased, x bad. now: x bad. */
static int place(struct fixture *f, const char *then, const char *now, bool physical)
{
    memset(f, 0, sizeof(*f));
    f->backup.geometry = (struct nand_geometry){512, PAGES, BLOCKS};
    f->part =
        (struct backup_part){.name = "part", .first_block = FIRST, .n_blocks = COUNT, .states = f->states};
    assert_int_equal(nand_map_init(&f->map, BLOCKS), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        memset(f->states + i * PAGES, then[i] == 'x' ? NAND_PAGE_BAD : NAND_PAGE_ERASED, PAGES);
        if (then[i] == 'd')
            f->states[i * PAGES + 1] = NAND_PAGE_DATA;
        nand_map_set(&f->map, FIRST + i, now[i] == 'x');
    }
    f->target = (struct restore_part){.part = &f->part, .physical = physical};
    return restore_target(&f->backup, &f->map, &f->target, &f->e);
}

static void done(struct fixture *f)
{
    free(f->target.source);
    free(f->target.seen);
    nand_map_done(&f->map);
}

/* expected: the block of the backup (0..7) that each block gets, '.' for none. */
static void expect(const char *then, const char *now, bool physical, const char *expected)
{
    struct fixture f;
    if (place(&f, then, now, physical) < 0)
        fail_msg("%s onto %s: %s", then, now, f.e.message);
    for (unsigned i = 0; i < COUNT; i++) {
        uint64_t want = expected[i] == '.' ? RESTORE_ERASED : FIRST + (uint64_t)(expected[i] - '0');
        if (f.target.source[i] != want)
            fail_msg("%s onto %s: block %u", then, now, i);
    }
    done(&f);
}

static void refuse(const char *then, const char *now, bool physical, enum error_kind kind)
{
    struct fixture f;
    assert_int_equal(place(&f, then, now, physical), error_errno(kind));
    assert_int_equal(f.e.kind, kind);
    assert_int_equal(f.e.hint, HINT_CONTACT_VENDOR);
    done(&f);
}

static void test_physical(void **state _unused_)
{
    expect("dddddddd", "........", true, "01234567");
    expect("d.d.xd..", "........", true, "0.2..5..");
    expect("d.d.xd..", ".x.x..xx", true, "0.2..5..");
    refuse("d.d.xd..", "..x.....", true, ERROR_UNSUPPORTED);
}

static void test_logical(void **state _unused_)
{
    expect("ddd.....", "........", false, "012.....");
    expect("ddd.....", "x.......", false, ".012....");
    expect("dxd.....", "..x.....", false, "02......");
    expect("d.d.....", "........", false, "0.2.....");
    expect("d.dx...d", "x.......", false, ".0.2...7");
    expect("ddddddd.", "...x....", false, "012.3456");
    refuse("dddddddd", "...x....", false, ERROR_GEOMETRY_DIFFERS);
    refuse("d......d", "x.......", false, ERROR_GEOMETRY_DIFFERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_physical),
        cmocka_unit_test(test_logical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
