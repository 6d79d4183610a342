/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The refusals that a caller lifts with the option allow, by the name of the error that refuses. */

#include "service/errors.h"

enum {
    REFUSALS_SIZE = 256,        /* a comma list of all of them */
    REFUSALS_PHRASE_SIZE = 512, /* all of them in words */
};

/* The option's list as a comma list, each once and in one order; empty for none. InvalidArgs names one that
 * is not known. */
int refusals_read(char *const *allow, char out[REFUSALS_SIZE], sd_bus_error *error);

/* What a person who shall authorise it reads of such a comma list: "it erases the calibration
 * (EraseCalibration) and there is no backup (NoBackup)". */
void refusals_print(const char *lifted, char out[REFUSALS_PHRASE_SIZE]);
