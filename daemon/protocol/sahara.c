/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The upload of a programmer (reference/edl.md 1.1): the modem asks, we answer, nothing is trusted. */

#include "protocol/sahara.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "protocol/sahara-packet.h"

/* Between two packets. A PBL asks every millisecond; after the last byte it checks hashes and signature,
   seconds at worst; the vendor's tool waits as long (1.5). */
#define PACKET_TIMEOUT (5 * USEC_PER_SEC)
/* A chunk of a few KiB at USB speed; a PBL that stops to take data has stopped. */
#define DATA_TIMEOUT (5 * USEC_PER_SEC)
/* All of it. Normal is 0.9 to 3 s (section 7); ten times that is a modem that plays with us. */
#define UPLOAD_TIMEOUT (30 * USEC_PER_SEC)

enum {
    /* Some signed programmers are asked for past their end (1.1): 0xFF, the erased value, is sent for that.
     */
    PADDING = 0xff,
    PADDING_MAX = 1024 * 1024,
    /* How often the image may be asked for in all; a PBL reads headers two or three times and the rest once.
     */
    REREADS_MAX = 4,
    /* What stands behind the last segment (section headers, padding to a page) is never asked for. */
    TAIL_MAX = 4096,
    /* Answers to an earlier host that are still on their way. */
    STRAYS_MAX = 8,
    /* A PBL that starts anew after the whole image may have lost its session once; twice, it does not like
       the image. */
    RESTARTS_MAX = 1,

    DONE_PENDING = 0,
    DONE_COMPLETE = 1,

    IMAGE_NPRG = 7,
    IMAGE_EHOSTDL = 13,
    IMAGE_SBL1 = 21,
};

struct upload {
    struct transport *t;
    const uint8_t *image;
    size_t size;
    void (*on_progress)(void *userdata, uint64_t sent, uint64_t total);
    void *userdata;
    struct error *e;

    usec_t deadline;
    unsigned hellos, strays;
    unsigned restarts; /* HELLOs after the whole image */
    bool asked;        /* at least one READ_DATA since the last HELLO */
    uint64_t image_id;
    uint64_t reached;  /* the highest end of what was sent since the last HELLO */
    uint64_t served;   /* bytes sent in all */
    uint64_t reported; /* progress, which never goes back */
};

static int failed(struct error *e, int r)
{
    error_hint(e, HINT_RETRY);
    return r;
}

static bool took_it_all(const struct upload *u)
{
    return u->reached > 0 && u->reached + TAIL_MAX >= u->size;
}

static int rejected(const struct upload *u, const char *what_it_did)
{
    int r = error_set(
        u->e, ERROR_PROGRAMMER_REJECTED,
        "the modem took the whole programmer (%zu bytes) and %s: it is not signed for this modem, or made "
        "for another chip",
        u->size, what_it_did);
    error_hint(u->e, HINT_WRONG_FIRMWARE);
    return r;
}

/* The modem says nothing more. PBLs that do not like a signature often do just that, without END_IMAGE_TX
 * (1.3). */
static int silence(const struct upload *u, int r)
{
    if (r != -ENODEV && r != -ETIMEDOUT && r != -EPIPE)
        return sahara_io_error(r, "a programmer was uploaded", u->e);
    if (took_it_all(u)) {
        int verdict = rejected(u, r == -ENODEV ? "went away" : "said nothing more");
        return r == -ENODEV ? r : verdict; /* or its window ended just then: the caller knows its loop */
    }
    if (r == -ENODEV) {
        r = error_set(u->e, ERROR_MODEM_GONE,
                      "the modem went away after %" PRIu64 " of the programmer's %zu bytes", u->reached,
                      u->size);
        return failed(u->e, r);
    }
    if (now_usec() >= u->deadline)
        r = error_set(u->e, ERROR_TIMEOUT,
                      "the programmer's upload did not end within %u s: %" PRIu64
                      " bytes were asked for, it has %zu",
                      (unsigned)(UPLOAD_TIMEOUT / USEC_PER_SEC), u->served, u->size);
    else
        r = error_set(u->e, ERROR_TIMEOUT,
                      "the modem stopped in the middle of the upload, after %" PRIu64
                      " of the programmer's %zu bytes",
                      u->reached, u->size);
    error_hint(u->e, HINT_POWER_CYCLE);
    return r;
}

/* Those that speak of the image: its form, its hashes, its signature. Another programmer may do, the same one
 * never. */
static bool blames_image(uint32_t status)
{
    return (status >= 0x06 && status <= 0x09) || (status >= 0x0e && status <= 0x14) ||
           (status >= 0x21 && status <= 0x26 && status != 0x24);
}

