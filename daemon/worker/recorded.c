/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/recorded.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"

enum { RECORDED_SIZE_MAX = 64 * 1024 }; /* a table's text: 128 partitions of less than 100 bytes */

int recorded_read(const struct worker *w, struct mibib_table *ret)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    if (w->fd_recorded < 0)
        return -ENOENT;
    int r = io_read_file(w->fd_recorded, RECORDED_SIZE_MAX, &text, &size);
    return r < 0 ? r : mibib_scan(text, size, ret);
}

bool recorded_take(struct worker *w, struct mibib_table *ret)
{
    int r = recorded_read(w, ret);
    if (r < 0 && w->fd_recorded >= 0)
        worker_log(w, "WARN: the recorded partition table of this unit cannot be read: %s", strerror(-r));
    return r == 0;
}
