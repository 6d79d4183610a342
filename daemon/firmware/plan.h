/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The flash plan as data: what will be kept, checked, erased, written, in which order and why it is safe.
 * Made offline from a package (rules 1 to 4, 6, 7), judged again with the modem's own tables at gate 2,
 * executed by worker/job-flash.c, shown by Modem.Plan.
 */

#include "firmware/package.h"

/* Names of the refusals that a caller lifts (option allow). */
enum plan_allow {
    ALLOW_WRONG_FIRMWARE = 1 << 0,
    ALLOW_WRONG_UNIT = 1 << 1,
    ALLOW_BACKUP_DAMAGED = 1 << 2,
    ALLOW_CALIBRATION_AT_RISK = 1 << 3,
    ALLOW_GEOMETRY_DIFFERS = 1 << 4,
    ALLOW_ERASE_CALIBRATION = 1 << 5,
    ALLOW_NO_BACKUP = 1 << 6,
    ALLOW_LAST_BACKUP = 1 << 7,
};
/* A comma list; an unknown name: -EINVAL with InvalidArgs naming it. */
int plan_parse_allow(const char *list, unsigned *ret, struct error *e);

enum plan_action {
    PLAN_KEEP,         /* a partition that nothing touches (unit data first): shown, not executed */
    PLAN_CHECK_VENDOR, /* rule 3, always first */
    PLAN_ERASE,
    PLAN_WRITE,
    PLAN_VERIFY,
    PLAN_RESET,
};
const char *plan_action_name(enum plan_action action); /* keep check erase write verify reset */

struct plan_step {
    enum plan_action action;
    char partition[MIBIB_NAME_SIZE]; /* by range against the tables; "" if no table names it */
    bool sbl, mibib, unit_data;
    uint64_t first_block,
        n_blocks;   /* the range of its command: in real packages the whole partition; never beyond it */
    uint64_t pages; /* WRITE, VERIFY: ceil(image / page), as sent */
    const struct package_file *file; /* WRITE, VERIFY */
    struct firehose_vendor_check vendor;
    char risk[128]; /* "may blow fuses, cannot be undone"; "" */
};

struct plan_options {
    unsigned allow;
    const char *modem_version; /* the user's word, NULL */
    const char *known_version; /* what the service remembers of this unit, NULL */
    bool known_confirmed;
    bool reset;
    /* Its write was begun by an earlier run: a table that reads as equal says nothing of the pages beside it.
     */
    bool mibib_begun;
    const struct mibib_tables *recorded; /* for this unit, may be NULL */
};

struct plan {
    struct plan_step *steps;
    size_t n_steps;
    struct nand_geometry geometry;
    uint64_t bytes_to_write;
    bool sbl_last;      /* the guarantee of rule 6 holds */
    char sbl_note[160]; /* why not, if it does not */
    bool mibib_kept; /* the modem's partition table equals the package's: plan_judge() took its steps out */
    bool version_proven; /* a confirmed version matched; false: RAWDATA must still agree at gate 2, or, where
                            it says nothing, modem-version must have been given */
    char matched_version[128]; /* the modem's version that was compared, "" */
    char moves[1024];          /* what the package's partition table moves, "" */
    char *notes[PACKAGE_PROBLEMS_MAX];
    size_t n_notes;
    uint8_t digest[SHA256_SIZE]; /* over the executable steps as plan_new() made them: identifies the plan in
                                    a journal. plan_judge() leaves it alone, or a MIBIB that is already
                                    written would void the journal of its own job */
    struct {
        struct plan_step *steps;
        size_t n_steps, n_notes;
        uint64_t bytes_to_write;
    } made; /* as plan_new() left it: what plan_unjudge() goes back to */
};

/*
 * Order of the steps: keep; vendor checks; SBL erase; MIBIB erase, write, verify; the other erases; writes;
 * verifies; SBL write, verify; reset. A program that no erase of the package covers gets an erase of its own
 * range.
 *
 * FirmwareInvalid/Incomplete (rule 1, 7: image larger than its partition, overlapping ranges, erase without
 * range, ranges off the block borders), WrongFirmware (rule 2), VersionUnknown is not raised here but at gate
 * 2, EraseCalibration (rule 4).
 */
int plan_new(const struct package *p, const struct plan_options *options, struct plan **ret, struct error *e);
struct plan *plan_free(struct plan *p);
DEFINE_CLEANUP(struct plan *, plan_free)

/*
 * Gate 2's part of the judgement: the modem's own table (NULL: none found), its geometry and its bad blocks.
 * Steps get their names from it; GeometryDiffers, EraseCalibration (union of the tables; a range that
 * straddles a partition; a new table that moves unit data; no table at all), FirmwareInvalid (an image does
 * not fit the good blocks; map may be NULL; a step in a MIBIB of any table that is not the package's own
 * whole partition image). Another page or block size is refused whatever is allowed. On an error the plan is
 * as plan_new() made it. The MIBIB steps are dropped (rule 6) only if the modem's table has a valid CRC and
 * equals the package's, and MIBIB was not begun. Judges from the beginning: what another modem's
 * table dropped is there again.
 */
int plan_judge(struct plan *plan, const struct package *p, const struct plan_options *options,
               const struct nand_geometry *geometry, const struct mibib_table *modem_table,
               const struct nand_map *map, struct error *e);

/* Does the package's table, which the plan writes, put this partition of the present one elsewhere, or not
 * have it, without an image for it? What it holds is lost then. */
bool plan_leaves_behind(const struct plan *plan, const struct package *p, const struct mibib_partition *now,
                        uint64_t chip_blocks);

/* Forgets what plan_judge() made of it; steps may be more again. -ENOMEM. */
int plan_unjudge(struct plan *plan);

/*
 * One record a step: ACTION= PARTITION= FIRST_BLOCK= BLOCKS= PAGES= BYTES= FILE= RISK= plus a first record
 * with KIND=summary: FIRMWARE= VERSION= GEOMETRY= BYTES= SBL_LAST= BACKUP= NOTE=… (several).
 * saved: what is saved before the first erase ("partitions", "chip"); first: records that come before the
 * steps. malloc'ed.
 */
char *plan_print(const struct plan *plan, const struct package *p, const char *saved, const char *first);
