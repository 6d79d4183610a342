/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One worker process and its link. It is started from the binary that was opened when the service started (an
 * upgrade under a running service mixes nothing) with nothing but stdin (/dev/null), stdout and stderr (a
 * pipe to the journal, service/mouth.h) and the link at LINK_WORKER_FD, a clean environment and a session of
 * its own (Ctrl-C at a terminal is for the service).
 *
 * Life: process_start() -> message() any number of times -> gone() exactly once, after the process was reaped
 * and every datagram that it sent was read. process_free() belongs into gone(), or anywhere outside of a
 * callback of this process (it kills).
 *
 * A process that sits in a system call which no signal ends (a read of a file whose owner does not answer, a
 * dying USB device) cannot be killed. PROCESS_KILL_USEC after the SIGKILL it is left behind: gone() is called
 * as if it had died, it never runs a line of its own again, and until the kernel lets it die it counts as a
 * ghost of its owner.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "base/clock.h"
#include "base/error.h"
#include "link/keys.h"
#include "link/link.h"

struct process;

struct process_end {
    bool clean;         /* exit status 0, and no rule of the link was broken */
    const char *broken; /* how it broke the link, NULL if it did not: "it is of another build" */
    bool left;          /* it was killed and does not die; code and status mean nothing */
    int code, status;   /* as in siginfo: CLD_EXITED and the status, CLD_KILLED and the signal */
};

struct process_handler {
    /* Everything but the first key, BUILD=, which is checked here. */
    void (*message)(void *userdata, struct link_message *m);
    void (*gone)(void *userdata, const struct process_end *end);
    void *userdata;
};

enum {
    PROCESS_TERM_USEC = 3 * 1000000, /* from SIGTERM to SIGKILL */
    PROCESS_KILL_USEC = 3 * 1000000, /* from SIGKILL to being left behind */
};

/* Opens a worker binary to run; its number is above every descriptor that a worker gets. -errno. */
int process_open_binary(const char *path);

/* SIGCHLD must be blocked (sd_event_add_child). -errno. */
int process_start(sd_event *event, int binary, const struct process_handler *handler, struct process **ret);
/* For whom it works: whose ghost it may become. Nobody's (UID -1) at first. */
void process_set_owner(struct process *p, uid_t owner);
/* The process goes on under another handler. */
void process_set_handler(struct process *p, const struct process_handler *handler);
/* Sends; a link that is closed or full is no error here: the end of the process tells. Empties m. */
void process_send(struct process *p, struct link_message *m);
/* The same for one flag: KEY=1. */
void process_tell(struct process *p, const char *key);

/* SIGTERM now, SIGKILL after PROCESS_TERM_USEC. */
void process_stop(struct process *p);
/* SIGKILL now; what it still says is not listened to, `why` (static text) is told as end.broken (NULL: none).
 */
void process_kill(struct process *p, const char *why);
struct process *process_free(struct process *p);

/* Those that were killed and are not dead yet, of one owner or (NULL) of all. */
unsigned process_count_ghosts(const uid_t *owner);
