/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A package of the library is read again: every byte against its digest, the whole against its id, and
 * gate 1. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/firmware-facts.h"
#include "worker/save.h"

enum { PPM = 1000000 };

/* All files, also those that no command refers to; package_open() has read the others. */
static int verify_files(struct worker *w, const struct package *p, struct error *e)
{
    uint8_t found[SHA256_SIZE];
    uint64_t done = 0;

    for (size_t i = 0; i < p->n_files; i++) {
        const struct package_file *f = &p->files[i];
        int r = worker_check(w, e);
        if (r < 0)
            return r;
        r = digest_sha256_fd(p->fd, f->offset, f->size, found);
        if (r < 0)
            return error_set(e, ERROR_FAILED, "%s cannot be read from the library: %s", f->path,
                             strerror(-r));
        if (memcmp(found, f->sha256, SHA256_SIZE) != 0) {
            r = error_set(e, ERROR_DIGEST_MISMATCH, "%s in the library is not what was imported", f->path);
            error_hint(e, HINT_IMPORT_FIRMWARE);
            worker_problem(w, e ? e->message : f->path);
            return r;
        }
        done += f->size;
        worker_progress(w, p->size ? done * PPM / p->size : PPM, done, p->size);
    }
    return 0;
}

/*
 * What is in a stored package, by the index and the bytes alone: nothing that its maker wrote is parsed here.
 * So this worker is nobody else's, whoever the one was that unpacked an archive.
 */
static int verify_content(struct worker *w, struct job_outcome *o)
{
    _cleanup_(package_freep) struct package *p = calloc(1, sizeof(*p));
    char sha256[SHA256_HEX_SIZE];
    if (w->fd_store < 0 || !p)
        return error_set(&o->error, ERROR_INVALID_ARGS, "A verification needs a package");
    worker_ready(w);
    worker_phase(w, "check", NULL);
    int r = archive_read_index(w->fd_store, p, &o->error);
    if (r == 0)
        r = verify_files(w, p, &o->error);
    if (r < 0)
        return r;
    text_hex(p->content_sha256, SHA256_SIZE, sha256);
    worker_tell(w, KEY_FIRMWARE "id", p->id);
    worker_tell(w, KEY_FIRMWARE "sha256", sha256);
    return 0;
}

int job_verify(struct worker *w, struct job_outcome *o)
{
    const char *type = worker_option(w, "type", "firmware");
    if (strcmp(type, "backup") == 0)
        return backup_verify(w, o);
    if (strcmp(type, "content") == 0)
        return verify_content(w, o);
    if (strcmp(type, "firmware") != 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "there is nothing of type \"%s\" to verify", type);
    const char *id = worker_option(w, "id", NULL);
    _cleanup_(package_freep) struct package *p = NULL;

    if (w->fd_store < 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "A verification needs a package");
    worker_ready(w);
    worker_phase(w, "check", NULL);
    int r = package_open(w->fd_store, NULL, &p, &o->error);
    if (r < 0)
        return r;
    if (id && strcmp(id, p->id) != 0)
        return error_set(&o->error, ERROR_DIGEST_MISMATCH,
                         "The package in the library has the content %s instead of %s", p->id, id);
    r = verify_files(w, p, &o->error);
    if (r < 0)
        return r;
    facts_tell(w, p);
    return facts_judge(w, p, &o->error);
}
