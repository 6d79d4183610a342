/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Automatic release of what a scope owns. A variable marked _cleanup_(f) is passed to f by address when
 * its scope ends; steal_ptr() and steal_fd() hand ownership on. All destructors of the project take NULL.
 */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)       __attribute__((cleanup(f)))
#define _printf_(a, b)     __attribute__((format(printf, a, b)))
#define _unused_           __attribute__((unused))
#define ARRAY_SIZE(a)      (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b)       ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)       ((a) > (b) ? (a) : (b))
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))

/* Defines static inline NAMEp() that calls func() on a pointer variable, for use with _cleanup_. */
#define DEFINE_CLEANUP(type, func)                                                                           \
    static inline void func##p(type *p)                                                                      \
    {                                                                                                        \
        if (*p)                                                                                              \
            func(*p);                                                                                        \
    }

static inline void cleanup_freep(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_fclosep(FILE **f)
{
    if (*f)
        fclose(*f);
}

#define _cleanup_free_   _cleanup_(cleanup_freep)
#define _cleanup_close_  _cleanup_(cleanup_closep)
#define _cleanup_fclose_ _cleanup_(cleanup_fclosep)

#define steal_ptr(p)                                                                                         \
    ({                                                                                                       \
        __typeof__(p) *_pp = &(p);                                                                           \
        __typeof__(p) _v = *_pp;                                                                             \
        *_pp = NULL;                                                                                         \
        _v;                                                                                                  \
    })

static inline int steal_fd(int *fd)
{
    int v = *fd;
    *fd = -1;
    return v;
}

/* Closes fd if it is one and returns -1, so that "fd = close_fd(fd)" leaves nothing dangling. */
static inline int close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
    return -1;
}
