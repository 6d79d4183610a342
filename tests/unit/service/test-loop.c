/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "service/loop.h"

#define S USEC_PER_SEC

/* A port under observation, with a clock of its own. */
struct scene {
    struct loop loop;
    usec_t now;
};

static struct scene new_scene(void)
{
    return (struct scene){.now = 1000 * S};
}

static void come(struct scene *s, enum loop_place place)
{
    loop_came(&s->loop, place, false, s->now);
}

static void go(struct scene *s, usec_t after)
{
    s->now += after;
    loop_went(&s->loop, false, s->now);
}

static void turn(struct scene *s, usec_t window, usec_t gap)
{
    come(s, LOOP_EDL);
    go(s, window);
    s->now += gap;
}

static struct loop_facts look(struct scene *s)
{
    return loop_look(&s->loop, s->now);
}

static void test_two_short_ones_are_a_loop(void **state _unused_)
{
    struct scene s = new_scene();
    assert_false(look(&s).looping);
    turn(&s, 9 * S, 5 * S);
    assert_false(look(&s).looping);
    come(&s, LOOP_EDL);
    assert_false(look(&s).looping);
    go(&s, 9 * S);
    struct loop_facts f = look(&s);
    assert_true(f.looping);
    assert_int_equal(f.count, 2);
    assert_int_equal(f.period, 14 * S);
    assert_int_equal(f.window, 9 * S);
    assert_int_equal(f.next, s.now + 5 * S);
    assert_int_equal(f.check_at, s.now - 9 * S + LOOP_APART_USEC);
}

static void test_one_that_stays_is_none(void **state _unused_)
{
    struct scene s = new_scene();
    turn(&s, LOOP_SHORT_USEC, 5 * S);
    turn(&s, LOOP_SHORT_USEC, 5 * S);
    turn(&s, LOOP_SHORT_USEC, 5 * S);
    assert_false(look(&s).looping);
    assert_int_equal(look(&s).check_at, USEC_INFINITY);
}

static void test_the_next_window_is_always_ahead(void **state _unused_)
{
    struct scene s = new_scene();
    turn(&s, 9 * S, 5 * S);
    turn(&s, 9 * S, 5 * S);
    assert_int_equal(look(&s).next, s.now + 14 * S); /* this very moment is not ahead */
    s.now += 20 * S;                                 /* one was missed */
    assert_int_equal(look(&s).next, s.now + 8 * S);
    s.now += 8 * S;
    come(&s, LOOP_EDL);
    assert_int_equal(look(&s).next, s.now + 14 * S);
}

static void test_one_odd_turn_moves_nothing(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 3; i++)
        turn(&s, 9 * S, 5 * S);
    turn(&s, 1 * S, 40 * S);
    turn(&s, 9 * S, 5 * S);
    come(&s, LOOP_EDL);
    assert_int_equal(look(&s).period, 14 * S);
    assert_int_equal(look(&s).window, 9 * S);
    assert_int_equal(look(&s).count, 5);
}

static void test_it_follows_a_change(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 20; i++)
        turn(&s, 9 * S, 5 * S);
    for (int i = 0; i < LOOP_TURNS_MAX; i++)
        turn(&s, 2 * S, 1 * S);
    assert_int_equal(look(&s).period, 3 * S);
    assert_int_equal(look(&s).window, 2 * S);
    assert_int_equal(look(&s).count, 20 + LOOP_TURNS_MAX);
}

static void test_a_few_minutes_of_nothing_end_it(void **state _unused_)
{
    struct scene s = new_scene();
    turn(&s, 9 * S, 5 * S);
    turn(&s, 9 * S, 0);
    s.now = look(&s).check_at - 1;
    assert_true(look(&s).looping);
    s.now++;
    assert_false(look(&s).looping);
    turn(&s, 9 * S, 5 * S); /* one more is no loop again */
    assert_false(look(&s).looping);
    turn(&s, 9 * S, 5 * S);
    assert_true(look(&s).looping);
    assert_int_equal(look(&s).count, 2);
}

static void test_staying_ends_it(void **state _unused_)
{
    struct scene s = new_scene();
    turn(&s, 9 * S, 5 * S);
    turn(&s, 9 * S, 5 * S);
    come(&s, LOOP_EDL);
    assert_int_equal(look(&s).check_at, s.now + LOOP_SHORT_USEC);
    s.now += LOOP_SHORT_USEC - 1;
    assert_true(look(&s).looping);
    s.now++;
    assert_false(look(&s).looping);
    go(&s, 3 * S);
    assert_false(look(&s).looping);
}

