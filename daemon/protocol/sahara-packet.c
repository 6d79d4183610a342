/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/sahara-packet.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"

enum { HEADER_COMMAND = 0x00, HEADER_LENGTH = 0x04, WORD_SIZE = 4, SEND_WORDS_MAX = 10 };

/*
 * A HELLO may cross our answer to the one before it: then READ_DATA (or CMD_READY) follows at once and a
 * second answer would be taken for image data. If it follows not, the modem restarted and waits for the
 * second answer (1.5: to leave it out hangs the modem).
 */
#define HELLO_CROSSING (100 * USEC_PER_MSEC)

/* RESET_RESP comes at once or never. */
#define RESET_TIMEOUT (2 * USEC_PER_SEC)

/* Body lengths differ between protocol versions only upwards: the lengths of 1.1 are the least ones. */
static size_t least_size(uint32_t command)
{
    switch (command) {
    case SAHARA_HELLO:
        return SAHARA_HELLO_SIZE;
    case SAHARA_READ_DATA:
        return 0x14;
    case SAHARA_END_IMAGE_TX:
    case SAHARA_MEMORY_DEBUG:
    case SAHARA_EXECUTE_RESP:
        return 0x10;
    case SAHARA_DONE_RESP:
        return 0x0c;
    case SAHARA_RESET_RESP:
    case SAHARA_CMD_READY:
        return 0x08;
    case SAHARA_MEMORY_DEBUG64:
        return 0x18;
    case SAHARA_READ_DATA64:
        return 0x20;
    default: /* the host's own commands, and what nobody knows */
        return 0;
    }
}

uint32_t sahara_u32(const struct sahara_packet *p, size_t at)
{
    uint32_t v = 0;
    if (at + sizeof(v) <= p->size)
        memcpy(&v, p->bytes + at, sizeof(v));
    return le32toh(v);
}

uint64_t sahara_u64(const struct sahara_packet *p, size_t at)
{
    uint64_t v = 0;
    if (at + sizeof(v) <= p->size)
        memcpy(&v, p->bytes + at, sizeof(v));
    return le64toh(v);
}

/* True as long as the bytes may be the beginning of a packet. */
static bool may_begin_packet(const struct sahara_packet *p)
{
    if (p->size == 0)
        return true;
    size_t least = least_size(p->bytes[0]);
    if (least == 0)
        return false;
    for (size_t i = 1; i < MIN_OF(p->size, (size_t)HEADER_LENGTH); i++)
        if (p->bytes[i] != 0)
            return false;
    if (p->size < SAHARA_HEADER_SIZE)
        return true;
    uint32_t length = sahara_u32(p, HEADER_LENGTH);
    return length >= least && length <= SAHARA_PACKET_MAX;
}

/* Reads until *p has `size` bytes. */
static int fill(struct transport *t, struct sahara_packet *p, size_t size, usec_t deadline)
{
    unsigned zlps = 0;
    while (p->size < size) {
        size_t n;
        bool ended;
        int r = transport_read(t, p->bytes + p->size, size - p->size, deadline, &n, &ended);
        if (r == -ETIMEDOUT && p->size > 0)
            return -EPROTO;
        if (r < 0)
            return r;
        if (n == 0 && ++zlps > SAHARA_ZLPS_MAX)
            return p->size > 0 ? -EPROTO : -ETIMEDOUT;
        p->size += n;
        if (n > 0)
            p->ended = ended;
        if (!may_begin_packet(p))
            return -EPROTO;
    }
    return 0;
}

int sahara_packet_receive(struct transport *t, struct sahara_packet *p, usec_t deadline)
{
    p->command = 0;
    p->size = 0;
    p->ended = false;
    int r = fill(t, p, SAHARA_HEADER_SIZE, deadline);
    if (r < 0)
        return r;
    r = fill(t, p, sahara_u32(p, HEADER_LENGTH), deadline);
    if (r < 0)
        return r;
    p->command = sahara_u32(p, HEADER_COMMAND);
    return 0;
}

int sahara_send(struct transport *t, enum sahara_command command, const uint32_t *words, size_t n_words,
                usec_t deadline)
{
    uint32_t packet[SAHARA_HEADER_SIZE / WORD_SIZE + SEND_WORDS_MAX];
    if (n_words > SEND_WORDS_MAX)
        return -EINVAL;
    size_t size = SAHARA_HEADER_SIZE + n_words * WORD_SIZE;
    packet[0] = htole32(command);
    packet[1] = htole32((uint32_t)size);
    for (size_t i = 0; i < n_words; i++)
        packet[2 + i] = htole32(words[i]);
    return transport_write(t, packet, size, 0, deadline);
}

