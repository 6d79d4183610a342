/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* usb.c with the real libusb on a mocked usbfs node: run under umockdev-wrapper. */

#include <setjmp.h>
#include <stdarg.h>
#include <sys/timerfd.h>
#include <cmocka.h>

#include "mock-usbfs.h"
#include "transport/inbox.h"
#include "transport/transport.h"

enum { PACKET = 512 };

#define SOON  (deadline_in(60 * USEC_PER_SEC))
#define EARLY (20 * USEC_PER_SEC) /* well before SOON: it was not what ended the wait */
#define SHORT (deadline_in(30 * USEC_PER_MSEC))

struct interface {
    uint8_t class, subclass, protocol;
    uint8_t in, out;     /* bulk endpoints, 0 for none */
    uint16_t max_packet; /* of both */
    uint8_t second_in;   /* one bulk IN more */
    uint8_t interrupt;   /* an interrupt endpoint more */
};

static const struct interface edl_interface = {0xff, 0xff, 0x11, MOCK_IN, MOCK_OUT, PACKET, 0, 0};

static void put_endpoint(struct mock *m, uint8_t address, uint8_t type, uint16_t max_packet)
{
    uint8_t d[] = {7, 5, address, type, (uint8_t)max_packet, (uint8_t)(max_packet >> 8), 0};
    memcpy(m->descriptors + m->descriptors_size, d, sizeof(d));
    m->descriptors_size += sizeof(d);
}

static void describe(struct mock *m, const struct interface *interfaces, unsigned n)
{
    static const uint8_t device[18] = {18, 1, 0, 2, 0, 0, 0, 64, 0xc6, 0x05, 0x08, 0x90, 0, 0, 1, 2, 0, 1};
    static const uint8_t config[9] = {9, 2, 0, 0, 0, 1, 0, 0x80, 1};
    memcpy(m->descriptors, device, sizeof(device));
    memcpy(m->descriptors + sizeof(device), config, sizeof(config));
    m->descriptors_size = sizeof(device) + sizeof(config);
    for (unsigned i = 0; i < n; i++) {
        const struct interface *f = &interfaces[i];
        uint8_t endpoints = (f->in != 0) + (f->out != 0) + (f->second_in != 0) + (f->interrupt != 0);
        uint8_t d[] = {9, 4, (uint8_t)i, 0, endpoints, f->class, f->subclass, f->protocol, 0};
        memcpy(m->descriptors + m->descriptors_size, d, sizeof(d));
        m->descriptors_size += sizeof(d);
        if (f->interrupt)
            put_endpoint(m, f->interrupt, 3, 64);
        if (f->in)
            put_endpoint(m, f->in, 2, f->max_packet);
        if (f->out)
            put_endpoint(m, f->out, 2, f->max_packet);
        if (f->second_in)
            put_endpoint(m, f->second_in, 2, f->max_packet);
    }
    uint8_t *c = m->descriptors + sizeof(device);
    c[2] = (uint8_t)(m->descriptors_size - sizeof(device));
    c[4] = (uint8_t)n;
}

struct fixture {
    struct mock m;
    struct transport *t;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    mock_plug(&f.m);
    describe(&f.m, &edl_interface, 1);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->t = transport_free(f->t);
    mock_done(&f->m);
    return 0;
}

static int open_modem_as(struct fixture *f, enum transport_use use, struct error *e)
{
    int fd = open(MOCK_NODE, O_RDWR | O_CLOEXEC | O_NOCTTY);
    assert_true(fd >= 0);
    int r = transport_open(fd, use, &f->t, e);
    if (r < 0)
        assert_int_equal(fcntl(fd, F_GETFD), -1); /* owned, also on failure */
    return r;
}

static int open_modem(struct fixture *f, struct error *e)
{
    return open_modem_as(f, TRANSPORT_EDL, e);
}

static int setup_open(void **state)
{
    setup(state);
    struct fixture *f = *state;
    struct error e = {0};
    if (open_modem(f, &e) < 0)
        fail_msg("%s", e.message);
    return 0;
}

static uint8_t *pattern(size_t size)
{
    uint8_t *p = malloc(size);
    assert_non_null(p);
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)(i * 31 + i / 251);
    return p;
}

static void expect_output(struct fixture *f, unsigned n, const void *data, size_t size)
{
    assert_true(n < f->m.n_outputs);
    assert_int_equal(f->m.outputs[n].size, size);
    if (size > 0)
        assert_memory_equal(f->m.outputs[n].data, data, size);
}

