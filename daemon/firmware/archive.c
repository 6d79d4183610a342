/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "firmware/archive-inner.h"

enum { MEMBER_MODE = 0644, RETRIES_MAX = 16 };

/* An import under way. */
struct import {
    struct archive_source *source;
    struct archive *in, *out;
    struct archive_entry *member; /* of the store's tar, used again and again */
    int store_fd;
    uint64_t written; /* end of the tar so far */
    int write_error;
    const struct archive_options *options;
    void (*on_problem)(void *userdata, const char *text);
    void *userdata;
    struct error *e;
    struct package_file *files;
    size_t n_files;
    uint64_t bytes, entries;
    size_t n_problems;
    char first_problem[256];
};

/* ---- names ---- */

int archive_clean_name(const char *name, char *ret, size_t size, const char **ret_why)
{
    char clean[PACKAGE_PATH_MAX];
    size_t n = 0;
    const char *why = NULL;

    if (!*name)
        why = "it is empty";
    else if (!text_is_clean(name, strlen(name)))
        why = "it holds control characters or is not UTF-8";
    else if (name[0] == '/' || name[0] == '\\')
        why = "it is absolute";
    else if (name[1] == ':')
        why = "it begins with a drive letter";

    for (const char *p = name; !why && *p;) {
        size_t length = strcspn(p, "/\\");
        if (length == 2 && p[0] == '.' && p[1] == '.')
            why = "it climbs out with \"..\"";
        else if (length > 255)
            why = "a part of it is longer than 255 bytes";
        else if (n + length + 2 > sizeof(clean))
            why = "it is longer than 510 bytes";
        else if (length > 0 && !(length == 1 && p[0] == '.')) {
            if (n > 0)
                clean[n++] = '/';
            memcpy(clean + n, p, length);
            n += length;
        }
        p += length + (p[length] != '\0');
    }
    if (!why && n + 1 > size)
        why = "it is too long";
    if (why) {
        *ret_why = why;
        return -EINVAL;
    }
    memcpy(ret, clean, n);
    ret[n] = '\0';
    return 0;
}

_printf_(2, 3) static void problem(struct import *im, const char *format, ...)
{
    char raw[1024], text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(raw, sizeof(raw), format, ap);
    va_end(ap);
    text_clean(raw, strlen(raw), text, sizeof(text));
    if (im->n_problems == 0)
        snprintf(im->first_problem, sizeof(im->first_problem), "%.*s", (int)sizeof(im->first_problem) - 1,
                 text);
    if (im->n_problems++ < PACKAGE_PROBLEMS_MAX && im->on_problem)
        im->on_problem(im->userdata, text);
}

/* ---- libarchive's reader on our source ---- */

static la_ssize_t on_read(struct archive *a, void *userdata, const void **ret)
{
    struct import *im = userdata;
    struct archive_source *s = im->source;
    ssize_t n;

    if (s->digest) { /* sequential: hashed on the way */
        n = archive_source_next(s);
    } else {
        size_t want = (size_t)MIN_OF((uint64_t)sizeof(s->buffer), s->size - MIN_OF(s->position, s->size));
        int r = want > 0 ? io_pread_full(s->fd, s->buffer, want, s->base + s->position) : 0;
        if (r < 0)
            s->failure = error_set(s->e, ERROR_FAILED, "The archive cannot be read again: %s", strerror(-r));
        n = r < 0 ? r : (ssize_t)want;
        s->position += r < 0 ? 0 : want;
    }
    if (n < 0) {
        archive_set_error(a, (int)-n, "input failed");
        return ARCHIVE_FATAL;
    }
    *ret = s->buffer;
    return n;
}

static la_int64_t on_seek(_unused_ struct archive *a, void *userdata, la_int64_t offset, int whence)
{
    struct archive_source *s = ((struct import *)userdata)->source;
    uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->position : s->size;
    int64_t to;
    if (__builtin_add_overflow((int64_t)from, offset, &to) || to < 0 || (uint64_t)to > s->size)
        return ARCHIVE_FATAL;
    s->position = (uint64_t)to;
    return to;
}

