/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a flash of this package would do, from the package alone and what is remembered of the unit: no modem
 * is touched. */

#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "firmware/plan.h"
#include "worker/worker.h"

enum { RECORDED_MAX = 64 * 1024 }; /* a table's text: 128 partitions of less than 100 bytes */

/* The partition table that was recorded for this unit; an unreadable one is no reason to go without its
 * protection. */
static int read_recorded(const struct worker *w, struct mibib_table *ret, struct error *e)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    int r = io_read_file(w->fd_recorded, RECORDED_MAX, &text, &size);
    if (r == 0)
        r = mibib_scan(text, size, ret);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The partition table recorded for this modem cannot be read: %s",
                         strerror(-r));
    return 0;
}

int job_plan(struct worker *w, struct job_outcome *o)
{
    _cleanup_(package_freep) struct package *p = NULL;
    _cleanup_(plan_freep) struct plan *plan = NULL;
    struct mibib_table recorded;
    struct plan_options options = {
        .modem_version = worker_option(w, "modem-version", NULL),
        .known_version = worker_option(w, "known-version", NULL),
        .known_confirmed = worker_option_u64(w, "known-confirmed", 0) == 1,
        .reset = worker_option_u64(w, "reset", 1) == 1,
    };

    if (w->fd_package < 0)
        return error_set(&o->error, ERROR_INVALID_ARGS, "A plan needs a package");
    int r = plan_parse_allow(worker_option(w, "allow", ""), &options.allow, &o->error);
    if (r == 0 && w->fd_recorded >= 0) {
        r = read_recorded(w, &recorded, &o->error);
        options.recorded = &recorded;
    }
    if (r == 0)
        r = package_open(w->fd_package, NULL, &p, &o->error);
    if (r == 0)
        r = plan_new(p, &options, &plan, &o->error);
    if (r < 0)
        return r;

    _cleanup_free_ char *text = plan_print(plan, p);
    if (!text)
        return error_set(&o->error, ERROR_FAILED, "Out of memory");
    worker_ready(w);
    worker_tell_memfd(w, KEY_PLAN, text, strlen(text));
    return 0;
}