static int refused(const struct upload *u, uint32_t status)
{
    const char *name = sahara_status_name(status);
    int r;
    if (blames_image(status)) {
        r = error_set(u->e, ERROR_PROGRAMMER_REJECTED,
                      "the modem refused the programmer after %" PRIu64 " of its %zu bytes: %s", u->reached,
                      u->size, name);
        error_hint(u->e, HINT_WRONG_FIRMWARE);
    } else {
        r = error_set(u->e, ERROR_SAHARA_FAILED,
                      "the modem broke the upload off after %" PRIu64 " of the programmer's %zu bytes: %s",
                      u->reached, u->size, name);
        error_hint(u->e, HINT_RETRY);
    }
    error_words(u->e, name);
    return r;
}

/* A transfer of exactly `length` bytes without ZLP (2.10): whole chunks first, so that none ends it before
 * its time. */
static int send_data(struct upload *u, uint64_t offset, uint64_t length)
{
    uint8_t padded[TRANSPORT_CHUNK_MAX];
    usec_t deadline = MIN_OF(deadline_in(DATA_TIMEOUT), u->deadline);
    for (uint64_t done = 0; done < length;) {
        size_t n = (size_t)MIN_OF(length - done, (uint64_t)TRANSPORT_CHUNK_MAX);
        uint64_t at = offset + done;
        size_t inside = at < u->size ? (size_t)MIN_OF(u->size - at, (uint64_t)n) : 0;
        const uint8_t *data = padded;
        if (inside == n) {
            data = u->image + at;
        } else {
            if (inside > 0)
                memcpy(padded, u->image + at, inside);
            memset(padded + inside, PADDING, n - inside);
        }
        int r = transport_queue(u->t, data, n, 0, deadline);
        if (r < 0)
            return r;
        done += n;
    }
    /* Counted as sent from here on: a modem that takes the last byte and goes is gone before the flush can
     * tell. */
    u->reached = MAX_OF(u->reached, MIN_OF(offset + length, (uint64_t)u->size));
    return transport_flush(u->t, deadline);
}

static void report(struct upload *u, uint64_t sent)
{
    if (sent <= u->reported)
        return;
    u->reported = sent;
    if (u->on_progress)
        u->on_progress(u->userdata, sent, u->size);
}

/*
 * PENDING says "more images please" and is all the same the last word of many a PBL that was asked for one
 * programmer (MDM9x07, SDX62): for these three image ids it is success (1.1, quirk 14).
 */
static bool pending_is_done(uint64_t image_id)
{
    return image_id == IMAGE_NPRG || image_id == IMAGE_EHOSTDL || image_id == IMAGE_SBL1;
}

static int done(struct upload *u)
{
    int r = sahara_send(u->t, SAHARA_DONE, NULL, 0, deadline_in(SAHARA_WRITE_TIMEOUT));
    usec_t deadline = MIN_OF(deadline_in(PACKET_TIMEOUT), u->deadline);
    struct sahara_packet p = {0};
    if (r == 0)
        r = sahara_packet_receive(u->t, &p, deadline);
    /* The image was accepted before this: who goes now was not refused, its window is over. */
    if (r == -ENODEV)
        return failed(
            u->e,
            error_set(u->e, ERROR_MODEM_GONE,
                      "the modem went away after it had accepted the programmer, before it started it"));
    if (r == -EPROTO)
        return sahara_garbage_error(&p, "DONE_RESP was awaited", u->e);
    if (r < 0)
        return silence(u, r);
    if (p.command == SAHARA_END_IMAGE_TX)
        return refused(u, sahara_u32(&p, 0x0c));
    if (p.command != SAHARA_DONE_RESP)
        return failed(u->e, error_set(u->e, ERROR_SAHARA_FAILED,
                                      "the modem answered DONE with command 0x%02x instead of DONE_RESP",
                                      p.command));
    uint32_t status = sahara_u32(&p, 0x08);
    if (status == DONE_COMPLETE || (status == DONE_PENDING && pending_is_done(u->image_id)))
        return 0;
    if (status == DONE_PENDING)
        return error_set(u->e, ERROR_SAHARA_FAILED,
                         "the modem wants more images after image %" PRIu64
                         "; only one programmer can be sent",
                         u->image_id);
    return failed(u->e, error_set(u->e, ERROR_SAHARA_FAILED,
                                  "the modem answered DONE with status %u instead of 0 or 1", status));
}

static int end_image(struct upload *u, const struct sahara_packet *p)
{
    uint32_t status = sahara_u32(p, 0x0c);
    if (status != 0)
        return refused(u, status);
    if (!u->asked)
        return failed(u->e, error_set(u->e, ERROR_SAHARA_FAILED,
                                      "the modem says that image %u is complete but has not read a byte",
                                      sahara_u32(p, 0x08)));
    return done(u);
}

