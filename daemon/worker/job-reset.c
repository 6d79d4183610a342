/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A modem is started anew. In EDL or in a crash dump: mode normal boots it, edl brings a running programmer
 * back to Sahara, off switches it off. One that runs its firmware (option normal=1) is told so over DIAG:
 * also the only way back from offline (reference/diag.md 2.3). What came of it is waited for and reported.
 */

#include <errno.h>
#include <string.h>

#include "transport/transport.h"
#include "worker/running.h"
#include "worker/session.h"

static const usec_t wait_device = 60 * USEC_PER_SEC;
/* From the command to the end of the USB connection: a programmer may wait 10 s of its own accord
 * (reference/edl.md 2.11), a ROM restarts at once or not at all. */
static const usec_t programmer_leaves = 20 * USEC_PER_SEC;
static const usec_t rom_leaves = 3 * USEC_PER_SEC;
static const usec_t boot = 180 * USEC_PER_SEC; /* as after a flash (flash rule 10) */

enum reset_mode { RESET_NORMAL, RESET_EDL, RESET_OFF };

static int parse_mode(const char *text, enum reset_mode *ret, struct error *e)
{
    static const char *const names[] = {[RESET_NORMAL] = "normal", [RESET_EDL] = "edl", [RESET_OFF] = "off"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(names[i], text) != 0)
            continue;
        *ret = (enum reset_mode)i;
        return 0;
    }
    return error_set(e, ERROR_INVALID_ARGS, "mode is normal, edl or off, not \"%s\"", text);
}

static int power(struct session *s, enum reset_mode mode, struct error *e)
{
    static const enum firehose_power powers[] = {[RESET_NORMAL] = FIREHOSE_POWER_RESET,
                                                 [RESET_EDL] = FIREHOSE_POWER_EDL,
                                                 [RESET_OFF] = FIREHOSE_POWER_OFF};
    s->firehose = firehose_new(s->transport);
    if (!s->firehose)
        return error_set(e, ERROR_FAILED, "no memory for the Firehose session");
    return firehose_power(s->firehose, powers[mode], e);
}

/* Sends what this state of the modem needs. 1: it is on its way; 0: there is nothing to do. */
static int send_reset(struct session *s, const struct detect_result *found, enum reset_mode mode,
                      struct error *e)
{
    if (found->state == DETECT_STREAMING)
        return error_set(e, ERROR_WRONG_MODE,
                         "the modem speaks streaming download (HDLC): it cannot be reset from here");
    if (found->state == DETECT_SAHARA && mode == RESET_EDL)
        return 0;
    if (found->state != DETECT_FIREHOSE && mode != RESET_NORMAL)
        return error_set(e, ERROR_UNSUPPORTED,
                         "only a running programmer can do that; this modem can only be reset to normal");

    struct worker *w = s->worker;
    worker_phase(w, "reset", NULL);
    worker_state(w, false, false);
    w->appeared[0] = '\0'; /* what appears from now on is its answer */
    int r = found->state == DETECT_FIREHOSE ? power(s, mode, e) : sahara_reset(s->transport, e);
    /* Gone already is what was wanted. */
    if (r == -ENODEV) {
        *e = (struct error){0};
        r = 0;
    }
    worker_state(w, false, true);
    return r < 0 ? r : 1;
}

/*
 * Until the old appearance is over, so that it is not taken for the new one. 1: the modem left; 0: it stayed
 * and speaks Sahara (again): some ROMs answer RESET with nothing but the next HELLO (reference/edl.md 1.5).
 */
