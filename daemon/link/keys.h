/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Every key of the link, both directions, in the order of a job's life. One datagram may carry several keys;
 * they are handled in order. Numbers are unsigned decimal, booleans "0" or "1".
 *
 *    service                                   worker (qdld-worker, one process a job)
 *                                      <-      BUILD=            first of all; another build id: killed
 *    JOB= OPTION.x= FD=... (+ fds)     ->
 *                                      <-      PHASE=preparing ... LOG= ... PROBLEM=
 *                                      <-      READY=1           pre-flight is over (within 10 s)
 *                                      <-      WAIT_DEVICE=edl   "give me the modem in 9008"
 *    DEVICE=1 VID= PID= PRODUCT= (+fd) ->                        the node, opened anew for this worker
 *      SINCE=                                                    and since when it is there
 *                                      <-      SERIAL= HWID= PKHASH= CHIP= MODE= STORAGE= ...
 *                                      <-      PHASE= DETAIL= PROGRESS= BYTES_DONE= BYTES_TOTAL= UNSAFE=
 * CANCELABLE=
 *                                      <-      DEVICE_LOST=1     the modem went away under the worker
 *    DEVICE_GONE=1                     ->                        udev says that it went away
 *                                      <-      WAIT_DEVICE=normal  after a reset: tell me when it has booted
 *    APPEARED=normal VID= PID= ...     ->                        (no fd)
 *                                      <-      RESULT= REPORT.x= ERROR= MESSAGE= WORDS= HINT= OBJECT.x=
 *                                              then exit 0, or HOLDING=1 and life as a holder
 *    RELEASE=1                         ->                        the holder lets go and exits 0
 *    CANCEL=1 / STOP=1                 ->                        at any time: the user wants an end / the
 * service stops (result "interrupted")
 *
 * Descriptors: the JOB message carries one FD= line a descriptor, in the order they are attached: "archive"
 * (import: what the client gave, read only), "store" (import, backup: empty file to fill, read-write; verify:
 * read only), "package" (plan, flash, backup, restore: a stored package, read only; a backup does without if
 * a programmer runs already), "journal" (flash: read-write; it may hold an earlier job's journal), "recorded"
 * (flash, plan, backup, restore: memfd, partition tables recorded for this unit, may be absent), "backup"
 * (flash, restore: empty file for what is saved before the first erase, read-write), "source" (restore: a
 * stored backup, read only), "candidate-0" and on (catch: stored packages whose programmers may be tried, in
 * this order, read only). PLAN comes with one sealed memfd: link_parse_text records, one a step (keys:
 * firmware/plan.h).
 *
 * The handshake of flash rule 5, in a flash and a restore, before the first destructive command: BACKUP.x=
 * and then BACKUP=1 say that what must not be lost lies in "backup", on the disk; the worker waits and holds
 * the modem. BACKUP_STORED=1 with ID=: another worker has read it and it is in the store. BACKUP_REFUSED=1
 * with MESSAGE=: it is not, and nothing is erased.
 */

/*
 * In "recorded": each table as its worker told it (TABLE), the oldest first, RECORDED_BETWEEN two of them.
 * Empty if there are some and the service cannot read them: as any text that a worker cannot read it is
 * refused with EraseCalibration.
 */
#define RECORDED_BETWEEN "\n\n" /* blank lines; within a table there is one between two partitions */
enum { RECORDED_SIZE_MAX = 64 * 1024, RECORDED_TABLES_MAX = 16 };

/* service -> worker */
#define KEY_JOB         "JOB" /* import verify plan identify catch flash reset backup restore enter-edl identity */
#define KEY_OPTION      "OPTION." /* see below */
#define KEY_FD          "FD"
#define KEY_DEVICE      "DEVICE"
#define KEY_DEVICE_GONE "DEVICE_GONE"
#define KEY_APPEARED                                                                                         \
    "APPEARED"            /* normal | edl | crash-dump | fastboot | unknown (an appearance without its fd) */
#define KEY_VID     "VID" /* hexadecimal, four digits */
#define KEY_PID     "PID"
#define KEY_PRODUCT "PRODUCT" /* product string of the USB device */
#define KEY_SINCE                                                                                            \
    "SINCE" /* with DEVICE: when the device appeared, us of CLOCK_MONOTONIC; absent: not known */
#define KEY_ELSEWHERE                                                                                        \
    "ELSEWHERE" /* 1, with DEVICE in normal mode: at another connector, where it may be another modem */
#define KEY_CANCEL         "CANCEL"
#define KEY_STOP           "STOP"
#define KEY_RELEASE        "RELEASE"
#define KEY_BACKUP_STORED  "BACKUP_STORED"  /* 1, with ID= */
#define KEY_BACKUP_REFUSED "BACKUP_REFUSED" /* 1, with MESSAGE= (one line for the user) */
#define KEY_ID             "ID"             /* of the backup, 32 hex digits */

/*
 * Options (OPTION.name=):
 *   import   sha256 (of the archive as given, optional), label (the client's name for it, may be absent),
 * max-bytes, max-entries, input-timeout-usec verify   id plan, flash   allow (comma list), modem-version (the
 * user's word), known-version (what the service remembers of this unit), known-confirmed 0|1,
 * calibration-flaw factory-test|half-written (what it remembers against its calibration),
 * calibration-flaw-of (the serial of the unit that this is of, if it has one),
 * serial/hwid/pkhash (of the unit, if confirmed), reset 0|1, firmware (id), wait-device-usec (how long a lost
 * modem is waited for), boot-usec (rule 10, 180 s), came-from-normal 0|1 (rule 11) reset    mode
 * normal|edl|off
 *   identify, enter-edl, flash, backup, restore, reset   imei-key (64 hex digits), normal 0|1 (identify,
 * reset: it runs its firmware), crashed 0|1 (enter-edl: it lends its memory) import, verify   type firmware
 * (if absent) | backup; verify only: content (of a stored package) flash, backup, restore: window-usec (how
 * long this modem stays in 9008 before it goes away by itself, as the service measured it; 0 or absent: it
 * does not, as far as is known), loop-period-usec (from one such appearance to the next) flash
 * unit-imei (hash of the unit's IMEI, if it is confirmed), running-programmer (id of the package whose
 * programmer was uploaded in this appearance; if not known or the unit is not confirmed, absent) catch
 * candidate-0 and on (id and chip, a space between), timeout-usec (absent: for ever) identify hold 0|1
 * (default 1: the modem stays with its worker) backup kind nand|calibration, partitions (comma list, "" all),
 * firmware, known-version, known-confirmed, calibration-flaw(-of), serial/hwid/pkhash, created (us since
 * 1970), wait-device-usec, came-from-normal restore backup (id), partitions, allow, reset 0|1 (1: it is
 * restarted when it is done, and boot-usec is waited for it), and those of a backup; a flash takes created,
 * too. Kind xqcn: nv-first, nv-end, rfnv-end (fewer numbers than all; nobody but a test gives them)
 */

/* worker -> service */
#define KEY_BUILD "BUILD"
#define KEY_READY "READY"
#define KEY_PHASE                                                                                            \
    "PHASE" /* preparing spool check wait-device identify enter-edl sahara upload-programmer configure gate  \
               vendor-check backup store-backup erase program verify reset wait-normal hold */
#define KEY_DETAIL      "DETAIL"   /* the partition or file in hand */
#define KEY_PROGRESS    "PROGRESS" /* parts per million */
#define KEY_BYTES_DONE  "BYTES_DONE"
#define KEY_BYTES_TOTAL "BYTES_TOTAL"
#define KEY_UNSAFE      "UNSAFE"     /* 1: do not unplug now */
#define KEY_CANCELABLE  "CANCELABLE" /* 0: Cancel is refused */
#define KEY_LOG         "LOG" /* one line for the job's log; "WARN: " and "ERROR: " prefixes are kept apart */
#define KEY_WAIT_DEVICE                                                                                      \
    "WAIT_DEVICE" /* edl | normal (to be told of) | diag (in normal mode, to be opened) | another (normal;   \
                     what was given last is another unit) */
#define KEY_DEVICE_LOST "DEVICE_LOST"
#define KEY_SERIAL      "SERIAL"  /* 8 hex digits, lower case */
#define KEY_HWID        "HWID"    /* 16 hex digits */
#define KEY_PKHASH      "PKHASH"  /* 64, 96 or 128 hex digits */
#define KEY_CHIP        "CHIP"    /* "SDX55" */
#define KEY_MODE        "MODE"    /* sahara firehose crash-dump (what the first bytes said) */
#define KEY_STORAGE     "STORAGE" /* "nand 4096/256K x 2048" */
#define KEY_PROJECT     "PROJECT" /* project name found in RAWDATA */
#define KEY_VERSION     "VERSION" /* of the firmware that runs, by its own word */
#define KEY_MODEL       "MODEL"
#define KEY_OPERATING   "OPERATING" /* operating mode, a number of protocol/diag.h */
#define KEY_IMEI_HASH   "IMEI_HASH" /* HMAC-SHA256 with the machine's key, 64 hex digits */
#define KEY_IMEI        "IMEI"      /* masked */
#define KEY_TABLE       "TABLE"     /* "1" with a sealed memfd: the modem's partition table, to be recorded */
#define KEY_PROGRAMMER                                                                                       \
    "PROGRAMMER" /* accepted | refused | silent, a space, id of the package: what came of its programmer */
#define KEY_DESTRUCTIVE                                                                                      \
    "DESTRUCTIVE" /* 1: from now on the flash is being changed (job record, journal void rules) */
#define KEY_COMPLETE "COMPLETE" /* 1: all is written and verified; the modem is reset next */
#define KEY_PROBLEM  "PROBLEM"  /* one finding of import, verify or restore, many allowed */
#define KEY_FIRMWARE                                                                                         \
    "FIRMWARE." /* id name model prefix baseline release memory edition chip geometry programmer             \
                   factory size sha256 */
#define KEY_PLAN "PLAN"
#define KEY_BACKUP                                                                                           \
    "BACKUP" /* 1: what is saved lies in "backup" and waits to be stored; calibration: the same in           \
                "calibration" (flash of a running modem), before the other */
#define KEY_BACKUP_FACT                                                                                      \
    "BACKUP." /* kind state size sha256 (content) serial model version chip geometry partitions              \
                 (comma list) created; verify and import: id besides */
#define KEY_RESULT                                                                                           \
    "RESULT"                /* done not-returned wrong-version no-calibration failed cancelled interrupted   \
                             */
#define KEY_ERROR   "ERROR" /* error_name() */
#define KEY_MESSAGE "MESSAGE"
#define KEY_WORDS   "WORDS"
#define KEY_HINT    "HINT"    /* hint_name() */
#define KEY_REPORT  "REPORT." /* entries of Job.Report, strings */
#define KEY_HOLDING "HOLDING" /* 1: the job is over, the modem is held until RELEASE */

/* What each side accepts, for link_receive(). */
extern const char *const link_keys_from_service[];
extern const char *const link_keys_from_worker[];
