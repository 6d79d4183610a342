/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What was received and not read yet, in order and with the ends of transfers. Bounded: a modem that talks
 * for ever fills it and then has to wait, as it would in front of a host that posts no IN transfer. Part of
 * the transport floor, not for those above.
 */

#include <stdbool.h>
#include <stddef.h>

enum {
    /* Bytes, bookkeeping included, from which on nothing more is asked for; what is posted already still
       fits. Enough for the logs that a programmer utters while one payload waits, small against a worker's 24
       MiB. */
    INBOX_FULL = 512 * 1024,
};

struct inbox_chunk;

struct inbox {
    struct inbox_chunk *first, *last;
    size_t held; /* bytes, bookkeeping included */
};

/* Appends a copy. boundary: a transfer ended with the last byte (size 0: a ZLP). -ENOMEM. */
int inbox_push(struct inbox *b, const void *data, size_t size, bool boundary);
bool inbox_is_empty(const struct inbox *b);
bool inbox_is_full(const struct inbox *b);
/* Moves up to `size` bytes of the first chunk out, never more than one chunk. The inbox must not be empty. */
size_t inbox_pop(struct inbox *b, void *buffer, size_t size, bool *ret_boundary);
void inbox_clear(struct inbox *b);
