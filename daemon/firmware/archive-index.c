/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A store entry: an ordinary tar, and behind its end-of-archive marker, where tar does not look any more, the
 * index and a trailer of fixed size at the very end of the file:
 *
 *     tar | index | magic (16) | offset of the index (u64 LE) | its size (u64 LE) | its SHA-256 (32)
 *
 * The index is text in the link's record form (link_parse_text): first a record FORMAT= TOP= NAME=, then one
 * PATH= OFFSET= SIZE= SHA256= MD5= a file, sorted without regard to case.
 */

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/text.h"
#include "firmware/archive-inner.h"
#include "link/link.h"

#define FORMAT "1"

static const char MAGIC[16] = "qdld-package\n\x1a\n";

enum {
    TRAILER_OFFSET = 16,
    TRAILER_SIZE_FIELD = 24,
    TRAILER_DIGEST = 32,
    TRAILER_SIZE = 64,
    INDEX_MAX = 8 * 1024 * 1024, /* PACKAGE_FILES_MAX paths of PACKAGE_PATH_MAX bytes, all of them escaped */
};

/* ---- what identifies a package ---- */

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const struct package_file *)a)->path, ((const struct package_file *)b)->path);
}

int archive_content_sha256(struct package_file *files, size_t n_files, uint8_t ret[SHA256_SIZE])
{
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    if (!d)
        return -ENOMEM;
    if (n_files > 0)
        qsort(files, n_files, sizeof(*files), compare_paths);
    for (size_t i = 0; i < n_files; i++) {
        uint64_t size = htole64(files[i].size);
        digest_update(d, files[i].path, strlen(files[i].path) + 1);
        digest_update(d, &size, sizeof(size));
        digest_update(d, files[i].sha256, SHA256_SIZE);
    }
    digest_final(d, ret);
    return 0;
}

/* The package's own directories are never its top: an archive of "update/..." alone has none. */
static bool may_be_top(const char *name, size_t size)
{
    static const char *const own[] = {"update", "firehose", "upgrade"};
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        if (size == strlen(own[i]) && strncasecmp(name, own[i], size) == 0)
            return false;
    return true;
}

void archive_cut_top(struct package_file *files, size_t n_files, char *ret_top, size_t size)
{
    *ret_top = '\0';
    if (n_files == 0)
        return;
    size_t n = strcspn(files[0].path, "/");
    if (files[0].path[n] != '/' || n >= size || !may_be_top(files[0].path, n))
        return;
    for (size_t i = 0; i < n_files; i++)
        if (strncmp(files[i].path, files[0].path, n + 1) != 0)
            return;
    memcpy(ret_top, files[0].path, n);
    ret_top[n] = '\0';
    for (size_t i = 0; i < n_files; i++)
        memmove(files[i].path, files[i].path + n + 1, strlen(files[i].path + n + 1) + 1);
}

/* ---- writing ---- */

static int print_index(FILE *out, const char *top, const char *name, const struct package_file *files,
                       size_t n_files)
{
    char clean[256], hex[SHA256_HEX_SIZE];

    /* The name is a caller's text; what cannot be shown is not kept. */
    text_clean(name ? name : "", name ? strlen(name) : 0, clean, sizeof(clean));
    fputs("FORMAT=" FORMAT "\n", out);
    int r = text_put(out, "TOP", top);
    if (r == 0)
        r = text_put(out, "NAME", clean);
    for (size_t i = 0; r == 0 && i < n_files; i++) {
        const struct package_file *f = &files[i];
        fputc('\n', out);
        r = text_put(out, "PATH", f->path);
        fprintf(out, "OFFSET=%" PRIu64 "\nSIZE=%" PRIu64 "\n", f->offset, f->size);
        text_hex(f->sha256, SHA256_SIZE, hex);
        fprintf(out, "SHA256=%s\n", hex);
        text_hex(f->md5, MD5_SIZE, hex);
        fprintf(out, "MD5=%s\n", hex);
    }
    return r;
}

