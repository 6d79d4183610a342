/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A bit that went wrong on the way in a frame whose CRC is right shows only in a second reading, or in the
 * modem's own MD5 of a file, which is one question instead of four. */

#include <errno.h>
#include <string.h>

#include "worker/reading.h"

static int check_item(struct reading *x, struct calibration_nv *n)
{
    uint8_t data[DIAG_NV_SIZE];
    unsigned status;
    for (unsigned i = 0; i < READING_TRIES; i++) {
        int r = diag_nv_read(x->diag, n->item, n->context, data, &status, x->e);
        if (r < 0)
            return r;
        if (status == DIAG_NV_DONE && memcmp(data, n->data, sizeof(data)) == 0)
            return 0;
        if (status == DIAG_NV_DONE)
            memcpy(n->data, data, sizeof(data));
    }
    x->facts->n_unstable++;
    worker_log(x->worker, "WARN: NV item %u changes while it is read", n->item);
    return 0;
}

/* 1: the same. */
static int compare_file(struct reading *x, const struct calibration_file *f)
{
    struct error own = {0};
    uint8_t told[MD5_SIZE], found[MD5_SIZE];
    int r = x->md5 ? diag_efs_md5(x->diag, f->path, told, &own) : 1;
    if (r == -EOPNOTSUPP)
        x->md5 = false; /* this firmware has no such command: read again then */
    else if (r < 0) {
        *x->e = own;
        return r;
    }
    if (r == 0) {
        _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_MD5);
        if (!d)
            return reading_no_memory(x);
        digest_update(d, f->data ? f->data : (const uint8_t *)"", (size_t)f->size);
        digest_final(d, found);
        return memcmp(told, found, MD5_SIZE) == 0;
    }
    _cleanup_free_ uint8_t *again = NULL;
    size_t size = 0;
    r = diag_efs_read(x->diag, f->path, CALIBRATE_FILE_MAX, &again, &size, x->e);
    if (r != 0)
        return MIN_OF(r, 0);
    return size == f->size && (size == 0 || memcmp(again, f->data, size) == 0);
}

int reading_check_file(struct reading *x, struct calibration_file *f)
{
    for (unsigned i = 0; i < READING_TRIES; i++) {
        uint8_t *again = NULL;
        size_t size = 0;
        int r = compare_file(x, f);
        if (r != 0)
            return MIN_OF(r, 0);
        r = diag_efs_read(x->diag, f->path, CALIBRATE_FILE_MAX, &again, &size, x->e);
        if (r < 0)
            return r;
        if (r > 0)
            break;
        free(f->data);
        f->data = again;
        f->size = size;
    }
    x->facts->n_unstable++;
    worker_log(x->worker, "WARN: %s changes while it is read", f->path);
    return 0;
}

int reading_check(struct reading *x)
{
    int r = 0;
    worker_phase(x->worker, "verify", NULL);
    for (size_t i = 0; i < x->c->n_nv && r == 0; i++)
        r = check_item(x, &x->c->nv[i]);
    for (size_t i = 0; i < x->c->n_files && r == 0; i++)
        r = reading_check_file(x, &x->c->files[i]);
    return r;
}
