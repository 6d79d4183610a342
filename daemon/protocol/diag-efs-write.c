/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The embedded file system, written (reference/diag.md 2.5). */

#include <errno.h>

#include "protocol/diag-inner.h"

enum {
    EFS_WRITE = 5,
    EFS_MKDIR = 9,
    EFS_PUT = 38,
    EFS_SYNC_NO_WAIT = 48,
    EFS_SYNC_STATUS = 49,

    /* octal, as in Linux and in the reference */
    FLAG_WRITE_ONLY = 01,
    FLAG_CREATE = 0100,
    FLAG_TRUNCATE = 01000,
    FLAG_ITEM_FILE = 01000000,
    FLAG_AUTO_DIRECTORY = 02000000,
    MODE_FILE = 0100644,
    MODE_DIRECTORY = 0755,

    PUT_LENGTH = 4,
    PUT_FLAGS = 8,
    PUT_SEQUENCE = 12,
    PUT_DATA = 14,
    PUT_ERRNO = 6,
    WRITE_N = 12,
    WRITE_ERRNO = 16,
    SYNC_TOKEN = 6,
    SYNC_ERRNO = 10,
    SYNC_DONE = 6,
};

static const usec_t write_patience = 15 * USEC_PER_SEC;
static const usec_t sync_time = 30 * USEC_PER_SEC;
/* Between two looks at a sync that is not done: each is an exchange with a modem that is busy. */
static const usec_t sync_pause = 200 * USEC_PER_MSEC;

/* Item files live below these; everything else is an ordinary file. */
static bool is_item(const char *path)
{
    static const char *const roots[] = {"/nv/item_files/", "/nv/items/", "/rfc/"};
    for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
        if (strncmp(path, roots[i], strlen(roots[i])) == 0)
            return true;
    return false;
}

/*
 * QPST's way for every file. What stands at 12 is called a mode by some and a sequence by others [?]; the
 * sequence is what later commands have there and answer with.
 */
static int put(struct diag *d, const char *path, const void *data, size_t size, struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t n;
    efs_begin(d, &request, EFS_PUT, PUT_DATA - DIAG_SUBSYSTEM_HEADER);
    put_le16(request.bytes + PUT_LENGTH, (uint16_t)size);
    put_le32(request.bytes + PUT_FLAGS, FLAG_WRITE_ONLY | FLAG_CREATE | FLAG_TRUNCATE | FLAG_AUTO_DIRECTORY |
                                            (is_item(path) ? FLAG_ITEM_FILE : 0));
    put_le16(request.bytes + PUT_SEQUENCE, ++d->sequence);
    memcpy(request.bytes + PUT_DATA, data, size);
    request.size = PUT_DATA + size;
    int r = efs_add_path(&request, path, e);
    const struct diag_question q = {
        .least = PUT_ERRNO + sizeof(uint16_t), .patience = write_patience, .writes = true};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &n, e);
    return r < 0 ? r : get_le16(answer + PUT_ERRNO);
}

static int make_directory(struct diag *d, const char *path, struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_MKDIR, sizeof(uint16_t));
    put_le16(request.bytes + DIAG_SUBSYSTEM_HEADER, MODE_DIRECTORY);
    int r = efs_add_path(&request, path, e);
    const struct diag_question q = {
        .least = DIAG_SUBSYSTEM_HEADER + sizeof(uint32_t), .patience = write_patience, .writes = true};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &size, e);
    if (r < 0)
        return r;
    r = efs_errno(answer + DIAG_SUBSYSTEM_HEADER, e);
    return r == DIAG_EFS_EXISTS ? 0 : r;
}

static int make_parents(struct diag *d, const char *path, struct error *e)
{
    char parent[DIAG_EFS_PATH_MAX];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t n = (size_t)(slash - path);
        if (n >= sizeof(parent))
            break;
        memcpy(parent, path, n);
        parent[n] = '\0';
        int r = make_directory(d, parent, e);
        if (r < 0)
            return r;
        /* One that may not be made may be there all the same; OPEN tells. */
    }
    return 0;
}

