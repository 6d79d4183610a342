/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Open files, and files as a whole. */

#include "diag-efs.h"

#include <string.h>

#include "md5.h"
#include "trace.h"

enum open_flag {
    OPEN_ACCESS = 03,
    OPEN_CREATE = 0100,
    OPEN_EXCLUSIVE = 0200,
    OPEN_TRUNCATE = 01000,
    OPEN_APPEND = 02000,
    OPEN_ITEM = 01000000,
    OPEN_AUTODIR = 02000000,
};

enum {
    PERMISSIONS = 0777,
    READ_DATA = 20,
    WRITE_DATA = 12,
    PUT_DATA = 14,
    PUT_MAX = 6144,
    GET_MAX = 4096,
    MD5_ANSWER = 26,
    NO_FILE = -1
};

/* Makes the file that these flags ask for, where they do; *ret_error says why not. */
static void prepare(struct diag *d, const char *path, uint32_t flags, uint32_t mode, int *ret_error)
{
    struct efs_node *n = diag_efs_lookup(d, path, ret_error);
    uint16_t type = flags & OPEN_ITEM ? EFS_ITEM : EFS_FILE;
    bool writes = flags & OPEN_ACCESS;
    const char *refused = d->scenario->efs_refuse;

    if (writes && *refused && strncmp(path, refused, strlen(refused)) == 0) {
        *ret_error = (int)d->scenario->efs_refuse_errno;
        return;
    }
    if (n && efs_is_directory(n))
        *ret_error = EFS_EISDIR;
    else if (n && flags & OPEN_CREATE && flags & OPEN_EXCLUSIVE)
        *ret_error = EFS_EEXIST;
    else if (n && writes && flags & OPEN_TRUNCATE)
        *ret_error = efs_create(&d->efs, n->path, n->mode, false);
    else if (*ret_error == EFS_ENOENT && flags & OPEN_CREATE)
        *ret_error = efs_create(&d->efs, path, (uint16_t)(type | (mode & PERMISSIONS)), flags & OPEN_AUTODIR);
}

int diag_efs_open(struct diag *d)
{
    uint32_t flags = diag_u32(d, EFS_HEAD), mode = diag_u32(d, 8);
    bool changes = flags & (OPEN_ACCESS | OPEN_CREATE | OPEN_TRUNCATE);
    uint32_t fd = 0;
    int error;

    if (!diag_efs_path(d, 12, &error) || !diag_may(d, changes))
        return 0;
    if (flags & OPEN_ITEM && flags & OPEN_AUTODIR && d->scenario->efs_open_autodir == AUTODIR_CRASH) {
        violation("EFS open with item file and auto directory");
        return MODE_CRASH;
    }
    while (fd < DIAG_FILES_MAX && d->files[fd].open)
        fd++;
    if (error == 0 && fd == DIAG_FILES_MAX)
        error = EFS_TOO_MANY_FILES;
    if (error == 0)
        prepare(d, d->path, flags, mode, &error);
    trace("diag efs open %s flags=0%o errno=%d", d->path, flags, error);
    if (error == 0) {
        d->files[fd] = (struct diag_file){.open = true, .flags = flags};
        memcpy(d->files[fd].path, d->path, sizeof(d->path));
    }
    diag_efs_result(d, 12, 8, error);
    diag_put32(d, 4, error ? (uint32_t)NO_FILE : fd);
    return 0;
}

static struct diag_file *find(struct diag *d, uint32_t fd)
{
    return fd < DIAG_FILES_MAX && d->files[fd].open ? &d->files[fd] : NULL;
}

struct efs_node *diag_efs_open_node(struct diag *d, uint32_t fd)
{
    struct diag_file *f = find(d, fd);
    int error;

    return f ? diag_efs_lookup(d, f->path, &error) : NULL;
}

int diag_efs_close(struct diag *d)
{
    struct diag_file *f = find(d, diag_u32(d, 4));

    if (!diag_has(d, 8))
        return 0;
    if (f)
        f->open = false;
    return diag_efs_result(d, 8, 4, f ? 0 : EFS_EBADF);
}

