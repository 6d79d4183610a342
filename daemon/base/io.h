/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whole reads and writes, and sealed memfds. No function here moves a file offset that it was not given. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exactly `size` bytes; -EIO at a premature end of file, else the errno. */
int io_pread_full(int fd, void *buffer, size_t size, uint64_t offset);
int io_pwrite_full(int fd, const void *buffer, size_t size, uint64_t offset);
int io_write_full(int fd, const void *buffer, size_t size);
/* True if a negative errno of a write means that there is no room: the disk, a quota, a limit of file size.
 */
bool io_is_full(int error);

/* The whole of a file (its size by reading, at most `max` bytes: -EFBIG), NUL behind it. *ret is malloc'ed.
 */
int io_read_file(int fd, size_t max, char **ret, size_t *ret_size);

/* A memfd with this content, sealed against every change; the caller owns it. */
int io_memfd_sealed(const char *name, const void *data, size_t size);
/* The same in two steps, for a process that cannot make one any more when it knows what to put in: an empty
 * memfd that can hold `room` bytes and never more, and its content, sealed behind that. -EFBIG. */
int io_memfd_room(const char *name, size_t room);
int io_memfd_fill(int fd, const void *data, size_t size);
/* 0 if fd is a memfd sealed as above and at most `max` bytes long; -EPERM, -EFBIG. */
int io_memfd_check(int fd, size_t max);
