/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A worker with a service of our own at the other end of its link. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "transport/transport.h"
#include "worker/worker.h"

struct fixture {
    struct worker w;
    int service;
    struct link_message told; /* the last message of the worker */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int pair[2];
    assert_non_null(f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    worker_init(&f->w, pair[1]);
    f->service = pair[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    worker_done(&f->w);
    link_message_done(&f->told);
    close(f->w.link);
    close_fd(f->service);
    free(f);
    return 0;
}

/* Sends raw lines as the service, with a descriptor if fd >= 0 (it is closed here). */
static void say_fd(struct fixture *f, const char *lines, int fd)
{
    struct link_message m = {0};
    memcpy(m.buffer, lines, strlen(lines));
    m.size = strlen(lines);
    if (fd >= 0)
        assert_int_equal(link_add_fd(&m, fd), 0);
    assert_int_equal(link_send(f->service, &m), 0);
}

static void say(struct fixture *f, const char *lines)
{
    say_fd(f, lines, -1);
}

static bool hear(struct fixture *f)
{
    int r = link_receive(f->service, MSG_DONTWAIT, link_keys_from_worker, &f->told);
    assert_true(r == 1 || r == -EAGAIN);
    return r == 1;
}

static void assert_told(struct fixture *f, const char *key, const char *value)
{
    const char *found = link_get(&f->told, key);
    assert_non_null(found);
    assert_string_equal(found, value);
}

/* The exit status of a child that takes `lines` in; -1 if a signal ended it. */
static int status_after(const char *lines, bool as_job, bool with_fd)
{
    struct fixture *f;
    setup((void **)&f);
    say_fd(f, lines, with_fd ? memfd_create("x", MFD_CLOEXEC) : -1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        if (as_job)
            worker_receive_job(&f->w);
        else
            worker_wake(&f->w);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    teardown((void **)&f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- the job ---- */

static void test_job(void **state)
{
    struct fixture *f = *state;
    struct link_message m = {0};
    int package = io_memfd_sealed("package", "P", 1), journal = io_memfd_sealed("journal", "J", 1);
    char c;

    link_add(&m, KEY_JOB, "flash");
    link_add(&m, "OPTION.allow", "WrongUnit,NoBackup");
    link_add(&m, "OPTION.boot-usec", "180000000");
    link_add(&m, "OPTION.odd", "a\nb\\\x01");
    link_add(&m, "OPTION.number", "12x");
    link_add(&m, KEY_FD, "package");
    link_add(&m, KEY_FD, "journal");
    link_add_fd(&m, package);
    link_add_fd(&m, journal);
    assert_int_equal(link_send(f->service, &m), 0);

    assert_int_equal(worker_receive_job(&f->w), 1);
    assert_string_equal(f->w.kind, "flash");
    assert_string_equal(worker_option(&f->w, "allow", ""), "WrongUnit,NoBackup");
    assert_string_equal(worker_option(&f->w, "odd", ""), "a\nb\\\x01");
    assert_null(worker_option(&f->w, "absent", NULL));
    assert_string_equal(worker_option(&f->w, "absent", "x"), "x");
    assert_int_equal(worker_option_u64(&f->w, "boot-usec", 1), 180000000);
    assert_int_equal(worker_option_u64(&f->w, "absent", 7), 7);
    assert_int_equal(worker_option_u64(&f->w, "number", 7), 7);
    /* In the order of their lines, and nothing that was not given. */
    assert_int_equal(pread(f->w.fd_package, &c, 1, 0), 1);
    assert_int_equal(c, 'P');
    assert_int_equal(pread(f->w.fd_journal, &c, 1, 0), 1);
    assert_int_equal(c, 'J');
    assert_int_equal(f->w.fd_store, -1);
    assert_int_equal(f->w.fd_archive, -1);
}

static void test_no_job(void **state)
{
    struct fixture *f = *state;
    say(f, "STOP=1\n");
    assert_int_equal(worker_receive_job(&f->w), 0);
}

static void test_no_job_but_the_end(void **state)
{
    struct fixture *f = *state;
    f->service = close_fd(f->service);
    assert_int_equal(worker_receive_job(&f->w), 0);
}

static void test_bad_messages(void **state)
{
    (void)state;
    /* Good ones first: the child's exit status means something. */
    assert_int_equal(status_after("JOB=identify\nOPTION.a=1\n", true, false), 0);
    assert_int_equal(status_after("DEVICE=1\nVID=05c6\nPID=9008\nPRODUCT=QUSB\n", false, true), 0);
    assert_int_equal(status_after("DEVICE=1\nVID=05c6\nPID=9008\nSINCE=1790000000\n", false, true), 0);
    assert_int_equal(status_after("DEVICE_GONE=1\n", false, false), 0);

    static const struct {
        const char *lines;
        bool as_job, with_fd;
    } bad[] = {
        {"garbage\n", true, false},
        {"JOB=identify", true, false}, /* no newline */
        {"JOB=\n", true, false},
        {"JOB=averyveryverylongkindofjob\n", true, false},
        {"JOB=identify\nJOB=reset\n", true, false},
        {"JOB=identify\nOPTION.a=1\nOPTION.a=2\n", true, false},
        {"JOB=identify\nNONSENSE=1\n", true, false},
        {"JOB=identify\nREADY=1\n", true, false},       /* a key of the other side */
        {"JOB=identify\nOPTION.a=\x01\n", true, false}, /* a raw control character */
        {"JOB=identify\nOPTION.a=\xff\n", true, false}, /* not UTF-8 */
        {"JOB=identify\nOPTION.a=\\q\n", true, false},  /* no such escape */
        {"JOB=flash\nFD=package\n", true, false},       /* and no descriptor */
        {"JOB=flash\nFD=elsewhere\n", true, true},
        {"JOB=flash\n", true, true}, /* a descriptor without a name */
        {"OPTION.a=1\n", true, false},
        {"JOB=flash\n", false, false}, /* a second one */
        {"OPTION.a=1\n", false, false},
        {"FD=package\n", false, true},
        {"DEVICE=1\nVID=05c6\nPID=9008\n", false, false},
        {"DEVICE=2\n", false, true},
        {"DEVICE=1\nVID=5c6\n", false, true},
        {"DEVICE=1\nVID=05cg\n", false, true},
        {"DEVICE=1\nSINCE=soon\n", false, true},
        {"DEVICE=1\nSINCE=-1\n", false, true},
        {"CANCEL=yes\n", false, false},
        {"STOP=0\n", false, false},
        {"APPEARED=there\n", false, false},
        {"CANCEL=1\n", false, true},
        {"BACKUP_STORED=1\nID=00112233445566778899aabbccddeeff\n", false, false}, /* nobody asked */
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int status = status_after(bad[i].lines, bad[i].as_job, bad[i].with_fd);
        if (status != EXIT_FAILURE)
            fail_msg("taken: %s", bad[i].lines);
    }
}

/* Before the first erase one word of the service decides: only a whole one counts, and only one. */
static void test_backup_answers(void **state)
{
    struct fixture *f = *state;
    f->w.backup_asked = true;
    say(f, "BACKUP_STORED=1\nID=00112233445566778899aabbccddeeff\n");
    assert_int_equal(worker_wake(&f->w), 0);
    assert_string_equal(f->w.backup_id, "00112233445566778899aabbccddeeff");
    assert_string_equal(f->w.backup_refused, "");

    static const char *const bad[] = {
        "BACKUP_STORED=1\n",
        "BACKUP_STORED=1\nID=\n",
        "BACKUP_STORED=1\nID=0011\n",
        "BACKUP_STORED=1\nID=00112233445566778899aabbccddeeff00\n",
        "BACKUP_STORED=1\nID=00112233445566778899AABBCCDDEEFF\n",
        "BACKUP_STORED=yes\nID=00112233445566778899aabbccddeeff\n",
        "BACKUP_REFUSED=1\n",
        "BACKUP_STORED=1\nID=00112233445566778899aabbccddeeff\nBACKUP_REFUSED=1\nMESSAGE=no\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct fixture *g;
        setup((void **)&g);
        g->w.backup_asked = true;
        say(g, bad[i]);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
            worker_wake(&g->w);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        teardown((void **)&g);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_FAILURE)
            fail_msg("taken: %s", bad[i]);
    }
}

static void test_message_too_long(void **state)
{
    (void)state;
    char lines[LINK_MESSAGE_MAX + 1];
    memset(lines, 'x', sizeof(lines));
    memcpy(lines, "JOB=identify\nOPTION.a=", 22);
    lines[sizeof(lines) - 2] = '\n';
    lines[sizeof(lines) - 1] = '\0';
    assert_int_equal(status_after(lines, true, false), 0); /* exactly as long as may be */

    struct fixture *f;
    setup((void **)&f);
    lines[sizeof(lines) - 2] = 'x';
    struct iovec parts[] = {{lines, sizeof(lines) - 1}, {(char[]){"\n"}, 1}};
    assert_int_equal(writev(f->service, parts, 2), LINK_MESSAGE_MAX + 1);
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        worker_receive_job(&f->w);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
    teardown((void **)&f);
}

/* ---- cancel, stop, end of file ---- */

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};

    assert_int_equal(worker_check(&f->w, &e), 0);
    worker_state(&f->w, true, false);
    assert_true(f->w.critical);
    say(f, "CANCEL=1\n");
    assert_int_equal(worker_wake(&f->w), 0);
    assert_int_equal(worker_check(&f->w, &e), 0); /* one that crossed our CANCELABLE=0 waits */
    worker_state(&f->w, false, true);
    assert_int_equal(worker_check(&f->w, &e), -ECANCELED);
    assert_int_equal(e.kind, ERROR_CANCELLED);
}

static void test_cancel_wakes(void **state)
{
    struct fixture *f = *state;
    say(f, "CANCEL=1\n");
    assert_int_equal(transport_wait(NULL, f->w.link, worker_wake, &f->w, USEC_INFINITY), -ECANCELED);
}

static void test_stop(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};

    worker_state(&f->w, true, false);
    say(f, "STOP=1\n");
    /* Not in the middle of a command, but directly behind it. */
    assert_int_equal(worker_wake(&f->w), 0);
    assert_int_equal(worker_check(&f->w, &e), -EINTR);
    assert_int_equal(e.kind, ERROR_INTERRUPTED);
    worker_state(&f->w, false, true);
    assert_int_equal(worker_wake(&f->w), -EINTR);
}

/* A closed link must not keep a wait inside a critical section busy, and must not be lost either. */
static void end_in_critical_section(struct fixture *f)
{
    struct error e = {0};
    worker_state(&f->w, true, false);
    assert_int_equal(transport_wait(NULL, f->w.link, worker_wake, &f->w, deadline_in(50 * USEC_PER_MSEC)),
                     -ETIMEDOUT);
    struct pollfd p = {.fd = f->w.link, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(worker_check(&f->w, &e), -EINTR);
    worker_state(&f->w, false, true);
    assert_int_equal(worker_check(&f->w, &e), -EINTR);
}

static void test_link_ends(void **state)
{
    struct fixture *f = *state;
    f->service = close_fd(f->service);
    end_in_critical_section(f);
    worker_log(&f->w, "to nobody"); /* neither a signal nor an error */
}

static void test_sigterm(void **state)
{
    struct fixture *f = *state;
    /* What the handler in main.c does. What was said before still counts, and we are still heard. */
    say(f, "APPEARED=normal\nVID=2c7c\nPID=0800\n");
    assert_int_equal(shutdown(f->w.link, SHUT_RD), 0);
    end_in_critical_section(f);
    assert_string_equal(f->w.appeared, "normal");
    while (hear(f))
        ;
    worker_log(&f->w, "still there");
    assert_true(hear(f));
    assert_told(f, KEY_LOG, "still there");
}

/* ---- devices ---- */

static void test_device(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    int first = memfd_create("a", MFD_CLOEXEC);

    assert_int_equal(worker_wait_device(&f->w, deadline_in(10 * USEC_PER_MSEC), &e), -ETIMEDOUT);
    assert_int_equal(e.kind, ERROR_TIMEOUT);
    say_fd(f, "DEVICE=1\nVID=05c6\nPID=9008\nPRODUCT=QUSB_BULK_SN:49CBD7EF\n", first);
    assert_int_equal(worker_wait_device(&f->w, deadline_in(60 * USEC_PER_SEC), &e), 0);
    assert_true(f->w.fd_device >= 0);
    assert_string_equal(f->w.vid, "05c6");
    assert_string_equal(f->w.product, "QUSB_BULK_SN:49CBD7EF");
    assert_int_equal(worker_wait_device(&f->w, 0, &e), 0); /* it is there still */

    say(f, "DEVICE_GONE=1\n");
    assert_int_equal(worker_wake(&f->w), -ENODEV);
    assert_int_equal(f->w.fd_device, -1);
    /* Waiting for the next one is not disturbed by the end of the last. */
    say(f, "DEVICE_GONE=1\n");
    say_fd(f, "DEVICE=1\nVID=05c6\nPID=9008\n", memfd_create("b", MFD_CLOEXEC));
    assert_int_equal(worker_wait_device(&f->w, deadline_in(60 * USEC_PER_SEC), &e), 0);
    assert_false(f->w.device_gone);
    assert_string_equal(f->w.product, "");
}

static void test_wait_is_a_safe_point(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    worker_state(&f->w, true, false);
    say(f, "CANCEL=1\n");
    assert_int_equal(worker_wait_appeared(&f->w, deadline_in(10 * USEC_PER_MSEC), &e), -ETIMEDOUT);
    say(f, "STOP=1\n");
    assert_int_equal(worker_wait_appeared(&f->w, USEC_INFINITY, &e), -EINTR);
    assert_int_equal(e.kind, ERROR_INTERRUPTED);
}

static void test_appeared(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    say(f, "APPEARED=normal\nVID=2c7c\nPID=0800\nPRODUCT=RM502Q-GL\n");
    assert_int_equal(worker_wait_appeared(&f->w, deadline_in(60 * USEC_PER_SEC), &e), 0);
    assert_string_equal(f->w.appeared, "normal");
    assert_string_equal(f->w.vid, "2c7c");
}

/* ---- telling ---- */

static void test_progress(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 0;
    unsigned heard = 0;

    /* A thousand calls within much less than a second: at most one each 200 ms, never backwards. */
    usec_t begin = now_usec();
    for (uint64_t i = 0; i < 1000; i++) {
        worker_progress(&f->w, i % 10 == 3 ? 0 : i * 1000, i, 1000);
        while (hear(f)) {
            uint64_t ppm = strtoull(link_get(&f->told, KEY_PROGRESS), NULL, 10);
            assert_true(ppm >= last && ppm <= 1000000);
            last = ppm;
            heard++;
        }
    }
    usec_t took = now_usec() - begin;
    assert_in_range(heard, 1, 1 + took / (200 * USEC_PER_MSEC));

    /* The last one of a phase comes, before the next phase does. */
    worker_phase(&f->w, "verify", "sbl");
    assert_true(hear(f));
    assert_string_equal(f->told.fields[0].key, KEY_PROGRESS);
    assert_told(f, KEY_PROGRESS, "999000");
    assert_told(f, KEY_BYTES_DONE, "999");
    assert_told(f, KEY_BYTES_TOTAL, "1000");
    assert_told(f, KEY_PHASE, "verify");
    assert_told(f, KEY_DETAIL, "sbl");
    worker_phase(&f->w, "reset", NULL);
    assert_true(hear(f));
    assert_null(link_get(&f->told, KEY_PROGRESS));
    worker_progress(&f->w, 5000000, 1, 1);
    assert_int_equal(f->w.progress.ppm, 1000000);
}

/* A job of several works, of which each tells its own from nothing to all. */
static void test_progress_of_parts(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t end, told, shown; /* end 0: the same part goes on */
    } table[] = {{400000, 0, 0},       {0, 500000, 200000}, {0, 250000, 200000},  {0, 9000000, 400000},
                 {1000000, 0, 400000}, {0, 500000, 700000}, {0, 1000000, 1000000}};
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (table[i].end)
            worker_progress_part(&f->w, table[i].end);
        worker_progress(&f->w, table[i].told, 0, 0);
        assert_int_equal(f->w.progress.ppm, table[i].shown);
    }
}

