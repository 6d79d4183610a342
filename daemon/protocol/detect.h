/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What does this modem speak? Classified by its first bytes, never by its USB ids, with the whole recovery
 * ladder of reference/edl.md 1.5: hello there, hello lost, hello twice, left-over RESET_RESP, stuck in the
 * middle of a transfer, programmer already running, crash dump, streaming download.
 */

#include "protocol/sahara.h"

enum detect_state {
    DETECT_SAHARA,     /* a HELLO is in hand and unanswered: *hello */
    DETECT_FIREHOSE,   /* a programmer answers; its input is drained */
    DETECT_CRASH_DUMP, /* a HELLO with mode 2 (memory debug) is in hand */
    DETECT_STREAMING,  /* 0x7e: HDLC, a streaming-download programmer or DIAG */
};

struct detect_result {
    enum detect_state state;
    struct sahara_hello hello;
    unsigned
        rungs; /* how many rungs of the ladder it took; 0: it said hello by itself. For the log and tests. */
};

/*
 * fresh: the modem has just enumerated and nobody talked to it: only then is waiting for the hello worth the
 * first second. Each rung is bounded; the whole ladder takes at most about 10 s for a modem that says nothing
 * at all. Then: Timeout with the hint power-cycle.
 */
int detect_modem(struct transport *t, bool fresh, struct detect_result *ret, struct error *e);
