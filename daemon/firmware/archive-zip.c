/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libarchive reads the whole directory of a zip into memory before its first member is known. So the number
 * that the directory's end claims is looked at first; a zip that lies here meets the same limit member by
 * member, and the worker's memory limit before that.
 */

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "firmware/archive-inner.h"

/* The end record: signature, four u16 (disks and entries), u32 size, u32 offset, u16 length of the comment
 * behind it. */
enum { END_SIZE = 22, END_ENTRIES = 10, END_COMMENT = 20, COMMENT_MAX = 65535 };

static const uint8_t END_MAGIC[4] = {'P', 'K', 5, 6};

static uint16_t get_u16(const uint8_t *p)
{
    uint16_t value;
    memcpy(&value, p, sizeof(value));
    return le16toh(value);
}

int archive_check_zip(const struct archive_source *s, uint64_t max_entries, struct error *e)
{
    size_t size = (size_t)MIN_OF(s->size, (uint64_t)(END_SIZE + COMMENT_MAX));
    _cleanup_free_ uint8_t *tail = malloc(size + 1);
    if (!tail)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (io_pread_full(s->fd, tail, size, s->base + s->size - size) < 0)
        return error_set(e, ERROR_FAILED, "The archive cannot be read again");
    for (size_t at = size < END_SIZE ? 0 : size - END_SIZE + 1; at-- > 0;) {
        if (memcmp(tail + at, END_MAGIC, sizeof(END_MAGIC)) != 0 ||
            at + END_SIZE + get_u16(tail + at + END_COMMENT) > size)
            continue;
        /* 65535 stands for "more than fit here" (zip64). */
        if (get_u16(tail + at + END_ENTRIES) > max_entries)
            return error_set(e, ERROR_TOO_LARGE, "The archive has more than %llu members",
                             (unsigned long long)max_entries);
        return 0;
    }
    return 0; /* cut: libarchive says so */
}
