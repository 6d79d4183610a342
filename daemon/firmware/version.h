/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Quectel's version names: RM502QGLAAR11A02M4G_01.001.01.001 is model RM502QGL, hardware AA, baseline R11,
 * release A02, memory 4G, edition 01.001.01.001. Prefix, baseline and memory decide whether a package is for
 * a modem (flash rule 2). Also EG25GGBR07A08M2G_30.006.30.006, EC25EUGAR06A07M4G, RM500QGLABR11A03M4G_BETA…:
 * the edition is what follows the first '_'.
 */

#include <stdbool.h>
#include "base/error.h"

struct version {
    char name[128];   /* the whole, as given */
    char model[32];   /* "RM502QGL" : the prefix without its last two characters, the hardware code */
    char prefix[32];  /* "RM502QGLAA" : everything before Rnn */
    char baseline[8]; /* "R05" */
    char release[8];  /* "A02" */
    char memory[8];   /* "M4G" ("" if the name has none) */
    char edition[64]; /* "01.001.01.001" ("" if absent) */
};

/* -EINVAL if it is not such a name; nothing is written then. */
int version_parse(const char *name, struct version *ret);

/*
 * Do a package and a modem match (rule 2)? 0; -EPERM with WrongFirmware naming both and the part that
 * differs. A memory code that one of them lacks is not compared.
 */
int version_match(const struct version *package, const struct version *modem, struct error *e);
