/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "service/job.h"
#include "service/modem.h"
#include "service/status.h"

/* Only looked at, never called. */
static struct process *const running = (struct process *)&running;

static char name[] = "RM502Q-GL", place[] = "1-2", flash[] = "flash", import[] = "import",
            program[] = "program", preparing[] = "preparing", copy[] = "copy";

static struct modem modem = {.model = name, .kernel_name = place};

static void assert_status(const struct manager *m, const char *expected)
{
    char out[STATUS_MAX];
    status_print(m, out);
    assert_string_equal(out, expected);
}

static void test_idle(void **state _unused_)
{
    struct manager m = {0};
    assert_status(&m, "Idle");
    m.restart_wanted = true;
    assert_status(&m, "Idle; starts anew when idle");
    m.stopping = true;
    assert_status(&m, "Stopping");
}

static void test_jobs_and_holders(void **state _unused_)
{
    struct manager m = {0};
    struct modem held = {.model = name, .kernel_name = place, .holder = running};
    struct job finished = {.id = 5, .kind = flash, .job_state = JOB_FINISHED, .process = running};
    struct job queued = {.next = &finished, .id = 6, .kind = flash, .job_state = JOB_QUEUED, .modem = &modem};
    struct job importing = {.next = &queued,
                            .id = 18,
                            .kind = import,
                            .job_state = JOB_RUNNING,
                            .phase = copy,
                            .process = running,
                            .progress = {.fraction = 0.079}};
    struct job flashing = {.next = &importing,
                           .id = 17,
                           .kind = flash,
                           .job_state = JOB_RUNNING,
                           .modem = &modem,
                           .phase = program,
                           .process = running,
                           .progress = {.fraction = 0.43}};
    m.jobs = &flashing;
    assert_status(&m, "flash 17 on RM502Q-GL at 1-2: program 43 %; import 18: copy 7 %");
    m.modems = &held;
    m.stopping = true;
    assert_status(&m, "Stopping; flash 17 on RM502Q-GL at 1-2: program 43 %; import 18: copy 7 %; "
                      "holding RM502Q-GL at 1-2");
}

/* A job that has no phase yet, nor a number. */
static void test_pre_flight(void **state _unused_)
{
    struct job j = {.kind = flash, .job_state = JOB_PREPARING, .state = preparing, .process = running};
    struct manager m = {.jobs = &j};
    assert_status(&m, "flash (in its pre-flight): preparing 0 %");
}

static void test_what_does_not_fit_is_counted(void **state _unused_)
{
    enum { JOBS = 64 };
    struct job jobs[JOBS];
    struct manager m = {.jobs = jobs, .restart_wanted = true};
    for (unsigned i = 0; i < JOBS; i++)
        jobs[i] = (struct job){.next = i + 1 < JOBS ? &jobs[i + 1] : NULL,
                               .id = 1000 + i,
                               .kind = flash,
                               .job_state = JOB_RUNNING,
                               .modem = &modem,
                               .phase = program,
                               .process = running};
    char out[STATUS_MAX + 1];
    out[STATUS_MAX] = '!';
    status_print(&m, out);
    assert_int_equal(out[STATUS_MAX], '!');
    assert_true(strlen(out) < STATUS_MAX);
    unsigned shown = 0, more = 0;
    for (const char *p = out; (p = strstr(p, "flash 10")); p++)
        shown++;
    assert_true(shown > 4);
    assert_int_equal(sscanf(strstr(out, " more") - 2, "%u", &more), 1);
    assert_int_equal(shown + more, JOBS);
    assert_non_null(strstr(out, "; starts anew when idle"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_jobs_and_holders),
        cmocka_unit_test(test_pre_flight),
        cmocka_unit_test(test_what_does_not_fit_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
