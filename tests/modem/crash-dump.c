/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A modem that has crashed: Sahara in memory debug mode (reference/edl.md 1.4). It lends out its memory until
 * RESET. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "modem.h"
#include "sahara.h"
#include "trace.h"

/* As 2c7c:0800 with one interface it still knows DIAG's way to 9008 (reference/edl.md 3.1). */
static const uint8_t to_edl[] = {0x4B, 0x65, 0x01, 0x00, 0x54, 0x0F, 0x7E};

enum {
    TABLE_ADDRESS = 0x85E00000,
    REGION_SIZE = 0x4000,
    REGION_ADDRESS = 0x80000000,
    REFUSED_ADDRESS = 0x90000000,
    ENTRIES_MAX = 1000,
};

struct dump_entry {
    uint64_t save, base, length;
    char description[20], file[20];
};

struct narrow_entry {
    uint32_t save, base, length;
    char description[20], file[20];
};

static const struct dump_entry honest[] = {
    {1, REGION_ADDRESS, REGION_SIZE, "OCIMEM", "OCIMEM.BIN"},
    {1, REGION_ADDRESS + 0x100000, REGION_SIZE / 4, "Reset Status Region", "RST_STAT.BIN"},
};

/* What no file name should be; the last ones fill their room, and are the same. */
static const struct dump_entry names[] = {
    {1, REGION_ADDRESS, 0x200, "path", "../../etc/passwd"},
    {1, REGION_ADDRESS, 0x200, "absolute", "/etc/shadow"},
    {1, REGION_ADDRESS, 0x200, "\x1b[31m\xff", ".bashrc"},
    {1, REGION_ADDRESS, 0x200, "none", ""},
    {1, REGION_ADDRESS, 0x200, "dots", ".."},
    {1, REGION_ADDRESS, 0x200, "many spaces\nlines", "a b\nc"},
    {1,
     REGION_ADDRESS,
     0x200,
     {'f', 'u', 'l', 'l', 'f', 'u', 'l', 'l', 'f', 'u', 'l', 'l', 'f', 'u', 'l', 'l', 'f', 'u', 'l', 'l'},
     {'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A'}},
    {1, REGION_ADDRESS, 0x200, "again", {'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A',
                                         'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A'}},
    {1, REGION_ADDRESS, 0x200, "sums", "SHA256SUMS"},
    {1, REGION_ADDRESS, 0x200, "facts", "dump.txt"},
};

static const struct dump_entry bounds[] = {
    {1, REGION_ADDRESS, 0, "empty", "EMPTY.BIN"},
    {1, UINT64_MAX - 0xfff, 0x2000, "wraps", "WRAPS.BIN"},
    {1, REGION_ADDRESS, UINT64_MAX, "everything", "ALL.BIN"},
    {1, REGION_ADDRESS, UINT64_C(1) << 40, "a terabyte", "TERA.BIN"},
    {1, REGION_ADDRESS, REGION_SIZE, "good", "GOOD.BIN"},
};

static const struct dump_entry overlap[] = {
    {1, REGION_ADDRESS, REGION_SIZE, "outer", "OUTER.BIN"},
    {1, REGION_ADDRESS + 0x100, 0x200, "inner", "INNER.BIN"},
    {1, REGION_ADDRESS, REGION_SIZE, "same", "SAME.BIN"},
};

static const struct dump_entry refuse[] = {
    {1, REGION_ADDRESS, REGION_SIZE, "OCIMEM", "OCIMEM.BIN"},
    {1, REFUSED_ADDRESS, REGION_SIZE, "secret", "SECRET.BIN"},
    {1, REGION_ADDRESS, 0x300, "behind", "BEHIND.BIN"},
};

struct table {
    uint8_t bytes[ENTRIES_MAX * sizeof(struct dump_entry)];
    uint64_t size, told; /* told: what the modem says of its size */
    bool narrow;
};

static void fill_many(struct table *t)
{
    for (unsigned i = 0; i < ENTRIES_MAX; i++) {
        struct dump_entry e = {1, REGION_ADDRESS, 0x10, "one of many", ""};
        snprintf(e.file, sizeof(e.file), "R%u.BIN", i);
        memcpy(t->bytes + i * sizeof(e), &e, sizeof(e));
    }
    t->size = sizeof(t->bytes);
}

