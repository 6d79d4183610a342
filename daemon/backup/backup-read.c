/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "backup/backup-inner.h"
#include "base/io.h"
#include "base/text.h"

enum { ERASED = 0xff, TEXTS = 3, MEMBERS_MAX = BACKUP_PARTS_MAX + TEXTS };

struct member {
    char name[TAR_NAME_MAX];
    uint64_t offset, size;
};

struct members {
    struct member at[MEMBERS_MAX];
    size_t n;
};

static int damaged(struct error *e, const char *what, const char *name)
{
    return error_set(e, ERROR_BACKUP_DAMAGED, "The backup is damaged: %s %s", what, name);
}

static int read_at(int fd, void *buffer, size_t size, uint64_t at, struct error *e)
{
    int r = io_pread_full(fd, buffer, size, at);
    return r < 0 ? error_set(e, ERROR_BACKUP_DAMAGED, "The backup cannot be read at byte %" PRIu64 ": %s", at,
                             strerror(-r))
                 : 0;
}

/* ---- the tar ---- */

static int check_zeros(int fd, uint64_t at, uint64_t size, const char *name, struct error *e)
{
    uint8_t bytes[TAR_BLOCK];
    int r = read_at(fd, bytes, (size_t)size, at, e);
    for (size_t i = 0; r == 0 && i < size; i++)
        if (bytes[i] != 0)
            return damaged(e, "something lies behind", name);
    return r;
}

static int walk(int fd, uint64_t file_size, struct members *m, struct error *e)
{
    uint8_t header[TAR_BLOCK];
    uint64_t at = 0;
    for (m->n = 0;; m->n++) {
        struct member *x = &m->at[m->n];
        int r = file_size - at < TAR_BLOCK ? damaged(e, "it ends", "too early")
                                           : read_at(fd, header, sizeof(header), at, e);
        if (r < 0)
            return r;
        if (m->n == MEMBERS_MAX) { /* only the end may come */
            struct member one_more;
            r = tar_parse(header, one_more.name, &one_more.size);
            x = NULL;
        } else {
            r = tar_parse(header, x->name, &x->size);
        }
        at += TAR_BLOCK;
        if (r < 0 || (r > 0 && !x))
            return damaged(e, "it has", r < 0 ? "a header that is not one of ours" : "too many members");
        if (r == 0)
            break;
        uint64_t padding = tar_padding(x->size);
        if (x->size > file_size - at || padding > file_size - at - x->size)
            return damaged(e, "it ends in the middle of", x->name);
        x->offset = at;
        r = check_zeros(fd, at + x->size, padding, x->name, e);
        if (r < 0)
            return r;
        at += x->size + padding;
    }
    if (file_size - at != TAR_BLOCK)
        return damaged(e, "it does not end", "where a backup ends");
    return check_zeros(fd, at, TAR_BLOCK, "its end", e);
}

/* ---- what is in it ---- */

static int load_text(int fd, const struct member *m, size_t max, char **ret, struct error *e)
{
    if (m->size > max)
        return damaged(e, "too large:", m->name);
    _cleanup_free_ char *text = malloc((size_t)m->size + 1);
    if (!text)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = read_at(fd, text, (size_t)m->size, m->offset, e);
    if (r < 0)
        return r;
    text[m->size] = '\0';
    *ret = steal_ptr(text);
    return 0;
}

static int expect_text(int fd, const struct member *m, const char *expected, struct error *e)
{
    _cleanup_free_ char *found = NULL;
    if (!expected)
        return error_set(e, ERROR_FAILED, "Out of memory");
    size_t size = strlen(expected);
    int r = m->size != size ? damaged(e, "not what the manifest says:", m->name)
                            : load_text(fd, m, size, &found, e);
    if (r == 0 && memcmp(found, expected, size) != 0)
        r = damaged(e, "not what the manifest says:", m->name);
    return r;
}

/* Image by image, in the manifest's order. */
static int place_images(struct backup *b, const struct members *m, struct error *e)
{
    if (m->n != b->n_parts + TEXTS)
        return damaged(e, "it has", "other images than its manifest says");
    for (size_t i = 0; i < b->n_parts; i++) {
        char name[TAR_NAME_MAX];
        backup_file_name(&b->parts[i], name);
        if (strcmp(name, m->at[i].name) != 0 || m->at[i].size != b->parts[i].size)
            return damaged(e, "not what the manifest says:", m->at[i].name);
        b->parts[i].offset = m->at[i].offset;
    }
    return 0;
}

static int check_texts(struct backup *b, const struct member *xml, const struct member *sums,
                       const uint8_t manifest[SHA256_SIZE], struct error *e)
{
    uint8_t digest[SHA256_SIZE];
    _cleanup_free_ char *text = backup_xml(b);
    int r = expect_text(b->fd, xml, text, e);
    if (r == 0 && digest_sha256(text, strlen(text), digest) < 0)
        r = error_set(e, ERROR_FAILED, "Out of memory");
    if (r < 0)
        return r;
    _cleanup_free_ char *all = backup_sums(b, digest, manifest);
    return expect_text(b->fd, sums, all, e);
}

