/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A modem that has crashed: Sahara in memory debug mode (reference/edl.md 1.4). It lends out its memory until
 * RESET. */

#include <errno.h>
#include <string.h>

#include "modem.h"
#include "sahara.h"
#include "trace.h"

/* As 2c7c:0800 with one interface it still knows DIAG's way to 9008 (reference/edl.md 3.1). */
static const uint8_t to_edl[] = {0x4B, 0x65, 0x01, 0x00, 0x54, 0x0F, 0x7E};

enum { TABLE_ADDRESS = 0x85E00000, REGION_SIZE = 0x4000, REGION_ADDRESS = 0x80000000, REGIONS = 2 };

struct dump_entry {
    uint64_t save, base, length;
    char description[20], file[20];
};

static const struct dump_entry table[REGIONS] = {
    {1, REGION_ADDRESS, REGION_SIZE, "OCIMEM", "OCIMEM.BIN"},
    {1, REGION_ADDRESS + 0x100000, REGION_SIZE / 4, "Reset Status Region", "RST_STAT.BIN"},
};

static uint64_t join(const uint32_t *words)
{
    return words[0] | (uint64_t)words[1] << 32;
}

static int memory_read(struct modem *m, uint64_t address, uint64_t length)
{
    uint8_t bytes[REGION_SIZE];

    if (address == TABLE_ADDRESS && length <= sizeof(table))
        return front_write(&m->front, table, (size_t)length);
    for (unsigned i = 0; i < REGIONS; i++) {
        const struct dump_entry *e = &table[i];
        if (address < e->base || length > e->length || address - e->base > e->length - length)
            continue;
        for (uint64_t k = 0; k < length; k++)
            bytes[k] = (uint8_t)((address + k) * 0x9E3779B1u >> 24);
        int r = front_write(&m->front, bytes, (size_t)length);
        if (r == 0 && m->scenario->in_zlp && length % m->front.plug.max_packet == 0)
            r = front_write_zlp(&m->front);
        return r;
    }
    return sahara_send_end(m, 0, SAHARA_INVALID_MEMORY_READ);
}

int crash_dump_run(struct modem *m)
{
    const uint32_t debug[4] = {TABLE_ADDRESS, 0, sizeof(table), 0};
    bool greeted = false;
    int r = sahara_send_hello(m, SAHARA_MODE_MEMORY_DEBUG);

    while (r == 0) {
        uint32_t command, words[SAHARA_PACKET_MAX / 4];

        r = sahara_receive(m, &command, words);
        if (r < 0)
            break;
        if (command == 0 && m->scenario->crash_id == CRASH_ID_QUECTEL &&
            memcmp(words, to_edl, sizeof(to_edl)) == 0) {
            r = front_write(&m->front, to_edl, sizeof(to_edl));
            return r < 0 ? r : MODE_RESET_TO_EDL;
        }
        if (command == SAHARA_RESET) {
            r = sahara_send(m, SAHARA_RESET_RESP, NULL, 0);
            return r < 0 ? r : MODE_RESET;
        }
        if (command == SAHARA_HELLO_RESP && !greeted) {
            greeted = words[3] == SAHARA_MODE_MEMORY_DEBUG;
            r = greeted ? sahara_send(m, SAHARA_MEMORY_DEBUG64, debug, 4)
                        : sahara_send_end(m, 0, SAHARA_INVALID_MODE);
        } else if (command == SAHARA_MEMORY_READ64 && greeted) {
            r = memory_read(m, join(words), join(words + 2));
        } else if (command == SAHARA_MEMORY_READ && greeted) {
            r = memory_read(m, words[0], words[1]);
        } else if (command == SAHARA_RESET_STATE_MACHINE && m->scenario->reset_state_machine) {
            greeted = false;
            r = sahara_send_hello(m, SAHARA_MODE_MEMORY_DEBUG);
        } else {
            r = sahara_send_end(m, 0, command ? SAHARA_INVALID_COMMAND : SAHARA_INVALID_PACKET_SIZE);
        }
    }
    return r;
}
