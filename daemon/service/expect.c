/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/expect.h"

#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "link/keys.h"

enum {
    P = 1 << STAGE_PREPARING,
    R = 1 << STAGE_RUNNING,
    E = 1 << STAGE_ENDED,
    H = 1 << STAGE_HOLDING,

    IMPORT = 1 << JOB_IMPORT | 1 << JOB_VERIFY,
    WRITING = 1 << JOB_FLASH | 1 << JOB_RESTORE,
    PACKAGE = IMPORT | 1 << JOB_PLAN | 1 << JOB_BACKUP | WRITING,
    MODEM = 1 << JOB_IDENTIFY | 1 << JOB_CATCH | 1 << JOB_RESET | 1 << JOB_BACKUP | 1 << JOB_ENTER_EDL |
            1 << JOB_IDENTITY | WRITING,
    ALL = PACKAGE | MODEM,
};

static const struct {
    const char *key;
    unsigned stages, kinds;
} table[] = {
    {KEY_READY, P, ALL},
    {KEY_PHASE, P | R | H, ALL}, /* a holder says "hold" */
    {KEY_DETAIL, P | R | H, ALL},
    {KEY_PROGRESS, P | R, ALL},
    {KEY_BYTES_DONE, P | R, ALL},
    {KEY_BYTES_TOTAL, P | R, ALL},
    {KEY_UNSAFE, R, MODEM},
    {KEY_CANCELABLE, R, ALL},
    {KEY_LOG, P | R | E | H, ALL},
    {KEY_WAIT_DEVICE, R, MODEM},
    {KEY_DEVICE_LOST, R | H, MODEM},
    {KEY_SERIAL, R, MODEM},
    {KEY_HWID, R, MODEM},
    {KEY_PKHASH, R, MODEM},
    {KEY_CHIP, R, MODEM},
    {KEY_MODE, R, MODEM},
    {KEY_STORAGE, R, MODEM},
    {KEY_PROJECT, R, MODEM},
    {KEY_VERSION, R, MODEM},
    {KEY_MODEL, R, MODEM},
    {KEY_OPERATING, R, MODEM},
    {KEY_IMEI_HASH, R, MODEM},
    {KEY_IMEI, R, MODEM},
    {KEY_TABLE, R, MODEM},
    {KEY_PROGRAMMER, R, MODEM},
    {KEY_DESTRUCTIVE, R, WRITING},
    {KEY_COMPLETE, R, 1 << JOB_FLASH},
    {KEY_PROBLEM, P | R, PACKAGE | 1 << JOB_RESTORE},
    {KEY_FIRMWARE, P | R, IMPORT},
    {KEY_PLAN, P | R, 1 << JOB_PLAN | 1 << JOB_IDENTITY},
    {KEY_ERROR, P | R, ALL},
    {KEY_MESSAGE, P | R, ALL},
    {KEY_WORDS, P | R, ALL},
    {KEY_HINT, P | R, ALL},
    {KEY_REPORT, P | R, ALL},
    {KEY_RESULT, P | R, ALL},
    {KEY_BACKUP, R, WRITING},
    {KEY_BACKUP_FACT, P | R, IMPORT | 1 << JOB_BACKUP | WRITING},
    {KEY_HOLDING, R | E, MODEM & ~(1 << JOB_IDENTITY)}, /* with or behind RESULT; a question is answered */
};

static const char *const kind_names[JOB_KIND_COUNT] = {
    [JOB_IDENTITY] = "identity", [JOB_IMPORT] = "import",     [JOB_VERIFY] = "verify",
    [JOB_PLAN] = "plan",         [JOB_IDENTIFY] = "identify", [JOB_ENTER_EDL] = "enter-edl",
    [JOB_FLASH] = "flash",       [JOB_RESET] = "reset",       [JOB_BACKUP] = "backup",
    [JOB_RESTORE] = "restore",   [JOB_CATCH] = "catch",
};

const char *job_kind_name(enum job_kind kind)
{
    return (unsigned)kind < JOB_KIND_COUNT ? kind_names[kind] : NULL;
}

enum job_kind job_kind_from_name(const char *name)
{
    for (int i = 0; i < JOB_KIND_COUNT; i++)
        if (strcmp(kind_names[i], name) == 0)
            return (enum job_kind)i;
    return JOB_KIND_COUNT;
}

bool job_kind_has_modem(enum job_kind kind)
{
    return 1 << kind & MODEM;
}

bool job_kind_is_question(enum job_kind kind)
{
    return kind == JOB_PLAN || kind == JOB_IDENTITY;
}

bool expect_key(enum job_kind kind, enum link_stage stage, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        bool prefix = text_ends_with(table[i].key, ".");
        if (prefix ? text_starts_with(key, table[i].key) : strcmp(key, table[i].key) == 0)
            return table[i].stages & 1U << stage && table[i].kinds & 1U << kind;
    }
    return false;
}

bool expect_result(const char *result)
{
    static const char *const results[] = {"done",   "not-returned", "wrong-version", "no-calibration",
                                          "failed", "cancelled",    "interrupted"};
    for (size_t i = 0; i < ARRAY_SIZE(results); i++)
        if (strcmp(results[i], result) == 0)
            return true;
    return false;
}
