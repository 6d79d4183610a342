/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/detect.h"

#include <errno.h>
#include <inttypes.h>

#include "base/text.h"
#include "protocol/detect-ladder.h"
#include "protocol/sahara-packet.h"

/* A HELLO comes with the first IN token, which was sent at opening. A fresh PBL may need a moment to be ready
 * (1.5). */
#define LISTEN_FRESH (1 * USEC_PER_SEC)
/* Where somebody has talked before, HELLO is gone or comes at once (quirk 41: nobody may have posted an IN
 * transfer yet). */
#define LISTEN_KNOWN (50 * USEC_PER_MSEC)
/* RESET_RESP and HELLO come within milliseconds; a chip that restarts goes away within a second. */
#define LISTEN_RESET (1 * USEC_PER_SEC)
/* For commands that a PBL either knows or refuses at once. */
#define LISTEN_COMMAND (500 * USEC_PER_MSEC)
/* A programmer answers <nop/> in milliseconds, 75 on SDX24 (3.6), unless it still erases for a host that is
 * gone. */
#define LISTEN_NOP       (1 * USEC_PER_SEC)
#define LISTEN_NOP_KNOWN (3 * USEC_PER_SEC)
#define FEED_TIMEOUT     (20 * USEC_PER_SEC)
/* The final ACK follows the last byte by 1 ms (reference/samples.md): look for it before the next piece is
 * given. */
#define FEED_PACE (2 * USEC_PER_MSEC)
/* A modem that keeps us busy without ever coming back: pouring, feeding and one slow erase fit in. */
#define LADDER_TIMEOUT (60 * USEC_PER_SEC)

enum {
    FEED_FIRST = 4096,           /* what a PBL asks for at most in normal life */
    FEED_MAX = 96 * 1024 * 1024, /* the largest partition of a NAND package */
};

static int rung_reset(struct ladder *l)
{
    return ladder_send(l, SAHARA_RESET, NULL, 0);
}

static int rung_state_machine(struct ladder *l)
{
    return ladder_send(l, SAHARA_RESET_STATE_MACHINE, NULL, 0);
}

/* The answer to a HELLO that somebody else has read. Command mode, because it can be left for a new HELLO; an
 * upload cannot. */
static int rung_hello_resp(struct ladder *l)
{
    static const struct sahara_hello lost = {.version = 2, .compatible = 1};
    int r = sahara_send_hello_resp(l->t, &lost, SAHARA_MODE_COMMAND);
    if (ladder_is_passing(r))
        l->blocked = true;
    return r;
}

static int rung_nop(struct ladder *l)
{
    return ladder_send_nop(l);
}

/*
 * It takes what we write and says nothing: somewhere raw data are awaited, by a PBL (READ_DATA was read by a
 * host that is gone) or by a programmer. Give them until it speaks. A programmer can only be there if the
 * modem is not fresh; the command that ends this way belonged to a job that was cut off and is repeated.
 */
static int rung_feed(struct ladder *l)
{
    uint64_t most = l->may_be_programmer ? FEED_MAX : FEED_FIRST;
    usec_t end = MIN_OF(deadline_in(FEED_TIMEOUT), l->end);
    const unsigned heard = l->packets + l->transfers;
    for (uint64_t fed = 0; fed < most && now_usec() < end;) {
        bool first = fed == 0;
        usec_t pace = deadline_in(first ? DETECT_STUCK_TIMEOUT : FEED_PACE);
        uint64_t n = first ? FEED_FIRST : DETECT_FEED_PIECE;
        int r = ladder_feed(l, n);
        if (r < 0)
            return r;
        fed += n;
        /* The first piece is what a PBL needs; give it time to think. */
        r = ladder_listen(l, pace);
        if (r != NOTHING || l->packets + l->transfers != heard || l->blocked)
            return r;
    }
    return NOTHING;
}

static int rung_clear_halt(struct ladder *l)
{
    int r = transport_clear_halt(l->t);
    return r < 0 || l->programmer ? r : rung_reset(l);
}

/* The last resort. A modem that enumerates anew because of it is gone from here (-ENODEV) and comes back as a
 * fresh one. */
static int rung_usb_reset(struct ladder *l)
{
    return transport_reset(l->t);
}

struct rung {
    int (*climb)(struct ladder *l);
    usec_t listen;
    bool sahara; /* only for a modem that is not known to run a programmer */
};

/* Nobody spoke to it: a silent one is a PBL whose HELLO was lost, so Sahara first. */
static const struct rung fresh_rungs[] = {
    {rung_reset, LISTEN_RESET, true},        {rung_state_machine, LISTEN_COMMAND, true},
    {rung_hello_resp, LISTEN_COMMAND, true}, {rung_nop, LISTEN_NOP, false},
    {rung_feed, LISTEN_COMMAND, false},      {rung_clear_halt, LISTEN_RESET, false},
    {rung_nop, LISTEN_COMMAND, false},       {rung_usb_reset, LISTEN_FRESH, false},
    {rung_nop, LISTEN_COMMAND, false},
};

