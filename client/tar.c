/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qdlctl.h"

enum { COPY_SIZE = 64 * 1024, COMPLAINTS_MAX = 8 };

static FTS *open_tree(char *path)
{
    char *roots[] = {path, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!tree)
        fprintf(stderr, "qdlctl: %s: %s\n", path, strerror(errno));
    return tree;
}

/* -EINVAL, said, for what is neither a file nor a folder, or cannot be read. */
static int check_kind(const FTSENT *file)
{
    switch (file->fts_info) {
    case FTS_D:
    case FTS_DP:
    case FTS_F:
        return 0;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        fprintf(stderr, "qdlctl: %s: %s\n", file->fts_path, strerror(file->fts_errno));
        return -EINVAL;
    case FTS_SL:
    case FTS_SLNONE:
        fprintf(stderr, "qdlctl: %s: a symbolic link; a package has only files and folders\n",
                file->fts_path);
        return -EINVAL;
    default:
        fprintf(stderr, "qdlctl: %s: not a regular file; a package has only files and folders\n",
                file->fts_path);
        return -EINVAL;
    }
}

int tar_check(char *path)
{
    size_t entries = 0, files = 0, bad = 0;
    FTS *tree = open_tree(path);
    if (!tree)
        return EXIT_OTHER;
    for (FTSENT *file; entries <= TAR_ENTRIES_MAX && bad < COMPLAINTS_MAX && (file = fts_read(tree));) {
        if (file->fts_info == FTS_DP)
            continue;
        entries++;
        files += file->fts_info == FTS_F;
        if (check_kind(file) < 0) {
            bad++;
        } else if (file->fts_info == FTS_F && access(file->fts_accpath, R_OK) < 0) {
            fprintf(stderr, "qdlctl: %s: %s\n", file->fts_path, strerror(errno));
            bad++;
        }
    }
    fts_close(tree);
    if (entries > TAR_ENTRIES_MAX)
        fprintf(stderr, "qdlctl: %s has more than %d files and folders; is it a package?\n", path,
                TAR_ENTRIES_MAX);
    else if (!bad && !files)
        fprintf(stderr, "qdlctl: %s has no files; expected a package (md5.txt, update/...)\n", path);
    return bad || !files || entries > TAR_ENTRIES_MAX ? EXIT_OTHER : EXIT_OK;
}

static int copy_file(struct archive *a, const FTSENT *file)
{
    static char chunk[COPY_SIZE];
    int fd = open(file->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    off_t left = file->fts_statp->st_size;
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = read(fd, chunk, sizeof(chunk))) > 0) {
        left -= n;
        if (left < 0)
            r = -ESTALE; /* it grows under our hands; the header is out already */
        else if (archive_write_data(a, chunk, (size_t)n) < 0)
            r = -EPIPE;
    }
    if (r == 0 && n < 0)
        r = -errno;
    else if (r == 0 && left > 0)
        r = -ESTALE;
    close(fd);
    return r;
}

static int add_member(struct archive *a, struct archive_entry *entry, const FTSENT *file, size_t skip)
{
    if (check_kind(file) < 0)
        return -EINVAL;
    if (file->fts_info != FTS_F)
        return 0;
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, file->fts_path + skip);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, file->fts_statp->st_size);
    /* A warning is only about a name that is not UTF-8; the service judges names. */
    int r = archive_write_header(a, entry) < ARCHIVE_WARN ? -EPIPE : copy_file(a, file);
    if (r == -ESTALE)
        fprintf(stderr, "qdlctl: %s: changed while it was read\n", file->fts_path);
    else if (r < 0 && r != -EPIPE)
        fprintf(stderr, "qdlctl: %s: %s\n", file->fts_path, strerror(-r));
    return r;
}

int tar_write(char *path, int fd)
{
    char *slash = strrchr(path, '/');
    size_t skip = slash ? (size_t)(slash + 1 - path) : 0;
    int r = -ENOMEM;
    FTS *tree = open_tree(path);
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    if (tree && a && entry && archive_write_set_format_pax_restricted(a) >= ARCHIVE_WARN &&
        archive_write_open_fd(a, fd) >= ARCHIVE_WARN)
        r = 0;
    for (FTSENT *file; r == 0 && (file = fts_read(tree));)
        r = add_member(a, entry, file, skip);
    /* Left without its end, the service sees a truncated archive and refuses it. */
    if (r == 0)
        archive_write_close(a);
    if (tree)
        fts_close(tree);
    archive_entry_free(entry);
    return r == 0 || r == -EPIPE ? EXIT_OK : EXIT_OTHER;
}
