/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/gate.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/project.h"

#define LLU(n) ((unsigned long long)(n))

/* ---- chip ---- */

/* Names without their decoration: "MDM9607" is "9607". SDX20 was an MDM9x6x first and programmers still say
   so (reference/edl.md 4: "07D0E1 MDM9x60/SDX20"). */
static const char *chip_core(const char *name)
{
    if (strncasecmp(name, "sdx20", strlen("sdx20")) == 0)
        return "9x6x";
    return strncasecmp(name, "mdm", strlen("mdm")) == 0 ? name + strlen("mdm") : name;
}

bool gate_chips_agree(const char *a, const char *b)
{
    if (!*a || !*b)
        return true;
    a = chip_core(a);
    b = chip_core(b);
    for (; *a && *b; a++, b++) {
        int x = tolower((unsigned char)*a), y = tolower((unsigned char)*b);
        bool wildcard = (x == 'x' && isdigit(y)) || (y == 'x' && isdigit(x));
        if (x != y && !wildcard)
            return false;
    }
    return true;
}

int gate_chip(struct flash *f, struct error *e)
{
    const struct sahara_identity unit = session_unit(f->session);
    const char *chip = unit.have_hwid ? sahara_chip_name(unit.hwid) : NULL;
    if (!chip || gate_chips_agree(chip, f->package->chip) || f->options.allow & ALLOW_WRONG_FIRMWARE)
        return 0;
    int r = error_set(e, ERROR_WRONG_FIRMWARE,
                      "the package is for %s, this modem is an %s (hardware id %016llx) "
                      "(--allow=WrongFirmware to try it anyway)",
                      f->package->chip, chip, LLU(unit.hwid));
    error_hint(e, HINT_WRONG_FIRMWARE);
    return r;
}

/* ---- table and map ---- */

int gate_read_table(struct flash *f, struct nand_map *map, struct mibib_table *room,
                    const struct mibib_table **ret, struct error *e)
{
    uint64_t block;
    struct session *s = f->session;
    f->mibib_block = UINT64_MAX;
    int r = mibib_read(s->firehose, &s->geometry, &s->capabilities, map, room, &block, e);
    if (r < 0 && e->kind == ERROR_ERASE_CALIBRATION && f->options.allow & ALLOW_ERASE_CALIBRATION) {
        worker_log(f->worker, "WARN: %s", e->message);
        *e = (struct error){0};
        *ret = NULL;
        return 0;
    }
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT) {
        worker_log(f->worker, "the modem has no partition table");
        *ret = NULL;
        return 0;
    }
    worker_log(f->worker, "the modem's partition table lies in block %llu: %zu partitions, age %u",
               LLU(block), room->n_partitions, room->age);
    _cleanup_free_ char *text = mibib_print(room);
    if (text)
        worker_tell_memfd(f->worker, KEY_TABLE, text, strlen(text));
    *ret = room;
    f->mibib_block = block;
    return 0;
}

static bool has_range(const struct plan_step *s)
{
    return s->action == PLAN_ERASE || s->action == PLAN_WRITE || s->action == PLAN_VERIFY;
}

/*
 * A programmer that cannot show bad blocks may at least tell them (9x07). The list is a hint: it serves to
 * refuse what has no room and to address no bad block with an erase, and nothing is believed erased or good
 * because of it.
 */
static void take_told_list(struct flash *f)
{
    const struct firehose_storage *told = &f->session->storage;
    if (!told->bad_block_list)
        return;
    for (size_t i = 0; i < told->n_bad_blocks; i++)
        nand_map_set(&f->map, told->bad_blocks[i], true);
    worker_log(f->worker, "the programmer cannot show bad blocks; it tells of %zu", told->n_bad_blocks);
}

/* Every block that a step addresses and nobody looked at yet. Ranges beyond the chip are the judgement's to
 * refuse. */
