/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The boot ROM in 9008. It says HELLO once, when the host first polls; whoever reads it has it. From then on
 * it only answers. Anything that it does not expect gives END_IMAGE_TX with a status, after which only RESET
 * (or RESET_STATE_MACHINE) helps (reference/edl.md 1.5, quirk 39).
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "modem.h"
#include "sahara.h"
#include "trace.h"

enum pbl_state { STATE_HELLO, STATE_HELLO_RESP, STATE_TRANSFER, STATE_COMMAND, STATE_DONE, STATE_ERROR };

static const char *const state_names[] = {"hello", "hello-resp", "transfer", "command", "done", "error"};

struct pbl {
    struct modem *modem;
    enum pbl_state state;
    bool hello_lost, hello_twice;
    /* Stuck in the middle of an earlier host's transfer: the READ_DATA was sent long ago. */
    bool request_sent;
};

static void change(struct pbl *p, enum pbl_state state)
{
    p->state = state;
    trace("state pbl %s", state_names[state]);
}

static int fail(struct pbl *p, uint32_t image, uint32_t status)
{
    change(p, STATE_ERROR);
    return sahara_send_end(p->modem, image, status);
}

static int send_request(struct pbl *p, uint64_t offset, uint32_t length)
{
    struct modem *m = p->modem;
    const uint32_t words[] = {SAHARA_PROGRAMMER_ID, (uint32_t)offset, length};
    const uint32_t words64[] = {SAHARA_PROGRAMMER_ID,     0,      (uint32_t)offset,
                                (uint32_t)(offset >> 32), length, 0};
    int r;

    if (p->request_sent) {
        p->request_sent = false;
        return 0;
    }
    r = front_busy(&m->front, m->scenario->read_data_us);
    if (r < 0)
        return r;
    return m->scenario->read64 ? sahara_send(m, SAHARA_READ_DATA64, words64, 6)
                               : sahara_send(m, SAHARA_READ_DATA, words, 3);
}

/* Asks for a piece of the image. 0 it is there, > 0 a status, < 0 gone. */
static int fetch(struct pbl *p, uint64_t offset, uint32_t length)
{
    struct modem *m = p->modem;
    uint8_t *target = image_at(&m->image, offset, length);
    size_t got = 0, n;
    int r;

    if (!target)
        return SAHARA_INVALID_IMAGE_DATA_SIZE;
    r = send_request(p, offset, length);
    while (r == 0 && got < length) {
        r = front_read(&m->front, target + got, length - got, &n);
        if (r < 0)
            return r;
        got += n;
        if (got == length)
            break;
        /* A short packet has ended the transfer before all was there. */
        if (n == 0 && m->scenario->sahara_zlp == TOLERANCE_IGNORE)
            continue;
        trace("sahara out raw short length=%zu expected=%u", got, length);
        if (m->scenario->stuck == STUCK_ERROR)
            return SAHARA_INVALID_RX_LENGTH;
        if (m->scenario->stuck == STUCK_DEAD)
            return front_hang(&m->front);
    }
    if (r == 0)
        trace("sahara out raw length=%u", length);
    if (r == 0 && m->front.nak_next) {
        m->front.nak_next = false;
        return SAHARA_READ_DATA_ERROR;
    }
    return r;
}

static int fetch_segments(struct pbl *p)
{
    struct image *i = &p->modem->image;
    int r = 0;

    for (unsigned n = 0; r == 0 && n < i->segment_count; n++) {
        const struct image_segment *s = &i->segments[n];
        for (uint64_t at = 0; r == 0 && at < s->size; at += IMAGE_CHUNK_MAX) {
            uint64_t left = s->size - at;
            r = fetch(p, s->offset + at, left < IMAGE_CHUNK_MAX ? (uint32_t)left : IMAGE_CHUNK_MAX);
        }
    }
    if (r == 0 && p->modem->scenario->overread)
        r = fetch(p, i->size, (uint32_t)p->modem->scenario->overread);
    return r;
}

/* A ROM accepts what is signed with its vendor's key: here, what says so in plain text. */
static bool is_signed_for_us(const struct modem *m)
{
    char text[64];

    snprintf(text, sizeof(text), "SIGNED-FOR=%.16s", m->scenario->pkhash);
    return image_has(&m->image, text);
}

/* The whole upload: 0 accepted, > 0 status, < 0 gone. */
static int transfer(struct pbl *p)
{
    struct modem *m = p->modem;
    bool more;
    int r;

    image_reset(&m->image);
    r = fetch(p, 0, IMAGE_ELF32_HEADER);
    if (r == 0)
        r = (int)image_parse_header(&m->image, &more);
    if (r == 0 && more) {
        r = fetch(p, 0, IMAGE_ELF64_HEADER);
        if (r == 0)
            r = (int)image_parse_header(&m->image, &more);
    }
    if (r == 0)
        r = fetch(p, m->image.table_offset, m->image.table_size);
    if (r == 0)
        r = (int)image_parse_table(&m->image);
    if (r == 0)
        r = fetch_segments(p);
    if (r != 0)
        return r;
    if (m->scenario->programmer_check == CHECK_ACCEPT || is_signed_for_us(m))
        return 0;
    trace("pbl programmer is not signed for this unit");
    if (m->scenario->programmer_check == CHECK_SILENT)
        return front_hang(&m->front);
    return SAHARA_HASH_TABLE_AUTH_FAILURE;
}

