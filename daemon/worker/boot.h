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
    const char *version; /* what it shall run then; NULL: whatever it tells */
};

/* Resets the modem and waits until it has left the bus; the session is detached then. Timeout if it does not;
 * Interrupted. */
int boot_reset(const struct boot *b, struct error *e);
/*
 * Waits (option boot-usec) until this unit is there in normal mode and asks it what it runs and whether it
 * still has its calibration; one reboot more is allowed, another port or PID too. What is another unit is no
 * answer: its own is waited for. *ret_result becomes "not-returned", "wrong-version" or "no-calibration",
 * with an error; a modem that cannot be asked is reported as not confirmed and is no failure. Cancel and stop
 * end only the wait.
 */
int boot_await(const struct boot *b, const char **ret_result, struct error *e);
/*
 * The same where an earlier job has done all, and the modem is in normal mode already: another unit is an
 * error (WrongUnit).
 */
int boot_confirm(const struct boot *b, const char **ret_result, struct error *e);

/* Flash rule 11: nothing was changed, so a modem that was taken from normal mode goes back there. 0 if it was
 * told to. */
int boot_untouched(struct worker *w, struct session *s);