static int read_map(struct flash *f, struct error *e)
{
    struct session *s = f->session;
    if (!s->capabilities.skip_bad_block) {
        take_told_list(f);
        return 0;
    }
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *step = &f->plan->steps[i];
        if (!has_range(step))
            continue;
        uint64_t end = MIN_OF(step->first_block + step->n_blocks, f->map.blocks);
        for (uint64_t b = step->first_block; b < end; b++) {
            if (nand_map_is_known(&f->map, b))
                continue;
            uint64_t n = b + 1 < end && !nand_map_is_known(&f->map, b + 1) ? 2 : 1;
            int r = flash_safe_point(f, e);
            if (r == 0)
                r = nand_read_map(s->firehose, &s->geometry, &s->capabilities, b, n, &f->map, e);
            if (r < 0)
                return r;
            f->looked_at += n;
        }
    }
    return 0;
}

static const struct mibib_partition *unit_data_at(const struct mibib_table *t, uint64_t block)
{
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct mibib_partition *p = &t->partitions[i];
        if (mibib_is_unit_data(p->name) && block >= p->first_block &&
            (p->n_blocks == 0 || block < p->first_block + p->n_blocks))
            return p;
    }
    return NULL;
}

/*
 * Without last_sector a program command walks over bad blocks into whatever follows. Where the bad blocks are
 * known, the judgement has counted them; where nobody tells them, an image that needs every block of its
 * partition may not lie in front of what only this unit has.
 */
static int check_spill(struct flash *f, const struct mibib_table *modem, struct error *e)
{
    const struct session *session = f->session;
    const struct nand_capabilities *can = &session->capabilities;
    const struct mibib_union tables = flash_tables(f, modem);
    if (can->last_sector || can->skip_bad_block || session->storage.bad_block_list ||
        f->options.allow & ALLOW_ERASE_CALIBRATION)
        return 0;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action != PLAN_WRITE ||
            DIV_ROUND_UP(s->pages, f->plan->geometry.pages_per_block) < s->n_blocks)
            continue;
        const struct mibib_partition *next = NULL;
        for (size_t k = 0; !next && k < tables.n; k++)
            next = unit_data_at(tables.table[k], s->first_block + s->n_blocks);
        if (!next)
            continue;
        int r = error_set(e, ERROR_ERASE_CALIBRATION,
                          "%s fills all %llu blocks of %s, and %s follows, which only this unit has: this "
                          "programmer neither tells bad blocks nor knows where a partition ends, so a single "
                          "bad block would push the image into it (--allow=EraseCalibration to do it anyway)",
                          s->file->path, LLU(s->n_blocks), flash_step_name(s), next->name);
        error_hint(e, HINT_CONTACT_VENDOR);
        return r;
    }
    return 0;
}

static int copy_map(struct nand_map *to, const struct nand_map *from)
{
    int r = nand_map_init(to, from->blocks);
    for (uint64_t b = 0; r == 0 && b < from->blocks; b++)
        if (nand_map_is_known(from, b))
            nand_map_set(to, b, nand_map_is_bad(from, b));
    return r;
}

/* ---- whose modem is it? (rules 2 and 3) ---- */

const struct mibib_partition *gate_partition(const struct flash *f, const struct mibib_table *modem,
                                             const char *name)
{
    const struct mibib_union tables = flash_tables(f, modem);
    const struct mibib_partition *found = NULL;
    for (size_t i = 0; !found && i < tables.n; i++)
        found = mibib_find(tables.table[i], name);
    return found;
}

/* 1: RAWDATA names the modem that the package is for; 0: it says nothing. */
static int check_project(struct flash *f, const struct mibib_table *modem, struct error *e)
{
    const struct mibib_partition *rawdata = gate_partition(f, modem, "RAWDATA");
    char name[PROJECT_NAME_SIZE];
    if (!rawdata)
        return 0;
    int r = project_read(f, rawdata, name, e);
    if (r < 0)
        return r;
    f->facts.project_read = true;
    if (r == 0)
        return 0;
    f->facts.project = strdup(name);
    if (!f->facts.project)
        return error_set(e, ERROR_FAILED, "out of memory");
    worker_log(f->worker, "the project name in RAWDATA is %s", name);
    worker_tell(f->worker, KEY_PROJECT, name);
    if (project_agrees(f, name))
        return 1;
    if (f->options.allow & ALLOW_WRONG_FIRMWARE)
        return 0;
    r = error_set(e, ERROR_WRONG_FIRMWARE,
                  "the package is %s, the modem's own data say %s (--allow=WrongFirmware to do it anyway)",
                  f->package->version_known ? f->package->version.name : "without a version", name);
    error_hint(e, HINT_WRONG_FIRMWARE);
    return r;
}

