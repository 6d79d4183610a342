/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>

#include "service/opener.h"

enum { LIMIT_USEC = 10 * 1000000 };

static int got;
static bool called;

static void on_opened(void *userdata _unused_, int fd)
{
    called = true;
    got = fd;
}

static int setup(void **state)
{
    called = false;
    return sd_event_new((sd_event **)state) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    sd_event_unref(*state);
    return 0;
}

/* What the handler got. */
static int open_now(sd_event *event, const struct appearance *a)
{
    struct opener *o = NULL;
    called = false;
    assert_int_equal(opener_start(event, a, on_opened, NULL, &o), 0);
    while (!called)
        assert_true(sd_event_run(event, LIMIT_USEC) > 0);
    opener_free(o);
    return got;
}

static void test_a_node(void **state)
{
    char node[] = "/dev/zero", missing[] = "/dev/bus/usb/999/999", directory[] = "/dev";
    struct appearance a = {.virtual_fd = -1, .devnode = node};
    int fd = open_now(*state, &a);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    close(fd);
    a.devnode = missing;
    assert_int_equal(open_now(*state, &a), -ENOENT);
    a.devnode = directory;
    assert_int_equal(open_now(*state, &a), -EISDIR);
}

static void test_a_virtual_one(void **state)
{
    struct stat a_st, b_st;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
    struct appearance a = {.virtual_fd = sv[0]};
    int fd = open_now(*state, &a);
    assert_true(fd >= 0 && fd != sv[0]);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fstat(fd, &a_st), 0);
    assert_int_equal(fstat(sv[0], &b_st), 0);
    assert_int_equal(a_st.st_ino, b_st.st_ino);
    close(fd);
    close(sv[0]);
    close(sv[1]);
}

static void test_neither(void **state)
{
    struct opener *o = NULL;
    struct appearance a = {.virtual_fd = -1};
    assert_int_equal(opener_start(*state, &a, on_opened, NULL, &o), -ENODEV);
    assert_null(o);
}

/* Somebody who holds a lease on a file lets others wait in open(), as the lock of a USB device does. */
static void test_a_node_that_hangs(void **state)
{
    char name[] = "/tmp/test-opener-XXXXXX";
    int leased = mkstemp(name);
    assert_true(leased >= 0);
    struct appearance a = {.virtual_fd = -1, .devnode = name};
    struct opener *o = NULL;
    /* Opening it waits until the lease is given back. */
    assert_int_equal(fcntl(leased, F_SETSIG, SIGWINCH), 0); /* ignored by default */
    assert_int_equal(fcntl(leased, F_SETLEASE, F_WRLCK), 0);
    assert_int_equal(opener_start(*state, &a, on_opened, NULL, &o), 0);
    assert_int_equal(sd_event_run(*state, 100000), 0);
    assert_false(called);

    /* The loop has gone on; nobody wants it any more: not heard of again, and closed. */
    opener_free(o);
    assert_int_equal(fcntl(leased, F_SETLEASE, F_UNLCK), 0);
    const struct timespec step = {.tv_nsec = 10000000};
    int r = -1;
    for (int i = 0; i < 500 && r < 0; i++, nanosleep(&step, NULL))
        r = fcntl(leased, F_SETLEASE, F_WRLCK); /* granted while nobody else has it open */
    assert_int_equal(r, 0);
    assert_int_equal(sd_event_run(*state, 0), 0);
    assert_false(called);
    close(leased);
    unlink(name);
}

static void test_reasons(void **state _unused_)
{
    static const struct {
        int error;
        enum error_kind kind;
        enum error_hint hint;
        const char *says[3];
    } cases[] = {
        {-EACCES, ERROR_FAILED, HINT_REPLUG, {"EACCES", "60-qdld.rules"}},
        {-EBUSY, ERROR_MODEM_BUSY, HINT_RETRY, {"EBUSY", "another program"}},
        {-EMFILE, ERROR_LIMIT_EXCEEDED, HINT_RETRY, {"EMFILE", "LimitNOFILE="}},
        {-EPROTO, ERROR_FAILED, HINT_REPLUG, {"EPROTO", "out and in"}},
        {-99999, ERROR_FAILED, HINT_REPLUG, {"?"}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error e = {0};
        assert_true(opener_explain("/dev/bus/usb/001/002", cases[i].error, &e) < 0);
        assert_int_equal(e.kind, cases[i].kind);
        assert_int_equal(e.hint, cases[i].hint);
        assert_non_null(strstr(e.message, "/dev/bus/usb/001/002"));
        for (size_t k = 0; cases[i].says[k]; k++)
            assert_non_null(strstr(e.message, cases[i].says[k]));
        assert_false(opener_is_gone(cases[i].error));
    }
    assert_true(opener_is_gone(-ENOENT) && opener_is_gone(-ENODEV));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_node, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_virtual_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_neither, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_node_that_hangs, setup, teardown),
        cmocka_unit_test(test_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
