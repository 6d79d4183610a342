/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/boot.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "transport/transport.h"
#include "worker/running.h"

static const usec_t boot_time = 180 * USEC_PER_SEC; /* flash rule 10 */
/* From the ACK to the end of the USB connection: programmers take up to 10 s of their own
 * (reference/edl.md 2.11). */
static const usec_t leave_time = 20 * USEC_PER_SEC;

enum { APPEARANCES_MAX = 2 }; /* in another mode than normal: the first boot after a flash may reboot once */

int boot_reset(const struct boot *b, struct error *e)
{
    struct worker *w = b->worker;
    struct error own = {0};
    worker_phase(w, "reset", NULL);
    w->appeared[0] = '\0'; /* what appears from now on is the answer */
    int r = firehose_power(b->session->firehose, FIREHOSE_POWER_RESET, &own);
    if (r == 0)
        r = transport_wait(b->session->transport, w->link, worker_wake, w, deadline_in(leave_time));
    if (r == -ENODEV) { /* gone is what was wanted */
        session_detach(b->session);
        return 0;
    }
    int asked = worker_check(w, e);
    if (asked < 0)
        return asked;
    if (own.kind != ERROR_NONE && e)
        *e = own;
    else
        r = error_set(e, ERROR_TIMEOUT, "%s; the modem was told to reset and did not", b->done);
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

/* The wait for the boot, over all that appears meanwhile. */
struct wait {
    usec_t deadline;
    unsigned appearances;
    char last[sizeof((struct worker){0}.appeared)];  /* mode in which it came back, not the normal one; "" */
    char imei[sizeof((struct worker){0}.imei_hash)]; /* of the unit that is waited for; "" not known */
    char version[sizeof((struct running_identity){0}.version)]; /* of what was asked last; "" nothing was */
    bool was_gone; /* it was not handed over, or left, the last time */
    bool at_once;  /* and was there in normal mode as soon as it was waited for again: it is, and is silent */
    char another[ERROR_MESSAGE_SIZE /
                 2]; /* what was seen in normal mode and is not known to be this unit; "" */
};

static int not_returned(const struct boot *b, const struct wait *wait, const char **ret_result,
                        struct error *e)
{
    *ret_result = "not-returned";
    int r;
    if (*wait->another)
        r = error_set(e, ERROR_TIMEOUT, "%s, but the modem did not come back in normal mode in time; %s",
                      b->done, wait->another);
    else
        r = error_set(e, ERROR_TIMEOUT, "%s, but the modem did not come back in normal mode in time%s%s",
                      b->done, *wait->last ? "; it was last seen in mode " : "", wait->last);
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

/* Until something is there in normal mode. */
static int await_normal(const struct boot *b, struct wait *wait, const char **ret_result, struct error *e)
{
    struct worker *w = b->worker;
    for (;;) {
        if (!w->appeared[0])
            worker_tell(w, KEY_WAIT_DEVICE, "normal");
        int r = worker_wait_appeared(w, wait->deadline, e);
        if (r == -ETIMEDOUT)
            return not_returned(b, wait, ret_result, e);
        if (r == -ECANCELED || r == -EINTR)
            return error_set(e, r == -EINTR ? ERROR_INTERRUPTED : ERROR_CANCELLED,
                             "%s and the modem was reset; its boot was not waited for", b->done);
        if (r < 0)
            return r;
        if (strcmp(w->appeared, "normal") == 0)
            return 0;
        worker_log(w, "WARN: the modem came back in mode %s", w->appeared);
        snprintf(wait->last, sizeof(wait->last), "%s", w->appeared);
        if (++wait->appearances < APPEARANCES_MAX) {
            w->appeared[0] = '\0';
            continue;
        }
        *ret_result = "not-returned";
        r = error_set(e, ERROR_WRONG_MODE, "%s, but the modem came back in mode %s and not in normal mode",
                      b->done, w->appeared);
        error_hint(e, HINT_POWER_CYCLE);
        return r;
    }
}

/* ---- what it runs now ---- */

/* Its DIAG may take a while to answer after the boot, and the first boot may reboot once more. */
static const usec_t confirm_time = 60 * USEC_PER_SEC;
static const usec_t hand_over_time = 20 * USEC_PER_SEC;
#define AT_ONCE (1 * USEC_PER_SEC)

/* -ENODEV: it did not stay to be asked. *ret_absent: it was not handed over. */
static int ask(struct worker *w, struct running_identity *ret, bool *ret_absent, struct error *e)
{
    struct running running = {.worker = w};
    usec_t deadline = deadline_in(confirm_time);
    for (;;) {
        struct error own = {0};
        int r = running_attach(&running, MIN_OF(deadline, deadline_in(hand_over_time)), &own);
        if (r == 0)
            r = running_identify(&running, ret, &own);
        running_detach(&running);
        if (r == 0)
            return 0;
        *ret_absent = r == -ETIMEDOUT && !running.given;
        if ((r != -ENODEV && r != -ETIMEDOUT) || *ret_absent || now_usec() >= deadline) {
            *e = own;
            return r;
        }
    }
}

/*
 * Is what answered this job's modem? One that tells another IMEI than this unit had is not; one at another
 * connector that runs something else may be one that somebody has plugged in meanwhile.
 */
static bool is_another(const struct boot *b, struct wait *wait, const char *version)
{
    struct worker *w = b->worker;
    bool compared = wait->imei[0] && w->imei_hash[0];
    if (compared && strcmp(wait->imei, w->imei_hash) != 0)
        snprintf(wait->another, sizeof(wait->another),
                 "a modem that runs %s was seen, which tells another IMEI than this unit and is another one",
                 version);
    else if (!compared && w->elsewhere && !(b->version && text_equal_version(b->version, version)))
        snprintf(wait->another, sizeof(wait->another),
                 "a modem that runs %s was seen at another connector: whether it is this one cannot be told",
                 version);
    else
        return false;
    worker_log(w, "WARN: %s", wait->another);
    return true;
}

static int judge(const struct boot *b, const struct running_identity *id, const char **ret_result,
                 struct error *e)
{
    int r;
    worker_report(b->worker, "version", "%s", id->version);
    if (b->version && !text_equal_version(b->version, id->version)) {
        *ret_result = "wrong-version";
        r = error_set(e, ERROR_WRONG_FIRMWARE, "%s, but the modem runs %s and not %s", b->done, id->version,
                      b->version);
        error_hint(e, HINT_WRONG_FIRMWARE);
        return r;
    }
    if (!id->factory_test)
        return 0;
    *ret_result = "no-calibration";
    r = error_set(e, ERROR_CALIBRATION_AT_RISK,
                  "%s and the modem runs %s, but in factory test mode: its calibration is missing", b->done,
                  id->version);
    error_hint(e, HINT_RESTORE_BACKUP);
    return r;
}

static struct wait begin_wait(struct worker *w)
{
    struct wait wait = {.deadline = deadline_in(worker_option_u64(w, "boot-usec", boot_time))};
    snprintf(wait.imei, sizeof(wait.imei), "%s",
             w->imei_hash[0] ? w->imei_hash : worker_option(w, "unit-imei", ""));
    return wait;
}

enum { CONFIRM_ANOTHER = 1, CONFIRM_GONE };

/* It was seen in normal mode. One that stays there and tells nothing is no failure. */
static int confirm(const struct boot *b, struct wait *wait, const char **ret_result, struct error *e)
{
    struct worker *w = b->worker;
    struct running_identity id;
    struct error own = {0};
    bool absent = false;
    w->imei_hash[0] = '\0';
    int r = ask(w, &id, &absent, &own);
    if (r == -ECANCELED || r == -EINTR)
        return error_set(e, r == -EINTR ? ERROR_INTERRUPTED : ERROR_CANCELLED,
                         "%s and the modem has booted; its version was not compared", b->done);
    if (r == -ENODEV || (absent && !wait->at_once)) {
        worker_log(w, "WARN: the modem left normal mode before it told what it runs");
        return CONFIRM_GONE;
    }
    if (r < 0) {
        worker_log(w, "WARN: the modem does not tell what it runs: %s", own.message);
        return 0;
    }
    snprintf(wait->version, sizeof(wait->version), "%s", id.version);
    return is_another(b, wait, id.version) ? CONFIRM_ANOTHER : judge(b, &id, ret_result, e);
}

/* Until it says what it runs, or stays there and says nothing. */
static int await(const struct boot *b, struct wait *wait, const char **ret_result, struct error *e)
{
    struct worker *w = b->worker;
    worker_phase(w, "wait-normal", NULL);
    for (;;) {
        usec_t asked = now_usec();
        int r = await_normal(b, wait, ret_result, e);
        wait->at_once = wait->was_gone && now_usec() - asked < AT_ONCE;
        if (r == 0)
            r = confirm(b, wait, ret_result, e);
        if (r <= 0)
            return r;
        wait->was_gone = r == CONFIRM_GONE;
        worker_phase(w, "wait-normal", NULL);
        w->appeared[0] = '\0';
        if (r == CONFIRM_ANOTHER)
            worker_tell(w, KEY_WAIT_DEVICE, "another");
    }
}

int boot_await(const struct boot *b, const char **ret_result, struct error *e)
{
    struct worker *w = b->worker;
    struct wait wait = begin_wait(w);

    /* Nothing is being written any more: whoever does not want to wait may go. A CANCEL from before is too
     * late. */
    w->cancel = false;
    worker_state(w, false, true);
    return await(b, &wait, ret_result, e);
}

int boot_confirm(const struct boot *b, const char **ret_result, struct error *e)
{
    struct worker *w = b->worker;
    struct wait wait = begin_wait(w);
    int r = confirm(b, &wait, ret_result, e);
    if (r == CONFIRM_GONE) {
        w->appeared[0] = '\0';
        wait.was_gone = true;
        r = await(b, &wait, ret_result, e);
    }
    /* It was out of sight. */
    if (r <= 0 && wait.version[0] && !(wait.imei[0] && w->imei_hash[0]))
        worker_report(w, "version", "%s (not confirmed: no IMEI was known to tell that it is this unit)",
                      wait.version);
    if (r <= 0)
        return r;
    r = error_set(e, ERROR_WRONG_UNIT,
                  "%s, but what runs here is another unit, and nothing was written to it: the same call "
                  "made again flashes this one",
                  b->done);
    error_hint(e, HINT_RETRY);
    return r;
}

int boot_untouched(struct worker *w, struct session *s)
{
    struct error e = {0};
    if (!s || !s->transport)
        return -ENODEV;
    worker_state(w, false, false);
    worker_phase(w, "reset", NULL);
    int r = s->programmer_runs && s->firehose ? firehose_power(s->firehose, FIREHOSE_POWER_RESET, &e)
                                              : sahara_reset(s->transport, &e);
    if (r == -ENODEV)
        r = 0;
    if (r == 0)
        worker_log(w, "nothing was changed; the modem was reset to normal mode");
    else
        worker_log(w, "WARN: nothing was changed, but the modem could not be reset to normal mode: %s",
                   e.message);
    worker_state(w, false, true);
    return r;
}
