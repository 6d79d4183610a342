/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Inside detect: the ladder in the hands of its two halves. detect.c climbs (what is sent, in which order),
 * detect-listen.c hears (what an answer means, and what it asks for at once).
 */

#include "protocol/detect.h"

/* After RESET into a transfer: a PBL that takes short data as an error says so at once. */
#define DETECT_STUCK_TIMEOUT (300 * USEC_PER_MSEC)

enum {
    DETECT_FEED_PIECE = 8192, /* payload of every NAND programmer (2.3) */
    DETECT_FEED_BYTE = 0xff,  /* erased flash, should it end there */
};

enum heard { NOTHING, FOUND };

struct ladder {
    struct transport *t;
    struct error *e;
    usec_t end;             /* of all patience, whatever the modem does */
    bool may_be_programmer; /* somebody has talked to it */
    struct detect_result result;
    unsigned packets, transfers, resets;
    unsigned resets_open; /* RESETs that no RESET_RESP has answered: each may bring a HELLO of its own */
    bool reset_as_data;   /* the last one went into a transfer: END_IMAGE_TX is its answer */
    uint64_t poured;
    usec_t pour_end; /* 0: no foreign data yet */
    uint64_t owed;   /* bytes that a READ_DATA still waits for */
    bool swallows;   /* RESET is taken as data there */
    bool programmer; /* it spoke Firehose: Sahara packets would be raw data to it */
    bool nop_sent;   /* and not answered yet */
    bool blocked;    /* an OUT transfer was not taken, or an endpoint is stalled */
    bool state_machine_reset;
    size_t n_seen; /* what foreign bytes looked like at last, for the error */
    uint8_t seen[16];
};

/* What a modem may do without us having to give up: the next rung deals with it. */
bool ladder_is_passing(int r);

/* These note in l->blocked that the modem takes nothing. */
int ladder_send(struct ladder *l, enum sahara_command command, const uint32_t *words, size_t n_words);
int ladder_send_nop(struct ladder *l);
/* `size` bytes of DETECT_FEED_BYTE, for one that waits for raw data. */
int ladder_feed(struct ladder *l, uint64_t size);

/*
 * Listens until the deadline, or longer while the modem is on its way back: FOUND (l->result is complete),
 * NOTHING, or an error that ends the climb; -EPROTO with its text in l->e.
 */
int ladder_listen(struct ladder *l, usec_t deadline);
