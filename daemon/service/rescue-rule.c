/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/rescue-rule.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#define PAUSE_MAX (3600 * USEC_PER_SEC)

enum { DAY = 86400, DIGITS_MAX = 20 };

enum rescue_action rescue_next(const struct rescue_facts *f)
{
    if (f->stopping || f->busy || f->off || f->wanted)
        return RESCUE_NOTHING;
    if (f->held && f->unsaved)
        return RESCUE_SAVE;
    if (f->gave_up || f->waiting)
        return RESCUE_NOTHING;
    if (f->held)
        return f->rescue && f->firmware && !f->stopped ? RESCUE_FLASH : RESCUE_NOTHING;
    if (f->verdict == CATCH_HOLD && f->candidate)
        return RESCUE_STANDBY;
    return f->verdict == CATCH_IDENTIFY ? RESCUE_ASK : RESCUE_NOTHING;
}

enum rescue_failure rescue_judge_failure(const char *result, enum error_kind kind)
{
    static const enum error_kind final[] = {
        ERROR_WRONG_FIRMWARE,      ERROR_VERSION_UNKNOWN,  ERROR_FIRMWARE_INVALID,
        ERROR_FIRMWARE_INCOMPLETE, ERROR_DIGEST_MISMATCH,  ERROR_CALIBRATION_AT_RISK,
        ERROR_ERASE_CALIBRATION,   ERROR_GEOMETRY_DIFFERS, ERROR_PROGRAMMER_REJECTED,
        ERROR_UNSUPPORTED,         ERROR_NO_SUCH_FIRMWARE, ERROR_CANCELLED,
    };
    if (strcmp(result, "interrupted") == 0 && kind == ERROR_INTERRUPTED)
        return FAILURE_OTHER;
    if (strcmp(result, "wrong-version") == 0 || strcmp(result, "no-calibration") == 0)
        return FAILURE_FINAL;
    for (size_t i = 0; i < ARRAY_SIZE(final); i++)
        if (final[i] == kind)
            return FAILURE_FINAL;
    return FAILURE_AGAIN;
}

void rescue_day_add(struct rescue_day *d, uint64_t now)
{
    if (d->n == RESCUE_DAY_MAX)
        memmove(&d->at[0], &d->at[1], --d->n * sizeof(d->at[0]));
    d->at[d->n++] = now;
}

unsigned rescue_day_count(const struct rescue_day *d, uint64_t now)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->n; i++)
        n += (d->at[i] > now ? d->at[i] - now : now - d->at[i]) < DAY;
    return n;
}

char *rescue_day_print(const struct rescue_day *d)
{
    char text[RESCUE_DAY_MAX * (DIGITS_MAX + 1) + 1] = "";
    size_t at = 0;
    for (unsigned i = 0; i < d->n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%llu", i > 0 ? "," : "",
                               (unsigned long long)d->at[i]);
    return strdup(text);
}

void rescue_day_read(struct rescue_day *d, const char *text)
{
    *d = (struct rescue_day){0};
    for (const char *p = text; *p; p += strcspn(p, ","), p += *p == ',') {
        char digits[DIGITS_MAX + 1];
        uint64_t at;
        snprintf(digits, sizeof(digits), "%.*s", (int)MIN_OF(strcspn(p, ","), (size_t)DIGITS_MAX), p);
        if (text_parse_u64(digits, 10, UINT64_MAX, &at) >= 0)
            rescue_day_add(d, at);
    }
}

uint64_t rescue_pause(uint64_t base, unsigned failures)
{
    uint64_t pause = MIN_OF(base, PAUSE_MAX);
    for (unsigned i = 1; i < failures && pause < PAUSE_MAX; i++)
        pause *= 2;
    return MIN_OF(pause, PAUSE_MAX);
}
