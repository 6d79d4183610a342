/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a flash of this package would do, from the package alone and what is remembered of the unit: no modem
 * is touched. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/protect.h"
#include "worker/recorded.h"

/* Flash rule 5, range by range: the steps that come before all others. */
static char *print_saves(const struct save *s, const struct plan *plan)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (size_t i = 0; i < s->n_ranges; i++) {
        const struct save_range *range = &s->ranges[i];
        bool own = mibib_is_unit_data(range->name);
        fprintf(out, "ACTION=save\nPARTITION=%s\nFIRST_BLOCK=%llu\nBLOCKS=%llu\nBYTES=%llu\nRISK=%s\n\n",
                range->name, (unsigned long long)range->first_block, (unsigned long long)range->n_blocks,
                (unsigned long long)range->n_blocks * nand_block_size(&plan->geometry),
                own ? "only this unit has it" : "");
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static char *print_all(const struct plan *plan, const struct package *p, const struct recorded *recorded,
                       struct error *e)
{
    struct save save = {0};
    _cleanup_free_ char *saves = NULL;
    int r = protect_preview(plan, p, &recorded->tables, &save, e);
    if (r == 0 && recorded->unreadable)
        r = -ENODATA;
    if (r == 0)
        saves = print_saves(&save, plan);
    save_done(&save);
    if (r < 0 && r != -ENODATA)
        return NULL;
    if (r == 0 && !saves)
        return NULL;
    const char *what = r < 0 ? "chip" : plan->version_proven ? "partitions" : "partitions-or-chip";
    return plan_print(plan, p, what, saves ? saves : "");
}

int job_plan(struct worker *w, struct job_outcome *o)
{
    _cleanup_(package_freep) struct package *p = NULL;
    _cleanup_(plan_freep) struct plan *plan = NULL;
    _cleanup_(recorded_done) struct recorded recorded = {0};
    struct plan_options options = {
        .modem_version = worker_option(w, "modem-version", NULL),
        .known_version = worker_option(w, "known-version", NULL),
        .known_confirmed = worker_option_u64(w, "known-confirmed", 0) == 1,
        .reset = worker_option_u64(w, "reset", 1) == 1,
        .recorded = &recorded.tables,
    };

    if (w->fd_package < 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "A plan needs a package");
    int r = plan_parse_allow(worker_option(w, "allow", ""), &options.allow, &o->error);
    if (r == 0)
        r = recorded_take(w, options.allow & ALLOW_ERASE_CALIBRATION, &recorded, &o->error);
    if (r == 0)
        r = package_open(w->fd_package, NULL, &p, &o->error);
    if (r == 0)
        r = plan_new(p, &options, &plan, &o->error);
    if (r < 0)
        return r;

    _cleanup_free_ char *text = print_all(plan, p, &recorded, &o->error);
    if (!text)
        return o->error.kind ? error_errno(o->error.kind)
                             : error_set(&o->error, ERROR_FAILED, "Out of memory");
    worker_ready(w);
    worker_tell_memfd(w, KEY_PLAN, text, strlen(text));
    return 0;
}
