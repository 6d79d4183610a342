/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A flash whose service ended behind its last step: everything was written and verified, and the modem was
 * being reset (COMPLETE=1). Such a job is "interrupted" like any other, but there is nothing left to write.
 * Once its modem runs its firmware and has told what that is, the job ends as it would have, by itself; where
 * nobody asks modems ([Identify] OnAppear=no) the same call made again asks. A modem that is in 9008 after it
 * has booted is another story: then the journal is void as always (flash rule 9).
 */

#include "service/job.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/errors.h"
#include "service/log-about.h"
#include "service/modem.h"

int job_take_complete(struct job *j, const char *value)
{
    if (strcmp(value, "1") != 0 || !j->destructive)
        return -EBADMSG;
    j->complete = true;
    if (j->modem->imei_watched || modem_owns_imei(j->modem))
        text_replace(&j->imei_hash, text_known(j->modem->imei_hash));
    job_save(j);
    /* Whatever comes of the boot. */
    modem_flashed(j->modem, record_get(j->firmware_facts, "model"), j->firmware_name,
                  j->allow && strstr(j->allow, "WrongFirmware"));
    return 0;
}

bool job_waits_for_boot(const struct job *j)
{
    return j->complete && job_finished(j) && j->result && strcmp(j->result, "interrupted") == 0;
}

bool job_may_be_of(const struct job *j, const struct modem *m)
{
    /* One whose IMEI is new took the serial away. */
    bool serial = !*text_known(j->serial) || strcmp(j->serial, text_known(m->chip_serial)) == 0,
         imei = !*text_known(j->imei_hash) || strcmp(j->imei_hash, text_known(m->imei_hash)) == 0;
    return serial && imei;
}

void job_note_boot(struct job *j)
{
    if (j->booted)
        return;
    j->booted = true;
    job_save(j);
}

/* By its IMEI; else it is what runs at that connector, where another unit may have come meanwhile. */
static bool is_told(const struct job *j, const struct modem *m)
{
    return *text_known(j->imei_hash) && m->imei_watched &&
           strcmp(j->imei_hash, text_known(m->imei_hash)) == 0;
}

static const char *judge(const struct modem *m, const char *name, struct error *e)
{
    const char *runs = m->firmware_version;
    if (*name && !text_equal_version(name, runs)) {
        error_set(e, ERROR_WRONG_FIRMWARE,
                  "The flash is complete and verified, but the modem runs %s and not %s.", runs, name);
        error_hint(e, HINT_WRONG_FIRMWARE);
        return "wrong-version";
    }
    if (m->factory_test_mode) {
        error_set(e, ERROR_CALIBRATION_AT_RISK,
                  "The flash is complete and verified and the modem runs %s, but in factory test mode: its "
                  "calibration is missing.",
                  runs);
        error_hint(e, HINT_RESTORE_BACKUP);
        return "no-calibration";
    }
    return "done";
}

static void end(struct job *j, struct modem *m)
{
    bool told = is_told(j, m);
    j->error = (struct error){0};
    snprintf(j->verdict, sizeof(j->verdict), "%s", judge(m, text_known(j->firmware_name), &j->error));
    bool done = j->error.kind == ERROR_NONE;
    record_set(j->report, "verified", "everything, before the service ended");
    _cleanup_free_ char *unsure = text_printf(
        "%s (not confirmed: no IMEI was known to tell that it is this unit)", m->firmware_version);
    record_set(j->report, "version", told ? m->firmware_version : unsure);
    object_changed(&j->object, "Report");
    object_set_string(&j->object, "Result", &j->result, j->verdict);
    object_set_string(&j->object, "ErrorName", &j->error_name, errors_bus_name(j->error.kind));
    object_set_string(&j->object, "ErrorMessage", &j->error_message, j->error.message);
    object_set_string(&j->object, "RecoveryHint", &j->recovery_hint, hint_name(j->error.hint));
    object_set_u64(&j->object, "EndTime", &j->end_time, realtime_usec());
    if (done)
        j->progress.fraction = 1;
    object_changed(&j->object, "Progress");
    job_void_journal(j);
    job_save(j);
    object_flush(&j->object);
    j->modem = m;
    log_about_job(
        j, done ? LOG_JOB_DONE : LOG_JOB_FAILED, done ? LOG_INFO : LOG_WARNING,
        !done  ? j->error.message
        : told ? "is done: its modem has booted and runs what was flashed before the service ended."
               : "is done, but not confirmed: what runs at its connector is what was flashed before the "
                 "service ended, and no IMEI was known to tell that it is this unit.");
    j->modem = NULL;
}

void job_look_booted(struct modem *m)
{
    struct job *j = m->interrupted;
    if (!j || !job_waits_for_boot(j) || m->job || m->probe || strcmp(modem_kind(m), "normal") != 0 ||
        !m->facts_watched || !*text_known(m->firmware_version))
        return;
    /* What runs here may be another unit in its place, which may have no IMEI of its own. */
    if (!job_may_be_of(j, m) || (*text_known(j->imei_hash) && !m->imei_watched))
        return;
    end(j, m);
    modem_set_error(m, j->error_message, j->error.hint);
    rescue_finished(m, j);
    modem_update_interrupted(m);
    object_flush(&m->object);
}
