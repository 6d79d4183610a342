/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whose programmer may run on a modem: packages of the library, best first, and what was learned of them.
 * That a PK hash took a programmer is remembered with the package; that a unit refused one, or was silent
 * under it CANDIDATES_SILENT times, with the unit: it is not offered to it again.
 */

#include "service/firmware.h"
#include "service/modem.h"

enum {
    CANDIDATES_MAX = 6,    /* as many as a worker takes (worker/worker.h) */
    CANDIDATES_SILENT = 3, /* once may have been a window that closed at a bad time */
};

/*
 * The packages to try on this modem, best first: the one of its policy, one that its PK hash took before, the
 * one it ran, one of its family, the newest. Of a chip that nobody knows only packages that are all for one
 * chip, or for which there is such a reason. all: those that this unit refused, too, behind the others.
 */
size_t candidates_find(const struct modem *m, bool all, struct firmware *ret[CANDIDATES_MAX]);
/* True if a package of the library ran on a modem with this modem's PK hash. */
bool candidates_know_hash(const struct modem *m);
/*
 * PROGRAMMER= of a worker. hash_told: the modem said its PK hash in this job, so that it can be learned from.
 * -EBADMSG.
 */
int candidates_told(struct modem *m, const char *value, bool hash_told);
