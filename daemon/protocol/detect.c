/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/detect.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
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
/* Once we know that it is a programmer: as long as its slowest erase of a partition (2.12, 4 s seen) and
 * more. */
#define PROGRAMMER_TIMEOUT (10 * USEC_PER_SEC)
/* Logs behind a response (quirk 3), and the response to a host before us, come within this. */
#define PROGRAMMER_QUIET     (50 * USEC_PER_MSEC)
#define PROGRAMMER_QUIET_MAX (2 * USEC_PER_SEC)
/* Between two transfers of data that nobody of us asked for. */
#define POUR_GAP (300 * USEC_PER_MSEC)
/* The rest of a NAND partition at 5 to 10 MB/s (section 7). */
#define POUR_TIMEOUT (30 * USEC_PER_SEC)
/* After RESET into a transfer: a PBL that takes short data as an error says so at once. */
#define STUCK_TIMEOUT (300 * USEC_PER_MSEC)
/* One payload of NAND (2 ms, section 7) plus a log; who takes longer takes nothing. */
#define FEED_WRITE_TIMEOUT (1 * USEC_PER_SEC)
#define FEED_TIMEOUT       (20 * USEC_PER_SEC)
/* The final ACK follows the last byte by 1 ms (reference/samples.md): look for it before the next piece is
 * given. */
#define FEED_PACE          (2 * USEC_PER_MSEC)
#define RUNG_WRITE_TIMEOUT (500 * USEC_PER_MSEC)

enum {
    TRANSFER_SHOWN = 4096,     /* bytes of a foreign transfer that are looked at at once */
    STREAMING_FRAME_MAX = 511, /* raw data of a programmer come in whole packets, an HDLC frame does not */
    HDLC_FLAG = 0x7e,
    FIREHOSE_OPENING_MIN = 4, /* "<?xm" */
    PACKETS_MAX = 4096,       /* of Sahara: all of a programmer that is asked for once more */
    TRANSFERS_MAX = 65536,    /* that are empty or tiny */
    POUR_MAX = 256 * 1024 * 1024,
    STUCK_MAX = 1024 * 1024, /* as long as any READ_DATA may be */
    RESETS_MAX = 8,
    FEED_FIRST = 4096,           /* what a PBL asks for at most in normal life */
    FEED_PIECE = 8192,           /* payload of every NAND programmer (2.3) */
    FEED_MAX = 96 * 1024 * 1024, /* the largest partition of a NAND package */
    FEED_BYTE = 0xff,            /* erased flash, should it end there */
};

enum heard { NOTHING, FOUND };

struct ladder {
    struct transport *t;
    struct error *e;
    bool may_be_programmer; /* somebody has talked to it */
    struct detect_result result;
    unsigned packets, transfers, resets;
    uint64_t poured;
    usec_t pour_end; /* 0: no foreign data yet */
    uint64_t owed;   /* bytes that a READ_DATA still waits for */
    bool swallows;   /* RESET is taken as data there */
    bool programmer; /* it spoke Firehose: Sahara packets would be raw data to it */
    bool nop_sent;   /* and not answered yet */
    bool blocked;    /* an OUT transfer was not taken, or an endpoint is stalled */
    bool no_state_machine;
    size_t n_seen; /* what foreign bytes looked like at last, for the error */
    uint8_t seen[16];
};

static const char nop_document[] = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<nop />\n</data>\n";

/* What a modem may do without us having to give up: the next rung deals with it. */
static bool is_passing(int r)
{
    return r == -ETIMEDOUT || r == -EPIPE || r == -EIO;
}

static int write_bytes(struct ladder *l, const void *data, size_t size, usec_t timeout)
{
    int r = transport_write(l->t, data, size, 0, deadline_in(timeout));
    if (is_passing(r))
        l->blocked = true;
    return r;
}

static int send_command(struct ladder *l, enum sahara_command command, const uint32_t *words, size_t n_words)
{
    int r = sahara_send(l->t, command, words, n_words, deadline_in(RUNG_WRITE_TIMEOUT));
    if (is_passing(r))
        l->blocked = true;
    return r;
}

static int send_nop(struct ladder *l)
{
    l->nop_sent = true;
    return write_bytes(l, nop_document, sizeof(nop_document) - 1, RUNG_WRITE_TIMEOUT);
}

