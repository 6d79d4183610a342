/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Preloaded into one process: from its Nth change of a regular file or of a directory on (FULL_AT) the disk
 * is full. 1 is the first; 0 or nothing: there is always room. FULL_COMM: only in the program of this name.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long left = -1; /* changes that succeed; -1: all of them */

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FULL_AT"), *comm = getenv("FULL_COMM");
    if (at && atol(at) > 0 && (!comm || strcmp(comm, program_invocation_short_name) == 0))
        left = atol(at) - 1;
}

static int is_full(void)
{
    if (left < 0)
        return 0;
    if (left > 0) {
        left--;
        return 0;
    }
    errno = ENOSPC;
    return 1;
}

static int is_file(int fd)
{
    struct stat st;
    return left >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* The next one of this name. */
#define REAL(name)                                                                                           \
    static __typeof__(&name) real;                                                                           \
    if (!real)                                                                                               \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    return is_file(fd) && is_full() ? -1 : real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(pwrite);
    return is_file(fd) && is_full() ? -1 : real(fd, data, size, at);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return is_file(fd) && is_full() ? -1 : real(fd);
}

int fsync(int fd)
{
    REAL(fsync);
    return is_full() ? -1 : real(fd);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    REAL(linkat);
    return is_full() ? -1 : real(from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new)
{
    REAL(renameat);
    return is_full() ? -1 : real(from, old, to, new);
}
