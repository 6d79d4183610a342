/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Before anything is written: may this calibration go to this modem, and what of it differs there. */

#include <stdarg.h>
#include <string.h>

#include "firmware/plan.h"
#include "firmware/version.h"
#include "worker/putting.h"

/* ---- may it ---- */

static int judge_version(struct putting *p)
{
    struct version ours, theirs;
    const char *from = p->want->version;
    int mine = version_parse(p->id.version, &ours), other = version_parse(from, &theirs);
    if (p->allow & ALLOW_WRONG_FIRMWARE)
        return 0;
    if (mine < 0 || other < 0)
        return error_set(
            p->e, ERROR_WRONG_FIRMWARE,
            "the backup is of a modem that ran \"%s\", this one runs \"%s\": whether both are of one "
            "model cannot be told (--allow=WrongFirmware)",
            from, p->id.version);
    if (strcmp(ours.prefix, theirs.prefix) != 0)
        return error_set(p->e, ERROR_WRONG_FIRMWARE,
                         "the backup is of another model: %s, and this modem runs %s (--allow=WrongFirmware)",
                         from, p->id.version);
    if (strcmp(ours.baseline, theirs.baseline) != 0)
        return error_set(
            p->e, ERROR_WRONG_FIRMWARE,
            "the backup was taken under baseline %s, and this modem runs %s (--allow=WrongFirmware)",
            theirs.baseline, ours.baseline);
    return 0;
}

/* Own unit only; that the IMEI is another one nobody can lift. */
static int judge_unit(struct putting *p)
{
    char imei[DIAG_IMEI_DIGITS + 1] = "";
    bool has = calibration_imei(p->want, imei), bound = worker_option_u64(p->worker, "bound", 0) == 1;
    if (has && *p->id.imei) {
        p->own = strcmp(imei, p->id.imei) == 0;
        if (p->own)
            return 0;
        return error_set(
            p->e, ERROR_WRONG_UNIT,
            "the backup is of another unit: its IMEI is not this modem's. Calibration belongs to one "
            "unit, and qdld changes no IMEI");
    }
    if (has && bound) {
        p->own = true;
        return 0;
    }
    if (has && worker_option_u64(p->worker, "foreign", 0) == 1)
        return error_set(
            p->e, ERROR_WRONG_UNIT,
            "the backup is of another unit: its IMEI is not the one that this modem had before it lost "
            "its calibration, and another's is not its own");
    if (p->allow & ALLOW_WRONG_UNIT)
        return 0;
    if (!has)
        return error_set(
            p->e, ERROR_WRONG_UNIT,
            "the backup holds no IMEI: whose calibration it is cannot be told (--allow=WrongUnit)");
    return error_set(p->e, ERROR_WRONG_UNIT,
                     "this modem has no IMEI left, and nothing says for certain that the backup is its own. "
                     "If it was in 9008 here before, its chip serial tells: qdlctl enter-edl, qdlctl reset, "
                     "and this again (or --allow=WrongUnit; the IMEI is not written then)");
}

int putting_judge(struct putting *p)
{
    int r = judge_unit(p);
    return r < 0 ? r : judge_version(p);
}

/* ---- what is to be written ---- */

void putting_refuse(struct putting *p, size_t i, const char *format, ...)
{
    char what[CALIBRATION_PATH_MAX + 64], line[sizeof(what) + 32];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    p->refused[i] = true;
    snprintf(line, sizeof(line), "not restored: %s", what);
    worker_problem(p->worker, line);
}

bool putting_is_left_alone(const struct putting *p, const struct calibration_nv *n)
{
    /* Also that of the second SIM: where there is one it stays, whatever the backup says. */
    bool has = calibration_find_nv(p->now, n->item, n->context);
    return n->item == DIAG_NV_SPC_TTL || (n->item == DIAG_NV_IMEI && (has || !p->own));
}

static void compare_item(struct putting *p, size_t i)
{
    const struct calibration_nv *n = &p->want->nv[i], *now = calibration_find_nv(p->now, n->item, n->context);
    if (now && memcmp(now->data, n->data, sizeof(n->data)) == 0) {
        p->right++;
    } else if (putting_is_left_alone(p, n)) {
        p->not_here++;
        putting_refuse(p, i, "NV item %u of SIM %u: qdld does not write it", n->item, n->context + 1u);
    } else {
        p->differs[i] = true;
        p->n_differ++;
    }
}

static int compare_file(struct putting *p, size_t i)
{
    const struct calibration_file *f = &p->want->files[i], *now = calibration_find_file(p->now, f->path);
    _cleanup_free_ uint8_t *want = NULL, *have = NULL;
    bool same = now && now->size == f->size;
    int r = same ? calibration_load(p->want, f, &want, p->e) : 0;
    if (r == 0 && same)
        r = calibration_load(p->now, now, &have, p->e);
    if (r < 0)
        return r;
    if (same && (f->size == 0 || memcmp(want, have, (size_t)f->size) == 0)) {
        p->right++;
        return 0;
    }
    if (calibration_is_item_store(f->path)) {
        p->refused[p->want->n_nv + i] = true;
        p->not_here++;
        p->n_stored++;
        return 0;
    }
    p->differs[p->want->n_nv + i] = true;
    p->n_differ++;
    return 0;
}

/* One line for all of them: there may be thousands, and their items are told by number. */
static void tell_stored(const struct putting *p)
{
    char line[160];
    if (p->n_stored == 0)
        return;
    snprintf(line, sizeof(line),
             "not restored: %zu file%s below /nvm, where the firmware keeps the numbered items: those are "
             "written by their numbers",
             p->n_stored, p->n_stored == 1 ? "" : "s");
    worker_problem(p->worker, line);
}

int putting_compare_all(struct putting *p)
{
    size_t n = p->want->n_nv + p->want->n_files + 1;
    int r = 0;
    p->differs = calloc(n, sizeof(*p->differs));
    p->refused = calloc(n, sizeof(*p->refused));
    if (!p->differs || !p->refused)
        return error_set(p->e, ERROR_FAILED, "no memory for the calibration");
    for (size_t i = 0; i < p->want->n_nv; i++)
        compare_item(p, i);
    for (size_t i = 0; i < p->want->n_files && r == 0; i++)
        r = compare_file(p, i);
    if (r == 0)
        tell_stored(p);
    return r;
}
