/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One worker: the link to the service, what it was asked to do, and how it tells. main.c locks the process in
 * and dispatches by JOB; a job file is linear blocking code that ends with a result. Every wait in the
 * process goes through the transport with worker_wake() as its waker, so that CANCEL, STOP, DEVICE and
 * DEVICE_GONE are heard at once.
 */

#include "base/digest.h"
#include "link/keys.h"
#include "link/link.h"
#include "protocol/detect.h"
#include "storage/mibib.h"

enum {
    WORKER_ROOMS = 4,               /* what one job may hand over that differs from what it did before */
    WORKER_ROOM_SIZE = 1024 * 1024, /* of each at most; the service takes no more */
    WORKER_CANDIDATES_MAX = 6       /* packages of a catch; link/link.h carries two more descriptors */
};

struct worker {
    int link;
    struct link_message in, out;

    /* from the JOB message */
    char kind[16];
    struct worker_option {
        char *name, *value;
    } * options;
    size_t n_options;
    int fd_archive, fd_store, fd_package, fd_journal, fd_recorded, fd_backup, fd_source,
        fd_calibration; /* -1: not given */
    int fd_candidates[WORKER_CANDIDATES_MAX];

    char told_version[128]; /* what the modem itself said on its way to 9008, see running_known_version() */
    bool told_factory_test, told_online; /* and of its operating mode, see running_known_flaw() */

    /* what the service told since */
    int fd_device;    /* a device that waits to be opened; -1 */
    bool device_gone; /* DEVICE_GONE since the last DEVICE */
    bool elsewhere;   /* the last DEVICE is at another connector: it may be another modem */
    bool cancel, stop, release;
    bool listens_first; /* see worker_listen_first() */
    bool critical;      /* between two safe points: CANCEL and STOP wait (see worker_check) */
    char appeared[16];  /* the last APPEARED, "" */
    char vid[5], pid[5], product[128];
    uint64_t since;    /* of the last device, us of CLOCK_MONOTONIC; 0: not told */
    bool backup_asked; /* BACKUP=1 was told */
    /* The answer to it; both empty until it came. */
    char backup_id[33];
    char backup_refused[512];
    /* Of the IMEI that the modem told in this job, when it ran its firmware (running.c); "": it did not. */
    char imei_hash[SHA256_HEX_SIZE];

    /* inside of worker.c; a zeroed worker with its link and fds set is a valid one */
    bool closed; /* EOF: `link` was replaced by a descriptor that stays silent, fd_send still reaches the
                    service */
    int fd_send;
    bool state_told, unsafe, cancelable;
    struct worker_progress {
        uint64_t ppm, bytes_done, bytes_total;
        uint64_t begin, end; /* the part of the whole that is under way; end 0: all of it */
        usec_t sent;
        bool pending; /* throttled; goes out with the next phase at the latest */
    } progress;
    size_t log_bytes;
    /* What PLAN= and TABLE= are handed over in: the sandbox lets nobody make memory that no limit counts. */
    int rooms[WORKER_ROOMS];
    size_t n_rooms;
    char *handed; /* what was handed over last */
    size_t handed_size;
};

/* ---- life (main.c) ---- */
/* Empties *w; the link's O_NONBLOCK is taken off (a told line must not be lost). The link stays the caller's.
 */
void worker_init(struct worker *w, int link);
/* Frees options and messages, closes what was given and not taken. */
void worker_done(struct worker *w);
/* Blocks until the JOB message came. 1; 0 if the service wants no job any more (STOP, RELEASE, link EOF). */
int worker_receive_job(struct worker *w);

/* An option of the job; `fallback` (may be NULL) if it was not given. */
const char *worker_option(const struct worker *w, const char *name, const char *fallback);
uint64_t worker_option_u64(const struct worker *w, const char *name, uint64_t fallback);

/*
 * A message that breaks a rule of link/link.h or link/keys.h ends the process with EXIT_FAILURE wherever it
 * is read: a service that speaks like that is not ours, and no job goes on under it.
 *
 * Link EOF counts as STOP. So does SIGTERM: its handler (main.c) shuts the link down for reading, and every
 * wait hears the EOF.
 */
