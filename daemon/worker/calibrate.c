/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A calibration out of a modem that runs its firmware, and its numbered items. It takes some 21000 questions:
 * 8191 items of SIM 1, 601 that say whether there is a next one (or as many again), 12001 numbers of RF
 * items, and four or five a file. Which of them have no answer only the modem knows.
 */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/version.h"
#include "worker/reading.h"

enum {
    CONTEXTS = 3,       /* subscriptions; a modem with fewer refuses the first items of the next */
    CONTEXT_LOOK = 600, /* so many items say whether a subscription is there: 550 is among them */
    ITEMS_UNREADABLE_MAX = 64,
    PPM = 1000000,
};

static void reading_done(struct reading *x)
{
    for (size_t i = 0; i < x->n_directories; i++)
        free(x->directories[i]);
    free(x->directories);
    calibration_free(x->c);
}

void reading_progress(struct reading *x, uint64_t n)
{
    x->done = MIN_OF(x->done + n, x->total);
    worker_progress(x->worker, x->done * PPM / x->total, x->bytes, 0);
}

int reading_no_memory(struct reading *x)
{
    return error_set(x->e, ERROR_FAILED, "no memory for the calibration");
}

/* ---- numbered items ---- */

/* A few that fail are a modem's own; one that lets nothing be read has no backup that is complete. */
static int note_unreadable_item(struct reading *x, uint16_t item, uint16_t context, unsigned status)
{
    x->facts->n_unreadable++;
    if (++x->items_unreadable > ITEMS_UNREADABLE_MAX && !x->broken)
        return error_set(
            x->e, ERROR_DIAG_FAILED,
            "more than %d numbered items of the modem cannot be read, item %u of SIM %u the last "
            "of them: %s",
            ITEMS_UNREADABLE_MAX, item, context + 1u, diag_nv_status_name(status));
    if (x->logged++ < READING_LOGGED_MAX)
        worker_log(x->worker, "WARN: NV item %u of SIM %u cannot be read: %s", item, context + 1u,
                   diag_nv_status_name(status));
    return 0;
}

static int read_item(struct reading *x, uint16_t item, uint16_t context, unsigned *ret_status)
{
    uint8_t data[DIAG_NV_SIZE];
    *ret_status = DIAG_NV_NOT_DEFINED;
    if (item == DIAG_NV_SPC_TTL) /* not answered by some (diag.md 2.4) */
        return 0;
    /* What neither has a value nor says that there is none is asked once more. */
    for (unsigned i = 0; i < 2; i++) {
        int r = diag_nv_read(x->diag, item, context, data, ret_status, x->e);
        if (r < 0)
            return r;
        if (*ret_status == DIAG_NV_DONE)
            return calibration_add_nv(x->c, item, context, data) < 0 ? reading_no_memory(x) : 0;
        if (diag_nv_is_absent(*ret_status))
            return 0;
    }
    return note_unreadable_item(x, item, context, *ret_status);
}

static int not_known_any_more(struct reading *x, uint32_t item, uint16_t context)
{
    return error_set(x->e, ERROR_DIAG_FAILED,
                     "the modem knew the items of SIM %u up to item %u and says now that it does not",
                     context + 1u, item);
}

static int read_context(struct reading *x, uint16_t context)
{
    bool there = context == 0;
    for (uint32_t item = x->first_item; item < x->end_item; item++) {
        unsigned status;
        int r = read_item(x, (uint16_t)item, context, &status);
        /* "No such command": of the first item, and twice, it means that there is no such subscription. */
        if (r == -EOPNOTSUPP && context > 0 && item == x->first_item)
            r = read_item(x, (uint16_t)item, context, &status);
        if (r == -EOPNOTSUPP && context > 0)
            return item == x->first_item ? r : not_known_any_more(x, item, context);
        if (r < 0)
            return r;
        there |= status == DIAG_NV_DONE || status == DIAG_NV_NOT_ACTIVE;
        if (!there && item == CONTEXT_LOOK)
            return 1;
        if (item % 64 == 63)
            reading_progress(x, 64);
    }
    return 0;
}

static int read_items(struct reading *x)
{
    for (uint16_t context = 0; context < CONTEXTS; context++) {
        struct error own = {0}, *before = x->e;
        char detail[32];
        snprintf(detail, sizeof(detail), "NV items, SIM %u", context + 1u);
        worker_phase(x->worker, "backup", detail);
        x->e = &own;
        int r = read_context(x, context);
        x->e = before;
        if (r == 1 || (r == -EOPNOTSUPP && context > 0))
            return 0;
        if (r < 0) {
            *x->e = own;
            return r;
        }
    }
    return 0;
}

/* ---- all of it ---- */

/* An interrupted restore leaves it offline. What does not tell its mode is remembered by the service. */
static bool is_half_written(const struct worker *w, const struct running_identity *id)
{
    const char *flaw = worker_option(w, "calibration-flaw", "");
    return id->oper_mode_known ? diag_oper_mode_is_offline(id->oper_mode)
                               : backup_flaw_from_name(flaw) == BACKUP_FLAW_HALF_WRITTEN;
}