/*
 * Somebody did: mostly a programmer that is held, so <nop/> first. To a PBL that is a packet it does not
 * understand, and it says so (quirk 39); but some programmers hang after they had to refuse something (2.1).
 */
static const struct rung known_rungs[] = {
    {rung_nop, LISTEN_NOP_KNOWN, false},        {rung_reset, LISTEN_RESET, true},
    {rung_state_machine, LISTEN_COMMAND, true}, {rung_hello_resp, LISTEN_COMMAND, true},
    {rung_feed, LISTEN_COMMAND, false},         {rung_clear_halt, LISTEN_RESET, false},
    {rung_nop, LISTEN_COMMAND, false},          {rung_usb_reset, LISTEN_FRESH, false},
    {rung_nop, LISTEN_COMMAND, false},
};

/*
 * It spoke Sahara a moment ago. The soft way first: RESET may restart the chip (1.1), and a modem that did so
 * each time it is asked who it is would never be done. One that does not know the command says END_IMAGE_TX
 * at once, and gets its RESET.
 */
static const struct rung sahara_rungs[] = {
    {rung_state_machine, LISTEN_COMMAND, true}, {rung_reset, LISTEN_RESET, true},
    {rung_hello_resp, LISTEN_COMMAND, true},    {rung_nop, LISTEN_NOP, false},
    {rung_feed, LISTEN_COMMAND, false},         {rung_clear_halt, LISTEN_RESET, false},
    {rung_nop, LISTEN_COMMAND, false},          {rung_usb_reset, LISTEN_FRESH, false},
    {rung_nop, LISTEN_COMMAND, false},
};

enum { RUNGS = ARRAY_SIZE(fresh_rungs) };
_Static_assert(ARRAY_SIZE(known_rungs) == RUNGS && ARRAY_SIZE(sahara_rungs) == RUNGS, "one number of rungs");

static int climb(struct ladder *l, const struct rung *rung)
{
    if (l->blocked) {
        /* What the modem did not take must not come upon it later. */
        l->blocked = false;
        int r = transport_clear_halt(l->t);
        if (r < 0 && !ladder_is_passing(r))
            return r;
    }
    int r = rung->climb(l);
    if (r == FOUND || (r < 0 && !ladder_is_passing(r)))
        return r;
    return ladder_listen(l, deadline_in(l->blocked ? 0 : rung->listen));
}

static int no_answer(const struct ladder *l)
{
    int r;
    if (l->programmer)
        r = error_set(l->e, ERROR_TIMEOUT, "a programmer runs on the modem but does not answer <nop/>");
    else if (l->packets > 0)
        r = error_set(l->e, ERROR_TIMEOUT,
                      "the modem speaks Sahara (%u packets) but could not be brought back to its HELLO",
                      l->packets);
    else if (l->n_seen > 0) {
        char hex[2 * sizeof(l->seen) + 1];
        text_hex(l->seen, l->n_seen, hex);
        r = error_set(l->e, ERROR_TIMEOUT,
                      "the modem sent %" PRIu64
                      " bytes that are neither Sahara nor Firehose (%s), and then nothing",
                      l->poured, hex);
    } else
        r = error_set(
            l->e, ERROR_TIMEOUT,
            "the modem says nothing: no HELLO, no answer to RESET, to <nop/> or to a reset of its port");
    error_hint(l->e, HINT_POWER_CYCLE);
    return r;
}

static int go(struct transport *t, const struct rung *rungs, bool may_be_programmer, usec_t listen,
              detect_silence on_silence, void *userdata, struct detect_result *ret, struct error *e)
{
    struct ladder l = {
        .t = t, .e = e, .end = deadline_in(LADDER_TIMEOUT), .may_be_programmer = may_be_programmer};
    int r = ladder_listen(&l, deadline_in(listen));
    if (r == NOTHING && on_silence)
        on_silence(userdata);
    for (size_t i = 0; r == NOTHING && i < RUNGS; i++) {
        if (rungs[i].sahara && l.programmer)
            continue;
        l.result.rungs++;
        r = climb(&l, &rungs[i]);
    }
    if (r == NOTHING)
        return no_answer(&l);
    /* -EPROTO is no error of a transport: it came with its text. */
    if (r < 0)
        return r == -EPROTO ? r : sahara_io_error(r, "finding out what it speaks", e);
    *ret = l.result;
    return 0;
}

int detect_modem(struct transport *t, bool fresh, detect_silence on_silence, void *userdata,
                 struct detect_result *ret, struct error *e)
{
    return go(t, fresh ? fresh_rungs : known_rungs, !fresh, fresh ? LISTEN_FRESH : LISTEN_KNOWN, on_silence,
              userdata, ret, e);
}

int detect_return_to_hello(struct transport *t, struct detect_result *ret, struct error *e)
{
    return go(t, sahara_rungs, false, 0, NULL, NULL, ret, e);
}
