/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests of the DIAG port: which handler; identity, modes, locks (reference/diag.md 2.1 to 2.3). */

#include "diag.h"

#include <stdio.h>
#include <string.h>

#include "factory.h"
#include "trace.h"

enum { SUBSYSTEM_HEAD = 4, WRONG_CODES_MAX = 3, SPC_DIGITS = 6, PASSWORD_SIZE = 8 };

#define COUNTERS "/data/counters"

/* ---- for handlers ---- */

int diag_refuse(struct diag *d, enum diag_refusal why)
{
    size_t echo = d->request_length < DIAG_ANSWER_MAX - 1 ? d->request_length : DIAG_ANSWER_MAX - 1;

    trace("diag refused 0x%02x", why);
    d->answer[0] = (uint8_t)why;
    memcpy(d->answer + 1, d->request, echo);
    d->answer_length = 1 + echo;
    return 0;
}

bool diag_has(struct diag *d, size_t length)
{
    if (d->request_length >= length)
        return true;
    diag_refuse(d, DIAG_BAD_LENGTH);
    return false;
}

uint16_t diag_u16(const struct diag *d, size_t offset)
{
    uint16_t v = 0;

    if (offset + sizeof(v) <= d->request_length)
        memcpy(&v, d->request + offset, sizeof(v));
    return v;
}

uint32_t diag_u32(const struct diag *d, size_t offset)
{
    uint32_t v = 0;

    if (offset + sizeof(v) <= d->request_length)
        memcpy(&v, d->request + offset, sizeof(v));
    return v;
}

void diag_put16(struct diag *d, size_t offset, uint32_t value)
{
    uint16_t v = (uint16_t)value;

    memcpy(d->answer + offset, &v, sizeof(v));
}

void diag_put32(struct diag *d, size_t offset, uint32_t value)
{
    memcpy(d->answer + offset, &value, sizeof(value));
}

void diag_answer(struct diag *d, size_t echo, size_t length)
{
    memset(d->answer, 0, length);
    memcpy(d->answer, d->request, echo < d->request_length ? echo : d->request_length);
    d->answer_length = length;
}

bool diag_may(struct diag *d, bool write)
{
    const struct scenario *s = d->scenario;

    if (!d->spc_open && (s->diag_spc == LOCK_ALL || (s->diag_spc == LOCK_WRITES && write)))
        diag_refuse(d, DIAG_BAD_SPC);
    else if (!d->security_open &&
             (s->diag_password == LOCK_ALL || (s->diag_password == LOCK_WRITES && write)))
        diag_refuse(d, DIAG_BAD_SECURITY);
    else if (write && s->diag_offline && d->oper_mode != OPER_OFFLINE && d->oper_mode != OPER_FTM)
        diag_refuse(d, DIAG_BAD_MODE);
    else
        return true;
    return false;
}

/* ---- identity ---- */

static int verno(struct diag *d)
{
    diag_answer(d, 1, 55);
    memcpy(d->answer + 1, "Apr 28 202006:21:14Apr 28 202007:00:00", 38);
    memcpy(d->answer + 39, d->version, strnlen(d->version, 8));
    diag_put16(d, 50, 0x0101);
    d->answer[53] = 0xE1;
    return 0;
}

static int ext_build_id(struct diag *d)
{
    size_t version = strlen(d->version) + 1, product = strnlen(d->scenario->product, 64) + 1;

    diag_answer(d, 1, 12 + version + product);
    d->answer[1] = 2;
    diag_put32(d, 4, (uint32_t)(d->scenario->hwid >> 32));
    diag_put32(d, 8, (uint32_t)d->scenario->mobile_model);
    memcpy(d->answer + 12, d->version, version);
    memcpy(d->answer + 12 + version, d->scenario->product, product - 1);
    return 0;
}

static int feature_query(struct diag *d)
{
    static const uint8_t mask[] = {0xFF, 0x7B, 0xDB, 0x7E, 0x7D, 0x03, 0x40, 0x20, 0x01};

    diag_answer(d, 1, 3 + sizeof(mask));
    diag_put16(d, 1, 2 + sizeof(mask));
    memcpy(d->answer + 3, mask, sizeof(mask));
    return 0;
}

