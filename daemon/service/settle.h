/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Files that have to be on disk before something is said that rests on them: fsync in a child of its own,
 * since it may take seconds and the loop never waits. A store file is linked first and settled then: its
 * descriptor and its directory's.
 */

#include <stddef.h>
#include <systemd/sd-event.h>

struct settle;

enum { SETTLE_FDS_MAX = 4 };

/* error: 0 or a negative errno, -ECANCELED if nobody knows. Called once; the settle is freed behind it. */
typedef void (*settle_handler)(void *userdata, int error);

/* Syncs the descriptors in this order; they stay the caller's and may be closed at once. SIGCHLD must be
 * blocked (sd_event_add_child). -errno. */
int settle_start(sd_event *event, const int *fds, size_t n_fds, settle_handler handler, void *userdata,
                 struct settle **ret);
/* The handler is not called any more; what is written stays written. */
struct settle *settle_free(struct settle *s);
