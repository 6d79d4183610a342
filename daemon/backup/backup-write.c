/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backup/backup-inner.h"
#include "base/io.h"
#include "base/text.h"

enum { ERASED = 0xff, PIECE = 64 * 1024 };

struct backup_writer {
    struct backup made;
    uint64_t at;           /* of the next member's header */
    struct backup_part *p; /* the one in hand, NULL */
    uint64_t block;        /* its next block */
    uint32_t page;         /* the next one of that */
    uint64_t good_pages;   /* of its good blocks so far */
    struct digest *digest;
    uint8_t *erased; /* PIECE bytes */
};

static int explain(int r, struct error *e)
{
    if (io_is_full(r))
        return error_set(e, ERROR_NO_SPACE, "No space for the backup: %s", strerror(-r));
    return error_set(e, ERROR_FAILED, "The backup cannot be written: %s", strerror(-r));
}

int backup_writer_new(int fd, const struct backup *facts, struct backup_writer **ret, struct error *e)
{
    _cleanup_(backup_writer_freep) struct backup_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return error_set(e, ERROR_FAILED, "Out of memory");
    w->made = *facts;
    w->made.fd = fd;
    w->made.n_parts = 0;
    w->made.parts = calloc(BACKUP_PARTS_MAX, sizeof(*w->made.parts));
    w->made.table = strdup(facts->table ? facts->table : "");
    w->erased = malloc(PIECE);
    if (!w->made.parts || !w->made.table || !w->erased)
        return error_set(e, ERROR_FAILED, "Out of memory");
    memset(w->erased, ERASED, PIECE);
    *ret = steal_ptr(w);
    return 0;
}

struct backup_writer *backup_writer_free(struct backup_writer *w)
{
    if (!w)
        return NULL;
    for (size_t i = 0; i < w->made.n_parts; i++)
        free(w->made.parts[i].states);
    free(w->made.parts);
    free(w->made.table);
    free(w->erased);
    digest_free(w->digest);
    free(w);
    return NULL;
}

int backup_writer_begin(struct backup_writer *w, const char *name, uint64_t first_block, uint64_t n_blocks,
                        struct error *e)
{
    const struct nand_geometry *g = &w->made.geometry;
    struct backup_part *before = w->made.n_parts > 0 ? &w->made.parts[w->made.n_parts - 1] : NULL;
    if (w->p || w->made.n_parts == BACKUP_PARTS_MAX || n_blocks == 0 || first_block >= g->blocks ||
        n_blocks > g->blocks - first_block || strlen(name) >= BACKUP_NAME_SIZE ||
        (before && first_block < before->first_block + before->n_blocks))
        return error_set(e, ERROR_FAILED, "%s cannot be part of this backup", name);
    struct backup_part *p = &w->made.parts[w->made.n_parts];
    *p = (struct backup_part){.first_block = first_block, .n_blocks = n_blocks, .offset = w->at + TAR_BLOCK};
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->states = calloc(n_blocks, g->pages_per_block);
    w->digest = digest_free(w->digest);
    w->digest = digest_new(DIGEST_SHA256);
    if (!p->states || !w->digest) {
        free(p->states);
        return error_set(e, ERROR_FAILED, "Out of memory");
    }
    w->made.n_parts++;
    w->p = p;
    w->block = first_block;
    w->page = 0;
    w->good_pages = 0;
    return 0;
}

static int append(struct backup_writer *w, const void *data, size_t size, struct error *e)
{
    int r = io_pwrite_full(w->made.fd, data, size, w->p->offset + w->p->size);
    if (r < 0)
        return explain(r, e);
    digest_update(w->digest, data, size);
    w->p->size += size;
    return 0;
}

/* Erased pages are written when something follows them. */
static int append_erased(struct backup_writer *w, uint64_t up_to, struct error *e)
{
    int r = 0;
    while (r == 0 && w->p->size < up_to)
        r = append(w, w->erased, (size_t)MIN_OF((uint64_t)PIECE, up_to - w->p->size), e);
    return r;
}

/* How many of these pages, at least one of them, are as the first. */
static uint32_t run_of(const uint8_t *states, uint32_t n)
{
    uint32_t same = 1;
    while (same < n && states[same] == states[0])
        same++;
    return same;
}

