/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The embedded file system, read (reference/diag.md 2.5). */

#include <errno.h>

#include "base/text.h"
#include "protocol/diag-inner.h"

enum {
    EFS_HELLO = 0,
    EFS_OPEN = 2,
    EFS_CLOSE = 3,
    EFS_READ = 4,
    EFS_OPENDIR = 11,
    EFS_READDIR = 12,
    EFS_CLOSEDIR = 13,
    EFS_MD5SUM = 43,

    /* offsets in answers; a field's name is that of the reference */
    OPEN_FD = 4,
    OPEN_ERRNO = 8,
    READ_FD = 4,
    READ_OFFSET = 8,
    READ_N = 12,
    READ_ERRNO = 16,
    READ_DATA = 20,
    DIR_ERRNO = 12,
    DIR_TYPE = 16,
    DIR_MODE = 20,
    DIR_SIZE = 24,
    DIR_NAME = 40,
    MD5_ERRNO = 6,
    MD5_SUM = 10,
};

static const usec_t hello_patience = 2 * USEC_PER_SEC;
static const usec_t md5_patience = 15 * USEC_PER_SEC;

const char *diag_efs_error_name(int number)
{
    static const char *const own[] = {NULL,
                                      "inconsistent state",
                                      "bad sequence",
                                      "directory not open",
                                      "directory entry not found",
                                      "bad path",
                                      "path too long",
                                      "too many open directories",
                                      "bad directory entry",
                                      "too many open files",
                                      "unknown file type",
                                      "not NAND",
                                      "unavailable"};
    enum { OWN_BASE = 0x40000000, OWN_MASK = 0xff };
    static char unknown[32];
    size_t n = (size_t)(number & OWN_MASK);
    if ((number & ~OWN_MASK) == OWN_BASE && n > 0 && n < ARRAY_SIZE(own))
        return own[n];
    switch (number) { /* the numbers are POSIX's, the words ours */
    case DIAG_EFS_NO_ENTRY:
        return "no such file";
    case DIAG_EFS_NO_ACCESS:
        return "access denied";
    case DIAG_EFS_EXISTS:
        return "exists already";
    case DIAG_EFS_NO_SPACE:
        return "no space";
    default:
        snprintf(unknown, sizeof(unknown), "error 0x%x", (unsigned)number);
        return unknown;
    }
}

/* ---- requests ---- */

void efs_begin(const struct diag *d, struct efs_request *r, uint8_t command, size_t fields)
{
    memset(r->bytes, 0, DIAG_SUBSYSTEM_HEADER + fields);
    r->bytes[0] = DIAG_SUBSYSTEM;
    r->bytes[1] = d->efs ? d->efs : EFS_STANDARD;
    r->bytes[2] = command;
    r->size = DIAG_SUBSYSTEM_HEADER + fields;
}

int efs_add_path(struct efs_request *r, const char *path, struct error *e)
{
    size_t n = strlen(path) + 1;
    if (path[0] != '/' || n > DIAG_EFS_PATH_MAX || n > sizeof(r->bytes) - r->size)
        return error_set(e, ERROR_INVALID_ARGS,
                         "a path in the modem's file system begins with / and is "
                         "shorter than 1024 bytes, \"%.80s\" is not",
                         path);
    memcpy(r->bytes + r->size, path, n);
    r->size += n;
    return 0;
}

int efs_ask(struct diag *d, const struct efs_request *r, struct diag_question q, const uint8_t **ret,
            size_t *ret_size, struct error *e)
{
    q.request = r->bytes;
    q.size = r->size;
    q.echo += DIAG_SUBSYSTEM_HEADER;
    return diag_ask(d, &q, ret, ret_size, e);
}

int efs_errno(const uint8_t *field, struct error *e)
{
    int number = (int)get_le32(field);
    return number >= 0
               ? number
               : error_set(e, ERROR_DIAG_FAILED,
                           "the modem's file system answers with the impossible error number %d", number);
}

