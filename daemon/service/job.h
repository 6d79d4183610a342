/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A job: its worker, its state, its object on the bus and its record on disk.
 *
 *                 queue=true, busy
 *     job_new() ------------------> QUEUED ---- the modem is free --.
 *         |                            '--- Cancel, stop ---> FINISHED
 *         '---- job_begin() ---> PREPARING <-----------------------'
 *                                   | READY=1: number, object, reply    | failed: error of the call, no
 * object v                                   v (of a queued one: FINISHED) RUNNING -- Cancel --> CANCELLING
 *                                   |  RESULT and exit 0 (or HOLDING)  |
 *                                   '------------> FINISHED <----------'
 *
 * What the service begins by itself (service/rescue.h) waits as STANDBY until its modem is there: PREPARING
 * and RUNNING in one, unpublished and not counted; then it is RUNNING.
 *
 * job.c: the life above. job-end.c: its end. job-link.c: what its worker says. job-start.c: what its worker
 * is given. job-limits.c: how many there may be. job-stall.c: one that says nothing. job-backup.c: what it
 * saved. job-bus.c: org.qdld1.Job. job-record.c: record, log and journal on disk; jobs of earlier runs;
 * lingering.
 */

#include <sys/types.h>
#include "service/expect.h"
#include "service/manager.h"
#include "service/process.h"
#include "service/progress.h"
#include "service/record.h"
#include "service/serve.h"

enum job_state { JOB_QUEUED, JOB_PREPARING, JOB_RUNNING, JOB_CANCELLING, JOB_FINISHED, JOB_STANDBY };

enum {
    JOB_EXIT_USEC = 10 * 1000000,     /* from RESULT to the exit of the worker */
    JOB_CANCEL_USEC = 120 * 1000000,  /* from CANCEL to the end: the longest single command of a programmer */
    JOB_LEAVE_USEC = 5 * 1000000,     /* the same where no modem is touched: a file may be left at any time */
    JOB_STALL_USEC = 10 * 1000000,    /* an import: what its worker may be silent beyond [Limits]
                                         InputTimeoutSec,   at which it ends by itself ... */
    JOB_CHECK_USEC = 600 * 1000000,   /* ... and while it reads and syncs what it has unpacked */
    JOB_IDENTITY_USEC = 60 * 1000000, /* for the answer to GetIdentity */
    JOB_WAITS_MAX = 256,              /* pending Wait calls of a job ... */
    JOB_WAITS_PER_UID = 16,           /* ... and of one user */
    JOB_FLUSHES_MAX =
        100, /* a second; a worker that changes its phase more often is signalled with the numbers */
    JOB_GHOSTS_MAX = 16, /* workers that cannot be killed; beyond that nothing is imported */
    JOB_PROBLEMS_MAX =
        65, /* in the report, a full list of a package among them; a further line counts the others */
    JOB_REPORT_MAX = 64,
    JOB_FACTS_MAX = 64, /* what a worker may tell of the modem in one appearance of it */
};

struct job {
    struct manager *manager;
    struct job *next;
    struct object object;
    enum job_kind job_kind;
    enum job_state job_state;
    enum link_stage stage;

    /* properties */
    uint64_t id; /* 0: not published */
    char *kind, *modem_path, *state, *result, *phase, *detail, *error_name, *error_message, *recovery_hint;
    char *resumes_path, *object_path; /* NULL: "/" */
    uint32_t owner_uid, window;
    uint64_t created_time, start_time, end_time;
    struct progress progress;
    int cancelable, safe_to_unplug;
    struct record *report;
    char **problems;
    size_t n_problems;
    unsigned more_problems; /* beyond JOB_PROBLEMS_MAX */

    /* what was asked */
    struct modem *modem;
    struct modem *elsewhere; /* where it booted, as far as can be told: another connector; NULL: not there */
    char firmware_id[33];    /* "" if it uses none; the object is looked up by it */
    char *firmware_name;
    char *allow, *modem_version, *reset_mode, *sha256, *label;
    char backup_id[33];   /* restore, verify: of what; "" if none */
    char *kind_of_backup; /* backup: nand | calibration */
    char *partitions;     /* backup, restore: comma list */
    bool imports_backup;  /* an import is of a package otherwise */
    bool reset;           /* flash, restore: it is restarted in the end */
    bool flaws;           /* by its first write the modem's calibration is half of two, and was not before */
    int fd_archive;
    struct job_archive { /* which file that is, of a regular one (inode not 0) */
        uint64_t device, inode, size;
        struct timespec modified, changed;
    } archive;