/* ---- opening ---- */

static void test_open_claims_and_posts(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    f->m.driver_bound = true; /* qcserial was first */
    assert_int_equal(open_modem(f, &e), 0);
    assert_int_equal(f->m.detached, 1);
    assert_int_equal(f->m.claimed, 0);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(f->m.urbs[i].length, 16384);
    assert_int_equal(transport_max_packet(f->t), PACKET);

    f->t = transport_free(f->t);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 0);
    assert_int_equal(f->m.claimed, -1);
    assert_false(f->m.connected); /* the kernel driver is not given back in EDL */
}

/* In EDL the kernel driver is not given back; in normal mode it is, and only if it was there. */
static void test_driver_is_given_back(void **state)
{
    struct fixture *f = *state;
    static const struct interface diag = {0xff, 0xff, 0x30, MOCK_IN, MOCK_OUT, PACKET, 0, 0};
    static const struct {
        enum transport_use use;
        bool bound, back;
    } table[] = {{TRANSPORT_EDL, true, false}, {TRANSPORT_DIAG, true, true}, {TRANSPORT_DIAG, false, false}};
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct error e = {0};
        describe(&f->m, table[i].use == TRANSPORT_DIAG ? &diag : &edl_interface, 1);
        f->m.driver_bound = table[i].bound;
        f->m.connected = false;
        if (open_modem_as(f, table[i].use, &e) < 0)
            fail_msg("%u: %s", i, e.message);
        f->t = transport_free(f->t);
        assert_int_equal(f->m.connected, table[i].back);
    }
}

static void test_interface_is_chosen_by_descriptors(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    static const struct interface composite[] = {
        {0xff, 0xff, 0x30, 0x83, 0x03, 512, 0, 0},            /* another protocol */
        {0xff, 0x42, 0xff, 0x84, 0x04, 512, 0, 0},            /* adb */
        {0xff, 0xff, 0xff, 0x85, 0x05, 512, 0x86, 0},         /* two bulk IN */
        {0xff, 0xff, 0x10, 0x87, 0, 512, 0, 0},               /* no bulk OUT */
        {0xff, 0xff, 0x13, 0x88, 0x06, 0, 0, 0},              /* no packet size */
        {0xff, 0xff, 0x10, MOCK_IN, MOCK_OUT, 1024, 0, 0x89}, /* this one, at SuperSpeed */
        {0xff, 0xff, 0xff, 0x8a, 0x07, 512, 0, 0},
    };
    describe(&f->m, composite, ARRAY_SIZE(composite));
    assert_int_equal(open_modem(f, &e), 0);
    assert_int_equal(f->m.claimed, 5);
    assert_int_equal(transport_max_packet(f->t), 1024);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
}

static void test_no_such_interface(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    static const struct interface storage = {8, 6, 0x50, 0x81, 0x02, 512, 0, 0};
    describe(&f->m, &storage, 1);
    assert_int_equal(open_modem(f, &e), -EPROTOTYPE);
    assert_int_equal(e.kind, ERROR_WRONG_MODE);
    assert_non_null(strstr(e.message, "none of its 1 interfaces"));
    assert_int_equal(f->m.submits, 0);

    describe(&f->m, NULL, 0);
    assert_int_equal(open_modem(f, &e), -EPROTOTYPE);
    f->m.descriptors_size = 20; /* cut */
    assert_int_equal(open_modem(f, &e), -EIO);
    f->m.descriptors_size = 0;
    assert_int_equal(open_modem(f, NULL), -EIO);
}

static void test_a_configuration_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    f->m.unconfigured = 3;
    assert_int_equal(open_modem(f, &e), 0);
    f->t = transport_free(f->t);

    f->m.unconfigured = 1000000;
    usec_t began = now_usec();
    assert_int_equal(open_modem(f, &e), -EPROTOTYPE);
    assert_non_null(strstr(e.message, "configuration"));
    assert_true(now_usec() - began < EARLY);
}

/* A few claims that fail are tried again; so many that it takes a second end with this error. */
static void assert_waits(struct fixture *f, unsigned *failing_claims, int gives_up, struct error *e)
{
    *failing_claims = 5;
    assert_int_equal(open_modem(f, e), 0);
    assert_int_equal(f->m.claimed, 0);
    f->t = transport_free(f->t);

    *failing_claims = 1000000;
    usec_t began = now_usec();
    assert_int_equal(open_modem(f, e), gives_up);
    usec_t took = now_usec() - began;
    assert_true(took >= 900 * USEC_PER_MSEC && took < EARLY);
}

