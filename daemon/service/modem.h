/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A modem is a port with a memory (architecture). modem.c has the objects and what is learned of them,
 * modem-running.c what it told in normal mode, modem-record.c what of it is remembered on disk,
 * modem-device.c appearances and the holder, modem-loop.c whether it loops, modem-serve.c the hand-over to
 * workers, modem-bus.c org.qdld1.Modem.
 *
 * What a port remembers is a hint; it is confirmed if the chip serial of what is there is the one that it was
 * learned with, or if we watched the modem go from normal mode to 9008 on this port just now. A different
 * serial is another unit: the memory of the old one is put on the shelf (a record by serial) and the new
 * one's is taken from there.
 */

#include "service/job.h"
#include "service/loop.h"
#include "service/manager.h"
#include "service/opener.h"
#include "service/policy.h"
#include "service/rescue.h"

#define MODEM_SHELF "unit-" /* begins the name of a record of a unit that is away from its port */

enum {
    QUECTEL_VID = 0x2c7c,
    MODEMS_MAX = 256,
    MODEM_SWITCH_USEC =
        15 * 1000000, /* a mode switch takes 2 to 15 s (reference/dbus.md 1.1); longer may be a swap */
    MODEM_RELEASE_USEC = 5 * 1000000, /* a holder that does not let go in this time is killed */
};

struct modem {
    struct manager *manager;
    struct modem *next;
    struct object object;
    char *id; /* what the object path encodes: the port, or the kernel name of a device without one */

    /* properties */
    char *port, *kernel_name, *mode, *product, *model, *firmware_version, *chip_serial, *chip, *hardware_id,
        *pk_hash, *storage, *last_error, *recovery_hint, *policy, *rescue_firmware, *note, *imei; /* masked */
    uint16_t vendor_id, product_id;
    int confirmed, held, inhibited, factory_test_mode;
    char *inhibited_by;
    uint32_t inhibited_uid;

    /* what the facts above rest on */
    char *facts_serial;     /* serial that model and version were learned with; "" unknown */
    char *family_version;   /* version that tells what the unit is (flash rule 2): never from a flash that was
                               forced */
    char *imei_hash;        /* HMAC of the IMEI with the machine's key; "" unknown */
    char *imei_serial;      /* serial of the unit that told it; "" not known */
    char *project;          /* project name read from RAWDATA */
    char *calibration_flaw; /* "factory-test": its firmware said so last; "half-written": what wrote it did
                               not end well; "" nothing is known against it */
    char *quectel;          /* "1": it was seen as one, or flashed as one; NULL or "" */
    char *refused;          /* ids of packages whose programmer it refused, a comma list; */
    char *silent;           /* under which it was silent, an id as often as it was */
    char *seen_serial;      /* of the device that is there, "" until it is told */
    bool unit_watched;   /* it told the serial or the IMEI that is remembered here, and was watched since */
    bool imei_watched;   /* it told its IMEI when it ran its firmware last, and was watched since */
    bool tables_watched; /* the tables that are recorded here are its own: it told one, and was watched since
                          */
    bool facts_watched;  /* learned from the device that was here last, in this run */
    const char *told_flaw; /* what that one said of its calibration, see calibration_flaw; NULL: nothing */
    char running[33];  /* id of the package whose programmer was uploaded in this appearance; "" not known */
    bool remembered;   /* has a record on disk */
    bool save_pending; /* what changed on a path that does not wait for the disk */
    struct settle *tables_settle; /* its recorded tables on their way to the disk; NULL */
    bool forgotten;               /* by a user; nothing of it is kept once it is away */
    uint64_t seen_time;           /* realtime of the last appearance */
    uint64_t last_backup_time;    /* property */

    /* does it loop */
    struct loop loop;
    sd_event_source *loop_timer;
    int looping; /* properties */
    uint32_t loop_count;
    uint64_t loop_period, loop_window, next_window;

