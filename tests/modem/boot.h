/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Does this flash boot? The ROM needs a whole SBL, the SBL a whole partition table, and the rest an image
 * that says its version (QUECTEL_VERSION=name in the modem or system partition). A partition whose last
 * program command never came to its end is not whole, whatever its first words are.
 */

#include <stdbool.h>
#include <stddef.h>

#include "nand.h"

enum { BOOT_VERSION_MAX = 96, BOOT_REASON_MAX = 128 };

/* True: it boots, and says this version. False: reason says why not. */
bool boot_decide(const struct nand *n, char version[BOOT_VERSION_MAX], char reason[BOOT_REASON_MAX]);