/* In its sandbox a worker cannot ask for it: the first one is claimed, as soon as it is there. */
static void test_a_configuration_that_cannot_be_asked_for(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    f->m.no_control = true;
    assert_int_equal(open_modem(f, &e), 0);
    assert_int_equal(f->m.controls, 1);
    f->t = transport_free(f->t);

    assert_waits(f, &f->m.bare_claims, -EPROTOTYPE, &e);
    assert_non_null(strstr(e.message, "configuration"));
}

static void test_busy_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    assert_waits(f, &f->m.busy_claims, -EBUSY, &e);
    assert_int_equal(e.kind, ERROR_MODEM_BUSY);
}

static void test_open_of_what_is_gone(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    int fd = open(MOCK_NODE, O_RDWR | O_CLOEXEC | O_NOCTTY);
    assert_true(fd >= 0);
    mock_unplug(&f->m, -ESHUTDOWN);
    assert_int_equal(transport_open(fd, TRANSPORT_EDL, &f->t, &e), -ENODEV);
    assert_int_equal(e.kind, ERROR_MODEM_GONE);
}

/* ---- IN ---- */

static void test_reads_in_order_with_boundaries(void **state)
{
    struct fixture *f = *state;
    static uint8_t buffer[2 * 16384];
    size_t n;
    bool boundary;
    _cleanup_free_ uint8_t *data = pattern(16384 + PACKET);

    mock_send(&f->m, data, 48, true); /* a HELLO */
    mock_send(&f->m, data + 1, 16384, true);
    mock_send(&f->m, data + 2, 2 * PACKET, true);
    for (unsigned i = 0; i < 20; i++) /* more than what was posted */
        mock_send(&f->m, data + 3 + i, 7, true);

    assert_int_equal(transport_read(f->t, buffer, 8, SOON, &n, &boundary), 0);
    assert_int_equal(n, 8);
    assert_false(boundary);
    assert_int_equal(transport_read(f->t, buffer + 8, sizeof(buffer) - 8, SOON, &n, &boundary), 0);
    assert_int_equal(n, 40);
    assert_true(boundary);
    assert_memory_equal(buffer, data, 48);

    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 16384);
    assert_false(boundary);
    assert_memory_equal(buffer, data + 1, n);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 0); /* the ZLP is no end of anything but the transfer */
    assert_true(boundary);

    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 2 * PACKET);
    assert_true(boundary);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
        assert_int_equal(n, 7);
        assert_memory_equal(buffer, data + 3 + i, 7);
    }
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4); /* posted again, all of them */
}

static void test_timeout(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n = 77;
    usec_t began = now_usec(), cpu = clock_usec(CLOCK_THREAD_CPUTIME_ID);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), deadline_in(200 * USEC_PER_MSEC), &n, NULL),
                     -ETIMEDOUT);
    assert_true(now_usec() - began >= 200 * USEC_PER_MSEC);
    assert_true(clock_usec(CLOCK_THREAD_CPUTIME_ID) - cpu < 100 * USEC_PER_MSEC); /* it slept */
    assert_int_equal(n, 77);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
    mock_send(&f->m, "late", 4, true); /* and it still listens */
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 4);
}

static void test_whole_packets_without_an_end_are_brought_out(void **state)
{
    struct fixture *f = *state;
    uint8_t buffer[4 * PACKET];
    size_t n;
    bool boundary;
    _cleanup_free_ uint8_t *data = pattern(2 * PACKET);
    mock_send(&f->m, data, 2 * PACKET, false); /* no ZLP, and nothing behind it */
    assert_int_equal(
        transport_read(f->t, buffer, sizeof(buffer), deadline_in(500 * USEC_PER_MSEC), &n, &boundary), 0);
    assert_int_equal(n, 2 * PACKET);
    assert_false(boundary);
    assert_memory_equal(buffer, data, n);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
    mock_send(&f->m, "next", 4, true);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, &boundary), 0);
    assert_int_equal(n, 4);
    assert_memory_equal(buffer, "next", 4);
}

/* Until it has taken in all that it may and has no transfer posted any more. */
static void fill_inbox(struct fixture *f)
{
    usec_t end = SOON;
    do
        assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SHORT), -ETIMEDOUT);
    while (mock_pending(&f->m, MOCK_IN) > 0 && now_usec() < end);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 0);
}

