/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/image.h"

#include <errno.h>
#include <string.h>

enum { PIECE = 64 * 1024 };

static int read_image(const struct flash *f, const struct plan_step *s, uint64_t offset, void *buffer,
                      size_t size, struct error *e)
{
    int r = package_read(f->package, s->file, offset, buffer, size);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "%s cannot be read from the library: %s", s->file->path,
                         strerror(-r));
    return 0;
}

int image_begin(struct image *i, struct flash *f, const struct plan_step *s, struct error *e)
{
    *i = (struct image){.flash = f,
                        .step = s,
                        .digest = digest_new(DIGEST_SHA256),
                        .work_before = f->work_done,
                        .bytes_before = f->bytes_written};
    return i->digest ? 0 : error_set(e, ERROR_FAILED, "out of memory");
}

void image_end(struct image *i)
{
    i->digest = digest_free(i->digest);
}

int image_source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e)
{
    struct image *i = userdata;
    int r = read_image(i->flash, i->step, offset, buffer, size, e);
    if (r < 0)
        return r;
    if (offset == i->hashed) {
        digest_update(i->digest, buffer, size);
        i->hashed += size;
    }
    return 0;
}

void image_progress(void *userdata, uint64_t done, uint64_t total _unused_)
{
    struct image *i = userdata;
    /* A written byte is a unit of work (flash_work()). */
    i->flash->work_done = i->work_before + done;
    i->flash->bytes_written = i->bytes_before + done;
    flash_progress(i->flash);
}

int image_sent(struct image *i, uint8_t ret[SHA256_SIZE])
{
    if (i->hashed != i->step->pages * i->flash->plan->geometry.page_size)
        return -EAGAIN;
    digest_final(i->digest, ret);
    return 0;
}

int image_digest(struct flash *f, const struct plan_step *s, struct flash_step *state, struct error *e)
{
    if (state->digest_known)
        return 0;
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    _cleanup_free_ uint8_t *buffer = malloc(PIECE);
    if (!d || !buffer)
        return error_set(e, ERROR_FAILED, "out of memory");
    uint64_t size = s->pages * f->plan->geometry.page_size;
    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t n = (size_t)MIN_OF(size - at, (uint64_t)PIECE);
        int r = read_image(f, s, at, buffer, n, e);
        if (r < 0)
            return r;
        digest_update(d, buffer, n);
    }
    digest_final(d, state->digest);
    state->digest_known = true;
    return 0;
}
