/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A modem that runs its firmware, over its DIAG interface: who it is, what firmware it runs, and the way to
 * 9008. Each use is one short exchange; the interface and its kernel driver are given back behind it.
 */

#include "backup/backup.h"
#include "protocol/diag.h"
#include "worker/worker.h"

struct running {
    struct worker *worker;
    struct transport *transport;
    struct diag *diag;
    bool given; /* by the last running_attach(): it was there, whether it spoke or not */
};

/* What it told of itself; "" and false for what it did not. */
struct running_identity {
    char version[128], model[64];
    uint32_t model_id;
    char imei[DIAG_IMEI_DIGITS + 1];
    bool oper_mode_known;
    uint32_t oper_mode;
    bool factory_test; /* by its operating mode */
};

/* Asks for the modem in normal mode (WAIT_DEVICE=diag), waits, opens it. Errors as diag_open(), Timeout. */
int running_attach(struct running *r, usec_t deadline, struct error *e);
/* The same with a crash dump, of which nothing can be asked but running_enter_edl(). */
int running_attach_crashed(struct running *r, usec_t deadline, struct error *e);
/* Gives the interface back. Does nothing twice. */
void running_detach(struct running *r);

/*
 * Version, model, IMEI, operating mode; what was told goes to the service, the IMEI masked and as an HMAC
 * with the option "imei-key" only. DiagFailed if it does not even tell its version.
 */
int running_identify(struct running *r, struct running_identity *ret, struct error *e);
/* HMAC-SHA256 of an IMEI with the option "imei-key", as hex; -EINVAL without a key or an IMEI. */
int running_imei_hash(const struct worker *w, const char *imei, char ret[SHA256_HEX_SIZE]);
/* First two and last two digits, the rest starred. */
void running_mask_imei(const char *imei, char ret[DIAG_IMEI_DIGITS + 1]);

/*
 * True if the job's modem ran its firmware when the job was ordered (option came-from-normal): it is brought
 * to 9008 first.
 */
bool running_comes_first(const struct worker *w);
/*
 * What this unit ran last: its own word, if it was asked in running_take(), else what the service remembers
 * (options known-version, known-confirmed); "" if nobody knows. *ret_confirmed: it is of this very unit.
 */
const char *running_known_version(const struct worker *w, bool *ret_confirmed);
/*
 * What is known against the calibration in the flash of this unit: by its own word, if it was asked in
 * running_take(), else what the service remembers (options calibration-flaw, calibration-flaw-of).
 */
enum backup_flaw running_known_flaw(const struct worker *w, const struct sahara_identity *unit);
/*
 * All of it: attach, identify, what `visit` (may be NULL) wants of it while it runs, and on to 9008. With an
 * error before it left it is where it was.
 */
typedef int (*running_visit)(void *userdata, struct running *r, const struct running_identity *id,
                             struct error *e);
int running_take(struct worker *w, running_visit visit, void *userdata, struct error *e);

/*
 * Tells it to restart in 9008 and waits until it has left the bus, or 20 s: Timeout, and it is where it was.
 * It is detached in any case.
 */
int running_enter_edl(struct running *r, struct error *e);
/*
 * DIAG_MODE_RESET or DIAG_MODE_POWER_OFF (diag.md 2.3), and waits until it has left the bus, or 20 s:
 * Timeout. It is detached in any case; what it comes back as is the caller's to wait for.
 */
int running_restart(struct running *r, enum diag_mode mode, struct error *e);
