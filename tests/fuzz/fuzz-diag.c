/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a hostile modem may answer in DIAG. The transport is replaced by one whose modem has said everything
 * already: the input is a list of packets (length, then bytes). The transport frames each of them, and puts
 * the beginning of the last request in front where the packet's length has its high bit, so that the fuzzer
 * gets behind the matching. Link it before libprotocol.a and without libtransport.a.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "protocol/diag.h"
#include "protocol/hdlc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PACKET_MAX = 255, ECHO = 0x80, UNPLUG = 0x80, FILE_MAX = 4096, WRITTEN_MAX = 256 * 1024 * 1024 };

struct transport {
    const uint8_t *data;
    size_t size;
    bool unplug;
    uint8_t request[64];
    size_t request_size;
    uint64_t written;
};

size_t transport_max_packet(const struct transport *t)
{
    (void)t;
    return 512;
}

int transport_read(struct transport *t, void *buffer, size_t size, usec_t deadline, size_t *ret_size,
                   bool *ret_boundary)
{
    uint8_t payload[PACKET_MAX + sizeof(t->request)];
    size_t n = 0;
    (void)deadline;
    assert(size >= HDLC_ENCODED_MAX(sizeof(payload)));
    if (t->size < 2)
        return t->unplug ? -ENODEV : -ETIMEDOUT;
    size_t length = MIN_OF((size_t)t->data[1], t->size - 2), echo = t->data[0] & ~ECHO;
    if (t->data[0] & ECHO) {
        n = MIN_OF(echo, t->request_size);
        memcpy(payload, t->request, n);
    }
    memcpy(payload + n, t->data + 2, length);
    t->data += 2 + length;
    t->size -= 2 + length;
    *ret_size = hdlc_encode(payload, n + length, buffer);
    if (ret_boundary)
        *ret_boundary = true;
    return 0;
}

int transport_write(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    struct hdlc_decoder *d = calloc(1, sizeof(*d));
    size_t n;
    (void)deadline;
    assert(d && flags == TRANSPORT_ZLP);
    assert(hdlc_decode(d, data, size, &n) == size && n > 0);
    t->request_size = MIN_OF(n, sizeof(t->request));
    memcpy(t->request, d->frame, t->request_size);
    /* Never sent, whatever the modem says (reference/diag.md 2.5, 7). */
    assert(d->frame[0] != 0x4b || (d->frame[1] != 0x13 && d->frame[1] != 0x3e) ||
           (d->frame[2] != 10 && d->frame[2] != 37 && d->frame[2] != 44 && d->frame[2] != 45 &&
            d->frame[2] != 53));
    free(d);
    t->written += size;
    assert(t->written <= WRITTEN_MAX);
    return t->unplug && t->size < 2 ? -ENODEV : 0;
}

int transport_queue(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    return transport_write(t, data, size, flags, deadline);
}

int transport_flush(struct transport *t, usec_t deadline)
{
    (void)t;
    (void)deadline;
    return 0;
}

void transport_drop_input(struct transport *t)
{
    (void)t;
}

int transport_clear_halt(struct transport *t)
{
    (void)t;
    return 0;
}

int transport_reset(struct transport *t)
{
    (void)t;
    return 0;
}

static int take(void *userdata, const struct diag_efs_entry *entry)
{
    size_t *n = userdata;
    assert(entry->name[0] && !strchr(entry->name, '/') && ++*n <= 16);
    return 0;
}

static int ask(struct diag *d, unsigned what, struct error *e)
{
    struct diag_build build;
    uint8_t data[DIAG_NV_SIZE] = {0}, *file = NULL, mask[16];
    char imei[DIAG_IMEI_DIGITS + 1];
    uint32_t mode;
    unsigned status;
    size_t n = 0;
    int r;
    switch (what) {
    case 0:
        r = diag_read_build(d, &build, e);
        assert(r < 0 || strlen(build.version) < sizeof(build.version));
        return r;
    case 1:
        return diag_read_oper_mode(d, &mode, e);
    case 2:
        r = diag_nv_read(d, DIAG_NV_IMEI, 0, data, &status, e);
        assert(diag_imei_parse(data, imei) < 0 || strlen(imei) == DIAG_IMEI_DIGITS);
        return r;
    case 3:
        return diag_nv_write(d, 10, 1, data, &status, e);
    case 4:
        return diag_efs_sync(d, e);
    case 5:
        r = diag_efs_read(d, "/nv/a", FILE_MAX, &file, &n, e);
        assert(r != 0 || n <= FILE_MAX);
        free(file);
        return r;
    case 6:
        return diag_efs_list(d, "/", 16, take, &n, e);
    case 7:
        return diag_efs_md5(d, "/nv/a", data, e);
    case 8:
        return diag_efs_write(d, "/nv/a", data, sizeof(data), e);
    case 9:
        return diag_read_features(d, mask, sizeof(mask), &n, e);
    default:
        return diag_enter_edl(d, e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error e = {0};
    struct diag *d = NULL;
    if (size < 2)
        return 0;
    unsigned what = data[0] & 0x0f;
    struct transport t = {.data = data + 1, .size = size - 1, .unplug = data[0] & UNPLUG};
    int r = diag_open(&t, &d, &e);
    if (r == 0 && what >= 4 && what <= 8)
        r = diag_efs_hello(d, &e);
    if (r == 0)
        r = ask(d, what, &e);
    assert((r >= 0) == (e.kind == ERROR_NONE));
    diag_free(d);
    return 0;
}
