/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One line for "systemctl status qdld": the jobs that run, each with its modem, phase and percent, or the
 * modems that are held; whether the service stops, or waits for its end to be started anew.
 * "flash 17 on RM502Q-GL at 1-2: program 43 %; import 18: copy 7 %".
 */

#include <stddef.h>
#include "service/manager.h"

enum { STATUS_MAX = 480 };

/* Always terminated (at least STATUS_MAX bytes of out); what does not fit is counted: "...; 3 more". */
void status_print(const struct manager *m, char out[STATUS_MAX]);
/*
 * STATUS= to systemd, if it is another than it was told last. What there is no room for now (notify.h) is
 * told with the next change.
 */
void status_tell(struct manager *m);