static void test_state(void **state)
{
    struct fixture *f = *state;
    worker_state(&f->w, false, true); /* what is assumed anyway */
    assert_false(hear(f));
    worker_state(&f->w, true, false);
    assert_true(hear(f));
    assert_told(f, KEY_UNSAFE, "1");
    assert_told(f, KEY_CANCELABLE, "0");
    worker_state(&f->w, true, false);
    assert_false(hear(f));
    worker_state(&f->w, false, true);
    assert_true(hear(f));
    assert_told(f, KEY_UNSAFE, "0");
    assert_told(f, KEY_CANCELABLE, "1");
}

static void test_log(void **state)
{
    struct fixture *f = *state;

    /* One line whatever is in it, and no IMEI. */
    worker_log(&f->w, "ERROR: a\nb\xff %s", "861234567890123");
    assert_true(hear(f));
    assert_told(f, KEY_LOG, "ERROR: a\\x0ab\\xff 86***********23");

    /* Longer than a datagram: cut into several, between characters, nothing lost. */
    enum { CHARACTERS = 10000 };
    char *text = malloc(2 * CHARACTERS + 1);
    for (size_t i = 0; i < CHARACTERS; i++)
        memcpy(text + 2 * i, "\xc3\xa4", 3);
    worker_log(&f->w, "%s", text);
    size_t n = 0;
    while (hear(f)) {
        for (size_t i = 0; i < f->told.n_fields; i++) {
            assert_string_equal(f->told.fields[i].key, KEY_LOG);
            size_t size = strlen(f->told.fields[i].value);
            assert_memory_equal(f->told.fields[i].value, text, size);
            assert_int_equal(size % 2, 0);
            n += size;
        }
    }
    assert_int_equal(n, 2 * CHARACTERS);
    free(text);
}

