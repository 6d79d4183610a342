/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/plan.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "firmware/plan-inner.h"

/* ---- life ---- */

struct plan *plan_free(struct plan *p)
{
    if (!p)
        return NULL;
    for (size_t i = 0; i < p->n_notes; i++)
        free(p->notes[i]);
    free(p->made.steps);
    free(p->steps);
    free(p);
    return NULL;
}

struct plan_step *plan_add(struct plan *plan, enum plan_action action)
{
    struct plan_step *steps = reallocarray(plan->steps, plan->n_steps + 1, sizeof(*steps));
    if (!steps)
        return NULL;
    plan->steps = steps;
    struct plan_step *s = &steps[plan->n_steps++];
    *s = (struct plan_step){.action = action};
    return s;
}

void plan_note(struct plan *plan, const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    if (plan->n_notes == ARRAY_SIZE(plan->notes))
        return;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        return;
    for (size_t i = 0; i < plan->n_notes; i++)
        if (strcmp(plan->notes[i], text) == 0) { /* offline and at the modem the same is found */
            free(text);
            return;
        }
    plan->notes[plan->n_notes++] = text;
}

/* ---- rule 2: package and modem must match ---- */

static int parse_modem_version(const char *name, const char *what, struct version *ret, struct error *e)
{
    if (version_parse(name, ret) < 0)
        return error_set(e, ERROR_INVALID_ARGS,
                         "%s \"%s\" is not a Quectel version name (as RM502QGLAAR11A02M4G_01.001.01.001)",
                         what, name);
    return 0;
}

/* With the way out of it. */
static int refuse_version(const struct version *modem, const struct error *mismatch, struct error *e)
{
    int r = error_set(e, ERROR_WRONG_FIRMWARE,
                      "%s; packages for it begin with %s%s (--allow=WrongFirmware to flash this one anyway)",
                      mismatch->message, modem->prefix, modem->baseline);
    error_hint(e, HINT_WRONG_FIRMWARE);
    return r;
}

static int match_versions(struct plan *plan, const struct package *p, const struct plan_options *o,
                          struct error *e)
{
    bool allowed = o->allow & ALLOW_WRONG_FIRMWARE;
    struct error mismatch = {0};
    struct version modem;

    if (!p->version_known) {
        if (!allowed) {
            int r = error_set(
                e, ERROR_WRONG_FIRMWARE,
                "The package does not say which modem it is for: \"%s\" is not a Quectel version name "
                "(--allow=WrongFirmware to use it)",
                *p->top ? p->top : p->name);
            error_hint(e, HINT_IMPORT_FIRMWARE);
            return r;
        }
        plan_note(plan, "the package's version is not known; allowed by the caller");
        return 0;
    }

    /* The user's word first: it lifts "version unknown" only, so it has to agree with the package itself. */
    if (o->modem_version && *o->modem_version) {
        int r = parse_modem_version(o->modem_version, "modem-version", &modem, e);
        if (r < 0)
            return r;
        r = version_match(&p->version, &modem, &mismatch);
        if (r < 0 && !allowed)
            return refuse_version(&modem, &mismatch, e);
        snprintf(plan->matched_version, sizeof(plan->matched_version), "%s", modem.name);
    }

    if (!o->known_version || !*o->known_version)
        return 0;
    if (version_parse(o->known_version, &modem) < 0) {
        plan_note(plan, "the remembered version \"%s\" is not a Quectel version name and was not compared",
                  o->known_version);
        return 0;
    }
    int r = version_match(&p->version, &modem, &mismatch);
    if (!o->known_confirmed) {
        /* A port's memory is a hint: somebody may have swapped the card. */
        if (r < 0)
            plan_note(plan, "this port last saw a modem with %s, which this package is not for", modem.name);
        return 0;
    }
    if (r < 0 && !allowed)
        return refuse_version(&modem, &mismatch, e);
    if (r < 0)
        plan_note(plan, "%s; allowed by the caller", mismatch.message);
    plan->version_proven = r == 0;
    snprintf(plan->matched_version, sizeof(plan->matched_version), "%s", modem.name);
    return 0;
}