int diag_efs_read(struct diag *d)
{
    uint32_t fd = diag_u32(d, 4), wanted = diag_u32(d, 8), offset = diag_u32(d, 12);
    struct efs_node *n = diag_efs_open_node(d, fd);
    size_t got = 0;

    if (!diag_has(d, 16))
        return 0;
    if (wanted > (uint64_t)d->scenario->efs_chunk)
        wanted = (uint32_t)d->scenario->efs_chunk;
    if (n && offset < n->size)
        got = n->size - offset < wanted ? n->size - offset : wanted;
    diag_efs_result(d, READ_DATA + got, 16, n ? 0 : EFS_EBADF);
    diag_put32(d, 4, fd);
    diag_put32(d, 8, offset);
    diag_put32(d, 12, n ? (uint32_t)got : UINT32_MAX);
    if (got)
        memcpy(d->answer + READ_DATA, n->data + offset, got);
    return 0;
}

int diag_efs_write(struct diag *d)
{
    uint32_t fd = diag_u32(d, 4), offset = diag_u32(d, 8);
    struct diag_file *f = find(d, fd);
    struct efs_node *n = diag_efs_open_node(d, fd);
    int error = EFS_EBADF;
    size_t length;

    if (!diag_has(d, WRITE_DATA))
        return 0;
    length = d->request_length - WRITE_DATA;
    if (length > (uint64_t)d->scenario->efs_chunk)
        return diag_refuse(d, DIAG_BAD_LENGTH);
    if (n && f->flags & OPEN_ACCESS) {
        if (f->flags & OPEN_APPEND)
            offset = (uint32_t)n->size;
        error = efs_write(&d->efs, n->path, offset, d->request + WRITE_DATA, length);
    }
    diag_efs_result(d, 20, 16, error);
    diag_put32(d, 4, fd);
    diag_put32(d, 8, offset);
    diag_put32(d, 12, error ? UINT32_MAX : (uint32_t)length);
    return 0;
}

int diag_efs_put(struct diag *d)
{
    uint32_t length = diag_u16(d, 4), flags = diag_u32(d, 8), sequence = diag_u16(d, 12);
    int error;

    if (length > PUT_MAX)
        return diag_refuse(d, DIAG_BAD_LENGTH);
    if (!diag_efs_path(d, PUT_DATA + length, &error))
        return 0;
    /* It writes whatever its access flags say, and a whole file. */
    if (error == 0)
        prepare(d, d->path, flags | OPEN_ACCESS | OPEN_TRUNCATE, PERMISSIONS, &error);
    if (error == 0)
        error = efs_write(&d->efs, d->path, 0, d->request + PUT_DATA, length);
    trace("diag efs put %s length=%u errno=%d", d->path, length, error);
    diag_answer(d, EFS_HEAD, 10);
    diag_put16(d, 4, sequence);
    diag_put16(d, 6, (uint32_t)error);
    diag_put16(d, 8, error ? UINT16_MAX : length);
    return 0;
}

/* Two tools know two forms of it (reference/diag.md 2.5), and most firmware none. */
int diag_efs_get(struct diag *d)
{
    bool edl = d->scenario->efs_get == GET_EDL;
    uint32_t wanted = edl ? diag_u32(d, 4) : GET_MAX;
    size_t data_at = edl ? PUT_DATA : 12, got = 0;
    struct efs_node *n = NULL;
    int error;

    if (d->scenario->efs_get == GET_NO)
        return diag_refuse(d, DIAG_BAD_COMMAND);
    if (!diag_efs_path(d, edl ? PUT_DATA : EFS_HEAD, &error))
        return 0;
    if (error == 0)
        n = diag_efs_lookup(d, d->path, &error);
    if (n && efs_is_directory(n))
        error = EFS_EISDIR;
    if (error == 0)
        got = n->size < wanted ? n->size : wanted;
    got = got < GET_MAX ? got : GET_MAX;
    diag_efs_result(d, data_at + got, 8, error);
    diag_put32(d, 4, (uint32_t)got);
    if (edl)
        diag_put16(d, 12, diag_u16(d, 12));
    if (got)
        memcpy(d->answer + data_at, n->data, got);
    return 0;
}

int diag_efs_md5(struct diag *d)
{
    struct efs_node *n = NULL;
    int error;

    if (!d->scenario->efs_md5)
        return diag_refuse(d, DIAG_BAD_COMMAND);
    if (!diag_efs_path(d, 6, &error))
        return 0;
    if (error == 0)
        n = diag_efs_lookup(d, d->path, &error);
    if (n && efs_is_directory(n))
        error = EFS_EISDIR;
    diag_answer(d, 6, MD5_ANSWER);
    diag_put32(d, 6, (uint32_t)error);
    if (error == 0)
        md5(n->data, n->size, d->answer + 10);
    return 0;
}