static void test_log_is_bounded(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    bool said = false;
    for (size_t i = 0; i < 10000; i++) {
        worker_log(&f->w, "%01000zu", i + 1000000000);
        while (hear(f)) {
            n += strlen(link_get(&f->told, KEY_LOG));
            said |= strstr(link_get(&f->told, KEY_LOG), "log is full") != NULL;
        }
    }
    assert_true(said);
    assert_in_range(n, 3 << 20, 4 << 20);
}

static void test_report_and_memfd(void **state)
{
    struct fixture *f = *state;
    worker_report(&f->w, "bytes", "%d", 17);
    assert_true(hear(f));
    assert_told(f, "REPORT.bytes", "17");
    worker_tell_memfd(&f->w, KEY_PLAN, "ACTION=erase\n", 13);
    assert_true(hear(f));
    assert_told(f, KEY_PLAN, "1");
    int fd = link_steal_fd(&f->told);
    assert_true(fd >= 0);
    assert_int_equal(io_memfd_check(fd, 100), 0);
    close(fd);
    /* What was handed over is not handed over again, and there is an end to it. */
    worker_tell_memfd(&f->w, KEY_PLAN, "ACTION=erase\n", 13);
    for (int i = 0; i < WORKER_ROOMS - 1; i++) {
        char text[16];
        int n = snprintf(text, sizeof(text), "I=%d\n", i);
        worker_tell_memfd(&f->w, KEY_TABLE, text, (size_t)n);
        assert_true(hear(f));
        assert_told(f, KEY_TABLE, "1");
    }
    worker_tell_memfd(&f->w, KEY_TABLE, "one more\n", 9);
    assert_true(hear(f));
    assert_null(link_get(&f->told, KEY_TABLE));
    assert_non_null(strstr(link_get(&f->told, KEY_LOG), "WARN: "));
}

