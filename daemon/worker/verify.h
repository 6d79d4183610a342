/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Verifying (flash rule 9): what is there, not what was sent. The programmer's digest over exactly the pages
 * of the image where it has one; without it, or if it differs, everything is read back and compared page by
 * page.
 */

#include "worker/flash.h"

/*
 * Is the image of a WRITE or VERIFY step in the flash? 0; DigestMismatch naming the first page that differs;
 * else what the command said.
 */
int verify_image(struct flash *f, const struct plan_step *s, struct error *e);
/*
 * The same for n blocks of the image from its block `first` on, which must be some of it. Where they lie is
 * told by f->map, so only with a programmer that shows bad blocks.
 */
int verify_blocks(struct flash *f, const struct plan_step *s, uint64_t first, uint64_t n, struct error *e);
