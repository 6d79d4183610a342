/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "base/text.h"
#include "worker/session.h"

enum { SERIAL_DIGITS = 8, HWID_DIGITS = 16, PK_HASH_DIGITS = 2 * SAHARA_PK_HASH_MAX };

bool session_product_serial(const char *product, uint32_t *ret)
{
    static const char mark[] = "_SN:";
    const char *p = strstr(product, mark);
    uint8_t bytes[SERIAL_DIGITS / 2];
    char digits[SERIAL_DIGITS + 1];

    if (!p)
        return false;
    p += sizeof(mark) - 1;
    size_t n = strspn(p, "0123456789abcdefABCDEF");
    if (n != SERIAL_DIGITS)
        return false;
    memcpy(digits, p, SERIAL_DIGITS);
    digits[SERIAL_DIGITS] = '\0';
    if (text_unhex(digits, bytes, sizeof(bytes)) < 0)
        return false;
    *ret = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    return true;
}

static bool allowed(const struct worker *w, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = worker_option(w, "allow", ""); *p; p += strcspn(p, ","), p += *p == ',')
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

void session_expect_unit(struct session *s)
{
    struct sahara_identity *unit = &s->expected;
    const char *serial = worker_option(s->worker, "serial", ""), *hwid = worker_option(s->worker, "hwid", ""),
               *hash = worker_option(s->worker, "pkhash", "");
    uint8_t bytes[HWID_DIGITS / 2];

    if (allowed(s->worker, "WrongUnit"))
        return;
    if (text_unhex(serial, bytes, SERIAL_DIGITS / 2) == 0) {
        unit->have_serial = true;
        for (size_t i = 0; i < SERIAL_DIGITS / 2; i++)
            unit->serial = unit->serial << 8 | bytes[i];
    }
    if (text_unhex(hwid, bytes, HWID_DIGITS / 2) == 0) {
        unit->have_hwid = true;
        for (size_t i = 0; i < HWID_DIGITS / 2; i++)
            unit->hwid = unit->hwid << 8 | bytes[i];
    }
    size_t n = strlen(hash) / 2;
    if (n > 0 && n <= SAHARA_PK_HASH_MAX && text_unhex(hash, unit->pk_hash, n) == 0)
        unit->pk_hash_size = n;
}

/* `what` and both values, in the message of a WrongUnit. */
static int differs(const char *what, const char *want, const char *found, struct error *e)
{
    return error_set(
        e, ERROR_WRONG_UNIT,
        "this is not the modem of this job: its %s is %s, expected %s; nothing was written to it", what,
        found, want);
}

static int compare_serial(const struct sahara_identity *want, const struct sahara_identity *now,
                          bool required, struct error *e)
{
    char a[SERIAL_DIGITS + 1], b[SERIAL_DIGITS + 1];
    if (!want->have_serial || (!now->have_serial && !required) ||
        (now->have_serial && now->serial == want->serial))
        return 0;
    snprintf(a, sizeof(a), "%08x", want->serial);
    snprintf(b, sizeof(b), "%08x", now->serial);
    return differs("serial number", a, now->have_serial ? b : "not told any more", e);
}

static int compare_hwid(const struct sahara_identity *want, const struct sahara_identity *now, bool required,
                        struct error *e)
{
    char a[HWID_DIGITS + 1], b[HWID_DIGITS + 1];
    if (!want->have_hwid || (!now->have_hwid && !required) || (now->have_hwid && now->hwid == want->hwid))
        return 0;
    snprintf(a, sizeof(a), "%016llx", (unsigned long long)want->hwid);
    snprintf(b, sizeof(b), "%016llx", (unsigned long long)now->hwid);
    return differs("hardware id", a, now->have_hwid ? b : "not told any more", e);
}

static int compare_pk_hash(const struct sahara_identity *want, const struct sahara_identity *now,
                           bool required, struct error *e)
{
    char a[PK_HASH_DIGITS + 1], b[PK_HASH_DIGITS + 1];
    bool told = now->pk_hash_size > 0;
    if (want->pk_hash_size == 0 || (!told && !required) ||
        (now->pk_hash_size == want->pk_hash_size &&
         memcmp(now->pk_hash, want->pk_hash, now->pk_hash_size) == 0))
        return 0;
    text_hex(want->pk_hash, want->pk_hash_size, a);
    text_hex(now->pk_hash, now->pk_hash_size, b);
    return differs("PK hash", a, told ? b : "not told any more", e);
}

static int compare(const struct sahara_identity *want, const struct sahara_identity *now,
                   bool serial_required, bool rest_required, struct error *e)
{
    int r = compare_serial(want, now, serial_required, e);
    if (r == 0)
        r = compare_hwid(want, now, rest_required, e);
    return r < 0 ? r : compare_pk_hash(want, now, rest_required, e);
}

/* Takes over and tells what no appearance told before (the first one may have been found in Firehose). */
static void learn(struct session *s, const struct sahara_identity *now)
{
    struct sahara_identity *known = &s->identity;
    char text[PK_HASH_DIGITS + 1];

    if (now->have_serial && !known->have_serial) {
        known->have_serial = true;
        known->serial = now->serial;
        snprintf(text, sizeof(text), "%08x", now->serial);
        worker_tell(s->worker, KEY_SERIAL, text);
    }
    if (now->have_hwid && !known->have_hwid) {
        known->have_hwid = true;
        known->hwid = now->hwid;
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)now->hwid);
        worker_tell(s->worker, KEY_HWID, text);
        const char *chip = sahara_chip_name(now->hwid);
        if (chip)
            worker_tell(s->worker, KEY_CHIP, chip);
    }
    if (now->pk_hash_size > 0 && known->pk_hash_size == 0) {
        known->pk_hash_size = now->pk_hash_size;
        memcpy(known->pk_hash, now->pk_hash, now->pk_hash_size);
        text_hex(now->pk_hash, now->pk_hash_size, text);
        worker_tell(s->worker, KEY_PKHASH, text);
    }
    if (now->sahara_version > 0)
        known->sahara_version = now->sahara_version;
    s->identity_known = known->have_serial || known->have_hwid || known->pk_hash_size > 0;
}

int session_check_identity(struct session *s, const struct sahara_identity *now, bool complete,
                           struct error *e)
{
    int r = compare(&s->expected, now, false, false, e);
    if (r == 0)
        r = compare(&s->identity, now, true, complete, e);
    if (r < 0)
        return r;
    learn(s, now);
    return 0;
}
