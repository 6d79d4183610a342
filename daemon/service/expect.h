/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a worker may say when. One table: key, the stages of the link at which it may come, the kinds of job
 * that may say it. A key at another time is a broken worker: it is killed and its job fails.
 *
 *     PREPARING --READY=1--> RUNNING --RESULT=--> ENDED (exit 0) or, with HOLDING=1, HOLDING
 *         '--------------RESULT=---------------------^
 */

#include <stdbool.h>

enum job_kind {
    JOB_IMPORT,
    JOB_VERIFY,
    JOB_PLAN, /* has no object on the bus: Modem.Plan waits for its answer */
    JOB_IDENTIFY,
    JOB_CATCH,
    JOB_FLASH,
    JOB_RESET,
    JOB_BACKUP,
    JOB_RESTORE,
    JOB_ENTER_EDL,
    JOB_IDENTITY, /* as JOB_PLAN: Modem.GetIdentity waits for its answer */
    JOB_KIND_COUNT
};

enum link_stage {
    STAGE_PREPARING, /* until READY=1 */
    STAGE_RUNNING,
    STAGE_ENDED,   /* RESULT came */
    STAGE_HOLDING, /* the job is over, its worker is the holder */
};

/* "import"; NULL out of range. */
const char *job_kind_name(enum job_kind kind);
/* JOB_KIND_COUNT if it is not one. */
enum job_kind job_kind_from_name(const char *name);
/* True if its worker is given a modem. */
bool job_kind_has_modem(enum job_kind kind);

/* True if it is no job for anybody but the caller who waits for its answer: no number, no object, no record.
 */
bool job_kind_is_question(enum job_kind kind);
bool expect_key(enum job_kind kind, enum link_stage stage, const char *key);
/* True for the results that a worker may claim. */
bool expect_result(const char *result);