/*
 * Rule 3: to a programmer that does not know it, the vendor tag is an erase of the whole chip. So: only to
 * the programmer of this package, which contains the literal, and which we uploaded ourselves; and only with
 * a project name.
 */
static const char *why_no_vendor_check(const struct flash *f, const struct plan_step *s)
{
    if (!f->package->capabilities.vendor_check || !f->session->capabilities.vendor_check)
        return "not sent: the programmer does not know it";
    if (f->session->programmer_was_running)
        return "not sent: the programmer was running already";
    if (!s->vendor.project_name[0])
        return "not sent: the package names no project";
    return NULL;
}

/* Those that may not be sent at all are no steps of the plan. */
static bool asks_for_vendor_check(const struct package *p)
{
    for (size_t i = 0; i < p->n_commands; i++)
        if (p->commands[i].kind == COMMAND_VENDOR)
            return true;
    return false;
}

/* 1: the modem agreed; 0: it said nothing, or was not asked. */
static int check_vendor(struct flash *f, struct error *e)
{
    int agreed_all = -1;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        bool agreed = false;
        if (s->action != PLAN_CHECK_VENDOR)
            continue;
        const char *why = why_no_vendor_check(f, s);
        if (why) {
            worker_log(f->worker, "vendor check %s", why);
            f->vendor = why;
            return 0;
        }
        worker_phase(f->worker, "vendor-check", s->vendor.project_name);
        int r = firehose_vendor_check(f->session->firehose, &s->vendor, &agreed, e);
        flash_note_errors(f, "the vendor check");
        if (r < 0)
            return r;
        agreed_all = agreed_all != 0 && agreed;
    }
    if (agreed_all < 0) {
        f->vendor = asks_for_vendor_check(f->package)
                        ? "not sent: the programmer does not know it, or the package names no project"
                        : "the package asks for none";
        return 0;
    }
    f->vendor = agreed_all ? "the modem agreed" : "the modem did not object";
    return agreed_all;
}

static int version_unknown(const struct flash *f, struct error *e)
{
    int r = error_set(e, ERROR_VERSION_UNKNOWN,
                      "nothing in the modem says which firmware it is for: give --modem-version= with the "
                      "name on its label or on the vendor's IMEI page (for this package it begins with %s%s)",
                      f->package->version_known ? f->package->version.prefix : "?",
                      f->package->version_known ? f->package->version.baseline : "");
    error_hint(e, HINT_CHECK_LABEL);
    return r;
}

static bool version_is_given(const struct flash *f)
{
    return f->options.modem_version || f->options.allow & ALLOW_WRONG_FIRMWARE;
}

static bool vendor_is_asked(const struct flash *f)
{
    for (size_t i = 0; i < f->plan->n_steps; i++)
        if (f->plan->steps[i].action == PLAN_CHECK_VENDOR)
            return !why_no_vendor_check(f, &f->plan->steps[i]);
    return false;
}

/* *ret_known: a version of the modem's was proven, or it names its project. If not, its programmer may say
 * more. */
static int check_version(struct flash *f, const struct mibib_table *modem, bool *ret_known, struct error *e)
{
    int named = 0;
    if (!f->plan->version_proven) {
        f->quiet = true;
        named = check_project(f, modem, e);
        f->quiet = false;
        if (named < 0)
            return named;
    }
    *ret_known = f->plan->version_proven || named;
    return *ret_known || version_is_given(f) || vendor_is_asked(f) ? 0 : version_unknown(f, e);
}

/* The last question. To a programmer that takes the tag for what it looks like it is an erase. */
static int ask_vendor(struct flash *f, bool version_known, struct error *e)
{
    int agreed = check_vendor(f, e);
    if (agreed < 0)
        return agreed;
    return agreed || version_known || version_is_given(f) ? 0 : version_unknown(f, e);
}

