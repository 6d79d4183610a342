/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the service does about modems without being asked: who is caught (service/catch-rule.h), what comes
 * next (service/rescue-rule.h), how often, and when it is left to a human. Its jobs have the owner
 * RESCUE_UID.
 *
 * A standby is a job that is not published yet: its worker is started, locked in, has the programmers in
 * memory and waits. When the modem appears it gets the modem's node first; number, object and record come
 * after.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "base/clock.h"
#include "service/rescue-port.h"
#include "service/rescue-rule.h"

struct job;
struct manager;
struct modem;
struct record;

#define RESCUE_UID ((uid_t)-1)

struct rescue {
    struct job *standby; /* NULL: none */
    char *basis;         /* what it was told: another order needs another worker */
    unsigned failures;   /* in a row */
    unsigned asked;      /* times that a stranger was identified in vain */
    usec_t not_before;   /* the pause after a failure */
    sd_event_source *timer;
    char *gave_up; /* why; NULL or "" */
    bool unsaved;  /* see service/rescue-rule.h */
    bool wanted;   /* a user brought it to 9008 */
    char *stopped; /* the title of the job of a user's that he cancelled; NULL or "" */
    struct rescue_day day;
    usec_t flashed_at;       /* by us, with success; 0 */
    usec_t appeared_at;      /* what is there */
    struct rescue_port port; /* whatever unit is there */
};

/* Brings about what has to be done; harmless to repeat. From manager_update()'s turn of the loop only. */
void rescue_look(struct modem *m);
/* Something appeared in 9008: its standby has it, if it may. Nothing here waits, writes or talks. */
void rescue_offer(struct modem *m);
/* It could not be given to the standby, which waits on, unless it makes way for a user's job. */
void rescue_withdraw(struct modem *m);
/* It went before its standby had it: its windows may be too short for anything. */
void rescue_missed(struct modem *m);
/* Behind an appearance, before its end. */
void rescue_came(struct modem *m);
void rescue_went(struct modem *m);
/* A job of this modem ended, anybody's; or it never came to be published. */
void rescue_finished(struct modem *m, const struct job *j);
/* The flash of a job of its own begins to change it. */
void rescue_begun(struct modem *m);
/* A human has decided: everything begins anew. */
void rescue_reset(struct modem *m);
/* What of it is remembered with the unit; and read again, of another unit or of none: all else is forgotten.
 */
void rescue_record(const struct modem *m, struct record *r);
void rescue_recall(struct modem *m, const struct record *r);
void rescue_free(struct modem *m);