static void fill_facts(const struct worker *w, const struct running_identity *id, struct calibration_facts *f)
{
    const char *serial = worker_option(w, "serial", ""), *chip = worker_option(w, "chip", "");
    struct version version;
    uint8_t bytes[4];
    *f = (struct calibration_facts){.created = worker_option_u64(w, "created", realtime_usec()),
                                    .factory_test = id->factory_test,
                                    .half_written = is_half_written(w, id)};
    if (text_unhex(serial, bytes, sizeof(bytes)) == 0) {
        f->unit.have_serial = true;
        f->unit.serial =
            (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    }
    snprintf(f->chip, sizeof(f->chip), "%s", chip);
    snprintf(f->version, sizeof(f->version), "%s", id->version);
    snprintf(f->model, sizeof(f->model), "%s",
             version_parse(id->version, &version) == 0 ? version.model : id->model);
}

static int read_rest(struct reading *x, const struct running_identity *id)
{
    struct error ignored = {0};
    x->c->model_id = id->model_id;
    snprintf(x->c->version, sizeof(x->c->version), "%s", id->version);
    snprintf(x->c->tool, sizeof(x->c->tool), "qdld");
    uint8_t before[CALIBRATION_FEATURES_MAX];
    size_t n_before = SIZE_MAX;
    int r = 0;
    for (unsigned i = 0; i < READING_TRIES && r == 0;
         i++) { /* as everything else: until two readings are the same */
        r = diag_read_features(x->diag, x->c->features + 2, sizeof(x->c->features) - 2, &x->c->n_features,
                               &ignored);
        if (r == 0 && x->c->n_features == n_before && memcmp(before, x->c->features + 2, n_before) == 0)
            break;
        n_before = x->c->n_features;
        memcpy(before, x->c->features + 2, r == 0 ? n_before : 0);
    }
    if (r == -ENODEV || r == -ECANCELED || r == -EINTR) {
        *x->e = ignored;
        return r;
    }
    if (r < 0) {
        x->c->n_features = 0;
        return 0;
    }
    x->c->features[0] = (uint8_t)x->c->n_features;
    x->c->features[1] = (uint8_t)(x->c->n_features >> 8);
    x->c->n_features += 2;
    return 0;
}

/* All of them, but where a test asks for so few that every exchange can be interrupted. */
static void choose_span(struct reading *x)
{
    const struct worker *w = x->worker;
    x->first_item = (uint32_t)MIN_OF(worker_option_u64(w, "nv-first", 0), (uint64_t)CALIBRATE_ITEMS);
    x->end_item =
        (uint32_t)MIN_OF(worker_option_u64(w, "nv-end", CALIBRATE_ITEMS), (uint64_t)CALIBRATE_ITEMS);
    x->end_rfnv = (uint32_t)MIN_OF(worker_option_u64(w, "rfnv-end", CALIBRATE_RFNV_LAST + 1),
                                   (uint64_t)CALIBRATE_RFNV_LAST + 1);
}

static int explain(int r, struct error *e)
{
    if (r == -ECANCELED && e->kind == ERROR_NONE)
        return error_set(e, ERROR_CANCELLED, "cancelled; nothing was changed");
    if (r == -EINTR && e->kind == ERROR_NONE)
        return error_set(e, ERROR_INTERRUPTED, "interrupted: the service is stopping");
    return r;
}

int calibrate_read(struct running *running, const struct running_identity *id, struct calibration **ret,
                   struct calibration_facts *facts, struct error *e)
{
    _cleanup_(reading_done) struct reading x = {.running = running,
                                                .worker = running->worker,
                                                .diag = running->diag,
                                                .facts = facts,
                                                .broken = id->factory_test,
                                                .md5 = true,
                                                .e = e,
                                                .c = calibration_new(),
                                                .total = CONTEXTS * CALIBRATE_ITEMS + CALIBRATE_RFNV_LAST -
                                                         CALIBRATE_RFNV_FIRST + 1000};
    if (!x.c)
        return reading_no_memory(&x);
    fill_facts(running->worker, id, facts);
    choose_span(&x);
    int r = read_rest(&x, id);
    if (r == 0)
        r = read_items(&x);
    if (r == 0)
        r = diag_efs_hello(x.diag, e);
    if (r == 0)
        r = reading_walk(&x);
    if (r == 0)
        r = reading_probe(&x);
    if (r == 0)
        r = reading_check(&x);
    if (x.logged > READING_LOGGED_MAX)
        worker_log(x.worker, "WARN: and %u more that cannot be read", x.logged - READING_LOGGED_MAX);
    if (r < 0)
        return explain(r, e);
    calibration_sort(x.c);
    *ret = steal_ptr(x.c);
    return 0;
}

/* Of a backup that somebody asked for; what a flash or a restore saves first is one line of theirs. */
static void report(struct worker *w, const struct calibration *c, const struct calibration_facts *facts)
{
    worker_report(w, "state", "%s", backup_state_name(facts->state));
    worker_report(w, "nv-items", "%zu", c->n_nv);
    worker_report(w, "files", "%zu, %zu of them RF items", c->n_files, calibration_count_rfnv(c));
    worker_report(w, "unreadable", "%llu", (unsigned long long)facts->n_unreadable);
    if (facts->n_lost > 0)
        worker_report(w, "unreadable-calibration", "%llu", (unsigned long long)facts->n_lost);
    if (facts->n_unstable > 0)
        worker_report(w, "changing-items", "%llu", (unsigned long long)facts->n_unstable);
}

int calibrate_save(struct running *running, const struct running_identity *id, int fd,
                   struct calibration **ret, enum backup_state *ret_state, struct error *e)
{
    _cleanup_(calibration_freep) struct calibration *c = NULL;
    struct calibration_facts facts;
    struct worker *w = running->worker;
    int r = calibrate_read(running, id, &c, &facts, e);
    if (r == 0)
        r = calibration_store(fd, c, &facts, e);
    if (r < 0)
        return r;
    if (strcmp(w->kind, "backup") == 0)
        report(w, c, &facts);
    r = calibrate_tell(w, fd, c, &facts, e);
    if (r < 0)
        return r;
    if (ret)
        *ret = steal_ptr(c);
    if (ret_state)
        *ret_state = facts.state;
    return 0;
}