static void test_endless_input_is_bounded(void **state)
{
    struct fixture *f = *state;
    enum { CHUNKS = 2 * INBOX_FULL / 16384 };
    static uint8_t buffer[16384];
    _cleanup_free_ uint8_t *data = pattern(16384 + CHUNKS);
    for (unsigned i = 0; i < CHUNKS; i++)
        mock_send(&f->m, data + i, 16384, false);
    fill_inbox(f); /* full: not posted again */
    assert_true(f->m.first_input < CHUNKS);
    for (unsigned i = 0; i < CHUNKS; i++) {
        size_t n;
        assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
        assert_int_equal(n, 16384);
        assert_memory_equal(buffer, data + i, n);
    }
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);

    for (unsigned i = 0; i < CHUNKS; i++)
        mock_send(&f->m, data + i, 16384, false);
    fill_inbox(f);
    unsigned drops = 0;
    do { /* dropping makes room as reading does */
        transport_drop_input(f->t);
        assert_true(++drops < 1000);
        assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SHORT), -ETIMEDOUT);
    } while (mock_pending(&f->m, MOCK_IN) < 4);
    assert_int_equal(f->m.first_input, f->m.n_inputs);
}

/* ---- OUT ---- */

static void test_pipelined_out(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ uint8_t *data = pattern(8192 + 16);
    mock_take(&f->m, 0);
    for (unsigned i = 0; i < TRANSPORT_QUEUE_DEPTH; i++)
        assert_int_equal(transport_queue(f->t, data + i, 8192, 0, SOON), 0); /* none has to wait */
    assert_int_equal(mock_pending(&f->m, MOCK_OUT), TRANSPORT_QUEUE_DEPTH);
    assert_int_equal(transport_queue(f->t, data, 8192, 0, SHORT), -ETIMEDOUT);
    assert_int_equal(transport_flush(f->t, SHORT), -ETIMEDOUT);

    mock_take(&f->m, 1); /* room for one */
    assert_int_equal(transport_queue(f->t, data + 4, 8192, 0, SOON), 0);
    assert_int_equal(mock_pending(&f->m, MOCK_OUT), TRANSPORT_QUEUE_DEPTH);
    mock_take(&f->m, 1000);
    assert_int_equal(transport_flush(f->t, SOON), 0);
    assert_int_equal(f->m.n_outputs, 5);
    for (unsigned i = 0; i < 5; i++)
        expect_output(f, i, data + i, 8192);
    assert_int_equal(transport_queue(f->t, data, TRANSPORT_CHUNK_MAX + 1, 0, SOON), -EINVAL);
}

static void test_zlp_rule(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ uint8_t *data = pattern(2 * TRANSPORT_CHUNK_MAX);
    assert_int_equal(transport_write(f->t, data, 8192, TRANSPORT_ZLP, SOON), 0);
    assert_int_equal(transport_write(f->t, data, 8192, 0, SOON), 0);
    assert_int_equal(transport_write(f->t, data, 100, TRANSPORT_ZLP, SOON), 0);
    assert_int_equal(transport_write(f->t, NULL, 0, TRANSPORT_ZLP, SOON), 0);
    assert_int_equal(transport_write(f->t, data, 2 * TRANSPORT_CHUNK_MAX, TRANSPORT_ZLP, SOON), 0);
    assert_int_equal(transport_flush(f->t, SOON), 0);
    static const size_t sizes[] = {8192, 0, 8192, 100, 0, TRANSPORT_CHUNK_MAX, TRANSPORT_CHUNK_MAX, 0};
    assert_int_equal(f->m.n_outputs, ARRAY_SIZE(sizes));
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        assert_int_equal(f->m.outputs[i].size, sizes[i]);
    for (unsigned i = 0; i < MOCK_URBS; i++)
        assert_false(f->m.urbs[i].flags & USBDEVFS_URB_ZERO_PACKET);
}

/* A programmer may take the ZLP only when it reads its next command, after its answer. */
static void test_a_late_zlp_blocks_nobody(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    _cleanup_free_ uint8_t *data = pattern(PACKET);
    mock_take(&f->m, 1);
    assert_int_equal(transport_write(f->t, data, PACKET, TRANSPORT_ZLP, SOON), 0);
    assert_int_equal(mock_pending(&f->m, MOCK_OUT), 1);
    mock_send(&f->m, "ACK", 3, true);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    mock_take(&f->m, 2);
    assert_int_equal(transport_write(f->t, "next", 4, 0, SOON), 0);
    expect_output(f, 1, NULL, 0);
    expect_output(f, 2, "next", 4);
}

