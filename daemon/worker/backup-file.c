/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Backups that come from outside, and those of the store looked at again: every byte of them is checked, by a
 * worker that has no modem. What such a worker says of a backup the service believes; what the one that spoke
 * with a modem says, it does not.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "worker/calibrate.h"
#include "worker/dump.h"
#include "worker/save.h"

enum { CHUNK = 256 * 1024, PPM = 1000000, PPM_COPIED = 500000 };

struct check {
    struct worker *w;
    struct error *e;
    uint64_t before; /* of a million, done before the check began */
};

static int on_progress(void *userdata, uint64_t done, uint64_t total)
{
    struct check *c = userdata;
    worker_progress(c->w, c->before + (total ? done * (PPM - c->before) / total : 0), done, total);
    return worker_check(c->w, c->e);
}

static int check_dump(struct check *c, const char *id)
{
    struct dump_facts *f = calloc(1, sizeof(*f));
    worker_phase(c->w, "check", NULL);
    int r = f ? dump_check(c->w->fd_store, f, on_progress, c, c->e)
              : error_set(c->e, ERROR_FAILED, "Out of memory");
    if (r == 0 && id && strcmp(id, f->id) != 0)
        r = error_set(c->e, ERROR_BACKUP_DAMAGED,
                      "The dump is %s and not %s: it is not the one that was stored", f->id, id);
    if (r < 0 && c->e->kind == ERROR_BACKUP_DAMAGED)
        worker_problem(c->w, c->e->message);
    if (r == 0)
        dump_tell(c->w, f);
    free(f);
    return r;
}

static int check(struct worker *w, uint64_t before, struct error *e)
{
    _cleanup_(backup_freep) struct backup *b = NULL;
    struct check c = {.w = w, .e = e, .before = before};
    const char *id = worker_option(w, "id", NULL);
    if (calibration_is_file(w->fd_store))
        return calibrate_check(w, w->fd_store, e);
    if (dump_is_file(w->fd_store))
        return check_dump(&c, id);
    worker_phase(w, "check", NULL);
    int r = backup_open(w->fd_store, &b, e);
    if (r == 0 && id && strcmp(id, b->id) != 0)
        r = error_set(e, ERROR_BACKUP_DAMAGED,
                      "The backup is %s and not %s: it is not the one that was stored", b->id, id);
    if (r == 0)
        r = backup_check(b, on_progress, &c, e);
    if (r < 0 && e->kind == ERROR_BACKUP_DAMAGED)
        worker_problem(w, e->message);
    if (r == 0)
        backup_tell(w, b);
    return r;
}

/* 1: there is something to read, 0: only the link has something to say. */
static int await_input(struct worker *w, usec_t patience, struct error *e)
{
    struct pollfd fds[] = {{.fd = w->fd_archive, .events = POLLIN}, {.fd = w->link, .events = POLLIN}};
    int n = poll(fds, ARRAY_SIZE(fds), deadline_poll_ms(deadline_in(patience)));
    if (n < 0 && errno != EINTR)
        return error_set(e, ERROR_FAILED, "waiting for the backup: %s", strerror(errno));
    if (n == 0)
        return error_set(e, ERROR_TIMEOUT, "No more of the backup came for %llu s",
                         (unsigned long long)(patience / USEC_PER_SEC));
    int r = worker_check(w, e);
    return r < 0 ? r : fds[0].revents != 0;
}

/* To `at` of the store's file; *ret: how much. */
static int copy(struct worker *w, uint64_t at, uint64_t *ret, struct error *e)
{
    usec_t patience = worker_option_u64(w, "input-timeout-usec", 60 * USEC_PER_SEC);
    uint64_t max = MIN_OF(worker_option_u64(w, "max-bytes", BACKUP_FILE_MAX), BACKUP_FILE_MAX), done = 0;
    _cleanup_free_ uint8_t *buffer = malloc(CHUNK);
    if (!buffer)
        return error_set(e, ERROR_FAILED, "Out of memory");
    for (;;) {
        int r = await_input(w, patience, e);
        if (r < 0)
            return r;
        if (r == 0)
            continue;
        ssize_t n = read(w->fd_archive, buffer, CHUNK);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return error_set(e, ERROR_FAILED, "The backup cannot be read: %s", strerror(errno));
        if (n == 0) {
            *ret = done;
            return 0;
        }
        if ((uint64_t)n > max - done)
            return error_set(e, ERROR_TOO_LARGE, "The backup is larger than %llu bytes",
                             (unsigned long long)max);
        r = io_pwrite_full(w->fd_store, buffer, (size_t)n, at + done);
        if (r < 0)
            return error_set(e, io_is_full(r) ? ERROR_NO_SPACE : ERROR_FAILED,
                             "The backup cannot be written to the store: %s", strerror(-r));
        done += (uint64_t)n;
        worker_progress(w, 0, done, 0);
    }
}

/*
 * What came lies behind the room for a header. A tar is one of ours and moves to the front; anything else is
 * taken for an XQCN, whose reader says what is wrong with it.
 */
static int settle_down(struct worker *w, uint64_t size, bool *ret_ours, struct error *e)
{
    static const char magic[] = "ustar";
    enum { AT_MAGIC = 257 };
    char found[sizeof(magic) - 1] = "";
    _cleanup_free_ uint8_t *buffer = malloc(CHUNK);
    *ret_ours = size > AT_MAGIC + sizeof(magic) &&
                io_pread_full(w->fd_store, found, sizeof(found), CALIBRATION_XQCN_OFFSET + AT_MAGIC) == 0 &&
                memcmp(found, magic, sizeof(found)) == 0;
    if (!*ret_ours)
        return 0;
    if (!buffer)
        return error_set(e, ERROR_FAILED, "Out of memory");
    for (uint64_t at = 0; at < size; at += CHUNK) {
        size_t n = (size_t)MIN_OF((uint64_t)CHUNK, size - at);
        int r = io_pread_full(w->fd_store, buffer, n, CALIBRATION_XQCN_OFFSET + at);
        if (r == 0)
            r = io_pwrite_full(w->fd_store, buffer, n, at);
        if (r < 0)
            return error_set(e, io_is_full(r) ? ERROR_NO_SPACE : ERROR_FAILED,
                             "The backup cannot be moved in the store: %s", strerror(-r));
    }
    return ftruncate(w->fd_store, (off_t)size) < 0
               ? error_set(e, ERROR_FAILED, "The backup cannot be cut to its size: %s", strerror(errno))
               : 0;
}

int backup_import(struct worker *w, struct job_outcome *o)
{
    if (w->fd_archive < 0 || w->fd_store < 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "An import needs a backup and a file to put it in");
    worker_ready(w);
    worker_phase(w, "spool", NULL);
    uint64_t size = 0;
    bool ours = false;
    int r = copy(w, CALIBRATION_XQCN_OFFSET, &size, &o->error);
    if (r == 0)
        r = settle_down(w, size, &ours, &o->error);
    if (r == 0)
        r = ours ? check(w, PPM_COPIED, &o->error) : calibrate_import(w, w->fd_store, size, &o->error);
    if (r == 0 && fdatasync(w->fd_store) < 0)
        r = error_set(&o->error, io_is_full(-errno) ? ERROR_NO_SPACE : ERROR_FAILED,
                      "The backup cannot be written to the store: %s", strerror(errno));
    return r;
}

int backup_verify(struct worker *w, struct job_outcome *o)
{
    if (w->fd_store < 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "A verification needs a backup");
    worker_ready(w);
    return check(w, 0, &o->error);
}
