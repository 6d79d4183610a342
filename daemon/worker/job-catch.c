/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Catches a modem in the first window that it gives: identify, upload, an answered nop, storage, partition
 * table; then it is held. The programmers are in memory before the window opens. One that is refused or stays
 * silent is told and not tried again; the next one has its turn as soon as the modem says hello again.
 * Nothing is written to the modem.
 */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/package.h"
#include "transport/transport.h"
#include "worker/session.h"

/* Windows in a row in which no programmer came to run. */
enum { IN_VAIN_MAX = 8 };

struct candidate {
    char id[33], chip[16];
    char *data;
    size_t size;
    bool spent;
};

struct catch
{
    struct worker *worker;
    struct session *session;
    struct candidate candidates[WORKER_CANDIDATES_MAX];
    size_t n_candidates;
    const struct candidate *running; /* NULL: one that was there */
    usec_t deadline;
    struct error last_refusal;
};

static void catch_done(struct catch *c)
{
    session_free(c->session);
    for (size_t i = 0; i < c->n_candidates; i++)
        free(c->candidates[i].data);
}

/* ---- before the window ---- */

/* A package that cannot be read costs itself, and not the modem. */
static int load_candidates(struct catch *c, struct error *e)
{
    struct worker *w = c->worker;
    for (size_t i = 0; i < WORKER_CANDIDATES_MAX && w->fd_candidates[i] >= 0; i++) {
        struct candidate *next = &c->candidates[c->n_candidates];
        struct error own = {0};
        char name[24];
        snprintf(name, sizeof(name), "candidate-%zu", i);
        if (sscanf(worker_option(w, name, ""), "%32s %15s", next->id, next->chip) < 1)
            return error_set(e, ERROR_INVALID_ARGS, "%s has no name", name);
        if (package_load_programmer(w->fd_candidates[i], &next->data, &next->size, &own) < 0)
            worker_log(w, "WARN: the programmer of firmware %s cannot be used: %s", next->id, own.message);
        else
            c->n_candidates++;
    }
    return 0;
}

/* ---- in a window ---- */

/* The next one in order; of a chip that told its name only one made for it. */
static struct candidate *choose(struct catch *c)
{
    const struct sahara_identity *id = &c->session->identity;
    const char *chip = id->have_hwid ? sahara_chip_name(id->hwid) : NULL;
    for (size_t i = 0; i < c->n_candidates; i++) {
        struct candidate *next = &c->candidates[i];
        if (!next->spent && (!chip || !*next->chip || strcmp(chip, next->chip) == 0))
            return next;
    }
    return NULL;
}

static int nothing_to_try(struct catch *c, struct error *e)
{
    if (c->last_refusal.kind != ERROR_NONE) {
        *e = c->last_refusal;
        return error_errno(e->kind);
    }
    int r = error_set(
        e, ERROR_NO_SUCH_FIRMWARE,
        "no package of the library has a programmer for this modem: import one that is made for it");
    error_hint(e, HINT_IMPORT_FIRMWARE);
    return r;
}

/* Silent: whatever runs there now does not listen; only a restart helps, and a loop brings it. */
static int await_departure(struct catch *c, struct error *e)
{
    struct worker *w = c->worker;
    worker_phase(w, "wait-device", "power-cycle the modem");
    int r = transport_wait(c->session->transport, w->link, worker_wake, w, c->deadline);
    int asked = worker_check(w, e);
    if (asked < 0)
        return asked;
    if (r == -ETIMEDOUT) {
        *e = c->last_refusal;
        return error_errno(e->kind);
    }
    return -ENODEV;
}

/* Its programmer was not to its liking. 0: it says hello again in this window; -ENODEV: in the next one. */
static int begin_again(struct catch *c, struct detect_result *found, struct error *e)
{
    struct session *s = c->session;
    struct worker *w = c->worker;
    bool silent = s->programmer_runs;
    c->last_refusal = *e;
    *e = (struct error){0};
    worker_log(w, "WARN: %s", c->last_refusal.message);
    if (!choose(c))
        return nothing_to_try(c, e);
    if (silent)
        return await_departure(c, e);
    bool critical = w->critical;
    w->critical = true; /* in the middle of it a modem is stuck for whoever comes next */
    int r = detect_return_to_hello(s->transport, found, e);
    w->critical = critical;
    int asked = worker_check(w, NULL);
    if (asked < 0)
        return worker_check(w, e);
    if (r == 0 && found->state == DETECT_SAHARA)
        return 0;
    *e = (struct error){0};
    return r == -ENODEV ? r : await_departure(c, e);
}

