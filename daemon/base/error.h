/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What went wrong, made where the fact is known and passed up unchanged: a name (for D-Bus), one line for the
 * user, the modem's own words if it said any, and what helps. Functions that can fail for a reason a user
 * should read take a `struct error *` as their last argument (NULL allowed) and return the negative errno
 * that error_set() gave them.
 */

#include <stdbool.h>
#include <stddef.h>
#include "base/cleanup.h"

/* X(enumerator suffix, D-Bus name behind org.qdld1.Error., errno) - the one list of error names. */
#define ERROR_KINDS(X)                                                                                       \
    X(NO_SUCH_MODEM, "NoSuchModem", ENOENT)                                                                  \
    X(AMBIGUOUS_MODEM, "AmbiguousModem", ENOTUNIQ)                                                           \
    X(NO_SUCH_FIRMWARE, "NoSuchFirmware", ENOENT)                                                            \
    X(FIRMWARE_IN_USE, "FirmwareInUse", EBUSY)                                                               \
    X(NO_SUCH_BACKUP, "NoSuchBackup", ENOENT)                                                                \
    X(NO_SUCH_JOB, "NoSuchJob", ENOENT)                                                                      \
    X(MODEM_BUSY, "ModemBusy", EBUSY)                                                                        \
    X(MODEM_INHIBITED, "ModemInhibited", EBUSY)                                                              \
    X(MODEM_GONE, "ModemGone", ENODEV)                                                                       \
    X(WRONG_MODE, "WrongMode", EPROTOTYPE)                                                                   \
    X(WRONG_FIRMWARE, "WrongFirmware", EPERM)                                                                \
    X(VERSION_UNKNOWN, "VersionUnknown", EPERM)                                                              \
    X(WRONG_UNIT, "WrongUnit", EPERM)                                                                        \
    X(CALIBRATION_AT_RISK, "CalibrationAtRisk", EPERM)                                                       \
    X(ERASE_CALIBRATION, "EraseCalibration", EPERM)                                                          \
    X(GEOMETRY_DIFFERS, "GeometryDiffers", EPERM)                                                            \
    X(NO_BACKUP, "NoBackup", EPERM)                                                                          \
    X(LAST_BACKUP, "LastBackup", EPERM)                                                                      \
    X(FIRMWARE_INVALID, "FirmwareInvalid", EBADMSG)                                                          \
    X(FIRMWARE_INCOMPLETE, "FirmwareIncomplete", EBADMSG)                                                    \
    X(DIGEST_MISMATCH, "DigestMismatch", EBADMSG)                                                            \
    X(BACKUP_DAMAGED, "BackupDamaged", EBADMSG)                                                              \
    X(PROGRAMMER_REJECTED, "ProgrammerRejected", EACCES)                                                     \
    X(SAHARA_FAILED, "SaharaFailed", EPROTO)                                                                 \
    X(FIREHOSE_FAILED, "FirehoseFailed", EPROTO)                                                             \
    X(DIAG_FAILED, "DiagFailed", EPROTO)                                                                     \
    X(TIMEOUT, "Timeout", ETIMEDOUT)                                                                         \
    X(NO_SPACE, "NoSpace", ENOSPC)                                                                           \
    X(TOO_LARGE, "TooLarge", EFBIG)                                                                          \
    X(LIMIT_EXCEEDED, "LimitExceeded", EDQUOT)                                                               \
    X(NOT_CANCELABLE, "NotCancelable", EBUSY)                                                                \
    X(CANCELLED, "Cancelled", ECANCELED)                                                                     \
    X(INTERRUPTED, "Interrupted", EINTR)                                                                     \
    X(UNSUPPORTED, "Unsupported", EOPNOTSUPP)                                                                \
    X(INVALID_ARGS, "InvalidArgs", EINVAL)                                                                   \
    X(FAILED, "Failed", EIO)

enum error_kind {
    ERROR_NONE,
#define X(suffix, name, number) ERROR_##suffix,
    ERROR_KINDS(X)
#undef X
        ERROR_KIND_COUNT
};

/* What the user can do about it; the strings of Job.RecoveryHint. */
enum error_hint {
    HINT_NONE,
    HINT_RETRY,
    HINT_REPLUG,
    HINT_POWER_CYCLE,
    HINT_BRIDGE_USB_BOOT,
    HINT_IMPORT_FIRMWARE,
    HINT_CHECK_LABEL,
    HINT_RESTORE_BACKUP,
    HINT_WRONG_FIRMWARE,
    HINT_CONTACT_VENDOR,
    HINT_COUNT
};

#define ERROR_MESSAGE_SIZE 1024
#define ERROR_WORDS_SIZE   512

struct error {
    enum error_kind kind;
    enum error_hint hint;
    char message[ERROR_MESSAGE_SIZE]; /* one line, UTF-8, IMEI-like digit runs masked */
    char words[ERROR_WORDS_SIZE];     /* the modem's own words, escaped; "" if it said none */
};

/*
 * Fills *e (nothing if NULL) and returns the kind's negative errno, so that "return error_set(...)" reads
 * well. The text is cleaned (control and non-UTF-8 bytes as \xNN, runs of 14 to 16 digits masked) and cut to
 * size.
 */
int error_set(struct error *e, enum error_kind kind, const char *format, ...) _printf_(3, 4);

/* Adds what helps, or the modem's words, to an error that is set. Both do nothing with NULL. */
void error_hint(struct error *e, enum error_hint hint);
void error_words(struct error *e, const char *words);

/* "WrongFirmware" for ERROR_WRONG_FIRMWARE; NULL out of range or ERROR_NONE. */
const char *error_name(enum error_kind kind);
/* The reverse; ERROR_NONE if the name is not one of ours. */
enum error_kind error_from_name(const char *name);
/* The negative errno of a kind; -EIO out of range. */
int error_errno(enum error_kind kind);

/* "bridge-usb-boot"; "" for HINT_NONE. */
const char *hint_name(enum error_hint hint);
enum error_hint hint_from_name(const char *name);