static int short_answer(struct diag *d, size_t length, size_t at, uint32_t value)
{
    diag_answer(d, 1, length);
    diag_put32(d, at, value);
    return 0;
}

/* ---- locks ---- */

/* Phones throttle or reset when somebody guesses. */
static int unlock(struct diag *d, bool right, bool *open)
{
    diag_answer(d, 1, 2);
    d->answer[1] = right;
    *open |= right;
    if (!right)
        violation("a code was guessed wrong");
    if (!right && ++d->wrong_codes >= WRONG_CODES_MAX)
        return MODE_RESET;
    return 0;
}

static int spc(struct diag *d)
{
    if (!diag_has(d, 1 + SPC_DIGITS))
        return 0;
    return unlock(d, strncmp((const char *)d->request + 1, d->scenario->spc, SPC_DIGITS) == 0, &d->spc_open);
}

static int password(struct diag *d)
{
    static const uint8_t right[PASSWORD_SIZE] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE};

    if (!diag_has(d, 1 + PASSWORD_SIZE))
        return 0;
    return unlock(d, memcmp(d->request + 1, right, PASSWORD_SIZE) == 0, &d->security_open);
}

/* ---- modes ---- */

static int control(struct diag *d)
{
    uint16_t wanted = diag_u16(d, 1);

    if (!diag_has(d, 3))
        return 0;
    if (wanted > CONTROL_POWER_OFF)
        return diag_refuse(d, DIAG_BAD_PARAMETER);
    diag_answer(d, 3, 3);
    switch ((enum diag_control)wanted) {
    case CONTROL_OFFLINE_ANALOG:
    case CONTROL_OFFLINE:
        d->oper_mode = OPER_OFFLINE;
        break;
    case CONTROL_RESET:
        d->oper_mode = OPER_RESETTING;
        efs_log_sync(&d->efs);
        return MODE_RESET;
    case CONTROL_POWER_OFF:
        efs_log_sync(&d->efs);
        return MODE_OFF;
    case CONTROL_FTM:
        d->oper_mode = OPER_FTM;
        break;
    case CONTROL_ONLINE:
    case CONTROL_LPM:
        /* The answer says yes, but only a reset leads out of offline, and only a calibration out of factory
           test mode. */
        if (d->oper_mode == OPER_ONLINE || d->oper_mode == OPER_LPM)
            d->oper_mode = wanted == CONTROL_LPM ? OPER_LPM : OPER_ONLINE;
        break;
    }
    trace("diag mode %d", (int)d->oper_mode);
    return 0;
}

static int state_info(struct diag *d)
{
    if (diag_u16(d, 2) != 0 || d->scenario->oper_mode == OPER_MODE_UNTOLD)
        return diag_refuse(d, DIAG_BAD_COMMAND);
    diag_answer(d, SUBSYSTEM_HEAD, 48);
    diag_put32(d, 8, d->oper_mode);
    diag_put32(d, 12, d->oper_mode == OPER_ONLINE ? 9 : 0);
    diag_put32(d, 16, 2);
    return 0;
}

static int crash(struct diag *d)
{
    violation("the host crashed the modem");
    diag_answer(d, SUBSYSTEM_HEAD, SUBSYSTEM_HEAD);
    return MODE_CRASH;
}

static int subsystem(struct diag *d)
{
    uint16_t command = diag_u16(d, 2);

    if (!diag_has(d, SUBSYSTEM_HEAD))
        return 0;
    switch (d->request[1]) {
    case SUBSYSTEM_CM:
        return state_info(d);
    case SUBSYSTEM_NV:
        return diag_nv_indexed(d);
    case SUBSYSTEM_EFS:
    case SUBSYSTEM_EFS_ALTERNATE:
        if (d->scenario->efs_subsystem != EFS_SUBSYSTEM_BOTH &&
            (d->request[1] == SUBSYSTEM_EFS) != (d->scenario->efs_subsystem == EFS_SUBSYSTEM_STANDARD))
            return diag_refuse(d, DIAG_BAD_COMMAND);
        return diag_efs(d);
    case SUBSYSTEM_DEBUG:
        return command == 3 ? crash(d) : diag_refuse(d, DIAG_BAD_COMMAND);
    case SUBSYSTEM_QUECTEL:
        if (command != 1)
            return diag_refuse(d, DIAG_BAD_COMMAND);
        diag_answer(d, SUBSYSTEM_HEAD, SUBSYSTEM_HEAD);
        efs_log_sync(&d->efs);
        return MODE_RESET_TO_EDL;
    default:
        return diag_refuse(d, DIAG_BAD_COMMAND);
    }
}

