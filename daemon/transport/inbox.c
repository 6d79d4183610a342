/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transport/inbox.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

struct inbox_chunk {
    struct inbox_chunk *next;
    size_t size, taken;
    bool boundary;
    uint8_t data[];
};

int inbox_push(struct inbox *b, const void *data, size_t size, bool boundary)
{
    struct inbox_chunk *c = malloc(sizeof(*c) + size);
    if (!c)
        return -ENOMEM;
    *c = (struct inbox_chunk){.size = size, .boundary = boundary};
    if (size > 0)
        memcpy(c->data, data, size);
    if (b->last)
        b->last->next = c;
    else
        b->first = c;
    b->last = c;
    b->held += sizeof(*c) + size;
    return 0;
}

bool inbox_is_empty(const struct inbox *b)
{
    return !b->first;
}

bool inbox_is_full(const struct inbox *b)
{
    return b->held >= INBOX_FULL;
}

static void drop_first(struct inbox *b)
{
    struct inbox_chunk *c = b->first;
    b->held -= sizeof(*c) + c->size;
    b->first = c->next;
    if (!b->first)
        b->last = NULL;
    free(c);
}

size_t inbox_pop(struct inbox *b, void *buffer, size_t size, bool *ret_boundary)
{
    struct inbox_chunk *c = b->first;
    size_t n = MIN_OF(size, c->size - c->taken);
    if (n > 0)
        memcpy(buffer, c->data + c->taken, n);
    c->taken += n;
    bool whole = c->taken == c->size;
    *ret_boundary = whole && c->boundary;
    if (whole)
        drop_first(b);
    return n;
}

void inbox_clear(struct inbox *b)
{
    while (b->first)
        drop_first(b);
}
