/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sahara's command mode: who are you (reference/edl.md 1.2); and its reset. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "modem.h"
#include "sahara.h"
#include "trace.h"

enum { ANSWER_MAX = 512, CHIP_ID_ANSWER = 48, CHIP_ID_MSM = 36, CHIP_ID_OEM = 40, CHIP_ID_MODEL = 42 };

static size_t pk_hash(const struct scenario *s, uint8_t *out)
{
    size_t digest = strlen(s->pkhash) / 2, n = 0;

    for (int64_t i = 0; i < s->pkhash_repeat && n + digest <= ANSWER_MAX; i++)
        for (size_t k = 0; k < digest; k++) {
            unsigned byte = 0;
            sscanf(s->pkhash + 2 * k, "%2x", &byte);
            out[n++] = (uint8_t)byte;
        }
    return n;
}

/* The answer's length; 0: this device does not know the command. */
static size_t answer(const struct modem *m, uint32_t command, uint8_t out[ANSWER_MAX])
{
    const struct scenario *s = m->scenario;
    uint64_t hwid = (uint64_t)s->hwid;
    uint32_t msm = (uint32_t)(hwid >> 32), version = 0x00010000;
    uint16_t oem = (uint16_t)(hwid >> 16), model = (uint16_t)hwid;

    memset(out, 0, ANSWER_MAX);
    switch (command) {
    case SAHARA_SERIAL_NUM_READ:
        memcpy(out, &m->serial, sizeof(m->serial));
        return sizeof(m->serial);
    case SAHARA_MSM_HW_ID_READ:
        memcpy(out, &hwid, sizeof(hwid));
        return s->sahara_version >= 3 ? 0 : sizeof(hwid);
    case SAHARA_OEM_PK_HASH_READ:
        return s->pkhash_command ? pk_hash(s, out) : 0;
    case SAHARA_SBL_VERSION_READ:
        memcpy(out, &version, sizeof(version));
        return sizeof(version);
    case SAHARA_CHIP_ID_V3_READ:
        memcpy(out, &msm, sizeof(msm));
        memcpy(out + CHIP_ID_MSM, &msm, sizeof(msm));
        memcpy(out + CHIP_ID_OEM, &oem, sizeof(oem));
        memcpy(out + CHIP_ID_MODEL, &model, sizeof(model));
        return s->sahara_version >= 3 ? CHIP_ID_ANSWER : 0;
    default:
        return 0;
    }
}

/* EXECUTE: 0 go on, > 0 status. */
static int execute(struct modem *m, uint32_t command)
{
    uint8_t out[ANSWER_MAX];
    size_t length = answer(m, command, out);
    uint32_t reply[2] = {command, (uint32_t)length}, got, words[SAHARA_PACKET_MAX / 4];
    int r;

    if (length == 0 && m->scenario->unsupported_command == UNSUPPORTED_END_IMAGE)
        return SAHARA_EXECUTE_UNSUPPORTED;
    if (length == 0 && m->scenario->unsupported_command == UNSUPPORTED_SILENT)
        return 0;
    if (m->scenario->execute == EXECUTE_HUGE)
        reply[1] = 0xFFFFFFFF;
    if (m->scenario->execute == EXECUTE_OTHER)
        reply[0] ^= 0x80;
    r = sahara_send(m, SAHARA_EXECUTE_RESP, reply, 2);
    if (r < 0 || length == 0)
        return r;
    r = sahara_receive(m, &got, words);
    if (r < 0)
        return r;
    if (got != SAHARA_EXECUTE_DATA)
        return SAHARA_INVALID_COMMAND;
    if (words[0] != command)
        return SAHARA_EXECUTE_DATA_WRONG;
    return front_write(&m->front, out, m->scenario->execute == EXECUTE_CUT ? length / 2 : length);
}

int pbl_command_mode(struct modem *m)
{
    int r = sahara_send(m, SAHARA_CMD_READY, NULL, 0);

    while (r == 0) {
        uint32_t command, words[SAHARA_PACKET_MAX / 4];

        r = sahara_receive(m, &command, words);
        if (r < 0)
            return r;
        if (m->front.nak_next) {
            m->front.nak_next = false;
            return SAHARA_INVALID_COMMAND;
        }
        switch (command) {
        case SAHARA_EXECUTE:
            r = execute(m, words[0]);
            break;
        case SAHARA_SWITCH_MODE:
        case SAHARA_RESET_STATE_MACHINE:
            return 0;
        case SAHARA_RESET:
            return sahara_send(m, SAHARA_RESET_RESP, NULL, 0);
        case 0:
            return SAHARA_INVALID_PACKET_SIZE;
        default:
            return SAHARA_INVALID_COMMAND;
        }
    }
    return r;
}

int pbl_reset(struct modem *m)
{
    int r = sahara_send(m, SAHARA_RESET_RESP, NULL, 0);

    if (r < 0)
        return r;
    switch (m->scenario->sahara_reset) {
    case SAHARA_RESET_REBOOT:
        return MODE_RESET;
    case SAHARA_RESET_SILENT:
        return front_hang(&m->front);
    default:
        return 0;
    }
}
