/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A package comes into the library: what the client gave is unpacked into the store entry, then read back
 * from there and put through gate 1. Only one that has no problem is told to the service as done.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/firmware-facts.h"
#include "worker/save.h"

enum {
    PPM_UNPACKED = 900000, /* of the work, when unpacking is over; the check is the rest */
    PPM_DONE = 1000000,
};

struct import {
    struct worker *w;
    struct error *e;
};

static int on_progress(void *userdata, uint64_t done, uint64_t total)
{
    struct import *im = userdata;
    uint64_t ppm = total > 0 ? MIN_OF(done, total) * PPM_UNPACKED / total : 0;
    worker_progress(im->w, ppm, done, total);
    return worker_check(im->w, im->e);
}

static void on_problem(void *userdata, const char *text)
{
    worker_problem(((struct import *)userdata)->w, text);
}

static int check_archive_digest(const struct worker *w, const struct archive_result *result, struct error *e)
{
    const char *expected = worker_option(w, "sha256", NULL);
    char found[SHA256_HEX_SIZE];
    if (!expected)
        return 0;
    text_hex(result->archive_sha256, SHA256_SIZE, found);
    if (text_equal_nocase(expected, found))
        return 0;
    return error_set(e, ERROR_DIGEST_MISMATCH,
                     "The archive is not the one that was meant: SHA-256 %s expected, %s found", expected,
                     found);
}

int job_import(struct worker *w, struct job_outcome *o)
{
    const char *type = worker_option(w, "type", "firmware");
    if (strcmp(type, "backup") == 0)
        return backup_import(w, o);
    if (strcmp(type, "firmware") != 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "there is nothing of type \"%s\" to import", type);
    struct import im = {.w = w, .e = &o->error};
    struct archive_result result;
    const struct archive_options options = {
        .max_bytes = MIN_OF(worker_option_u64(w, "max-bytes", PACKAGE_SIZE_MAX), PACKAGE_SIZE_MAX),
        .max_entries =
            MIN_OF(worker_option_u64(w, "max-entries", PACKAGE_FILES_MAX), (uint64_t)PACKAGE_FILES_MAX),
        .input_timeout = worker_option_u64(w, "input-timeout-usec", 60 * USEC_PER_SEC),
        .wake_fd = w->link,
        .name = worker_option(w, "label", NULL),
        .exact = worker_option(w, "sha256", NULL),
    };

    if (w->fd_archive < 0 || w->fd_store < 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "An import needs an archive and a file to put it in");
    worker_ready(w);
    worker_phase(w, "spool", NULL);
    int r = archive_import(w->fd_archive, w->fd_store, &options, on_progress, on_problem, &im, &result,
                           &o->error);
    if (r < 0)
        return r;
    r = check_archive_digest(w, &result, &o->error);
    if (r < 0)
        return r;

    worker_progress(w, PPM_UNPACKED, result.bytes, result.bytes);
    worker_phase(w, "check", NULL);
    _cleanup_(package_freep) struct package *p = NULL;
    r = package_open(w->fd_store, NULL, &p, &o->error);
    if (r < 0)
        return r;
    facts_tell(w, p);
    r = facts_judge(w, p, &o->error);
    if (r == 0)
        r = worker_check(w, &o->error);
    if (r < 0)
        return r;
    if (fdatasync(w->fd_store) < 0)
        return error_set(&o->error, errno == ENOSPC ? ERROR_NO_SPACE : ERROR_FAILED,
                         "The package cannot be written to the library: %s", strerror(errno));
    worker_progress(w, PPM_DONE, result.bytes, result.bytes);
    return 0;
}
