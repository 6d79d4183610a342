/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What import and verify tell about a package, and the refusal that both end with. */

#include "firmware/package.h"
#include "worker/worker.h"

/* Every FIRMWARE. key of link/keys.h. */
void facts_tell(struct worker *w, const struct package *p);
/* Every problem as PROBLEM=, every note as a log line; then FirmwareInvalid or FirmwareIncomplete if there is
 * a problem. */
int facts_judge(struct worker *w, const struct package *p, struct error *e);