    /* what runs */
    struct process *process;
    sd_bus_message *call;   /* to be answered after READY (Plan: with the plan) */
    sd_event_source *timer; /* pre-flight, exit or cancel limit */
    sd_event_source *stall_timer;
    usec_t heard; /* when the worker said something last (job-stall.c) */
    sd_event_source *numbers_timer;
    usec_t numbers_signalled;
    usec_t flushes_since; /* start of the second in which ... */
    unsigned flushes;     /* ... so many changes of state were signalled */
    int fd_store, fd_log, fd_journal;
    uint64_t log_size;
    bool log_full;
    struct job *resumes;       /* until READY: the interrupted job whose journal it continues */
    unsigned wants;            /* enum serve_wants */
    uint64_t given;            /* number of the last appearance that was handed out; 0: none yet */
    uint64_t strange;          /* the last appearance that was given and is another unit; 0: none */
    bool stranger_at_port;     /* one was at the port of its modem */
    uint64_t since;            /* appearances with a higher number are news to it */
    uint64_t refused;          /* the appearance whose node could not be opened, until it asks again */
    struct error device_error; /* why not; kept until the next one is handed out */
    unsigned missed;           /* appearances in a row that were over before it had a word with the modem */
    bool preempted;            /* one of the service's own that made way for a user's */
    bool hash_told;            /* PKHASH= came in this job */
    usec_t timeout;            /* catch: how long it waits; 0: for ever */
    unsigned facts_told;       /* since the last one was */
    bool destructive;          /* the flash is, or was in the job that it resumes, being changed */
    bool complete;             /* a flash: everything is written and verified, the reset is next */
    bool booted;               /* such a one, interrupted: its modem was seen in normal mode since */
    char *serial;              /* of the unit, once known; never that of chips that were not fused */
    char *imei_hash;           /* of a complete flash: by which it is known when it boots; "" not known */
    char given_serial[9];      /* what the one that it was given last said of itself; "" nothing */
    struct record *firmware_facts; /* FIRMWARE.* */
    char *plan;                    /* PLAN, as text */
    size_t plan_size;
    struct record *backup_facts; /* BACKUP.*, of the worker that made it: compared, not believed; then of the
                                    one that read it */
    bool backup_offered;         /* BACKUP=1 came */
    int fd_calibration;          /* flash of a running modem: for its calibration; -1 */
    bool keeps_calibration;      /* that is being stored, in the place of fd_store */
    struct second *second;       /* reads the backup, or an imported package, again */
    struct settle *settle;       /* brings it to the disk */
    char new_id[33];             /* the one that is settled */
    char saved_id[33];           /* what flash rule 5 has saved; "" nothing */

    /* how it ended */
    uint64_t finished; /* its place in the order of ends; the clock may be set meanwhile */
    bool result_said;
    char verdict[24];        /* the Result that the worker claims, later the one that counts */
    struct error said_error; /* the worker's reason */
    struct error own_error;  /* the service's own, which goes before it: a time-out, a broken rule */
    struct error error;      /* the one that counts */

    struct job_wait *waits;
};

/* ---- job.c ---- */
/* Not on the bus yet, but counted. LimitExceeded, Interrupted (the service stops). */
int job_new(struct manager *m, enum job_kind kind, uid_t owner, struct job **ret, sd_bus_error *error);
/* The same; wait: what is beyond the number of imports at once is no error but *wait, for job_begin(). */
int job_new_waiting(struct manager *m, enum job_kind kind, uid_t owner, bool *wait, struct job **ret,
                    sd_bus_error *error);
/* The same without the limits, for jobs of earlier runs; NULL without memory. */
struct job *job_alloc(struct manager *m, enum job_kind kind, uid_t owner);
/* Prepares the object of a job that has its number. */
int job_init_object(struct job *j);
/*
 * Starts the pre-flight, or queues (if the modem is busy; a job without one always); `call` is answered when
 * it is over. Takes the job: with an error it is freed, otherwise it frees itself. Returns what a method
 * handler returns.
 */
int job_begin(struct job *j, sd_bus_message *call, bool queue, sd_bus_error *error);
/*
 * The same for a job of the service's own: nobody waits for its pre-flight, and nobody queues. standby: it
 * waits for its modem before it is published. Takes the job: with an error it is freed.
 */
int job_begin_own(struct job *j, bool standby, struct error *e);
/* A catch or identify of the service's own makes way: it wants nothing that a user's job would not find as
 * well. It ends in a moment, and that counts as no failure. false: this is none, and goes on. */
bool job_preempt(struct job *own);
/* It has its modem, or is through with its pre-flight: number, object, record, and everybody is told. */
void job_publish(struct job *j);
/* The worker told READY=1. */
void job_ready(struct job *j);
int job_cancel(struct job *j, sd_bus_error *error);
/* The service stops. */
void job_stop(struct job *j);
/* The modem became free: a queued job starts its pre-flight. */
void job_dequeue(struct job *j);
void job_set_state(struct job *j, enum job_state state);
/* Property lists that changed, numbers included if it is time. */
void job_flush(struct job *j);
void job_numbers_changed(struct job *j);
void job_signal_numbers(struct job *j);
/* One limit at a time: pre-flight, cancel, exit. */
/* From Cancel, or from the end of what could not be left then, to the end. */
void job_limit_cancel(struct job *j);
void job_arm_timer(struct job *j, usec_t usec, sd_event_time_handler_t handler);
struct job *job_free(struct job *j);
bool job_finished(const struct job *j);
/* "flash 17", for logs. Static buffer. */
const char *job_title(const struct job *j);

