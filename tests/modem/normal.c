/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "normal.h"

#include <errno.h>
#include <string.h>

#include "trace.h"

enum {
    DIAG_END = 0x7E,
    DIAG_ESCAPE = 0x7D,
    DIAG_ESCAPE_XOR = 0x20,
    DIAG_EXT_BUILD_ID = 0x7C,
    DIAG_BAD_COMMAND = 0x13,
    DIAG_VERSION_OFFSET = 12,
    FRAME_MAX = 512,
    CRC_REFLECTED = 0x8408,
};

static const uint8_t to_edl[] = {0x4B, 0x65, 0x01, 0x00}, to_download[] = {0x3A};

static uint16_t crc16(const uint8_t *data, size_t length)
{
    uint16_t crc = 0xFFFF;

    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (uint16_t)(crc >> 1 ^ CRC_REFLECTED) : (uint16_t)(crc >> 1);
    }
    return (uint16_t)~crc;
}

static int send_frame(struct modem *m, const uint8_t *data, size_t length)
{
    uint8_t plain[FRAME_MAX + 2], wire[2 * FRAME_MAX + 8];
    uint16_t crc = crc16(data, length);
    size_t n = 0;

    memcpy(plain, data, length);
    plain[length] = (uint8_t)crc;
    plain[length + 1] = (uint8_t)(crc >> 8);
    for (size_t i = 0; i < length + 2; i++) {
        if (plain[i] == DIAG_END || plain[i] == DIAG_ESCAPE) {
            wire[n++] = DIAG_ESCAPE;
            wire[n++] = plain[i] ^ DIAG_ESCAPE_XOR;
        } else {
            wire[n++] = plain[i];
        }
    }
    wire[n++] = DIAG_END;
    return front_write(&m->front, wire, n);
}

/* Takes the frame out of its escapes; its length without the CRC, or 0 if it is none. */
static size_t decode(uint8_t *frame, size_t length)
{
    size_t n = 0;

    if (length == 0 || frame[length - 1] != DIAG_END)
        return 0;
    for (size_t i = 0; i < length - 1; i++)
        frame[n++] = frame[i] == DIAG_ESCAPE ? frame[++i] ^ DIAG_ESCAPE_XOR : frame[i];
    if (n < 3 || crc16(frame, n - 2) != (frame[n - 2] | frame[n - 1] << 8))
        return 0;
    return n - 2;
}

static int on_frame(struct modem *m, const char *version, uint8_t *frame, size_t length)
{
    uint8_t answer[FRAME_MAX] = {DIAG_EXT_BUILD_ID};
    size_t n = decode(frame, length);
    int r;

    trace("diag out length=%zu command=0x%02x", n, n ? frame[0] : 0);
    if (n == 0)
        return 0;
    if ((n == sizeof(to_edl) && memcmp(frame, to_edl, n) == 0) || (n == 1 && frame[0] == to_download[0])) {
        r = send_frame(m, frame, n);
        return r < 0 ? r : MODE_RESET_TO_EDL;
    }
    if (frame[0] == DIAG_EXT_BUILD_ID) {
        strncpy((char *)answer + DIAG_VERSION_OFFSET, version, sizeof(answer) - DIAG_VERSION_OFFSET - 1);
        return send_frame(m, answer, DIAG_VERSION_OFFSET + strlen(version) + 1);
    }
    answer[0] = DIAG_BAD_COMMAND;
    memcpy(answer + 1, frame, n < FRAME_MAX - 1 ? n : FRAME_MAX - 1);
    return send_frame(m, answer, n < FRAME_MAX - 1 ? n + 1 : FRAME_MAX);
}

int normal_run(struct modem *m, const char *version, int64_t us)
{
    uint8_t frame[FRAME_MAX];
    size_t length;
    int r = 0;

    trace("state normal version=%s", version);
    if (us >= 0) {
        r = front_wait(&m->front, us);
        return r < 0 ? r : MODE_RESET;
    }
    while (r == 0) {
        r = front_read(&m->front, frame, sizeof(frame), &length);
        if (r == 0)
            r = on_frame(m, version, frame, length);
    }
    return r;
}
