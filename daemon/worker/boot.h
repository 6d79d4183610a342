/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The end of a flash (flash rule 10): reset, and the wait for the modem in normal mode. */

#include "worker/flash.h"

/* Resets the modem and waits until it has left the bus. Timeout if it does not; Interrupted. */
int boot_reset(struct flash *f, struct error *e);
/*
 * Waits (option boot-usec) until it is there in normal mode; one reboot more is allowed, another port or PID
 * too. *ret_result becomes "not-returned" when it does not come. Cancel and stop end only the wait.
 */
int boot_wait(struct flash *f, const char **ret_result, struct error *e);

/*
 * The modem is in normal mode: it is asked what it runs and whether it still has its calibration. *ret_result
 * becomes "wrong-version" or "no-calibration", with an error; a modem that cannot be asked is reported as not
 * confirmed and is no failure.
 */
int boot_confirm(struct flash *f, const char **ret_result, struct error *e);
/*
 * Was the journal's flash completed, and its modem told to boot? Then it may be booting now, or have booted
 * since: the service voids such a journal once the modem is in 9008 again after that. f->journal is that one
 * then.
 */
bool boot_was_begun(struct flash *f);

/* Flash rule 11: nothing was changed, so a modem that was taken from normal mode goes back there. 0 if it was
 * told to. */
int boot_untouched(struct flash *f);
