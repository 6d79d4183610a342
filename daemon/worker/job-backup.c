/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A backup, read with the programmer of a package, or with one that runs already. Nothing is written to the
 * modem. kind=calibration: what flash rule 4 saves always, also where tables recorded of this unit have it,
 * or, where no table says where it lies, or the recorded ones cannot be read, the whole chip. kind=nand: the
 * whole chip, or the partitions that were asked for.
 */

#include <errno.h>
#include <string.h>

#include "firmware/package.h"
#include "worker/calibrate.h"
#include "worker/dump.h"
#include "worker/protect.h"
#include "worker/recorded.h"
#include "worker/save.h"
#include "worker/visits.h"

static const usec_t wait_device = 120 * USEC_PER_SEC;

struct backup_job {
    struct worker *worker;
    struct visits visits;
    struct save save;
    enum backup_kind kind;
    struct mibib_table table;
    struct recorded recorded;
    bool begun, begun_before;
};

static void job_done(struct backup_job *j)
{
    save_done(&j->save);
    recorded_done(&j->recorded);
    j->visits.session = session_free(j->visits.session);
}

static int read_options(struct backup_job *j, struct error *e)
{
    struct worker *w = j->worker;
    const char *kind = worker_option(w, "kind", "calibration");
    if (strcmp(kind, "nand") == 0)
        j->kind = BACKUP_NAND;
    else if (strcmp(kind, "calibration") == 0)
        j->kind = BACKUP_CALIBRATION;
    else
        return error_set(e, ERROR_UNSUPPORTED, "there are no backups of kind \"%s\"", kind);
    if (w->fd_store < 0)
        return error_set(e, ERROR_INVALID_ARGS, "a backup needs a file to put it in");
    /* It takes nothing away, and saves more for it. */
    return recorded_take(w, true, &j->recorded, e);
}

/* *ret: the modem's own table, NULL if it has none. */
static int read_table(struct backup_job *j, const struct mibib_table **ret, uint64_t *ret_block,
                      struct error *e)
{
    struct session *s = j->visits.session;
    bool critical = j->worker->critical;
    *ret = NULL;
    *ret_block = UINT64_MAX;
    if (s->geometry.blocks == 0)
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "the programmer does not tell the size of the flash, so it cannot be read as a whole");
    j->worker->critical = s->quiet = true;
    int r = mibib_read(s->firehose, &s->geometry, &s->capabilities, NULL, &j->table, ret_block, e);
    j->worker->critical = critical;
    s->quiet = false;
    if (r < 0 && e->kind == ERROR_ERASE_CALIBRATION) {
        /* Nobody understands it; all of the chip is saved then, the table with it. */
        worker_log(j->worker, "WARN: %s", e->message);
        *e = (struct error){0};
        *ret_block = UINT64_MAX;
        return 0;
    }
    if (r == -ENOENT) {
        worker_log(j->worker, "the modem has no partition table");
        *ret_block = UINT64_MAX;
        return 0;
    }
    if (r < 0)
        return r;
    _cleanup_free_ char *text = mibib_print(&j->table);
    if (text)
        worker_tell_memfd(j->worker, KEY_TABLE, text, strlen(text));
    *ret = &j->table;
    return 0;
}

static int choose(struct backup_job *j, const struct mibib_table *own, struct error *e)
{
    const char *names = worker_option(j->worker, "partitions", "");
    const struct mibib_union tables = mibib_unite(own, own ? NULL : &j->recorded.tables, NULL);
    const struct protect_what calibration = {.modem = own, .recorded = &j->recorded.tables};
    uint64_t blocks = j->visits.session->geometry.blocks;
    if (*names)
        return save_add_named(&j->save, &tables, names, e);
    if (j->kind == BACKUP_CALIBRATION && own && !j->recorded.unreadable)
        return protect_choose(&j->save, &calibration, blocks, e);
    if (j->kind == BACKUP_CALIBRATION)
        worker_log(j->worker, "WARN: %s: all of it is saved",
                   own ? "what was recorded of where its calibration lies cannot be read"
                       : "no table of the modem's says where its calibration lies");
    j->kind = BACKUP_NAND;
    return save_add_all(&j->save, own, blocks, e);
}

