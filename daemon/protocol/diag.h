/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * DIAG with a modem that runs its firmware (reference/diag.md 1 and 2): one question at a time, the answer
 * found among whatever else the modem says. diag.c asks; diag-info.c who it is and its modes; diag-nv.c the
 * numbered items; diag-efs.c and diag-efs-write.c the embedded file system.
 *
 * Errors common to all functions, with *e: -ENODEV ModemGone; -ETIMEDOUT Timeout; the waker's error without
 * *e; -EOPNOTSUPP Unsupported: this firmware does not have the command; -EPROTO DiagFailed: it refused it
 * (diag_refusal() tells how) or the answer is none.
 */

#include "transport/transport.h"

/* Byte 0 of an answer that is a refusal; the question is echoed behind it (1.2). */
enum diag_refusal {
    DIAG_REFUSED_NOT = 0,
    DIAG_BAD_COMMAND = 0x13,
    DIAG_BAD_PARAMETER = 0x14,
    DIAG_BAD_LENGTH = 0x15,
    DIAG_BAD_DEVICE = 0x16,
    DIAG_BAD_MODE = 0x18, /* wants another operating mode, offline in general */
    DIAG_BAD_SPC = 0x42,
    DIAG_BAD_SECURITY = 0x47,
    DIAG_BAD_TRANSACTION = 0x95,
    DIAG_DISALLOWED = 0x96,
};

enum diag_mode { /* command 29 (2.3) */
                 DIAG_MODE_OFFLINE = 1,
                 DIAG_MODE_RESET = 2,
                 DIAG_MODE_ONLINE = 4,
                 DIAG_MODE_LOW_POWER = 5,
                 DIAG_MODE_POWER_OFF = 6,
};

enum diag_oper_mode { /* of CM STATE_INFO (2.1) */
                      DIAG_OPER_OFF = 0,
                      DIAG_OPER_FACTORY_TEST = 1,
                      DIAG_OPER_OFFLINE = 2,
                      DIAG_OPER_OFFLINE_ANALOG = 3,
                      DIAG_OPER_OFFLINE_CDMA = 4,
                      DIAG_OPER_ONLINE = 5,
                      DIAG_OPER_LOW_POWER = 6,
                      DIAG_OPER_RESETTING = 7,
};

enum {
    DIAG_REQUEST_MAX = 8192,
    DIAG_NV_SIZE = 128,
    DIAG_NV_IMEI = 550,
    DIAG_NV_SPC_TTL = 3252, /* a protocol error on RM551E; never written (2.4) */
    DIAG_IMEI_DIGITS = 15,
    DIAG_EFS_PATH_MAX = 1024,
    DIAG_EFS_CHUNK = 1024,   /* of READ and WRITE: what every tool uses */
    DIAG_EFS_PUT_MAX = 6144, /* the largest that PUT was seen to take */
};

struct diag;

/* "factory test", "offline", …; never NULL. */
const char *diag_oper_mode_name(uint32_t mode);
/* 2 to 4 (2.1), which AT+CFUN? tells as 7: after a boot the file system does not fit the firmware (6.1). */
bool diag_oper_mode_is_offline(uint32_t mode);

/*
 * The transport stays the caller's. Log, message and event streams are switched off as far as the modem lets
 * them be; a modem that answers nothing at all: Timeout. What it had said before is dropped.
 */
int diag_open(struct transport *t, struct diag **ret, struct error *e);
/*
 * One that has crashed and still listens to diag_enter_edl() and nothing else (edl.md 3.1): nothing is asked,
 * and the HELLO of its Sahara, which has no end that DIAG knows, is taken away. Errors as diag_open(), no
 * Timeout.
 */
int diag_open_crashed(struct transport *t, struct diag **ret, struct error *e);
struct diag *diag_free(struct diag *d);
DEFINE_CLEANUP(struct diag *, diag_free)

/* How the modem refused the last question. */
enum diag_refusal diag_refusal(const struct diag *d);

struct diag_question {
    const uint8_t *request;
    size_t size; /* 1..DIAG_REQUEST_MAX */
    size_t echo; /* the answer begins with so many bytes of the request, at least its first */
    /* Besides: so many bytes of the request are found in the answer (0: no key). */
    size_t key_at, key_size, key_found_at;
    size_t least;    /* bytes the answer has at least; a shorter one is an error */
    usec_t patience; /* 0: the usual 5 s */
    bool writes;     /* not sent twice */
    bool quiet;      /* a refusal sets no *e */
};

/*
 * The answer stays valid until the next question. After the first 0x42 the default SPC is sent, after the
 * first 0x47 the default password, once each and never another one (2.2).
 */
int diag_ask(struct diag *d, const struct diag_question *q, const uint8_t **ret, size_t *ret_size,
             struct error *e);

/* ---- diag-info.c ---- */

struct diag_build {
    uint32_t model_id;            /* names the storage of a QCN */
    char version[128], model[64]; /* cleaned; "" if not told */
};
/* 7C EXT_BUILD_ID. Works in every mode, too. */
int diag_read_build(struct diag *d, struct diag_build *ret, struct error *e);
/* 4B 0F 00 00. */
int diag_read_oper_mode(struct diag *d, uint32_t *ret, struct error *e);
/* 29: echoed when it is taken. After a reset the modem may leave before it answers: that is success. */
int diag_set_mode(struct diag *d, enum diag_mode mode, struct error *e);
/*
 * `4b 65 01 00`, and `3a` if the modem does not know that (2.7). 0 when it was echoed or the modem left; then
 * it is on its way to 9008, which may take 10 s and more.
 */