static void test_write_timeout_and_cancel(void **state)
{
    struct fixture *f = *state;
    mock_take(&f->m, 0);
    assert_int_equal(transport_write(f->t, "stuck", 5, 0, SHORT), -ETIMEDOUT);
    assert_int_equal(mock_pending(&f->m, MOCK_OUT), 1); /* it may still be taken */
    assert_int_equal(transport_clear_halt(f->t), 0);
    assert_int_equal(f->m.clear_halts, 2);
    assert_int_equal(mock_pending(&f->m, MOCK_OUT), 0);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
    mock_take(&f->m, 10);
    assert_int_equal(transport_write(f->t, "fresh", 5, 0, SOON), 0);
    assert_int_equal(f->m.n_outputs, 1);
    expect_output(f, 0, "fresh", 5);
}

/* ---- stalls and errors ---- */

static void test_stalled_out(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ uint8_t *data = pattern(PACKET);
    mock_take(&f->m, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(transport_queue(f->t, data, PACKET, TRANSPORT_ZLP, SOON), 0);
    mock_fail(&f->m, MOCK_OUT, -EPIPE, false);
    assert_int_equal(transport_flush(f->t, SOON), -EPIPE);
    assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SHORT), -ETIMEDOUT);
    assert_int_equal(mock_pending(&f->m, MOCK_OUT), 0); /* nothing overtakes what was lost */
    assert_int_equal(transport_queue(f->t, data, PACKET, 0, SOON), -EPIPE);
    assert_int_equal(transport_clear_halt(f->t), 0);
    mock_take(&f->m, 10);
    assert_int_equal(transport_write(f->t, "again", 5, 0, SOON), 0);
    assert_int_equal(f->m.n_outputs, 1);
}

static void test_stalled_in(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    mock_send(&f->m, "before", 6, true);
    mock_fail(&f->m, MOCK_IN, -EPIPE, false);
    mock_send(&f->m, "behind a gap", 12, true); /* never delivered: something is missing before it */
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 6);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -EPIPE);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -EPIPE);
    assert_int_equal(transport_clear_halt(f->t), 0);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
    mock_send(&f->m, "after", 5, true);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_memory_equal(buffer, "after", 5);
}

static void test_bus_error_of_a_device_that_is_there(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    usec_t began = now_usec();
    mock_fail(&f->m, MOCK_IN, -EPROTO, false);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -EIO);
    assert_true(now_usec() - began < EARLY); /* the hub was given its time, not the whole deadline */
    assert_int_equal(transport_write(f->t, "x", 1, 0, SOON), 0);
    /* Before the hub could say anything, the deadline: it is an error, not a timeout. */
    assert_int_equal(transport_clear_halt(f->t), 0);
    mock_fail(&f->m, MOCK_IN, -EOVERFLOW, false);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SHORT, &n, NULL), -EIO);
}

/* ---- unplugs: the waker is what happens while the transport waits ---- */

struct later {
    struct mock *m;
    int fd;
    int status; /* of the transfers, before the node says gone */
    unsigned step;
};

static struct later later_unplug(struct fixture *f, int status)
{
    struct later l = {.m = &f->m, .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), .status = status};
    struct itimerspec in = {.it_value.tv_nsec = 20000000, .it_interval.tv_nsec = 20000000};
    assert_int_equal(timerfd_settime(l.fd, 0, &in, NULL), 0);
    return l;
}

static int on_later(void *userdata)
{
    struct later *l = userdata;
    uint64_t ticks;
    assert_int_equal(read(l->fd, &ticks, sizeof(ticks)), sizeof(ticks));
    if (l->step++ == 0 && l->status != 0)
        mock_fail(l->m, 0, l->status, true);
    else if (l->m->master >= 0)
        mock_unplug(l->m, -ESHUTDOWN);
    return 0;
}

