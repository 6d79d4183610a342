/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * LD_PRELOAD: what of qdld comes to the disk. The inode of all that was synced is added to the file SYNCED.
 * The file SYNC_WISH says what is to happen, once: "no-fork"; "die", the service before anything is synced;
 * or how the name of the file ends whose sync fails, as the kernel does it: the next one says that all is
 * well.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_wish(const char *wish)
{
    char text[64] = "";
    const char *path = getenv("SYNC_WISH");
    int fd =
        path && strcmp(program_invocation_short_name, "qdld") == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    size_t length = strlen(wish);
    int is = n > 0 && (size_t)n <= length && strcmp(wish + length - n, text) == 0;
    if (is)
        unlink(path);
    return is;
}

pid_t fork(void)
{
    pid_t (*next)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
    if (!is_wish("no-fork"))
        return next();
    errno = EAGAIN;
    return -1;
}

int fsync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    char link[64], name[4096] = "", line[32];
    struct stat st;
    if (is_wish("die")) {
        kill(getppid(), SIGKILL);
        _exit(EXIT_FAILURE);
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if (readlink(link, name, sizeof(name) - 1) > 0 && is_wish(name)) {
        errno = EIO;
        return -1;
    }
    int r = next(fd);
    const char *path = getenv("SYNCED");
    int synced = r == 0 && path && fstat(fd, &st) == 0 ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (synced >= 0 &&
        write(synced, line, (size_t)snprintf(line, sizeof(line), "%lu\n", (unsigned long)st.st_ino)) < 0)
        r = -1;
    if (synced >= 0)
        close(synced);
    return r;
}
