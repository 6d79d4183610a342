/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The DIAG port of the running firmware (reference/diag.md 1 and 2): frames, one request at a time, and what
 * stands behind them. Handlers fill the answer and return 0, an enum mode_end (after the answer has gone), or
 * -ENODEV.
 *
 *   normal.c             normal mode: the loop around it
 *   diag-frame.c         HDLC
 *   diag-send.c          answers on their way out, logs
 *   diag.c               which handler; identity, modes, locks
 *   diag-nv.c            numbered NV
 *   diag-efs*.c          the file system (diag-efs.h)
 */

#include "efs.h"
#include "modem.h"

enum {
    DIAG_END = 0x7E,
    DIAG_ESCAPE = 0x7D,
    DIAG_ESCAPE_XOR = 0x20,
    DIAG_CRC_SIZE = 2,
    DIAG_PAYLOAD_MAX = 8192, /* of a request: what is longer is not taken */
    DIAG_ANSWER_MAX = 8192,
};

/* Commands, reference/diag.md 1 and 2. */
enum diag_command {
    DIAG_VERNO = 0x00,
    DIAG_ESN = 0x01,
    DIAG_STATUS = 0x0C,
    DIAG_DIAG_VER = 0x1C,
    DIAG_NV_READ = 0x26,
    DIAG_NV_WRITE = 0x27,
    DIAG_CONTROL = 0x29,
    DIAG_DLOAD = 0x3A,
    DIAG_SPC = 0x41,
    DIAG_PASSWORD = 0x46,
    DIAG_SUBSYSTEM = 0x4B,
    DIAG_FEATURE_QUERY = 0x51,
    DIAG_EVENTS = 0x60,
    DIAG_GUID = 0x67,
    DIAG_LOG_CONFIG = 0x73,
    DIAG_EXT_BUILD_ID = 0x7C,
    DIAG_EXT_MSG = 0x7D,
};

enum diag_subsystem {
    SUBSYSTEM_CM = 0x0F,
    SUBSYSTEM_EFS = 0x13,
    SUBSYSTEM_DEBUG = 0x25,
    SUBSYSTEM_NV = 0x30,
    SUBSYSTEM_EFS_ALTERNATE = 0x3E,
    SUBSYSTEM_QUECTEL = 0x65,
};

/* First byte of an answer that refuses; the request follows. */
enum diag_refusal {
    DIAG_BAD_COMMAND = 0x13,
    DIAG_BAD_PARAMETER = 0x14,
    DIAG_BAD_LENGTH = 0x15,
    DIAG_BAD_MODE = 0x18,
    DIAG_BAD_SPC = 0x42,
    DIAG_BAD_SECURITY = 0x47,
};

/* Operating modes as 4B 0F tells them, and what 29 orders. */
enum oper_mode { OPER_OFF, OPER_FTM, OPER_OFFLINE, OPER_ONLINE = 5, OPER_LPM, OPER_RESETTING };
enum diag_control {
    CONTROL_OFFLINE_ANALOG,
    CONTROL_OFFLINE,
    CONTROL_RESET,
    CONTROL_FTM,
    CONTROL_ONLINE,
    CONTROL_LPM,
    CONTROL_POWER_OFF
};

/* "About four" directories can be open at a time (reference/diag.md 2.5). */
enum { DIAG_FILES_MAX = 8, DIAG_DIRECTORIES_MAX = 4 };

struct diag_file {
    bool open;
    uint32_t flags;
    char path[EFS_PATH_MAX];
};

struct diag_directory {
    bool open;
    uint32_t sequence; /* that the host must ask for next */
    size_t next;       /* entry, hidden ones counted */
    char path[EFS_PATH_MAX];
};

struct diag {
    struct modem *modem;
    struct front *front;
    const struct scenario *scenario;
    struct efs efs;
    char version[128];
    bool calibrated;
    enum oper_mode oper_mode;
    bool spc_open, security_open;
    unsigned wrong_codes;
    uint64_t nv_accesses, served;

    struct diag_file files[DIAG_FILES_MAX];
    struct diag_directory directories[DIAG_DIRECTORIES_MAX];
    char path[EFS_PATH_MAX]; /* of the request */
    bool syncing;
    int64_t sync_until;
    uint32_t sync_token;

    uint8_t frame[2 * (DIAG_PAYLOAD_MAX + DIAG_CRC_SIZE)]; /* as it comes, still escaped */
    size_t frame_length;
    bool frame_too_long;

    const uint8_t *request;
    size_t request_length;
    uint8_t answer[DIAG_ANSWER_MAX], last[DIAG_ANSWER_MAX]; /* and the one before */
    size_t answer_length, last_length;
    uint8_t wire[4 * (DIAG_ANSWER_MAX + DIAG_CRC_SIZE)]; /* what goes out in one transfer */
    size_t wire_length, wire_frame;                      /* of it; where its last frame begins */

    bool logs_off, messages_off, events_off;
    unsigned logs_sent;
    int64_t next_log;
};

/* ---- diag-frame.c ---- */

uint16_t diag_crc(const uint8_t *data, size_t length);

/* A frame with CRC and end; room for 2 * (length + 2) + 1 bytes. Its length. */
size_t diag_encode(const uint8_t *payload, size_t length, uint8_t *wire);

/* Takes a frame (without its end) out of its escapes, in place: the length of its payload, or 0 if it is
 * none.
 */
size_t diag_decode(uint8_t *frame, size_t length);

/* ---- diag-send.c ---- */

/* The answer, in this way (milliseconds: of FAULT_SLOW), and the logs that go with it. */
int diag_send_answer(struct diag *d, enum fault_kind how, uint64_t milliseconds);

/* Does it say something unasked, now and then? The next bit, if it is time. */
bool diag_floods(const struct diag *d);
int diag_flood(struct diag *d);

/* What a port that was just opened can begin with: the end of an old frame. */
int diag_tail(struct diag *d);

/* ---- diag.c ---- */

/* Boots the firmware's own part: file system, mode. */
void diag_start(struct diag *d, struct modem *m, const char *version);
void diag_stop(struct diag *d);

/* Carries out the request and makes its answer. */
int diag_serve(struct diag *d);

/* For handlers: refuses the request; is it at least so long, else it is refused. */
int diag_refuse(struct diag *d, enum diag_refusal why);
bool diag_has(struct diag *d, size_t length);

uint16_t diag_u16(const struct diag *d, size_t offset);
uint32_t diag_u32(const struct diag *d, size_t offset);
void diag_put16(struct diag *d, size_t offset, uint32_t value);
void diag_put32(struct diag *d, size_t offset, uint32_t value);

/* An answer of so many bytes: the first echo of the request, the rest zero. */
void diag_answer(struct diag *d, size_t echo, size_t length);

/* May this one write now, or even read? 0, or it has been refused. */
bool diag_may(struct diag *d, bool write);

/* ---- diag-nv.c ---- */

int diag_nv(struct diag *d, bool write);
int diag_nv_indexed(struct diag *d);

/* ---- diag-efs.c ---- */

int diag_efs(struct diag *d);
