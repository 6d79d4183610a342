/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Gate 2 (flash rule 1): programmer up, nothing changed yet, and the last moment to say no. Everything here
 * only reads.
 */

#include "worker/flash.h"

/* Before the programmer is sent: the chip of the package and the one that the modem told. WrongFirmware;
 * lifted by its name. */
int gate_chip(struct flash *f, struct error *e);

/*
 * Geometry, partition table (told as TABLE=), bad-block map, the plan judged with them, project name, vendor
 * check, version. resumed: the modem is in the middle of this very flash; what the first run asked of a whole
 * modem is not asked again. Fills f->map, f->at_gate, f->steps. GeometryDiffers, EraseCalibration,
 * FirmwareInvalid, WrongFirmware, VersionUnknown.
 */
int gate_storage(struct flash *f, bool resumed, struct error *e);

/*
 * Do two names mean the same chip: "SDX6x" and "SDX62", "MDM9x07" and "MDM9607", "SDX55" and "SDX55M",
 * "SDX20" and "MDM9x65"? True if one of them is empty: then nothing can be said.
 */
bool gate_chips_agree(const char *a, const char *b);
