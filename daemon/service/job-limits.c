/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How many jobs there may be (design/interfaces.md "Limits"), and the imports that wait for their turn. */

#include "service/job.h"

#include "service/errors.h"

struct counts {
    unsigned all, own;             /* not finished, queued ones included */
    unsigned own_imports, readers; /* running; a worker that its archive does not let die is still one */
};

static bool reads_archives(enum job_kind kind)
{
    return kind == JOB_IMPORT || kind == JOB_VERIFY;
}

static struct counts count(const struct manager *m, uid_t owner)
{
    struct counts n = {.own_imports = process_count_ghosts(&owner)};
    for (const struct job *j = m->jobs; j; j = j->next) {
        bool running = j->job_state != JOB_QUEUED;
        if (job_finished(j) || j->job_state == JOB_STANDBY)
            continue;
        n.all++;
        n.own += j->owner_uid == owner;
        n.own_imports += running && j->owner_uid == owner && j->job_kind == JOB_IMPORT;
        n.readers += running && reads_archives(j->job_kind);
    }
    return n;
}

static int check_jobs(const struct config *c, const struct counts *n, uid_t owner, sd_bus_error *error)
{
    if (n->own >= c->jobs_per_uid)
        return errors_set(error, ERROR_LIMIT_EXCEEDED,
                          "User %u has %u unfinished jobs; at most %u are allowed.", owner, n->own,
                          c->jobs_per_uid);
    if (n->all >= c->jobs_max)
        return errors_set(error, ERROR_LIMIT_EXCEEDED,
                          "There are %u unfinished jobs; at most %u are allowed.", n->all, c->jobs_max);
    return 0;
}

/* What no waiting cures: only whoever owns the files can. */
static int check_ghosts(const struct config *c, uid_t owner, sd_bus_error *error)
{
    unsigned own = process_count_ghosts(&owner), all = process_count_ghosts(NULL);
    if (own < c->imports_per_uid && all < JOB_GHOSTS_MAX)
        return 0;
    return errors_set(
        error, ERROR_LIMIT_EXCEEDED,
        "%u workers of earlier imports cannot be ended, because the files that they read do not answer.",
        own < c->imports_per_uid ? all : own);
}

static bool has_turn(const struct config *c, const struct counts *n)
{
    return n->own_imports < c->imports_per_uid && n->readers < c->import_workers_max;
}

int job_check_limits(const struct manager *m, enum job_kind kind, uid_t owner, bool *wait,
                     sd_bus_error *error)
{
    const struct config *c = &m->config;
    struct counts n = count(m, owner);
    int r = check_jobs(c, &n, owner, error);
    if (r == 0 && kind == JOB_IMPORT)
        r = check_ghosts(c, owner, error);
    if (r < 0)
        return r;
    if (wait) {
        *wait = !has_turn(c, &n);
        return 0;
    }
    if (kind == JOB_IMPORT && n.own_imports >= c->imports_per_uid)
        return errors_set(
            error, ERROR_LIMIT_EXCEEDED,
            "User %u has %u imports running; at most %u are allowed. With queue=true this waits "
            "for the end of one.",
            owner, n.own_imports, c->imports_per_uid);
    if (reads_archives(kind) && n.readers >= c->import_workers_max)
        return errors_set(error, ERROR_LIMIT_EXCEEDED,
                          "%u packages and backups are being imported or verified; at most %u are at once. "
                          "Try again later.",
                          n.readers, c->import_workers_max);
    return 0;
}

/* True if it is on its way, one way or the other: the list is another one then. */
static bool start_waiting(struct job *j)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    const struct config *c = &j->manager->config;
    struct counts n = count(j->manager, j->owner_uid);
    struct error e = {0};
    bool hopeless = check_ghosts(c, j->owner_uid, &error) < 0;
    if (!hopeless && !has_turn(c, &n))
        return false;
    if (hopeless) {
        error_set(&e, ERROR_LIMIT_EXCEEDED, "%s", error.message);
        job_fail(j, &e);
        job_finish(j);
    } else {
        job_dequeue(j);
    }
    sd_bus_error_free(&error);
    return true;
}

void job_start_waiting(struct manager *m)
{
    for (struct job *j = m->jobs, *next; j; j = next) {
        next = j->next;
        if (j->job_state == JOB_QUEUED && !job_kind_has_modem(j->job_kind) && start_waiting(j))
            next = m->jobs;
    }
}
