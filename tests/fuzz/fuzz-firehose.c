/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A programmer that answers whatever it likes, against every command: nothing may be read or written out of
 * bounds, and nothing may be believed that was not said. The transport is made up in here (so the floor below
 * is not linked): the input is cut into transfers, and each write lets the next ones come.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/firehose-internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Input: a byte of length / 4 (0: a ZLP; 255: silence until the host writes), then so many bytes. */
enum { LENGTH_UNIT = 4, SILENCE = 255, PACKET = 512, READS_MAX = 200000 };

struct transport {
    const uint8_t *data;
    size_t size;
    size_t left; /* of the running transfer */
    bool silent; /* until the next write */
    unsigned reads;
    uint64_t written; /* raw bytes since the last document */
};

int transport_read(struct transport *t, void *buffer, size_t size, usec_t deadline, size_t *ret_size,
                   bool *ret_boundary)
{
    (void)deadline;
    assert(size > 0 && ++t->reads < READS_MAX);
    if (t->left == 0) {
        if (t->silent)
            return -ETIMEDOUT;
        if (t->size == 0)
            return -ENODEV;
        uint8_t length = *t->data;
        t->data++, t->size--;
        if (length == SILENCE) {
            t->silent = true;
            return -ETIMEDOUT;
        }
        t->left = MIN_OF((size_t)length * LENGTH_UNIT, t->size);
        if (t->left == 0) {
            *ret_size = 0;
            *ret_boundary = true;
            return 0;
        }
    }
    size_t n = MIN_OF(size, t->left);
    memcpy(buffer, t->data, n);
    t->data += n;
    t->size -= n;
    t->left -= n;
    *ret_size = n;
    *ret_boundary = t->left == 0;
    return 0;
}

int transport_write(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    (void)deadline;
    /* Every document that goes out is whole, and none needs a ZLP. */
    assert(size > 0 && size < 1024 && size % PACKET != 0 && flags == 0);
    assert(memcmp(data, "<?xml ", 6) == 0 && memmem(data, size, "</data>\n", 8));
    assert(!memmem(data, size, "num_partition_sectors=\"0\"", 25));
    t->silent = false;
    t->written = 0;
    return 0;
}

int transport_queue(struct transport *t, const void *data, size_t size, unsigned flags, usec_t deadline)
{
    (void)data, (void)flags, (void)deadline;
    assert(size > 0 && size <= TRANSPORT_CHUNK_MAX && size % 4096 == 0);
    t->silent = false;
    t->written += size;
    return 0;
}

int transport_flush(struct transport *t, usec_t deadline)
{
    (void)deadline;
    t->silent = false;
    return 0;
}

bool transport_has_input(const struct transport *t)
{
    return t->left > 0 || t->size > 0;
}

int transport_clear_halt(struct transport *t)
{
    (void)t;
    return 0;
}

static int source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e)
{
    (void)userdata, (void)offset, (void)e;
    memset(buffer, 0x5a, size);
    return 0;
}

static int sink(void *userdata, uint64_t offset, const void *data, size_t size, struct error *e)
{
    (void)e;
    uint64_t *expected = userdata;
    assert(offset == *expected && size > 0);
    *expected += size;
    /* Touch every byte. */
    static volatile uint8_t sum;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
    return 0;
}

static void check_log(void *userdata, enum firehose_log_level level, const char *text)
{
    (void)userdata;
    assert(level <= FIREHOSE_LOG_ERROR && strlen(text) < FIREHOSE_LINE_SIZE);
    for (const char *p = text; *p; p++)
        assert((unsigned char)*p >= 0x20);
}

static void check_error(int r, const struct error *e)
{
    assert(r >= 0 || (e->kind != ERROR_NONE && e->message[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct firehose_range block = {4096, 64, 640, 64, 703}, page = {4096, 64, 640, 1, 703};
    const struct firehose_vendor_check vendor = {4096, 64, 23040, 640, "RM502QGLAA", "M4G"};
    const uint64_t bytes = block.count * block.sector_size;
    struct transport t = {.data = data, .size = size};
    struct firehose *f = firehose_new(&t);
    struct firehose_storage storage;
    uint8_t digest[32], memory[4096];
    uint64_t done = 0;
    bool agreed;
    struct error e = {};
    assert(f);
    firehose_on_log(f, check_log, NULL);

    check_error(firehose_await_banner(f, &e), &e);
    check_error(firehose_configure(f, 16384, &e), &e);
    assert(firehose_payload_size(f) >= 512 && firehose_payload_size(f) <= TRANSPORT_CHUNK_MAX);
    int r = firehose_storage_info(f, &storage, &e);
    check_error(r, &e);
    if (r == 0 && storage.valid)
        assert(storage.total_blocks > 0 && storage.page_size >= 512 &&
               storage.block_size % storage.page_size == 0);
    if (r == 0)
        assert(storage.n_bad_blocks <= ARRAY_SIZE(storage.bad_blocks));
    check_error(firehose_vendor_check(f, &vendor, &agreed, &e), &e);
    check_error(firehose_erase(f, &block, &e), &e);
    r = firehose_program(f, &block, source, NULL, NULL, &e);
    check_error(r, &e);
    assert(r < 0 || t.written == bytes);
    check_error(firehose_digest(f, &block, digest, &e), &e);
    r = firehose_read(f, &page, true, sink, &done, &e);
    check_error(r, &e);
    assert(done <= page.sector_size && (r < 0 || done == page.sector_size));
    check_error(firehose_read_pages(f, &page, false, memory, &e), &e);
    check_error(firehose_nop(f, &e), &e);
    check_error(firehose_power(f, FIREHOSE_POWER_RESET, &e), &e);
    (void)firehose_first_error(f);
    firehose_free(f);
    return 0;
}