/* Formats and filters by name: what is not asked for is not parsed. */
static int open_input(struct import *im, enum archive_format format)
{
    struct archive *a = im->in;
    int r;
    if (format == ARCHIVE_IS_ZIP) {
        r = archive_read_support_format_zip_seekable(a);
    } else if (format == ARCHIVE_IS_7Z) {
        r = archive_read_support_format_7zip(a);
    } else {
        r = archive_read_support_format_tar(a);
        if (r == ARCHIVE_OK)
            r = archive_read_support_filter_gzip(a);
        if (r == ARCHIVE_OK)
            r = archive_read_support_filter_xz(a);
        if (r == ARCHIVE_OK)
            r = archive_read_support_filter_zstd(a);
    }
    if (r != ARCHIVE_OK)
        return error_set(im->e, ERROR_UNSUPPORTED, "libarchive here lacks a format: %s",
                         archive_error_string(a));
    archive_read_set_read_callback(a, on_read);
    archive_read_set_callback_data(a, im);
    if (format != ARCHIVE_IS_STREAM)
        archive_read_set_seek_callback(a, on_seek);
    return archive_read_open1(a) == ARCHIVE_OK ? 0 : -EBADMSG;
}

/* libarchive said no: what the source or the store knows comes first, then memory, else the archive itself is
 * at fault. */
static int input_failure(struct import *im)
{
    if (im->source->failure < 0)
        return im->source->failure;
    const char *text = archive_error_string(im->in);
    /* zstd refuses a large window by itself, and libarchive has no number for that. */
    if (archive_errno(im->in) == ENOMEM || (text && strstr(text, "too much memory")))
        return error_set(im->e, ERROR_TOO_LARGE,
                         "Unpacking the archive needs more memory than a worker may use");
    return error_set(im->e, ERROR_FIRMWARE_INVALID, "The archive is damaged or no zip, 7z or tar: %s",
                     text ? text : "unknown format");
}

/* ---- libarchive's writer on the store ---- */

/*
 * A failed write is kept and told by whoever asked for it (write_failed): a writer that is told of it itself
 * leaks its buffers (libarchive 3.6).
 */
static la_ssize_t on_write(_unused_ struct archive *a, void *userdata, const void *data, size_t size)
{
    struct import *im = userdata;
    if (im->write_error == 0)
        im->write_error = io_pwrite_full(im->store_fd, data, size, im->written);
    if (im->write_error == 0)
        im->written += size;
    return (la_ssize_t)size;
}

static bool write_failed(const struct import *im, la_ssize_t result)
{
    return result < ARCHIVE_WARN || im->write_error < 0;
}

static int store_failure(struct import *im)
{
    int error = im->write_error ? -im->write_error : archive_errno(im->out);
    enum error_kind kind = error == ENOSPC || error == EDQUOT ? ERROR_NO_SPACE
                           : error == EFBIG                   ? ERROR_TOO_LARGE
                                                              : ERROR_FAILED;
    return error_set(im->e, kind, "The package cannot be written to the library: %s", strerror(error));
}

static int open_output(struct import *im)
{
    /* Unbuffered: after a header the position is where the member's data begin. */
    if (archive_write_set_format_gnutar(im->out) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(im->out, 0) != ARCHIVE_OK ||
        archive_write_open(im->out, im, NULL, on_write, NULL) != ARCHIVE_OK)
        return store_failure(im);
    return 0;
}

/* ---- one member ---- */

struct member {
    struct digest *sha256, *md5;
    uint64_t offset, size, done;
};

static void member_done(struct member *m)
{
    digest_free(m->sha256);
    digest_free(m->md5);
}

static int put_data(struct import *im, struct member *m, const void *data, size_t size)
{
    digest_update(m->sha256, data, size);
    digest_update(m->md5, data, size);
    m->done += size;
    la_ssize_t n = archive_write_data(im->out, data, size);
    return write_failed(im, n) || (size_t)n != size ? store_failure(im) : 0;
}

/* Holes of a sparse member are zeros like any others; their length is within the claimed size, which was
 * counted. */
static int put_zeros(struct import *im, struct member *m, uint64_t until)
{
    static const char zeros[4096];
    int r = 0;
    while (r == 0 && m->done < until)
        r = put_data(im, m, zeros, (size_t)MIN_OF(until - m->done, (uint64_t)sizeof(zeros)));
    return r;
}

