/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* transport.c and stream.c against a virtual modem that the test itself plays on the other end of the socket.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "transport/inbox.h"
#include "transport/transport.h"
#include "transport/virtual.h"

enum { PACKET = VIRTUAL_MAX_PACKET };

/* Long enough for any machine when something must happen, short when nothing shall. */
#define SOON  (deadline_in(60 * USEC_PER_SEC))
#define SHORT (deadline_in(30 * USEC_PER_MSEC))

struct fixture {
    struct transport *t;
    int modem;
};

static int setup(void **state)
{
    static struct fixture f;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    f.modem = sv[1];
    f.t = NULL;
    struct error e = {0};
    assert_int_equal(transport_open(sv[0], TRANSPORT_EDL, &f.t, &e), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->t = transport_free(f->t);
    f->modem = close_fd(f->modem);
    return 0;
}

/* The next datagram at the modem's end: its type, *ret_size bytes of data in buffer; -1 if there is none. */
static int modem_receive(int fd, void *buffer, size_t size, size_t *ret_size)
{
    static uint8_t datagram[1 + VIRTUAL_DATA_MAX];
    ssize_t n = recv(fd, datagram, sizeof(datagram), MSG_DONTWAIT);
    if (n < 1)
        return -1;
    assert_true((size_t)n - 1 <= size);
    memcpy(buffer, datagram + 1, (size_t)n - 1);
    *ret_size = (size_t)n - 1;
    return datagram[0];
}

static void modem_expect(int fd, char type, const void *data, size_t size)
{
    static uint8_t got[VIRTUAL_DATA_MAX];
    size_t n = 0;
    assert_int_equal(modem_receive(fd, got, sizeof(got), &n), type);
    assert_int_equal(n, size);
    if (size > 0)
        assert_memory_equal(got, data, size);
}

static void modem_expect_nothing(int fd)
{
    char byte;
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
    assert_int_equal(errno, EAGAIN);
}

static void modem_send(int fd, const void *data, size_t size)
{
    static uint8_t datagram[1 + VIRTUAL_DATA_MAX];
    datagram[0] = VIRTUAL_DATA;
    if (size > 0)
        memcpy(datagram + 1, data, size);
    assert_int_equal(send(fd, datagram, 1 + size, 0), 1 + size);
}

/* `size` bytes that differ everywhere. */
static uint8_t *pattern(size_t size)
{
    uint8_t *p = malloc(size);
    assert_non_null(p);
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)(i * 31 + i / 251);
    return p;
}

static void test_opening_polls(void **state)
{
    struct fixture *f = *state;
    modem_expect(f->modem, VIRTUAL_POLL, NULL, 0);
    modem_expect_nothing(f->modem);
    assert_int_equal(transport_max_packet(f->t), PACKET);
}

static void test_open_refuses_what_is_no_modem(void **state)
{
    (void)state;
    struct transport *t = NULL;
    struct error e = {0};
    int sv[2], p[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    assert_int_equal(transport_open(sv[0], TRANSPORT_EDL, &t, &e), -EINVAL);
    assert_int_equal(e.kind, ERROR_INVALID_ARGS);
    assert_non_null(strstr(e.message, "SOCK_SEQPACKET"));
    assert_int_equal(fcntl(sv[0], F_GETFD), -1); /* owned, also on failure */
    close(sv[1]);

    assert_int_equal(pipe(p), 0);
    assert_int_equal(transport_open(p[0], TRANSPORT_EDL, &t, NULL), -EINVAL);
    assert_int_equal(fcntl(p[0], F_GETFD), -1);
    close(p[1]);

    assert_int_equal(transport_open(-1, TRANSPORT_EDL, &t, &e), -EIO);

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
    close(sv[1]);
    assert_int_equal(transport_open(sv[0], TRANSPORT_EDL, &t, &e), -ENODEV);
    assert_int_equal(e.kind, ERROR_MODEM_GONE);
    assert_null(t);
}

static void test_read_keeps_order_and_boundaries(void **state)
{
    struct fixture *f = *state;
    uint8_t buffer[4 * PACKET];
    size_t n = 99;
    bool boundary = true;
    _cleanup_free_ uint8_t *data = pattern(2 * PACKET);

    modem_send(f->modem, "hello", 5);
    modem_send(f->modem, data, 2 * PACKET); /* whole packets: no end */
    modem_send(f->modem, NULL, 0);          /* the ZLP that ends them */

    /* A part of the first, then its rest, never beyond it. */
    assert_int_equal(transport_read(f->t, buffer, 2, SOON, &n, &boundary), 0);
    assert_int_equal(n, 2);
    assert_false(boundary);
    assert_memory_equal(buffer, "he", 2);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 3);
    assert_true(boundary);
    assert_memory_equal(buffer, "llo", 3);

    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 2 * PACKET);
    assert_false(boundary);
    assert_memory_equal(buffer, data, n);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 0);
    assert_true(boundary);

    assert_int_equal(transport_read(f->t, buffer, 0, SOON, &n, NULL), -EINVAL);
}