/* It starts its firmware each time, and dies. */
static void test_falling_back_is_the_other_edge(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 2; i++) {
        assert_false(look(&s).looping);
        come(&s, LOOP_NORMAL);
        go(&s, 80 * S);
        s.now += 2 * S;
        come(&s, LOOP_EDL);
        assert_int_equal(look(&s).looping, i == 1);
        go(&s, 90 * S); /* somebody has to power-cycle it: no short one */
        s.now += 3 * S;
    }
    struct loop_facts f = look(&s);
    assert_int_equal(f.count, 2);
    assert_int_equal(f.period, 175 * S);
    assert_int_equal(f.window, 0);
}

static void test_short_ones_between_boots_count_once(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 3; i++) {
        come(&s, LOOP_NORMAL);
        go(&s, 20 * S);
        turn(&s, 10 * S, 1 * S);
    }
    assert_int_equal(look(&s).count, 3);
    assert_int_equal(look(&s).window, 10 * S);
    assert_int_equal(look(&s).period, 31 * S);
}

static void test_normal_mode_for_long_is_no_edge(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 3; i++) {
        come(&s, LOOP_NORMAL);
        go(&s, LOOP_APART_USEC);
        come(&s, LOOP_EDL);
        go(&s, LOOP_SHORT_USEC);
    }
    assert_false(look(&s).looping);
}

static void test_what_we_sent_away_is_no_turn(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 4; i++) {
        come(&s, LOOP_EDL);
        s.now += 3 * S;
        loop_went(&s.loop, true, s.now);
        s.now += S;
    }
    assert_false(look(&s).looping);
    /* And not the edge of a mode switch that was asked for. */
    come(&s, LOOP_NORMAL);
    s.now += S;
    loop_went(&s.loop, true, s.now);
    come(&s, LOOP_EDL);
    assert_false(look(&s).looping);
}

static void test_our_reset_breaks_the_rhythm_and_not_the_loop(void **state _unused_)
{
    struct scene s = new_scene();
    turn(&s, 9 * S, 5 * S);
    turn(&s, 9 * S, 5 * S);
    come(&s, LOOP_EDL);
    s.now += 2 * S;
    loop_went(&s.loop, true, s.now);
    assert_true(look(&s).looping);
    assert_int_equal(look(&s).next, 0); /* nobody knows */
    s.now += S;
    turn(&s, 9 * S, 5 * S);
    assert_int_equal(look(&s).count, 3);
    assert_int_equal(look(&s).period, 14 * S);
    assert_int_equal(look(&s).next, s.now + 14 * S);
}

static void test_what_was_there_before_we_looked_is_not_measured(void **state _unused_)
{
    struct scene s = new_scene();
    loop_came(&s.loop, LOOP_EDL, true, s.now);
    go(&s, 1 * S);
    s.now += 5 * S;
    turn(&s, 9 * S, 5 * S);
    assert_true(look(&s).looping);
    assert_int_equal(look(&s).window, 9 * S);
    assert_int_equal(look(&s).period, 0);
    turn(&s, 9 * S, 5 * S);
    assert_int_equal(look(&s).period, 14 * S);
}

static void test_what_was_flashed_anew_begins_anew(void **state _unused_)
{
    struct scene s = new_scene();
    turn(&s, 9 * S, 5 * S);
    turn(&s, 9 * S, 5 * S);
    come(&s, LOOP_NORMAL);
    assert_true(look(&s).looping);
    loop_forget(&s.loop);
    assert_false(look(&s).looping);
    go(&s, 100 * S);
    turn(&s, 9 * S, 5 * S);
    assert_false(look(&s).looping);
    turn(&s, 9 * S, 5 * S);
    assert_int_equal(look(&s).count, 2);
}

static void test_other_things_are_no_turns(void **state _unused_)
{
    struct scene s = new_scene();
    for (int i = 0; i < 4; i++) {
        come(&s, i % 2 ? LOOP_OTHER : LOOP_NORMAL);
        go(&s, 3 * S);
    }
    assert_false(look(&s).looping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_short_ones_are_a_loop),
        cmocka_unit_test(test_one_that_stays_is_none),
        cmocka_unit_test(test_the_next_window_is_always_ahead),
        cmocka_unit_test(test_one_odd_turn_moves_nothing),
        cmocka_unit_test(test_it_follows_a_change),
        cmocka_unit_test(test_a_few_minutes_of_nothing_end_it),
        cmocka_unit_test(test_staying_ends_it),
        cmocka_unit_test(test_falling_back_is_the_other_edge),
        cmocka_unit_test(test_short_ones_between_boots_count_once),
        cmocka_unit_test(test_normal_mode_for_long_is_no_edge),
        cmocka_unit_test(test_what_we_sent_away_is_no_turn),
        cmocka_unit_test(test_our_reset_breaks_the_rhythm_and_not_the_loop),
        cmocka_unit_test(test_what_was_there_before_we_looked_is_not_measured),
        cmocka_unit_test(test_what_was_flashed_anew_begins_anew),
        cmocka_unit_test(test_other_things_are_no_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
