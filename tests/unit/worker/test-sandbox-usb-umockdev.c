/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libusb inside the worker's sandbox: a usbfs descriptor that was opened before is all it gets. The lock
 * holds for the thread that asks for it, so the mocked device can live in the same process. Run under
 * umockdev-wrapper.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <cmocka.h>

#include "../transport/mock-usbfs.h"
#include "transport/transport.h"
#include "worker/sandbox.h"

#define SOON (deadline_in(60 * USEC_PER_SEC))

/* One vendor interface ff/ff/11 with 0x81 and 0x02, as SDX55's PBL has it. */
static const uint8_t descriptors[] = {
    18, 1, 0,        2, 0, 0,    0,    64,   0xc6, 0x05, 0x08, 0x90, 0, 0, 1, 2, 0, 1, /* device */
    9,  2, 32,       0, 1, 1,    0,    0x80, 1,                                        /* configuration */
    9,  4, 0,        0, 2, 0xff, 0xff, 0x11, 0,                                        /* interface */
    7,  5, MOCK_IN,  2, 0, 2,    0, /* endpoints of 512 bytes */
    7,  5, MOCK_OUT, 2, 0, 2,    0,
};

struct inside {
    int fd;
    bool locked;
    int open_errno; /* of a path, once locked */
    int opened, read, written, halted;
    struct error error;
    char buffer[16];
    size_t size;
};

static void *worker(void *userdata)
{
    struct inside *in = userdata;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)sandbox_landlock(); /* not in every kernel; the filter alone refuses to open */
    in->locked = sandbox_seccomp() == 0;
    if (!in->locked)
        return NULL;
    in->open_errno = open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;

    struct transport *t = NULL;
    in->opened = transport_open(in->fd, TRANSPORT_EDL, &t, &in->error);
    if (in->opened < 0)
        return NULL;
    in->read = transport_read(t, in->buffer, sizeof(in->buffer), SOON, &in->size, NULL);
    in->written = transport_write(t, "nop", 3, TRANSPORT_ZLP, SOON);
    in->halted = transport_clear_halt(t);
    transport_free(t);
    return NULL;
}

static void test_libusb_in_the_sandbox(void **state)
{
    (void)state;
    static struct mock m;
    mock_plug(&m);
    memcpy(m.descriptors, descriptors, sizeof(descriptors));
    m.descriptors_size = sizeof(descriptors);
    m.driver_bound = true;
    m.no_control = true; /* the mock is asked in front of the kernel's filter: test-sandbox.c has that */
    mock_send(&m, "hello", 5, true);

    struct inside in = {.fd = open(MOCK_NODE, O_RDWR | O_CLOEXEC | O_NOCTTY)};
    assert_true(in.fd >= 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, worker, &in), 0);
    pthread_join(thread, NULL);

    assert_true(in.locked);
    assert_int_equal(in.open_errno, EACCES);
    if (in.opened < 0)
        fail_msg("%s", in.error.message);
    assert_int_equal(in.read, 0);
    assert_int_equal(in.size, 5);
    assert_memory_equal(in.buffer, "hello", 5);
    assert_int_equal(in.written, 0);
    assert_int_equal(in.halted, 0);
    assert_int_equal(m.detached, 1);
    assert_int_equal(m.claimed, -1); /* released in the end */
    assert_int_equal(m.n_outputs, 1);
    mock_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_libusb_in_the_sandbox)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