static void test_read_times_out_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n = 77;
    usec_t began = now_usec();
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SHORT, &n, NULL), -ETIMEDOUT);
    assert_true(now_usec() - began >= 30 * USEC_PER_MSEC);
    assert_int_equal(n, 77); /* untouched on failure */
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), 0, &n, NULL), -ETIMEDOUT);
    /* A deadline in the past still takes what is there. */
    modem_send(f->modem, "x", 1);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), 0, &n, NULL), 0);
    assert_int_equal(n, 1);
}

static void test_unplug_is_no_timeout(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n = 0;
    modem_send(f->modem, "bye", 3);
    f->modem = close_fd(f->modem);
    /* What it said before can still be read. */
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ENODEV);
    assert_int_equal(transport_write(f->t, "x", 1, 0, SOON), -ENODEV);
    assert_int_equal(transport_queue(f->t, "x", 1, 0, SOON), -ENODEV);
    assert_int_equal(transport_flush(f->t, SOON), -ENODEV);
    assert_int_equal(transport_clear_halt(f->t), -ENODEV);
    assert_int_equal(transport_reset(f->t), -ENODEV);
    assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SOON), -ENODEV);
    transport_drop_input(f->t);
}

static void test_last_words_when_a_write_finds_the_end(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n = 0;
    modem_send(f->modem, "bye", 3);
    f->modem = close_fd(f->modem);
    assert_int_equal(transport_write(f->t, "x", 1, 0, SOON), -ENODEV);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ENODEV);
}

static void test_write_in_chunks_with_zlp_rule(void **state)
{
    struct fixture *f = *state;
    size_t size = VIRTUAL_DATA_MAX + PACKET;
    _cleanup_free_ uint8_t *data = pattern(size);
    modem_expect(f->modem, VIRTUAL_POLL, NULL, 0);

    /* A whole multiple with the flag: chunks, and one ZLP at the very end. */
    assert_int_equal(transport_write(f->t, data, size, TRANSPORT_ZLP, SOON), 0);
    modem_expect(f->modem, VIRTUAL_DATA, data, VIRTUAL_DATA_MAX);
    modem_expect(f->modem, VIRTUAL_DATA, data + VIRTUAL_DATA_MAX, PACKET);
    modem_expect(f->modem, VIRTUAL_DATA, NULL, 0);
    modem_expect_nothing(f->modem);

    /* Without the flag none (Sahara must not be sent any), and none after a short packet. */
    assert_int_equal(transport_write(f->t, data, PACKET, 0, SOON), 0);
    assert_int_equal(transport_write(f->t, data, PACKET + 1, TRANSPORT_ZLP, SOON), 0);
    modem_expect(f->modem, VIRTUAL_DATA, data, PACKET);
    modem_expect(f->modem, VIRTUAL_DATA, data, PACKET + 1);
    modem_expect_nothing(f->modem);

    /* Size 0 is one ZLP, with the flag too. */
    assert_int_equal(transport_write(f->t, NULL, 0, 0, SOON), 0);
    assert_int_equal(transport_write(f->t, NULL, 0, TRANSPORT_ZLP, SOON), 0);
    modem_expect(f->modem, VIRTUAL_DATA, NULL, 0);
    modem_expect(f->modem, VIRTUAL_DATA, NULL, 0);
    modem_expect_nothing(f->modem);

    assert_int_equal(transport_queue(f->t, data, TRANSPORT_CHUNK_MAX + 1, 0, SOON), -EINVAL);
}

/* Queues until nothing goes any more; how many chunks were accepted. */
static unsigned fill(struct transport *t, const uint8_t *data)
{
    unsigned accepted = 0;
    int r;
    while ((r = transport_queue(t, data, TRANSPORT_CHUNK_MAX, 0, 0)) == 0)
        assert_true(++accepted < 1000); /* bounded, whatever the modem does */
    assert_int_equal(r, -ETIMEDOUT);
    return accepted;
}

static void test_a_modem_that_takes_nothing(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ uint8_t *data = pattern(TRANSPORT_CHUNK_MAX);
    unsigned accepted = fill(f->t, data);
    assert_true(accepted >= TRANSPORT_QUEUE_DEPTH);
    assert_int_equal(transport_flush(f->t, SHORT), -ETIMEDOUT);

    /* It may still take them later: nothing is lost and nothing comes twice. */
    modem_expect(f->modem, VIRTUAL_POLL, NULL, 0);
    unsigned got = 0;
    while (got < accepted) {
        modem_expect(f->modem, VIRTUAL_DATA, data, TRANSPORT_CHUNK_MAX);
        got++;
        (void)transport_flush(f->t, 0);
    }
    assert_int_equal(transport_flush(f->t, SOON), 0);
    modem_expect_nothing(f->modem);
}

