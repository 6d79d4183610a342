/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* program keeps several payloads in flight (reference/edl.md 7): to a modem that takes one only when the
 * host waits for it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/eventfd.h>

#include "protocol/firehose.h"
#include "transport/ops.h"

enum { PAGE = 4096, PAGES = 64, PAYLOAD = 8192, PAYLOADS = PAGES * PAGE / PAYLOAD };

static const char ack_raw[] =
    "<?xml version=\"1.0\" ?><data><response value=\"ACK\" rawmode=\"true\" /></data>";
static const char ack[] = "<?xml version=\"1.0\" ?><data><response value=\"ACK\" rawmode=\"false\" "
                          "MaxPayloadSizeToTargetInBytes=\"8192\" /></data>";

/* A modem with one thing to do whenever somebody waits for it: it takes one transfer. */
struct lazy {
    struct transport base;
    int always_ready;
    unsigned payloads, most_in_flight;
    size_t sizes[TRANSPORT_QUEUE_DEPTH]; /* in flight, the oldest first */
    bool raw;
};

static size_t lazy_poll_fds(struct transport *t, struct pollfd *fds)
{
    fds[0] = (struct pollfd){.fd = ((struct lazy *)t)->always_ready, .events = POLLIN};
    return 1;
}

static void say(struct lazy *l, const char *text)
{
    assert_int_equal(inbox_push(&l->base.inbox, text, strlen(text), true), 0);
}

static void take_one(struct lazy *l)
{
    size_t size = l->sizes[0];
    memmove(l->sizes, l->sizes + 1, sizeof(l->sizes) - sizeof(l->sizes[0]));
    l->base.in_flight--;
    l->base.untaken--;
    if (!l->raw) {
        l->raw = l->payloads++ > 0; /* behind configure comes program */
        say(l, l->raw ? ack_raw : ack);
        return;
    }
    assert_int_equal(size, PAYLOAD);
    if (++l->payloads == 2 + PAYLOADS)
        say(l, ack);
}

static void lazy_process(struct transport *t, const struct pollfd *fds)
{
    (void)fds;
    if (t->in_flight > 0)
        take_one((struct lazy *)t);
}

static int lazy_submit(struct transport *t, const void *data, size_t size, unsigned flags)
{
    (void)data;
    (void)flags;
    struct lazy *l = (struct lazy *)t;
    l->sizes[t->in_flight++] = size;
    t->untaken++;
    if (l->raw && t->in_flight > l->most_in_flight)
        l->most_in_flight = t->in_flight;
    return 0;
}

static int lazy_nothing(struct transport *t)
{
    (void)t;
    return 0;
}

static void lazy_free(struct transport *t)
{
    close_fd(((struct lazy *)t)->always_ready);
}

static const struct transport_ops lazy_ops = {
    .poll_fds = lazy_poll_fds,
    .process = lazy_process,
    .submit = lazy_submit,
    .clear_halt = lazy_nothing,
    .reset = lazy_nothing,
    .free = lazy_free,
};

static int zeros(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e)
{
    (void)userdata;
    (void)offset;
    (void)e;
    memset(buffer, 0, size);
    return 0;
}

static void test_payloads_overlap(void **state)
{
    (void)state;
    static struct lazy l;
    l = (struct lazy){.base = {.ops = &lazy_ops, .max_packet = 512, .waker_fd = -1}};
    l.always_ready = eventfd(1, EFD_CLOEXEC);
    assert_true(l.always_ready >= 0);
    static const struct firehose_range block = {PAGE, 64, 640, PAGES, 703};
    struct error e = {0};
    struct firehose *f = firehose_new(&l.base);
    assert_non_null(f);
    if (firehose_configure(f, 0, &e) < 0 || firehose_program(f, &block, zeros, NULL, NULL, &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(l.payloads, 2 + PAYLOADS);
    assert_true(l.most_in_flight >= 2);
    firehose_free(f);
    transport_free(&l.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_payloads_overlap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