/* ---- the result ---- */

static void assert_result(struct fixture *f, int r, struct job_outcome *o, const char *result,
                          const char *error)
{
    worker_result(&f->w, r, o, false);
    assert_true(hear(f));
    assert_told(f, KEY_RESULT, result);
    assert_null(link_get(&f->told, KEY_HOLDING));
    if (error)
        assert_told(f, KEY_ERROR, error);
    else
        assert_null(link_get(&f->told, KEY_ERROR));
    struct pollfd p = {.fd = f->service, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0); /* the last word */
}

static void test_result(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o = {.result = "done"};

    assert_result(f, 0, &o, "done", NULL);
    assert_result(f, -ENOMEM, &o, "failed", "Failed");
    assert_non_null(strstr(link_get(&f->told, KEY_MESSAGE), "memory"));
    o = (struct job_outcome){.result = "done"};
    assert_result(f, -ECANCELED, &o, "cancelled", "Cancelled");
    o = (struct job_outcome){.result = "done"};
    assert_result(f, -EINTR, &o, "interrupted", "Interrupted");
    o = (struct job_outcome){.result = "not-returned"};
    assert_result(f, error_set(&o.error, ERROR_TIMEOUT, "late"), &o, "not-returned", "Timeout");

    o = (struct job_outcome){.result = "done"};
    int r = error_set(&o.error, ERROR_FIREHOSE_FAILED, "program was refused");
    error_words(&o.error, "ERROR: out of good blocks");
    error_hint(&o.error, HINT_CONTACT_VENDOR);
    assert_result(f, r, &o, "failed", "FirehoseFailed");
    assert_told(f, KEY_MESSAGE, "program was refused");
    assert_told(f, KEY_WORDS, "ERROR: out of good blocks");
    assert_told(f, KEY_HINT, "contact-vendor");
}