int diag_efs_hello(struct diag *d, struct error *e)
{
    enum { FIELDS = 10, WINDOWS = 6, WINDOW = 0x100000, VERSION = 1 };
    static const uint8_t subsystems[] = {EFS_ALTERNATE, EFS_STANDARD};
    struct error own = {0};
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(subsystems); i++) {
        struct efs_request request;
        const uint8_t *answer;
        size_t size;
        d->efs = subsystems[i];
        efs_begin(d, &request, EFS_HELLO, FIELDS * sizeof(uint32_t));
        uint8_t *field = request.bytes + DIAG_SUBSYSTEM_HEADER;
        for (size_t k = 0; k < FIELDS; k++, field += sizeof(uint32_t))
            put_le32(field, k < WINDOWS ? WINDOW : k < FIELDS - 1 ? VERSION : UINT32_MAX);
        own = (struct error){0};
        r = efs_ask(d, &request, (struct diag_question){.patience = hello_patience}, &answer, &size, &own);
        if (r == 0)
            return 0;
        if (r != -EOPNOTSUPP && r != -EPROTO && r != -ETIMEDOUT)
            break;
    }
    d->efs = 0;
    if (e)
        *e = own;
    return r;
}

/* ---- files ---- */

int efs_open(struct diag *d, const char *path, uint32_t flags, uint32_t mode, bool writes, uint32_t *ret_fd,
             struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_OPEN, 2 * sizeof(uint32_t));
    put_le32(request.bytes + DIAG_SUBSYSTEM_HEADER, flags);
    put_le32(request.bytes + DIAG_SUBSYSTEM_HEADER + sizeof(uint32_t), mode);
    int r = efs_add_path(&request, path, e);
    const struct diag_question q = {.least = OPEN_ERRNO + sizeof(uint32_t), .writes = writes};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &size, e);
    if (r < 0)
        return r;
    r = efs_errno(answer + OPEN_ERRNO, e);
    if (r == 0)
        *ret_fd = get_le32(answer + OPEN_FD);
    return r;
}

static int close_handle(struct diag *d, uint8_t command, uint32_t handle, struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, command, sizeof(uint32_t));
    put_le32(request.bytes + DIAG_SUBSYSTEM_HEADER, handle);
    const struct diag_question q = {.least = DIAG_SUBSYSTEM_HEADER + sizeof(uint32_t), .writes = true};
    int r = efs_ask(d, &request, q, &answer, &size, e);
    return r < 0 ? r : efs_errno(answer + DIAG_SUBSYSTEM_HEADER, e);
}

int efs_close(struct diag *d, uint32_t fd, struct error *e)
{
    return close_handle(d, EFS_CLOSE, fd, e);
}

/* One READ; *ret_data lies in the answer. 0 bytes: the end. */
static int read_piece(struct diag *d, uint32_t fd, uint32_t offset, const uint8_t **ret_data,
                      size_t *ret_size, struct error *e)
{
    enum { FD = DIAG_SUBSYSTEM_HEADER, NBYTE = FD + 4, OFFSET = NBYTE + 4 };
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_READ, 3 * sizeof(uint32_t));
    put_le32(request.bytes + FD, fd);
    put_le32(request.bytes + NBYTE, DIAG_EFS_CHUNK);
    put_le32(request.bytes + OFFSET, offset);
    const struct diag_question q = {.echo = sizeof(uint32_t),
                                    .key_at = OFFSET,
                                    .key_size = sizeof(uint32_t),
                                    .key_found_at = READ_OFFSET,
                                    .least = READ_DATA};
    int r = efs_ask(d, &request, q, &answer, &size, e);
    if (r == 0)
        r = efs_errno(answer + READ_ERRNO, e);
    if (r != 0)
        return r;
    uint32_t n = get_le32(answer + READ_N);
    if (n > DIAG_EFS_CHUNK || n > size - READ_DATA)
        return error_set(e, ERROR_DIAG_FAILED,
                         "the modem says that it has read %u bytes of a file and sends %zu", n,
                         size - READ_DATA);
    *ret_data = answer + READ_DATA;
    *ret_size = n;
    return 0;
}

