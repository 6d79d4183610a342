/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"

enum { COPY_BYTES = 1 << 16 };

static int say(const char *file, int number)
{
    fprintf(stderr, "qdlctl: %s: %s\n", file, strerror(number));
    return EXIT_OTHER;
}

static bool is_stdout(const char *file)
{
    return strcmp(file, "-") == 0;
}

int copy_check(const char *file)
{
    if (is_stdout(file) && options.json != JSON_OFF)
        return usage_error("a backup on standard output and --json do not go together");
    if (is_stdout(file) && isatty(STDOUT_FILENO))
        return usage_error("a backup is no text for a terminal; name a file");
    if (!is_stdout(file) && access(file, F_OK) == 0)
        return say(file, EEXIST);
    return EXIT_OK;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR)
            return -errno;
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int copy(int from, int to)
{
    static char buffer[COPY_BYTES];
    off_t at = 0;
    for (;;) {
        ssize_t n = pread(from, buffer, sizeof(buffer), at);
        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        int r = n < 0 ? -errno : write_all(to, buffer, (size_t)n);
        if (r < 0)
            return r;
        at += n;
    }
}

static int copy_to_file(int from, const char *file)
{
    int to = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return say(file, errno);
    int r = copy(from, to);
    if (r == 0 && fsync(to) < 0)
        r = -errno;
    if (close(to) < 0 && r == 0)
        r = -errno;
    if (r == 0)
        return EXIT_OK;
    unlink(file);
    return say(file, -r);
}

static int open_backup(sd_bus *bus, const char *path, sd_bus_message **ret)
{
    sd_bus_message *m = NULL;
    if (!options.format)
        return bus_call_simple(bus, path, "org.qdld1.Backup", "Open", ret);
    int r = bus_new_call(bus, &m, path, "org.qdld1.Backup", "Open");
    if (r >= 0)
        r = sd_bus_message_append(m, "a{sv}", 1, "format", "s", options.format);
    return bus_call(bus, r, m, ret);
}

int copy_backup(sd_bus *bus, const char *path, const char *file)
{
    sd_bus_message *reply = NULL;
    int from;
    int code = open_backup(bus, path, &reply);
    if (code != EXIT_OK)
        return code;
    int r = sd_bus_message_read(reply, "h", &from);
    if (r < 0)
        code = bus_report(NULL, r);
    else if (!is_stdout(file))
        code = copy_to_file(from, file);
    else if ((r = copy(from, STDOUT_FILENO)) < 0)
        code = say("standard output", -r);
    sd_bus_message_unref(reply);
    return code;
}