static void make_table(struct table *t, int64_t kind)
{
    static const struct {
        const struct dump_entry *entries;
        size_t size;
    } tables[] = {[CRASH_TABLE_NAMES] = {names, sizeof(names)},
                  [CRASH_TABLE_BOUNDS] = {bounds, sizeof(bounds)},
                  [CRASH_TABLE_OVERLAP] = {overlap, sizeof(overlap)},
                  [CRASH_TABLE_REFUSE] = {refuse, sizeof(refuse)}};
    bool own = kind < (int64_t)(sizeof(tables) / sizeof(tables[0])) && tables[kind].entries;
    const struct dump_entry *entries = own ? tables[kind].entries : honest;

    t->size = own ? tables[kind].size : sizeof(honest);
    t->narrow = kind == CRASH_TABLE_NARROW;
    memcpy(t->bytes, entries, (size_t)t->size);
    for (unsigned i = 0; t->narrow && i < sizeof(honest) / sizeof(honest[0]); i++) {
        struct narrow_entry n = {1, (uint32_t)honest[i].base, (uint32_t)honest[i].length, "", ""};
        memcpy(n.description, honest[i].description, sizeof(n.description));
        memcpy(n.file, honest[i].file, sizeof(n.file));
        memcpy(t->bytes + i * sizeof(n), &n, sizeof(n));
        t->size = (i + 1) * sizeof(n);
    }
    if (kind == CRASH_TABLE_MANY)
        fill_many(t);
    t->told = kind == CRASH_TABLE_HUGE    ? UINT64_C(1) << 32
              : kind == CRASH_TABLE_ODD   ? t->size - 1
              : kind == CRASH_TABLE_EMPTY ? 0
                                          : t->size;
}

static uint64_t join(const uint32_t *words)
{
    return words[0] | (uint64_t)words[1] << 32;
}

static int lend(struct modem *m, const uint8_t *bytes, size_t length)
{
    int r = front_write(&m->front, bytes, length);

    if (r == 0 && m->scenario->in_zlp && length % m->front.plug.max_packet == 0)
        r = front_write_zlp(&m->front);
    return r;
}

static int memory_read(struct modem *m, const struct table *t, uint64_t address, uint64_t length)
{
    uint8_t bytes[REGION_SIZE];

    trace("memory read address=0x%" PRIx64 " length=%" PRIu64, address, length);
    if (address >= TABLE_ADDRESS && length <= t->size && address - TABLE_ADDRESS <= t->size - length)
        return lend(m, t->bytes + (address - TABLE_ADDRESS), (size_t)length);
    if (address < REGION_ADDRESS || address >= REFUSED_ADDRESS || length > sizeof(bytes))
        return sahara_send_end(m, 0, SAHARA_INVALID_MEMORY_READ);
    for (uint64_t k = 0; k < length; k++)
        bytes[k] = (uint8_t)((address + k) * 0x9E3779B1u >> 24);
    return lend(m, bytes, (size_t)length);
}

static int offer(struct modem *m, const struct table *t)
{
    const uint32_t narrow[] = {TABLE_ADDRESS, (uint32_t)t->told},
                   wide[] = {TABLE_ADDRESS, 0, (uint32_t)t->told, (uint32_t)(t->told >> 32)};

    return t->narrow ? sahara_send(m, SAHARA_MEMORY_DEBUG, narrow, 2)
                     : sahara_send(m, SAHARA_MEMORY_DEBUG64, wide, 4);
}

int crash_dump_run(struct modem *m)
{
    static struct table table;
    bool greeted = false;
    int r = sahara_send_hello(m, SAHARA_MODE_MEMORY_DEBUG);

    make_table(&table, m->scenario->crash_table);
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
            r = greeted ? offer(m, &table) : sahara_send_end(m, 0, SAHARA_INVALID_MODE);
        } else if (command == SAHARA_MEMORY_READ64 && greeted && !table.narrow) {
            r = memory_read(m, &table, join(words), join(words + 2));
        } else if (command == SAHARA_MEMORY_READ && greeted && table.narrow) {
            r = memory_read(m, &table, words[0], words[1]);
        } else if (command == SAHARA_RESET_STATE_MACHINE && m->scenario->reset_state_machine) {
            greeted = false;
            r = sahara_send_hello(m, SAHARA_MODE_MEMORY_DEBUG);
        } else {
            r = sahara_send_end(m, 0, command ? SAHARA_INVALID_COMMAND : SAHARA_INVALID_PACKET_SIZE);
        }
    }
    return r;
}