int diag_enter_edl(struct diag *d, struct error *e);
/* 51: the feature mask without its length. At most `size` bytes are written; *ret_size of them. */
int diag_read_features(struct diag *d, uint8_t *out, size_t size, size_t *ret_size, struct error *e);

/* ---- diag-nv.c ---- */

enum diag_nv_status {
    DIAG_NV_DONE,
    DIAG_NV_BUSY,
    DIAG_NV_BAD_COMMAND,
    DIAG_NV_FULL,
    DIAG_NV_FAILED,
    DIAG_NV_NOT_ACTIVE, /* never written */
    DIAG_NV_BAD_PARAMETER,
    DIAG_NV_READ_ONLY,
    DIAG_NV_NOT_DEFINED,
    DIAG_NV_NO_MEMORY,
    DIAG_NV_INTERNAL,
};
/* "not written", for people. */
const char *diag_nv_status_name(unsigned status);
/* A status of an item that was never written, or that this firmware does not know: nothing is lost. */
bool diag_nv_is_absent(unsigned status);
/*
 * context 0: command 26/27; others (SIM 2 is 1): 4B 30. Refusals of a single item (BAD_PARM and the like)
 * are told as a status too, so that 8000 of them are read in one sweep; -EOPNOTSUPP if the firmware has no
 * such command. A modem that is busy is asked a few times more. data is written when *ret_status is
 * DIAG_NV_DONE.
 */
int diag_nv_read(struct diag *d, uint16_t item, uint16_t context, uint8_t data[DIAG_NV_SIZE],
                 unsigned *ret_status, struct error *e);
int diag_nv_write(struct diag *d, uint16_t item, uint16_t context, const uint8_t data[DIAG_NV_SIZE],
                  unsigned *ret_status, struct error *e);
/* Of an item 550 (4.1). -EINVAL if it holds no IMEI with a right check digit (blank, or not ours to judge).
 */
int diag_imei_parse(const uint8_t data[DIAG_NV_SIZE], char ret[DIAG_IMEI_DIGITS + 1]);

/* ---- diag-efs.c: reading. Positive results are the modem's own errno (POSIX numbers and 0x4000000x) ---- */

enum diag_efs_type { DIAG_EFS_FILE = 0, DIAG_EFS_DIR = 1, DIAG_EFS_LINK = 2, DIAG_EFS_ITEM = 15 };
enum {
    DIAG_EFS_NO_ENTRY = 2,
    DIAG_EFS_NO_ACCESS = 13,
    DIAG_EFS_EXISTS = 17,
    DIAG_EFS_NO_SPACE = 28,
    DIAG_EFS_READ_ONLY = 30,
    DIAG_EFS_BAD_SEQUENCE = 0x40000002,
    DIAG_EFS_DIR_NOT_OPEN = 0x40000003,
};

struct diag_efs_entry {
    uint32_t type, mode, size;
    char name[256];
};

/* HELLO with the alternate subsystem 3E, then 13: whichever answers is used from then on. */
int diag_efs_hello(struct diag *d, struct error *e);
/* The whole of a file, malloc'ed, of at most `max` bytes (-EFBIG TooLarge). *ret is NULL for an empty one. */
int diag_efs_read(struct diag *d, const char *path, size_t max, uint8_t **ret, size_t *ret_size,
                  struct error *e);
/*
 * The same with one question less: the first piece that is shorter than was asked for is the last one. A
 * modem may give less than that in the middle, so what this brings counts only once diag_efs_md5() or
 * diag_efs_read() has said the same.
 */
int diag_efs_read_short(struct diag *d, const char *path, size_t max, uint8_t **ret, size_t *ret_size,
                        struct error *e);
/*
 * Calls `take` for every entry but "." and "..", after the directory was closed again (about four handles
 * are all there are). What take returns, if negative, ends it. -EFBIG: more than `max` entries.
 */
typedef int (*diag_efs_take)(void *userdata, const struct diag_efs_entry *entry);
int diag_efs_list(struct diag *d, const char *path, size_t max, diag_efs_take take, void *userdata,
                  struct error *e);
/* The modem's own MD5 of a file. -EOPNOTSUPP: this firmware has no such command. */
int diag_efs_md5(struct diag *d, const char *path, uint8_t ret[16], struct error *e);

/* ---- diag-efs-write.c ---- */

/*
 * The whole file anew: PUT up to DIAG_EFS_PUT_MAX bytes, else its directories made, OPEN, WRITE, CLOSE.
 * ENOSPC is answered by one sync and another try (the journal is full, 2.5).
 */
int diag_efs_write(struct diag *d, const char *path, const void *data, size_t size, struct error *e);
/* SYNC_NO_WAIT and its status, up to 30 s. -EOPNOTSUPP as above. */
int diag_efs_sync(struct diag *d, struct error *e);
/* "no such file", "errno 0x40000004". Static buffer. */
const char *diag_efs_error_name(int number);
