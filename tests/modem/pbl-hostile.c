/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A boot ROM that wants to harm its host: greetings and requests with numbers that no ROM sends. Nothing of
 * this was seen; whoever plugs something in may make it say what they like.
 */

#include <string.h>

#include "modem.h"
#include "sahara.h"
#include "trace.h"

enum { HELLO_WORDS = 10, FLOOD = 20000, GARBAGE = 200 };

int pbl_hostile_hello(struct modem *m)
{
    const struct scenario *s = m->scenario;
    uint32_t packet[2 + HELLO_WORDS] = {
        SAHARA_HELLO,      sizeof(packet),      (uint32_t)s->sahara_version, 1,
        SAHARA_PACKET_MAX, SAHARA_MODE_IMAGE_TX};
    uint8_t garbage[GARBAGE];
    int r = 0;

    trace("hostile hello");
    switch (s->hello) {
    case HELLO_FLOOD:
        for (unsigned i = 0; r == 0 && i < FLOOD; i++)
            r = front_write(&m->front, packet, sizeof(packet));
        return r;
    case HELLO_SHORT:
        return front_write(&m->front, packet, 20);
    case HELLO_LYING_LENGTH:
        packet[1] = 0xFFFFFFFF;
        return front_write(&m->front, packet, sizeof(packet));
    case HELLO_LONG: {
        uint32_t wide[SAHARA_PACKET_MAX / 2] = {SAHARA_HELLO, sizeof(wide)};
        memcpy(wide + 2, packet + 2, sizeof(packet) - SAHARA_HEADER);
        return front_write(&m->front, wide, sizeof(wide));
    }
    case HELLO_STRANGE_MODE:
        packet[5] = 0x7FFFFFFF;
        return front_write(&m->front, packet, sizeof(packet));
    default:
        memset(garbage, 0xA5, sizeof(garbage));
        return front_write(&m->front, garbage, sizeof(garbage));
    }
}

int pbl_hostile_request(struct modem *m)
{
    static const struct {
        uint32_t offset, length;
    } narrow[] = {
        [READ_ZERO] = {0, 0},
        [READ_HUGE] = {0, 0xFFFFFFFF},
        [READ_WRAP] = {0xFFFFF000, 0x2000},
        [READ_FAR] = {0x40000000, 0x1000},
        [READ_ENDLESS] = {0, 0x1000},
    };
    const uint32_t wide[] = {SAHARA_PROGRAMMER_ID, 0, 0xFFFFF000, 0xFFFFFFFF, 0x2000, 0};
    int64_t kind = m->scenario->read_data;
    uint8_t sink[0x1000];
    size_t got;
    int r;

    if (kind == READ_WRAP64)
        return sahara_send(m, SAHARA_READ_DATA64, wide, 6);
    do {
        const uint32_t words[] = {SAHARA_PROGRAMMER_ID, narrow[kind].offset, narrow[kind].length};
        r = sahara_send(m, SAHARA_READ_DATA, words, 3);
        if (r == 0 && kind == READ_ENDLESS)
            r = front_read(&m->front, sink, sizeof(sink), &got);
        if (r == 0 && kind == READ_ENDLESS && got < sizeof(sink))
            return 0; /* the host has had enough */
    } while (r == 0 && kind == READ_ENDLESS);
    return r;
}
