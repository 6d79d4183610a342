/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/detect-ladder.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "protocol/sahara-packet.h"

/* RESET_RESP and HELLO come within milliseconds; a chip that restarts goes away within a second. */
#define RESET_TIMEOUT (1 * USEC_PER_SEC)
/* For commands that a PBL either knows or refuses at once. */
#define COMMAND_TIMEOUT (500 * USEC_PER_MSEC)
#define WRITE_TIMEOUT   (500 * USEC_PER_MSEC)
/* 1 MiB at USB speed takes 30 ms, a payload of NAND 2 ms (section 7); who takes longer takes nothing. */
#define FEED_WRITE_TIMEOUT (1 * USEC_PER_SEC)
/* Once we know that it is a programmer: as long as its slowest erase of a partition (2.12, 4 s seen) and
 * more. */
#define PROGRAMMER_TIMEOUT (10 * USEC_PER_SEC)
/* One that has kept us waiting for that long is done with what it had begun; it answers now or never. */
#define PROGRAMMER_AGAIN (2 * USEC_PER_SEC)
/* Logs behind a response (quirk 3), and the response to a host before us, come within this. */
#define PROGRAMMER_QUIET     (50 * USEC_PER_MSEC)
#define PROGRAMMER_QUIET_MAX (2 * USEC_PER_SEC)
/* Between two transfers of data that nobody of us asked for. */
#define POUR_GAP (300 * USEC_PER_MSEC)
/* The rest of a NAND partition at 5 to 10 MB/s (section 7). */
#define POUR_TIMEOUT (30 * USEC_PER_SEC)

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
};

static const char nop_document[] = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<nop />\n</data>\n";

bool ladder_is_passing(int r)
{
    return r == -ETIMEDOUT || r == -EPIPE || r == -EIO;
}

static int note_blocked(struct ladder *l, int r)
{
    if (ladder_is_passing(r))
        l->blocked = true;
    return r;
}

int ladder_send(struct ladder *l, enum sahara_command command, const uint32_t *words, size_t n_words)
{
    l->resets_open += command == SAHARA_RESET;
    return note_blocked(l, sahara_send(l->t, command, words, n_words, deadline_in(WRITE_TIMEOUT)));
}

int ladder_send_nop(struct ladder *l)
{
    l->nop_sent = true;
    return note_blocked(
        l, transport_write(l->t, nop_document, sizeof(nop_document) - 1, 0, deadline_in(WRITE_TIMEOUT)));
}

