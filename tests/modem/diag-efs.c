/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "diag-efs.h"

#include <string.h>

#include "trace.h"

enum { HELLO_SIZE = 44, SYNC_BUSY = 1, FILE_SYSTEM_TYPE = 0x32534645 /* "EFS2" */ };

/* ---- for all of them ---- */

bool diag_efs_path(struct diag *d, size_t offset, int *ret_error)
{
    const uint8_t *text = d->request + offset;
    size_t length = d->request_length > offset ? d->request_length - offset : 0, n;

    if (length == 0 || !memchr(text, 0, length)) {
        diag_refuse(d, DIAG_BAD_LENGTH);
        return false;
    }
    n = strlen((const char *)text);
    *ret_error = 0;
    if (n >= sizeof(d->path)) {
        *ret_error = EFS_PATH_TOO_LONG;
        return true;
    }
    memcpy(d->path, text, n + 1);
    while (n > 1 && d->path[n - 1] == '/')
        d->path[--n] = 0;
    if (d->path[0] != '/')
        *ret_error = EFS_BAD_PATH;
    return true;
}

bool diag_efs_forbidden(const char *path)
{
    return strstr(path, "/simlock/") || strstr(path, "/perso");
}

struct efs_node *diag_efs_lookup(struct diag *d, const char *path, int *ret_error)
{
    struct efs_node *n = efs_find(&d->efs, path);
    char target[EFS_PATH_MAX] = "";

    *ret_error = 0;
    if (diag_efs_forbidden(path)) {
        *ret_error = EFS_EACCES;
        return NULL;
    }
    if (n && (n->mode & EFS_TYPE) == EFS_LINK && n->size < sizeof(target)) {
        memcpy(target, n->data, n->size);
        n = efs_find(&d->efs, target);
    }
    if (!n)
        *ret_error = EFS_ENOENT;
    const char *lost = d->scenario->efs_unreadable;
    if (n && !efs_is_directory(n) && *lost && strncmp(path, lost, strlen(lost)) == 0) {
        *ret_error = (int)d->scenario->efs_unreadable_errno;
        return NULL;
    }
    return n;
}

int diag_efs_result(struct diag *d, size_t length, size_t offset, int error)
{
    diag_answer(d, EFS_HEAD, length);
    diag_put32(d, offset, (uint32_t)error);
    return 0;
}

/* ---- operations that stand alone ---- */

static int hello(struct diag *d)
{
    if (!diag_has(d, HELLO_SIZE))
        return 0;
    diag_answer(d, HELLO_SIZE, HELLO_SIZE);
    for (size_t i = 0; i < 3; i++)
        diag_put32(d, 28 + 4 * i, 1);
    return 0;
}

static int query(struct diag *d)
{
    const uint32_t limits[] = {128, EFS_PATH_MAX, EFS_PATH_MAX, EFS_FILE_MAX, 0x10000, 16};

    diag_answer(d, EFS_HEAD, EFS_HEAD + sizeof(limits));
    memcpy(d->answer + EFS_HEAD, limits, sizeof(limits));
    return 0;
}

static int statfs(struct diag *d)
{
    const struct nand *n = d->efs.nand;
    uint32_t total = d->efs.log.blocks * n->pages_per_block;
    const uint32_t words[] = {0,
                              1,
                              FILE_SYSTEM_TYPE,
                              0,
                              n->page_size,
                              total,
                              total / 2,
                              total / 2,
                              EFS_FILE_MAX,
                              (uint32_t)d->efs.node_count,
                              0x10000};
    int error;

    if (!diag_efs_path(d, EFS_HEAD, &error))
        return 0;
    diag_answer(d, EFS_HEAD, EFS_HEAD + sizeof(words));
    memcpy(d->answer + EFS_HEAD, words, sizeof(words));
    return 0;
}

static int dev_info(struct diag *d)
{
    static const char name[] = "VIRTUAL NAND";
    const struct nand *n = d->efs.nand;
    const uint32_t words[] = {0, n->blocks, n->pages_per_block, n->page_size, n->page_size + 224, 0x98, 0xAC};

    diag_answer(d, EFS_HEAD, EFS_HEAD + sizeof(words) + 1 + sizeof(name));
    memcpy(d->answer + EFS_HEAD, words, sizeof(words));
    d->answer[EFS_HEAD + sizeof(words)] = 1;
    memcpy(d->answer + EFS_HEAD + sizeof(words) + 1, name, sizeof(name));
    return 0;
}

