/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Names: directories, what lies in them, links. */

#include "diag-efs.h"

#include <string.h>

#include "trace.h"

enum entry_type { ENTRY_FILE, ENTRY_DIRECTORY, ENTRY_LINK, ENTRY_ITEM = 15 };
enum { NAME_AT = 40, PERMISSIONS = 0777, RFNV_PREFIX = 20, ITEMS_PREFIX = 15 };

static bool is_hidden(const struct diag *d, const struct efs_node *n)
{
    switch (d->scenario->efs_hidden) {
    case HIDDEN_RFNV:
        return strncmp(n->path, "/nv/item_files/rfnv/", RFNV_PREFIX) == 0;
    case HIDDEN_ITEM_FILES:
        return strncmp(n->path, "/nv/item_files/", ITEMS_PREFIX) == 0 && !efs_is_directory(n);
    default:
        return false;
    }
}

static uint32_t entry_type(const struct efs_node *n)
{
    switch (n->mode & EFS_TYPE) {
    case EFS_DIRECTORY:
        return ENTRY_DIRECTORY;
    case EFS_LINK:
        return ENTRY_LINK;
    case EFS_ITEM:
        return ENTRY_ITEM;
    default:
        return ENTRY_FILE;
    }
}

/* ---- directories ---- */

int diag_efs_opendir(struct diag *d)
{
    struct efs_node *n = NULL;
    uint32_t slot = 0;
    int error;

    if (!diag_efs_path(d, EFS_HEAD, &error))
        return 0;
    if (error == 0)
        n = diag_efs_lookup(d, d->path, &error);
    if (n && !efs_is_directory(n))
        error = EFS_ENOTDIR;
    while (slot < DIAG_DIRECTORIES_MAX && d->directories[slot].open)
        slot++;
    if (error == 0 && slot == DIAG_DIRECTORIES_MAX)
        error = EFS_TOO_MANY_DIRECTORIES;
    trace("diag efs opendir %s errno=%d", d->path, error);
    if (error == 0) {
        d->directories[slot] = (struct diag_directory){.open = true, .sequence = 1};
        memcpy(d->directories[slot].path, n->path, strlen(n->path) + 1);
    }
    diag_efs_result(d, 12, 8, error);
    diag_put32(d, 4, error ? 0 : slot + 1);
    return 0;
}

static struct diag_directory *find(struct diag *d, uint32_t dirp)
{
    return dirp >= 1 && dirp <= DIAG_DIRECTORIES_MAX && d->directories[dirp - 1].open
               ? &d->directories[dirp - 1]
               : NULL;
}

static void put_entry(struct diag *d, const struct efs_node *n)
{
    const char *name = efs_name(n);

    diag_put32(d, 16, entry_type(n));
    diag_put32(d, 20, n->mode);
    diag_put32(d, 24, (uint32_t)n->size);
    for (size_t i = 0; i < 3; i++)
        diag_put32(d, 28 + 4 * i, n->time);
    memcpy(d->answer + NAME_AT, name, strlen(name) + 1);
    d->answer_length = NAME_AT + strlen(name) + 1;
}

int diag_efs_readdir(struct diag *d)
{
    uint32_t dirp = diag_u32(d, 4), sequence = diag_u32(d, 8);
    struct diag_directory *directory = find(d, dirp);
    const struct efs_node *n;
    int error = 0;

    if (!diag_has(d, 12))
        return 0;
    if (!directory)
        error = EFS_DIRECTORY_NOT_OPEN;
    else if (sequence != directory->sequence)
        error = EFS_BAD_SEQUENCE;
    diag_answer(d, 12, EFS_PATH_MAX + NAME_AT);
    d->answer_length = NAME_AT + 1;
    diag_put32(d, 12, (uint32_t)error);
    if (error)
        return 0;
    do
        n = efs_entry(&d->efs, directory->path, directory->next++);
    while (n && is_hidden(d, n));
    directory->sequence++;
    if (n)
        put_entry(d, n);
    return 0;
}

int diag_efs_closedir(struct diag *d)
{
    struct diag_directory *directory = find(d, diag_u32(d, 4));

    if (!diag_has(d, 8))
        return 0;
    if (directory)
        directory->open = false;
    return diag_efs_result(d, 8, 4, directory ? 0 : EFS_DIRECTORY_NOT_OPEN);
}