static int write_piece(struct diag *d, uint32_t fd, uint32_t offset, const uint8_t *data, size_t size,
                       struct error *e)
{
    enum { FD = DIAG_SUBSYSTEM_HEADER, OFFSET = FD + 4, DATA = OFFSET + 4 };
    struct efs_request request;
    const uint8_t *answer;
    size_t n;
    efs_begin(d, &request, EFS_WRITE, 2 * sizeof(uint32_t));
    put_le32(request.bytes + FD, fd);
    put_le32(request.bytes + OFFSET, offset);
    memcpy(request.bytes + DATA, data, size);
    request.size = DATA + size;
    const struct diag_question q = {.echo = 2 * sizeof(uint32_t),
                                    .least = WRITE_ERRNO + sizeof(uint32_t),
                                    .patience = write_patience,
                                    .writes = true};
    int r = efs_ask(d, &request, q, &answer, &n, e);
    if (r == 0)
        r = efs_errno(answer + WRITE_ERRNO, e);
    if (r != 0)
        return r;
    if (get_le32(answer + WRITE_N) != size)
        return error_set(e, ERROR_DIAG_FAILED, "the modem took %u of %zu bytes of a file",
                         get_le32(answer + WRITE_N), size);
    return 0;
}

static int write_large(struct diag *d, const char *path, const uint8_t *data, size_t size, struct error *e)
{
    uint32_t fd;
    int r = make_parents(d, path, e);
    if (r < 0)
        return r;
    /* ITEMFILE alone: together with AUTODIR it crashes some modems in OPEN (2.5, seen on RM551E). */
    r = efs_open(d, path,
                 FLAG_WRITE_ONLY | FLAG_CREATE | FLAG_TRUNCATE | (is_item(path) ? FLAG_ITEM_FILE : 0),
                 MODE_FILE, true, &fd, e);
    if (r != 0)
        return r;
    for (size_t at = 0; at < size && r == 0; at += DIAG_EFS_CHUNK)
        r = write_piece(d, fd, (uint32_t)at, data + at, MIN_OF(size - at, (size_t)DIAG_EFS_CHUNK), e);
    if (r == -ENODEV || r == -ECANCELED || r == -EINTR)
        return r;
    int closed = efs_close(d, fd, r == 0 ? e : NULL);
    return r != 0 ? r : closed;
}

int diag_efs_write(struct diag *d, const char *path, const void *data, size_t size, struct error *e)
{
    int r = 0;
    if (size > UINT32_MAX)
        return error_set(e, ERROR_TOO_LARGE, "%s is too large for the modem", path);
    for (unsigned tries = 0; tries < 2; tries++) {
        r = size <= DIAG_EFS_PUT_MAX ? put(d, path, data, size, e) : write_large(d, path, data, size, e);
        if (r != DIAG_EFS_NO_SPACE)
            return r;
        int synced = diag_efs_sync(d, NULL);
        if (synced == -ENODEV)
            return error_set(e, ERROR_MODEM_GONE, "the modem went away while its file system was synced");
        if (synced < 0 && synced != -EOPNOTSUPP && synced != -EPROTO && synced != -ETIMEDOUT)
            return synced;
    }
    return r;
}

/* 0 done, 1 not yet. */
static int sync_status(struct diag *d, uint32_t token, struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_SYNC_STATUS, sizeof(uint16_t) + sizeof(uint32_t));
    put_le16(request.bytes + DIAG_SUBSYSTEM_HEADER, ++d->sequence);
    put_le32(request.bytes + DIAG_SUBSYSTEM_HEADER + sizeof(uint16_t), token);
    int r = efs_add_path(&request, "/", e);
    const struct diag_question q = {
        .echo = sizeof(uint16_t), .least = SYNC_DONE + 1, .patience = write_patience};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &size, e);
    return r < 0 ? r : answer[SYNC_DONE] != 0;
}

int diag_efs_sync(struct diag *d, struct error *e)
{
    usec_t deadline = deadline_in(sync_time);
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_SYNC_NO_WAIT, sizeof(uint16_t));
    put_le16(request.bytes + DIAG_SUBSYSTEM_HEADER, ++d->sequence);
    int r = efs_add_path(&request, "/", e);
    const struct diag_question q = {.echo = sizeof(uint16_t),
                                    .least = SYNC_ERRNO + sizeof(uint32_t),
                                    .patience = write_patience,
                                    .writes = true};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &size, e);
    if (r < 0)
        return r;
    if (get_le32(answer + SYNC_ERRNO) != 0)
        return error_set(e, ERROR_DIAG_FAILED, "the modem does not sync its file system: %s",
                         diag_efs_error_name((int)get_le32(answer + SYNC_ERRNO)));
    uint32_t token = get_le32(answer + SYNC_TOKEN);
    for (;;) {
        r = sync_status(d, token, e);
        if (r <= 0)
            return r;
        if (now_usec() >= deadline)
            return error_set(e, ERROR_TIMEOUT,
                             "the modem did not finish the sync of its file system in 30 s");
        /* There is no event for it: an unplug meanwhile is heard. */
        r = diag_pause(d, sync_pause, e);
        if (r < 0)
            return r;
    }
}