static void test_clear_halt_cancels_what_is_not_taken(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ uint8_t *data = pattern(TRANSPORT_CHUNK_MAX);
    unsigned accepted = fill(f->t, data), got = 0;
    assert_int_equal(transport_clear_halt(f->t), 0);

    modem_expect(f->modem, VIRTUAL_POLL, NULL, 0);
    static uint8_t buffer[VIRTUAL_DATA_MAX];
    size_t n;
    int type;
    while ((type = modem_receive(f->modem, buffer, sizeof(buffer), &n)) == VIRTUAL_DATA)
        got++;
    assert_int_equal(got, accepted - TRANSPORT_QUEUE_DEPTH); /* what had left before */
    assert_int_equal(type, -1);
    assert_int_equal(transport_flush(f->t, SOON), 0);
    modem_expect(f->modem, VIRTUAL_CLEAR_HALT, NULL, 0);

    assert_int_equal(transport_reset(f->t), 0);
    assert_int_equal(transport_write(f->t, "again", 5, 0, SOON), 0);
    modem_expect(f->modem, VIRTUAL_RESET, NULL, 0);
    modem_expect(f->modem, VIRTUAL_DATA, "again", 5);
    modem_expect_nothing(f->modem);
}

/* A modem that says `logs` bytes before it takes a byte more, like a programmer whose logs nobody drains
 * (2.1). */
struct chatty {
    int fd;
    size_t logs, taken;
};

static void *chatty_modem(void *userdata)
{
    struct chatty *m = userdata;
    static uint8_t datagram[1 + VIRTUAL_DATA_MAX];
    datagram[0] = VIRTUAL_DATA;
    for (size_t said = 0; said < m->logs; said += PACKET - 1)
        if (send(m->fd, datagram, 1 + PACKET - 1, 0) < 0)
            return NULL;
    ssize_t n;
    while ((n = recv(m->fd, datagram, sizeof(datagram), 0)) > 1 || (n == 1 && datagram[0] == VIRTUAL_POLL))
        m->taken += (size_t)n - 1;
    return NULL;
}

static void test_logs_are_taken_while_writing(void **state)
{
    struct fixture *f = *state;
    struct chatty m = {.fd = f->modem, .logs = INBOX_FULL / 2};
    size_t size = 64 * TRANSPORT_CHUNK_MAX;
    _cleanup_free_ uint8_t *data = pattern(size);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, chatty_modem, &m), 0);
    /* Neither socket buffer holds what each side wants to be rid of: without reading this would never end. */
    assert_int_equal(transport_write(f->t, data, size, TRANSPORT_ZLP, SOON), 0);

    size_t heard = 0, n;
    static uint8_t buffer[PACKET];
    while (heard < m.logs && transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL) == 0)
        heard += n;
    assert_true(heard >= m.logs);
    shutdown(f->modem, SHUT_RD);
    pthread_join(thread, NULL);
    assert_int_equal(m.taken, size);
}

static void test_endless_logs_are_bounded(void **state)
{
    struct fixture *f = *state;
    static uint8_t datagram[1 + VIRTUAL_DATA_MAX] = {VIRTUAL_DATA};
    size_t sent = 0;
    /* Until neither the socket nor the transport takes more. */
    for (;;) {
        while (send(f->modem, datagram, sizeof(datagram), MSG_DONTWAIT) > 0)
            sent += VIRTUAL_DATA_MAX;
        assert_int_equal(errno, EAGAIN);
        if (transport_wait(f->t, -1, NULL, NULL, 0) == -ETIMEDOUT &&
            send(f->modem, datagram, sizeof(datagram), MSG_DONTWAIT) < 0)
            break;
        assert_true(sent < 8 * INBOX_FULL);
    }
    assert_true(sent >= INBOX_FULL);
    /* A full inbox does not spin: the wait lasts. */
    usec_t cpu = clock_usec(CLOCK_PROCESS_CPUTIME_ID);
    assert_int_equal(transport_wait(f->t, -1, NULL, NULL, deadline_in(100 * USEC_PER_MSEC)), -ETIMEDOUT);
    assert_true(clock_usec(CLOCK_PROCESS_CPUTIME_ID) - cpu < 50 * USEC_PER_MSEC);

    /* Read away, it goes on, to the last byte. */
    static uint8_t buffer[VIRTUAL_DATA_MAX];
    size_t heard = 0, n;
    while (transport_read(f->t, buffer, sizeof(buffer), 0, &n, NULL) == 0)
        heard += n;
    assert_true(heard >= sent);

    /* And the unplug of a modem that talks too much is told. */
    while (send(f->modem, datagram, sizeof(datagram), MSG_DONTWAIT) > 0 ||
           transport_wait(f->t, -1, NULL, NULL, 0) != -ETIMEDOUT)
        ;
    f->modem = close_fd(f->modem);
    assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SOON), -ENODEV);
}

