/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a hostile modem may say in Sahara: in the ladder, in command mode, during an upload. The transport is
 * replaced by one whose modem has said everything already and on which no time passes, so that the time-outs
 * are part of what is tried. Link it before libprotocol.a and without libtransport.a.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "protocol/detect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_PACKET = 512, IMAGE_SIZE = 20000, UNPLUG = 0x40, STALL = 0x80, WRITTEN_MAX = 512 * 1024 * 1024 };

struct transport {
    const uint8_t *data; /* transfers: a length (low byte, high byte), then as many bytes */
    size_t size;
    size_t left; /* of the transfer that is being read */
    bool inside;
    bool unplug, stall;
    uint64_t written;
};

static bool next_transfer(struct transport *t)
{
    if (t->inside)
        return true;
    if (t->size < 2)
        return false;
    t->left = t->data[0] | (size_t)(t->data[1] & 0x1f) << 8;
    t->data += 2;
    t->size -= 2;
    t->left = MIN_OF(t->left, t->size);
    t->inside = true;
    return true;
}

size_t transport_max_packet(const struct transport *t)
{
    (void)t;
    return MAX_PACKET;
}

int transport_read(struct transport *t, void *buffer, size_t size, usec_t deadline, size_t *ret_size,
                   bool *ret_boundary)
{
    (void)deadline;
    assert(size > 0);
    if (!next_transfer(t))
        return t->unplug ? -ENODEV : -ETIMEDOUT;
    size_t n = MIN_OF(size, t->left);
    memcpy(buffer, t->data, n);
    t->data += n;
    t->size -= n;
    t->left -= n;
    t->inside = t->left > 0;
    *ret_size = n;
    if (ret_boundary)
        *ret_boundary = !t->inside;
    return 0;
}

int transport_queue(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    (void)deadline;
    assert(size <= TRANSPORT_CHUNK_MAX && flags == 0); /* never a ZLP in Sahara (2.10) */
    if (size > 0)
        (void)((const volatile uint8_t *)data)[size - 1];
    t->written += size;
    assert(t->written <= WRITTEN_MAX); /* no modem makes us write for ever */
    if (t->unplug && t->size == 0)
        return -ENODEV;
    return t->stall && t->size == 0 ? -ETIMEDOUT : 0;
}

int transport_flush(struct transport *t, usec_t deadline)
{
    return transport_queue(t, "", 0, 0, deadline);
}

int transport_write(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    assert(size > 0);
    return transport_queue(t, data, size, flags, deadline);
}

void transport_drop_input(struct transport *t)
{
    t->data += t->left;
    t->size -= t->left;
    t->left = 0;
    t->inside = false;
}

int transport_clear_halt(struct transport *t)
{
    (void)t;
    return 0;
}

int transport_reset(struct transport *t)
{
    return t->unplug ? -ENODEV : 0;
}

static void on_progress(void *userdata, uint64_t sent, uint64_t total)
{
    uint64_t *last = userdata;
    assert(sent > *last && sent <= total && total == IMAGE_SIZE);
    *last = sent;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t image[IMAGE_SIZE];
    struct sahara_hello hello = {.version = 2, .compatible = 1};
    struct sahara_identity identity;
    struct detect_result found;
    struct error e = {0};
    uint64_t last = 0;
    int r = 0;
    if (size < 1)
        return 0;
    struct transport t = {
        .data = data + 1, .size = size - 1, .unplug = data[0] & UNPLUG, .stall = data[0] & STALL};
    switch (data[0] & 7) {
    case 0:
    case 1:
        r = detect_modem(&t, data[0] & 1, NULL, NULL, &found, &e);
        assert(r < 0 || found.state == DETECT_FIREHOSE || found.state == DETECT_STREAMING ||
               found.hello.version != 0);
        assert(r < 0 || found.state <= DETECT_STREAMING);
        break;
    case 2:
        hello.version = 3;
        /* fall through */
    case 3:
        r = sahara_identify(&t, &hello, &identity, &e);
        assert(hello.version != 0 && hello.mode <= SAHARA_MODE_COMMAND);
        assert(identity.pk_hash_size == 0 || identity.pk_hash_size == 32 || identity.pk_hash_size == 48 ||
               identity.pk_hash_size == 64);
        break;
    case 4:
        r = sahara_reset(&t, &e);
        break;
    default:
        r = sahara_upload(&t, &hello, image, sizeof(image), on_progress, &last, &e);
        assert(r < 0 || last == IMAGE_SIZE);
    }
    assert(r <= 0 && (r == 0) == (e.kind == ERROR_NONE) && (r == 0) == (e.message[0] == '\0'));
    return 0;
}
