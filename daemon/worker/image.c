/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/image.h"

#include <errno.h>
#include <string.h>

int image_read(const struct flash *f, const struct plan_step *s, uint64_t offset, void *buffer, size_t size,
               struct error *e)
{
    int r = package_read(f->package, s->file, offset, buffer, size);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "%s cannot be read from the library: %s", s->file->path,
                         strerror(-r));
    return 0;
}

int image_source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e)
{
    const struct image *i = userdata;
    return image_read(i->flash, i->step, i->from + offset, buffer, size, e);
}

void image_progress(void *userdata, uint64_t done, uint64_t total _unused_)
{
    struct image *i = userdata;
    /* A written byte is a unit of work (flash_work()). */
    i->flash->work_done = i->work_before + done;
    i->flash->bytes_written = i->bytes_before + done;
    flash_progress(i->flash);
}
