/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "send.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus.h"
#include "follow.h"

enum { COPY_SIZE = 64 * 1024 };

static int copy_file(struct archive *a, const char *path)
{
    static char chunk[COPY_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0)
        if (archive_write_data(a, chunk, (size_t)n) < 0) {
            n = -1;
            errno = EPIPE;
            break;
        }
    int r = n < 0 ? -errno : 0;
    close(fd);
    return r;
}

/* One member; what is neither a file nor a directory does not belong in a package. */
static int add_member(struct archive *a, struct archive_entry *entry, const FTSENT *file, size_t skip)
{
    if (file->fts_info == FTS_D || file->fts_info == FTS_DP)
        return 0;
    if (file->fts_info != FTS_F) {
        fprintf(stderr, "qdlctl: %s: %s\n", file->fts_path,
                file->fts_errno ? strerror(file->fts_errno)
                                : "not a regular file, a package has only files and folders");
        return -EINVAL;
    }
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, file->fts_path + skip);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, file->fts_statp->st_size);
    int r = archive_write_header(a, entry) < ARCHIVE_OK ? -EPIPE : copy_file(a, file->fts_accpath);
    /* The service gave up reading: it says why, we need not. */
    if (r < 0 && r != -EPIPE)
        fprintf(stderr, "qdlctl: %s: %s\n", file->fts_path, strerror(-r));
    return r;
}

/* The child's life: the tree at `path` as tar into fd. The top directory keeps its name: it may be the
 * version. */
static int write_tar(char *path, int fd)
{
    char *roots[] = {path, NULL};
    char *slash = strrchr(path, '/');
    size_t skip = slash ? (size_t)(slash + 1 - path) : 0;
    signal(SIGPIPE, SIG_IGN);

    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!a || !entry || !tree || archive_write_set_format_pax_restricted(a) < ARCHIVE_OK ||
        archive_write_open_fd(a, fd) < ARCHIVE_OK)
        return EXIT_OTHER;
    int r = 0;
    for (FTSENT *file; r == 0 && (file = fts_read(tree));)
        r = add_member(a, entry, file, skip);
    fts_close(tree);
    archive_entry_free(entry);
    /* Left without its end, the service sees a truncated archive and refuses it. */
    if (r == 0 && archive_write_close(a) < ARCHIVE_OK)
        r = -EPIPE;
    return r < 0 ? EXIT_OTHER : EXIT_OK;
}

int send_open(const char *path, struct sender *ret)
{
    struct stat st;
    *ret = (struct sender){.fd = -1};
    char *real = realpath(path, NULL);
    if (!real || stat(real, &st) < 0) {
        fprintf(stderr, "qdlctl: %s: %s\n", path, strerror(errno));
        free(real);
        return EXIT_NO_SUCH;
    }
    int fds[2], code = EXIT_OK;
    if (!S_ISDIR(st.st_mode)) {
        ret->fd = open(real, O_RDONLY | O_CLOEXEC);
        if (ret->fd < 0) {
            fprintf(stderr, "qdlctl: %s: %s\n", path, strerror(errno));
            code = EXIT_OTHER;
        }
    } else if (pipe2(fds, O_CLOEXEC) < 0) {
        fprintf(stderr, "qdlctl: %s\n", strerror(errno));
        code = EXIT_OTHER;
    } else {
        ret->child = fork();
        if (ret->child == 0) {
            close(fds[0]);
            _exit(write_tar(real, fds[1]));
        }
        close(fds[1]);
        ret->fd = fds[0];
    }
    free(real);
    return code;
}

int send_done(struct sender *s)
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

int send_firmware(sd_bus *bus, const char *path, bool result_text, char **ret_firmware)
{
    struct sender s;
    sd_bus_message *m = NULL;
    char *job_path = NULL;
    json_object *job = NULL;

    int code = send_open(path, &s);
    if (code != EXIT_OK)
        return code;
    const char *slash = strrchr(path, '/');
    const char *label = options.label ? options.label : slash && slash[1] ? slash + 1 : path;
    int r = bus_new_call(bus, &m, BUS_MANAGER, "org.qdld1.Manager", "ImportFirmware");
    if (r >= 0)
        r = sd_bus_message_append(m, "hs", s.fd, label);
    if (r >= 0)
        r = options.sha256 ? sd_bus_message_append(m, "a{sv}", 1, "sha256", "s", options.sha256)
                           : bus_append_no_options(m);
    code = r < 0 ? bus_report(NULL, r) : bus_call_job(bus, m, &job_path);
    /* Our end is closed before the job is followed: if the service stops reading, the child must notice. */
    if (s.fd >= 0) {
        close(s.fd);
        s.fd = -1;
    }
    if (code == EXIT_OK && options.no_wait && result_text)
        code = follow_or_leave(bus, job_path);
    else if (code == EXIT_OK)
        code = follow_job(bus, job_path, result_text, &job);
    int sent = code == EXIT_DETACHED ? EXIT_OK : send_done(&s);
    if (code == EXIT_OK && sent != EXIT_OK)
        code = sent;
    if (code == EXIT_OK && job && ret_firmware)
        *ret_firmware = strdup(dict_string(job, "Object"));
    json_object_put(job);
    free(job_path);
    return code;
}
