/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "firmware/version.h"
#include "worker/running.h"
#include "worker/save.h"

enum { LIST_SIZE = 1500 /* fits a datagram with room to spare; the manifest has them all */ };

void backup_facts(const struct session *s, const char *table, struct backup *ret)
{
    const struct worker *w = s->worker;
    bool confirmed;
    const char *known = running_known_version(w, &confirmed);
    struct version version;
    *ret = (struct backup){.kind = BACKUP_CALIBRATION,
                           .created = worker_option_u64(w, "created", realtime_usec()),
                           .unit = session_unit(s),
                           .table = (char *)(uintptr_t)table,
                           .fd = -1};
    ret->flaw = running_known_flaw(w, &ret->unit);
    const char *chip = ret->unit.have_hwid ? sahara_chip_name(ret->unit.hwid) : NULL;
    snprintf(ret->chip, sizeof(ret->chip), "%s", chip ? chip : "");
    if (!text_is_clean(known, strlen(known)) || strlen(known) >= sizeof(ret->version))
        return;
    snprintf(ret->version, sizeof(ret->version), "%s", known);
    ret->version_confirmed = *known && confirmed;
    if (version_parse(known, &version) == 0)
        snprintf(ret->model, sizeof(ret->model), "%s", version.model);
}

static void tell_partitions(struct worker *w, const struct backup *b)
{
    char list[LIST_SIZE] = "";
    size_t used = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        size_t n = strlen(b->parts[i].name);
        if (used + n + 2 > sizeof(list))
            break;
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? "," : "", b->parts[i].name);
    }
    worker_backup_fact(w, "partitions", list);
}

static void tell_unit_data(struct worker *w, const struct backup *b)
{
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    if (backup_unit_data(b, digest) < 0)
        return;
    text_hex(digest, SHA256_SIZE, hex);
    worker_backup_fact(w, "unit-data", hex);
}

void backup_tell(struct worker *w, const struct backup *b)
{
    char hex[SHA256_HEX_SIZE], geometry[32], serial[16] = "";
    nand_geometry_name(&b->geometry, geometry, sizeof(geometry));
    if (b->unit.have_serial)
        snprintf(serial, sizeof(serial), "%08x", b->unit.serial);
    worker_backup_fact(w, "id", b->id);
    worker_backup_fact(w, "kind", backup_kind_name(b->kind));
    worker_backup_fact(w, "state", backup_state_name(b->state));
    worker_backup_number(w, "size", b->file_size);
    text_hex(b->content_sha256, SHA256_SIZE, hex);
    worker_backup_fact(w, "sha256", hex);
    worker_backup_fact(w, "serial", serial);
    worker_backup_fact(w, "model", b->model);
    worker_backup_fact(w, "version", b->version);
    worker_backup_fact(w, "chip", b->chip);
    worker_backup_fact(w, "geometry", geometry);
    tell_partitions(w, b);
    worker_backup_number(w, "created", b->created);
    tell_unit_data(w, b);
}