static int feed(struct ladder *l, uint64_t size)
{
    uint8_t piece[FEED_PIECE];
    memset(piece, FEED_BYTE, sizeof(piece));
    for (uint64_t done = 0; done < size;) {
        size_t n = (size_t)MIN_OF(size - done, (uint64_t)sizeof(piece));
        int r = write_bytes(l, piece, n, FEED_WRITE_TIMEOUT);
        if (r < 0)
            return r;
        done += n;
    }
    return 0;
}

/* ---- Firehose ---- */

/* Reads what the programmer says until it is quiet. */
static int drain_programmer(struct ladder *l)
{
    usec_t end = deadline_in(PROGRAMMER_QUIET_MAX);
    int r = 0;
    while (r == 0 && now_usec() < end) {
        char text[TRANSFER_SHOWN];
        size_t n;
        r = transport_read(l->t, text, sizeof(text), deadline_in(PROGRAMMER_QUIET), &n, NULL);
    }
    transport_drop_input(l->t);
    return r == -ETIMEDOUT ? 0 : r;
}

/*
 * A programmer speaks. It is in a known state once it has answered <nop/> and fallen silent; *text is what it
 * said so far, possibly behind raw data that a host before us had asked for.
 */
static int meet_programmer(struct ladder *l, const char *text, size_t size)
{
    static const char response[] = "<response";
    enum { OVERLAP = sizeof(response) - 2 };
    char window[OVERLAP + TRANSFER_SHOWN];
    size_t held = 0;
    l->programmer = true;
    bool answered = l->nop_sent && memmem(text, size, response, sizeof(response) - 1);
    if (!l->nop_sent) {
        int r = send_nop(l);
        if (r < 0)
            return is_passing(r) ? NOTHING : r;
    }
    /* The end of a split document may bring the rest of the word. */
    held = MIN_OF(size, (size_t)OVERLAP);
    memcpy(window, text + size - held, held);

    usec_t deadline = deadline_in(PROGRAMMER_TIMEOUT);
    uint64_t total = 0;
    while (!answered) {
        size_t n;
        int r = transport_read(l->t, window + held, TRANSFER_SHOWN, deadline, &n, NULL);
        if (r < 0)
            return is_passing(r) ? NOTHING : r;
        total += n;
        if (total > POUR_MAX || ++l->transfers > TRANSFERS_MAX)
            return NOTHING;
        /* While raw data pour in it is alive; the answer is behind them. */
        if (n >= STREAMING_FRAME_MAX && l->pour_end != 0)
            deadline = MIN_OF(deadline_in(PROGRAMMER_TIMEOUT), l->pour_end);
        size_t all = held + n;
        answered = memmem(window, all, response, sizeof(response) - 1);
        held = MIN_OF(all, (size_t)OVERLAP);
        memmove(window, window + all - held, held);
    }
    int r = drain_programmer(l);
    if (r < 0)
        return is_passing(r) ? NOTHING : r;
    l->result.state = DETECT_FIREHOSE;
    return FOUND;
}

/* ---- what is neither ---- */

/* A transfer that does not begin with a Sahara packet; *p holds its first bytes. */
static int foreign(struct ladder *l, const struct sahara_packet *p, usec_t *deadline)
{
    char text[TRANSFER_SHOWN];
    size_t size = p->size;
    bool ended = p->ended;
    memcpy(text, p->bytes, size);
    while (!ended && size < sizeof(text)) {
        size_t n;
        /* It is in the queue already, or it has no end (2.10). */
        int r = transport_read(l->t, text + size, sizeof(text) - size, 0, &n, &ended);
        if (r == -ETIMEDOUT)
            break;
        if (r < 0)
            return r;
        size += n;
        if (n == 0)
            break;
    }
    l->n_seen = MIN_OF(size, sizeof(l->seen));
    memcpy(l->seen, text, l->n_seen);

    if (memmem(text, size, "<?xml", FIREHOSE_OPENING_MIN))
        return meet_programmer(l, text, size);
    if ((uint8_t)text[0] == HDLC_FLAG && ended && size <= STREAMING_FRAME_MAX) {
        l->result.state = DETECT_STREAMING;
        return FOUND;
    }

    /* Raw data of a read that a host before us had asked for, or noise: let it pass. */
    if (l->pour_end == 0)
        l->pour_end = deadline_in(POUR_TIMEOUT);
    l->poured += size;
    if (l->poured > POUR_MAX || ++l->transfers > TRANSFERS_MAX || now_usec() >= l->pour_end)
        return error_set(l->e, ERROR_SAHARA_FAILED,
                         "the modem does not stop to send data that are neither Sahara nor Firehose (%" PRIu64
                         " bytes)",
                         l->poured);
    *deadline = MAX_OF(*deadline, deadline_in(POUR_GAP));
    return NOTHING;
}

