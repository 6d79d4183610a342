/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/boot.h"

#include <errno.h>
#include <string.h>

#include "transport/transport.h"

static const usec_t boot_time = 180 * USEC_PER_SEC; /* flash rule 10 */
/* From the ACK to the end of the USB connection: programmers take up to 10 s of their own
 * (reference/edl.md 2.11). */
static const usec_t leave_time = 20 * USEC_PER_SEC;

enum { APPEARANCES_MAX = 2 }; /* in another mode than normal: the first boot after a flash may reboot once */

int boot_reset(struct flash *f, struct error *e)
{
    struct worker *w = f->worker;
    struct error own = {0};
    worker_phase(w, "reset", NULL);
    w->appeared[0] = '\0'; /* what appears from now on is the answer */
    int r = firehose_power(f->session->firehose, FIREHOSE_POWER_RESET, &own);
    if (r == 0)
        r = transport_wait(f->session->transport, w->link, worker_wake, w, deadline_in(leave_time));
    if (r == -ENODEV) { /* gone is what was wanted */
        f->programmer_up = false;
        session_detach(f->session);
        return 0;
    }
    int asked = worker_check(w, e);
    if (asked < 0)
        return asked;
    if (own.kind != ERROR_NONE && e)
        *e = own;
    else
        r = error_set(e, ERROR_TIMEOUT,
                      "the flash is complete and verified; the modem was told to reset and did not");
    error_hint(e, HINT_POWER_CYCLE);
    return r;
}

int boot_wait(struct flash *f, const char **ret_result, struct error *e)
{
    struct worker *w = f->worker;
    usec_t deadline = deadline_in(worker_option_u64(w, "boot-usec", boot_time));

    /* Nothing is being written any more: whoever does not want to wait may go. A CANCEL from before is too
     * late. */
    w->cancel = false;
    worker_state(w, false, true);
    worker_phase(w, "wait-normal", NULL);
    char last[sizeof(w->appeared)] = "";
    for (unsigned appearances = 0;;) {
        if (!w->appeared[0])
            worker_tell(w, KEY_WAIT_DEVICE, "normal");
        int r = worker_wait_appeared(w, deadline, e);
        if (r == -ETIMEDOUT) {
            *ret_result = "not-returned";
            r = error_set(e, ERROR_TIMEOUT,
                          "the flash is complete and verified, but the modem did not come back in normal "
                          "mode in time%s%s",
                          *last ? "; it was last seen in mode " : "", last);
            error_hint(e, HINT_POWER_CYCLE);
        }
        if (r == -ECANCELED || r == -EINTR)
            return error_set(
                e, r == -EINTR ? ERROR_INTERRUPTED : ERROR_CANCELLED,
                "the flash is complete and verified and the modem was reset; its boot was not waited for");
        if (r < 0)
            return r;
        if (strcmp(w->appeared, "normal") == 0)
            return 0;
        worker_log(w, "WARN: the modem came back in mode %s", w->appeared);
        snprintf(last, sizeof(last), "%s", w->appeared);
        if (++appearances < APPEARANCES_MAX) {
            w->appeared[0] = '\0';
            continue;
        }
        *ret_result = "not-returned";
        r = error_set(
            e, ERROR_WRONG_MODE,
            "the flash is complete and verified, but the modem came back in mode %s and not in normal mode",
            w->appeared);
        error_hint(e, HINT_POWER_CYCLE);
        return r;
    }
}

int boot_untouched(struct flash *f)
{
    struct session *s = f->session;
    struct error e = {0};
    if (!s || !s->transport)
        return -ENODEV;
    worker_state(f->worker, false, false);
    worker_phase(f->worker, "reset", NULL);
    int r = s->programmer_runs && s->firehose ? firehose_power(s->firehose, FIREHOSE_POWER_RESET, &e)
                                              : sahara_reset(s->transport, &e);
    if (r == -ENODEV)
        r = 0;
    if (r == 0)
        worker_log(f->worker, "nothing was changed; the modem was reset to normal mode");
    else
        worker_log(f->worker,
                   "WARN: nothing was changed, but the modem could not be reset to normal mode: %s",
                   e.message);
    worker_state(f->worker, false, true);
    return r;
}
