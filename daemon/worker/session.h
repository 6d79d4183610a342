/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One modem in EDL in the hands of a job, over as many appearances as it takes: wait for the device, open it, find out what it speaks, identify
 * it, upload the programmer, configure, look at its storage. In every appearance serial, HWID and PK hash must equal those of the first
 * (WrongUnit, nothing written).
 */

#include "worker/worker.h"

struct session {
    struct worker *worker;
    struct transport *transport;
    struct firehose *firehose;
    unsigned appearances;
    bool identity_known;
    struct sahara_identity identity; /* of the first appearance that told it */
    bool programmer_was_running; /* found in Firehose: uploaded by somebody else; its capabilities are not those of our file */
    struct nand_geometry geometry; /* from getstorageinfo; blocks 0 until session_storage() */
    struct firehose_storage storage;
    struct nand_capabilities capabilities; /* literals of the programmer that we uploaded, minus what it refused */
    uint8_t erased_fill;
    char last_error_log[256];
};

struct session *session_new(struct worker *w);
struct session *session_free(struct session *s);
DEFINE_CLEANUP(struct session *, session_free)

/*
 * Waits for the modem in EDL (WAIT_DEVICE=edl, until `deadline`), opens it and classifies it. *ret_state is what detect_modem() found. With
 * identify, a modem in Sahara is asked who it is and compared. ModemGone, ModemBusy, Timeout, WrongUnit, Cancelled, Interrupted.
 */
int session_attach(struct session *s, usec_t deadline, bool identify, struct detect_result *ret, struct error *e);
/*
 * From whatever session_attach() found to a configured programmer: upload (Sahara) or reuse (Firehose), banner, configure, storage. programmer
 * is kept by the caller for the session's life.
 */
int session_start_programmer(struct session *s, const struct detect_result *found, const void *programmer, size_t size,
                             struct error *e);
/* Drops the transport after -ENODEV (tells DEVICE_LOST=1), keeps what was learned. */
void session_detach(struct session *s);
/* The holder's life: logs drained, claim kept, until RELEASE, STOP, link EOF or the modem goes. */
int session_hold(struct session *s);
