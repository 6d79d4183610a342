/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Shared by the diag-*.c files: little-endian fields of a packet, and the state of a conversation. */

#include <string.h>

#include "protocol/diag.h"
#include "protocol/hdlc.h"

enum {
    DIAG_SUBSYSTEM = 0x4b,
    DIAG_SUBSYSTEM_HEADER = 4, /* 4B, subsystem, command u16 */
    EFS_ALTERNATE = 0x3e,
    EFS_STANDARD = 0x13,
    EFS_QUERY = 1,
    EFS_FIRST_SEQUENCE = 1,
};

struct diag {
    struct transport *transport;
    struct hdlc_decoder decoder;
    /* What one read brought and the decoder has not seen yet. */
    uint8_t input[16384];
    size_t input_at, input_size;
    uint8_t frame[HDLC_ENCODED_MAX(DIAG_REQUEST_MAX)];
    enum diag_refusal refusal;
    bool spc_sent, password_sent;
    unsigned busy; /* pauses for NV that is busy, in a row */
    uint8_t efs;   /* subsystem that answers; 0: not asked yet */
    uint16_t sequence;
};

static inline void put_le16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static inline void put_le32(uint8_t *to, uint32_t value)
{
    put_le16(to, (uint16_t)value);
    put_le16(to + 2, (uint16_t)(value >> 16));
}

static inline uint16_t get_le16(const uint8_t *from)
{
    return (uint16_t)(from[0] | from[1] << 8);
}

static inline uint32_t get_le32(const uint8_t *from)
{
    return get_le16(from) | (uint32_t)get_le16(from + 2) << 16;
}

/* Takes in what the modem says for so long, and passes it over. */
int diag_pause(struct diag *d, usec_t usec, struct error *e);

/* An EFS request: its header and so many bytes of fields, to which a path may be added. */
struct efs_request {
    uint8_t bytes[DIAG_REQUEST_MAX];
    size_t size;
};
void efs_begin(const struct diag *d, struct efs_request *r, uint8_t command, size_t fields);
/* The path with its NUL; -EINVAL if it has none, is too long or does not fit. */
int efs_add_path(struct efs_request *r, const char *path, struct error *e);
/* echo beyond the header is of bytes that follow it. */
int efs_ask(struct diag *d, const struct efs_request *r, struct diag_question q, const uint8_t **ret,
            size_t *ret_size, struct error *e);
/* The errno in a field of an answer. A negative one would pass for ours: then the answer is none. */
int efs_errno(const uint8_t *field, struct error *e);
int efs_open(struct diag *d, const char *path, uint32_t flags, uint32_t mode, bool writes, uint32_t *ret_fd,
             struct error *e);
/* Its own error counts only after writing. */
int efs_close(struct diag *d, uint32_t fd, struct error *e);
