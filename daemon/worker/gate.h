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

/* RAWDATA by the modem's own table (NULL: none), the recorded ones, the package's; NULL if none names it. */
const struct mibib_partition *gate_partition(const struct flash *f, const struct mibib_table *modem,
                                             const char *name);
/* The modem's own table in `room` and its block, or *ret NULL if it has none. map: as for mibib_read(). */
int gate_read_table(struct flash *f, struct nand_map *map, struct mibib_table *room,
                    const struct mibib_table **ret, struct error *e);

/* ---- gate-again.c ---- */

/* The last part of gate_storage(): fills f->facts for a unit whose serial says nothing. */
int gate_remember(struct flash *f, const struct mibib_table *modem, struct error *e);
/*
 * A unit that does not tell who it is came back in the middle: table, project and bad blocks are read again
 * and must be those that the gate saw, but for what this flash itself has changed. WrongUnit, nothing
 * written.
 */
int gate_again(struct flash *f, struct error *e);
void gate_facts_done(struct gate_facts *facts);

/*
 * Do two names mean the same chip: "SDX6x" and "SDX62", "MDM9x07" and "MDM9607", "SDX55" and "SDX55M",
 * "SDX20" and "MDM9x65"? True if one of them is empty: then nothing can be said.
 */
bool gate_chips_agree(const char *a, const char *b);