/* From hello to an answered nop; every candidate that is left, as long as the modem stays. */
static int run_programmer(struct catch *c, struct detect_result *found, struct error *e)
{
    struct session *s = c->session;
    for (;;) {
        struct candidate *next = found->state == DETECT_SAHARA ? choose(c) : NULL;
        if (found->state == DETECT_SAHARA && !next)
            return nothing_to_try(c, e);
        s->programmer_id = next ? next->id : "";
        if (c->running != next)
            s->left_after_upload = 0;
        c->running = next;
        int r = session_start_programmer(s, found, next ? next->data : NULL, next ? next->size : 0, e);
        if (r == 0)
            return 0;
        if (e->kind != ERROR_PROGRAMMER_REJECTED || !next)
            return r;
        next->spent = true;
        r = begin_again(c, found, e);
        if (r < 0)
            return r;
    }
}

/* Where everything lies: remembered for the day on which the modem does not tell any more. */
static int read_table(struct catch *c, struct error *e)
{
    struct session *s = c->session;
    struct worker *w = c->worker;
    struct mibib_table table;
    struct error own = {0};
    uint64_t block;
    if (s->geometry.blocks == 0)
        return 0;
    bool critical = w->critical;
    w->critical = s->quiet = true;
    int r = mibib_read(s->firehose, &s->geometry, &s->capabilities, NULL, &table, &block, &own);
    w->critical = critical;
    s->quiet = false;
    if (r == -ENODEV) {
        *e = own;
        return r;
    }
    if (r < 0) {
        worker_log(w, "WARN: the modem's partition table cannot be read: %s",
                   r == -ENOENT ? "there is none" : own.message);
        return worker_check(w, e);
    }
    _cleanup_free_ char *text = mibib_print(&table);
    if (text)
        worker_tell_memfd(w, KEY_TABLE, text, strlen(text));
    return worker_check(w, e);
}

static int use_window(struct catch *c, struct detect_result *found, struct error *e)
{
    if (found->state != DETECT_SAHARA && found->state != DETECT_FIREHOSE)
        return error_set(e, ERROR_WRONG_MODE, "the modem is not in emergency download mode: it %s",
                         found->state == DETECT_CRASH_DUMP ? "crashed and offers its memory"
                                                           : "speaks streaming download (HDLC)");
    int r = run_programmer(c, found, e);
    if (r == 0)
        r = firehose_nop(c->session->firehose, e);
    return r < 0 ? r : read_table(c, e);
}

/* ---- all of it ---- */

static int too_short(struct error *e)
{
    int r =
        error_set(e, ERROR_MODEM_GONE,
                  "the modem went away %d times in a row before a programmer ran: its window is too short",
                  IN_VAIN_MAX);
    error_hint(e, HINT_BRIDGE_USB_BOOT);
    return r;
}

static size_t count_spent(const struct catch *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_candidates; i++)
        n += c->candidates[i].spent;
    return n;
}

static int catch_modem(struct catch *c, struct error *e)
{
    struct session *s = c->session;
    for (unsigned in_vain = 0; in_vain < IN_VAIN_MAX;) {
        struct detect_result found;
        size_t spent = count_spent(c);
        int r = session_attach(s, c->deadline, true, &found, e);
        if (r < 0)
            return r;
        r = use_window(c, &found, e);
        if (r != -ENODEV)
            return r;
        session_lost(s);
        /* One that was found not to fit was worth its window. */
        in_vain = count_spent(c) > spent ? 0 : in_vain + 1;
        worker_log(c->worker, "WARN: the modem went away (%s)",
                   *e->message ? e->message : "another programmer has its turn in the next window");
        *e = (struct error){0};
    }
    return too_short(e);
}

static void report(struct catch *c)
{
    struct session *s = c->session;
    const struct sahara_identity *id = &s->identity;
    if (id->have_serial)
        worker_report(c->worker, "serial", "%08x", id->serial);
    if (id->have_hwid)
        worker_report(c->worker, "hwid", "%016llx", (unsigned long long)id->hwid);
    if (c->running)
        worker_report(c->worker, "programmer", "%s", c->running->id);
    if (s->geometry.blocks > 0)
        worker_report(c->worker, "storage", "nand %u/%uK x %llu", s->geometry.page_size,
                      nand_block_size(&s->geometry) / 1024, (unsigned long long)s->geometry.blocks);
}

int job_catch(struct worker *w, struct job_outcome *o)
{
    _cleanup_(catch_done) struct catch c = {.worker = w};
    int r = load_candidates(&c, &o->error);
    if (r < 0)
        return r;
    c.session = session_new(w);
    if (!c.session)
        return error_set(&o->error, ERROR_FAILED, "out of memory");
    worker_ready(w);
    c.deadline = deadline_in(worker_option_u64(w, "timeout-usec", USEC_INFINITY));
    r = catch_modem(&c, &o->error);
    if (r < 0)
        return r;
    report(&c);
    c.session->programmer_id = "";
    o->hold = steal_ptr(c.session);
    return 0;
}