int ladder_feed(struct ladder *l, uint64_t size)
{
    static const uint8_t piece[DETECT_FEED_PIECE] = {[0 ... DETECT_FEED_PIECE - 1] = DETECT_FEED_BYTE};
    usec_t deadline = deadline_in(FEED_WRITE_TIMEOUT);
    int r = 0;
    for (uint64_t done = 0; r == 0 && done < size; done += sizeof(piece))
        r = transport_write(l->t, piece, (size_t)MIN_OF(size - done, (uint64_t)sizeof(piece)), 0, deadline);
    return note_blocked(l, r);
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
    usec_t patience = l->programmer ? PROGRAMMER_AGAIN : PROGRAMMER_TIMEOUT;
    l->programmer = true;
    bool answered = l->nop_sent && memmem(text, size, response, sizeof(response) - 1);
    if (!l->nop_sent) {
        int r = ladder_send_nop(l);
        if (r < 0)
            return ladder_is_passing(r) ? NOTHING : r;
    }
    /* The end of a split document may bring the rest of the word. */
    held = MIN_OF(size, (size_t)OVERLAP);
    memcpy(window, text + size - held, held);

    usec_t deadline = deadline_in(patience);
    uint64_t total = 0;
    while (!answered) {
        size_t n;
        int r = transport_read(l->t, window + held, TRANSFER_SHOWN, deadline, &n, NULL);
        if (r < 0)
            return ladder_is_passing(r) ? NOTHING : r;
        total += n;
        if (total > POUR_MAX || ++l->transfers > TRANSFERS_MAX)
            return NOTHING;
        /* While raw data pour in it is alive; the answer is behind them. */
        if (n >= STREAMING_FRAME_MAX && l->pour_end != 0)
            deadline = MIN_OF(deadline_in(patience), l->pour_end);
        size_t all = held + n;
        answered = memmem(window, all, response, sizeof(response) - 1);
        held = MIN_OF(all, (size_t)OVERLAP);
        memmove(window, window + all - held, held);
    }
    int r = drain_programmer(l);
    if (r < 0)
        return ladder_is_passing(r) ? NOTHING : r;
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

/*
 * A HELLO: the newest of those that wait in the queue or are still to come. Two RESETs, each for an
 * END_IMAGE_TX, bring two; the older one answered, the newer one would come into the middle of what follows.
 */
static int take_hello(struct ladder *l, const struct sahara_packet *first)
{
    struct sahara_packet p = *first;
    if (sahara_parse_hello(p.bytes, p.size, &l->result.hello) < 0)
        return NOTHING;
    for (unsigned i = 0; i < 2 * SAHARA_HELLOS_MAX; i++) {
        /* One that swallowed a RESET as data never answers it. */
        bool to_come = l->resets_open > 0 || p.command == SAHARA_RESET_RESP;
        int r = sahara_packet_receive(l->t, &p, to_come ? deadline_in(DETECT_STUCK_TIMEOUT) : 0);
        if (r == -ENODEV)
            return r;
        if (r < 0)
            break;
        if (p.command == SAHARA_RESET_RESP && l->resets_open > 0)
            l->resets_open--;
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
    *deadline = deadline_in(RESET_TIMEOUT);
    return ladder_send(l, SAHARA_RESET, NULL, 0);
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
        *deadline = deadline_in(RESET_TIMEOUT);
        return ladder_feed(l, length);
    }
    l->owed = length > SAHARA_HEADER_SIZE ? length - SAHARA_HEADER_SIZE : 0;
    int r = send_reset(l, deadline);
    l->reset_as_data = true;
    if (l->owed > 0)
        *deadline = deadline_in(DETECT_STUCK_TIMEOUT);
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
        l->resets_open -= l->resets_open > 0;
        *deadline = MAX_OF(*deadline, deadline_in(RESET_TIMEOUT));
        break;
    case SAHARA_END_IMAGE_TX: /* our bytes were no packet to it: now it listens again (quirk 39) */
        l->resets_open -= l->reset_as_data && l->resets_open > 0;
        l->reset_as_data = false;
        r = send_reset(l, deadline);
        break;
    case SAHARA_READ_DATA:
    case SAHARA_READ_DATA64:
        r = stuck(l, p, deadline);
        break;
    case SAHARA_CMD_READY:
    case SAHARA_EXECUTE_RESP: /* left in command mode */
        *deadline = MAX_OF(*deadline, deadline_in(COMMAND_TIMEOUT));
        r = ladder_send(l, SAHARA_SWITCH_MODE, image_mode, ARRAY_SIZE(image_mode));
        break;
    case SAHARA_MEMORY_DEBUG:
    case SAHARA_MEMORY_DEBUG64:
        /* A crashed modem whose HELLO somebody answered. RESET would restart it and lose its memory: try the
         * soft way. */
        if (!l->state_machine_reset) {
            l->state_machine_reset = true;
            *deadline = MAX_OF(*deadline, deadline_in(COMMAND_TIMEOUT));
            r = ladder_send(l, SAHARA_RESET_STATE_MACHINE, NULL, 0);
        }
        break;
    default: /* DONE_RESP: the programmer is about to start */
        break;
    }
    return r < 0 && !ladder_is_passing(r) ? r : NOTHING;
}

int ladder_listen(struct ladder *l, usec_t deadline)
{
    for (;;) {
        struct sahara_packet p;
        if (now_usec() >= l->end)
            return NOTHING;
        int r = sahara_packet_receive(l->t, &p, MIN_OF(deadline, l->end));
        if (r == -ETIMEDOUT && l->owed > 0) {
            uint64_t owed = l->owed;
            l->owed = 0;
            l->swallows = true;
            deadline = deadline_in(RESET_TIMEOUT);
            r = ladder_feed(l, owed);
            if (r == 0)
                continue;
        }
        if (ladder_is_passing(r)) {
            l->blocked |= r != -ETIMEDOUT;
            return NOTHING;
        }
        if (r == -EPROTO) {
            r = foreign(l, &p, &deadline);
            if (ladder_is_passing(r)) {
                l->blocked = true;
                return NOTHING;
            }
            /* A programmer had its time; one that only logs would fill any deadline. */
            if (r != NOTHING || l->programmer)
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
