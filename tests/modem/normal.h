/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Normal mode: all that is there of the running firmware is its DIAG port (diag.h), and the file system that
 * it keeps in EFS2 (efs.h).
 */

#include "modem.h"

/* Until the host ends it by DIAG (an enum mode_end), or until us microseconds are over (MODE_TIME; -1
   never), or -ENODEV. */
int normal_run(struct modem *m, const char *version, int64_t us);
