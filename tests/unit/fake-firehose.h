/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A NAND in memory in place of protocol/firehose.c, for tests of what stands above it: the public functions
 * of firehose.h with the block mapping of reference/edl.md 2.6 (the n-th good block from a command's start is
 * its n-th block; with skip_bad_block the read is physical and bad blocks show 0xBD). Include it in one test
 * file; the linker then leaves the real one out.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/digest.h"
#include "protocol/firehose.h"
#include "storage/nand.h"

enum { FAKE_COMMANDS_MAX = 20000 };
enum fake_page { FAKE_ERASED, FAKE_WRITTEN, FAKE_UNREADABLE };
enum fake_verb { FAKE_READ, FAKE_ERASE, FAKE_PROGRAM, FAKE_DIGEST, FAKE_VENDOR, FAKE_POWER, FAKE_DRAIN };

struct fake_command {
    enum fake_verb verb;
    struct firehose_range range;
    int result;
};

struct firehose {
    struct nand_geometry g;
    uint8_t *data;
    uint8_t *pages; /* enum fake_page */
    bool *bad;      /* physically bad */
    bool *stubborn; /* an erase of it is ACKed and does nothing */
    uint8_t erased_fill;
    bool no_digest, no_skip_bad_block;
    bool no_auto_erase; /* a page that is not erased cannot be programmed (9x07, as far as is known) */
    bool vendor_agrees, vendor_refuses;
    uint64_t garble_page; /* this page is programmed wrongly, once per garble_times */
    unsigned garble_times;
    uint64_t goes_bad_block; /* becomes bad while it is programmed, once */
    bool goes_bad_armed;
    unsigned fail_at; /* the command with this number (from 1) fails with fail_with */
    int fail_with;
    unsigned fail_from;          /* and this one and all behind it, too */
    unsigned unplug_after_pages; /* programmed from now on, once */
    unsigned n_changing;         /* erase and program commands so far */
    struct fake_command commands[FAKE_COMMANDS_MAX];
    size_t n_commands;
    unsigned errors;
    char first_error[128];
    void (*on_log)(void *userdata, enum firehose_log_level level, const char *text);
    void *log_userdata;
    void (*before)(struct firehose *f, enum fake_verb verb, const struct firehose_range *range);
};

static inline struct firehose *fake_new(uint32_t page_size, uint32_t pages_per_block, uint64_t blocks)
{
    struct firehose *f = calloc(1, sizeof(*f));
    f->g = (struct nand_geometry){page_size, pages_per_block, blocks};
    size_t pages = (size_t)(pages_per_block * blocks);
    f->data = malloc(pages * page_size);
    memset(f->data, 0xff, pages * page_size);
    f->pages = calloc(pages, 1);
    f->bad = calloc(blocks, sizeof(bool));
    f->stubborn = calloc(blocks, sizeof(bool));
    f->erased_fill = 0xff;
    f->garble_page = UINT64_MAX;
    return f;
}

static inline struct firehose *fake_free(struct firehose *f)
{
    if (f) {
        free(f->data);
        free(f->pages);
        free(f->bad);
        free(f->stubborn);
        free(f);
    }
    return NULL;
}

static inline uint8_t *fake_at(struct firehose *f, uint64_t page)
{
    return f->data + page * f->g.page_size;
}

/* Puts a page there as if it had been programmed long ago. */
static inline void fake_put(struct firehose *f, uint64_t page, const void *data, size_t size)
{
    memset(fake_at(f, page), 0xff, f->g.page_size);
    memcpy(fake_at(f, page), data, size);
    f->pages[page] = FAKE_WRITTEN;
}

static inline void fake_error_log(struct firehose *f, const char *text)
{
    if (f->errors++ == 0)
        snprintf(f->first_error, sizeof(f->first_error), "%s", text);
    if (f->on_log)
        f->on_log(f->log_userdata, FIREHOSE_LOG_ERROR, text);
}

static inline int fake_begin(struct firehose *f, enum fake_verb verb, const struct firehose_range *range,
                             struct error *e)
{
    if (f->before)
        f->before(f, verb, range);
    if (f->n_commands < FAKE_COMMANDS_MAX) {
        f->commands[f->n_commands].verb = verb;
        if (range)
            f->commands[f->n_commands].range = *range;
    }
    f->n_commands++;
    f->n_changing += verb == FAKE_ERASE || verb == FAKE_PROGRAM;
    if ((f->fail_at && f->n_commands == f->fail_at) || (f->fail_from && f->n_commands >= f->fail_from)) {
        if (f->fail_with == -ENODEV)
            return error_set(e, ERROR_MODEM_GONE, "the modem went away");
        return error_set(e, ERROR_FIREHOSE_FAILED, "fake NAK");
    }
    return 0;
}