/* To a piece that has less than `least` bytes. */
static int read_all(struct diag *d, uint32_t fd, const char *path, size_t max, size_t least, uint8_t **ret,
                    size_t *ret_size, struct error *e)
{
    _cleanup_free_ uint8_t *content = NULL;
    size_t have = 0, room = 0, n = least;
    while (n >= least) {
        const uint8_t *piece;
        int r = read_piece(d, fd, (uint32_t)have, &piece, &n, e);
        if (r != 0)
            return r;
        if (n > max - have)
            return error_set(e, ERROR_TOO_LARGE, "%s in the modem is larger than %zu bytes", path, max);
        if (n > room - have) {
            size_t larger = MAX_OF(2 * room, have + n);
            uint8_t *grown = realloc(content, larger);
            if (!grown)
                return error_set(e, ERROR_FAILED, "no memory for %s of the modem", path);
            content = grown;
            room = larger;
        }
        if (n > 0)
            memcpy(content + have, piece, n);
        have += n;
    }
    *ret = steal_ptr(content);
    *ret_size = have;
    return 0;
}

static int read_file(struct diag *d, const char *path, size_t max, size_t least, uint8_t **ret,
                     size_t *ret_size, struct error *e)
{
    uint32_t fd;
    int r = efs_open(d, path, 0, 0, false, &fd, e);
    if (r != 0)
        return r;
    r = read_all(d, fd, path, max, least, ret, ret_size, e);
    /* Four or so are all it has; one that cannot be closed is the modem's own loss, and shows at the next. */
    if (r != -ENODEV && r != -ECANCELED && r != -EINTR)
        (void)efs_close(d, fd, NULL);
    return r;
}

int diag_efs_read(struct diag *d, const char *path, size_t max, uint8_t **ret, size_t *ret_size,
                  struct error *e)
{
    return read_file(d, path, max, 1, ret, ret_size, e);
}

int diag_efs_read_short(struct diag *d, const char *path, size_t max, uint8_t **ret, size_t *ret_size,
                        struct error *e)
{
    return read_file(d, path, max, DIAG_EFS_CHUNK, ret, ret_size, e);
}

int diag_efs_md5(struct diag *d, const char *path, uint8_t ret[16], struct error *e)
{
    enum { MD5_LENGTH = 16 };
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_MD5SUM, sizeof(uint16_t));
    put_le16(request.bytes + DIAG_SUBSYSTEM_HEADER, ++d->sequence);
    int r = efs_add_path(&request, path, e);
    const struct diag_question q = {
        .echo = sizeof(uint16_t), .least = MD5_ERRNO + sizeof(uint32_t), .patience = md5_patience};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &size, e);
    if (r == 0)
        r = efs_errno(answer + MD5_ERRNO, e);
    if (r != 0)
        return r;
    if (size < MD5_SUM + MD5_LENGTH)
        return error_set(e, ERROR_DIAG_FAILED, "the modem's digest of %s is cut", path);
    memcpy(ret, answer + MD5_SUM, MD5_LENGTH);
    return 0;
}

/* ---- directories ---- */

enum { LIST_TRIES = 3 };

struct listing {
    struct diag_efs_entry *entries;
    size_t n, room;
};

static void listing_done(struct listing *l)
{
    free(l->entries);
}