static void expect_unplug(struct fixture *f, int status, bool writing)
{
    struct later l = later_unplug(f, status);
    transport_set_waker(f->t, l.fd, on_later, &l);
    char buffer[16];
    size_t n;
    usec_t began = now_usec();
    if (writing) {
        mock_take(&f->m, 0);
        assert_int_equal(transport_write(f->t, "x", 1, 0, SOON), -ENODEV);
    } else {
        assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ENODEV);
    }
    assert_true(now_usec() - began < EARLY); /* an unplug is no timeout */
    transport_set_waker(f->t, -1, NULL, NULL);
    close(l.fd);
    assert_int_equal(transport_write(f->t, "x", 1, 0, SOON), -ENODEV);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ENODEV);
    assert_int_equal(transport_clear_halt(f->t), -ENODEV);
    assert_int_equal(transport_reset(f->t), -ENODEV);
    assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SOON), -ENODEV);
}

static void test_unplug_while_reading(void **state)
{
    expect_unplug(*state, 0, false);
}

static void test_unplug_while_writing(void **state)
{
    expect_unplug(*state, 0, true);
}

/* First the transfers fail as with a bad cable, 20 ms later the hub knows. */
static void test_unplug_that_looks_like_a_bad_cable(void **state)
{
    expect_unplug(*state, -EPROTO, false);
}

static void test_unplug_that_looks_like_a_bad_cable_while_writing(void **state)
{
    expect_unplug(*state, -EILSEQ, true);
}

static void test_last_words(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    mock_send(&f->m, "bye", 3, true);
    mock_unplug(&f->m, -ESHUTDOWN);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), -ENODEV);
}

static void test_unplug_of_a_full_inbox(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ uint8_t *data = pattern(16384);
    for (unsigned i = 0; i < 2 * INBOX_FULL / 16384; i++)
        mock_send(&f->m, data, 16384, false);
    fill_inbox(f); /* no transfer is there to tell */
    mock_unplug(&f->m, -ESHUTDOWN);
    assert_int_equal(transport_wait(f->t, -1, NULL, NULL, SOON), -ENODEV);
}

static void test_reset(void **state)
{
    struct fixture *f = *state;
    char buffer[16];
    size_t n;
    mock_fail(&f->m, MOCK_IN, -EPIPE, false);
    assert_int_equal(transport_reset(f->t), 0);
    assert_int_equal(f->m.resets, 1);
    assert_int_equal(f->m.claimed, 0);
    assert_int_equal(mock_pending(&f->m, MOCK_IN), 4);
    mock_send(&f->m, "hello", 5, true);
    assert_int_equal(transport_read(f->t, buffer, sizeof(buffer), SOON, &n, NULL), 0);
    assert_int_equal(n, 5);

    /* It came back as something else: another descriptor is needed. */
    f->m.busy_claims = 1000;
    assert_int_equal(transport_reset(f->t), -ENODEV);
}

int main(void)
{
#define MOCK_TEST(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define MODEM_TEST(f) cmocka_unit_test_setup_teardown(f, setup_open, teardown)
    const struct CMUnitTest tests[] = {
        MOCK_TEST(test_open_claims_and_posts),
        MOCK_TEST(test_driver_is_given_back),
        MOCK_TEST(test_interface_is_chosen_by_descriptors),
        MOCK_TEST(test_no_such_interface),
        MOCK_TEST(test_a_configuration_is_waited_for),
        MOCK_TEST(test_a_configuration_that_cannot_be_asked_for),
        MOCK_TEST(test_busy_is_waited_for),
        MOCK_TEST(test_open_of_what_is_gone),
        MODEM_TEST(test_reads_in_order_with_boundaries),
        MODEM_TEST(test_timeout),
        MODEM_TEST(test_whole_packets_without_an_end_are_brought_out),
        MODEM_TEST(test_endless_input_is_bounded),
        MODEM_TEST(test_pipelined_out),
        MODEM_TEST(test_zlp_rule),
        MODEM_TEST(test_a_late_zlp_blocks_nobody),
        MODEM_TEST(test_write_timeout_and_cancel),
        MODEM_TEST(test_stalled_out),
        MODEM_TEST(test_stalled_in),
        MODEM_TEST(test_bus_error_of_a_device_that_is_there),
        MODEM_TEST(test_unplug_while_reading),
        MODEM_TEST(test_unplug_while_writing),
        MODEM_TEST(test_unplug_that_looks_like_a_bad_cable),
        MODEM_TEST(test_unplug_that_looks_like_a_bad_cable_while_writing),
        MODEM_TEST(test_last_words),
        MODEM_TEST(test_unplug_of_a_full_inbox),
        MODEM_TEST(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
