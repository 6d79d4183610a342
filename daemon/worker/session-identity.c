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

/* An identity as text, as it is told and compared; "" for a part that is not known. */
struct identity_text {
    char serial[SERIAL_DIGITS + 1], hwid[HWID_DIGITS + 1], pk_hash[PK_HASH_DIGITS + 1];
};

static struct identity_text print_identity(const struct sahara_identity *id)
{
    struct identity_text t = {0};
    if (id->have_serial)
        snprintf(t.serial, sizeof(t.serial), "%08x", id->serial);
    if (id->have_hwid)
        snprintf(t.hwid, sizeof(t.hwid), "%016llx", (unsigned long long)id->hwid);
    text_hex(id->pk_hash, MIN_OF(id->pk_hash_size, (size_t)SAHARA_PK_HASH_MAX), t.pk_hash);
    return t;
}

/* What may be missing on one side of a comparison and still be the same modem. */
enum missing { MISSING_NEITHER = 0, MISSING_NOW = 1 << 0, MISSING_BEFORE = 1 << 1 };

static int compare_part(const char *what, const char *want, const char *now, unsigned missing,
                        struct error *e)
{
    if (strcmp(want, now) == 0 || (!*now && missing & MISSING_NOW) || (!*want && missing & MISSING_BEFORE))
        return 0;
    return error_set(
        e, ERROR_WRONG_UNIT,
        "this is not the modem of this job: its %s is %s, expected %s; nothing was written to it", what,
        *now ? now : "not told any more", *want ? want : "not to be told");
}

static int compare(const struct sahara_identity *want, const struct sahara_identity *now, unsigned serial,
                   unsigned rest, struct error *e)
{
    const struct identity_text a = print_identity(want), b = print_identity(now);
    int r = compare_part("serial number", a.serial, b.serial, serial, e);
    if (r == 0)
        r = compare_part("hardware id", a.hwid, b.hwid, rest, e);
    return r < 0 ? r : compare_part("PK hash", a.pk_hash, b.pk_hash, rest, e);
}

/* Takes over and tells what no appearance told before (the first one may have been found in Firehose). */
static void learn(struct session *s, const struct sahara_identity *now)
{
    struct sahara_identity *known = &s->identity;
    const struct identity_text text = print_identity(now);

    if (now->have_serial && !known->have_serial) {
        known->have_serial = true;
        known->serial = now->serial;
        worker_tell(s->worker, KEY_SERIAL, text.serial);
    }
    if (now->have_hwid && !known->have_hwid) {
        const char *chip = sahara_chip_name(now->hwid);
        known->have_hwid = true;
        known->hwid = now->hwid;
        worker_tell(s->worker, KEY_HWID, text.hwid);
        if (chip)
            worker_tell(s->worker, KEY_CHIP, chip);
    }
    if (now->pk_hash_size > 0 && known->pk_hash_size == 0) {
        known->pk_hash_size = now->pk_hash_size;
        memcpy(known->pk_hash, now->pk_hash, sizeof(known->pk_hash));
        worker_tell(s->worker, KEY_PKHASH, text.pk_hash);
    }
    if (now->sahara_version > 0)
        known->sahara_version = now->sahara_version;
    s->identity_known = known->have_serial || known->have_hwid || known->pk_hash_size > 0;
}

int session_check_identity(struct session *s, const struct sahara_identity *now, bool asked, struct error *e)
{
    const unsigned any = MISSING_NOW | MISSING_BEFORE;
    bool named = now->have_serial && now->serial != 0,
         known = s->identity.have_serial || s->expected.have_serial;
    s->recognized = false;
    int r = compare(&s->expected, now, any, any, e);
    if (r == 0 && (s->identity_known || s->asked)) {
        /* A modem that was asked twice says the same twice; one that could not be asked has its serial at
         * least. */
        unsigned before = asked && s->asked ? MISSING_NEITHER : MISSING_BEFORE,
                 rest = asked ? before : before | MISSING_NOW;
        r = compare(&s->identity, now, s->leaves_when_asked ? rest : before, rest, e);
    }
    if (r < 0)
        return r;
    s->recognized = named && known;
    s->asked |= asked;
    learn(s, now);
    return 0;
}

struct sahara_identity session_unit(const struct session *s)
{
    struct sahara_identity unit = s->identity;
    if (!unit.have_serial && s->expected.have_serial) {
        unit.have_serial = true;
        unit.serial = s->expected.serial;
    }
    if (!unit.have_hwid && s->expected.have_hwid) {
        unit.have_hwid = true;
        unit.hwid = s->expected.hwid;
    }
    if (unit.pk_hash_size == 0) {
        unit.pk_hash_size = s->expected.pk_hash_size;
        memcpy(unit.pk_hash, s->expected.pk_hash, sizeof(unit.pk_hash));
    }
    return unit;
}
