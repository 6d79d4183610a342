/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A second look: what one worker wrote is read by another one that never saw where it came from, before
 * anybody relies on it. The first may have been taken over by a modem or an archive; the second gets the file
 * read only and nothing else (JOB=verify), and what it tells of it is what the service believes.
 *
 * It is no job of its own: it belongs to the one that made the file.
 */

#include "service/manager.h"
#include "service/record.h"

struct second;

/*
 * facts: what it told under the prefix of its type, without that prefix (BACKUP.id is "id"); NULL if it found
 * the file broken or could not read it, error says why then. Called once, from the event loop; the second is
 * freed behind it.
 */
typedef void (*second_handler)(void *userdata, const struct record *facts, const struct error *error);

struct second_order {
    const char *type;   /* OPTION.type: "backup", "content" */
    const char *prefix; /* of the facts: KEY_BACKUP_FACT, KEY_FIRMWARE */
    const char *id;     /* OPTION.id, what it should be; NULL: whatever it is */
    int fd;             /* taken: open for reading only */
};

enum { SECOND_SILENCE_USEC = 60 * 1000000 }; /* it reads a file and tells its progress; longer is a hang */

/* *ret stays the caller's until the handler is called, which may free nothing of it. */
int second_start(struct manager *m, const struct second_order *order, second_handler handler, void *userdata,
                 struct second **ret, struct error *e);
/* Ends it; the handler is called with this reason, once it is gone. */
void second_stop(struct second *s, const struct error *why);
/* Drops it; the handler is not called any more. */
struct second *second_free(struct second *s);

/*
 * The same for a file that a worker has just filled, *fd: it is reopened (second_reopen) and stays open in
 * *fd for reading, order->fd is made from it. kind: the job's, for the text of an error.
 */
int second_start_over(struct manager *m, int *fd, const char *kind, struct second_order *order,
                      second_handler handler, void *userdata, struct second **ret, struct error *e);

/*
 * A descriptor of the same file that can only read (reopened, so that it shares nothing with `fd`), and the
 * proof that nobody can write to it any more: -ETXTBSY if a descriptor that writes is left anywhere. `fd` is
 * closed in any case.
 */
int second_reopen(int fd, int *ret);
