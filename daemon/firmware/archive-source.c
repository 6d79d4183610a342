/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/archive-inner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"

static const uint8_t MAGIC_ZIP[] = {'P', 'K', 3, 4};
static const uint8_t MAGIC_EMPTY_ZIP[] = {'P', 'K', 5, 6};
static const uint8_t MAGIC_7Z[] = {'7', 'z', 0xbc, 0xaf, 0x27, 0x1c};

static int progress(struct archive_source *s)
{
    if (!s->on_progress)
        return 0;
    int r = s->on_progress(s->userdata, s->read, s->regular && !s->spooled ? s->size : 0);
    if (r < 0)
        s->failure = r;
    return r;
}

/* ---- reading from the client ---- */

/* Waits until a pipe has bytes or ends. A slow client is cut off, a cancel is heard meanwhile. */
static int await_pipe(struct archive_source *s)
{
    usec_t deadline = deadline_in(s->options->input_timeout);
    for (;;) {
        struct pollfd fds[2] = {{.fd = s->fd, .events = POLLIN},
                                {.fd = s->options->wake_fd, .events = POLLIN}};
        int n = poll(fds, 2, deadline_poll_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return s->failure =
                       error_set(s->e, ERROR_FAILED, "Waiting for the archive failed: %s", strerror(errno));
        if (fds[1].revents) {
            int r = progress(s);
            if (r < 0)
                return r;
        }
        if (fds[0].revents)
            return 0;
        if (now_usec() >= deadline)
            return s->failure = error_set(s->e, ERROR_TIMEOUT,
                                          "No byte of the archive came for %llu s (%llu bytes came before)",
                                          (unsigned long long)(s->options->input_timeout / USEC_PER_SEC),
                                          (unsigned long long)s->read);
    }
}

static ssize_t read_given(struct archive_source *s, void *buffer, size_t size)
{
    for (;;) {
        ssize_t n;
        if (s->regular) {
            n = pread(s->fd, buffer, size, (off_t)s->position);
        } else {
            int r = await_pipe(s);
            if (r < 0)
                return r;
            n = read(s->fd, buffer, size);
        }
        if (n >= 0)
            return n;
        if (errno != EINTR && errno != EAGAIN)
            return s->failure =
                       error_set(s->e, ERROR_FAILED, "The archive cannot be read: %s", strerror(errno));
    }
}

ssize_t archive_source_next(struct archive_source *s)
{
    if (s->failure < 0)
        return s->failure;
    ssize_t n = (ssize_t)s->n_head;
    if (n > 0)
        s->n_head = 0;
    else
        n = read_given(s, s->buffer, sizeof(s->buffer));
    if (n <= 0)
        return n;
    s->position += (uint64_t)n;
    s->read += (uint64_t)n;
    if (s->read > PACKAGE_SIZE_MAX)
        return s->failure = error_set(s->e, ERROR_TOO_LARGE, "The archive is larger than %llu bytes",
                                      (unsigned long long)PACKAGE_SIZE_MAX);
    if (s->digest)
        digest_update(s->digest, s->buffer, (size_t)n);
    int r = progress(s);
    return r < 0 ? r : n;
}

static void finish_digest(struct archive_source *s)
{
    if (s->digest)
        digest_final(s->digest, s->sha256);
    s->digest = digest_free(s->digest);
}

int archive_source_drain(struct archive_source *s)
{
    ssize_t n = 1;
    /* A seekable one was hashed before, as a whole. */
    while (s->digest && n > 0)
        n = archive_source_next(s);
    if (n < 0)
        return (int)n;
    finish_digest(s);
    return 0;
}

/* ---- opening ---- */

static int check_descriptor(struct archive_source *s)
{
    struct stat st;
    int flags = fcntl(s->fd, F_GETFL);
    if (flags < 0 || fstat(s->fd, &st) < 0)
        return error_set(s->e, ERROR_INVALID_ARGS, "The archive's descriptor is not open");
    if (flags & O_PATH || (flags & O_ACCMODE) == O_WRONLY)
        return error_set(s->e, ERROR_INVALID_ARGS, "The archive's descriptor is not open for reading");
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
        return error_set(s->e, ERROR_INVALID_ARGS, "The archive is neither a regular file nor a pipe%s",
                         S_ISDIR(st.st_mode) ? " but a directory" : "");
    s->regular = S_ISREG(st.st_mode);
    s->size = s->regular ? (uint64_t)st.st_size : 0;
    if (s->size > PACKAGE_SIZE_MAX)
        return error_set(s->e, ERROR_TOO_LARGE, "The archive has %llu bytes, more than %llu",
                         (unsigned long long)s->size, (unsigned long long)PACKAGE_SIZE_MAX);
    return 0;
}

/* Enough of the beginning to tell the formats apart; what a pipe gave stays for archive_source_next(). */
static int read_head(struct archive_source *s)
{
    size_t have = 0;
    while (have < ARCHIVE_MAGIC_SIZE) {
        ssize_t n = s->regular ? pread(s->fd, s->buffer + have, ARCHIVE_MAGIC_SIZE - have, (off_t)have)
                               : read_given(s, s->buffer + have, sizeof(s->buffer) - have);
        if (n < 0)
            return s->failure
                       ? s->failure
                       : error_set(s->e, ERROR_FAILED, "The archive cannot be read: %s", strerror(errno));
        if (n == 0)
            break;
        have += (size_t)n;
    }
    if (have == 0)
        return error_set(s->e, ERROR_FIRMWARE_INVALID, "The archive is empty: not a single byte came");
    if (have < ARCHIVE_MAGIC_SIZE)
        memset(s->buffer + have, 0, ARCHIVE_MAGIC_SIZE - have);
    s->n_head = s->regular ? 0 : have;
    return 0;
}

int archive_source_open(struct archive_source *s, int fd, const struct archive_options *options,
                        int (*on_progress)(void *, uint64_t, uint64_t), void *userdata,
                        enum archive_format *ret_format, struct error *e)
{
    s->options = options;
    s->on_progress = on_progress;
    s->userdata = userdata;
    s->e = e;
    s->fd = fd;
    int r = check_descriptor(s);
    if (r < 0)
        return r;
    s->digest = digest_new(DIGEST_SHA256);
    if (!s->digest)
        return error_set(e, ERROR_FAILED, "Out of memory");
    r = read_head(s);
    if (r < 0)
        return r;
    if (memcmp(s->buffer, MAGIC_ZIP, sizeof(MAGIC_ZIP)) == 0 ||
        memcmp(s->buffer, MAGIC_EMPTY_ZIP, sizeof(MAGIC_EMPTY_ZIP)) == 0)
        *ret_format = ARCHIVE_IS_ZIP;
    else if (memcmp(s->buffer, MAGIC_7Z, sizeof(MAGIC_7Z)) == 0)
        *ret_format = ARCHIVE_IS_7Z;
    else
        *ret_format = ARCHIVE_IS_STREAM;
    return 0;
}

void archive_source_close(struct archive_source *s)
{
    s->digest = digest_free(s->digest);
}

/* ---- random access ---- */

static int spool(struct archive_source *s, int store_fd)
{
    ssize_t n;
    while ((n = archive_source_next(s)) > 0) {
        int r = io_pwrite_full(store_fd, s->buffer, (size_t)n, ARCHIVE_SPOOL_OFFSET + s->read - (uint64_t)n);
        if (r < 0)
            return s->failure = error_set(s->e, r == -ENOSPC ? ERROR_NO_SPACE : ERROR_FAILED,
                                          "The archive cannot be spooled: %s", strerror(-r));
    }
    if (n < 0)
        return (int)n;
    finish_digest(s);
    s->fd = store_fd;
    s->base = ARCHIVE_SPOOL_OFFSET;
    s->size = s->read;
    s->regular = s->spooled = true;
    return 0;
}

int archive_source_make_seekable(struct archive_source *s, int store_fd)
{
    int r = s->regular && !s->options->exact ? archive_source_drain(s) : spool(s, store_fd);
    s->position = 0;
    return r;
}
