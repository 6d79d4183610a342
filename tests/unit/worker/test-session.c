/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A session, and the jobs that are little more than one, between a scripted modem and a service of our own.
 */

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "child-clock.h"
#include "scripted-modem.h"
#include "transport/transport.h"
#include "worker/session.h"

#define SERIAL  "49cbd7ef"
#define PRODUCT "QUSB_BULK_CID:0410_SN:49CBD7EF"

enum { MODEMS = 3, CHIP_SDX55_HIGH = 0x000cf0e1 };

struct fixture {
    struct worker w;
    int service;
    struct link_message told;
    struct scripted_modem modems[MODEMS];
    unsigned plugged;
    struct session *session;
};

static const struct scripted_modem the_unit = {
    .serial = 0x49cbd7ef, .hwid = (uint64_t)CHIP_SDX55_HIGH << 32, .pk_hash = {0xab, 0xcd}, .fd = -1};
static const uint8_t programmer[64] = "programmer with getsha256digest and skip_bad_block";

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int pair[2];
    assert_non_null(f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    worker_init(&f->w, pair[1]);
    f->service = pair[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    session_free(f->session);
    worker_done(&f->w);
    link_message_done(&f->told);
    for (unsigned i = 0; i < f->plugged; i++)
        modem_unplug(&f->modems[i]);
    close(f->w.link);
    close_fd(f->service);
    free(f);
    return 0;
}

static void say(struct fixture *f, const char *lines)
{
    struct link_message m = {0};
    m.size = strlen(lines);
    memcpy(m.buffer, lines, m.size);
    assert_int_equal(link_send(f->service, &m), 0);
}

/* A new appearance; the worker finds it in its link. */
static struct scripted_modem *plug(struct fixture *f, const struct scripted_modem *like, const char *product)
{
    struct scripted_modem *m = &f->modems[f->plugged++];
    struct link_message message = {0};
    *m = *like;
    modem_plug(m);
    child_clock_watch(m->pid);
    link_add(&message, KEY_DEVICE, "1");
    link_add(&message, KEY_VID, "05c6");
    link_add(&message, KEY_PID, "9008");
    link_add(&message, KEY_PRODUCT, product);
    link_add_fd(&message, steal_fd(&m->fd));
    assert_int_equal(link_send(f->service, &message), 0);
    return m;
}

/* The first value of `key` in what the worker tells from now on; NULL if it is not told. Skips what stands
 * before it. */
static const char *next_told(struct fixture *f, const char *key)
{
    while (link_receive(f->service, MSG_DONTWAIT, link_keys_from_worker, &f->told) == 1)
        if (link_get(&f->told, key))
            return link_get(&f->told, key);
    return NULL;
}

/* In the message that was looked at last, or behind it. */
static void assert_told(struct fixture *f, const char *key, const char *value)
{
    const char *here = link_get(&f->told, key);
    const char *found = here && strcmp(here, value) == 0 ? here : next_told(f, key);
    if (!found)
        fail_msg("%s= was not told", key);
    assert_string_equal(found, value);
}

static int attach(struct fixture *f, bool identify, struct detect_result *found, struct error *e)
{
    *e = (struct error){0};
    return session_attach(f->session, deadline_in(20 * USEC_PER_SEC), identify, found, e);
}

static void assert_ok(int r, const struct error *e)
{
    if (r < 0)
        fail_msg("%s: %s", error_name(e->kind), e->message);
}

/* ---- who it is ---- */

static void test_product_serial(void **state)
{
    (void)state;
    uint32_t serial = 1;
    assert_true(session_product_serial(PRODUCT, &serial));
    assert_int_equal(serial, 0x49cbd7ef);
    assert_true(session_product_serial("QUSB_BULK_SN:00000000_X", &serial));
    assert_int_equal(serial, 0);
    assert_false(session_product_serial("", &serial));
    assert_false(session_product_serial("QUSB_BULK", &serial));
    assert_false(session_product_serial("QUSB_BULK_SN:49CBD7E", &serial));
    assert_false(session_product_serial("QUSB_BULK_SN:49CBD7EF0", &serial));
    assert_false(session_product_serial("QUSB_BULK_SN:-9CBD7EF", &serial));
}

static void test_identify(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;
    char hash[65];

    f->session = session_new(&f->w);
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_int_equal(found.state, DETECT_SAHARA);
    assert_int_equal(found.hello.mode, 0); /* the fresh one, unanswered */
    assert_true(f->session->identity_known);
    assert_told(f, KEY_PHASE, "wait-device");
    assert_told(f, KEY_WAIT_DEVICE, "edl");
    assert_told(f, KEY_MODE, "sahara");
    assert_told(f, KEY_SERIAL, SERIAL);
    assert_told(f, KEY_HWID, "000cf0e100000000");
    assert_told(f, KEY_CHIP, "SDX55");
    snprintf(hash, sizeof(hash), "abcd%060d", 0);
    assert_told(f, KEY_PKHASH, hash);
}

static void test_same_unit_again(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;

    f->session = session_new(&f->w);
    struct scripted_modem *first = plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    modem_unplug(first);
    say(f, "DEVICE_GONE=1\n");
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_int_equal(f->session->appearances, 2);
    assert_told(f, KEY_SERIAL, SERIAL);
    assert_null(next_told(f, KEY_SERIAL)); /* told once */
}

/* What must not pass for the unit of the first appearance. */
static void second_is_refused(struct fixture *f, const struct scripted_modem *other, const char *product,
                              const char *names)
{
    struct detect_result found;
    struct error e;

    f->session = session_new(&f->w);
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    session_detach(f->session);
    plug(f, other, product);
    assert_int_equal(attach(f, true, &found, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_WRONG_UNIT);
    if (!strstr(e.message, names))
        fail_msg("does not say \"%s\": %s", names, e.message);
    assert_int_equal(f->session->identity.serial, the_unit.serial);
}

static void test_other_serial(void **state)
{
    struct scripted_modem other = the_unit;
    other.serial = 0x12345678;
    second_is_refused(*state, &other, PRODUCT, "serial number is 12345678, expected " SERIAL);
}

static void test_other_hwid(void **state)
{
    struct scripted_modem other = the_unit;
    other.hwid |= 1;
    second_is_refused(*state, &other, PRODUCT, "hardware id is 000cf0e100000001, expected 000cf0e100000000");
}

static void test_other_pk_hash(void **state)
{
    struct scripted_modem other = the_unit;
    other.pk_hash[31] = 1;
    second_is_refused(*state, &other, PRODUCT, "PK hash");
}

static void test_unit_that_does_not_tell(void **state)
{
    struct scripted_modem other = the_unit;
    other.running = true;
    second_is_refused(*state, &other, "QUSB_BULK", "not told any more");
}

static void test_other_unit_in_firehose(void **state)
{
    struct scripted_modem other = the_unit;
    other.running = true;
    second_is_refused(*state, &other, "QUSB_BULK_CID:0410_SN:12345678", "serial number");
}

static void test_identity_parts(void **state)
{
    struct fixture *f = *state;
    const struct sahara_identity serial = {.have_serial = true, .serial = 1},
                                 all = {.have_serial = true, .serial = 1, .have_hwid = true, .hwid = 2},
                                 none = {.have_hwid = false};
    struct error e;

    /* Found in Firehose first, then asked: more is learned. Then less may be told only where nobody could
     * ask. */
    f->session = session_new(&f->w);
    assert_int_equal(session_check_identity(f->session, &serial, false, &e), 0);
    assert_int_equal(session_check_identity(f->session, &all, true, &e), 0);
    assert_int_equal(session_check_identity(f->session, &serial, false, &e), 0);
    assert_int_equal(session_check_identity(f->session, &none, false, &e), -EPERM);
    assert_int_equal(session_check_identity(f->session, &serial, true, &e), -EPERM);
    assert_non_null(strstr(e.message, "hardware id"));
    f->session = session_free(f->session);

    /* Asked, and told no hardware id: one that tells it is another modem. */
    f->session = session_new(&f->w);
    assert_int_equal(session_check_identity(f->session, &serial, true, &e), 0);
    assert_int_equal(session_check_identity(f->session, &all, true, &e), -EPERM);
    assert_int_equal(session_check_identity(f->session, &serial, true, &e), 0);
    f->session = session_free(f->session);

    /* Asked, and broken off behind the serial: the rest is learned, and from then on it must be that. */
    const struct sahara_identity other = {.have_serial = true, .serial = 1, .have_hwid = true, .hwid = 3};
    f->session = session_new(&f->w);
    assert_int_equal(session_check_identity(f->session, &serial, false, &e), 0);
    assert_int_equal(session_check_identity(f->session, &all, true, &e), 0);
    assert_int_equal(f->session->identity.hwid, 2);
    assert_int_equal(session_check_identity(f->session, &other, false, &e), -EPERM);
    assert_int_equal(session_check_identity(f->session, &other, true, &e), -EPERM);
    assert_int_equal(session_check_identity(f->session, &serial, false, &e), 0);
}

/* By its serial, told before and told now; zeros are no name. */
static void test_recognized(void **state)
{
    struct fixture *f = *state;
    const struct sahara_identity one = {.have_serial = true, .serial = 1}, zero = {.have_serial = true},
                                 none = {.have_hwid = true, .hwid = 2};
    struct error e;

    f->session = session_new(&f->w);
    assert_int_equal(session_check_identity(f->session, &none, false, &e), 0);
    assert_int_equal(session_check_identity(f->session, &one, false, &e), 0);
    assert_false(f->session->recognized); /* told for the first time */
    assert_int_equal(session_check_identity(f->session, &one, false, &e), 0);
    assert_true(f->session->recognized);
    assert_int_equal(session_check_identity(f->session, &zero, false, &e), -EPERM);
    assert_false(f->session->recognized);
    f->session = session_free(f->session);

    f->session = session_new(&f->w);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(session_check_identity(f->session, &zero, true, &e), 0);
        assert_false(f->session->recognized);
    }
    f->session = session_free(f->session);

    say(f, "JOB=flash\nOPTION.serial=00000001\n");
    assert_int_equal(worker_receive_job(&f->w), 1);
    f->session = session_new(&f->w);
    assert_int_equal(session_check_identity(f->session, &one, true, &e), 0);
    assert_true(f->session->recognized);
}

/* The conversation of the first appearance breaks off, that of the second does not. */
static void test_first_conversation_breaks_off(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem hasty = the_unit;
    struct detect_result found;
    struct error e;

    hasty.breaks = true;
    hasty.stays = true;
    f->session = session_new(&f->w);
    plug(f, &hasty, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_false(f->session->asked);
    assert_false(f->session->identity.have_hwid);
    session_detach(f->session);
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_true(f->session->asked && f->session->recognized);
    assert_int_equal(f->session->identity.hwid, the_unit.hwid);
}

/* Asked once, and then taken as it is. */
static void test_leaves_when_it_is_asked(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem old = the_unit;
    struct detect_result found;
    struct error e = {0};

    old.refuses = true;
    f->session = session_new(&f->w);
    plug(f, &old, "QUSB_BULK");
    assert_int_equal(session_attach(f->session, deadline_in(3 * USEC_PER_SEC), true, &found, &e), -ENODEV);
    assert_true(f->session->leaves_when_asked);
    for (unsigned i = 0; i < 2; i++) {
        plug(f, &old, "QUSB_BULK");
        assert_ok(attach(f, true, &found, &e), &e);
        assert_int_equal(found.state, DETECT_SAHARA);
        assert_int_equal(f->session->appearances, 2 + i);
        assert_false(f->session->recognized);
    }
}

static void expected_unit(struct fixture *f, const char *options)
{
    say(f, options);
    assert_int_equal(worker_receive_job(&f->w), 1);
    f->session = session_new(&f->w);
    plug(f, &the_unit, PRODUCT);
}

static void test_expected_unit(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;
    expected_unit(f, "JOB=flash\nOPTION.serial=" SERIAL "\nOPTION.hwid=000cf0e100000000\n");
    assert_ok(attach(f, true, &found, &e), &e);
}

static void test_unexpected_unit(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;
    expected_unit(f, "JOB=flash\nOPTION.serial=12345678\n");
    assert_int_equal(attach(f, true, &found, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_WRONG_UNIT);
}

static void test_unexpected_unit_in_firehose(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem running = the_unit;
    struct detect_result found;
    struct error e;
    say(f, "JOB=flash\nOPTION.serial=12345678\n");
    assert_int_equal(worker_receive_job(&f->w), 1);
    f->session = session_new(&f->w);
    running.running = true;
    plug(f, &running, PRODUCT);
    assert_int_equal(attach(f, true, &found, &e), -EPERM);
}

static void test_unexpected_unit_is_allowed(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;
    expected_unit(f, "JOB=flash\nOPTION.serial=12345678\nOPTION.allow=NoBackup,WrongUnit\n");
    assert_ok(attach(f, true, &found, &e), &e);
}

/* ---- comings and goings ---- */

static void test_leaves_while_it_is_looked_at(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem hasty = the_unit;
    struct detect_result found;
    struct error e;

    hasty.leaves = true;
    f->session = session_new(&f->w);
    plug(f, &hasty, PRODUCT);
    /* The second one is in the link behind it, and is not to be mistaken for news of the first. */
    assert_int_equal(session_attach(f->session, deadline_in(100 * USEC_PER_MSEC), true, &found, &e), -ENODEV);
    assert_told(f, KEY_DEVICE_LOST, "1");
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_int_equal(f->session->appearances, 2);
}

static void test_never_comes(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e = {0};
    f->session = session_new(&f->w);
    assert_int_equal(session_attach(f->session, deadline_in(20 * USEC_PER_MSEC), true, &found, &e),
                     -ETIMEDOUT);
    assert_int_equal(e.kind, ERROR_TIMEOUT);
    say(f, "CANCEL=1\n");
    assert_int_equal(attach(f, true, &found, &e), -ECANCELED);
    assert_int_equal(e.kind, ERROR_CANCELLED);
}

/* ---- programmer ---- */

static void test_start_programmer(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;

    f->session = session_new(&f->w);
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_ok(session_start_programmer(f->session, &found, programmer, sizeof(programmer), &e), &e);
    assert_false(f->session->programmer_was_running);
    assert_int_equal(f->session->geometry.blocks, 2048);
    assert_int_equal(f->session->geometry.page_size, 4096);
    assert_int_equal(f->session->geometry.pages_per_block, 64);
    assert_true(f->session->capabilities.digest);
    assert_true(f->session->capabilities.skip_bad_block);
    assert_false(f->session->capabilities.vendor_check);
    assert_non_null(strstr(f->session->last_error_log, "nothing serious"));
    assert_told(f, KEY_PHASE, "wait-device");
    assert_told(f, KEY_PHASE, "sahara");
    assert_told(f, KEY_PHASE, "upload-programmer");
    assert_told(f, KEY_PHASE, "configure");
    const char *log = next_told(f, KEY_LOG);
    while (log && !strstr(log, "nothing serious"))
        log = next_told(f, KEY_LOG);
    assert_non_null(log);
    assert_string_equal(log, "ERROR: modem: nothing serious");
    assert_told(f, KEY_STORAGE, "nand 4096/256K x 2048");
}

static void test_programmer_runs_already(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem running = the_unit;
    struct detect_result found;
    struct error e;

    running.running = true;
    f->session = session_new(&f->w);
    plug(f, &running, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_int_equal(found.state, DETECT_FIREHOSE);
    assert_told(f, KEY_MODE, "firehose");
    assert_told(f, KEY_SERIAL, SERIAL); /* from the product string; nothing else can be asked */
    assert_false(f->session->identity.have_hwid);
    assert_ok(session_start_programmer(f->session, &found, NULL, 0, &e), &e);
    assert_true(f->session->programmer_was_running);
    assert_int_equal(f->session->geometry.blocks, 2048);
    assert_false(f->session->capabilities.digest);
}

static void test_cancel_does_not_cut_the_upload(void **state)
{
    struct fixture *f = *state;
    struct detect_result found;
    struct error e;

    f->session = session_new(&f->w);
    plug(f, &the_unit, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    say(f, "CANCEL=1\n");
    assert_int_equal(session_start_programmer(f->session, &found, programmer, sizeof(programmer), &e),
                     -ECANCELED);
    assert_int_equal(e.kind, ERROR_CANCELLED);
    assert_int_equal(f->session->geometry.blocks, 2048); /* it came to its end first */
    assert_false(f->w.critical);
}

/* ---- holding ---- */

static void start_holding(struct fixture *f, unsigned chatter)
{
    struct scripted_modem m = the_unit;
    struct detect_result found;
    struct error e;
    m.chatter = chatter;
    m.running = true;
    f->session = session_new(&f->w);
    plug(f, &m, PRODUCT);
    assert_ok(attach(f, true, &found, &e), &e);
    assert_ok(session_start_programmer(f->session, &found, NULL, 0, &e), &e);
}

static void test_hold_until_released(void **state)
{
    struct fixture *f = *state;
    start_holding(f, 2);
    say(f, "CANCEL=1\n"); /* came late: passed over */
    say(f, "RELEASE=1\n");
    assert_int_equal(session_hold(f->session), 0);
    assert_true(f->w.release);
}

static void test_hold_until_the_service_ends(void **state)
{
    struct fixture *f = *state;
    start_holding(f, 2);
    f->service = close_fd(f->service);
    assert_int_equal(session_hold(f->session), 0);
    assert_true(f->w.stop);
}

static void test_hold_until_the_modem_goes(void **state)
{
    struct fixture *f = *state;
    start_holding(f, 2);
    modem_unplug(&f->modems[0]);
    assert_int_equal(session_hold(f->session), 0);
    assert_false(f->w.stop || f->w.release);
}

/* ---- jobs ---- */

static void test_job_identify(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o = {.result = "done"};
    plug(f, &the_unit, PRODUCT);
    assert_ok(job_identify(&f->w, &o), &o.error);
    f->session = o.hold;
    assert_non_null(o.hold); /* its hello is in our hands */
    assert_told(f, KEY_READY, "1");
    assert_told(f, "REPORT.mode", "sahara");
    assert_told(f, "REPORT.serial", SERIAL);
    assert_told(f, "REPORT.hwid", "000cf0e100000000");
    assert_told(f, "REPORT.chip", "SDX55");
    assert_told(f, "REPORT.sahara-version", "2");
}

static void test_job_identify_firehose(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem m = the_unit;
    struct job_outcome o = {.result = "done"};
    m.running = true;
    plug(f, &m, PRODUCT);
    assert_ok(job_identify(&f->w, &o), &o.error);
    f->session = o.hold;
    assert_non_null(o.hold);
    assert_told(f, KEY_STORAGE, "nand 4096/256K x 2048");
    assert_told(f, "REPORT.mode", "firehose");
    assert_told(f, "REPORT.serial", SERIAL);
    assert_told(f, "REPORT.storage", "nand 4096/256K x 2048");
}

static void test_job_identify_crash_dump(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem m = the_unit;
    struct job_outcome o = {.result = "done"};
    m.crashed = true;
    plug(f, &m, "QUSB__BULK");
    assert_ok(job_identify(&f->w, &o), &o.error);
    assert_null(o.hold);
    assert_told(f, "REPORT.mode", "crash-dump");
}

static int reset(struct fixture *f, const struct scripted_modem *m, const char *job, const char *then,
                 struct job_outcome *o)
{
    *o = (struct job_outcome){.result = "done"};
    say(f, job);
    assert_int_equal(worker_receive_job(&f->w), 1);
    plug(f, m, PRODUCT);
    if (then) {
        /* The modem's way out is long enough that nobody hears this before its RESET: a child says it once we
         * wait for it. */
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            for (;;) {
                struct pollfd p = {.fd = f->service, .events = POLLIN};
                if (poll(&p, 1, 20000) != 1 ||
                    link_receive(f->service, 0, link_keys_from_worker, &f->told) != 1)
                    _exit(1);
                const char *wait = link_get(&f->told, KEY_WAIT_DEVICE);
                if (wait && strcmp(wait, "normal") == 0)
                    break;
            }
            say(f, then);
            _exit(0);
        }
        child_clock_watch(pid);
        int r = job_reset(&f->w, o);
        int status;
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
        return r;
    }
    return job_reset(&f->w, o);
}

static void test_job_reset_sahara(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o;
    assert_ok(
        reset(f, &the_unit, "JOB=reset\nOPTION.mode=normal\n", "APPEARED=normal\nVID=2c7c\nPID=0800\n", &o),
        &o.error);
    assert_string_equal(o.result, "done");
    assert_null(o.hold);
    assert_told(f, "REPORT.came-back", "normal");
}

static void test_job_reset_firehose(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem m = the_unit;
    struct job_outcome o;
    m.running = true;
    assert_ok(reset(f, &m, "JOB=reset\n", "APPEARED=normal\nVID=2c7c\nPID=0800\n", &o), &o.error);
    assert_told(f, "REPORT.came-back", "normal");
}

static void test_job_reset_of_a_brick(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o;
    assert_true(reset(f, &the_unit, "JOB=reset\n", "APPEARED=edl\nVID=05c6\nPID=9008\n", &o) < 0);
    assert_string_equal(o.result, "not-returned");
    assert_int_equal(o.error.hint, HINT_IMPORT_FIRMWARE);
}

static void test_job_reset_of_a_rom_that_stays(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem m = the_unit;
    struct job_outcome o;
    m.stays = true;
    assert_int_equal(reset(f, &m, "JOB=reset\n", NULL, &o), -EPROTOTYPE);
    f->session = o.hold;
    assert_string_equal(o.result, "not-returned");
    assert_int_equal(o.error.hint, HINT_POWER_CYCLE);
    assert_non_null(o.hold);
    assert_told(f, "REPORT.reset", "normal");
}

static void test_job_reset_never_returns(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o;
    assert_int_equal(reset(f, &the_unit, "JOB=reset\nOPTION.boot-usec=50000\n", NULL, &o), -ETIMEDOUT);
    assert_string_equal(o.result, "not-returned");
}

static void test_job_reset_to_edl(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o;
    assert_ok(reset(f, &the_unit, "JOB=reset\nOPTION.mode=edl\n", NULL, &o), &o.error);
    f->session = o.hold;
    assert_non_null(o.hold); /* it is there already */
    assert_told(f, "REPORT.reset", "not needed");
}

static void test_job_reset_off_needs_a_programmer(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o;
    assert_int_equal(reset(f, &the_unit, "JOB=reset\nOPTION.mode=off\n", NULL, &o), -EOPNOTSUPP);
    assert_int_equal(o.error.kind, ERROR_UNSUPPORTED);
}

static void test_job_reset_off(void **state)
{
    struct fixture *f = *state;
    struct scripted_modem m = the_unit;
    struct job_outcome o;
    m.running = true;
    assert_ok(reset(f, &m, "JOB=reset\nOPTION.mode=off\n", NULL, &o), &o.error);
    assert_told(f, "REPORT.reset", "off");
}

static void test_job_reset_mode(void **state)
{
    struct fixture *f = *state;
    struct job_outcome o = {.result = "done"};
    say(f, "JOB=reset\nOPTION.mode=gently\n");
    assert_int_equal(worker_receive_job(&f->w), 1);
    assert_int_equal(job_reset(&f->w, &o), -EINVAL);
    assert_null(next_told(f, KEY_READY)); /* an error of the call */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product_serial),
        TEST(test_identity_parts),
        TEST(test_recognized),
        TEST(test_first_conversation_breaks_off),
        TEST(test_leaves_when_it_is_asked),
        TEST(test_identify),
        TEST(test_same_unit_again),
        TEST(test_other_serial),
        TEST(test_other_hwid),
        TEST(test_other_pk_hash),
        TEST(test_unit_that_does_not_tell),
        TEST(test_other_unit_in_firehose),
        TEST(test_expected_unit),
        TEST(test_unexpected_unit),
        TEST(test_unexpected_unit_in_firehose),
        TEST(test_unexpected_unit_is_allowed),
        TEST(test_leaves_while_it_is_looked_at),
        TEST(test_never_comes),
        TEST(test_start_programmer),
        TEST(test_programmer_runs_already),
        TEST(test_cancel_does_not_cut_the_upload),
        TEST(test_hold_until_released),
        TEST(test_hold_until_the_service_ends),
        TEST(test_hold_until_the_modem_goes),
        TEST(test_job_identify),
        TEST(test_job_identify_firehose),
        TEST(test_job_identify_crash_dump),
        TEST(test_job_reset_sahara),
        TEST(test_job_reset_firehose),
        TEST(test_job_reset_of_a_brick),
        TEST(test_job_reset_of_a_rom_that_stays),
        TEST(test_job_reset_never_returns),
        TEST(test_job_reset_to_edl),
        TEST(test_job_reset_off_needs_a_programmer),
        TEST(test_job_reset_off),
        TEST(test_job_reset_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
