/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Modem.Inhibit: somebody wants a modem for another tool. A guard keeps jobs, catches and rescues off it for
 * as long as the caller has the descriptor that it was given: the write end of a pipe, whose other end is
 * here.
 *
 *     Inhibit --> waiting (a holder lets go) --> held (the answer, with the descriptor) --> gone (pipe
 * closed)
 *
 * A restart of the service must not start a rescue in the middle of another tool's flash: systemd keeps our
 * end (the fd store; it drops it by itself when the pipe is closed), the runtime directory keeps a record
 * beside it, and guards are restored before the first modem is looked for.
 */

#include "service/manager.h"

enum { GUARDS_PER_UID = 16, GUARD_REASON_MAX = 256 };

struct guard;

/* Inhibit(s reason, a{sv}) -> h of org.qdld1.Modem; userdata is the modem. */
int guard_method_inhibit(sd_bus_message *message, void *userdata, sd_bus_error *error);
/* A holder of this modem has let go: whoever waited for that is answered. */
void guard_serve(struct modem *m);
/* ModemInhibited in *error if somebody has the modem. */
int guard_check(const struct modem *m, sd_bus_error *error);
/* Those of the run before: what systemd kept ($LISTEN_FDS) and has a record. To be called before modems are
 * watched. */
int guard_restore(struct manager *m);
/* Lets go of all without telling anybody: the service ends, systemd keeps what it has. */
void guard_free_all(struct manager *m);