static int open_members(int fd, uint64_t file_size, const struct members *m, struct backup **ret,
                        struct error *e)
{
    const struct member *xml = &m->at[m->n - TEXTS], *manifest = xml + 1, *sums = xml + 2;
    _cleanup_(backup_freep) struct backup *b = NULL;
    _cleanup_free_ char *text = NULL;
    uint8_t digest[SHA256_SIZE];
    if (strcmp(xml->name, BACKUP_XML) != 0 || strcmp(manifest->name, BACKUP_MANIFEST) != 0 ||
        strcmp(sums->name, BACKUP_SUMS) != 0)
        return damaged(e, "it lacks", "its manifest");
    int r = load_text(fd, manifest, BACKUP_MANIFEST_MAX, &text, e);
    if (r == 0)
        r = manifest_parse(text, (size_t)manifest->size, &b, e);
    if (r == 0 && digest_sha256(text, (size_t)manifest->size, digest) < 0)
        r = error_set(e, ERROR_FAILED, "Out of memory");
    if (r < 0)
        return r;
    b->fd = fd;
    b->file_size = file_size;
    text_hex(digest, sizeof(b->id) / 2, b->id);
    r = place_images(b, m, e);
    if (r == 0)
        r = check_texts(b, xml, sums, digest, e);
    if (r < 0)
        return r;
    *ret = steal_ptr(b);
    return 0;
}

int backup_open(int fd, struct backup **ret, struct error *e)
{
    _cleanup_free_ struct members *m = malloc(sizeof(*m));
    struct stat st;
    if (!m)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (fstat(fd, &st) < 0)
        return error_set(e, ERROR_FAILED, "The backup cannot be looked at: %s", strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > BACKUP_FILE_MAX)
        return damaged(e, "it is no file, or", "too large a one");
    int r = walk(fd, (uint64_t)st.st_size, m, e);
    if (r == 0 && m->n < TEXTS + 1)
        r = damaged(e, "it lacks", "its manifest");
    return r < 0 ? r : open_members(fd, (uint64_t)st.st_size, m, ret, e);
}

/* ---- images ---- */

int backup_read_block(const struct backup *b, const struct backup_part *p, uint64_t block, void *ret,
                      struct error *e)
{
    uint64_t good = 0, size = nand_block_size(&b->geometry);
    for (uint64_t k = p->first_block; k < block; k++)
        good += !backup_block_is_bad(b, p, k);
    uint64_t at = good * size, n = at < p->size ? MIN_OF(size, p->size - at) : 0;
    memset(ret, ERASED, (size_t)size);
    return n > 0 ? read_at(b->fd, ret, (size_t)n, p->offset + at, e) : 0;
}

static bool is_erased(const uint8_t *page, size_t size)
{
    return page[0] == ERASED && memcmp(page, page + 1, size - 1) == 0;
}

/* A block of an image against the map of its pages. */
static int check_block(const struct backup *b, const struct backup_part *p, uint64_t block,
                       const uint8_t *data, struct error *e)
{
    for (uint32_t i = 0; i < b->geometry.pages_per_block; i++)
        if (backup_page_state(b, p, block, i) != NAND_PAGE_DATA &&
            !is_erased(data + (size_t)i * b->geometry.page_size, b->geometry.page_size))
            return damaged(e, "a page that was erased holds something in", p->name);
    return 0;
}

int backup_check(const struct backup *b, int (*on_progress)(void *userdata, uint64_t done, uint64_t total),
                 void *userdata, struct error *e)
{
    const size_t size = nand_block_size(&b->geometry);
    _cleanup_free_ uint8_t *data = malloc(size);
    uint64_t done = 0, total = 0;
    if (!data)
        return error_set(e, ERROR_FAILED, "Out of memory");
    for (size_t i = 0; i < b->n_parts; i++)
        total += b->parts[i].size;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct backup_part *p = &b->parts[i];
        _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
        uint8_t found[SHA256_SIZE];
        uint64_t at = 0;
        if (!d)
            return error_set(e, ERROR_FAILED, "Out of memory");
        for (uint64_t block = p->first_block; block < p->first_block + p->n_blocks && at < p->size; block++) {
            if (backup_block_is_bad(b, p, block))
                continue;
            uint64_t n = MIN_OF((uint64_t)size, p->size - at);
            memset(data, ERASED, size);
            int r = read_at(b->fd, data, (size_t)n, p->offset + at, e);
            if (r == 0)
                r = check_block(b, p, block, data, e);
            if (r < 0)
                return r;
            digest_update(d, data, (size_t)n);
            at += n;
            done += n;
            r = on_progress ? on_progress(userdata, done, total) : 0;
            if (r < 0)
                return r;
        }
        digest_final(d, found);
        if (memcmp(found, p->sha256, SHA256_SIZE) != 0)
            return damaged(e, "its digest is another one than that of the image of", p->name);
    }
    return 0;
}