static inline int fake_check_range(struct firehose *f, const struct firehose_range *r, struct error *e)
{
    if (r->sector_size != f->g.page_size || r->pages_per_block != f->g.pages_per_block || r->count == 0 ||
        r->last < r->start + r->count - 1 || r->last >= f->g.blocks * f->g.pages_per_block)
        return error_set(e, ERROR_INVALID_ARGS, "fake: bad range");
    return 0;
}

/* The physical page of the n-th page of a command; UINT64_MAX behind last_sector. */
static inline uint64_t fake_map(struct firehose *f, const struct firehose_range *r, uint64_t n, bool physical)
{
    if (physical)
        return r->start + n;
    uint32_t ppb = f->g.pages_per_block;
    uint64_t offset = r->start % ppb + n, wanted = offset / ppb;
    for (uint64_t block = r->start / ppb; block <= r->last / ppb; block++) {
        if (f->bad[block])
            continue;
        if (wanted-- == 0)
            return block * ppb + offset % ppb;
    }
    return UINT64_MAX;
}

static inline void fake_erase_block(struct firehose *f, uint64_t block)
{
    uint32_t ppb = f->g.pages_per_block;
    if (f->stubborn[block])
        return;
    memset(fake_at(f, block * ppb), 0xff, (size_t)ppb * f->g.page_size);
    memset(f->pages + block * ppb, FAKE_ERASED, ppb);
}

static inline void fake_show(struct firehose *f, uint64_t page, bool physical, uint8_t *out)
{
    size_t size = f->g.page_size;
    if (physical && f->bad[page / f->g.pages_per_block])
        memset(out, 0xbd, size);
    else if (f->pages[page] == FAKE_UNREADABLE)
        memset(out, 0xfa, size);
    else if (f->pages[page] == FAKE_ERASED)
        memset(out, f->erased_fill, size);
    else
        memcpy(out, fake_at(f, page), size);
}

struct firehose *firehose_new(struct transport *t)
{
    (void)t;
    return NULL;
}

struct firehose *firehose_free(struct firehose *f)
{
    (void)f;
    return NULL;
}

void firehose_on_log(struct firehose *f, void (*on_log)(void *, enum firehose_log_level, const char *),
                     void *userdata)
{
    f->on_log = on_log;
    f->log_userdata = userdata;
}

unsigned firehose_error_count(const struct firehose *f)
{
    return f->errors;
}

const char *firehose_first_error(const struct firehose *f)
{
    return f->first_error;
}

void firehose_clear_errors(struct firehose *f)
{
    f->errors = 0;
    f->first_error[0] = '\0';
}

bool firehose_vip(const struct firehose *f)
{
    (void)f;
    return false;
}

bool firehose_banner_has(const struct firehose *f, const char *function)
{
    (void)f;
    (void)function;
    return true;
}

bool firehose_banner_seen(const struct firehose *f)
{
    (void)f;
    return true;
}

int firehose_await_banner(struct firehose *f, struct error *e)
{
    (void)f;
    (void)e;
    return 0;
}

int firehose_configure(struct firehose *f, uint32_t payload, struct error *e)
{
    (void)f;
    (void)payload;
    (void)e;
    return 0;
}

uint32_t firehose_payload_size(const struct firehose *f)
{
    (void)f;
    return 8192;
}

int firehose_nop(struct firehose *f, struct error *e)
{
    (void)f;
    (void)e;
    return 0;
}

int firehose_storage_info(struct firehose *f, struct firehose_storage *ret, struct error *e)
{
    (void)e;
    *ret = (struct firehose_storage){f->g.blocks, nand_block_size(&f->g), f->g.page_size, true};
    return 0;
}

/* Physical blocks from start; running out of good ones is ACKed with an ERROR log. */
int firehose_erase(struct firehose *f, const struct firehose_range *range, struct error *e)
{
    int r = fake_begin(f, FAKE_ERASE, range, e);
    if (r < 0 || (r = fake_check_range(f, range, e)) < 0)
        return r;
    uint32_t ppb = f->g.pages_per_block;
    if (range->start % ppb || range->count % ppb || (range->last + 1) % ppb)
        return error_set(e, ERROR_INVALID_ARGS, "fake: erase off the block borders");
    for (uint64_t n = 0; n < range->count; n += ppb) {
        if (f->bad[(range->start + n) / ppb]) {
            fake_error_log(f, "ERROR: out of good blocks");
            continue;
        }
        fake_erase_block(f, (range->start + n) / ppb);
    }
    return 0;
}