/* ---- logs ---- */

/* Logs, messages and events are only ever switched off here. */
static int silence(struct diag *d)
{
    switch (d->request[0]) {
    case DIAG_LOG_CONFIG:
        if (!diag_has(d, 8))
            return 0;
        if (diag_u32(d, 4) != 0)
            return diag_refuse(d, DIAG_BAD_PARAMETER);
        d->logs_off = true;
        diag_answer(d, 8, 12);
        return 0;
    case DIAG_EXT_MSG:
        if (!diag_has(d, 8))
            return 0;
        if (d->request[1] != 5 || diag_u32(d, 4) != 0)
            return diag_refuse(d, DIAG_BAD_PARAMETER);
        d->messages_off = true;
        diag_answer(d, 8, 8);
        d->answer[2] = 1;
        return 0;
    default:
        if (!diag_has(d, 2))
            return 0;
        d->events_off = d->request[1] == 0;
        diag_answer(d, 1, 3);
        return 0;
    }
}

/* ---- one request ---- */

/* The firmware has its own business with the file system as long as it is online. */
static void work(struct diag *d)
{
    uint64_t every = d->scenario->efs_activity > 0 ? (uint64_t)d->scenario->efs_activity : 0;

    d->served++;
    if (!every || d->served % every || d->oper_mode != OPER_ONLINE)
        return;
    efs_create(&d->efs, COUNTERS, EFS_FILE | 0644, true);
    efs_write(&d->efs, COUNTERS, 0, &d->served, sizeof(d->served));
}

int diag_serve(struct diag *d)
{
    uint8_t command = d->request[0];

    work(d);

    switch (command) {
    case DIAG_VERNO:
        return verno(d);
    case DIAG_ESN:
        return short_answer(d, 5, 1, 0xDEADD00D);
    case DIAG_STATUS:
        return short_answer(d, 60, 4, 0xDEADD00D);
    case DIAG_DIAG_VER:
        diag_answer(d, 1, 3);
        diag_put16(d, 1, 8);
        return 0;
    case DIAG_NV_READ:
    case DIAG_NV_WRITE:
        return diag_nv(d, command == DIAG_NV_WRITE);
    case DIAG_CONTROL:
        return control(d);
    case DIAG_DLOAD:
        diag_answer(d, 1, 1);
        efs_log_sync(&d->efs);
        return MODE_RESET_TO_EDL;
    case DIAG_SPC:
        return spc(d);
    case DIAG_PASSWORD:
        return password(d);
    case DIAG_SUBSYSTEM:
        return subsystem(d);
    case DIAG_FEATURE_QUERY:
        return feature_query(d);
    case DIAG_GUID:
        return short_answer(d, 17, 1, (uint32_t)d->scenario->serial);
    case DIAG_EXT_BUILD_ID:
        return ext_build_id(d);
    case DIAG_LOG_CONFIG:
    case DIAG_EXT_MSG:
    case DIAG_EVENTS:
        return silence(d);
    default:
        return diag_refuse(d, DIAG_BAD_COMMAND);
    }
}

void diag_start(struct diag *d, struct modem *m, const char *version)
{
    *d = (struct diag){.modem = m, .front = &m->front, .scenario = m->scenario};
    snprintf(d->version, sizeof(d->version), "%s", version);
    efs_mount(&d->efs, m->nand, m->scenario, m->serial);
    if (!d->efs.mounted && m->scenario->efs_lost == EFS_LOST_FORMAT)
        efs_log_format(&d->efs);
    d->calibrated = factory_calibrated(&d->efs);
    d->oper_mode = m->scenario->oper_mode == OPER_MODE_OFFLINE ? OPER_OFFLINE
                   : d->calibrated                             ? OPER_ONLINE
                                                               : OPER_FTM;
    trace("diag mode %d%s", (int)d->oper_mode, d->calibrated ? "" : " no calibration");
}

void diag_stop(struct diag *d)
{
    efs_free(&d->efs);
}
