/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Command mode (reference/edl.md 1.2): who is this? Every answer may be missing, and none is worth a failure.
 */

#include "protocol/sahara.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "protocol/detect.h"
#include "protocol/sahara-packet.h"

enum client_command {
    COMMAND_SERIAL_NUM_READ = 0x01,
    COMMAND_MSM_HW_ID_READ = 0x02,
    COMMAND_OEM_PK_HASH_READ = 0x03,
    COMMAND_READ_CHIP_ID_V3 = 0x0a,
};

enum {
    /* The longest known answer is a PK hash of 0xC0 bytes, or four digests of 64. */
    ANSWER_MAX = 512,
    /* From this HELLO version on the HWID stands in the chip id record. */
    VERSION_CHIP_ID_V3 = 3,
    CHIP_ID_MSM = 36,
    CHIP_ID_OEM = 40,
    CHIP_ID_MODEL = 42,
    CHIP_ID_OEM_ALTERNATIVE = 44, /* where the first is 0 */
    CHIP_ID_LEAST = 44,
    /* A refused command is answered with END_IMAGE_TX: 16 bytes where the data were announced. */
    REFUSAL_SIZE = 0x10,
};

#define ASKING "asking the modem who it is"

struct answer {
    size_t size;
    uint8_t bytes[ANSWER_MAX];
};

/*
 * Exactly what was announced, as raw bytes. 0: *ret is it. -ENODATA: something else came instead, and was
 * dropped.
 */
static int read_answer(struct transport *t, size_t size, usec_t deadline, struct answer *ret)
{
    static const uint8_t refusal[SAHARA_HEADER_SIZE] = {SAHARA_END_IMAGE_TX, 0, 0, 0, REFUSAL_SIZE};
    size_t done = 0;
    bool ended = false;
    unsigned zlps = 0;
    while (done < size) {
        size_t n;
        int r = transport_read(t, ret->bytes + done, size - done, deadline, &n, &ended);
        if (r < 0)
            return r;
        if (n == 0 && ++zlps > SAHARA_ZLPS_MAX)
            return -ETIMEDOUT;
        done += n;
        if (ended && done == REFUSAL_SIZE && done < size && memcmp(ret->bytes, refusal, sizeof(refusal)) == 0)
            return -ENODATA;
    }
    /* More than announced is some other thing: END_IMAGE_TX in place of a serial. Whole packets need not end
     * (2.10). */
    if (!ended && size % transport_max_packet(t) != 0) {
        transport_drop_input(t);
        return -ENODATA;
    }
    ret->size = size;
    return 0;
}

/*
 * One client command. 0: *ret is its answer. -ENODATA: the modem refuses it or has nothing to say; the next
 * may be asked (some refuse every one of them, each with END_IMAGE_TX status 1). Else the conversation is
 * over.
 */
static int execute(struct transport *t, enum client_command command, struct answer *ret)
{
    const uint32_t words[] = {command};
    struct sahara_packet p;
    int r = sahara_send(t, SAHARA_EXECUTE, words, 1, deadline_in(SAHARA_WRITE_TIMEOUT));
    if (r < 0)
        return r;
    r = sahara_packet_receive(t, &p, deadline_in(SAHARA_COMMAND_TIMEOUT));
    if (r < 0)
        return r;
    if (p.command == SAHARA_END_IMAGE_TX)
        return -ENODATA;
    if (p.command != SAHARA_EXECUTE_RESP || sahara_u32(&p, 0x08) != command)
        return -EPROTO;
    uint32_t size = sahara_u32(&p, 0x0c);
    if (size == 0 || size > ANSWER_MAX)
        return -ENODATA;
    r = sahara_send(t, SAHARA_EXECUTE_DATA, words, 1, deadline_in(SAHARA_WRITE_TIMEOUT));
    if (r < 0)
        return r;
    return read_answer(t, size, deadline_in(SAHARA_COMMAND_TIMEOUT), ret);
}

static uint32_t answer_u32(const struct answer *a, size_t at)
{
    uint32_t v;
    memcpy(&v, a->bytes + at, sizeof(v));
    return le32toh(v);
}

static uint16_t answer_u16(const struct answer *a, size_t at)
{
    uint16_t v;
    memcpy(&v, a->bytes + at, sizeof(v));
    return le16toh(v);
}

static void take_serial(const struct answer *a, struct sahara_identity *identity)
{
    if (a->size < sizeof(uint32_t))
        return;
    identity->serial = answer_u32(a, 0);
    identity->have_serial = true;
}

static void take_hwid(const struct answer *a, struct sahara_identity *identity)
{
    /* Some repeat it up to 0x18 bytes. */
    if (a->size < sizeof(uint64_t))
        return;
    identity->hwid = (uint64_t)answer_u32(a, 4) << 32 | answer_u32(a, 0);
    identity->have_hwid = identity->hwid != 0;
}

static void take_chip_id(const struct answer *a, struct sahara_identity *identity)
{
    if (a->size < CHIP_ID_LEAST)
        return;
    uint16_t oem = answer_u16(a, CHIP_ID_OEM);
    if (oem == 0 && a->size >= CHIP_ID_OEM_ALTERNATIVE + sizeof(oem))
        oem = answer_u16(a, CHIP_ID_OEM_ALTERNATIVE);
    identity->hwid =
        (uint64_t)answer_u32(a, CHIP_ID_MSM) << 32 | (uint32_t)oem << 16 | answer_u16(a, CHIP_ID_MODEL);
    identity->have_hwid = identity->hwid != 0;
}

