/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The programmer that the PBL started: Firehose (reference/edl.md 2). What it can do follows from the
 * literals of the file that was uploaded. Handlers return 0 (go on), an enum mode_end, or -ENODEV.
 *
 *   programmer.c         banner, loop, configure and the small tags
 *   speak.c              how its documents come out
 *   storage.c            addresses, read, digest, storage info
 *   storage-erase.c      erase
 *   storage-program.c    program
 *   vendor.c             the vendor tag
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "document.h"
#include "modem.h"

struct programmer {
    struct modem *modem;
    const struct scenario *scenario;
    struct nand *nand;
    struct front *front;

    bool is_9x07;
    bool knows_skip_bad_block, knows_last_sector, knows_pages_per_block, knows_digest, knows_vendor,
        auto_erase;

    bool configured, zlp_aware, nand_selected, opened;
    char memory_name[16];
    size_t payload;
    unsigned configures, commands;

    char *out; /* what is to be sent */
    size_t out_length, out_capacity;
    char *late; /* logs that come after the response, each NUL-terminated */
    size_t late_length, late_capacity;
    bool hold;     /* the response waits for the raw data behind it */
    bool answered; /* the last response of this command is out */
    uint8_t *buffer;
};

int programmer_run(struct modem *m, bool banner);

/* ---- speak.c ---- */
int speak_log(struct programmer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A response; attributes stand in place of rawmode if not "". */
int speak_response(struct programmer *p, bool ack, bool raw, const char *attributes);

/* The end of a command that failed. */
int speak_nak(struct programmer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sends what has been glued together so far. */
int speak_flush(struct programmer *p);

/* Raw data IN; last: nothing follows. */
int speak_raw(struct programmer *p, const uint8_t *data, size_t length, bool last);
int speak_big_log(struct programmer *p, size_t length);
void speak_free(struct programmer *p);

/* ---- storage.c ---- */

/* The numbers of a storage tag, each with whether it could be read. */
struct range {
    bool has_sector_size, has_count, has_start, has_last, skip_bad_block;
    uint32_t sector_size, count, start, last;
    uint32_t first_block, last_block; /* the window that this command may walk */
};

void range_parse(const struct programmer *p, const struct tag *t, struct range *r);

/* Opens the storage and checks the range. 0 fine; 1 it was refused and said so (the handler returns *ret); */
int range_check(struct programmer *p, const struct tag *t, struct range *r, int *ret);

/* The next good block at or after this one inside the window, or UINT32_MAX. */
uint32_t range_good_block(const struct programmer *p, const struct range *r, uint32_t block);

/* Opens the storage: its logs; false: it does not open, and the NAK was sent (*ret). */
bool storage_open(struct programmer *p, int *ret);

int storage_read(struct programmer *p, const struct tag *t);
int storage_digest(struct programmer *p, const struct tag *t);
int storage_info(struct programmer *p, const struct tag *t);

int storage_erase(struct programmer *p, const struct tag *t);
int storage_program(struct programmer *p, const struct tag *t);

/* ---- vendor.c ---- */
int vendor_check(struct programmer *p, const struct tag *t);