static int run_transfer(struct pbl *p)
{
    int r;

    if (p->modem->scenario->read_data != READ_HONEST) {
        change(p, STATE_ERROR);
        return pbl_hostile_request(p->modem);
    }
    r = transfer(p);
    if (r < 0)
        return r;
    if (r > 0)
        return fail(p, SAHARA_PROGRAMMER_ID, (uint32_t)r);
    change(p, STATE_DONE);
    return sahara_send_end(p->modem, SAHARA_PROGRAMMER_ID, SAHARA_OK);
}

static int on_hello_resp(struct pbl *p, const uint32_t *words)
{
    struct modem *m = p->modem;

    if (words[0] == 0 || words[0] > 3)
        return fail(p, 0, SAHARA_INVALID_HOST_VERSION);
    if (words[2])
        return fail(p, 0, SAHARA_UNKNOWN_HOST_ERROR);
    if (p->hello_twice) {
        /* The whole greeting once more; who does not answer it again waits for ever. */
        p->hello_twice = false;
        change(p, STATE_HELLO);
        return 0;
    }
    switch (words[3]) {
    case SAHARA_MODE_IMAGE_TX:
        change(p, STATE_TRANSFER);
        return 0;
    case SAHARA_MODE_COMMAND:
        if (!m->scenario->command_mode)
            return fail(p, 0, SAHARA_INVALID_COMMAND);
        change(p, STATE_COMMAND);
        return 0;
    case SAHARA_MODE_MEMORY_DEBUG:
        return fail(p, 0, SAHARA_MEMORY_DEBUG_UNSUPPORTED);
    default:
        return fail(p, 0, SAHARA_INVALID_MODE);
    }
}

static int run_commands(struct pbl *p)
{
    int r = pbl_command_mode(p->modem);

    if (r < 0)
        return r;
    if (r > 0)
        return fail(p, 0, (uint32_t)r);
    change(p, STATE_HELLO);
    return 0;
}

static int on_done(struct pbl *p)
{
    uint32_t status = p->modem->scenario->done == DONE_PENDING ? 0 : 1;
    int r = sahara_send(p->modem, SAHARA_DONE_RESP, &status, 1);

    return r < 0 ? r : MODE_PROGRAMMER;
}

/* One packet. 0 go on, < 0 gone, > 0 an enum mode_end. */
static int on_packet(struct pbl *p)
{
    struct modem *m = p->modem;
    uint32_t command, words[SAHARA_PACKET_MAX / 4];
    int r = sahara_receive(m, &command, words);

    if (r < 0)
        return r;
    if (command == SAHARA_RESET) {
        r = pbl_reset(m);
        if (r == 0)
            change(p, STATE_HELLO);
        return r;
    }
    if (command == SAHARA_RESET_STATE_MACHINE && m->scenario->reset_state_machine) {
        change(p, STATE_HELLO);
        return 0;
    }
    if (m->front.nak_next) {
        m->front.nak_next = false;
        return fail(p, 0, SAHARA_INVALID_COMMAND);
    }
    if (command == 0)
        return fail(p, 0, SAHARA_INVALID_PACKET_SIZE);
    if (p->state == STATE_HELLO_RESP && command == SAHARA_HELLO_RESP)
        return on_hello_resp(p, words);
    if (p->state == STATE_DONE && command == SAHARA_DONE)
        return on_done(p);
    return fail(p, 0, SAHARA_INVALID_COMMAND);
}

static int say_hello(struct pbl *p)
{
    bool lost = p->hello_lost;

    p->hello_lost = false;
    change(p, STATE_HELLO_RESP);
    if (p->modem->scenario->hello >= HELLO_FLOOD)
        return pbl_hostile_hello(p->modem);
    return lost ? 0 : sahara_send_hello(p->modem, SAHARA_MODE_IMAGE_TX);
}

int pbl_run(struct modem *m)
{
    struct pbl p = {.modem = m};
    bool first = m->appearance == 1;
    int r = 0;

    p.hello_lost = first && m->scenario->hello == HELLO_LOST;
    p.hello_twice = first && m->scenario->hello == HELLO_TWICE;
    p.request_sent = first && m->scenario->start == START_MID_TRANSFER;
    change(&p, p.request_sent ? STATE_TRANSFER : STATE_HELLO);
    if (first && m->scenario->start == START_RESET_RESP)
        r = sahara_send(m, SAHARA_RESET_RESP, NULL, 0);
    while (r == 0) {
        switch (p.state) {
        case STATE_HELLO:
            r = say_hello(&p);
            break;
        case STATE_TRANSFER:
            r = run_transfer(&p);
            break;
        case STATE_COMMAND:
            r = run_commands(&p);
            break;
        case STATE_HELLO_RESP:
        case STATE_DONE:
        case STATE_ERROR:
            r = on_packet(&p);
            break;
        }
    }
    return r;
}