/* ---- from commands to ranges ---- */

/* A command that was judged: its blocks and what is special about them. */
struct piece {
    const struct package_command *command; /* NULL: an erase that the package forgot */
    enum plan_action action;               /* PLAN_ERASE or PLAN_WRITE */
    struct block_range range;
    const struct package_file *file;
    bool sbl, mibib, dropped;
};

struct pieces {
    struct piece *items;
    size_t n;
};

static void pieces_done(struct pieces *p)
{
    free(p->items);
}

static int collect_commands(const struct package *p, struct pieces *pieces, struct error *e)
{
    char why[256];

    /* Room for an added erase with each program. */
    pieces->items = calloc(2 * p->n_commands + 1, sizeof(*pieces->items));
    if (!pieces->items)
        return -ENOMEM;
    for (size_t i = 0; i < p->n_commands; i++) {
        const struct package_command *c = &p->commands[i];
        if (c->kind == COMMAND_VENDOR)
            continue;
        struct piece piece = {
            .command = c,
            .action = c->kind == COMMAND_PROGRAM ? PLAN_WRITE : PLAN_ERASE,
            .file = c->kind == COMMAND_PROGRAM ? c->file : NULL,
        };
        if (ranges_of_command(p, c, &piece.range, why, sizeof(why)) < 0)
            return error_set(e, ERROR_FIRMWARE_INVALID, "The package is invalid: %s", why);
        for (size_t k = 0; k < pieces->n; k++) {
            struct piece *other = &pieces->items[k];
            if (ranges_of_pair(other->command, &other->range, c, &piece.range, why, sizeof(why)) < 0)
                return error_set(e, ERROR_FIRMWARE_INVALID, "The package is invalid: %s", why);
            /* ranges_of_pair() lets two erases meet only if they are the same. */
            if (other->action == PLAN_ERASE && piece.action == PLAN_ERASE &&
                block_range_overlaps(&other->range, &piece.range))
                piece.dropped = true;
        }
        pieces->items[pieces->n++] = piece;
    }
    return 0;
}

static void add_missing_erases(struct plan *plan, struct pieces *pieces)
{
    size_t given = pieces->n;
    for (size_t i = 0; i < given; i++) {
        struct piece *write = &pieces->items[i];
        bool covered = false;
        if (write->action != PLAN_WRITE)
            continue;
        for (size_t k = 0; k < given && !covered; k++)
            covered = pieces->items[k].action == PLAN_ERASE &&
                      block_range_contains(&pieces->items[k].range, &write->range);
        if (covered)
            continue;
        pieces->items[pieces->n++] = (struct piece){.action = PLAN_ERASE, .range = write->range};
        plan_note(plan, "the package writes %s without erasing its range: an erase was added",
                  write->file->path);
    }
}

static bool is_mibib(const struct package *p, const struct piece *piece)
{
    if (piece->file && piece->file == p->partition_image)
        return true;
    if (!p->table_known)
        return false;
    const struct mibib_partition *own = partition_at(&p->table, piece->range.first, p->chip_blocks);
    return own && text_equal_nocase(own->name, "MIBIB");
}

/* SBL is more than sector 0: whatever lies in the partition that holds it. */
static bool is_sbl(const struct package *p, const struct piece *piece)
{
    const struct mibib_partition *own = p->table_known ? partition_at(&p->table, 0, p->chip_blocks) : NULL;
    return piece->range.first == 0 || (own && piece->range.first < partition_end(own, p->chip_blocks));
}

