/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "link/keys.h"
#include "link/link.h"

static struct link_message in, out;

static int setup(void **state)
{
    static int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    int *pair = *state;
    link_message_done(&in);
    link_message_done(&out);
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static void test_round_trip(void **state)
{
    int *pair = *state;
    assert_int_equal(link_add(&out, KEY_PHASE, "program"), 0);
    assert_int_equal(link_add(&out, KEY_LOG, "two\nlines \\ \xff"), 0);
    assert_int_equal(link_addf(&out, KEY_BYTES_DONE, "%d", 4096), 0);
    assert_int_equal(link_addf(&out, "REPORT.written", "%d", 3), 0);
    assert_int_equal(link_add_fd(&out, open("/dev/null", O_RDONLY)), 0);
    assert_int_equal(link_send(pair[0], &out), 0);
    assert_int_equal(out.size, 0);

    assert_int_equal(link_receive(pair[1], 0, link_keys_from_worker, &in), 1);
    assert_string_equal(link_get(&in, KEY_PHASE), "program");
    assert_string_equal(link_get(&in, KEY_LOG), "two\nlines \\ \xff");
    assert_string_equal(link_get(&in, KEY_BYTES_DONE), "4096");
    assert_string_equal(link_get(&in, "REPORT.written"), "3");
    assert_null(link_get(&in, KEY_RESULT));
    int fd = link_steal_fd(&in);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_int_equal(link_steal_fd(&in), -1);
}

/* A worker that ends without reading what it was told last: its own last words count nevertheless. */
static void test_last_words(void **state)
{
    int *pair = *state;
    assert_int_equal(link_add(&out, KEY_CANCEL, "1"), 0);
    assert_int_equal(link_send(pair[1], &out), 0);
    assert_int_equal(link_add(&out, KEY_RESULT, "done"), 0);
    assert_int_equal(link_send(pair[0], &out), 0);
    close(pair[0]);
    pair[0] = open("/dev/null", O_RDONLY);
    assert_int_equal(link_receive(pair[1], MSG_DONTWAIT, link_keys_from_worker, &in), 1);
    assert_string_equal(link_get(&in, KEY_RESULT), "done");
    assert_int_equal(link_receive(pair[1], MSG_DONTWAIT, link_keys_from_worker, &in), 0);
}

static void refuse(int *pair, const void *data, size_t size)
{
    assert_int_equal(send(pair[0], data, size, 0), size);
    assert_int_equal(link_receive(pair[1], 0, link_keys_from_worker, &in), -EBADMSG);
    assert_int_equal(in.n_fields, 0);
}

static void test_refused(void **state)
{
    int *pair = *state;
    static const char *const bad[] = {
        "PHASE",          "PHASE=x",        "=x\n",       "FORGED=1\n",  "PHASE=\x01\n",  "PHASE=\xff\n",
        "PHASE=a\\n\n",   "PHASE=a\\x00\n", "\n",         "PHASE=x\n\n", "PH ASE=1\n",    "REPORT.=1\n",
        "REPORT.a b=1\n", "JOB=flash\n",    "PHASE=\t\n", "phase=x\n",   "PHASE=x\nZ=1\n"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        refuse(pair, bad[i], strlen(bad[i]));
    refuse(pair, "PHASE=a\0b\n", 10);

    static char big[LINK_MESSAGE_MAX + 100];
    memset(big, 'a', sizeof(big));
    memcpy(big, "LOG=", 4);
    big[sizeof(big) - 1] = '\n';
    refuse(pair, big, sizeof(big));

    char many[(LINK_FIELDS_MAX + 1) * 6 + 1] = "";
    for (int i = 0; i <= LINK_FIELDS_MAX; i++)
        memcpy(many + i * 6, "LOG=x\n", 6);
    refuse(pair, many, sizeof(many) - 1);
}

static void test_too_many_descriptors(void **state)
{
    int *pair = *state;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * (LINK_FDS_MAX + 1))];
    } control = {0};
    struct iovec iov = {.iov_base = (char[]){"PHASE=x\n"}, .iov_len = 8};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * (LINK_FDS_MAX + 1));
    for (int i = 0; i <= LINK_FDS_MAX; i++)
        memcpy(CMSG_DATA(c) + i * (int)sizeof(int), &pair[0], sizeof(int));
    int before = dup(0);
    close(before);
    assert_int_equal(sendmsg(pair[0], &m, 0), 8);
    assert_int_equal(link_receive(pair[1], 0, link_keys_from_worker, &in), -EBADMSG);
    int after = dup(0);
    close(after);
    assert_int_equal(before, after); /* none of them leaked */
}

static void test_sending_limits(void **state)
{
    (void)state;
    static char text[LINK_MESSAGE_MAX];
    memset(text, '\n', sizeof(text) - 1);
    assert_int_equal(link_add(&out, KEY_LOG, text), -EMSGSIZE);
    assert_int_equal(out.size, 0);
    text[100] = '\0';
    assert_int_equal(link_add(&out, KEY_LOG, text), 0);
}

static void test_end(void **state)
{
    int *pair = *state;
    assert_int_equal(link_receive(pair[1], MSG_DONTWAIT, link_keys_from_worker, &in), -EAGAIN);
    close(pair[0]);
    pair[0] = -1;
    assert_int_equal(link_receive(pair[1], 0, link_keys_from_worker, &in), 0);
    link_add(&out, KEY_RELEASE, "1");
    assert_int_equal(link_send(pair[1], &out), -EPIPE);
}

struct seen {
    int fields, records;
    char last[64];
};

static int on_field(void *userdata, const char *key, const char *value)
{
    struct seen *s = userdata;
    s->fields++;
    snprintf(s->last, sizeof(s->last), "%s=%s", key, value);
    return 0;
}

static int on_record(void *userdata)
{
    ((struct seen *)userdata)->records++;
    return 0;
}

static void test_text(void **state)
{
    (void)state;
    struct seen s = {0};
    size_t line = 0;
    static const char good[] = "A=1\nB=x\\x0ay\n\n\nA=2";
    assert_int_equal(link_parse_text(good, strlen(good), on_field, on_record, &s, &line), 0);
    assert_int_equal(s.fields, 3);
    assert_int_equal(s.records, 2);
    assert_string_equal(s.last, "A=2");
    static const char bad[] = "A=1\nnonsense\n";
    assert_int_equal(link_parse_text(bad, strlen(bad), on_field, on_record, &s, &line), -EBADMSG);
    assert_int_equal(line, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sending_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end, setup, teardown),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
