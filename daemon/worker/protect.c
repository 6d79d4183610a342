/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/protect.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/transport.h"

#define LLU(n) ((unsigned long long)(n))

/* Another worker reads and hashes it, and a disk may be slow. */
static const usec_t answer_time = 600 * USEC_PER_SEC;

enum { UNREADABLE_SHARE = 100 /* more than one page in so many: the flash is losing its data */ };

void protect_done(struct protect *p)
{
    save_done(&p->save);
}

/* ---- what ---- */

static bool in_ranges(const struct block_range *ranges, size_t n, uint64_t block)
{
    for (size_t i = 0; i < n; i++)
        if (block >= ranges[i].first && block < block_range_end(&ranges[i]))
            return true;
    return false;
}

static struct mibib_union tables_of(const struct protect_what *what)
{
    return mibib_unite(what->modem, what->recorded, what->package);
}

int protect_choose(struct save *s, const struct protect_what *what, uint64_t blocks, struct error *e)
{
    const struct mibib_union tables = tables_of(what);
    if (what->whole || !what->modem)
        return save_add_all(s, what->modem, blocks, e);
    int r = save_add_always(s, what->modem, e);
    /* Where another table of this unit has them they may lie just as well. */
    for (size_t i = 0; r == 0 && i < tables.n; i++)
        r = save_add_unit_data(s, tables.table[i], e);
    for (size_t i = 0; r == 0 && i < what->n_extra; i++) {
        const struct block_range *x = &what->extra[i];
        const struct mibib_partition *own = mibib_at(what->modem, x->first);
        char name[BACKUP_NAME_SIZE];
        bool all = own && own->first_block == x->first && (own->n_blocks == x->count || own->n_blocks == 0);
        if (all)
            snprintf(name, sizeof(name), "%s", own->name);
        else
            snprintf(name, sizeof(name), "blocks-%llu-%llu", LLU(x->first), LLU(block_range_end(x) - 1));
        r = save_add(s, name, x->first, x->count, e);
    }
    return r;
}

static int begin(struct protect *p, const struct protect_what *what, struct error *e)
{
    struct worker *w = p->session->worker;
    struct backup facts;
    bool locked = p->locked;
    protect_done(p);
    p->save.session = p->session;
    p->save.locked = locked;
    int r = protect_choose(&p->save, what, p->session->geometry.blocks, e);
    if (r < 0)
        return r;
    _cleanup_free_ char *table = what->modem ? mibib_print(what->modem) : strdup("");
    if (!table)
        return error_set(e, ERROR_FAILED, "out of memory");
    backup_facts(p->session, table, &facts);
    facts.kind = what->whole || !what->modem ? BACKUP_NAND : BACKUP_CALIBRATION;
    r = save_begin(&p->save, w->fd_backup, &facts, what->mibib_block, e);
    if (r == 0)
        p->state = PROTECT_READING;
    return r;
}

int protect_check_room(const struct worker *w, const struct save *s, uint32_t block_size, struct error *e)
{
    struct stat st;
    if (w->fd_journal >= 0 && fstat(w->fd_journal, &st) == 0 && st.st_size > 0)
        return 0;
    return save_check_room(s, w->fd_backup, block_size, " (--allow=NoBackup to go on without)", e);
}

/* ---- judging ---- */

static const char *unit_data_at(const struct protect_what *what, uint64_t block)
{
    const struct mibib_union tables = tables_of(what);
    for (size_t i = 0; i < tables.n; i++) {
        const struct mibib_partition *own = mibib_at(tables.table[i], block);
        if (own && mibib_is_unit_data(own->name))
            return own->name;
    }
    return tables.n > 0 ? NULL : "what may be the unit's own data";
}

struct losses {
    uint64_t pages, unreadable; /* of all that is not written anew */
    uint64_t unit_data;         /* unreadable pages of it */
    const char *name;
};

static void count_losses(const struct backup *b, const struct protect_what *what, struct losses *l)
{
    uint32_t pages = b->geometry.pages_per_block;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct backup_part *p = &b->parts[i];
        for (uint64_t block = p->first_block; block < p->first_block + p->n_blocks; block++) {
            if (backup_block_is_bad(b, p, block) || in_ranges(what->rewritten, what->n_rewritten, block))
                continue;
            uint64_t lost = 0;
            for (uint32_t k = 0; k < pages; k++)
                lost += backup_page_state(b, p, block, k) == NAND_PAGE_UNREADABLE;
            l->pages += pages;
            l->unreadable += lost;
            const char *name = lost ? unit_data_at(what, block) : NULL;
            if (name) {
                l->unit_data += lost;
                l->name = name;
            }
        }
    }
}

static int judge(struct protect *p, const struct protect_what *what, struct error *e)
{
    const struct backup *b = p->save.made;
    struct losses l = {0};
    count_losses(b, what, &l);
    if (l.unreadable * UNREADABLE_SHARE > l.pages) {
        int r = error_set(
            e, ERROR_FIREHOSE_FAILED,
            "%llu of the %llu pages that were to be saved cannot be read: the flash is losing its data; "
            "nothing was erased",
            LLU(l.unreadable), LLU(l.pages));
        error_hint(e, HINT_CONTACT_VENDOR);
        return r;
    }
    if (l.unit_data > 0 && !(what->allow & ALLOW_CALIBRATION_AT_RISK))
        return error_set(
            e, ERROR_CALIBRATION_AT_RISK,
            "%llu pages of %s cannot be read, so what only this unit has cannot be saved as a whole; "
            "nothing was erased (--allow=CalibrationAtRisk to go on)",
            LLU(l.unit_data), l.name);
    if (l.unit_data > 0)
        worker_log(p->session->worker, "WARN: %llu pages of %s cannot be read; allowed", LLU(l.unit_data),
                   l.name);
    if (b->state == BACKUP_BLANK)
        worker_log(p->session->worker, "WARN: %s: this unit has no calibration to be saved",
                   b->flaw == BACKUP_FLAW_FACTORY_TEST ? "it ran in factory test mode"
                                                       : "EFS2 holds nothing");
    else if (b->flaw == BACKUP_FLAW_HALF_WRITTEN)
        worker_log(p->session->worker,
                   "WARN: EFS2 was being written when that was interrupted: what is saved is half of two");
    return 0;
}