static void test_garbage_from_the_modem(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    modem_send(f->modem, "ok", 2);
    assert_int_equal(send(f->modem, "?junk", 5, 0), 5);
    modem_send(f->modem, "later", 5);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -EIO);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -EIO);
    assert_int_equal(transport_write(f->t, "x", 1, 0, SOON), 0); /* the other direction still works */

    static uint8_t huge[1 + VIRTUAL_DATA_MAX + 1] = {VIRTUAL_DATA};
    assert_int_equal(transport_clear_halt(f->t), 0);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 5);
    assert_int_equal(send(f->modem, huge, sizeof(huge), 0), sizeof(huge));
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -EIO);
}

static void test_drop_input(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    modem_send(f->modem, "stale", 5);
    modem_send(f->modem, "stale too", 9);
    transport_drop_input(f->t);
    modem_send(f->modem, "fresh", 5);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_memory_equal(buffer, "fresh", 5);
}

struct waker {
    int fd, answer;
    unsigned calls;
};

static int on_wake(void *userdata)
{
    struct waker *w = userdata;
    uint64_t value;
    assert_int_equal(read(w->fd, &value, sizeof(value)), sizeof(value));
    w->calls++;
    return w->answer;
}

static void wake(const struct waker *w)
{
    uint64_t one = 1;
    assert_int_equal(write(w->fd, &one, sizeof(one)), sizeof(one));
}

static void test_waker_ends_a_wait(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    struct waker w = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    assert_true(w.fd >= 0);
    transport_set_waker(f->t, w.fd, on_wake, &w);

    /* 0: the wait goes on to its end. */
    wake(&w);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SHORT, &n, NULL), -ETIMEDOUT);
    assert_int_equal(w.calls, 1);

    w.answer = -ECANCELED;
    wake(&w);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ECANCELED);
    wake(&w);
    assert_int_equal(transport_wait(f->t, w.fd, on_wake, &w, SOON), -ECANCELED);
    assert_int_equal(w.calls, 3);
    /* A caller that never has to wait hears it too, after a queueful at the latest. */
    wake(&w);
    int r = 0;
    for (unsigned i = 0; r == 0 && i < TRANSPORT_QUEUE_DEPTH; i++)
        r = transport_queue(f->t, "x", 1, 0, SOON);
    assert_int_equal(r, -ECANCELED);
    wake(&w);
    modem_send(f->modem, "kept", 4);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ECANCELED);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_memory_equal(buffer, "kept", 4);
    close(w.fd);
    transport_set_waker(f->t, -1, NULL, NULL);
}

static void test_waiting_without_a_modem(void **state)
{
    (void)state;
    struct waker w = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .answer = -EINTR};
    assert_true(w.fd >= 0);
    assert_int_equal(transport_wait(NULL, w.fd, on_wake, &w, SHORT), -ETIMEDOUT);
    wake(&w);
    assert_int_equal(transport_wait(NULL, w.fd, on_wake, &w, USEC_INFINITY), -EINTR);
    close(w.fd);
    assert_int_equal(transport_wait(NULL, w.fd, on_wake, &w, SOON), -EBADF);
    assert_null(transport_free(NULL));
}

int main(void)
{
#define MODEM_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        MODEM_TEST(test_opening_polls),
        cmocka_unit_test(test_open_refuses_what_is_no_modem),
        MODEM_TEST(test_read_keeps_order_and_boundaries),
        MODEM_TEST(test_read_times_out_at_its_deadline),
        MODEM_TEST(test_unplug_is_no_timeout),
        MODEM_TEST(test_last_words_when_a_write_finds_the_end),
        MODEM_TEST(test_write_in_chunks_with_zlp_rule),
        MODEM_TEST(test_a_modem_that_takes_nothing),
        MODEM_TEST(test_clear_halt_cancels_what_is_not_taken),
        MODEM_TEST(test_logs_are_taken_while_writing),
        MODEM_TEST(test_endless_logs_are_bounded),
        MODEM_TEST(test_garbage_from_the_modem),
        MODEM_TEST(test_drop_input),
        MODEM_TEST(test_waker_ends_a_wait),
        cmocka_unit_test(test_waiting_without_a_modem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
