/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What was saved of modems: one org.qdld1.Backup a file backups/<id>.tar with its record <id>.rec. The
 * service never looks into one; what it knows was told by a worker that read the finished file and nothing
 * else (second.h).
 *
 * backup.c: the store. backup-retain.c: what may go from it. backup-load.c: earlier runs. backup-bus.c:
 * org.qdld1.Backup. job-backup.c: how a job's file becomes one. modem-backup.c: Modem.Backup and
 * Modem.Restore. import.c: Manager.ImportBackup.
 *
 * Two sorts: *taken* by this service from a modem, and *imported*. What somebody imports is shown, verified
 * and can be restored, but it is a claim: it never stands in for one that was taken, neither for
 * deduplication nor for what may be removed.
 */

#include "service/job.h"
#include "service/manager.h"
#include "service/record.h"
#include "service/settle.h"

/* Chips that were never fused share this serial: it names no unit. */
#define BACKUP_SERIAL_UNSET "00000000"

enum {
    BACKUP_XQCN_OFFSET = 512,
    BACKUP_XQCN_MAX = 256 * 1024 * 1024,
    BACKUP_ID_SIZE = 33,                  /* 32 hex digits */
    BACKUP_XQCN_SIZE = 64 * 1024 * 1024,  /* calibration over DIAG, and what is saved before it is put back */
    BACKUP_CHIP_SIZE = 512 * 1024 * 1024, /* a chip of unknown size: the largest common NAND */
    BACKUP_DUMP_SIZE = 512 * 1024 * 1024, /* memory of most of these modems */
    BACKUP_NAMELESS = 4,                  /* times Keep, of units that cannot be told apart, at one port */
    BACKUP_SLACK = 16 * 1024 * 1024,      /* left for journals and records */
};

struct backup {
    struct manager *manager;
    struct backup *next; /* newest first */
    struct object object;
    char id[BACKUP_ID_SIZE];

    /* properties */
    char *kind, *state, *model, *firmware_version, *chip_serial, *sha256, *job_path;
    uint64_t created_time, size;
    uint32_t owner_uid;
    char **partitions; /* NULL-terminated, may be NULL */

    /* not on the bus */
    char *imei_hash;  /* HMAC with the machine's key of the IMEI in it, of a raw one of the IMEI that its unit
                         without a serial had told; "" unknown */
    char *xqcn_size;  /* of the XQCN in one of kind xqcn */
    char *unit_data;  /* digest of what only the unit has; "" if it is not all there */
    char *told_state; /* by its content; `state` is "damaged", whatever that is, of a rotten one */
    char *port;       /* where it was taken */
    char *partition_list; /* comma list */
    uint64_t added_time;
    bool rotten; /* the file is not what it was, or may not be on the disk: stands in for nothing */
    int imported, automatic; /* automatic: nobody asked for it by itself */
};

/* Where a new one comes from. */
struct backup_origin {
    const char *job_path, *port;
    uid_t owner;
    bool imported, automatic;
};

/* An object by its record, not on the bus yet. */
int backup_new(struct manager *m, const char *id, const struct record *r, struct backup **ret);
/* The record says, or the facts say, what it is. */
bool backup_is_described(const struct record *r);
/*
 * The one that backup_add() would let stand in for a new one with these facts, and that nobody has found
 * damaged; NULL. Whether its file is still what it was has to be looked at first.
 */
struct backup *backup_find_standing(struct manager *m, const struct record *facts, bool imported);
/*
 * Takes a finished file in: `facts` are what the second worker told, fd is open for reading. *ret_new: linked
 * and recorded now; false: there was one of the same content already and the file is dropped. In either case
 * nothing rests on it before it is settled: who wanted that of the one that was there may have failed.
 */
int backup_add(struct manager *m, const struct record *facts, int fd, const struct backup_origin *origin,
               struct backup **ret, bool *ret_new, struct error *e);
/* Brings the file, the record and the names of both to the disk, as settle_start(). */
int backup_settle(const struct backup *b, settle_handler handler, void *userdata, struct settle **ret);
struct backup *backup_free(struct backup *b);

struct backup *backup_find_path(struct manager *m, const char *path);
struct backup *backup_find_id(struct manager *m, const char *id);
/* Read only; -errno. */
int backup_open(const struct backup *b);
/* A copy of the XQCN in one of kind xqcn, which lies behind the first header of its file; -errno. */
int backup_open_xqcn(const struct backup *b);
/* A Verify is over: the file is what it was, or damaged. Saved and signalled. */
void backup_verified(struct backup *b, bool intact);
/* An unfinished job works with it; NULL if none does. */
const struct job *backup_user(const struct backup *b);
/* Off the disk and off the bus. */
int backup_remove(struct backup *b);
/* "calibration of RM502QGL (49cbd7ef)", for people. Static buffer. */
const char *backup_title(const struct backup *b);
/* When the newest good one of the modem that is at this port was taken; 0: never. */
uint64_t backup_last_time(const struct manager *m, const struct modem *modem);
/* Of this modem, by what is known of both: chip serial, IMEI, or the port of one that has neither. */
bool backup_is_of(const struct backup *b, const struct modem *modem);
/* The newest good one of kind xqcn of this modem; NULL. */
const struct backup *backup_find_calibration(const struct modem *modem);
/* LastBackupTime of every modem. */
void backup_update_modems(struct manager *m);

/* NoSpace unless so many bytes can be written: backups may use what is reserved for them, and what unfinished
 * ones of days ago take. */
int backup_check_space(struct manager *m, uint64_t bytes, struct error *e);

/* ---- backup-retain.c ---- */
/* It holds what only its unit has. */
bool backup_has_calibration(const struct backup *b);
/* One that counts: whole, and with what only the unit has. */
bool backup_is_good(const struct backup *b);
/* "complete", and of the unit its last one that counts. */
bool backup_is_last(const struct backup *b);
/*
 * It is on disk: makes room. Of each unit and kind Keep are left, good ones and others counted apart, the
 * first good one among them. Of units that tell neither serial nor IMEI each one may be another's: of those
 * that were taken by themselves at one port, of one model and kind, so many times Keep are left.
 */
void backup_retain(struct backup *b);

/* ---- backup-load.c ---- */
/* Loads every entry. A file whose record is lost is read by a worker and recorded anew: nothing here is swept
 * away. */
int backup_load_all(struct manager *m);

/* ---- backup-bus.c ---- */
#define BACKUP_INTERFACE "org.qdld1.Backup"
extern const sd_bus_vtable backup_vtable[];