static int copy_data(struct import *im, struct member *m, const char *path)
{
    const void *block;
    size_t size;
    la_int64_t offset;
    int a;

    while ((a = archive_read_data_block(im->in, &block, &size, &offset)) == ARCHIVE_OK || a == ARCHIVE_WARN) {
        if (offset < 0 || (uint64_t)offset < m->done || (uint64_t)offset + size > m->size)
            return error_set(im->e, ERROR_FIRMWARE_INVALID,
                             "The archive is damaged: %s holds more than the %llu bytes it claims", path,
                             (unsigned long long)m->size);
        int r = put_zeros(im, m, (uint64_t)offset);
        if (r == 0)
            r = put_data(im, m, block, size);
        if (r == 0 && im->source->on_progress)
            r = im->source->on_progress(im->source->userdata, im->source->read,
                                        im->source->regular ? im->source->size : 0);
        if (r < 0)
            return r;
    }
    if (a != ARCHIVE_EOF)
        return input_failure(im);
    if (m->done < m->size)
        return error_set(im->e, ERROR_FIRMWARE_INVALID,
                         "The archive is damaged: %s ends after %llu of the %llu bytes it claims", path,
                         (unsigned long long)m->done, (unsigned long long)m->size);
    return 0;
}

static struct package_file *add_file(struct import *im, const char *path)
{
    struct package_file *files = reallocarray(im->files, im->n_files + 1, sizeof(*files));
    char *copy = strdup(path);
    if (files)
        im->files = files;
    if (!files || !copy) {
        free(copy);
        return NULL;
    }
    struct package_file *f = &files[im->n_files++];
    *f = (struct package_file){.path = copy};
    return f;
}

static int store_member(struct import *im, const char *path, uint64_t size)
{
    _cleanup_(member_done) struct member m = {
        .sha256 = digest_new(DIGEST_SHA256), .md5 = digest_new(DIGEST_MD5), .size = size};
    if (!m.sha256 || !m.md5)
        return error_set(im->e, ERROR_FAILED, "Out of memory");

    archive_entry_clear(im->member);
    archive_entry_set_pathname(im->member, path);
    archive_entry_set_filetype(im->member, AE_IFREG);
    archive_entry_set_perm(im->member, MEMBER_MODE);
    archive_entry_set_size(im->member, (la_int64_t)size);
    archive_entry_set_mtime(im->member, 0, 0);
    if (write_failed(im, archive_write_header(im->out, im->member)))
        return store_failure(im);
    m.offset = im->written;

    int r = copy_data(im, &m, path);
    if (r < 0)
        return r;
    if (write_failed(im, archive_write_finish_entry(im->out)))
        return store_failure(im);
    struct package_file *f = add_file(im, path);
    if (!f)
        return error_set(im->e, ERROR_FAILED, "Out of memory");
    f->offset = m.offset;
    f->size = size;
    digest_final(m.sha256, f->sha256);
    digest_final(m.md5, f->md5);
    return 0;
}

/* Takes a member, or lists why not: the whole archive is looked at, so that the user sees everything at once.
 */
static int take_member(struct import *im, struct archive_entry *entry)
{
    char path[PACKAGE_PATH_MAX];
    const char *why = NULL;
    const char *name = archive_entry_pathname_utf8(entry);
    unsigned type = archive_entry_filetype(entry);
    la_int64_t size = archive_entry_size(entry);

    if (++im->entries > im->options->max_entries)
        return error_set(im->e, ERROR_TOO_LARGE, "The archive has more than %llu members",
                         (unsigned long long)im->options->max_entries);
    /* Counted by what is claimed and before anything is unpacked, also for what is refused: skipping it
     * unpacks, too. */
    if (size < 0 || (uint64_t)size > im->options->max_bytes - im->bytes)
        return error_set(im->e, ERROR_TOO_LARGE, "The archive unpacks to more than %llu bytes",
                         (unsigned long long)im->options->max_bytes);
    im->bytes += (uint64_t)size;

    if (!name) {
        problem(im, "member %llu has a name that is not text", (unsigned long long)im->entries);
        return 0;
    }
    if (archive_clean_name(name, path, sizeof(path), &why) < 0) {
        problem(im, "the name of member \"%.200s\" is refused: %s", name, why);
        return 0;
    }
    if (archive_entry_hardlink(entry)) {
        problem(im, "%s is a hard link; a package has only files", path);
        return 0;
    }
    if (type == AE_IFDIR)
        return 0;
    if (type != AE_IFREG) {
        problem(im, "%s is a %s; a package has only files", path,
                type == AE_IFLNK                       ? "symbolic link"
                : type == AE_IFCHR || type == AE_IFBLK ? "device"
                                                       : "special file");
        return 0;
    }
    if (archive_entry_is_encrypted(entry)) {
        problem(im, "%s is encrypted", path);
        return 0;
    }
    if (!archive_entry_size_is_set(entry)) {
        problem(im, "%s does not say how large it is", path);
        return 0;
    }
    if (!*path) {
        problem(im, "a file has the name of the archive's own directory");
        return 0;
    }
    return store_member(im, path, (uint64_t)size);
}

