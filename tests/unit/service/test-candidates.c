/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "service/candidates.h"

#define ID(c) c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c

enum { OLD, NEWER, FAMILY, OTHER_CHIP, N_FIRMWARE };

/* A library, and a modem at a port without a name, so that nothing is written. */
struct scene {
    struct manager manager;
    struct firmware library[N_FIRMWARE];
    struct modem modem;
};

static char empty[] = "", ready[] = "ready", invalid[] = "invalid", sdx55[] = "SDX55", sdx24[] = "SDX24",
            file[] = "prog.mbn", p4k[] = "p4K_b256K", name_old[] = "RM502QGLAAR05A01M4G",
            name_family[] = "RM502QGLAAR05A03M4G", prefix[] = "RM502QGLAA", other_prefix[] = "RM500QGLAA",
            hash[] = "d9", storage[] = "nand 2048/128K x 2048", fits_storage[] = "nand 4096/256K x 2048";

static struct scene *new_scene(void)
{
    static const char *const ids[] = {ID("a"), ID("b"), ID("c"), ID("d")};
    struct scene *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    for (int i = 0; i < N_FIRMWARE; i++) {
        struct firmware *f = &s->library[i];
        *f = (struct firmware){.manager = &s->manager,
                               .next = i + 1 < N_FIRMWARE ? f + 1 : NULL,
                               .name = empty,
                               .state = ready,
                               .prefix = other_prefix,
                               .chip = i == OTHER_CHIP ? sdx24 : sdx55,
                               .geometry = p4k,
                               .programmer = file,
                               .imported_time = (uint64_t)i + 1};
        memcpy(f->id, ids[i], sizeof(f->id));
    }
    s->library[OLD].name = name_old;
    s->library[FAMILY].name = name_family;
    s->library[FAMILY].prefix = prefix;
    s->manager.firmware = s->library;
    s->modem = (struct modem){.manager = &s->manager, .port = empty, .chip = sdx55};
    return s;
}

static void end(struct scene *s)
{
    free(s->modem.refused);
    free(s->modem.silent);
    for (int i = 0; i < N_FIRMWARE; i++)
        free(s->library[i].accepted);
    free(s);
}

static void assert_order(struct scene *s, bool all, const char *expected)
{
    struct firmware *found[CANDIDATES_MAX];
    char order[CANDIDATES_MAX + 1] = "";
    size_t n = candidates_find(&s->modem, all, found);
    for (size_t i = 0; i < n; i++)
        order[i] = found[i]->id[0];
    assert_string_equal(order, expected);
}

static void test_only_what_fits(void **state _unused_)
{
    struct scene *s = new_scene();
    assert_order(s, false, "cba"); /* the newest first, none for another chip */
    s->library[NEWER].state = invalid;
    s->library[FAMILY].programmer = empty;
    assert_order(s, false, "a");
    s->modem.storage = storage; /* another geometry */
    assert_order(s, false, "");
    s->modem.storage = fits_storage;
    assert_order(s, false, "a");
    end(s);
}

static void test_who_goes_first(void **state _unused_)
{
    struct scene *s = new_scene();
    s->modem.firmware_version = name_old;
    assert_order(s, false, "acb"); /* what it ran */
    s->modem.family_version = name_family;
    s->modem.firmware_version = empty;
    assert_order(s, false, "cba"); /* of its family */
    s->modem.pk_hash = hash;
    s->library[NEWER].accepted = strdup("00,d9");
    assert_order(s, false, "bca"); /* what its key took */
    s->modem.port_policy = (struct policy){.mode = ready, .firmware_id = s->library[OLD].id};
    assert_order(s, false, "abc"); /* what its policy flashes */
    end(s);
}

static void test_an_unknown_chip_needs_a_reason(void **state _unused_)
{
    struct scene *s = new_scene();
    s->modem.chip = NULL;
    assert_order(s, false, ""); /* packages for two chips */
    s->modem.family_version = name_family;
    assert_order(s, false, "c");
    s->modem.family_version = NULL;
    s->library[OTHER_CHIP].state = invalid;
    assert_order(s, false, "cba");
    end(s);
}

static void test_a_refused_one_is_not_offered_again(void **state _unused_)
{
    struct scene *s = new_scene();
    assert_int_equal(candidates_told(&s->modem, "refused " ID("c"), false), 0);
    assert_order(s, false, "ba");
    assert_order(s, true, "bac"); /* but to a user, last */
    assert_int_equal(candidates_told(&s->modem, "refused " ID("c"), false), 0);
    assert_string_equal(s->modem.refused, ID("c"));
    end(s);
}

static void test_silence_counts_three_times(void **state _unused_)
{
    struct scene *s = new_scene();
    for (int i = 0; i < CANDIDATES_SILENT; i++) {
        assert_order(s, false, "cba");
        assert_int_equal(candidates_told(&s->modem, "silent " ID("c"), false), 0);
    }
    assert_order(s, false, "ba");
    /* It was the window, then: one that runs has spoken. */
    assert_int_equal(candidates_told(&s->modem, "silent " ID("b"), false), 0);
    assert_int_equal(candidates_told(&s->modem, "accepted " ID("c"), false), 0);
    assert_order(s, false, "cba");
    assert_string_equal(s->modem.silent, ID("b"));
    end(s);
}

static void test_a_key_is_learned_only_from_its_own_mouth(void **state _unused_)
{
    struct scene *s = new_scene();
    s->modem.pk_hash = hash;
    assert_false(candidates_know_hash(&s->modem));
    assert_int_equal(candidates_told(&s->modem, "accepted " ID("c"), false), 0);
    assert_false(candidates_know_hash(&s->modem));
    s->library[FAMILY].accepted = strdup("d90,0d9"); /* others */
    assert_false(candidates_know_hash(&s->modem));
    free(s->library[FAMILY].accepted);
    s->library[FAMILY].accepted = strdup("0d9,d9");
    assert_true(candidates_know_hash(&s->modem));
    s->library[FAMILY].state = invalid;
    assert_false(candidates_know_hash(&s->modem));
    end(s);
}

static void test_an_interrupted_flash_keeps_its_programmer(void **state _unused_)
{
    struct scene *s = new_scene();
    struct job flash = {0};
    memcpy(flash.firmware_id, s->library[OLD].id, sizeof(flash.firmware_id));
    s->modem.interrupted = &flash;
    assert_order(s, false, "a");
    assert_order(s, true, "a");
    end(s);
}

static void test_nonsense(void **state _unused_)
{
    static const char *const lines[] = {
        "",          "accepted",        "accepted " ID("g"),    "refused aa",
        ID("a"),     "liked " ID("a"),  "refused " ID("a") "a", "refused " ID("a") " x",
        "refused  ", "REFUSED " ID("a")};
    struct scene *s = new_scene();
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        assert_int_equal(candidates_told(&s->modem, lines[i], true), -EBADMSG);
    assert_order(s, false, "cba");
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_fits),
        cmocka_unit_test(test_who_goes_first),
        cmocka_unit_test(test_an_unknown_chip_needs_a_reason),
        cmocka_unit_test(test_a_refused_one_is_not_offered_again),
        cmocka_unit_test(test_silence_counts_three_times),
        cmocka_unit_test(test_a_key_is_learned_only_from_its_own_mouth),
        cmocka_unit_test(test_an_interrupted_flash_keeps_its_programmer),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