/* Rule 6: SBL frames everything else; MIBIB is never left erased. */
static int mark_special(struct plan *plan, const struct package *p, struct pieces *pieces, struct error *e)
{
    bool sbl_image = false, mibib_image = false, mibib_erase = false;

    for (size_t i = 0; i < pieces->n; i++) {
        struct piece *piece = &pieces->items[i];
        piece->sbl = is_sbl(p, piece);
        piece->mibib = !piece->sbl && is_mibib(p, piece);
        if (piece->action == PLAN_WRITE) {
            sbl_image |= piece->range.first == 0;
            mibib_image |= piece->mibib;
        } else {
            mibib_erase |= piece->mibib;
        }
    }
    if (mibib_erase && !mibib_image)
        return error_set(
            e, ERROR_FIRMWARE_INVALID,
            "The package is invalid: it erases the partition table (MIBIB) and has no image for it");

    /* The erase of a partition image's range without a table to name it. */
    for (size_t i = 0; i < pieces->n; i++)
        for (size_t k = 0; k < pieces->n; k++)
            if (pieces->items[k].mibib && !pieces->items[i].sbl &&
                block_range_overlaps(&pieces->items[i].range, &pieces->items[k].range))
                pieces->items[i].mibib = true;

    plan->sbl_last = sbl_image;
    if (sbl_image)
        return 0;
    snprintf(plan->sbl_note, sizeof(plan->sbl_note),
             "the package has no image for sector 0: SBL is not touched, and an interrupted flash is not "
             "certain to come back in 9008");
    for (size_t i = 0; i < pieces->n; i++) {
        struct piece *piece = &pieces->items[i];
        if (piece->sbl && piece->action == PLAN_WRITE)
            return error_set(e, ERROR_FIRMWARE_INVALID,
                             "The package is invalid: it writes %s into SBL and has no image for sector 0",
                             piece->file->path);
        if (piece->sbl) {
            piece->dropped = true;
            plan_note(plan, "the erase of SBL was dropped: the package has no image for sector 0");
        }
    }
    return 0;
}

/* ---- from ranges to ordered steps ---- */

/* Rule 3: the tag is a whole-chip erase to a programmer that does not know it. */
static int add_vendor_checks(struct plan *plan, const struct package *p)
{
    for (size_t i = 0; i < p->n_commands; i++) {
        const struct package_command *c = &p->commands[i];
        if (c->kind != COMMAND_VENDOR)
            continue;
        if (!p->capabilities.vendor_check) {
            plan_note(plan, "the vendor's project check is not sent: the programmer does not know it and "
                            "would erase the whole chip");
            continue;
        }
        if (!*c->vendor.project_name) {
            plan_note(plan, "the vendor's project check is not sent: it names no project");
            continue;
        }
        struct plan_step *s = plan_add(plan, PLAN_CHECK_VENDOR);
        if (!s)
            return -ENOMEM;
        s->vendor = c->vendor;
        s->vendor.sector_size = p->geometry.page_size;
        s->vendor.pages_per_block = p->geometry.pages_per_block;
    }
    return 0;
}

static int add_steps(struct plan *plan, const struct pieces *pieces, enum plan_action action, bool sbl,
                     bool mibib)
{
    enum plan_action from = action == PLAN_ERASE ? PLAN_ERASE : PLAN_WRITE;
    for (size_t i = 0; i < pieces->n; i++) {
        const struct piece *piece = &pieces->items[i];
        if (piece->dropped || piece->action != from || piece->sbl != sbl || piece->mibib != mibib)
            continue;
        struct plan_step *s = plan_add(plan, action);
        if (!s)
            return -ENOMEM;
        s->sbl = sbl;
        s->mibib = mibib;
        s->first_block = piece->range.first;
        s->n_blocks = piece->range.count;
        if (action == PLAN_ERASE)
            continue;
        s->file = piece->file;
        s->pages = DIV_ROUND_UP(piece->file->size, plan->geometry.page_size);
        if (action == PLAN_WRITE)
            plan->bytes_to_write += s->pages * plan->geometry.page_size;
    }
    return 0;
}

static int order_steps(struct plan *plan, const struct package *p, const struct pieces *pieces, bool reset)
{
    static const struct {
        enum plan_action action;
        bool sbl, mibib;
    } order[] = {
        {PLAN_ERASE, true, false},   {PLAN_ERASE, false, true},  {PLAN_WRITE, false, true},
        {PLAN_VERIFY, false, true},  {PLAN_ERASE, false, false}, {PLAN_WRITE, false, false},
        {PLAN_VERIFY, false, false}, {PLAN_WRITE, true, false},  {PLAN_VERIFY, true, false},
    };
    int r = add_vendor_checks(plan, p);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(order); i++)
        r = add_steps(plan, pieces, order[i].action, order[i].sbl, order[i].mibib);
    if (r == 0 && reset && !plan_add(plan, PLAN_RESET))
        r = -ENOMEM;
    return r;
}

