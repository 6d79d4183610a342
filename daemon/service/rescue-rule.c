/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/rescue-rule.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define PAUSE_MAX (3600 * USEC_PER_SEC)

enum rescue_action rescue_next(const struct rescue_facts *f)
{
    if (f->stopping || f->busy || f->off || f->wanted)
        return RESCUE_NOTHING;
    if (f->held && f->unsaved)
        return RESCUE_SAVE;
    if (f->gave_up || f->waiting)
        return RESCUE_NOTHING;
    if (f->held)
        return f->rescue && f->firmware ? RESCUE_FLASH : RESCUE_NOTHING;
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

uint64_t rescue_pause(uint64_t base, unsigned failures)
{
    uint64_t pause = MIN_OF(base, PAUSE_MAX);
    for (unsigned i = 1; i < failures && pause < PAUSE_MAX; i++)
        pause *= 2;
    return MIN_OF(pause, PAUSE_MAX);
}
