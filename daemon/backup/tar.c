/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The ustar header of POSIX.1-1988, in one form only: a regular file of nobody, of no time. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backup/backup-inner.h"

enum {
    AT_NAME = 0,
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_SUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
    SIZE_DIGITS = 11,
    SUM_SIZE = 8,
};

static void put(uint8_t *header, size_t at, const char *text)
{
    memcpy(header + at, text, strlen(text));
}

void tar_header(const char *name, uint64_t size, uint8_t ret[TAR_BLOCK])
{
    char digits[32];
    unsigned sum = 0;

    memset(ret, 0, TAR_BLOCK);
    memcpy(ret + AT_NAME, name, strnlen(name, TAR_NAME_MAX - 1));
    put(ret, AT_MODE, "0000600");
    put(ret, AT_UID, "0000000");
    put(ret, AT_GID, "0000000");
    snprintf(digits, sizeof(digits), "%0*" PRIo64, SIZE_DIGITS, size & ((UINT64_C(1) << 33) - 1));
    put(ret, AT_SIZE, digits);
    put(ret, AT_MTIME, "00000000000");
    ret[AT_TYPE] = '0';
    memcpy(ret + AT_MAGIC, "ustar\00000", 8);
    memset(ret + AT_SUM, ' ', SUM_SIZE);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += ret[i];
    snprintf(digits, sizeof(digits), "%06o", sum);
    memcpy(ret + AT_SUM, digits, SUM_SIZE - 1); /* six digits, NUL, blank */
}

int tar_parse(const uint8_t header[TAR_BLOCK], char name[TAR_NAME_MAX], uint64_t *ret_size)
{
    uint8_t again[TAR_BLOCK];
    uint64_t size = 0;

    if (header[0] == '\0') {
        for (size_t i = 0; i < TAR_BLOCK; i++)
            if (header[i] != 0)
                return -EBADMSG;
        return 0;
    }
    for (size_t i = 0; i < SIZE_DIGITS; i++) {
        if (header[AT_SIZE + i] < '0' || header[AT_SIZE + i] > '7')
            return -EBADMSG;
        size = size << 3 | (uint64_t)(header[AT_SIZE + i] - '0');
    }
    memcpy(name, header + AT_NAME, TAR_NAME_MAX - 1);
    name[TAR_NAME_MAX - 1] = '\0';
    tar_header(name, size, again);
    if (memcmp(again, header, TAR_BLOCK) != 0)
        return -EBADMSG;
    *ret_size = size;
    return 1;
}