/* ---- handing over ---- */

/* No backup: an end, or the way without one. */
static int without(struct protect *p, const struct protect_what *what, const char *why, struct error *e)
{
    if (!(what->allow & ALLOW_NO_BACKUP))
        return error_set(
            e, ERROR_NO_BACKUP,
            "what must not be lost could not be saved: %s; nothing was erased (--allow=NoBackup to go "
            "on without)",
            why);
    worker_log(p->session->worker, "WARN: no backup was taken, which is allowed: %s", why);
    snprintf(p->result, sizeof(p->result), "no backup taken: %.400s", why);
    p->state = PROTECT_WITHOUT;
    return 0;
}

static void offer(struct protect *p)
{
    struct worker *w = p->session->worker;
    backup_tell(w, p->save.made);
    /* Who stores it has to know that nobody writes to it any more. */
    w->fd_backup = close_fd(w->fd_backup);
    worker_phase(w, "store-backup", NULL);
    w->backup_asked = true;
    worker_tell(w, KEY_BACKUP, "1");
    p->state = PROTECT_TOLD;
}

static bool answered(const struct worker *w)
{
    return w->backup_id[0] || w->backup_refused[0];
}

/* transport_waker: ends the wait with the answer, or when somebody wants an end. */
static int wake_on_answer(void *userdata)
{
    struct worker *w = userdata;
    int r = worker_wake(w);
    return answered(w) ? -EALREADY : r;
}

/* While it waits the modem is held: what it says is taken off it, and that it goes is heard. */
static int await_answer(struct protect *p, struct error *e)
{
    struct worker *w = p->session->worker;
    bool critical = w->critical;
    usec_t deadline = deadline_in(answer_time);
    w->critical = p->locked;
    /* What came during the last read wakes nobody any more. */
    int r = wake_on_answer(w);
    while (r == 0)
        r = transport_wait(p->session->transport, w->link, wake_on_answer, w, deadline);
    int asked = worker_check(w, e);
    w->critical = critical;
    if (asked < 0)
        return asked;
    if (answered(w))
        return 0;
    if (r == -ENODEV)
        return error_set(e, ERROR_MODEM_GONE, "the modem went away while its backup was stored");
    return error_set(e, ERROR_TIMEOUT,
                     "the backup was not stored within the time allowed; nothing was erased");
}

static int take_answer(struct protect *p, const struct protect_what *what, struct error *e)
{
    struct worker *w = p->session->worker;
    if (!w->backup_id[0])
        return without(p, what, w->backup_refused, e);
    memcpy(p->id, w->backup_id, sizeof(p->id));
    snprintf(p->result, sizeof(p->result), "%s (%s, %s)", p->id, backup_kind_name(p->save.made->kind),
             backup_state_name(p->save.made->state));
    worker_log(w, "saved before anything is erased: backup %s, %zu partitions", p->id, p->save.made->n_parts);
    p->state = PROTECT_STORED;
    return 0;
}

/* ---- all of it ---- */

static bool same_modem(const struct protect *p)
{
    const struct nand_geometry *a = &p->save.geometry, *b = &p->session->geometry;
    return p->session->recognized && a->page_size == b->page_size &&
           a->pages_per_block == b->pages_per_block && a->blocks == b->blocks;
}

static int run(struct protect *p, const struct protect_what *what, bool again, struct error *e)
{
    int r = 0;
    /* What was handed over is of the modem that was there then. */
    if ((p->state == PROTECT_TOLD || p->state == PROTECT_STORED) && again && !same_modem(p)) {
        r = error_set(e, ERROR_FAILED,
                      "the modem went away after it was saved, and the one that came back does not tell "
                      "whether it is the same; nothing was erased");
        error_hint(e, HINT_RETRY);
        return r;
    }
    if (p->state == PROTECT_STORED)
        return 0;
    if (p->state == PROTECT_NOTHING || (p->state == PROTECT_READING && !save_goes_on(&p->save)))
        r = begin(p, what, e);
    if (r == 0 && p->state == PROTECT_READING)
        r = save_run(&p->save, e);
    if (r == 0 && p->state == PROTECT_READING)
        r = judge(p, what, e);
    if (r == 0 && p->state == PROTECT_READING)
        offer(p);
    if (r == 0)
        r = await_answer(p, e);
    return r < 0 ? r : take_answer(p, what, e);
}

int protect_run(struct protect *p, struct session *s, const struct protect_what *what, struct error *e)
{
    struct error own = {0};
    bool again = p->session != NULL;
    p->session = s;
    if (p->state == PROTECT_WITHOUT)
        return 0;
    if (s->worker->fd_backup < 0 && p->state == PROTECT_NOTHING)
        return without(p, what, "there is no file to put it in", e);
    int r = run(p, what, again, &own);
    /* A disk without room is what NoBackup is about; a flash that is dying, a user or a modem that goes are
     * not. */
    if (r < 0 && own.kind == ERROR_NO_SPACE) {
        char why[ERROR_MESSAGE_SIZE];
        snprintf(why, sizeof(why), "%s", own.message);
        return without(p, what, why, e);
    }
    if (r < 0)
        *e = own;
    return r;
}
