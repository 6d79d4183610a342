/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* qdlctl doctor: what stands between a modem and the service, and the command that cures it. */

#include "qdlctl.h"

enum doctor_state { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_PROBLEM };

/* One finding; cure: what helps, NULL: nothing is needed. */
void doctor_say(enum doctor_state state, const char *cure, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* True if the service has an object for the device of this kernel name ("1-2.3"), and a job or a holder on
 * it. */
bool doctor_knows(const char *kernel_name);
bool doctor_has_job(const char *kernel_name);

/* ---- doctor-usb.c ---- */
void doctor_check_usb(void);