    /* what is done about it */
    struct policy unit_policy, port_policy;
    bool policy_moved; /* from the connector to the unit, whose record does not have it yet */
    struct rescue rescue;

    /* now */
    const struct appearance *appearance; /* NULL: absent */
    char *device_path;                   /* in sysfs, of the last appearance; NULL: none in this run */
    uint64_t number;                     /* of this appearance, or of the last one; 0: none in this run */
    usec_t appeared_at;    /* when it came, CLOCK_MONOTONIC; 0: it was there when we started looking */
    uint64_t claimed;      /* the number with which a job was told of it */
    struct opener *opener; /* its node is being opened for its job */
    bool unannounced;      /* it appeared, and whoever looks was not told yet: see `opener` and `quiet` */
    bool quiet;            /* in 9008, given to its job's worker, which has not said a word since */
    bool was_normal;       /* kind of the last appearance that went */
    usec_t gone_at;
    struct job *job;         /* the one that has it, published or not; NULL */
    struct job *interrupted; /* the flash that the same call continues; NULL */
    struct guard *guard;     /* somebody else uses it (service/guard.h); NULL */
    struct process *holder;
    sd_event_source *release_timer; /* the holder was told RELEASE */
    struct probe *probe;            /* it is being asked who it is, or soon will be */
    uint64_t probed;                /* the appearance that was */
    uint64_t kept;                  /* the appearance whose calibration was saved unasked */
};

/* ---- modem.c ---- */
/* The object for a port; made if there is none (the oldest absent one goes beyond MODEMS_MAX). -ENOMEM. */
int modem_get(struct manager *m, const char *port, const char *kernel_name, struct modem **ret);
struct modem *modem_free(struct modem *m);
struct modem *modem_find_path(struct manager *m, const char *path);
/* What a worker told: KEY_SERIAL KEY_HWID KEY_PKHASH KEY_CHIP KEY_MODE KEY_STORAGE KEY_PROJECT. -EBADMSG if
 * it is malformed. */
int modem_learn(struct modem *m, const char *key, const char *value);
/* KEY_VERSION KEY_MODEL KEY_OPERATING KEY_IMEI_HASH KEY_IMEI. modem_learn() takes them, too. */
bool modem_is_running_fact(const char *key);
/* The unit runs this version now; forced: allow had WrongFirmware, so that it tells nothing about the unit.
 */
void modem_flashed(struct modem *m, const char *model, const char *version, bool forced);
/* The serial of the device that is there ("" or zero: not told). Another one than remembered is another unit.
 */
void modem_set_serial(struct modem *m, const char *serial);
void modem_update_confirmed(struct modem *m);
/* The IMEI that is remembered is of the unit that is, which was watched since it said who it is. */
bool modem_owns_imei(const struct modem *m);
/* LastError and RecoveryHint: "" and HINT_NONE: all is well. */
void modem_set_error(struct modem *m, const char *message, enum error_hint hint);
/* LastBackupTime, by what is stored of the unit. */
void modem_update_backup(struct modem *m);
/* It was a Quectel modem: remembered. */
void modem_note_quectel(struct modem *m);
/* The job has the modem now (NULL: none); the next one in the queue starts when it becomes free. */
void modem_set_job(struct modem *m, struct job *j);
/* Looks anew for the flash that could be continued. */
void modem_update_interrupted(struct modem *m);
/* Absent modems that nothing needs are taken off the bus; nobody else frees one. From the event loop only. */
void modem_free_unneeded(struct manager *manager);
/* "RM502Q-GL at 1-2", for people. Static buffer. */
const char *modem_title(const struct modem *m);

/* ---- modem-running.c ---- */
int modem_learn_running(struct modem *m, const char *key, const char *value);
/*
 * One that runs its firmware tells no serial, but its IMEI: if that is of a unit that is away from its port,
 * this is that unit at another connector, and its memory goes where it is. To be asked when either has
 * changed.
 */