/* transport_waker: takes one link message in. -ECANCELED on cancel, -EINTR on stop or link EOF (only when not
 * critical), -ENODEV on DEVICE_GONE. */
int worker_wake(void *userdata);
/*
 * The same without waiting, at a safe point, for all messages that are there: Cancelled / Interrupted in *e.
 * STOP is honoured here also in a critical section (the Firehose command in hand is over), CANCEL only
 * outside of one.
 */
int worker_check(struct worker *w, struct error *e);
/* The same, critical or not for this once: where no command is in hand, whatever the section around it says.
 */
int worker_check_as(struct worker *w, bool critical, struct error *e);
/*
 * Without a modem: until fd_device is there, or until `appeared` is not empty. A wait is a safe point (see
 * worker_check). Cancelled, Interrupted, -ETIMEDOUT with Timeout. The caller asks for it first (WAIT_DEVICE=)
 * and clears what it waits for.
 */
int worker_wait_device(struct worker *w, usec_t deadline, struct error *e);
int worker_wait_appeared(struct worker *w, usec_t deadline, struct error *e);
/* Either of them. */
int worker_wait_news(struct worker *w, usec_t deadline, struct error *e);

/* Telling; failures of the link show at the next worker_check(). */
void worker_phase(struct worker *w, const char *phase, const char *detail);
/* first: what is told from here on is gathered, and goes out together when that ends; so nothing stands
 * between a modem's hello and its answer. What fills a datagram goes out at once. */
void worker_listen_first(struct worker *w, bool first);
/* Throttled to 5 a second; the last one of a phase always goes out. ppm never goes backwards. */
void worker_progress(struct worker *w, uint64_t ppm, uint64_t bytes_done, uint64_t bytes_total);
/* What a job tells from here on is of this part of it, from where it has come to up to `end` ppm: a job that
 * consists of several works. */
void worker_progress_part(struct worker *w, uint64_t end);
void worker_log(struct worker *w, const char *format, ...) _printf_(2, 3);
void worker_problem(struct worker *w, const char *text);
void worker_report(struct worker *w, const char *key, const char *format, ...) _printf_(3, 4);
/* UNSAFE and CANCELABLE together; sent only when they change. Sets w->critical = !cancelable. */
void worker_state(struct worker *w, bool unsafe, bool cancelable);
void worker_ready(struct worker *w);
void worker_tell(struct worker *w, const char *key, const char *value);
/* A fact of the backup that is offered: BACKUP.name. */
void worker_backup_fact(struct worker *w, const char *name, const char *value);
void worker_backup_number(struct worker *w, const char *name, uint64_t value);
/* Sends KEY=1 with a sealed memfd holding data; nothing if the last one held the same. */
void worker_tell_memfd(struct worker *w, const char *key, const void *data, size_t size);

/* ---- jobs: each returns 0 for RESULT=done or a negative errno with *e; *result may be set to another result
 * word ---- */
struct job_outcome {
    const char *result; /* "done" by default */
    struct error error;
    struct session *hold; /* not NULL: become its holder after the result */
};
/*
 * The last word about a job that returned r: RESULT with ERROR, MESSAGE, WORDS, HINT in one datagram,
 * HOLDING=1 behind it if `hold`. A failure that nobody explained gets a message here; Cancelled and
 * Interrupted become the results of those names.
 */
void worker_result(struct worker *w, int r, struct job_outcome *o, bool hold);

typedef int (*worker_job)(struct worker *w, struct job_outcome *o);
int job_import(struct worker *w, struct job_outcome *o);
int job_verify(struct worker *w, struct job_outcome *o);
int job_plan(struct worker *w, struct job_outcome *o);
int job_identify(struct worker *w, struct job_outcome *o);
int job_catch(struct worker *w, struct job_outcome *o);
int job_flash(struct worker *w, struct job_outcome *o);
int job_reset(struct worker *w, struct job_outcome *o);
int job_backup(struct worker *w, struct job_outcome *o);
int job_restore(struct worker *w, struct job_outcome *o);
int job_identity(struct worker *w, struct job_outcome *o);
int job_enter_edl(struct worker *w, struct job_outcome *o);
