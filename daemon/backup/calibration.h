/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The calibration of one modem as its firmware shows it: numbered NV items of every subscription and files of
 * its EFS; and XQCN, the form in which QPST and the rest of the world exchange it (reference/diag.md 3).
 *
 * xqcn-scan.c reads the XML as a stream, xqcn-read.c understands it, xqcn-write.c prints it. In the store it
 * lies in a tar (calibration-file.c):
 *
 *   calibration.xqcn   as QPST would write it: any tool can restore it
 *   manifest.json      whose it is, and what the XQCN cannot say
 *   SHA256SUMS         of both
 */

#include "backup/backup.h"

enum {
    CALIBRATION_NV_DATA = 128,
    CALIBRATION_PATH_MAX = 1024,
    CALIBRATION_FILES_MAX = 65536,
    CALIBRATION_NV_MAX = 8 * 65536,
    CALIBRATION_CONTEXTS_MAX = 8,
    CALIBRATION_HEAD_SIZE = 8,
    CALIBRATION_FEATURES_MAX = 1024,
    XQCN_DEPTH_MAX = 8,
    XQCN_VALUE_MAX = 64 * 1024 * 1024,
};
#define XQCN_FILE_MAX (UINT64_C(256) << 20)

/* In the order of a restore. */
enum calibration_section {
    CALIBRATION_PROVISIONING,
    CALIBRATION_EFS_BACKUP, /* /nv/item_files/rfnv and /rfc */
    CALIBRATION_NV_ITEMS,
    CALIBRATION_SECTIONS
};

struct calibration_nv {
    uint16_t item, context;
    uint16_t index; /* the u16 at 6 of a record, kept as it was */
    uint8_t data[CALIBRATION_NV_DATA];
};

struct calibration_file {
    enum calibration_section section;
    char *path;
    bool has_head;
    uint8_t head[CALIBRATION_HEAD_SIZE]; /* of an EFS_Backup directory entry, kept as it was */
    uint8_t *data;                       /* NULL: at `offset` of the XQCN, or empty */
    uint64_t offset, size;
};

struct calibration {
    uint32_t model_id; /* names the storage */
    uint32_t esn;
    uint16_t mobile_model;
    uint8_t nv_major, nv_minor;
    char version[BACKUP_TEXT_SIZE], tool[BACKUP_TEXT_SIZE];
    uint8_t features[CALIBRATION_FEATURES_MAX];
    size_t n_features;
    struct calibration_nv *nv;
    size_t n_nv;
    struct calibration_file *files;
    size_t n_files;
    bool sorted;      /* as calibration_sort() leaves it */
    unsigned ignored; /* streams that are not ours to understand */

    int fd;        /* where values lie that are not in memory; borrowed; -1 */
    uint64_t base; /* of the XQCN in it */
};

struct calibration *calibration_new(void);
struct calibration *calibration_free(struct calibration *c);
DEFINE_CLEANUP(struct calibration *, calibration_free)

/* -ENOMEM, -E2BIG. data is copied. */
int calibration_add_nv(struct calibration *c, uint16_t item, uint16_t context, const uint8_t *data);
/* Takes data (malloc'ed, NULL if empty), also on failure. */
int calibration_add_file(struct calibration *c, const char *path, uint8_t *data, size_t size);
/* It can be written to a modem and to an XQCN: absolute, printable ASCII, and it goes nowhere but down. */
bool calibration_is_path(const char *path, size_t size);
/*
 * Where firmware keeps the numbered items themselves, one file each (/nvm/num/550 is the IMEI). They go back
 * by their numbers, under the rules for numbers, and as files never.
 */
bool calibration_is_item_store(const char *path);
/*
 * The firmware says itself which item files its parts own, one path a line, in /nv/item_files/conf/NAME.conf;
 * QPST and QXDM go by these lists, for no directory need show the items. True if `path` is one of them.
 */
bool calibration_is_list(const char *path);
/* The next path that such a file names, from *at on; false at its end. What is no path is passed over. */
bool calibration_next_listed(const uint8_t *data, size_t size, size_t *at, char path[CALIBRATION_PATH_MAX]);
const struct calibration_nv *calibration_find_nv(const struct calibration *c, uint16_t item,
                                                 uint16_t context);