void modem_join(struct modem *m);
/* Remembers it with the unit: what is saved of its flash from now on says so. */
void modem_set_flaw(struct modem *m, const char *flaw);
/* Reads, or makes, the key that IMEIs are known by. -errno. */
int modem_load_key(struct manager *m);

/*
 * A healthy modem has told who it is, and nothing of its calibration is in the store: it is saved now, by a
 * job of the service's own ([Backup] Automatic=).
 */
void modem_keep_calibration(struct modem *m);

/* ---- modem-record.c ---- */
int modem_load_all(struct manager *m);
void modem_save(struct modem *m);
/* The unit went from this port: its memory goes to a record by serial (if it has one) and is cleared here. */
void modem_shelve(struct modem *m);
/* Takes the memory of the unit with this serial from the shelf, or from the absent modem object that has it.
 */
void modem_unshelve(struct modem *m, const char *serial);
/*
 * Records one more partition table of the unit (text of mibib_print()). What was recorded of a unit without a
 * serial counts for as long as it is watched: nobody could say whose it is later, and the next one's begin
 * anew.
 */
int modem_add_table(struct modem *m, int memfd);
void modem_drop_tables(struct modem *m);
/* The tables recorded for it as a sealed memfd, an empty one if there are some that cannot be had; -ENOENT.
 */
int modem_open_tables(const struct modem *m);

/* Everything that is on disk of it, the shelf's record of its serial included, and all that is in memory of
 * the unit. */
void modem_forget(struct modem *m);

/* ---- modem-device.c ---- */
extern const struct watch_handler modem_watch_handler; /* userdata: the manager */
/* Its worker has its node, or does not get it: now the world is told that it appeared. Nothing if it was. */
void modem_announce(struct modem *m);
/*
 * The first answer to a modem in 9008 decides whether it is caught, and all who are told of it (the bus and
 * its clients, the journal) would run just when the worker wants to, on a machine with one or two processors
 * in its stead. So they are told when the worker has said its first word, which it does when the modem was
 * answered, or after MANAGER_PATIENCE_USEC. Ends this before that time; nothing if there is no such silence.
 */
void modem_break_silence(struct modem *m);
/*
 * Runs its firmware, and no job has it: what a journal says of its flash may not be true any more (flash rule
 * 9); one of a flash that was complete is void when the modem is seen in 9008 again. Asked when it appears,
 * and when the job that had it meanwhile has ended.
 */
void modem_void_journals(struct modem *m);
/* A job ended with the modem in EDL: its worker stays, with this appearance. Takes the process. */
void modem_hold(struct modem *m, struct process *p, uint64_t number);
/* "normal", "edl", ...; "absent". */
const char *modem_kind(const struct modem *m);
bool modem_is(const struct modem *m, const char *kind);
/* It is there, and does not run its firmware. */
bool modem_has_fallen(const struct modem *m);

/* ---- modem-loop.c ---- */
/* Behind the change of `appearance`; and before it. */
void modem_loop_came(struct modem *m);
void modem_loop_went(struct modem *m);
/* What is published, as of now. */
void modem_loop_look(struct modem *m);

/* ---- modem-serve.c ---- */
enum { MISSED_MAX = 10 }; /* as many as a worker endures that was given each of them (worker/session.c) */
/* It is going, and its job had no part of this appearance. */
void modem_missed(struct modem *m);
/* ModemGone, for people, with what helps. */
void modem_explain_missed(const struct modem *m, struct error *e);
/* Its holder, if there is one, is told to let go; modem_serve() and guard_serve() are called when it has. */
void modem_release_holder(struct modem *m);
/* The job is over, or its modem is back where it was: the one that it found elsewhere is free. */
void modem_lose_elsewhere(struct job *j);
/* Something changed that a job may wait for: every one gets what is its due now (service/serve.h). */
void modem_serve(struct manager *manager);

/* ---- modem-bus.c ---- */
#define MODEM_INTERFACE "org.qdld1.Modem"
extern const sd_bus_vtable modem_vtable[];