/* It begins now and takes its time; what loses its power before the end has lost the changes. */
static int sync_begin(struct diag *d)
{
    int error;

    if (!diag_efs_path(d, 6, &error))
        return 0;
    if (!d->syncing) {
        d->syncing = true;
        d->sync_until = trace_now() + d->scenario->efs_sync_ms * 1000;
        d->sync_token++;
    }
    trace("diag efs sync");
    diag_answer(d, 6, 14);
    diag_put32(d, 6, d->sync_token);
    return 0;
}

static int sync_status(struct diag *d)
{
    bool busy = d->syncing && trace_now() < d->sync_until;
    int error;

    if (!diag_efs_path(d, 10, &error))
        return 0;
    if (d->syncing && !busy) {
        efs_log_sync(&d->efs);
        d->syncing = false;
    }
    if (diag_u32(d, 6) != d->sync_token)
        error = EFS_EINVAL;
    diag_answer(d, 6, 11);
    d->answer[6] = busy ? SYNC_BUSY : 0;
    diag_put32(d, 7, (uint32_t)error);
    return 0;
}

/* ---- which ---- */

/* What a careful host never sends. */
static int destructive(struct diag *d, uint16_t operation)
{
    violation("EFS operation %u", operation);
    return diag_refuse(d, DIAG_BAD_COMMAND);
}

/* A firmware of this kind stops at the old put. */
static int put_old(struct diag *d)
{
    violation("EFS operation %d, which hangs it", EFS_OP_PUT_OLD);
    return front_hang(d->front);
}

static int sync_operation(struct diag *d, uint16_t operation)
{
    if (!diag_may(d, false))
        return 0;
    return operation == EFS_OP_SYNC_NO_WAIT ? sync_begin(d) : sync_status(d);
}

static int read_operation(struct diag *d, uint16_t operation)
{
    if (!diag_may(d, false))
        return 0;
    switch (operation) {
    case EFS_OP_QUERY:
        return query(d);
    case EFS_OP_CLOSE:
        return diag_efs_close(d);
    case EFS_OP_READ:
        return diag_efs_read(d);
    case EFS_OP_READLINK:
        return diag_efs_readlink(d);
    case EFS_OP_OPENDIR:
        return diag_efs_opendir(d);
    case EFS_OP_READDIR:
        return diag_efs_readdir(d);
    case EFS_OP_CLOSEDIR:
        return diag_efs_closedir(d);
    case EFS_OP_STAT:
    case EFS_OP_LSTAT:
    case EFS_OP_FSTAT:
        return diag_efs_stat(d, (enum efs_operation)operation);
    case EFS_OP_STATFS:
        return statfs(d);
    case EFS_OP_DEV_INFO:
        return dev_info(d);
    case EFS_OP_GET:
        return diag_efs_get(d);
    case EFS_OP_MD5SUM:
        return diag_efs_md5(d);
    default:
        return diag_refuse(d, DIAG_BAD_COMMAND);
    }
}

static int write_operation(struct diag *d, uint16_t operation)
{
    if (!diag_may(d, true))
        return 0;
    switch (operation) {
    case EFS_OP_WRITE:
        return diag_efs_write(d);
    case EFS_OP_SYMLINK:
        return diag_efs_symlink(d);
    case EFS_OP_UNLINK:
        return diag_efs_unlink(d);
    case EFS_OP_MKDIR:
        return diag_efs_mkdir(d);
    case EFS_OP_RENAME:
        return diag_efs_rename(d);
    default:
        return diag_efs_put(d);
    }
}

int diag_efs(struct diag *d)
{
    uint16_t operation = diag_u16(d, 2);

    switch (operation) {
    case EFS_OP_HELLO:
        return hello(d);
    case EFS_OP_OPEN:
        return diag_efs_open(d);
    case EFS_OP_WRITE:
    case EFS_OP_SYMLINK:
    case EFS_OP_UNLINK:
    case EFS_OP_MKDIR:
    case EFS_OP_RENAME:
    case EFS_OP_PUT:
        return write_operation(d, operation);
    case EFS_OP_SYNC_NO_WAIT:
    case EFS_OP_SYNC_GET_STATUS:
        return sync_operation(d, operation);
    case EFS_OP_PUT_OLD:
        return put_old(d);
    case EFS_OP_RMDIR:
    case EFS_OP_DELTREE:
    case EFS_OP_HOTPLUG_FORMAT:
    case EFS_OP_SHRED:
    case EFS_OP_MAKE_GOLDEN_COPY:
        return destructive(d, operation);
    default:
        if (operation >= EFS_OP_FACT_IMAGE_START && operation <= EFS_OP_PREP_FACT_IMAGE)
            return destructive(d, operation);
        return read_operation(d, operation);
    }
}