/* ---- all of it ---- */

static int prepare_map(struct flash *f, struct error *e)
{
    const struct nand_geometry *g = &f->session->geometry;
    if (g->blocks == 0)
        return error_set(e, ERROR_GEOMETRY_DIFFERS,
                         "the programmer does not tell the size of the flash, so no range can be checked");
    nand_map_done(&f->at_gate);
    /* What was looked at in an earlier window, before anything was changed, is still so: or the gate would
     * never come to its end. */
    if (f->session->recognized && f->map.blocks == g->blocks && !f->destructive)
        return 0;
    nand_map_done(&f->map);
    f->looked_at = 0;
    return nand_map_init(&f->map, g->blocks) < 0
               ? error_set(e, ERROR_FAILED, "no room for a map of %llu blocks", LLU(g->blocks))
               : 0;
}

/* Another modem may have been here before, whose table took steps out of the plan. */
static int forget_last_gate(struct flash *f, struct error *e)
{
    free(f->steps);
    f->steps = NULL;
    gate_facts_done(&f->facts);
    if (plan_unjudge(f->plan) < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    return 0;
}

static int prepare_steps(struct flash *f, struct error *e)
{
    free(f->steps);
    f->steps = calloc(f->plan->n_steps + 1, sizeof(*f->steps));
    if (!f->steps || copy_map(&f->at_gate, &f->map) < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    return 0;
}

/* Has the flash that we continue begun to write the partition table? */
static bool mibib_begun(const struct flash *f)
{
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        const struct journal_record step = {.action = (uint8_t)s->action,
                                            .first_block = s->first_block,
                                            .n_blocks = s->n_blocks,
                                            .pages = s->pages};
        if (s->mibib && journal_find(&f->journal, &step))
            return true;
    }
    return false;
}

/*
 * Flash rule 5. Nothing is left that could refuse but the modem's own word on the package (rule 3), and the
 * tag that asks for it is not sent before all is safe.
 */
static int save_first(struct flash *f, const struct mibib_table *modem, bool version_known, bool resumed,
                      struct error *e)
{
    f->protect.locked = resumed;
    f->quiet = true;
    int r = protect_flash(f, modem, f->mibib_block, version_known, e);
    f->quiet = false;
    return r;
}

int gate_storage(struct flash *f, bool resumed, struct error *e)
{
    _cleanup_free_ struct mibib_table *room = malloc(sizeof(*room));
    const struct mibib_table *modem = NULL;
    bool version_known = f->plan->version_proven;
    if (!room)
        return error_set(e, ERROR_FAILED, "out of memory");

    worker_phase(f->worker, "gate", NULL);
    int r = forget_last_gate(f, e);
    f->quiet = true;
    f->options.mibib_begun = resumed && mibib_begun(f);
    if (r == 0)
        r = prepare_map(f, e);
    if (r == 0)
        r = gate_read_table(f, &f->map, room, &modem, e);
    if (r == 0)
        r = read_map(f, e);
    if (r == 0)
        r = plan_judge(f->plan, f->package, &f->options, &f->session->geometry, modem, &f->map, e);
    for (size_t i = f->plan->made.n_notes; r == 0 && !resumed && i < f->plan->n_notes; i++)
        worker_log(f->worker, "note: %s", f->plan->notes[i]);
    if (r == 0)
        r = check_spill(f, modem, e);
    f->quiet = false;
    if (r == 0 && f->plan->mibib_kept)
        worker_log(f->worker, "the modem's partition table equals the package's and is left as it is");
    if (r == 0 && !resumed)
        r = check_version(f, modem, &version_known, e);
    if (r == 0)
        r = gate_remember(f, modem, e);
    if (r == 0)
        r = flash_safe_point(f, e);
    if (r == 0 && !(resumed && journal_has_backup(&f->journal)))
        r = save_first(f, modem, version_known, resumed, e);
    if (r == 0 && !resumed)
        r = ask_vendor(f, version_known, e);
    return r < 0 ? r : prepare_steps(f, e);
}
