/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * fwupd, asked to update nothing while a job or a guard has a modem: its modem plugins flash some of them
 * themselves. Inhibit(s reason) -> s id makes every device "not updatable" until Uninhibit(s id) or until we
 * leave the bus; no polkit question is asked (fwupd 1.8.10 to 2.0.20, src/fu-dbus-daemon.c). It keeps nobody
 * from looking: qc-firehose still opens what appears in 9008, for which the transport waits (usb.c).
 */

#include <stdbool.h>
#include "service/manager.h"

struct fwupd;

/* Never fails for want of fwupd, which is not started either. -ENOMEM, or what the bus says of our match. */
int fwupd_new(struct manager *m, struct fwupd **ret);
struct fwupd *fwupd_free(struct fwupd *f);

/* Whether it shall keep still; asks or gives back only where that is new, and asks one that starts meanwhile.
 */
void fwupd_keep_still(struct fwupd *f, bool still);
