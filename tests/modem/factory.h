/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the factory wrote into EFS2: numbered NV items (IMEI, serials, configuration), RF calibration as item
 * files below /nv/item_files/rfnv, and files of configuration (reference/diag.md 4). Everything follows from
 * the chip serial, so that no two units have the same and a test knows what there must be.
 */

#include "efs.h"

enum {
    NV_ESN = 0,
    NV_FTM_MODE = 453,
    NV_IMEI = 550,
    NV_NEVER = 3252, /* the protocol breaks down over it (reference/diag.md 2.4) */
    FACTORY_IMEI_SIZE = 16,
    FACTORY_PATH_SIZE = 64,
    FACTORY_SECOND_ITEMS = 18,
};

/* Into an empty file system in memory. */
void factory_fill(struct efs *e);

/* Does the radio find what it needs: an IMEI, factory test mode not ordered, three of four rfnv items? */
bool factory_calibrated(const struct efs *e);

/* The ith of its numbered items, of its rfnv items; is that one needed? */
uint16_t factory_nv_item(const struct scenario *s, size_t i);
uint32_t factory_rfnv(const struct scenario *s, size_t i);
bool factory_rfnv_needed(size_t i);
void factory_rfnv_path(uint32_t item, char path[FACTORY_PATH_SIZE]);

/* The IMEI of a subscription; as NV 550 has it (reference/diag.md 4.1). */
void factory_imei(const struct scenario *s, unsigned index, char imei[FACTORY_IMEI_SIZE]);
void factory_imei_item(const char *imei, uint8_t data[EFS_NV_SIZE]);