int archive_write_index(int store_fd, uint64_t offset, const char *top, const char *name,
                        const struct package_file *files, size_t n_files, struct error *e)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    uint8_t trailer[TRAILER_SIZE];
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = print_index(out, top, name, files, n_files);
    if (fclose(out) != 0 || r < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");

    uint64_t le_offset = htole64(offset), le_size = htole64(size);
    memcpy(trailer, MAGIC, sizeof(MAGIC));
    memcpy(trailer + TRAILER_OFFSET, &le_offset, sizeof(le_offset));
    memcpy(trailer + TRAILER_SIZE_FIELD, &le_size, sizeof(le_size));
    if (digest_sha256(text, size, trailer + TRAILER_DIGEST) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    r = io_pwrite_full(store_fd, text, size, offset);
    if (r == 0)
        r = io_pwrite_full(store_fd, trailer, sizeof(trailer), offset + size);
    if (r < 0)
        return error_set(e, r == -ENOSPC ? ERROR_NO_SPACE : ERROR_FAILED,
                         "The package's index cannot be written: %s", strerror(-r));
    return 0;
}

/* ---- reading ---- */

struct index_reader {
    struct package *p;
    uint64_t tar_size;
    unsigned records;
    bool format;
    struct package_file file;
    unsigned seen; /* one bit a field of the file */
};

enum { SEEN_PATH = 1, SEEN_OFFSET = 2, SEEN_SIZE = 4, SEEN_SHA256 = 8, SEEN_MD5 = 16, SEEN_ALL = 31 };

static int set_text(char *out, size_t size, const char *value)
{
    if (strlen(value) >= size)
        return -EBADMSG;
    snprintf(out, size, "%s", value);
    return 0;
}

static int on_head_field(struct index_reader *x, const char *key, const char *value)
{
    if (strcmp(key, "FORMAT") == 0) {
        x->format = strcmp(value, FORMAT) == 0;
        return x->format ? 0 : -EBADMSG;
    }
    if (strcmp(key, "TOP") == 0)
        return set_text(x->p->top, sizeof(x->p->top), value);
    if (strcmp(key, "NAME") == 0)
        return set_text(x->p->name, sizeof(x->p->name), value);
    return -EBADMSG;
}

static int on_path(struct index_reader *x, const char *value)
{
    char clean[PACKAGE_PATH_MAX];
    const char *why;
    if (archive_clean_name(value, clean, sizeof(clean), &why) < 0 || strcmp(clean, value) != 0 ||
        x->file.path)
        return -EBADMSG;
    x->file.path = strdup(value);
    return x->file.path ? 0 : -ENOMEM;
}

static int on_field(void *userdata, const char *key, const char *value)
{
    struct index_reader *x = userdata;
    if (x->records == 0)
        return on_head_field(x, key, value);

    static const char *const keys[] = {"PATH", "OFFSET", "SIZE", "SHA256", "MD5"};
    size_t i = 0;
    while (i < ARRAY_SIZE(keys) && strcmp(key, keys[i]) != 0)
        i++;
    if (i == ARRAY_SIZE(keys) || x->seen & 1U << i)
        return -EBADMSG;
    x->seen |= 1U << i;
    switch (1U << i) {
    case SEEN_PATH:
        return on_path(x, value);
    case SEEN_OFFSET:
        return text_parse_u64(value, 10, x->tar_size, &x->file.offset) < 0 ? -EBADMSG : 0;
    case SEEN_SIZE:
        return text_parse_u64(value, 10, x->tar_size, &x->file.size) < 0 ? -EBADMSG : 0;
    case SEEN_SHA256:
        return text_unhex(value, x->file.sha256, SHA256_SIZE) < 0 ? -EBADMSG : 0;
    default:
        return text_unhex(value, x->file.md5, MD5_SIZE) < 0 ? -EBADMSG : 0;
    }
}

static int on_record(void *userdata)
{
    struct index_reader *x = userdata;
    struct package *p = x->p;
    if (x->records++ == 0)
        return x->format ? 0 : -EBADMSG;
    if (x->seen != SEEN_ALL || x->file.size > x->tar_size - x->file.offset ||
        p->n_files == PACKAGE_FILES_MAX ||
        (p->n_files > 0 && strcasecmp(p->files[p->n_files - 1].path, x->file.path) == 0))
        return -EBADMSG;
    struct package_file *files = reallocarray(p->files, p->n_files + 1, sizeof(*files));
    if (!files)
        return -ENOMEM;
    p->files = files;
    p->files[p->n_files++] = x->file;
    p->size += x->file.size;
    x->file = (struct package_file){0};
    x->seen = 0;
    return 0;
}

static int damaged(struct error *e, const char *what)
{
    return error_set(e, ERROR_FIRMWARE_INVALID, "The stored package is damaged: %s", what);
}

static int read_trailer(int fd, uint64_t *ret_offset, uint64_t *ret_size, uint8_t *ret_sha256,
                        struct error *e)
{
    uint8_t trailer[TRAILER_SIZE];
    struct stat st;
    uint64_t offset = 0, size = 0;

    if (fstat(fd, &st) < 0 || st.st_size < TRAILER_SIZE)
        return damaged(e, "it is too short to hold an index");
    uint64_t end = (uint64_t)st.st_size - TRAILER_SIZE;
    if (io_pread_full(fd, trailer, sizeof(trailer), end) < 0)
        return damaged(e, "its end cannot be read");
    memcpy(&offset, trailer + TRAILER_OFFSET, sizeof(offset));
    memcpy(&size, trailer + TRAILER_SIZE_FIELD, sizeof(size));
    offset = le64toh(offset);
    size = le64toh(size);
    if (memcmp(trailer, MAGIC, sizeof(MAGIC)) != 0 || size > INDEX_MAX || offset > end ||
        size != end - offset)
        return damaged(e, "it does not end in an index");
    *ret_offset = offset;
    *ret_size = size;
    memcpy(ret_sha256, trailer + TRAILER_DIGEST, SHA256_SIZE);
    return 0;
}

int archive_read_index(int fd, struct package *p, struct error *e)
{
    uint64_t offset = 0, size = 0;
    uint8_t expected[SHA256_SIZE], found[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];

    int r = read_trailer(fd, &offset, &size, expected, e);
    if (r < 0)
        return r;
    _cleanup_free_ char *text = malloc(size + 1);
    if (!text)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (io_pread_full(fd, text, size, offset) < 0 || digest_sha256(text, size, found) < 0 ||
        memcmp(expected, found, SHA256_SIZE) != 0)
        return damaged(e, "its index does not match its digest");

    struct index_reader reader = {.p = p, .tar_size = offset};
    r = link_parse_text(text, size, on_field, on_record, &reader, NULL);
    free(reader.file.path);
    if (r == -ENOMEM)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (r < 0 || p->n_files == 0)
        return damaged(e, "its index cannot be read");
    if (archive_content_sha256(p->files, p->n_files, p->content_sha256) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    p->fd = fd;
    text_hex(p->content_sha256, SHA256_SIZE, hex);
    snprintf(p->id, sizeof(p->id), "%.32s", hex);
    return 0;
}
