/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/verify.h"

#include <errno.h>
#include <string.h>

#include "worker/image.h"

#define LLU(n) ((unsigned long long)(n))

/* Exactly the pages of the image, up to the end of its own partition: the same walk over good blocks as its
 * program command made. */
static struct firehose_range image_range(const struct flash *f, const struct plan_step *s)
{
    struct firehose_range range = nand_range(&f->plan->geometry, s->first_block, s->n_blocks);
    range.count = s->pages;
    return range;
}

/* 1: the digest is right; 0: it differs, or there is none. */
static int compare_digest(struct flash *f, const struct plan_step *s, struct error *e)
{
    uint8_t found[SHA256_SIZE];
    struct error own = {0};
    struct firehose_range range = image_range(f, s);

    if (!f->session->capabilities.digest)
        return 0;
    int r = firehose_digest(f->session->firehose, &range, found, &own);
    flash_note_errors(f, "computing a digest");
    if (r == -EOPNOTSUPP) {
        worker_log(f->worker, "the programmer gives no digest after all: reading back instead");
        f->session->capabilities.digest = false;
        return 0;
    }
    if (r < 0) {
        if (e)
            *e = own;
        return r;
    }
    if (memcmp(found, s->file->pages_sha256, SHA256_SIZE) == 0)
        return 1;
    /* Not yet a failure: a page of 0xFF reads as the fill of an erased one on some builds, in the digest too.
     */
    worker_log(f->worker, "the digest of %s differs: reading back", flash_step_name(s));
    return 0;
}

/* ---- reading back ---- */

struct readback {
    struct flash *flash;
    const struct plan_step *step;
    size_t page_size;
    uint8_t *page, *want;  /* one page each */
    struct digest *wanted; /* of all that the library gave */
    size_t filled;         /* of the page */
    uint64_t n_pages, n_wrong, first_wrong;
};

static bool is_erased_value(const uint8_t *page, size_t size)
{
    return page[0] == 0xff && memcmp(page, page + 1, size - 1) == 0;
}

static int compare_page(struct readback *b, struct error *e)
{
    int r = image_read(b->flash, b->step, b->n_pages * b->page_size, b->want, b->page_size, e);
    if (r < 0)
        return r;
    digest_update(b->wanted, b->want, b->page_size);
    bool same = memcmp(b->page, b->want, b->page_size) == 0;
    /* Nobody can tell a page that was programmed with nothing but ones from one that was not programmed. */
    if (!same && is_erased_value(b->want, b->page_size))
        same = nand_page_state(b->page, b->page_size, b->flash->session->erased_fill) == NAND_PAGE_ERASED;
    if (!same && b->n_wrong++ == 0)
        b->first_wrong = b->n_pages;
    b->n_pages++;
    return 0;
}

static int on_data(void *userdata, uint64_t offset _unused_, const void *data, size_t size, struct error *e)
{
    struct readback *b = userdata;
    for (const uint8_t *p = data; size > 0;) {
        size_t n = MIN_OF(size, b->page_size - b->filled);
        memcpy(b->page + b->filled, p, n);
        b->filled += n;
        p += n;
        size -= n;
        if (b->filled < b->page_size)
            continue;
        b->filled = 0;
        int r = compare_page(b, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What the modem holds was compared with the library's file as it is now: that is still the one that gate 1
 * passed. */
static int check_library(struct readback *b, struct error *e)
{
    uint8_t found[SHA256_SIZE];
    digest_final(b->wanted, found);
    if (memcmp(found, b->step->file->pages_sha256, SHA256_SIZE) == 0)
        return 0;
    return error_set(e, ERROR_DIGEST_MISMATCH, "%s in the library changed while it was flashed",
                     b->step->file->path);
}

static int read_back(struct flash *f, const struct plan_step *s, struct error *e)
{
    size_t page_size = f->plan->geometry.page_size;
    _cleanup_free_ uint8_t *page = malloc(page_size), *want = malloc(page_size);
    _cleanup_(digest_freep) struct digest *wanted = digest_new(DIGEST_SHA256);
    if (!page || !want || !wanted)
        return error_set(e, ERROR_FAILED, "out of memory");
    struct readback b = {
        .flash = f, .step = s, .page_size = page_size, .page = page, .want = want, .wanted = wanted};
    struct firehose_range range = image_range(f, s);

    int r = firehose_read(f->session->firehose, &range, false, on_data, &b, e);
    flash_note_errors(f, "reading back");
    if (r < 0)
        return r;
    if (b.n_wrong == 0 && b.n_pages == s->pages)
        return check_library(&b, e);
    if (b.n_wrong == 0)
        return error_set(e, ERROR_DIGEST_MISMATCH, "%s: only %llu of %llu pages could be read back",
                         flash_step_name(s), LLU(b.n_pages), LLU(s->pages));
    return error_set(e, ERROR_DIGEST_MISMATCH,
                     "%s does not hold %s: %llu of %llu pages differ, the first is page %llu",
                     flash_step_name(s), s->file->path, LLU(b.n_wrong), LLU(s->pages), LLU(b.first_wrong));
}

int verify_image(struct flash *f, const struct plan_step *s, struct error *e)
{
    int r = compare_digest(f, s, e);
    if (r != 0)
        return r < 0 ? r : 0;
    return read_back(f, s, e);
}
