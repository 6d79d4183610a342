/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/refusals.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
    enum error_kind kind;
    const char *phrase; /* behind "although" */
} liftable[] = {
    {ERROR_WRONG_FIRMWARE, "the firmware is for another modem"},
    {ERROR_WRONG_UNIT, "the backup is another unit's"},
    {ERROR_BACKUP_DAMAGED, "the backup is damaged"},
    {ERROR_CALIBRATION_AT_RISK, "the calibration cannot be saved"},
    {ERROR_GEOMETRY_DIFFERS, "the flash is laid out otherwise"},
    {ERROR_ERASE_CALIBRATION, "it erases the calibration"},
    {ERROR_NO_BACKUP, "there is no backup"},
    {ERROR_LAST_BACKUP, "it is the last good backup"},
};

static bool has(char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

int refusals_read(char *const *allow, char out[REFUSALS_SIZE], sd_bus_error *error)
{
    size_t n = 0;
    for (char *const *i = allow; i && *i; i++) {
        bool known = false;
        for (size_t k = 0; k < ARRAY_SIZE(liftable); k++)
            known |= strcmp(*i, error_name(liftable[k].kind)) == 0;
        if (!known)
            return errors_set(error, ERROR_INVALID_ARGS, "The option \"allow\" does not know \"%.64s\".", *i);
    }
    out[0] = '\0';
    for (size_t k = 0; k < ARRAY_SIZE(liftable); k++)
        if (has(allow, error_name(liftable[k].kind)))
            n += (size_t)snprintf(out + n, REFUSALS_SIZE - n, "%s%s", n ? "," : "",
                                  error_name(liftable[k].kind));
    return 0;
}

static bool names(const char *lifted, const char *name)
{
    for (size_t n; *lifted; lifted += n + (lifted[n] == ',')) {
        n = strcspn(lifted, ",");
        if (strlen(name) == n && memcmp(lifted, name, n) == 0)
            return true;
    }
    return false;
}

void refusals_print(const char *lifted, char out[REFUSALS_PHRASE_SIZE])
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t k = 0; k < ARRAY_SIZE(liftable) && used < REFUSALS_PHRASE_SIZE; k++) {
        const char *name = error_name(liftable[k].kind);
        if (names(lifted, name))
            used += (size_t)snprintf(out + used, REFUSALS_PHRASE_SIZE - used, "%s%s (%s)",
                                     used ? " and " : "", liftable[k].phrase, name);
    }
}