/* ---- Sahara ---- */

/* A HELLO: the newest of those that wait in the queue. */
static int take_hello(struct ladder *l, const struct sahara_packet *first)
{
    struct sahara_packet p = *first;
    if (sahara_parse_hello(p.bytes, p.size, &l->result.hello) < 0)
        return NOTHING;
    for (unsigned i = 0; i < SAHARA_HELLOS_MAX; i++) {
        int r = sahara_packet_receive(l->t, &p, 0);
        if (r == -ENODEV)
            return r;
        if (r < 0)
            break;
        if (p.command == SAHARA_HELLO)
            (void)sahara_parse_hello(p.bytes, p.size, &l->result.hello);
    }
    transport_drop_input(l->t);
    l->result.state = l->result.hello.mode == SAHARA_MODE_MEMORY_DEBUG ? DETECT_CRASH_DUMP : DETECT_SAHARA;
    return FOUND;
}

static int send_reset(struct ladder *l, usec_t *deadline)
{
    if (++l->resets > RESETS_MAX)
        return 0;
    *deadline = deadline_in(LISTEN_RESET);
    return send_command(l, SAHARA_RESET, NULL, 0);
}

/*
 * Somebody left in the middle of an upload, and the modem still waits for raw data. RESET is then taken for
 * data: either as a transfer too short, which ends the image with a status and so frees the modem, or simply
 * as the first bytes. In the second case the rest is given, until the modem finds that the image is none.
 */
static int stuck(struct ladder *l, const struct sahara_packet *p, usec_t *deadline)
{
    uint64_t length = p->command == SAHARA_READ_DATA64 ? sahara_u64(p, 0x18) : sahara_u32(p, 0x10);
    if (length > STUCK_MAX)
        return 0;
    if (l->swallows) {
        *deadline = deadline_in(LISTEN_RESET);
        return feed(l, length);
    }
    l->owed = length > SAHARA_HEADER_SIZE ? length - SAHARA_HEADER_SIZE : 0;
    int r = send_reset(l, deadline);
    if (l->owed > 0)
        *deadline = deadline_in(STUCK_TIMEOUT);
    return r;
}

static int on_packet(struct ladder *l, const struct sahara_packet *p, usec_t *deadline)
{
    static const uint32_t image_mode[] = {SAHARA_MODE_IMAGE_TX_PENDING};
    int r = 0;
    if (p->command != SAHARA_READ_DATA && p->command != SAHARA_READ_DATA64)
        l->owed = 0;
    l->nop_sent = false; /* whatever was sent, a PBL got it */
    switch (p->command) {
    case SAHARA_HELLO:
        return take_hello(l, p);
    case SAHARA_RESET_RESP: /* of ours or left over: either way a HELLO or a restart follows */
        *deadline = MAX_OF(*deadline, deadline_in(LISTEN_RESET));
        break;
    case SAHARA_END_IMAGE_TX: /* our bytes were no packet to it: now it listens again (quirk 39) */
        r = send_reset(l, deadline);
        break;
    case SAHARA_READ_DATA:
    case SAHARA_READ_DATA64:
        r = stuck(l, p, deadline);
        break;
    case SAHARA_CMD_READY:
    case SAHARA_EXECUTE_RESP: /* left in command mode */
        *deadline = MAX_OF(*deadline, deadline_in(LISTEN_COMMAND));
        r = send_command(l, SAHARA_SWITCH_MODE, image_mode, ARRAY_SIZE(image_mode));
        break;
    case SAHARA_MEMORY_DEBUG:
    case SAHARA_MEMORY_DEBUG64:
        /* A crashed modem whose HELLO somebody answered. RESET would restart it and lose its memory: try the
         * soft way. */
        if (!l->no_state_machine) {
            l->no_state_machine = true;
            *deadline = MAX_OF(*deadline, deadline_in(LISTEN_COMMAND));
            r = send_command(l, SAHARA_RESET_STATE_MACHINE, NULL, 0);
        }
        break;
    default: /* DONE_RESP: the programmer is about to start */
        break;
    }
    return r < 0 && !is_passing(r) ? r : NOTHING;
}

