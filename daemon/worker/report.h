/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "worker/flash.h"

/*
 * Tells the entries of Job.Report: what was erased, written, verified, by partition; partition-table, if it
 * was the package's already and nothing of it was touched; bytes; bad-blocks;
 * resumed (steps of an earlier appearance or run that were found as they should be); error-logs;
 * vendor-check; sbl-last; backup; and, of a complete flash, version, which nobody has asked the modem for
 * yet: "not confirmed".
 */
void report_flash(const struct flash *f);