int backup_writer_pages(struct backup_writer *w, const uint8_t *states, const void *data, uint32_t first,
                        uint32_t n, struct error *e)
{
    const struct nand_geometry *g = &w->made.geometry;
    const uint8_t *bytes = data;
    if (!w->p || w->block >= w->p->first_block + w->p->n_blocks)
        return error_set(e, ERROR_FAILED, "A block too many for %s", w->p ? w->p->name : "a backup");
    if (first != w->page || n > g->pages_per_block - first)
        return error_set(e, ERROR_FAILED, "Pages of %s out of their order", w->p->name);
    memcpy(w->p->states + (w->block - w->p->first_block) * g->pages_per_block, states, g->pages_per_block);
    w->page = (first + n) % g->pages_per_block;
    w->block += w->page == 0;
    if (states[0] == NAND_PAGE_BAD)
        return 0;
    int r = 0;
    for (uint32_t i = first, end = first + n, same; r == 0 && i < end; i += same, w->good_pages += same) {
        same = run_of(states + i, end - i);
        if (states[i] == NAND_PAGE_ERASED)
            continue;
        r = append_erased(w, w->good_pages * g->page_size, e);
        if (r == 0 && states[i] == NAND_PAGE_UNREADABLE)
            r = append_erased(w, (w->good_pages + same) * g->page_size, e);
        else if (r == 0)
            r = append(w, bytes + (size_t)i * g->page_size, (size_t)same * g->page_size, e);
    }
    return r;
}

uint64_t backup_writer_offset(const struct backup_writer *w)
{
    return w->p ? w->p->offset + w->good_pages * w->made.geometry.page_size : 0;
}

static int write_at(struct backup_writer *w, const void *data, size_t size, uint64_t at, struct error *e)
{
    int r = io_pwrite_full(w->made.fd, data, size, at);
    return r < 0 ? explain(r, e) : 0;
}

/* Header and padding around what lies there already. */
static int close_member(struct backup_writer *w, const char *name, uint64_t size, struct error *e)
{
    uint8_t header[TAR_BLOCK], zeros[TAR_BLOCK] = {0};
    tar_header(name, size, header);
    int r = write_at(w, header, sizeof(header), w->at, e);
    if (r == 0)
        r = write_at(w, zeros, tar_padding(size), w->at + TAR_BLOCK + size, e);
    w->at += TAR_BLOCK + size + tar_padding(size);
    return r;
}

int backup_writer_end(struct backup_writer *w, struct error *e)
{
    char name[TAR_NAME_MAX];
    struct backup_part *p = w->p;
    if (!p || w->block != p->first_block + p->n_blocks)
        return error_set(e, ERROR_FAILED, "%s is not complete", p ? p->name : "A backup");
    digest_final(w->digest, p->sha256);
    w->digest = digest_free(w->digest);
    w->p = NULL;
    backup_file_name(p, name);
    return close_member(w, name, p->size, e);
}

static int write_text(struct backup_writer *w, const char *name, const char *text,
                      uint8_t ret_digest[SHA256_SIZE], struct error *e)
{
    size_t size = text ? strlen(text) : 0;
    if (!text || digest_sha256(text, size, ret_digest) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = write_at(w, text, size, w->at + TAR_BLOCK, e);
    return r < 0 ? r : close_member(w, name, size, e);
}

int backup_writer_finish(struct backup_writer *w, const struct backup **ret, struct error *e)
{
    static const uint8_t end[2 * TAR_BLOCK];
    struct backup *b = &w->made;
    uint8_t xml_digest[SHA256_SIZE], manifest_digest[SHA256_SIZE], ignored[SHA256_SIZE];
    if (w->p || b->n_parts == 0)
        return error_set(e, ERROR_FAILED, "The backup is not complete");
    b->state = backup_judge(b);
    if (backup_content(b, b->content_sha256) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    _cleanup_free_ char *xml = backup_xml(b), *manifest = manifest_print(b);
    if (manifest && strlen(manifest) > BACKUP_MANIFEST_MAX)
        return error_set(e, ERROR_TOO_LARGE, "The backup's manifest is too large");
    int r = write_text(w, BACKUP_XML, xml, xml_digest, e);
    if (r == 0)
        r = write_text(w, BACKUP_MANIFEST, manifest, manifest_digest, e);
    _cleanup_free_ char *sums = r == 0 ? backup_sums(b, xml_digest, manifest_digest) : NULL;
    if (r == 0)
        r = write_text(w, BACKUP_SUMS, sums, ignored, e);
    if (r == 0)
        r = write_at(w, end, sizeof(end), w->at, e);
    if (r < 0)
        return r;
    b->file_size = w->at + sizeof(end);
    if (ftruncate(b->fd, (off_t)b->file_size) < 0 || fdatasync(b->fd) < 0)
        return explain(-errno, e);
    text_hex(manifest_digest, sizeof(b->id) / 2, b->id);
    *ret = b;
    return 0;
}