int sahara_parse_hello(const void *packet, size_t size, struct sahara_hello *ret)
{
    struct sahara_packet p = {.size = size};
    if (size != SAHARA_HELLO_SIZE)
        return -EPROTO;
    memcpy(p.bytes, packet, size);
    struct sahara_hello hello = {
        .version = sahara_u32(&p, 0x08),
        .compatible = sahara_u32(&p, 0x0c),
        .max_packet = sahara_u32(&p, 0x10),
        .mode = sahara_u32(&p, 0x14),
    };
    if (sahara_u32(&p, HEADER_COMMAND) != SAHARA_HELLO ||
        sahara_u32(&p, HEADER_LENGTH) != SAHARA_HELLO_SIZE || hello.version == 0 ||
        hello.mode > SAHARA_MODE_COMMAND)
        return -EPROTO;
    *ret = hello;
    return 0;
}

int sahara_send_hello_resp(struct transport *t, const struct sahara_hello *hello, enum sahara_mode mode)
{
    /*
     * The modem's own version comes back, as from the vendor's tool: version 1 would refuse a 2, and 2 a 3
     * (status 0x04). The six reserved words stay zero: tools differ there and all of them work (1.1).
     */
    const uint32_t words[SEND_WORDS_MAX] = {hello->version, hello->compatible, 0, mode};
    return sahara_send(t, SAHARA_HELLO_RESP, words, ARRAY_SIZE(words), deadline_in(SAHARA_WRITE_TIMEOUT));
}

int sahara_greet(struct transport *t, const struct sahara_hello *hello, enum sahara_mode mode,
                 unsigned *hellos, usec_t timeout, struct sahara_packet *ret)
{
    struct sahara_hello latest = *hello;
    while (++*hellos <= SAHARA_HELLOS_MAX) {
        int r = sahara_send_hello_resp(t, &latest, mode);
        if (r < 0)
            return r;
        bool again = false;
        for (unsigned i = 0; i < SAHARA_HELLOS_MAX; i++) {
            r = sahara_packet_receive(t, ret, deadline_in(again ? HELLO_CROSSING : timeout));
            if (r == -ETIMEDOUT && again)
                break;
            if (r < 0)
                return r;
            if (ret->command != SAHARA_HELLO)
                return 0;
            r = sahara_parse_hello(ret->bytes, ret->size, &latest);
            if (r < 0)
                return r;
            again = true;
        }
    }
    return -EPROTO;
}

int sahara_reset(struct transport *t, struct error *e)
{
    usec_t deadline = deadline_in(RESET_TIMEOUT);
    int r = sahara_send(t, SAHARA_RESET, NULL, 0, deadline);
    while (r == 0) {
        struct sahara_packet p;
        r = sahara_packet_receive(t, &p, deadline);
        /* Some answer with the HELLO of the next round at once (1.5). */
        if (r == 0 && (p.command == SAHARA_RESET_RESP || p.command == SAHARA_HELLO))
            return 0;
        if (r == 0 && now_usec() >= deadline)
            r = -ETIMEDOUT;
        if (r == -EPROTO)
            return sahara_garbage_error(&p, "resetting the modem", e);
    }
    /* It went away before it could answer: that is what was asked for. */
    return r == -ENODEV ? 0 : sahara_io_error(r, "resetting the modem", e);
}

int sahara_io_error(int r, const char *doing, struct error *e)
{
    switch (r) {
    case -ENODEV:
        error_set(e, ERROR_MODEM_GONE, "the modem went away while %s", doing);
        error_hint(e, HINT_RETRY);
        break;
    case -ETIMEDOUT:
        error_set(e, ERROR_TIMEOUT, "the modem did not answer while %s", doing);
        error_hint(e, HINT_POWER_CYCLE);
        break;
    case -ECANCELED:
        error_set(e, ERROR_CANCELLED, "cancelled while %s", doing);
        break;
    case -EINTR:
        error_set(e, ERROR_INTERRUPTED, "interrupted while %s", doing);
        break;
    case -EPROTO:
        error_set(e, ERROR_SAHARA_FAILED, "the modem broke the Sahara protocol while %s", doing);
        error_hint(e, HINT_RETRY);
        break;
    default:
        error_set(e, ERROR_FAILED, "the connection to the modem failed while %s: %s", doing, strerror(-r));
        error_hint(e, HINT_REPLUG);
        break;
    }
    return r;
}

int sahara_garbage_error(const struct sahara_packet *p, const char *doing, struct error *e)
{
    enum { SHOWN = 16 };
    char hex[2 * SHOWN + 1];
    size_t n = MIN_OF(p->size, (size_t)SHOWN);
    text_hex(p->bytes, n, hex);
    int r = may_begin_packet(p)
                ? error_set(e, ERROR_SAHARA_FAILED,
                            "the modem sent a packet that breaks off after %zu bytes (%s) while %s", p->size,
                            hex, doing)
                : error_set(e, ERROR_SAHARA_FAILED,
                            "the modem sent something that is no Sahara packet (%s) while %s", hex, doing);
    error_hint(e, HINT_RETRY);
    return r;
}