static void test_largest_result_is_one_message(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o = {.result = "failed",
                            .error = {.kind = ERROR_FIREHOSE_FAILED, .hint = HINT_BRIDGE_USB_BOOT}};
    memset(o.error.message, '\\', sizeof(o.error.message) - 1);
    memset(o.error.words, 1, sizeof(o.error.words) - 1);

    worker_progress(&f->w, 1, 1, 2);
    worker_progress(&f->w, 2, 2, 2); /* throttled: goes out before the result */
    worker_result(&f->w, -EPROTO, &o, true);
    assert_true(hear(f) && hear(f));
    assert_told(f, KEY_PROGRESS, "2");
    assert_true(hear(f));
    assert_told(f, KEY_RESULT, "failed");
    assert_told(f, KEY_MESSAGE, o.error.message);
    assert_told(f, KEY_WORDS, o.error.words);
    assert_told(f, KEY_HINT, "bridge-usb-boot");
    assert_told(f, KEY_HOLDING, "1");
    assert_false(hear(f));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_job),
        TEST(test_no_job),
        TEST(test_no_job_but_the_end),
        cmocka_unit_test(test_bad_messages),
        cmocka_unit_test_setup_teardown(test_backup_answers, setup, teardown),
        cmocka_unit_test(test_message_too_long),
        TEST(test_cancel),
        TEST(test_cancel_wakes),
        TEST(test_stop),
        TEST(test_link_ends),
        TEST(test_sigterm),
        TEST(test_device),
        TEST(test_wait_is_a_safe_point),
        TEST(test_appeared),
        TEST(test_progress),
        TEST(test_progress_of_parts),
        TEST(test_state),
        TEST(test_log),
        TEST(test_log_is_bounded),
        TEST(test_report_and_memfd),
        TEST(test_result),
        TEST(test_largest_result_is_one_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
