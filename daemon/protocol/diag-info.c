/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who the modem is, and the modes it can be brought to (reference/diag.md 2.1, 2.3, 2.7). */

#include <errno.h>

#include "base/text.h"
#include "protocol/diag-inner.h"

enum {
    COMMAND_MODE = 0x29,
    COMMAND_DLOAD = 0x3a,
    COMMAND_FEATURES = 0x51,
    COMMAND_BUILD = 0x7c,
    SUBSYSTEM_CM = 0x0f,
    SUBSYSTEM_QUECTEL = 0x65,

    BUILD_MODEL_ID = 8,
    BUILD_TEXT = 12,
    CM_OPER_MODE = 8,
};

static const usec_t mode_patience = 15 * USEC_PER_SEC;
/* QFirehose waits that long for the echo, for "SDX55 require long time"; the modem leaves long before. */
static const usec_t edl_patience = 15 * USEC_PER_SEC;

/* A string in an answer, which may lack its NUL; what follows it. */
static size_t take_text(const uint8_t *answer, size_t size, size_t at, char *out, size_t out_size)
{
    out[0] = '\0';
    if (at >= size)
        return size;
    const char *text = (const char *)answer + at;
    size_t n = strnlen(text, size - at);
    text_clean(text, n, out, out_size);
    return at + n + 1;
}

int diag_read_build(struct diag *d, struct diag_build *ret, struct error *e)
{
    static const uint8_t request[] = {COMMAND_BUILD};
    const struct diag_question q = {.request = request, .size = sizeof(request), .least = BUILD_TEXT};
    struct diag_build build = {0};
    const uint8_t *answer;
    size_t size;
    int r = diag_ask(d, &q, &answer, &size, e);
    if (r < 0)
        return r;
    build.model_id = get_le32(answer + BUILD_MODEL_ID);
    size_t at = take_text(answer, size, BUILD_TEXT, build.version, sizeof(build.version));
    take_text(answer, size, at, build.model, sizeof(build.model));
    *ret = build;
    return 0;
}

int diag_read_oper_mode(struct diag *d, uint32_t *ret, struct error *e)
{
    static const uint8_t request[] = {DIAG_SUBSYSTEM, SUBSYSTEM_CM, 0, 0};
    const struct diag_question q = {.request = request,
                                    .size = sizeof(request),
                                    .echo = sizeof(request),
                                    .least = CM_OPER_MODE + sizeof(uint32_t)};
    const uint8_t *answer;
    size_t size;
    int r = diag_ask(d, &q, &answer, &size, e);
    if (r == 0)
        *ret = get_le32(answer + CM_OPER_MODE);
    return r;
}

const char *diag_oper_mode_name(uint32_t mode)
{
    static const char *const names[] = {
        [DIAG_OPER_OFF] = "off",
        [DIAG_OPER_FACTORY_TEST] = "factory test",
        [DIAG_OPER_OFFLINE] = "offline",
        [DIAG_OPER_OFFLINE_ANALOG] = "offline",
        [DIAG_OPER_OFFLINE_CDMA] = "offline",
        [DIAG_OPER_ONLINE] = "online",
        [DIAG_OPER_LOW_POWER] = "low power",
        [DIAG_OPER_RESETTING] = "resetting",
    };
    return mode < ARRAY_SIZE(names) ? names[mode] : "unknown";
}

bool diag_oper_mode_is_offline(uint32_t mode)
{
    return mode >= DIAG_OPER_OFFLINE && mode <= DIAG_OPER_OFFLINE_CDMA;
}

int diag_set_mode(struct diag *d, enum diag_mode mode, struct error *e)
{
    uint8_t request[3] = {COMMAND_MODE};
    const struct diag_question q = {.request = request,
                                    .size = sizeof(request),
                                    .echo = sizeof(request),
                                    .patience = mode_patience,
                                    .writes = true};
    struct error own = {0};
    const uint8_t *answer;
    size_t size;
    put_le16(request + 1, (uint16_t)mode);
    int r = diag_ask(d, &q, &answer, &size, &own);
    if (r == -ENODEV && (mode == DIAG_MODE_RESET || mode == DIAG_MODE_POWER_OFF))
        return 0;
    if (r < 0 && e)
        *e = own;
    return r;
}

static int ask_for_edl(struct diag *d, const uint8_t *request, size_t n, struct error *e)
{
    const struct diag_question q = {
        .request = request, .size = n, .echo = n, .patience = edl_patience, .writes = true};
    const uint8_t *answer;
    size_t size;
    int r = diag_ask(d, &q, &answer, &size, e);
    return r == -ENODEV ? 0 : r;
}

int diag_enter_edl(struct diag *d, struct error *e)
{
    static const uint8_t edl[] = {DIAG_SUBSYSTEM, SUBSYSTEM_QUECTEL, 1, 0}, dload[] = {COMMAND_DLOAD};
    struct error own = {0};
    int r = ask_for_edl(d, edl, sizeof(edl), &own);
    /* Older firmware has no such subsystem; its refusal may be any of them (3.2). */
    if (r == -EOPNOTSUPP || r == -EPROTO) {
        own = (struct error){0};
        r = ask_for_edl(d, dload, sizeof(dload), &own);
    }
    if (r < 0 && e)
        *e = own;
    return r;
}

int diag_read_features(struct diag *d, uint8_t *out, size_t size, size_t *ret_size, struct error *e)
{
    static const uint8_t request[] = {COMMAND_FEATURES};
    const struct diag_question q = {.request = request, .size = sizeof(request), .least = 3};
    const uint8_t *answer;
    size_t n;
    int r = diag_ask(d, &q, &answer, &n, e);
    if (r < 0)
        return r;
    size_t mask = MIN_OF((size_t)get_le16(answer + 1), n - 3);
    *ret_size = MIN_OF(mask, size);
    memcpy(out, answer + 3, *ret_size);
    return 0;
}