static int listen_until(struct ladder *l, usec_t deadline)
{
    for (;;) {
        struct sahara_packet p;
        int r = sahara_packet_receive(l->t, &p, deadline);
        if (r == -ETIMEDOUT && l->owed > 0) {
            uint64_t owed = l->owed;
            l->owed = 0;
            l->swallows = true;
            deadline = deadline_in(LISTEN_RESET);
            r = feed(l, owed);
            if (r == 0)
                continue;
        }
        if (is_passing(r)) {
            l->blocked |= r != -ETIMEDOUT;
            return NOTHING;
        }
        if (r == -EPROTO) {
            r = foreign(l, &p, &deadline);
            if (is_passing(r)) {
                l->blocked = true;
                return NOTHING;
            }
            if (r != NOTHING)
                return r;
            continue;
        }
        if (r < 0)
            return r;
        if (++l->packets > PACKETS_MAX)
            return error_set(l->e, ERROR_SAHARA_FAILED, "the modem sent %u Sahara packets and no HELLO",
                             l->packets);
        r = on_packet(l, &p, &deadline);
        if (r != NOTHING)
            return r;
    }
}

/* ---- the rungs ---- */

static int rung_reset(struct ladder *l)
{
    return send_command(l, SAHARA_RESET, NULL, 0);
}

static int rung_state_machine(struct ladder *l)
{
    return send_command(l, SAHARA_RESET_STATE_MACHINE, NULL, 0);
}

/* The answer to a HELLO that somebody else has read. Command mode, because it can be left for a new HELLO; an
 * upload cannot. */
static int rung_hello_resp(struct ladder *l)
{
    static const struct sahara_hello lost = {.version = 2, .compatible = 1};
    int r = sahara_send_hello_resp(l->t, &lost, SAHARA_MODE_COMMAND);
    if (is_passing(r))
        l->blocked = true;
    return r;
}

static int rung_nop(struct ladder *l)
{
    return send_nop(l);
}

/*
 * It takes what we write and says nothing: somewhere raw data are awaited, by a PBL (READ_DATA was read by a
 * host that is gone) or by a programmer. Give them until it speaks. A programmer can only be there if the
 * modem is not fresh; the command that ends this way belonged to a job that was cut off and is repeated.
 */
static int rung_feed(struct ladder *l)
{
    uint64_t most = l->may_be_programmer ? FEED_MAX : FEED_FIRST;
    usec_t end = deadline_in(FEED_TIMEOUT);
    const unsigned heard = l->packets + l->transfers;
    for (uint64_t fed = 0; fed < most && now_usec() < end;) {
        bool first = fed == 0;
        usec_t pace = deadline_in(first ? STUCK_TIMEOUT : FEED_PACE);
        uint64_t n = first ? FEED_FIRST : FEED_PIECE;
        int r = feed(l, n);
        if (r < 0)
            return r;
        fed += n;
        /* The first piece is what a PBL needs; give it time to think. */
        r = listen_until(l, pace);
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

_Static_assert(ARRAY_SIZE(fresh_rungs) == ARRAY_SIZE(known_rungs), "one number of rungs");

static int climb(struct ladder *l, const struct rung *rung)
{
    if (l->blocked) {
        /* What the modem did not take must not come upon it later. */
        l->blocked = false;
        int r = transport_clear_halt(l->t);
        if (r < 0 && !is_passing(r))
            return r;
    }
    int r = rung->climb(l);
    if (r == FOUND || (r < 0 && !is_passing(r)))
        return r;
    return listen_until(l, deadline_in(l->blocked ? 0 : rung->listen));
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
              struct detect_result *ret, struct error *e)
{
    struct ladder l = {.t = t, .e = e, .may_be_programmer = may_be_programmer};
    int r = listen_until(&l, deadline_in(listen));
    for (size_t i = 0; r == NOTHING && i < ARRAY_SIZE(fresh_rungs); i++) {
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

int detect_modem(struct transport *t, bool fresh, struct detect_result *ret, struct error *e)
{
    return go(t, fresh ? fresh_rungs : known_rungs, !fresh, fresh ? LISTEN_FRESH : LISTEN_KNOWN, ret, e);
}

int detect_return_to_hello(struct transport *t, struct detect_result *ret, struct error *e)
{
    return go(t, fresh_rungs, false, 0, ret, e);
}