/* The digest among what was sent: repeated for every root certificate, or once with zeros behind (1.2). */
static size_t pk_hash_size(const struct answer *a)
{
    static const size_t digests[] = {32, 48, 64};
    size_t used = a->size;
    while (used > 0 && a->bytes[used - 1] == 0)
        used--;
    if (used == 0)
        return 0; /* no key is fused */
    for (size_t i = 0; i < ARRAY_SIZE(digests); i++)
        if (a->size >= 2 * digests[i] && memcmp(a->bytes, a->bytes + digests[i], digests[i]) == 0)
            return digests[i];
    for (size_t i = 0; i < ARRAY_SIZE(digests); i++)
        if (used <= digests[i] && digests[i] <= a->size)
            return digests[i];
    /* Different digests of several roots: the first one, by the only length that fits. */
    if (used > digests[2])
        return a->size % digests[1] == 0 ? digests[1] : digests[0];
    return 0;
}

static void take_pk_hash(const struct answer *a, struct sahara_identity *identity)
{
    identity->pk_hash_size = pk_hash_size(a);
    memcpy(identity->pk_hash, a->bytes, identity->pk_hash_size);
}

static int ask(struct transport *t, struct sahara_identity *identity)
{
    static const struct question {
        enum client_command command;
        unsigned from, before; /* HELLO versions that are asked */
        void (*take)(const struct answer *a, struct sahara_identity *identity);
    } questions[] = {
        {COMMAND_SERIAL_NUM_READ, 0, UINT32_MAX, take_serial},
        /* Not answered from version 3 on, not even by a refusal: never asked there (1.2). */
        {COMMAND_MSM_HW_ID_READ, 0, VERSION_CHIP_ID_V3, take_hwid},
        {COMMAND_READ_CHIP_ID_V3, VERSION_CHIP_ID_V3, UINT32_MAX, take_chip_id},
        /* Last, because it is the one that is refused most often. */
        {COMMAND_OEM_PK_HASH_READ, 0, UINT32_MAX, take_pk_hash},
    };
    for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
        const struct question *q = &questions[i];
        if (identity->sahara_version < q->from || identity->sahara_version >= q->before)
            continue;
        struct answer a;
        int r = execute(t, q->command, &a);
        if (r == 0)
            q->take(&a, identity);
        else if (r != -ENODATA)
            return r;
    }
    return 0;
}

/* SWITCH_MODE(0) and the HELLO that follows. */
static int leave(struct transport *t, struct sahara_hello *ret)
{
    static const uint32_t words[] = {SAHARA_MODE_IMAGE_TX_PENDING};
    struct sahara_packet p;
    int r = sahara_send(t, SAHARA_SWITCH_MODE, words, 1, deadline_in(SAHARA_WRITE_TIMEOUT));
    if (r == 0)
        r = sahara_packet_receive(t, &p, deadline_in(SAHARA_ANSWER_TIMEOUT));
    if (r < 0)
        return r;
    return sahara_parse_hello(p.bytes, p.size, ret);
}

/* What the modem did is no reason to give up; that it is gone, or that we are called off, is. */
static bool is_final(int r)
{
    return r < 0 && r != -EPROTO && r != -ETIMEDOUT && r != -EPIPE && r != -ENODATA;
}

int sahara_identify(struct transport *t, struct sahara_hello *hello, struct sahara_identity *ret,
                    struct error *e)
{
    struct sahara_identity identity = {.sahara_version = hello->version};
    struct sahara_packet p;
    unsigned hellos = 0;
    int r = sahara_greet(t, hello, SAHARA_MODE_COMMAND, &hellos, SAHARA_ANSWER_TIMEOUT, &p);
    /* END_IMAGE_TX: command mode refused (quirk 17). READ_DATA: the mode was ignored. Both are left by the
     * ladder. */
    identity.refused = r == 0 && (p.command == SAHARA_END_IMAGE_TX || p.command == SAHARA_READ_DATA ||
                                  p.command == SAHARA_READ_DATA64);
    if (r == 0 && p.command != SAHARA_CMD_READY)
        r = -EPROTO;
    if (r == 0)
        r = ask(t, &identity);
    identity.complete = r == 0;

    struct sahara_hello fresh;
    if (r == 0)
        r = leave(t, &fresh);
    identity.persuaded = r < 0 && !is_final(r);
    *ret = identity;
    if (is_final(r))
        return sahara_io_error(r, ASKING, e);
    if (r < 0) {
        struct detect_result found;
        r = detect_return_to_hello(t, &found, e);
        if (r < 0)
            return r;
        if (found.state != DETECT_SAHARA && found.state != DETECT_CRASH_DUMP) {
            r = error_set(e, ERROR_SAHARA_FAILED, "the modem left Sahara while " ASKING);
            error_hint(e, HINT_RETRY);
            return r;
        }
        fresh = found.hello;
    }
    *hello = fresh;
    return 0;
}
