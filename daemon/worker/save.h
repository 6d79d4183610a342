/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Reading a modem's flash into a backup, by physical block, over as many appearances of the modem as it
 * takes: what was read and ACKed stays. Used by the backup job, and by flash and restore before their first
 * erase (flash rules 4 and 5). save-set.c decides what, save.c reads it.
 */

#include "worker/look.h"
#include "worker/save-cache.h"

struct save_range {
    char name[BACKUP_NAME_SIZE];
    uint64_t first_block, n_blocks;
    bool unit_data; /* by any table of this unit, whatever it is called in the backup */
};

struct save {
    struct session *session;
    bool locked;        /* CANCEL is refused (flash rule 11); STOP is not */
    bool tell_progress; /* as the job's own; a flash has other work to show */

    struct save_range *ranges; /* by first block, apart from each other */
    size_t n_ranges;

    struct nand_geometry geometry; /* it began with */
    struct backup_writer *writer;
    const struct backup *made; /* the writer's; NULL until all is read and on the disk */
    size_t range;              /* the one in hand */
    bool in_range;
    uint64_t block; /* its next */
    uint64_t blocks_done, blocks_total;
    uint64_t piece;      /* blocks a command; fewer after each appearance that was too short for one */
    struct nand_map map; /* what was confirmed, or told */
    struct look look;

    /* A backup job's: it goes on where an earlier call ended, and its next call where it ends. */
    bool keeps_cache, cache_anew;
    struct save_cache cache;
};

void save_done(struct save *s);

/* ---- save-set.c: what ---- */

/* All of these return -ENOMEM with Failed, or InvalidArgs. A growing partition ends with the chip. */
int save_add(struct save *s, const char *name, uint64_t first_block, uint64_t n_blocks, struct error *e);
int save_add_always(struct save *s, const struct mibib_table *t, struct error *e);
/* EFS2, RAWDATA, sys_rev, cust_info of a table that is not the modem's own: by their blocks, if they are not
 * there yet. */
int save_add_unit_data(struct save *s, const struct mibib_table *t, struct error *e);
/* Every block of the chip: by partition where the table (may be NULL) names one, the rest in pieces. */
int save_add_all(struct save *s, const struct mibib_table *t, uint64_t blocks, struct error *e);
/* A comma list of names, each by every table that has it; one that none has is InvalidArgs. */
int save_add_named(struct save *s, const struct mibib_union *tables, const char *names, struct error *e);

/* ---- save.c ---- */

/* NoSpace if the file's disk has not room for all of the ranges, which is more than they need as a rule:
 * erased pages take none. way_out: the end of the message. */
int save_check_room(const struct save *s, int fd, uint32_t block_size, const char *way_out, struct error *e);
/*
 * Begins in an empty file (which stays the caller's), from the beginning also if something was read before.
 * `facts` as for backup_writer_new(), without geometry and map, which are the session's. Ranges beyond the
 * chip are cut or left out. mibib_block: where the modem's table was found, UINT64_MAX for none: behind its
 * four pages lies an erased one, which shows this programmer's fill.
 */
int save_begin(struct save *s, int fd, const struct backup *facts, uint64_t mibib_block, struct error *e);
/*
 * Reads on, up to the end, when s->made is there. Must be called with the programmer up; looks for CANCEL and
 * STOP between two commands. -ENODEV with ModemGone: call again in the next appearance of the same unit.
 */
int save_run(struct save *s, struct error *e);
/*
 * In the session's present appearance: is it surely the unit whose reading was begun, does its programmer
 * show what it showed, and has it not run its firmware meanwhile, which writes to EFS2? If not,
 * save_begin() again.
 */
bool save_goes_on(const struct save *s);
/* An appearance that was too short for a piece: the next one gets a smaller. */
void save_smaller_pieces(struct save *s);

/* ---- backup-facts.c ---- */

/* What the job knows of the unit, from its options and the session; borrowed `table`. */
void backup_facts(const struct session *s, const char *table, struct backup *ret);
/* Tells BACKUP.*. */
void backup_tell(struct worker *w, const struct backup *b);

/* ---- backup-file.c: the jobs import and verify with type=backup ---- */

int backup_import(struct worker *w, struct job_outcome *o);
int backup_verify(struct worker *w, struct job_outcome *o);