/* ---- job-limits.c ---- */
int job_check_limits(const struct manager *m, enum job_kind kind, uid_t owner, bool *wait,
                     sd_bus_error *error);
/* Imports that waited for the end of another one and need not any more. */
void job_start_waiting(struct manager *m);

/* ---- job-end.c ---- */
/* The worker broke the rules: it is killed, the job fails with this text. */
void job_broken(struct job *j, const char *format, ...) _printf_(2, 3);
/* The worker told RESULT=: it has JOB_EXIT_USEC to exit, or to tell that it holds the modem. */
void job_result_said(struct job *j);
/* It told HOLDING=1: the job is over, the process goes to the modem. */
void job_holding(struct job *j);
/* The job fails for this reason; job_finish() makes it so. */
void job_fail(struct job *j, const struct error *e);
/* Told, recorded, files closed, the modem given back. The job stays and lingers. */
void job_finish(struct job *j);
/* It ends before its worker was started: job_finish(), or for one that is not published the error of its
 * call. */
void job_end_early(struct job *j);
void job_close_files(struct job *j);
/* What a worker of a job calls; userdata is set by job_start_worker(). */
extern const struct process_handler job_process_handler;

/* ---- job-start.c ---- */
/* Opens what the worker needs, starts it and tells it what to do. */
int job_start_worker(struct job *j, struct error *e);

/* ---- job-link.c ---- */
void job_on_message(void *userdata, struct link_message *m);

/* ---- job-booted.c ---- */
/* COMPLETE=1: on record before the modem is reset. -EBADMSG. */
int job_take_complete(struct job *j, const char *value);
/* It was interrupted behind that: nothing is left to write. */
bool job_waits_for_boot(const struct job *j);
/* It may be this unit that is there, by its serial and its IMEI as far as both are known. */
bool job_may_be_of(const struct job *j, const struct modem *m);
/* Its modem was seen in normal mode: from 9008 nothing of it is continued any more. */
void job_note_boot(struct job *j);
/* The modem has booted and told what it runs: the job that it interrupted behind its last step ends. */
void job_look_booted(struct modem *m);

/* ---- job-stall.c ---- */
/*
 * From here on (READY, and each phase has its limit) the worker has to say something now and then, or the job
 * ends with Timeout; where no modem is touched, that is: a modem's commands have their own deadlines in the
 * worker. A worker cannot do that for itself while the owner of the archive lets its read never return.
 */
void job_watch_stall(struct job *j);

/* ---- job-backup.c ---- */
/* Its end is a backup. */
bool job_makes_backup(const struct job *j);
/* Its worker has filled the file: the job is finished, or its worker is answered, once that is stored. */
void job_keep_backup(struct job *j);
/* BACKUP=1 (flash rule 5). -EBADMSG if it makes no sense now. */
int job_take_offer(struct job *j, const char *value);
/* What is under way of it comes to no end any more. */
void job_drop_backup(struct job *j);

/* ---- job-record.c ---- */
/* Gives it a number and links its log in. */
int job_number(struct job *j);
/* The journal of the job that it continues changes hands; a fresh one gets its name. Nothing for other kinds.
 */
int job_name_journal(struct job *j);
/* A failure is logged; whoever rests on it asks. */
int job_save(const struct job *j);
void job_log(struct job *j, const char *text);
int job_load_all(struct manager *m);
/* Removes finished jobs beyond the limits of lingering. */
void job_forget_old(struct manager *m);
/* Takes it off the disk (Release, or lingered out). */
void job_remove_files(const struct job *j);
int job_open_log(const struct job *j);
/* Flash, Restore and a Backup of the flash: their worker keeps one, so that the same call continues. */
bool job_has_journal(const struct job *j);
/* True if the same call made again would continue it. */
bool job_resumable(const struct job *j);
/* It writes, or erases, what only the unit has. */
bool job_changes_calibration(const struct job *j);
/* The same of a backup, which changed nothing: what it had read is there. */
bool job_backup_resumable(const struct job *j);
/* Those of this modem: it ran its firmware, is being written to, or another backup of it begins. */
void job_void_backups(struct manager *m, const char *modem_path);
/* Its journal is void (another writing job, normal mode seen): it cannot be continued any more. */
void job_void_journal(struct job *j);

/* ---- job-parts.c ---- */
/*
 * What unfinished backups had read: all that are older than JobsLingerSec go, and of those older than a day
 * the oldest while there are too many, or (for_space) all. True: something went.
 */
bool job_drop_parts(struct manager *m, bool for_space);

/* ---- job-bus.c ---- */
#define JOB_INTERFACE "org.qdld1.Job"
extern const sd_bus_vtable job_vtable[];
/* Answers every Wait. */
void job_answer_waits(struct job *j);
/* Those of a caller that left the bus; NULL: all. */
void job_drop_waits(struct job *j, const char *sender);

/* ---- plan-reply.c ---- */
/* The worker's plan (link_parse_text records) as the aa{sv} of Modem.Plan. -EBADMSG with *ret_line. */
int plan_append(sd_bus_message *reply, const char *text, size_t size, size_t *ret_line);
