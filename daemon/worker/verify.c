/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/verify.h"

#include <errno.h>
#include <string.h>

#include "worker/image.h"

#define LLU(n) ((unsigned long long)(n))

/* What is compared: some pages of an image, and what they must be. */
struct part {
    const struct plan_step *step;
    uint64_t first_page; /* of the image */
    struct firehose_range range;
    uint8_t sha256[SHA256_SIZE];
};

/* Exactly the pages of the image, up to the end of its own partition: the same walk over good blocks as its
 * program command made. */
static struct part whole_image(const struct flash *f, const struct plan_step *s)
{
    struct part part = {.step = s, .range = nand_range(&f->plan->geometry, s->first_block, s->n_blocks)};
    part.range.count = s->pages;
    memcpy(part.sha256, s->file->pages_sha256, sizeof(part.sha256));
    return part;
}

/* The digest of some pages is in no list: it is that of the library's file, which the gate held to the list.
 */
static int digest_pages(struct flash *f, struct part *part, struct error *e)
{
    size_t page_size = f->plan->geometry.page_size;
    _cleanup_free_ uint8_t *page = malloc(page_size);
    _cleanup_(digest_freep) struct digest *digest = digest_new(DIGEST_SHA256);
    if (!page || !digest)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t i = 0; i < part->range.count; i++) {
        int r = image_read(f, part->step, (part->first_page + i) * page_size, page, page_size, e);
        if (r < 0)
            return r;
        digest_update(digest, page, page_size);
    }
    digest_final(digest, part->sha256);
    return 0;
}

/* 1: the digest is right; 0: it differs, or there is none. */
static int compare_digest(struct flash *f, const struct part *part, struct error *e)
{
    uint8_t found[SHA256_SIZE];
    struct error own = {0};

    if (!f->session->capabilities.digest)
        return 0;
    int r = firehose_digest(f->session->firehose, &part->range, found, &own);
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
    if (memcmp(found, part->sha256, SHA256_SIZE) == 0)
        return 1;
    /* Not yet a failure: a page of 0xFF reads as the fill of an erased one on some builds, in the digest too.
     */
    worker_log(f->worker, "the digest of %s differs: reading back", flash_step_name(part->step));
    return 0;
}

/* ---- reading back ---- */

struct readback {
    struct flash *flash;
    const struct part *part;
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
    int r = image_read(b->flash, b->part->step, (b->part->first_page + b->n_pages) * b->page_size, b->want,
                       b->page_size, e);
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
    if (memcmp(found, b->part->sha256, SHA256_SIZE) == 0)
        return 0;
    return error_set(e, ERROR_DIGEST_MISMATCH, "%s in the library changed while it was flashed",
                     b->part->step->file->path);
}

static int read_back(struct flash *f, const struct part *part, struct error *e)
{
    const struct plan_step *s = part->step;
    size_t page_size = f->plan->geometry.page_size;
    _cleanup_free_ uint8_t *page = malloc(page_size), *want = malloc(page_size);
    _cleanup_(digest_freep) struct digest *wanted = digest_new(DIGEST_SHA256);
    if (!page || !want || !wanted)
        return error_set(e, ERROR_FAILED, "out of memory");
    struct readback b = {
        .flash = f, .part = part, .page_size = page_size, .page = page, .want = want, .wanted = wanted};

    int r = firehose_read(f->session->firehose, &part->range, false, on_data, &b, e);
    flash_note_errors(f, "reading back");
    if (r < 0)
        return r;
    if (b.n_wrong == 0 && b.n_pages == part->range.count)
        return check_library(&b, e);
    if (b.n_wrong == 0)
        return error_set(e, ERROR_DIGEST_MISMATCH, "%s: only %llu of %llu pages could be read back",
                         flash_step_name(s), LLU(b.n_pages), LLU(part->range.count));
    return error_set(e, ERROR_DIGEST_MISMATCH,
                     "%s does not hold %s: %llu of %llu pages differ, the first is page %llu",
                     flash_step_name(s), s->file->path, LLU(b.n_wrong), LLU(part->range.count),
                     LLU(part->first_page + b.first_wrong));
}

static int verify(struct flash *f, const struct part *part, struct error *e)
{
    int r = flash_end_if_asked(f, e);
    if (r == 0)
        r = compare_digest(f, part, e);
    if (r != 0)
        return r < 0 ? r : 0;
    r = flash_end_if_asked(f, e);
    return r < 0 ? r : read_back(f, part, e);
}

int verify_image(struct flash *f, const struct plan_step *s, struct error *e)
{
    const struct part part = whole_image(f, s);
    return verify(f, &part, e);
}

int verify_blocks(struct flash *f, const struct plan_step *s, uint64_t first, uint64_t n, struct error *e)
{
    const struct nand_geometry *g = &f->plan->geometry;
    struct part part = whole_image(f, s);
    part.first_page = first * g->pages_per_block;
    part.range.start = nand_map_good(&f->map, s->first_block, first) * g->pages_per_block;
    part.range.count = MIN_OF(n * g->pages_per_block, s->pages - part.first_page);
    int r = digest_pages(f, &part, e);
    return r < 0 ? r : verify(f, &part, e);
}
