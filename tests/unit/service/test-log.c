/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/log.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

/* The journal's side: a datagram socket. */
static char path[64];
static int journal = -1;

static int begin(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(path, sizeof(path), "/tmp/test-log-%d", getpid());
    unlink(path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(journal, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(log_open(path), 0);
    assert_int_equal(log_set_level("info"), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    log_close();
    close(journal);
    unlink(path);
    return 0;
}

/* The next entry; "" if there is none. */
static const char *entry(void)
{
    static char text[2 * LOG_TEXT_MAX];
    ssize_t n = recv(journal, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void plain_line(void **state)
{
    (void)state;
    log_message(LOG_WARNING, "%s is %d", "it", 7);
    assert_string_equal(entry(), "PRIORITY=4\nSYSLOG_IDENTIFIER=qdld\nMESSAGE=it is 7\n");
}

static void event_has_id_and_fields(void **state)
{
    (void)state;
    const struct log_field fields[] = {
        {LOG_FIELD_JOB, "17"}, {LOG_FIELD_ERROR, ""}, {LOG_FIELD_SERIAL, NULL}, {LOG_FIELD_UID, "1000"}, {0}};
    log_event(LOG_JOB_FAILED, LOG_ERR, fields, "Job 17 failed");
    assert_string_equal(entry(), "PRIORITY=3\nSYSLOG_IDENTIFIER=qdld\nMESSAGE=Job 17 failed\n"
                                 "MESSAGE_ID=cfc1e80c4ce245298ce14661fa4d1381\nQDLD_JOB=17\nQDLD_UID=1000\n");
}

/* What a modem said must not become a field of its own. */
static void nobody_forges_a_field(void **state)
{
    (void)state;
    const struct log_field fields[] = {{LOG_FIELD_PORT, "1-2\n_UID=0"}, {0}};
    log_event(LOG_MODEM_HELD, LOG_INFO, fields, "a\nMESSAGE_ID=%s", "forged");
    const char *e = entry();
    assert_non_null(strstr(e, "MESSAGE=a\\x0aMESSAGE_ID=forged\n"));
    assert_non_null(strstr(e, "QDLD_PORT=1-2\\x0a_UID=0\n"));
    assert_null(strstr(e, "\n_UID"));
}

static void imei_is_masked(void **state)
{
    (void)state;
    log_message(LOG_INFO, "the modem with 861234567890123");
    assert_null(strstr(entry(), "861234567890123"));
}

static void long_text_is_cut(void **state)
{
    (void)state;
    static char big[3 * LOG_TEXT_MAX];
    memset(big, 'x', sizeof(big) - 1);
    log_message(LOG_INFO, "%s", big);
    const char *e = entry();
    assert_in_range(strlen(e), LOG_TEXT_MAX / 2, LOG_TEXT_MAX + 100);
    assert_int_equal(e[strlen(e) - 1], '\n');
}

static void level_hides(void **state)
{
    (void)state;
    log_message(LOG_DEBUG, "hidden");
    assert_string_equal(entry(), "");
    assert_int_equal(log_set_level("debug"), 0);
    log_message(LOG_DEBUG, "shown");
    assert_non_null(strstr(entry(), "MESSAGE=shown\n"));
    assert_int_equal(log_set_level("chatty"), -EINVAL);
    assert_int_equal(log_set_target("null"), 0);
    log_message(LOG_ERR, "nowhere");
    assert_string_equal(entry(), "");
    assert_int_equal(log_set_target("printer"), -EINVAL);
    assert_int_equal(log_set_target("journal"), 0);
    log_message(LOG_ERR, "again");
    assert_non_null(strstr(entry(), "MESSAGE=again\n"));
}

/* A journal that takes nothing: the call returns, and how much is missing is said later. */
static void stuck_journal_does_not_block(void **state)
{
    (void)state;
    enum { MANY = 5000 };
    for (int i = 0; i < MANY; i++)
        log_message(LOG_INFO, "line %d", i);
    int taken = 0;
    while (*entry())
        taken++;
    assert_in_range(taken, 1, MANY - 1);
    log_message(LOG_INFO, "afterwards");
    char expected[96];
    snprintf(expected, sizeof(expected), "MESSAGE=%d lines before this one were not taken by the journal.\n",
             MANY - taken);
    assert_non_null(strstr(entry(), expected));
    assert_non_null(strstr(entry(), "MESSAGE=afterwards\n"));
}

static void ids_are_ids(void **state)
{
    (void)state;
    for (int i = 0; i < LOG_EVENT_COUNT; i++) {
        const char *id = log_event_id((enum log_event)i);
        assert_non_null(id);
        assert_int_equal(strlen(id), 32);
        for (const char *c = id; *c; c++)
            assert_true(isxdigit((unsigned char)*c));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(id, log_event_id((enum log_event)k));
    }
    assert_null(log_event_id(LOG_EVENT_COUNT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_line, begin, end),
        cmocka_unit_test_setup_teardown(event_has_id_and_fields, begin, end),
        cmocka_unit_test_setup_teardown(nobody_forges_a_field, begin, end),
        cmocka_unit_test_setup_teardown(imei_is_masked, begin, end),
        cmocka_unit_test_setup_teardown(long_text_is_cut, begin, end),
        cmocka_unit_test_setup_teardown(level_hides, begin, end),
        cmocka_unit_test_setup_teardown(stuck_journal_does_not_block, begin, end),
        cmocka_unit_test(ids_are_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
