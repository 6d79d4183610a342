/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "service/mouth.h"

static char heard[2 * MOUTH_BYTES_MAX];

static void on_line(void *userdata _unused_, const char *line)
{
    strcat(heard, line);
    strcat(heard, "|");
}

struct fixture {
    sd_event *event;
    struct mouth *mouth;
    int end;
};

static int setup(void **state)
{
    static struct fixture f;
    heard[0] = '\0';
    *state = &f;
    return sd_event_new(&f.event) < 0 ? -1 : mouth_new(f.event, on_line, NULL, &f.mouth, &f.end);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->mouth = mouth_free(f->mouth);
    f->end = close_fd(f->end);
    sd_event_unref(f->event);
    return 0;
}

static void say(struct fixture *f, const char *text)
{
    assert_int_equal(write(f->end, text, strlen(text)), strlen(text));
}

static void run(struct fixture *f)
{
    while (sd_event_run(f->event, 0) > 0)
        ;
}

static void test_lines(void **state)
{
    struct fixture *f = *state;
    say(f, "one\n\ntwo and ");
    run(f);
    assert_string_equal(heard, "one|");
    say(f, "more\nhalf");
    run(f);
    assert_string_equal(heard, "one|two and more|");
    mouth_finish(f->mouth);
    assert_string_equal(heard, "one|two and more|half|");
}

static void test_what_nobody_read_yet(void **state)
{
    struct fixture *f = *state;
    say(f, "last words\n");
    f->end = close_fd(f->end);
    mouth_finish(f->mouth);
    assert_string_equal(heard, "last words|");
}

/* Somebody else has the other end, and it says nothing: nobody waits for it. */
static void test_finish_does_not_wait(void **state)
{
    struct fixture *f = *state;
    mouth_finish(f->mouth);
    assert_string_equal(heard, "");
}

static void test_escaped(void **state)
{
    struct fixture *f = *state;
    say(f, "\x1b[2J \xff 490154203237518\r\n");
    run(f);
    assert_string_equal(heard, "\\x1b[2J \\xff 49***********18\\x0d|");
}

static void test_long_line_in_pieces(void **state)
{
    struct fixture *f = *state;
    char text[MOUTH_LINE_MAX + 11];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    say(f, text);
    mouth_finish(f->mouth);
    assert_int_equal(strlen(heard), MOUTH_LINE_MAX + 10 + 2);
    assert_int_equal(heard[MOUTH_LINE_MAX], '|');
}

static void test_bounded(void **state)
{
    struct fixture *f = *state;
    size_t written = 0;
    ssize_t n;
    assert_return_code(fcntl(f->end, F_SETFL, O_NONBLOCK), errno);
    while (written < 4 * MOUTH_BYTES_MAX && (n = write(f->end, "yyyyyyy\n", 8)) > 0) {
        written += (size_t)n;
        run(f);
    }
    assert_int_equal(written, MOUTH_BYTES_MAX);
    assert_int_equal(errno, EPIPE);
    assert_non_null(strstr(heard, "|(it says more, which is not kept)|"));
    assert_true(text_ends_with(heard, "not kept)|"));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_nobody_read_yet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_finish_does_not_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_escaped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_line_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
