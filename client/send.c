/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "send.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "options.h"
#include "output.h"
#include "tar.h"

enum { LABEL_SIZE = 256 }; /* 255 bytes */

struct sender {
    int fd;      /* for the call; close after it */
    pid_t child; /* writes the tar of a directory; 0 for a file */
};

/*
 * The child's life. In a session of its own: a Ctrl-C that detaches us, or the end of the terminal, must not
 * cut the archive. And without our descriptors: our connection to the bus ends with us.
 */
static void send_tree(char *path, int fd)
{
    int null = open("/dev/null", O_RDWR);
    setsid();
    signal(SIGPIPE, SIG_IGN);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        _exit(EXIT_OTHER);
    /* Not before: the pipe or the null device may sit in a slot that is closed here. */
    if (fd != STDERR_FILENO + 1 && dup2(fd, STDERR_FILENO + 1) < 0)
        _exit(EXIT_OTHER);
    close_range(STDERR_FILENO + 2, ~0U, 0);
    _exit(tar_write(path, STDERR_FILENO + 1));
}

static int open_directory(const char *path, struct sender *ret)
{
    int fds[2];
    char *real = realpath(path, NULL);
    if (!real)
        return bus_report(NULL, -errno);
    int code = tar_check(real);
    if (code == EXIT_OK && pipe2(fds, O_CLOEXEC) < 0)
        code = bus_report(NULL, -errno);
    else if (code == EXIT_OK) {
        ret->child = fork();
        if (ret->child == 0)
            send_tree(real, fds[1]);
        close(fds[1]);
        ret->fd = fds[0];
        if (ret->child < 0)
            code = bus_report(NULL, -errno);
    }
    free(real);
    return code;
}

/* An exit code; says itself what was wrong. */
static int open_path(const char *path, struct sender *ret)
{
    struct stat st;
    *ret = (struct sender){.fd = -1};
    if (stat(path, &st) < 0) {
        int number = errno;
        fprintf(stderr, "qdlctl: %s: %s\n", path, strerror(number));
        return number == ENOENT || number == ENOTDIR ? EXIT_NO_SUCH : EXIT_OTHER;
    }
    if (S_ISDIR(st.st_mode))
        return open_directory(path, ret);
    ret->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (ret->fd >= 0)
        return EXIT_OK;
    fprintf(stderr, "qdlctl: %s: %s\n", path, strerror(errno));
    return EXIT_OTHER;
}

/* Closes, and waits for the child; EXIT_OTHER if it could not read the directory. */
static int done(struct sender *s)
{
    int status = 0;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    if (s->child > 0)
        waitpid(s->child, &status, 0);
    s->child = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK ? EXIT_OK : EXIT_OTHER;
}

/*
 * The bytes of a character that the service takes for no text, though it is UTF-8: a control (C1, the ends of
 * lines and paragraphs), or a mark that turns the direction of what is around it.
 */
static size_t odd_character(const unsigned char *p)
{
    if (p[0] == 0xc2 && p[1] < 0xa0)
        return 2;
    if (p[0] == 0xd8 && p[1] == 0x9c)
        return 2;
    bool general =
             p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae)),
         isolates = p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9;
    return general || isolates ? 3 : 0;
}

/* The name of the file or directory, made fit for the bus. */
static void default_label(const char *path, char *label)
{
    char *real = realpath(path, NULL);
    const char *from = real ? real : path, *slash = strrchr(from, '/');
    snprintf(label, LABEL_SIZE, "%s", slash && slash[1] ? slash + 1 : from);
    bool utf8 = options_is_utf8(label);
    for (unsigned char *p = (unsigned char *)label; *p; p++)
        if (*p < ' ' || *p == 0x7f || (*p >= 0x80 && !utf8))
            *p = '?';
        else if (utf8)
            for (size_t n = odd_character(p); n > 0; n--, p += n > 0)
                *p = '?';
    free(real);
}

static int start_firmware(sd_bus *bus, const char *path, int fd, char **ret_job)
{
    sd_bus_message *m = NULL;
    char label[LABEL_SIZE];
    default_label(path, label);
    agent_start();
    int r = bus_new_call(bus, &m, BUS_MANAGER, "org.qdld1.Manager", "ImportFirmware");
    if (r >= 0)
        r = sd_bus_message_append(m, "hs", fd, options.label ? options.label : label);
    /* Somebody flashes a shelf of modems: each command brings the package, and all get it. */
    if (r >= 0)
        r = options.sha256
                ? sd_bus_message_append(m, "a{sv}", 2, "queue", "b", 1, "sha256", "s", options.sha256)
                : sd_bus_message_append(m, "a{sv}", 1, "queue", "b", 1);
    return bus_call_job(bus, r, m, ret_job);
}

static int start_backup(sd_bus *bus, const char *path, int fd, char **ret_job)
{
    sd_bus_message *m = NULL;
    (void)path;
    agent_start();
    int r = bus_new_call(bus, &m, BUS_MANAGER, "org.qdld1.Manager", "ImportBackup");
    if (r >= 0)
        r = sd_bus_message_append(m, "h", fd);
    if (r >= 0)
        r = sd_bus_message_append(m, "a{sv}", 1, "queue", "b", 1);
    return bus_call_job(bus, r, m, ret_job);
}

/* What is sent, and how it is shown once it is there. */
struct import {
    int (*start)(sd_bus *bus, const char *path, int fd, char **ret_job);
    const char *interface, *field, *property;
};
static const struct import firmware_import = {start_firmware, "org.qdld1.Firmware", "Firmware", "Name"};
static const struct import backup_import = {start_backup, "org.qdld1.Backup", "Backup of", "Model"};

static void say_imported(sd_bus *bus, const struct import *import, const char *path)
{
    json_object *object;
    if (options.json != JSON_OFF || options.quiet ||
        bus_get_all(bus, path, import->interface, &object) != EXIT_OK)
        return;
    print_field(import->field, dict_string(object, import->property));
    print_field("Id", path_id(path));
    json_object_put(object);
}

static int send_file(sd_bus *bus, const struct import *import, const char *path, bool result_text,
                     char **ret_object)
{
    struct sender s;
    char *job_path = NULL;
    json_object *job = NULL;

    int code = open_path(path, &s);
    if (code != EXIT_OK)
        return code;
    code = import->start(bus, path, s.fd, &job_path);
    /* Our end is closed before the job is followed: if the service stops reading, the child must notice. */
    close(s.fd);
    s.fd = -1;
    if (code == EXIT_OK && options.no_wait && result_text)
        code = follow_or_leave(bus, job_path);
    else if (code == EXIT_OK)
        code = follow_job(bus, job_path, result_text, &job);
    /* Who detaches leaves the child at its work, too. */
    int sent = code == EXIT_DETACHED ? EXIT_OK : done(&s);
    if (code == EXIT_OK)
        code = sent;
    if (code == EXIT_OK && job)
        say_imported(bus, import, dict_string(job, "Object"));
    if (code == EXIT_OK && job && ret_object && !(*ret_object = strdup(dict_string(job, "Object"))))
        code = bus_report(NULL, -ENOMEM);
    json_object_put(job);
    free(job_path);
    return code;
}

int send_firmware(sd_bus *bus, const char *path, bool result_text, char **ret_firmware)
{
    return send_file(bus, &firmware_import, path, result_text, ret_firmware);
}

int send_backup(sd_bus *bus, const char *path, bool result_text, char **ret_backup)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return usage_error("%s is a directory; a backup is one file", path);
    return send_file(bus, &backup_import, path, result_text, ret_backup);
}