/* 1: go on. */
static int serve(struct upload *u, const struct sahara_packet *p)
{
    bool wide = p->command == SAHARA_READ_DATA64;
    uint64_t id = wide ? sahara_u64(p, 0x08) : sahara_u32(p, 0x08);
    uint64_t offset = wide ? sahara_u64(p, 0x10) : sahara_u32(p, 0x0c);
    uint64_t length = wide ? sahara_u64(p, 0x18) : sahara_u32(p, 0x10);
    const uint64_t limit = (uint64_t)u->size + PADDING_MAX;

    if (length == 0 || offset > limit || length > limit - offset)
        return failed(u->e, error_set(u->e, ERROR_SAHARA_FAILED,
                                      "the modem asks for %" PRIu64 " bytes at offset %" PRIu64
                                      " of a programmer of %zu bytes",
                                      length, offset, u->size));
    if (u->asked && id != u->image_id)
        return failed(u->e, error_set(u->e, ERROR_SAHARA_FAILED,
                                      "the modem asks for image %" PRIu64 " in the middle of image %" PRIu64,
                                      id, u->image_id));
    if (u->served + length > REREADS_MAX * (uint64_t)u->size + PADDING_MAX)
        return failed(u->e,
                      error_set(u->e, ERROR_SAHARA_FAILED,
                                "the modem reads for ever: %" PRIu64
                                " bytes sent of a programmer of %zu bytes, and %" PRIu64 " more asked for",
                                u->served, u->size, length));
    u->asked = true;
    u->image_id = id;

    int r = send_data(u, offset, length);
    if (r == -ETIMEDOUT || r == -EPIPE || r == -ENODEV) {
        /* It takes no more data: perhaps it has said why. */
        struct sahara_packet why;
        if (sahara_packet_receive(u->t, &why, 0) == 0 && why.command == SAHARA_END_IMAGE_TX)
            return end_image(u, &why);
    }
    if (r < 0)
        return silence(u, r);
    u->served += length;
    report(u, MIN_OF(u->served, (uint64_t)u->size));
    return 1;
}

static int on_packet(struct upload *u, struct sahara_packet *p)
{
    switch (p->command) {
    case SAHARA_READ_DATA:
    case SAHARA_READ_DATA64:
        return serve(u, p);
    case SAHARA_END_IMAGE_TX:
        return end_image(u, p);
    case SAHARA_RESET_RESP:
    case SAHARA_CMD_READY:
        if (++u->strays <= STRAYS_MAX)
            return 1;
        break;
    case SAHARA_MEMORY_DEBUG:
    case SAHARA_MEMORY_DEBUG64:
        return error_set(u->e, ERROR_WRONG_MODE,
                         "the modem has crashed and offers its memory instead of taking a programmer");
    }
    return failed(u->e, error_set(u->e, ERROR_SAHARA_FAILED,
                                  "the modem sent command 0x%02x in the middle of the upload", p->command));
}

int sahara_upload(struct transport *t, const struct sahara_hello *hello, const void *image, size_t size,
                  void (*on_progress)(void *userdata, uint64_t sent, uint64_t total), void *userdata,
                  struct error *e)
{
    if (size == 0)
        return error_set(e, ERROR_INVALID_ARGS, "the programmer is empty");

    struct upload u = {
        .t = t,
        .image = image,
        .size = size,
        .on_progress = on_progress,
        .userdata = userdata,
        .e = e,
        .deadline = deadline_in(UPLOAD_TIMEOUT),
    };
    struct sahara_hello latest = *hello;
    struct sahara_packet p = {0};
    int r = sahara_greet(t, &latest, SAHARA_MODE_IMAGE_TX_PENDING, &u.hellos, PACKET_TIMEOUT, &p);
    for (;;) {
        if (r == -EPROTO && p.command == 0)
            return sahara_garbage_error(&p, "a programmer was uploaded", e);
        if (r < 0)
            return silence(&u, r);
        if (p.command == SAHARA_HELLO) {
            /* It starts anew (quirk 13); unanswered it would hang. */
            if (took_it_all(&u) && ++u.restarts > RESTARTS_MAX)
                return rejected(&u, "started anew");
            r = sahara_parse_hello(p.bytes, p.size, &latest);
            u.asked = false;
            u.reached = 0;
            if (r == 0)
                r = sahara_greet(t, &latest, SAHARA_MODE_IMAGE_TX_PENDING, &u.hellos, PACKET_TIMEOUT, &p);
            continue;
        }
        r = on_packet(&u, &p);
        if (r == 0)
            report(&u, size); /* what the modem had no use for included */
        if (r <= 0)
            return r;
        r = now_usec() >= u.deadline
                ? -ETIMEDOUT
                : sahara_packet_receive(t, &p, MIN_OF(deadline_in(PACKET_TIMEOUT), u.deadline));
    }
}
