/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/text.h"

#define DEFAULT_PATH "/var/lib/qdld"

static int open_directory(int parent, const char *name, int *ret)
{
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    *ret = fd;
    return 0;
}

int store_open(struct store *s, const char *path, struct error *e)
{
    if (!path)
        path = getenv("STATE_DIRECTORY");
    if (!path || !*path)
        path = DEFAULT_PATH;
    *s = (struct store){-1, -1, -1, -1};

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set(e, ERROR_FAILED, "The state directory %s cannot be made: %s.", path,
                         strerror(errno));
    _cleanup_close_ int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_set(e, ERROR_FAILED, "The state directory %s cannot be opened: %s.", path,
                         strerror(errno));
    int r = open_directory(root, "firmware", &s->fd_firmware);
    if (r == 0)
        r = open_directory(root, "backups", &s->fd_backups);
    if (r == 0)
        r = open_directory(root, "jobs", &s->fd_jobs);
    if (r == 0)
        r = open_directory(root, "modems", &s->fd_modems);
    if (r < 0) {
        store_close(s);
        return error_set(e, ERROR_FAILED, "The state directory %s cannot be filled: %s.", path, strerror(-r));
    }
    /* Before anything is read: a second one would take the first one's running jobs for interrupted. */
    if (flock(s->fd_jobs, LOCK_EX | LOCK_NB) < 0) {
        store_close(s);
        return error_set(e, ERROR_FAILED, "The state directory %s is in use by another qdld.", path);
    }
    return 0;
}

void store_close(struct store *s)
{
    s->fd_firmware = close_fd(s->fd_firmware);
    s->fd_backups = close_fd(s->fd_backups);
    s->fd_jobs = close_fd(s->fd_jobs);
    s->fd_modems = close_fd(s->fd_modems);
}

int store_tmpfile(int dirfd)
{
    int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

int store_link(int dirfd, int fd, const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int store_replace(int dirfd, int fd, const char *name)
{
    /* With the suffix of the name, so that a stray one is swept away as any other. */
    _cleanup_free_ char *temporary = text_printf("new-%s", name);
    if (!temporary)
        return -ENOMEM;
    (void)unlinkat(dirfd, temporary, 0);
    int r = store_link(dirfd, fd, temporary);
    if (r == 0 && renameat(dirfd, temporary, dirfd, name) < 0) {
        r = -errno;
        unlinkat(dirfd, temporary, 0);
    }
    return r;
}

int store_open_file(int dirfd, const char *name, int flags)
{
    int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

int store_write(int dirfd, const char *name, const char *data, size_t size)
{
    _cleanup_free_ char *temporary = text_printf("%s.new", name);
    if (!temporary)
        return -ENOMEM;
    _cleanup_close_ int fd = store_open_file(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    int r = io_write_full(fd, data, size);
    if (r == 0 && renameat(dirfd, temporary, dirfd, name) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(dirfd, temporary, 0);
    return r;
}

int store_remove(int dirfd, const char *name)
{
    return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
}

int store_list(int dirfd, const char *suffix, int (*on_name)(void *userdata, const char *name),
               void *userdata)
{
    struct dirent **names = NULL;
    int n = scandirat(dirfd, ".", &names, NULL, alphasort), r = 0;
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        struct stat st;
        if (r == 0 && text_ends_with(names[i]->d_name, suffix) &&
            fstatat(dirfd, names[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            r = on_name(userdata, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return r;
}

struct usage {
    int dirfd;
    uint64_t bytes;
};

static int add_size(void *userdata, const char *name)
{
    struct usage *u = userdata;
    struct stat st;
    if (fstatat(u->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        u->bytes += (uint64_t)st.st_size;
    return 0;
}

uint64_t store_used(int dirfd)
{
    struct usage u = {.dirfd = dirfd};
    store_list(dirfd, "", add_size, &u);
    return u.bytes;
}

int store_check_space(const struct store *s, const struct config *c, uint64_t bytes, uint64_t unnamed,
                      struct error *e)
{
    struct statvfs v;
    if (fstatvfs(s->fd_firmware, &v) < 0)
        return error_set(e, ERROR_NO_SPACE, "The space left in the firmware library cannot be told: %s.",
                         strerror(errno));
    uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    uint64_t used = store_used(s->fd_firmware) + unnamed;
    if (bytes > c->library_bytes_max || used > c->library_bytes_max - bytes)
        return error_set(e, ERROR_NO_SPACE,
                         "The firmware library holds %llu MiB of at most %llu MiB; remove a package first.",
                         (unsigned long long)(used >> 20), (unsigned long long)(c->library_bytes_max >> 20));
    if (free_bytes < c->reserve_free || free_bytes - c->reserve_free < bytes)
        return error_set(e, ERROR_NO_SPACE,
                         "%llu MiB are needed, but of the %llu MiB free %llu MiB are kept for backups.",
                         (unsigned long long)(bytes >> 20), (unsigned long long)(free_bytes >> 20),
                         (unsigned long long)(c->reserve_free >> 20));
    return 0;
}
