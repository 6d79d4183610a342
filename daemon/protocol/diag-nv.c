/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Numbered NV items (reference/diag.md 2.4, 4.1). */

#include <errno.h>

#include "protocol/diag-inner.h"

enum {
    COMMAND_READ = 0x26,
    COMMAND_WRITE = 0x27,
    SUBSYSTEM_NV = 0x30,
    EXTENDED_READ = 1,
    EXTENDED_WRITE = 2,

    ITEM = 1,
    DATA = 3,
    STATUS = DATA + DIAG_NV_SIZE,
    PACKET_SIZE = STATUS + 2,

    EXTENDED_ITEM = 4,
    EXTENDED_CONTEXT = 6,
    EXTENDED_DATA = 8,
    EXTENDED_STATUS = EXTENDED_DATA + DIAG_NV_SIZE,
    EXTENDED_SIZE = EXTENDED_STATUS + 2,

    IMEI_LENGTH = 8,      /* byte 0 of item 550 */
    IMEI_LOW_NIBBLE = 10, /* of the first byte */
};

static const usec_t write_patience = 15 * USEC_PER_SEC;

/* NV is busy for moments: each item is asked for a few times more, until pauses of 4 s in a row did not help.
 */
enum { BUSY_TRIES = 4, BUSY_MAX = 100 };
static const usec_t busy_pause = 40 * USEC_PER_MSEC;

const char *diag_nv_status_name(unsigned status)
{
    static const char *const names[] = {"done",        "busy",          "bad command",   "NV is full",
                                        "failed",      "never written", "bad parameter", "read-only",
                                        "not defined", "no memory",     "internal error"};
    return status < ARRAY_SIZE(names) ? names[status] : "unknown status";
}

bool diag_nv_is_absent(unsigned status)
{
    return status == DIAG_NV_NOT_ACTIVE || status == DIAG_NV_BAD_PARAMETER || status == DIAG_NV_NOT_DEFINED ||
           status == DIAG_NV_BAD_COMMAND;
}

struct packet {
    uint8_t bytes[EXTENDED_SIZE];
    size_t size, data, status, key;
};

static void make_packet(struct packet *p, uint16_t item, uint16_t context, bool writes)
{
    *p = (struct packet){.size = PACKET_SIZE, .data = DATA, .status = STATUS, .key = DATA};
    if (context == 0) {
        p->bytes[0] = writes ? COMMAND_WRITE : COMMAND_READ;
        put_le16(p->bytes + ITEM, item);
        return;
    }
    *p = (struct packet){
        .size = EXTENDED_SIZE, .data = EXTENDED_DATA, .status = EXTENDED_STATUS, .key = EXTENDED_DATA};
    p->bytes[0] = DIAG_SUBSYSTEM;
    p->bytes[1] = SUBSYSTEM_NV;
    p->bytes[2] = writes ? EXTENDED_WRITE : EXTENDED_READ;
    put_le16(p->bytes + EXTENDED_ITEM, item);
    put_le16(p->bytes + EXTENDED_CONTEXT, context);
}

/* A question about one item that the modem does not like is that item's matter. */
static bool is_about_item(enum diag_refusal refusal)
{
    return refusal == DIAG_BAD_PARAMETER || refusal == DIAG_BAD_LENGTH || refusal == DIAG_DISALLOWED ||
           refusal == DIAG_BAD_TRANSACTION;
}

static int ask_once(struct diag *d, const struct packet *p, bool writes, const uint8_t **ret, struct error *e)
{
    const struct diag_question q = {.request = p->bytes,
                                    .size = p->size,
                                    .echo = p->key,
                                    .least = p->size,
                                    .patience = writes ? write_patience : 0,
                                    .writes = writes};
    struct error own = {0};
    size_t size;
    int r = diag_ask(d, &q, ret, &size, &own);
    if (r == -EPROTO && is_about_item(d->refusal))
        return 1;
    if (r < 0 && e)
        *e = own;
    return r;
}

/* An item of a modem that is busy is not one that it lacks. */
static int ask(struct diag *d, const struct packet *p, bool writes, const uint8_t **ret, struct error *e)
{
    for (unsigned i = 0;; i++) {
        int r = ask_once(d, p, writes, ret, e);
        if (r != 0)
            return r;
        if (get_le16(*ret + p->status) != DIAG_NV_BUSY) {
            d->busy = 0;
            return 0;
        }
        if (i == BUSY_TRIES || d->busy == BUSY_MAX)
            return 0;
        if (i > 0) {
            d->busy++;
            r = diag_pause(d, busy_pause, e);
        }
        if (r < 0)
            return r;
    }
}

int diag_nv_read(struct diag *d, uint16_t item, uint16_t context, uint8_t data[DIAG_NV_SIZE],
                 unsigned *ret_status, struct error *e)
{
    struct packet p;
    const uint8_t *answer;
    make_packet(&p, item, context, false);
    int r = ask(d, &p, false, &answer, e);
    if (r < 0)
        return r;
    *ret_status = r > 0 ? (unsigned)DIAG_NV_BAD_PARAMETER : get_le16(answer + p.status);
    if (*ret_status == DIAG_NV_DONE)
        memcpy(data, answer + p.data, DIAG_NV_SIZE);
    return 0;
}

int diag_nv_write(struct diag *d, uint16_t item, uint16_t context, const uint8_t data[DIAG_NV_SIZE],
                  unsigned *ret_status, struct error *e)
{
    struct packet p;
    const uint8_t *answer;
    make_packet(&p, item, context, true);
    memcpy(p.bytes + p.data, data, DIAG_NV_SIZE);
    int r = ask(d, &p, true, &answer, e);
    if (r < 0)
        return r;
    *ret_status = r > 0 ? (unsigned)DIAG_NV_BAD_PARAMETER : get_le16(answer + p.status);
    return 0;
}

/* Luhn: the last digit makes the sum of all, every second one doubled, a multiple of ten. */
static bool check_digit_fits(const char digits[DIAG_IMEI_DIGITS + 1])
{
    unsigned sum = 0;
    for (size_t i = 0; i < DIAG_IMEI_DIGITS; i++) {
        unsigned digit = (unsigned)(digits[i] - '0') * (i % 2 ? 2 : 1);
        sum += digit / 10 + digit % 10;
    }
    return sum % 10 == 0;
}

int diag_imei_parse(const uint8_t data[DIAG_NV_SIZE], char ret[DIAG_IMEI_DIGITS + 1])
{
    char digits[DIAG_IMEI_DIGITS + 1] = "";
    bool blank = true;
    if (data[0] != IMEI_LENGTH || (data[1] & 0xf) != IMEI_LOW_NIBBLE)
        return -EINVAL;
    for (size_t i = 0; i < DIAG_IMEI_DIGITS; i++) {
        unsigned nibble = i % 2 ? data[2 + i / 2] & 0xfu : (unsigned)(data[1 + i / 2] >> 4);
        if (nibble > 9)
            return -EINVAL;
        digits[i] = (char)('0' + nibble);
        blank &= nibble == 0;
    }
    if (blank || !check_digit_fits(digits))
        return -EINVAL;
    memcpy(ret, digits, sizeof(digits));
    return 0;
}