int diag_efs_mkdir(struct diag *d)
{
    uint32_t mode = diag_u16(d, 4);
    int error;

    if (!diag_efs_path(d, 6, &error))
        return 0;
    if (error == 0 && efs_find(&d->efs, d->path))
        error = EFS_EEXIST;
    if (error == 0)
        error = efs_create(&d->efs, d->path, (uint16_t)(EFS_DIRECTORY | (mode & PERMISSIONS)), false);
    return diag_efs_result(d, 8, 4, error);
}

/* ---- one name ---- */

int diag_efs_stat(struct diag *d, enum efs_operation which)
{
    struct efs_node *n = NULL;
    size_t times = which == EFS_OP_LSTAT ? 12 : 20;
    int error = 0;

    if (which == EFS_OP_FSTAT) {
        if (!diag_has(d, 8))
            return 0;
        n = diag_efs_open_node(d, diag_u32(d, 4));
        error = n ? 0 : EFS_EBADF;
    } else {
        if (!diag_efs_path(d, EFS_HEAD, &error))
            return 0;
        if (error == 0)
            n = diag_efs_lookup(d, d->path, &error);
        if (n && which == EFS_OP_LSTAT)
            n = efs_find(&d->efs, d->path);
    }
    diag_efs_result(d, times + 12, 4, error);
    if (!n)
        return 0;
    diag_put32(d, 8, n->mode);
    for (size_t i = 0; i < 3; i++)
        diag_put32(d, times + 4 * i, n->time);
    if (which != EFS_OP_LSTAT) {
        diag_put32(d, 12, (uint32_t)n->size);
        diag_put32(d, 16, 1);
    }
    return 0;
}

int diag_efs_unlink(struct diag *d)
{
    struct efs_node *n = NULL;
    int error;

    if (!diag_efs_path(d, EFS_HEAD, &error))
        return 0;
    if (error == 0 && diag_efs_forbidden(d->path))
        error = EFS_EACCES;
    if (error == 0)
        n = efs_find(&d->efs, d->path);
    if (error == 0 && n && efs_is_directory(n))
        error = EFS_EISDIR;
    if (error == 0)
        error = efs_remove(&d->efs, d->path);
    trace("diag efs unlink %s errno=%d", d->path, error);
    return diag_efs_result(d, 8, 4, error);
}

/* Two paths one behind the other; the first is kept in ret. */
static bool two_paths(struct diag *d, char first[EFS_PATH_MAX], int *ret_error)
{
    if (!diag_efs_path(d, EFS_HEAD, ret_error))
        return false;
    memcpy(first, d->path, sizeof(d->path));
    if (*ret_error)
        return true;
    return diag_efs_path(d, EFS_HEAD + strlen((const char *)d->request + EFS_HEAD) + 1, ret_error);
}

int diag_efs_rename(struct diag *d)
{
    char from[EFS_PATH_MAX];
    int error;

    if (!two_paths(d, from, &error))
        return 0;
    if (error == 0 && (diag_efs_forbidden(from) || diag_efs_forbidden(d->path)))
        error = EFS_EACCES;
    if (error == 0)
        error = efs_rename(&d->efs, from, d->path);
    return diag_efs_result(d, 8, 4, error);
}

int diag_efs_symlink(struct diag *d)
{
    char target[EFS_PATH_MAX];
    int error;

    if (!two_paths(d, target, &error))
        return 0;
    if (error == 0 && efs_find(&d->efs, d->path))
        error = EFS_EEXIST;
    if (error == 0)
        error = efs_create(&d->efs, d->path, EFS_LINK | PERMISSIONS, false);
    if (error == 0)
        error = efs_write(&d->efs, d->path, 0, target, strlen(target));
    return diag_efs_result(d, 8, 4, error);
}

int diag_efs_readlink(struct diag *d)
{
    struct efs_node *n;
    int error;

    if (!diag_efs_path(d, EFS_HEAD, &error))
        return 0;
    n = error ? NULL : efs_find(&d->efs, d->path);
    if (error == 0 && !n)
        error = EFS_ENOENT;
    if (n && (n->mode & EFS_TYPE) != EFS_LINK)
        error = EFS_EINVAL;
    diag_efs_result(d, 9 + (error ? 0 : n->size), 4, error);
    if (error == 0)
        memcpy(d->answer + 8, n->data, n->size);
    return 0;
}