static int begin(struct backup_job *j, struct error *e)
{
    struct backup facts;
    const struct mibib_table *own;
    uint64_t block;
    save_done(&j->save);
    j->save.session = j->visits.session;
    j->save.tell_progress = true;
    j->save.keeps_cache = true;
    j->save.cache_anew = j->begun_before; /* of a modem that may be another one, or ran its firmware */
    j->begun_before = true;
    j->begun = false;
    int r = read_table(j, &own, &block, e);
    if (r == 0)
        r = choose(j, own, e);
    if (r == 0 && j->kind == BACKUP_CALIBRATION)
        r = save_check_room(&j->save, j->worker->fd_store, nand_block_size(&j->visits.session->geometry), "",
                            e);
    if (r < 0)
        return r;
    _cleanup_free_ char *text = own ? mibib_print(own) : strdup("");
    if (!text)
        return error_set(e, ERROR_FAILED, "out of memory");
    backup_facts(j->visits.session, text, &facts);
    facts.kind = j->kind;
    r = save_begin(&j->save, j->worker->fd_store, &facts, block, e);
    j->begun = r == 0;
    return r;
}

static int visit(void *userdata, bool again _unused_, struct error *e)
{
    struct backup_job *j = userdata;
    int r = j->begun && save_goes_on(&j->save) ? 0 : begin(j, e);
    return r < 0 ? r : save_run(&j->save, e);
}

static uint64_t progress(void *userdata)
{
    return ((struct backup_job *)userdata)->save.blocks_done;
}

static void in_vain(void *userdata)
{
    save_smaller_pieces(&((struct backup_job *)userdata)->save);
}

static void report(struct backup_job *j, const struct backup *b)
{
    uint64_t bad = 0, unreadable = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct backup_part *p = &b->parts[i];
        uint64_t pages = p->n_blocks * b->geometry.pages_per_block;
        bad += backup_count(p, pages, NAND_PAGE_BAD) / b->geometry.pages_per_block;
        unreadable += backup_count(p, pages, NAND_PAGE_UNREADABLE);
    }
    worker_report(j->worker, "state", "%s", backup_state_name(b->state));
    if (j->save.cache.taken > 0)
        worker_report(j->worker, "continued", "%llu blocks were read before",
                      (unsigned long long)j->save.cache.taken);
    worker_report(j->worker, "partitions", "%zu", b->n_parts);
    worker_report(j->worker, "bad-blocks", "%llu (%s)", (unsigned long long)bad, backup_map_name(b->map));
    worker_report(j->worker, "unreadable-pages", "%llu", (unsigned long long)unreadable);
}

static int run(struct backup_job *j, struct error *e)
{
    _cleanup_(package_freep) struct package *package = NULL;
    _cleanup_free_ char *programmer = NULL;
    size_t size = 0;
    int r = read_options(j, e);
    if (r == 0)
        r = visits_load(j->worker, &package, &programmer, &size, e);
    if (r < 0)
        return r;
    j->visits.session = session_new(j->worker);
    if (!j->visits.session)
        return error_set(e, ERROR_FAILED, "out of memory");
    j->visits.session->hears_of_normal = true;
    j->visits.programmer = programmer;
    j->visits.programmer_size = size;
    worker_ready(j->worker);
    r = visits_run(&j->visits, e);
    if (r < 0)
        return r;
    report(j, j->save.made);
    backup_tell(j->worker, j->save.made);
    /* Who stores it has to know that nobody writes to it any more, a holder neither. */
    j->worker->fd_store = close_fd(j->worker->fd_store);
    return 0;
}

/* Of a modem that runs its firmware; no programmer and no EDL. */
static int save_calibration(struct worker *w, struct error *e)
{
    struct running running = {.worker = w};
    struct running_identity id;
    if (w->fd_store < 0)
        return error_set(e, ERROR_INVALID_ARGS, "a backup needs a file to put it in");
    worker_ready(w);
    usec_t deadline = deadline_in(worker_option_u64(w, "wait-device-usec", wait_device));
    int r = running_attach(&running, deadline, e);
    if (r == 0)
        r = running_identify(&running, &id, e);
    if (r == 0)
        r = calibrate_save(&running, &id, w->fd_store, NULL, NULL, e);
    running_detach(&running);
    w->fd_store = close_fd(w->fd_store);
    return r;
}

int job_backup(struct worker *w, struct job_outcome *o)
{
    if (strcmp(worker_option(w, "kind", ""), "xqcn") == 0)
        return save_calibration(w, &o->error);
    if (strcmp(worker_option(w, "kind", ""), "dump") == 0)
        return dump_collect(w, &o->error);
    _cleanup_(job_done) struct backup_job j = {.worker = w};
    j.visits = (struct visits){.visit = visit, .progress = progress, .in_vain = in_vain, .userdata = &j};
    int r = run(&j, &o->error);
    if (j.visits.session)
        visits_end(&j.visits, o);
    return r;
}