static int await_gone(struct session *s, const struct detect_result *found, struct error *e)
{
    bool programmer = found->state == DETECT_FIREHOSE, hello = false;
    usec_t deadline = deadline_in(programmer ? programmer_leaves : rom_leaves);
    int r = 0;
    while (r == 0 && !hello) {
        uint8_t packet[512];
        struct sahara_hello unused;
        size_t n;
        r = transport_read(s->transport, packet, sizeof(packet), deadline, &n, NULL);
        hello = r == 0 && sahara_parse_hello(packet, n, &unused) == 0;
        if (r == 0 && now_usec() >= deadline)
            r = -ETIMEDOUT;
    }
    int asked = worker_check(s->worker, e);
    if (asked < 0)
        return asked;
    if (r == -ENODEV) {
        session_detach(s);
        return 1;
    }
    if (hello || (r == -ETIMEDOUT && !programmer))
        return 0;
    r = error_set(e, ERROR_TIMEOUT, "the modem took the command and did not leave the bus");
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

static int no_firmware(struct job_outcome *o, const char *mode)
{
    o->result = "not-returned";
    int r =
        error_set(&o->error, ERROR_WRONG_MODE,
                  "the modem was reset and came back in mode \"%s\": it has no firmware that boots", mode);
    error_hint(&o->error, HINT_IMPORT_FIRMWARE);
    return r;
}

static int await_normal(struct worker *w, struct job_outcome *o)
{
    worker_phase(w, "wait-normal", NULL);
    worker_tell(w, KEY_WAIT_DEVICE, "normal");
    int r = worker_wait_appeared(w, deadline_in(worker_option_u64(w, "boot-usec", boot)), &o->error);
    if (r == -ETIMEDOUT) {
        o->result = "not-returned";
        r = error_set(&o->error, ERROR_TIMEOUT,
                      "the modem was reset and did not come back in the time allowed");
        error_hint(&o->error, HINT_POWER_CYCLE);
    }
    if (r < 0)
        return r;
    worker_report(w, "came-back", "%s", w->appeared);
    if (strcmp(w->appeared, "normal") == 0)
        return 0;
    return no_firmware(o, w->appeared);
}

/* Nothing follows from it for the firmware: this ROM did not try to boot any. */
static int not_restarted(struct job_outcome *o)
{
    o->result = "not-returned";
    int r = error_set(&o->error, ERROR_WRONG_MODE,
                      "the modem took the command, but it did not leave the bus and speaks Sahara again: it "
                      "was not started anew");
    error_hint(&o->error, HINT_POWER_CYCLE);
    return r;
}

static int await_edl(struct session *s, usec_t deadline, struct detect_result *found, struct error *e)
{
    int r = session_attach(s, deadline, false, found, e);
    if (r < 0)
        return r;
    if (found->state != DETECT_SAHARA)
        return error_set(e, ERROR_WRONG_MODE, "the programmer was told to go back to Sahara and did not");
    return 0;
}

static int reset_running(struct worker *w, enum reset_mode mode, struct job_outcome *o)
{
    struct running running = {.worker = w};
    if (mode == RESET_EDL)
        return job_enter_edl(w, o);
    worker_ready(w);
    int r = running_attach(&running, deadline_in(worker_option_u64(w, "wait-device-usec", wait_device)),
                           &o->error);
    worker_state(w, false, false);
    if (r == 0)
        r = running_restart(&running, mode == RESET_OFF ? DIAG_MODE_POWER_OFF : DIAG_MODE_RESET, &o->error);
    running_detach(&running);
    worker_state(w, false, true);
    if (r < 0)
        return r;
    worker_report(w, "reset", "%s", worker_option(w, "mode", "normal"));
    return mode == RESET_OFF ? 0 : await_normal(w, o);
}

int job_reset(struct worker *w, struct job_outcome *o)
{
    enum reset_mode mode = RESET_NORMAL;
    int r = parse_mode(worker_option(w, "mode", "normal"), &mode, &o->error);
    if (r < 0)
        return r;
    if (worker_option_u64(w, "normal", 0) == 1)
        return reset_running(w, mode, o);
    _cleanup_(session_freep) struct session *s = session_new(w);
    struct detect_result found;
    if (!s)
        return -ENOMEM;

    /* A ROM that is asked what state it is in may take that for the reset (reference/edl.md 1.5). */
    s->hears_of_normal = s->normal_will_do = mode == RESET_NORMAL;
    worker_ready(w);
    usec_t wait = worker_option_u64(w, "wait-device-usec", wait_device);
    r = session_attach(s, deadline_in(wait), false, &found, &o->error);
    if (r == -EALREADY) {
        worker_report(w, "reset", "normal");
        worker_report(w, "came-back", "normal");
        return 0;
    }
    if (r < 0)
        return r;
    r = send_reset(s, &found, mode, &o->error);
    if (r < 0)
        return r;
    worker_report(w, "reset", "%s", r > 0 ? worker_option(w, "mode", "normal") : "not needed");
    if (r == 0) {
        o->hold = steal_ptr(s);
        return 0;
    }
    r = await_gone(s, &found, &o->error);
    if (r < 0 || (r > 0 && mode == RESET_OFF))
        return MIN_OF(r, 0);
    if (r > 0 && mode == RESET_NORMAL)
        return await_normal(w, o);
    if (r > 0)
        r = await_edl(s, deadline_in(wait), &found, &o->error);
    if (r < 0)
        return r;
    o->hold = steal_ptr(s);
    if (mode != RESET_EDL)
        return not_restarted(o);
    worker_report(w, "came-back", "sahara");
    return 0;
}
