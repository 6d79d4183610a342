/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Between the Sahara files and detect.c, not for others: packets with what is known about the transfer they
 * came in, the greeting, and the error texts that all of them share.
 */

#include "protocol/sahara.h"

enum {
    SAHARA_HEADER_SIZE = 8,
    SAHARA_HELLO_SIZE = 0x30,
    /* max_cmd_packet_len of a HELLO was never seen to be anything but this (1.1); no packet is longer. */
    SAHARA_PACKET_MAX = 0x400,
    /* Empty transfers in front of a packet: one follows data in whole packets (2.10), a flood of them is an
       attack. */
    SAHARA_ZLPS_MAX = 64,
    /* HELLOs answered in one session; a modem that goes on for ever restarts for ever. */
    SAHARA_HELLOS_MAX = 8,
};

/* One packet takes a PBL about 1 ms (reference/samples.md); who is silent for this long does not take OUT
 * data at all. */
#define SAHARA_WRITE_TIMEOUT (USEC_PER_SEC)
/* Whether it enters command mode at all: a modem that does not may be in a short window of its loop. Half of
 * the tools use as much (1.5). */
#define SAHARA_ANSWER_TIMEOUT (USEC_PER_SEC)
/* One that did looks up fuses and registers in about 1 ms. What is late then is late because this machine is
 * busy, and given up it is an identity that lacks a part. */
#define SAHARA_COMMAND_TIMEOUT (3 * USEC_PER_SEC)

struct sahara_packet {
    uint32_t command;
    size_t size; /* bytes that are there */
    bool ended;  /* the transfer ended with the last of them */
    uint8_t bytes[SAHARA_PACKET_MAX];
};

/* Little-endian numbers at a byte offset of a packet; 0 if the packet is too short. */
uint32_t sahara_u32(const struct sahara_packet *p, size_t at);
uint64_t sahara_u64(const struct sahara_packet *p, size_t at);

/*
 * The next packet, accumulated by the length in its header. Partial packets and several in one transfer are
 * taken apart. Only what a modem may say is accepted. -EPROTO: *p holds the bytes that are no Sahara packet
 * (at least one), or the part of one that came until the deadline; the rest of the transfer is still unread.
 */
int sahara_packet_receive(struct transport *t, struct sahara_packet *p, usec_t deadline);

/* Answers *hello (its own version and status 0) and asks for a mode. */
int sahara_send_hello_resp(struct transport *t, const struct sahara_hello *hello, enum sahara_mode mode);

/*
 * Answers *hello and waits up to `timeout` for the first packet that is no HELLO. *hellos counts the answers,
 * also over several calls, and is bounded. A HELLO that comes again is answered again, unless it had only
 * crossed our answer.
 */
int sahara_greet(struct transport *t, const struct sahara_hello *hello, enum sahara_mode mode,
                 unsigned *hellos, usec_t timeout, struct sahara_packet *ret);

/* What a transport's error means while `doing` ("asking who the modem is"); returns r. */
int sahara_io_error(int r, const char *doing, struct error *e);
/* SaharaFailed that shows the first bytes of *p, which no Sahara packet begins with. */
int sahara_garbage_error(const struct sahara_packet *p, const char *doing, struct error *e);
