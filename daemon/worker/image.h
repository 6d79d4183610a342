/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An image of the package as it is sent: whole pages, 0xFF behind its end. */

#include "worker/flash.h"

struct image {
    struct flash *flash;
    const struct plan_step *step;
    struct digest *digest;              /* of what was sent so far */
    uint64_t hashed;                    /* bytes */
    uint64_t work_before, bytes_before; /* the flash's, when the command began */
};

int image_begin(struct image *i, struct flash *f, const struct plan_step *s, struct error *e);
void image_end(struct image *i);
/* The digest over all pages as sent; -EAGAIN if they were not all sent in one go. */
int image_sent(struct image *i, uint8_t ret[SHA256_SIZE]);

/* firehose_source and firehose_progress over a struct image. */
int image_source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e);
void image_progress(void *userdata, uint64_t done, uint64_t total);

/* The same digest by reading the package. Kept in *state once it is known. */
int image_digest(struct flash *f, const struct plan_step *s, struct flash_step *state, struct error *e);