int firehose_program(struct firehose *f, const struct firehose_range *range, firehose_source source,
                     firehose_progress on_progress, void *userdata, struct error *e)
{
    int r = fake_begin(f, FAKE_PROGRAM, range, e);
    if (r < 0 || (r = fake_check_range(f, range, e)) < 0)
        return r;
    uint32_t size = f->g.page_size, ppb = f->g.pages_per_block;
    _cleanup_free_ uint8_t *buffer = malloc(size);
    for (uint64_t n = 0; n < range->count; n++) {
        r = source(userdata, n * size, buffer, size, e);
        if (r < 0)
            return r;
        uint64_t page = fake_map(f, range, n, false);
        if (page != UINT64_MAX && f->goes_bad_armed && page == f->goes_bad_block * ppb) {
            f->bad[f->goes_bad_block] = true;
            f->goes_bad_armed = false;
            page = fake_map(f, range, n, false);
        }
        if (page == UINT64_MAX)
            return error_set(e, ERROR_FIREHOSE_FAILED, "out of good blocks");
        if (f->unplug_after_pages && --f->unplug_after_pages == 0)
            return error_set(e, ERROR_MODEM_GONE, "the modem went away in the middle");
        if (!f->no_auto_erase && page % ppb == 0)
            fake_erase_block(f, page / ppb);
        if (f->pages[page] != FAKE_ERASED)
            return error_set(e, ERROR_FIREHOSE_FAILED, "page %llu is not erased", (unsigned long long)page);
        fake_put(f, page, buffer, size);
        if (page == f->garble_page && f->garble_times) {
            f->garble_times--;
            fake_at(f, page)[7] ^= 0x10;
        }
        if (on_progress)
            on_progress(userdata, (n + 1) * size, range->count * size);
    }
    return 0;
}

int firehose_read(struct firehose *f, const struct firehose_range *range, bool skip_bad_block,
                  firehose_sink sink, void *userdata, struct error *e)
{
    int r = fake_begin(f, FAKE_READ, range, e);
    if (r < 0 || (r = fake_check_range(f, range, e)) < 0)
        return r;
    uint32_t size = f->g.page_size;
    _cleanup_free_ uint8_t *buffer = malloc(size);
    for (uint64_t n = 0; n < range->count; n++) {
        uint64_t page = fake_map(f, range, n, skip_bad_block && !f->no_skip_bad_block);
        if (page == UINT64_MAX)
            return error_set(e, ERROR_FIREHOSE_FAILED, "read: out of good blocks");
        fake_show(f, page, skip_bad_block && !f->no_skip_bad_block, buffer);
        r = sink(userdata, n * size, buffer, size, e);
        if (r < 0)
            return r;
    }
    return 0;
}

struct fake_copy {
    uint8_t *to;
};

static inline int fake_copy_sink(void *userdata, uint64_t offset, const void *data, size_t size,
                                 struct error *e)
{
    struct fake_copy *c = userdata;
    (void)e;
    memcpy(c->to + offset, data, size);
    return 0;
}

int firehose_read_pages(struct firehose *f, const struct firehose_range *range, bool skip_bad_block,
                        void *ret, struct error *e)
{
    struct fake_copy c = {ret};
    return firehose_read(f, range, skip_bad_block, fake_copy_sink, &c, e);
}

int firehose_digest(struct firehose *f, const struct firehose_range *range, uint8_t ret[32], struct error *e)
{
    int r = fake_begin(f, FAKE_DIGEST, range, e);
    if (r < 0 || (r = fake_check_range(f, range, e)) < 0)
        return r;
    if (f->no_digest)
        return error_set(e, ERROR_UNSUPPORTED, "no digest");
    uint32_t size = f->g.page_size;
    _cleanup_free_ uint8_t *buffer = malloc(size);
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    for (uint64_t n = 0; n < range->count; n++) {
        uint64_t page = fake_map(f, range, n, false);
        if (page == UINT64_MAX)
            return error_set(e, ERROR_FIREHOSE_FAILED, "digest: out of good blocks");
        fake_show(f, page, false, buffer);
        digest_update(d, buffer, size);
    }
    digest_final(d, ret);
    return 0;
}

int firehose_vendor_check(struct firehose *f, const struct firehose_vendor_check *check, bool *ret_agreed,
                          struct error *e)
{
    (void)check;
    int r = fake_begin(f, FAKE_VENDOR, NULL, e);
    if (r < 0)
        return r;
    if (f->vendor_refuses)
        return error_set(e, ERROR_WRONG_FIRMWARE, "the modem refused the project name");
    *ret_agreed = f->vendor_agrees;
    return 0;
}

int firehose_power(struct firehose *f, enum firehose_power mode, struct error *e)
{
    (void)mode;
    return fake_begin(f, FAKE_POWER, NULL, e);
}
