/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The end of a job that changed the flash (flash rule 10): reset, the wait for the modem in normal mode, and
 * the question what it runs.
 */

#include "worker/session.h"

struct boot {
    struct worker *worker;
    struct session *session;
    const char *done;    /* what is done already, for messages: "the flash is complete and verified" */
    bool by_another;     /* by an earlier job, and nothing by this one: another unit is an error */
    const char *version; /* what it shall run then; NULL: whatever it tells */
};

/* Resets the modem and waits until it has left the bus; the session is detached then. Timeout if it does not;
 * Interrupted. */
int boot_reset(const struct boot *b, struct error *e);
/*
 * Waits (option boot-usec) until it is there in normal mode; one reboot more is allowed, another port or PID
 * too. *ret_result becomes "not-returned" when it does not come. Cancel and stop end only the wait.
 */
int boot_wait(const struct boot *b, const char **ret_result, struct error *e);

/*
 * The modem is in normal mode: it is asked what it runs and whether it still has its calibration. *ret_result
 * becomes "wrong-version" or "no-calibration", with an error; a modem that cannot be asked is reported as not
 * confirmed and is no failure.
 */
int boot_confirm(const struct boot *b, const char **ret_result, struct error *e);

/* Flash rule 11: nothing was changed, so a modem that was taken from normal mode goes back there. 0 if it was
 * told to. */
int boot_untouched(struct worker *w, struct session *s);
