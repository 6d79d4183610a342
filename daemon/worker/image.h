/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An image of the package as it is sent: whole pages, 0xFF behind its end. */

#include "worker/flash.h"

struct image {
    struct flash *flash;
    const struct plan_step *step;
    uint64_t from;                      /* bytes of the image in front of what is sent */
    uint64_t work_before, bytes_before; /* the flash's, when the command began */
};

/* `size` bytes of a step's image from `offset`, as package_read() gives them. */
int image_read(const struct flash *f, const struct plan_step *s, uint64_t offset, void *buffer, size_t size,
               struct error *e);

/* firehose_source and firehose_progress over a struct image. */
int image_source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e);
void image_progress(void *userdata, uint64_t done, uint64_t total);
