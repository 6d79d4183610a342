/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Normal mode: all that is there of the running firmware is its DIAG port (reference/edl.md 3.2), which knows
 * the version and the way to 9008. HDLC frames, CRC-16/X-25.
 */

#include "modem.h"

/* Until it is switched to 9008 (MODE_RESET_TO_EDL), or until us microseconds are over (MODE_RESET; -1 never),
   or -ENODEV. */
int normal_run(struct modem *m, const char *version, int64_t us);