const struct calibration_file *calibration_find_file(const struct calibration *c, const char *path);
/* The content, malloc'ed (NULL if empty). BackupDamaged, Failed. */
int calibration_load(const struct calibration *c, const struct calibration_file *f, uint8_t **ret,
                     struct error *e);
/* Of its NV 550; false if it holds none. imei: 16 bytes. */
bool calibration_imei(const struct calibration *c, char *imei);
/* Files below /nv/item_files/rfnv: none are left of a lost calibration (diag.md 6.1). */
size_t calibration_count_rfnv(const struct calibration *c);
/* It lies where RF and crystal calibration does. */
bool calibration_is_rf(const char *path);
/* Sorts items and files as they are written. */
void calibration_sort(struct calibration *c);

/* ---- xqcn ---- */

struct xqcn_events {
    int (*storage)(void *userdata, const char *const *path, size_t depth, struct error *e);
    /* path: the storages around it. The value is `size` bytes, and its text lies at `offset`. */
    int (*stream)(void *userdata, const char *const *path, size_t depth, const char *name, uint64_t offset,
                  uint64_t size, struct error *e);
    void *userdata;
};
/*
 * Reads [base, base + size) of fd once. Errors name line and column: FirmwareInvalid is not among them;
 * BackupDamaged for what is no XQCN, TooLarge, Unsupported for a QCN (OLE2).
 */
int xqcn_scan(int fd, uint64_t base, uint64_t size, const struct xqcn_events *events, struct error *e);
/* Decodes `size` bytes of a value whose text begins at `offset` of the XQCN. BackupDamaged. */
int xqcn_value(int fd, uint64_t base, uint64_t offset, uint64_t size, uint8_t *ret, struct error *e);
/* All of it; values of files stay in fd. Errors as xqcn_scan(). */
int xqcn_read(int fd, uint64_t base, uint64_t size, struct calibration **ret, struct error *e);
/* Writes it at `at` of fd, as QPST lays it out. *ret_size: its length. NoSpace, Failed. */
int xqcn_write(const struct calibration *c, int fd, uint64_t at, uint64_t *ret_size, struct error *e);

/* ---- calibration-file.c ---- */

struct calibration_facts {
    enum backup_state state;
    uint64_t created;
    struct sahara_identity unit; /* as far as it is known */
    char chip[16], model[BACKUP_TEXT_SIZE], version[BACKUP_TEXT_SIZE];
    bool factory_test; /* the modem was in that mode */
    bool half_written; /* it was offline, where a restore that was interrupted leaves it; printed if so */
    bool imported;     /* made of an XQCN that somebody gave */
    uint64_t n_nv, n_files, n_unreadable, n_unstable;
    uint64_t n_lost; /* of the unreadable ones: files that hold calibration; printed if there are any */
    uint8_t sha256[SHA256_SIZE]; /* of the XQCN */
    uint64_t xqcn_size, file_size;
    char id[BACKUP_ID_SIZE];
};

enum { CALIBRATION_XQCN_OFFSET = 512 /* of the XQCN in the tar */ };

/*
 * By what it holds, and by what the facts say of the modem. blank: in factory test mode, without IMEI or
 * without RF items; damaged: it may be half of two, or not all of it could be read.
 */
enum backup_state calibration_judge(const struct calibration *c, const struct calibration_facts *facts);
/* Fills an empty file; facts' state, counts, digest, sizes and id are set. */
int calibration_store(int fd, const struct calibration *c, struct calibration_facts *facts, struct error *e);
/* The same around an XQCN that lies at CALIBRATION_XQCN_OFFSET of fd already. */
int calibration_wrap(int fd, uint64_t xqcn_size, const struct calibration *c, struct calibration_facts *facts,
                     struct error *e);
/* True if the file begins as one of these. */
bool calibration_is_file(int fd);
/* Every byte checked and understood. BackupDamaged. */
int calibration_open(int fd, struct calibration **ret, struct calibration_facts *ret_facts, struct error *e);
