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

/* It does not say hello by itself: the ladder begins, which takes its time. */
typedef void (*detect_silence)(void *userdata);

/*
 * on_silence may be NULL. fresh: the modem has just enumerated and nobody talked to it. Only then the hello
 * is worth waiting a second for, and a silent modem is asked in Sahara first. Otherwise it is most likely a
 * programmer that is held, and <nop/> is asked first; should it wait in the middle of a program command of a
 * host that was killed, it is given 0xFF until that command ends (the pages so written belong to a step that
 * is not journaled as done).
 *
 * Each rung is bounded; the whole ladder takes about 10 s for a modem that neither says nor takes anything,
 * up to 20 s more for one that is not fresh and swallows whatever it is given. Then: Timeout with the hint
 * power-cycle. SaharaFailed for one that sends nonsense without end. ModemGone (-ENODEV) at once, on any
 * rung: the USB reset may well end so, and the modem comes back as a fresh one. The waker's error (Cancelled,
 * Interrupted) likewise.
 */
int detect_modem(struct transport *t, bool fresh, detect_silence on_silence, void *userdata,
                 struct detect_result *ret, struct error *e);

/* The same for a modem that spoke Sahara a moment ago, lost its way (command mode refused) and is not
 * expected to speak up. */
int detect_return_to_hello(struct transport *t, struct detect_result *ret, struct error *e);
