/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/recorded.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"

static int read_all(const struct worker *w, struct mibib_tables *ret)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    int r = io_read_file(w->fd_recorded, RECORDED_SIZE_MAX, &text, &size);
    return r < 0 ? r : mibib_scan_several(text, size, ret);
}

int recorded_take(struct worker *w, bool allowed, struct recorded *ret, struct error *e)
{
    *ret = (struct recorded){0};
    int r = w->fd_recorded < 0 ? 0 : read_all(w, &ret->tables);
    if (r == 0)
        return 0;
    ret->unreadable = true;
    if (!allowed)
        return error_set(e, ERROR_ERASE_CALIBRATION,
                         "the partition tables recorded for this unit cannot be read (%s): nobody can tell "
                         "where its calibration lies (a backup saves all of it and records them anew; "
                         "--allow=EraseCalibration to go on without them)",
                         strerror(-r));
    worker_log(w, "WARN: the partition tables recorded for this unit cannot be read (%s); going on without",
               strerror(-r));
    return 0;
}

void recorded_done(struct recorded *r)
{
    mibib_tables_done(&r->tables);
}
