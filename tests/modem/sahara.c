/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sahara.h"

#include <string.h>

#include "modem.h"
#include "trace.h"

static const char *const names[] = {
    "?",
    "HELLO",
    "HELLO_RESP",
    "READ_DATA",
    "END_IMAGE",
    "DONE",
    "DONE_RESP",
    "RESET",
    "RESET_RESP",
    "MEMORY_DEBUG",
    "MEMORY_READ",
    "CMD_READY",
    "SWITCH_MODE",
    "EXECUTE",
    "EXECUTE_RESP",
    "EXECUTE_DATA",
    "MEMORY_DEBUG64",
    "MEMORY_READ64",
    "READ_DATA64",
    "RESET_STATE_MACHINE",
};

static const char *name_of(uint32_t command)
{
    return command < sizeof(names) / sizeof(names[0]) ? names[command] : names[0];
}

int sahara_send(struct modem *m, uint32_t command, const uint32_t *words, size_t count)
{
    uint32_t packet[SAHARA_PACKET_MAX / 4] = {command, (uint32_t)(SAHARA_HEADER + count * 4)};

    if (count)
        memcpy(packet + 2, words, count * 4);
    trace("sahara in %s %u %u %u", name_of(command), count > 0 ? words[0] : 0, count > 1 ? words[1] : 0,
          count > 2 ? words[2] : 0);
    return front_write(&m->front, packet, SAHARA_HEADER + count * 4);
}

int sahara_send_end(struct modem *m, uint32_t image, uint32_t status)
{
    const uint32_t words[] = {image, status};

    return sahara_send(m, SAHARA_END_IMAGE, words, 2);
}

int sahara_send_hello(struct modem *m, uint32_t mode)
{
    const uint32_t words[10] = {(uint32_t)m->scenario->sahara_version, 1, SAHARA_PACKET_MAX, mode};

    return sahara_send(m, SAHARA_HELLO, words, 10);
}

int sahara_receive(struct modem *m, uint32_t *ret_command, uint32_t ret_words[SAHARA_PACKET_MAX / 4])
{
    uint32_t packet[SAHARA_PACKET_MAX / 4] = {0};
    size_t length;
    int r;

    do {
        r = front_read(&m->front, packet, sizeof(packet), &length);
        if (r < 0)
            return r;
    } while (length == 0 && m->scenario->sahara_zlp == TOLERANCE_IGNORE);
    memset(ret_words, 0, SAHARA_PACKET_MAX);
    if (length < SAHARA_HEADER || packet[1] != length || packet[0] == 0) {
        trace("sahara out junk length=%zu", length);
        memcpy(ret_words, packet, length);
        *ret_command = 0;
        return 0;
    }
    memcpy(ret_words, packet + 2, length - SAHARA_HEADER);
    *ret_command = packet[0];
    trace("sahara out %s %u %u", name_of(packet[0]), ret_words[0], ret_words[1]);
    return 0;
}
