/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "firmware/plan-inner.h"

static const char *const ACTION_NAMES[] = {
    [PLAN_KEEP] = "keep",   [PLAN_CHECK_VENDOR] = "check", [PLAN_ERASE] = "erase",
    [PLAN_WRITE] = "write", [PLAN_VERIFY] = "verify",      [PLAN_RESET] = "reset",
};

const char *plan_action_name(enum plan_action action)
{
    return (size_t)action < ARRAY_SIZE(ACTION_NAMES) ? ACTION_NAMES[action] : NULL;
}

/* ---- option allow ---- */

int plan_parse_allow(const char *list, unsigned *ret, struct error *e)
{
    static const struct {
        enum error_kind kind;
        unsigned bit;
    } names[] = {
        {ERROR_WRONG_FIRMWARE, ALLOW_WRONG_FIRMWARE},
        {ERROR_WRONG_UNIT, ALLOW_WRONG_UNIT},
        {ERROR_BACKUP_DAMAGED, ALLOW_BACKUP_DAMAGED},
        {ERROR_CALIBRATION_AT_RISK, ALLOW_CALIBRATION_AT_RISK},
        {ERROR_GEOMETRY_DIFFERS, ALLOW_GEOMETRY_DIFFERS},
        {ERROR_ERASE_CALIBRATION, ALLOW_ERASE_CALIBRATION},
        {ERROR_NO_BACKUP, ALLOW_NO_BACKUP},
        {ERROR_LAST_BACKUP, ALLOW_LAST_BACKUP},
    };
    unsigned allow = 0;

    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ","), i = 0;
        while (i < ARRAY_SIZE(names) &&
               (strlen(error_name(names[i].kind)) != n || memcmp(error_name(names[i].kind), p, n) != 0))
            i++;
        if (i == ARRAY_SIZE(names))
            return error_set(e, ERROR_INVALID_ARGS,
                             "allow: \"%.*s\" is not the name of a refusal that can be lifted",
                             (int)MIN_OF(n, (size_t)64), p);
        allow |= names[i].bit;
        p += n;
        if (*p == ',' && *++p == '\0')
            return error_set(e, ERROR_INVALID_ARGS, "allow: the list ends in a comma");
    }
    *ret = allow;
    return 0;
}

/* ---- records ---- */

static void put_u64(FILE *out, const char *key, uint64_t value)
{
    fprintf(out, "%s=%" PRIu64 "\n", key, value);
}

enum { NOTES_MAX = 100 }; /* of a plan; what is behind them would not be read by anybody either */

static int print_summary(FILE *out, const struct plan *plan, const struct package *p, const char *saved)
{
    char geometry[32];
    nand_geometry_name(&plan->geometry, geometry, sizeof(geometry));
    int r = text_put(out, "KIND", "summary");
    if (r == 0)
        r = text_put(out, "FIRMWARE", p->id);
    if (r == 0)
        r = text_put(out, "VERSION", p->version_known ? p->version.name : "");
    if (r == 0)
        r = text_put(out, "GEOMETRY", geometry);
    put_u64(out, "BYTES", plan->bytes_to_write);
    fprintf(out, "SBL_LAST=%d\n", plan->sbl_last);
    if (r == 0)
        r = text_put(out, "BACKUP", saved);
    if (r == 0 && *plan->sbl_note)
        r = text_put(out, "NOTE", plan->sbl_note);
    for (size_t i = 0; r == 0 && i < plan->n_notes; i++)
        r = text_put(out, "NOTE", plan->notes[i]);
    for (size_t i = 0; r == 0 && i < p->n_notes && plan->n_notes + i < NOTES_MAX; i++)
        r = text_put(out, "NOTE", p->notes[i]);
    fputc('\n', out);
    return r;
}

static int print_step(FILE *out, const struct plan *plan, const struct plan_step *s)
{
    uint64_t bytes =
        s->file ? s->pages * plan->geometry.page_size : s->n_blocks * nand_block_size(&plan->geometry);
    int r = text_put(out, "ACTION", plan_action_name(s->action));
    if (r == 0)
        r = text_put(out, "PARTITION",
                     s->action == PLAN_CHECK_VENDOR ? s->vendor.project_name : s->partition);
    put_u64(out, "FIRST_BLOCK", s->first_block);
    put_u64(out, "BLOCKS", s->n_blocks);
    put_u64(out, "PAGES", s->pages);
    put_u64(out, "BYTES", bytes);
    if (r == 0)
        r = text_put(out, "FILE", s->file ? s->file->path : "");
    if (r == 0)
        r = text_put(out, "RISK", s->risk);
    fputc('\n', out);
    return r;
}

char *plan_print(const struct plan *plan, const struct package *p, const char *saved, const char *first)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    int r = print_summary(out, plan, p, saved);
    fputs(first, out);
    for (size_t i = 0; r == 0 && i < plan->n_steps; i++)
        r = print_step(out, plan, &plan->steps[i]);
    if (fclose(out) != 0 || r < 0) {
        free(text);
        return NULL;
    }
    return text;
}
