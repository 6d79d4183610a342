/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/report.h"

#include "worker/erase.h"

enum { LIST_SIZE = 2048 };

static void report_partitions(const struct flash *f, const char *key, enum plan_action action)
{
    char list[LIST_SIZE] = "";
    size_t used = 0;
    for (size_t i = 0; i < f->plan->n_steps && used < sizeof(list); i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (s->action == action && f->steps[i].done)
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "",
                                     flash_step_name(s));
    }
    worker_report(f->worker, key, "%s", used ? list : "nothing");
}

static void report_bad_blocks(const struct flash *f)
{
    char list[LIST_SIZE] = "";
    size_t used = 0;
    uint64_t n = 0;
    for (uint64_t b = 0; b < f->map.blocks; b++) {
        if (!nand_map_is_known(&f->map, b) || !nand_map_is_bad(&f->map, b))
            continue;
        n++;
        if (used < sizeof(list) - 1)
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%llu", used ? " " : ": ",
                                     (unsigned long long)b);
    }
    if (f->programmer_up && !f->session->capabilities.skip_bad_block)
        worker_report(f->worker, "bad-blocks", "not known: the programmer cannot show them");
    else
        worker_report(f->worker, "bad-blocks", "%llu, %llu of them new%s", (unsigned long long)n,
                      (unsigned long long)erase_new_bad(f), list);
}

static void report_steps(const struct flash *f)
{
    struct worker *w = f->worker;
    report_partitions(f, "erased", PLAN_ERASE);
    report_partitions(f, "written", PLAN_WRITE);
    report_partitions(f, "verified", PLAN_VERIFY);
    if (f->plan->mibib_kept)
        worker_report(w, "partition-table", "left as it was: the modem had the package's");
    else if (*f->plan->moves)
        worker_report(w, "partition-table", "%s", f->plan->moves);
    report_bad_blocks(f);
    worker_report(w, "bytes", "%llu", (unsigned long long)f->bytes_written);
    worker_report(w, "resumed", "%u", f->resumed);
    worker_report(w, "error-logs", "%u", f->error_logs);
    worker_report(w, "vendor-check", "%s", f->vendor);
    worker_report(w, "sbl-last", "%s", f->plan->sbl_last ? "yes" : f->plan->sbl_note);
}

void report_flash(const struct flash *f)
{
    struct worker *w = f->worker;
    worker_report(w, "backup", "%s",
                  f->protect.result[0] ? f->protect.result
                  : journal_has_backup(&f->journal)
                      ? "taken before the first erase, by the job that this one continues"
                      : "no backup taken");
    if (!f->steps && f->complete)
        worker_report(w, "verified", "everything, by the job that this one continues");
    if (f->steps)
        report_steps(f);
    if (f->complete)
        worker_report(w, "version", "%s (not confirmed)",
                      f->package->version_known ? f->package->version.name
                                                : "of the package, which does not name it");
}