/* ---- what identifies it ---- */

static void digest_u64(struct digest *d, uint64_t value)
{
    value = htole64(value);
    digest_update(d, &value, sizeof(value));
}

static void digest_text(struct digest *d, const char *text)
{
    digest_update(d, text, strlen(text) + 1);
}

static int digest_steps(struct plan *plan)
{
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    if (!d)
        return -ENOMEM;
    digest_u64(d, plan->geometry.page_size);
    digest_u64(d, plan->geometry.pages_per_block);
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        if (!plan_is_executed(s))
            continue;
        digest_u64(d, s->action);
        digest_u64(d, s->first_block);
        digest_u64(d, s->n_blocks);
        digest_u64(d, s->pages);
        if (s->file)
            digest_update(d, s->file->sha256, SHA256_SIZE);
        if (s->action == PLAN_CHECK_VENDOR) {
            digest_text(d, s->vendor.project_name);
            digest_text(d, s->vendor.project_type);
            digest_u64(d, s->vendor.rawdata_start_sector);
            digest_u64(d, s->vendor.rawdata_sectors);
        }
    }
    digest_final(d, plan->digest);
    return 0;
}

/* ---- as it was made ---- */

static struct plan_step *copy_steps(const struct plan_step *steps, size_t n)
{
    struct plan_step *copy = calloc(n + 1, sizeof(*copy));
    if (copy && n > 0)
        memcpy(copy, steps, n * sizeof(*copy));
    return copy;
}

static int remember(struct plan *plan)
{
    plan->made.steps = copy_steps(plan->steps, plan->n_steps);
    if (!plan->made.steps)
        return -ENOMEM;
    plan->made.n_steps = plan->n_steps;
    plan->made.n_notes = plan->n_notes;
    plan->made.bytes_to_write = plan->bytes_to_write;
    return 0;
}

int plan_unjudge(struct plan *plan)
{
    struct plan_step *steps = copy_steps(plan->made.steps, plan->made.n_steps);
    if (!steps)
        return -ENOMEM;
    free(plan->steps);
    plan->steps = steps;
    plan->mibib_kept = false;
    plan->n_steps = plan->made.n_steps;
    plan->bytes_to_write = plan->made.bytes_to_write;
    while (plan->n_notes > plan->made.n_notes)
        free(plan->notes[--plan->n_notes]);
    return 0;
}

int plan_new(const struct package *p, const struct plan_options *options, struct plan **ret, struct error *e)
{
    int r = package_check(p, e);
    if (r < 0)
        return r;
    _cleanup_(plan_freep) struct plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return error_set(e, ERROR_FAILED, "Out of memory");
    plan->geometry = p->geometry;
    plan->geometry.blocks = p->chip_blocks;

    r = match_versions(plan, p, options, e);
    if (r < 0)
        return r;

    _cleanup_(pieces_done) struct pieces pieces = {0};
    r = collect_commands(p, &pieces, e);
    if (r == -ENOMEM)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (r < 0)
        return r;
    add_missing_erases(plan, &pieces);
    r = mark_special(plan, p, &pieces, e);
    if (r < 0)
        return r;
    r = order_steps(plan, p, &pieces, options->reset);
    if (r == 0)
        r = digest_steps(plan);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (plan->bytes_to_write == 0)
        return error_set(e, ERROR_FIRMWARE_INVALID, "The package is invalid: it writes nothing");

    r = plan_check_tables(plan, p, options, NULL, p->chip_blocks, false, e);
    if (r < 0)
        return r;
    plan_note_moves(plan, p, mibib_newest(options->recorded), p->chip_blocks);
    if (plan_set_keep(plan, p, options, NULL, p->chip_blocks) < 0 || remember(plan) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    *ret = steal_ptr(plan);
    return 0;
}
