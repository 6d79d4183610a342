/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Sahara's memory debug mode: a modem that has crashed lends out its memory until it is reset
 * (reference/edl.md 1.4). It tells a table of regions, of 32 or 64 bit, and answers reads with raw bytes.
 * The table is the modem's word, and it has crashed: counts, lengths and names are bounded here.
 */

#include "protocol/sahara.h"

enum {
    SAHARA_TABLE_MAX = 64 * 1024, /* bytes; as much as others take (1.4) */
    SAHARA_REGIONS_MAX = 256,
    SAHARA_REGION_NAME_SIZE = 32,
    SAHARA_REGION_WORDS_SIZE = 24,
};
/* Of all regions together: more memory than any of these modems has. */
#define SAHARA_MEMORY_MAX (UINT64_C(4) << 30)

struct sahara_region {
    uint64_t address, length;           /* length never 0, the sum does not wrap */
    char name[SAHARA_REGION_NAME_SIZE]; /* a file name: letters, digits, "._-", no dot in front, told apart */
    char description[SAHARA_REGION_WORDS_SIZE]; /* text_clean() */
};

struct sahara_memory {
    bool wide; /* 64 bit */
    struct sahara_region *regions;
    size_t n_regions;
    unsigned left_out; /* entries of the table that are empty, wrap around, or go beyond the bounds */
};
void sahara_memory_done(struct sahara_memory *m);

/* Answers *hello with mode 2 and reads the table. SaharaFailed, Timeout, ModemGone. */
int sahara_memory_open(struct transport *t, const struct sahara_hello *hello, struct sahara_memory *ret,
                       struct error *e);
/*
 * The bytes of one region into `sink`, in order; a sink's negative errno ends it. SaharaFailed: the modem
 * refuses some of it (the next region can be asked for all the same).
 */
int sahara_memory_read(struct transport *t, const struct sahara_memory *m, const struct sahara_region *region,
                       int (*sink)(void *userdata, const void *data, size_t size, struct error *e),
                       void *userdata, struct error *e);