/* 1: taken; 0: the end; as the others otherwise. */
static int read_entry(struct diag *d, uint32_t directory, uint32_t sequence, struct diag_efs_entry *ret,
                      int *ret_errno, struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_READDIR, 2 * sizeof(uint32_t));
    put_le32(request.bytes + DIAG_SUBSYSTEM_HEADER, directory);
    put_le32(request.bytes + DIAG_SUBSYSTEM_HEADER + sizeof(uint32_t), sequence);
    const struct diag_question q = {.echo = 2 * sizeof(uint32_t), .least = DIR_NAME, .writes = true};
    int r = efs_ask(d, &request, q, &answer, &size, e);
    if (r < 0)
        return r;
    *ret_errno = efs_errno(answer + DIR_ERRNO, e);
    if (*ret_errno != 0)
        return MIN_OF(*ret_errno, 0);
    size_t length = strnlen((const char *)answer + DIR_NAME, size - DIR_NAME);
    if (length == 0) /* an empty name is the end, and nothing else is (2.5) */
        return 0;
    if (length >= sizeof(ret->name))
        return error_set(e, ERROR_DIAG_FAILED, "a name in a directory of the modem has %zu bytes", length);
    *ret = (struct diag_efs_entry){.type = get_le32(answer + DIR_TYPE),
                                   .mode = get_le32(answer + DIR_MODE),
                                   .size = get_le32(answer + DIR_SIZE)};
    memcpy(ret->name, answer + DIR_NAME, length);
    return 1;
}

static int read_entries(struct diag *d, uint32_t directory, const char *path, size_t max, struct listing *l,
                        struct error *e)
{
    for (uint32_t sequence = EFS_FIRST_SEQUENCE;; sequence++) {
        struct diag_efs_entry entry;
        int number = 0, r = read_entry(d, directory, sequence, &entry, &number, e);
        if (r <= 0)
            return r < 0 ? r : number;
        if (strcmp(entry.name, ".") == 0 || strcmp(entry.name, "..") == 0) {
            if (sequence > max + 2)
                return error_set(e, ERROR_TOO_LARGE, "directory %s of the modem does not end", path);
            continue;
        }
        if (strchr(entry.name, '/') || l->n == max)
            return error_set(
                e, ERROR_TOO_LARGE,
                "directory %s of the modem has more than %zu entries, or one with a / in its name", path,
                max);
        if (l->n == l->room) {
            l->room = MAX_OF(2 * l->room, (size_t)16);
            struct diag_efs_entry *grown = reallocarray(l->entries, l->room, sizeof(*grown));
            if (!grown)
                return error_set(e, ERROR_FAILED, "no memory for directory %s of the modem", path);
            l->entries = grown;
        }
        l->entries[l->n++] = entry;
    }
}

static int list_once(struct diag *d, const char *path, size_t max, struct listing *l, struct error *e)
{
    struct efs_request request;
    const uint8_t *answer;
    size_t size;
    efs_begin(d, &request, EFS_OPENDIR, 0);
    int r = efs_add_path(&request, path, e);
    const struct diag_question q = {.least = OPEN_ERRNO + sizeof(uint32_t)};
    if (r == 0)
        r = efs_ask(d, &request, q, &answer, &size, e);
    if (r == 0)
        r = efs_errno(answer + OPEN_ERRNO, e);
    if (r != 0)
        return r;
    uint32_t directory = get_le32(answer + OPEN_FD);
    r = read_entries(d, directory, path, max, l, e);
    if (r != -ENODEV && r != -ECANCELED && r != -EINTR)
        (void)close_handle(d, EFS_CLOSEDIR, directory, NULL);
    return r;
}

int diag_efs_list(struct diag *d, const char *path, size_t max, diag_efs_take take, void *userdata,
                  struct error *e)
{
    _cleanup_(listing_done) struct listing l = {0};
    struct error own = {0};
    int r = 0;
    /* An entry whose answer was lost cannot be asked for again, the modem is behind it: the whole directory
     * is.
     */
    for (unsigned i = 0; i < LIST_TRIES; i++) {
        own = (struct error){0};
        l.n = 0;
        r = list_once(d, path, max, &l, &own);
        if (r != -ETIMEDOUT && r != DIAG_EFS_BAD_SEQUENCE && r != DIAG_EFS_DIR_NOT_OPEN)
            break;
    }
    if (r < 0 && e)
        *e = own;
    for (size_t i = 0; i < l.n && r == 0; i++)
        r = MIN_OF(take(userdata, &l.entries[i]), 0);
    return r;
}
