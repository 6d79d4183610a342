/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calibrations in the store: told, checked, and made of an XQCN that somebody gave. No modem here. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "firmware/version.h"
#include "worker/calibrate.h"

int calibrate_tell(struct worker *w, int fd, const struct calibration *c, const struct calibration_facts *f,
                   struct error *e)
{
    char hex[SHA256_HEX_SIZE], serial[16] = "", imei[DIAG_IMEI_DIGITS + 1];
    uint8_t digest[SHA256_SIZE];
    int r = digest_sha256_fd(fd, 0, f->file_size, digest);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "the backup cannot be read back: %s", strerror(-r));
    if (f->unit.have_serial)
        snprintf(serial, sizeof(serial), "%08x", f->unit.serial);
    worker_backup_fact(w, "id", f->id);
    worker_backup_fact(w, "kind", "xqcn");
    worker_backup_fact(w, "state", backup_state_name(f->state));
    worker_backup_number(w, "size", f->file_size);
    text_hex(f->sha256, SHA256_SIZE, hex);
    worker_backup_fact(w, "sha256", hex);
    text_hex(digest, SHA256_SIZE, hex);
    worker_backup_fact(w, "file-sha256", hex);
    worker_backup_fact(w, "serial", serial);
    worker_backup_fact(w, "model", f->model);
    worker_backup_fact(w, "version", f->version);
    worker_backup_fact(w, "chip", f->chip);
    worker_backup_fact(w, "partitions", "NV,EFS");
    worker_backup_number(w, "created", f->created);
    worker_backup_number(w, "xqcn-size", f->xqcn_size);
    /* Of a unit that told no serial in normal mode this says whose it is. */
    if (calibration_imei(c, imei) && running_imei_hash(w, imei, hex) == 0)
        worker_backup_fact(w, "imei-hash", hex);
    return 0;
}

int calibrate_check(struct worker *w, int fd, struct error *e)
{
    _cleanup_(calibration_freep) struct calibration *c = NULL;
    struct calibration_facts f;
    const char *id = worker_option(w, "id", NULL);
    worker_phase(w, "check", NULL);
    int r = calibration_open(fd, &c, &f, e);
    if (r == 0 && id && strcmp(id, f.id) != 0)
        r = error_set(e, ERROR_BACKUP_DAMAGED,
                      "The backup is %s and not %s: it is not the one that was stored", f.id, id);
    if (r < 0 && e->kind == ERROR_BACKUP_DAMAGED)
        worker_problem(w, e->message);
    return r < 0 ? r : calibrate_tell(w, fd, c, &f, e);
}

int calibrate_import(struct worker *w, int fd, uint64_t xqcn_size, struct error *e)
{
    _cleanup_(calibration_freep) struct calibration *c = NULL;
    struct calibration_facts f = {.imported = true, .created = realtime_usec()};
    struct version version;
    worker_phase(w, "check", NULL);
    int r = xqcn_read(fd, CALIBRATION_XQCN_OFFSET, xqcn_size, &c, e);
    if (r < 0)
        return r;
    snprintf(f.version, sizeof(f.version), "%s", c->version);
    if (version_parse(c->version, &version) == 0)
        snprintf(f.model, sizeof(f.model), "%s", version.model);
    if (c->ignored > 0)
        worker_log(w, "%u streams of the XQCN are of no use to a modem of this kind and are left alone",
                   c->ignored);
    r = calibration_wrap(fd, xqcn_size, c, &f, e);
    return r < 0 ? r : calibrate_tell(w, fd, c, &f, e);
}
