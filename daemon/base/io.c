/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"

enum { READ_STEP = 64 * 1024 };
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int io_pread_full(int fd, void *buffer, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (n == 0)
            return -EIO;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

int io_pwrite_full(int fd, const void *buffer, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)buffer + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

int io_write_full(int fd, const void *buffer, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)buffer + done, size - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

bool io_is_full(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

int io_read_file(int fd, size_t max, char **ret, size_t *ret_size)
{
    _cleanup_free_ char *data = NULL;
    size_t size = 0;
    for (;;) {
        char *grown = realloc(data, size + READ_STEP + 1);
        if (!grown)
            return -ENOMEM;
        data = grown;
        ssize_t n = pread(fd, data + size, READ_STEP, (off_t)size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        size += (size_t)n;
        if (size > max)
            return -EFBIG;
    }
    data[size] = '\0';
    *ret = steal_ptr(data);
    if (ret_size)
        *ret_size = size;
    return 0;
}

int io_memfd_sealed(const char *name, const void *data, size_t size)
{
    _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int r = io_pwrite_full(fd, data, size, 0);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, ALL_SEALS) < 0)
        return -errno;
    return steal_fd(&fd);
}

int io_memfd_room(const char *name, size_t room)
{
    _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)room) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0)
        return -errno;
    return steal_fd(&fd);
}

int io_memfd_fill(int fd, const void *data, size_t size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (size > (uint64_t)st.st_size)
        return -EFBIG;
    int r = io_pwrite_full(fd, data, size, 0);
    if (r < 0)
        return r;
    return ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, ALL_SEALS) < 0 ? -errno : 0;
}

int io_memfd_check(int fd, size_t max)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & ALL_SEALS) != ALL_SEALS)
        return -EPERM;
    if (fstat(fd, &st) < 0)
        return -errno;
    return (uint64_t)st.st_size > max ? -EFBIG : 0;
}
