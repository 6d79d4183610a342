/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "build-id.h"
#include "service/process.h"

/* This program is its own worker: it says its build and then nothing more. */
static int be_worker(void)
{
    static const char hello[] = KEY_BUILD "=" QDLD_BUILD_ID "\n" KEY_PHASE "=here\n";
    if (write(LINK_WORKER_FD, hello, sizeof(hello) - 1) < 0)
        return EXIT_FAILURE;
    for (;;)
        pause();
}

static bool heard, ended;

static void on_message(void *userdata _unused_, struct link_message *m)
{
    heard = link_get(m, KEY_PHASE) != NULL;
}

static void on_gone(void *userdata _unused_, const struct process_end *end _unused_)
{
    ended = true;
}

static int setup(void **state)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    heard = ended = false;
    return sd_event_new((sd_event **)state) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    sd_event_unref(*state);
    return 0;
}

static struct process *start(sd_event *event)
{
    const struct process_handler handler = {.message = on_message, .gone = on_gone};
    struct process *p = NULL;
    _cleanup_close_ int binary = process_open_binary("/proc/self/exe");
    assert_true(binary >= 0);
    assert_return_code(process_start(event, binary, &handler, &p), 0);
    while (!heard)
        assert_true(sd_event_run(event, 60 * 1000000) > 0);
    return p;
}

/* The loop never waits for a process to die: what is freed is reaped later. */
static void test_free_does_not_wait(void **state)
{
    sd_event *event = *state;
    process_free(start(event));
    siginfo_t si;
    assert_return_code(waitid(P_ALL, 0, &si, WEXITED | WNOWAIT), errno); /* still there for the loop */
    assert_int_equal(si.si_status, SIGKILL);
    while (waitid(P_ALL, 0, &si, WEXITED | WNOWAIT | WNOHANG) == 0)
        assert_true(sd_event_run(event, 60 * 1000000) > 0);
    assert_int_equal(errno, ECHILD);
    assert_false(ended); /* nobody listens any more */
}

static void test_kill_is_told(void **state)
{
    sd_event *event = *state;
    struct process *p = start(event);
    process_kill(p, "for a test");
    while (!ended)
        assert_true(sd_event_run(event, 60 * 1000000) > 0);
    process_free(p);
}

int main(int argc _unused_, char **argv)
{
    if (strcmp(argv[0], "qdld-worker") == 0)
        return be_worker();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_free_does_not_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