static int read_members(struct import *im)
{
    unsigned retries = 0;
    for (;;) {
        struct archive_entry *entry;
        int a = archive_read_next_header(im->in, &entry);
        if (a == ARCHIVE_EOF)
            return 0;
        if (a == ARCHIVE_RETRY && ++retries < RETRIES_MAX)
            continue;
        if (a != ARCHIVE_OK && a != ARCHIVE_WARN)
            return input_failure(im);
        int r = take_member(im, entry);
        if (r < 0)
            return r;
    }
}

/* ---- the whole ---- */

static int compare_nocase(const void *a, const void *b)
{
    return strcasecmp(((const struct package_file *)a)->path, ((const struct package_file *)b)->path);
}

static void check_duplicates(struct import *im)
{
    qsort(im->files, im->n_files, sizeof(*im->files), compare_nocase);
    for (size_t i = 1; i < im->n_files; i++)
        if (compare_nocase(&im->files[i - 1], &im->files[i]) == 0)
            problem(im, "%s is there twice", im->files[i].path);
}

static int judge_members(struct import *im)
{
    if (im->n_files > 0)
        check_duplicates(im);
    if (im->n_problems == 1)
        return error_set(im->e, ERROR_FIRMWARE_INVALID, "The archive is refused: %s", im->first_problem);
    if (im->n_problems > 1)
        return error_set(im->e, ERROR_FIRMWARE_INVALID, "The archive is refused: %s (and %zu more)",
                         im->first_problem, im->n_problems - 1);
    if (im->n_files == 0)
        return error_set(im->e, ERROR_FIRMWARE_INVALID, "The archive holds no file");
    return 0;
}

static void import_done(struct import *im)
{
    archive_read_free(im->in);
    archive_write_free(im->out);
    archive_entry_free(im->member);
    for (size_t i = 0; i < im->n_files; i++)
        free(im->files[i].path);
    free(im->files);
}

static int run_import(struct import *im, enum archive_format format, struct archive_result *ret)
{
    int r = open_output(im);
    if (r < 0)
        return r;
    r = open_input(im, format);
    if (r == -EBADMSG)
        return input_failure(im);
    if (r == 0)
        r = read_members(im);
    if (r == 0)
        r = judge_members(im);
    if (r == 0)
        r = archive_source_drain(im->source);
    if (r < 0)
        return r;
    if (write_failed(im, archive_write_close(im->out)))
        return store_failure(im);

    /* The spooled archive, if there is one, goes before the index takes its place at the end. */
    if (ftruncate(im->store_fd, (off_t)im->written) < 0)
        return error_set(im->e, ERROR_FAILED, "The package cannot be cut to its size: %s", strerror(errno));
    struct archive_result result = {.bytes = im->bytes, .entries = im->entries};
    archive_cut_top(im->files, im->n_files, result.top, sizeof(result.top));
    memcpy(result.archive_sha256, im->source->sha256, SHA256_SIZE);
    r = archive_write_index(im->store_fd, im->written, result.top, im->options->name, im->files, im->n_files,
                            im->e);
    if (r < 0)
        return r;
    *ret = result;
    return 0;
}

int archive_import(int archive_fd, int store_fd, const struct archive_options *options,
                   int (*on_progress)(void *userdata, uint64_t done, uint64_t total),
                   void (*on_problem)(void *userdata, const char *text), void *userdata,
                   struct archive_result *ret, struct error *e)
{
    enum archive_format format = ARCHIVE_IS_STREAM;
    _cleanup_free_ struct archive_source *source = calloc(1, sizeof(*source));
    if (!source)
        return error_set(e, ERROR_FAILED, "Out of memory");
    int r = archive_source_open(source, archive_fd, options, on_progress, userdata, &format, e);
    if (r == 0 && format != ARCHIVE_IS_STREAM)
        r = archive_source_make_seekable(source, store_fd);
    if (r == 0 && format == ARCHIVE_IS_ZIP)
        r = archive_check_zip(source, options->max_entries, e);
    if (r == 0) {
        _cleanup_(import_done) struct import im = {
            .source = source,
            .in = archive_read_new(),
            .out = archive_write_new(),
            .member = archive_entry_new(),
            .store_fd = store_fd,
            .options = options,
            .on_problem = on_problem,
            .userdata = userdata,
            .e = e,
        };
        r = im.in && im.out && im.member ? run_import(&im, format, ret)
                                         : error_set(e, ERROR_FAILED, "Out of memory");
    }
    archive_source_close(source);
    return r;
}
