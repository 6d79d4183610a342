/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The EFS2 subsystem of the DIAG port (reference/diag.md 2.5): 4B 13 (and 4B 3E), a file system by open,
 * read, write, close and its relatives. Between the parts of it:
 *
 *   diag-efs.c           which operation; hello, sync, what stands alone
 *   diag-efs-file.c      open files, whole files
 *   diag-efs-tree.c      names: directories, stat, links
 */

#include "diag.h"

enum efs_operation {
    EFS_OP_HELLO,
    EFS_OP_QUERY,
    EFS_OP_OPEN,
    EFS_OP_CLOSE,
    EFS_OP_READ,
    EFS_OP_WRITE,
    EFS_OP_SYMLINK,
    EFS_OP_READLINK,
    EFS_OP_UNLINK,
    EFS_OP_MKDIR,
    EFS_OP_RMDIR,
    EFS_OP_OPENDIR,
    EFS_OP_READDIR,
    EFS_OP_CLOSEDIR,
    EFS_OP_RENAME,
    EFS_OP_STAT,
    EFS_OP_LSTAT,
    EFS_OP_FSTAT,
    EFS_OP_STATFS = 19,
    EFS_OP_DEV_INFO = 21,
    EFS_OP_FACT_IMAGE_START,
    EFS_OP_PREP_FACT_IMAGE = 25,
    EFS_OP_PUT_OLD,
    EFS_OP_DELTREE = 37,
    EFS_OP_PUT,
    EFS_OP_GET,
    EFS_OP_MD5SUM = 43,
    EFS_OP_HOTPLUG_FORMAT,
    EFS_OP_SHRED,
    EFS_OP_SYNC_NO_WAIT = 48,
    EFS_OP_SYNC_GET_STATUS,
    EFS_OP_MAKE_GOLDEN_COPY = 53,
};

enum { EFS_HEAD = 4 };

/* The path that stands in the request from offset on, with its NUL: a copy in d->path without a slash at its
   end. False: there is none, it has been refused. *ret_error: what is wrong with it, else 0. */
bool diag_efs_path(struct diag *d, size_t offset, int *ret_error);

/* Nobody gets at these by name (reference/diag.md 4.1: SIM lock). */
bool diag_efs_forbidden(const char *path);

/* What the path leads to, links followed; NULL with *ret_error. */
struct efs_node *diag_efs_lookup(struct diag *d, const char *path, int *ret_error);

/* The answer is so long and says this errno at offset. */
int diag_efs_result(struct diag *d, size_t length, size_t offset, int error);

/* ---- diag-efs-file.c ---- */

int diag_efs_open(struct diag *d);
int diag_efs_close(struct diag *d);
int diag_efs_read(struct diag *d);
int diag_efs_write(struct diag *d);
int diag_efs_put(struct diag *d);
int diag_efs_get(struct diag *d);
int diag_efs_md5(struct diag *d);
struct efs_node *diag_efs_open_node(struct diag *d, uint32_t fd);

/* ---- diag-efs-tree.c ---- */

int diag_efs_opendir(struct diag *d);
int diag_efs_readdir(struct diag *d);
int diag_efs_closedir(struct diag *d);
int diag_efs_stat(struct diag *d, enum efs_operation which);
int diag_efs_mkdir(struct diag *d);
int diag_efs_unlink(struct diag *d);
int diag_efs_rename(struct diag *d);
int diag_efs_symlink(struct diag *d);
int diag_efs_readlink(struct diag *d);
