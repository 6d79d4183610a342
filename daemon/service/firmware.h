/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The library: one org.qdld1.Firmware a stored package, firmware/<id>.tar with its record <id>.rec. The
 * service never looks into a package; what it knows was told by the worker that imported it. import.c has
 * Manager.ImportFirmware.
 */

#include "service/job.h"
#include "service/manager.h"
#include "service/record.h"

enum { FIRMWARE_ID_SIZE = 33 }; /* 32 hex digits */

struct firmware {
    struct manager *manager;
    struct firmware *next;
    struct object object;
    char id[FIRMWARE_ID_SIZE];

    /* properties */
    char *name, *label, *state, *model, *prefix, *baseline, *release, *memory, *edition, *chip, *geometry,
        *programmer, *sha256;
    int factory;
    uint64_t size, imported_time;
    uint32_t owner_uid;
    char *accepted;  /* PK hashes of modems on which its programmer ran, a comma list */
    char **problems; /* NULL-terminated, may be NULL */
};

/* Loads every entry; a package without record or a record without package is removed. */
int firmware_load_all(struct manager *m);
/*
 * Takes the package that an import filled into the library: `facts` are the worker's FIRMWARE.* (without the
 * prefix); its id was found by another one. The same content again gives the entry that is there; if that one
 * has no version name and this one has, it takes name and file of this one. *e as the import's own error.
 */
int firmware_add(struct manager *m, const struct record *facts, int store_fd, const char *label, uid_t owner,
                 struct firmware **ret, struct error *e);
struct firmware *firmware_free(struct firmware *f);

struct firmware *firmware_find_id(struct manager *m, const char *id);
/* `accepted` has changed: saved. */
void firmware_learned(struct firmware *f);
struct firmware *firmware_find_path(struct manager *m, const char *path);
/* The stored package, read only; -errno. */
int firmware_open(const struct firmware *f);
/* What a Verify found: ready, or invalid with its problems (borrowed, may be NULL). Saved and signalled. */
void firmware_verified(struct firmware *f, bool ready, char *const *problems);

/* Manager.ImportFirmware and ImportBackup (import.c). */
int import_firmware(sd_bus_message *m, void *userdata, sd_bus_error *error);
int import_backup(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* The worker of an import is through: a second one reads what it stored; only what that one finds is kept.
 * Takes the fate of the job. */
void import_keep(struct job *j);
/* Ends that reading; nothing if the job is not of that kind, or not there yet. */
void import_stop(struct job *j, enum error_kind kind, const char *why);
/* While an import writes: NoSpace when it would pass the library's limit or eat the reserve. */
int import_check_space(const struct job *j, struct error *e);
