/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A flash job's state, shared by its parts: job-flash.c (the story), gate.c (gate 2), steps.c (the order and
 * what is done), erase.c, verify.c, image.c, boot.c, journal.c. One job, one thread, one struct.
 */

#include "firmware/plan.h"
#include "worker/journal.h"
#include "worker/protect.h"
#include "worker/recorded.h"
#include "worker/running.h"
#include "worker/session.h"

enum {
    NEW_BAD_BLOCKS_MAX = 3,   /* more in one job: the flash is dying, stop */
    IDLE_APPEARANCES_MAX = 3, /* appearances of the modem in which no step was completed */
};

/* What became of one step of the plan; the same index as plan->steps. */
struct flash_step {
    bool touched; /* its command was sent, by this job or by the one it continues */
    bool begun;   /* by this job, after the gate read the map */
    bool done;    /* ACKed and, as far as the rules ask, looked at */
    bool half;    /* begun as a whole and not done */

    /* In pieces (pieces.h). Blocks from the first one on: of an ERASE as they lie there, of a WRITE or VERIFY
     * those of the image. */
    uint64_t finished;
    uint64_t dirty; /* up to this one a command that did not come to its end may have changed something; 0 */
    uint64_t checked; /* ERASE: looked at, and erased or covered */
    bool again;       /* WRITE: what was written was not there any more, once */
};

/* Some pages of a partition that only this unit has. */
struct gate_sample {
    struct mibib_partition partition; /* n_blocks 0: nothing was taken */
    uint8_t sha256[SHA256_SIZE];
};

/* What gate 2 saw of a unit that tells no serial number: by this it is known again. */
struct gate_facts {
    char *table;                    /* as mibib_print() tells it; NULL: there was none */
    struct mibib_partition rawdata; /* n_blocks 0: no table names it */
    bool project_read;              /* the gate asked already */
    char *project;                  /* in RAWDATA; NULL: it says nothing */
    struct gate_sample efs2, raw;   /* of what no two units have in common */
};

struct flash {
    struct worker *worker;
    struct session *session;
    struct package *package;
    struct plan *plan;
    struct plan_options options;
    struct recorded recorded;
    struct running_identity told; /* by the modem, before it was taken from normal mode */
    char *programmer;
    size_t programmer_size;
    struct journal_key key;
    struct journal journal;

    struct flash_step *steps; /* NULL until gate 2 has passed */
    struct nand_map map;      /* blocks 0 until gate 2 */
    struct nand_map at_gate;  /* what was known to be bad before anything was done */
    struct protect protect;   /* what was saved before the first erase (flash rule 5) */
    uint64_t mibib_block;     /* where the modem's table was found, UINT64_MAX: nowhere */
    struct gate_facts facts;  /* empty for a unit that tells its serial */
    uint64_t looked_at;       /* blocks of the map that the gate has read */
    uint64_t best;            /* the most that was finished (all of it counted) in any appearance */
    usec_t window_told;       /* its length, as the log has it */
    bool fill_known;          /* session->erased_fill was probed with this programmer */
    bool programmer_up;
    bool destructive; /* the modem's flash was changed, by this job or by the one it continues */
    bool booted;      /* it was seen in normal mode before everything was verified */
    bool complete;    /* everything written and verified */
    /* The job that this one continues had come to its reset. */
    bool may_be_booting;
    /* SBL is half-way there or gone: nobody stops before it is known to be right, or to be erased (rule 6).
     */
    bool sbl_in_hand;

    unsigned resumed;    /* steps that the journal called done and that were found so */
    unsigned error_logs; /* ERROR logs of the programmer */
    bool quiet; /* while pages are looked at one by one: INFO logs of the programmer are not passed on */
    const char *vendor; /* what came of the vendor check, for the report */
    uint64_t work_done, work_total, bytes_written;
};

/*
 * Takes the programmer's logs over from the session. Single-page reads go by the thousand and a programmer
 * says two lines of INFO about each: those would fill the job's log and hide what matters. WARN and ERROR
 * always pass.
 */
void flash_listen(struct flash *f);
/* Gives the logs to nobody: the session outlives the flash (a holder). */
void flash_listen_no_more(struct flash *f);
/* Logs with "WARN: " what the programmer complained about during `what`, counts it (flash rule 8: an ACK with
 * ERROR logs proves nothing). */
void flash_note_errors(struct flash *f, const char *what);
/* Between two commands: Interrupted, and Cancelled as long as nothing was changed (whatever worker->critical
 * says for the command in hand). */
int flash_safe_point(struct flash *f, struct error *e);
/* Between two commands of one step: Interrupted if the service stops, which waits for the command in hand and
 * for none behind it; but nobody leaves an SBL in hand. */
int flash_end_if_asked(struct flash *f, struct error *e);
/* A step's name for people: its partition, or its blocks where no table names them. Static, overwritten by
 * the next call. */
const char *flash_step_name(const struct plan_step *s);
/* Shows work_done of work_total. */
void flash_progress(struct flash *f);
/* What a step weighs, in bytes written in the same time. */
uint64_t flash_work(const struct flash *f, const struct plan_step *s);

/* All whose union protects the unit (rule 4). modem: its own, NULL. */
static inline struct mibib_union flash_tables(const struct flash *f, const struct mibib_table *modem)
{
    return mibib_unite(modem, &f->recorded.tables, f->package->table_known ? &f->package->table : NULL);
}

/* WRITE or VERIFY of an image inside the range of an ERASE. */
static inline bool flash_contains(const struct plan_step *outer, const struct plan_step *inner)
{
    return outer->first_block <= inner->first_block &&
           inner->first_block + inner->n_blocks <= outer->first_block + outer->n_blocks;
}
