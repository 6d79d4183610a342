/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a flash of this package would do, from the package alone and what is remembered of the unit: no modem
 * is touched. */

#include <errno.h>
#include <string.h>

#include "firmware/plan.h"
#include "worker/recorded.h"

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
        /* An unreadable one is no reason to go without its protection. */
        r = recorded_read(w, &recorded);
        if (r < 0)
            r = error_set(&o->error, ERROR_FAILED,
                          "The partition table recorded for this modem cannot be read: %s", strerror(-r));
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
