/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The appearances of a modem in a job that is no flash (that has its own story, job-flash.c): attach,
 * programmer, visit; and again if the modem goes away in the middle, as long as something comes of it.
 */

#include "worker/session.h"

struct visits {
    struct session *session;
    const char *programmer; /* NULL: only one that runs already */
    size_t programmer_size;

    /* With the programmer up; `again`: not the first time. -ENODEV: the modem went away. */
    int (*visit)(void *userdata, bool again, struct error *e);
    uint64_t (*progress)(void *userdata); /* anything that grows when a visit was of use */
    /* May be NULL: an appearance in which nothing was finished. */
    void (*in_vain)(void *userdata);
    void *userdata;
    bool unit_is_ours; /* a WrongUnit is about something else than the modem that the job is for */
    bool replaced;     /* inside */
};

/* ModemGone after too many appearances in vain, or what a visit or the session said. */
int visits_run(struct visits *v, struct error *e);
/*
 * An appearance ended: its window is judged by whether anything was finished in it. *in_vain counts those in
 * a row that were of no use: max_in_vain of them are too many, or more while pieces are halved. 0: one more;
 * ModemGone with the hint bridge-usb-boot.
 */
int visits_judge(struct session *s, bool useful, unsigned max_in_vain, unsigned *in_vain, struct error *e);
/* Loads the package's programmer; both malloc'ed or NULL if the job has no package. */
struct package;
int visits_load(struct worker *w, struct package **ret, char **ret_programmer, size_t *ret_size,
                struct error *e);
/* The end of a job that changed nothing: a modem that was taken from normal mode goes back there, any other
 * is held.
 */
void visits_end(struct visits *v, struct job_outcome *o);
