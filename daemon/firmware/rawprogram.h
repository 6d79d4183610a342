/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The rawprogram XML (what to erase and write) and the patch XML beside it (reference/edl.md 2.5, 3.4).
 * Numbers are strict, names stay inside the package; no text of an attribute goes further than here, but for
 * the vendor check's two names.
 */

#include "firmware/package.h"

/*
 * Reads the rawprogram XML that lies in directory `base` ("update/firehose") into p->commands, in the order
 * of the file; names its files as referenced. Everything wrong becomes a problem of p. -ENOMEM.
 */
int rawprogram_parse(struct package *p, const char *base, const char *text, size_t size);

/*
 * Reads a patch XML. Nothing is ever patched: a patch that aims at the disk is a problem (refused on NAND),
 * one that aims at a file of the package is a problem if the file lacks the value that it would give.
 * "NUM_DISK_BLOCKS-n" tells p->chip_blocks. -ENOMEM.
 */
int patch_check(struct package *p, const char *base, const char *text, size_t size);
