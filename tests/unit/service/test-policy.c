/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is it the unit that its policy was set for? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "service/modem.h"

static void test_certain(void **state)
{
    (void)state;
    static char rescue[] = "rescue", serial[] = "49cbd7ef", other[] = "0badcafe", none[] = "";
    enum { ABSENT, NORMAL, EDL };
    static const struct {
        const char *name;
        int there;
        char *seen;
        bool watched, certain;
    } cases[] = {
        {"tells its serial", EDL, serial, false, true},
        {"tells another one", EDL, other, true, false},
        {"tells none yet, behind a gap in the middle of a job", EDL, none, true, false},
        {"tells none, for it runs", NORMAL, none, true, true},
        {"runs, and nobody has watched it", NORMAL, none, false, false},
        {"was there a moment ago", ABSENT, none, true, true},
        {"was there", ABSENT, none, false, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct appearance there = {.vid = cases[i].there == EDL ? 0x05c6 : 0x2c7c,
                                   .pid = cases[i].there == EDL ? 0x9008 : 0x0800};
        struct modem m = {.appearance = cases[i].there == ABSENT ? NULL : &there,
                          .chip_serial = serial,
                          .seen_serial = cases[i].seen,
                          .unit_watched = cases[i].watched,
                          .unit_policy.mode = rescue};
        if (policy_is_certain(&m) != cases[i].certain)
            fail_msg("%s", cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_certain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
