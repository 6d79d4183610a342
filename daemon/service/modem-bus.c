/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/modem.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/backup.h"
#include "service/errors.h"
#include "service/firmware.h"
#include "service/guard.h"
#include "service/modem-inner.h"
#include "service/options.h"
#include "service/refusals.h"

enum { VERSION_BYTES_MAX = 127 };

/* ---- properties ---- */

static int append_job(sd_bus_message *reply, const struct job *j)
{
    return sd_bus_message_append_basic(reply, 'o', j && j->object.slot ? j->object.path : "/");
}

static int get_job(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                   const char *property _unused_, sd_bus_message *reply, void *userdata,
                   sd_bus_error *error _unused_)
{
    return append_job(reply, *(struct job **)userdata);
}

static int get_rescue_firmware(sd_bus *bus _unused_, const char *path _unused_,
                               const char *interface _unused_, const char *property _unused_,
                               sd_bus_message *reply, void *userdata, sd_bus_error *error _unused_)
{
    const char *firmware = *(char **)userdata;
    return sd_bus_message_append_basic(reply, 'o', firmware ? firmware : "/");
}

/* userdata is the modem itself. */
static int get_calibration(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                           const char *property _unused_, sd_bus_message *reply, void *userdata,
                           sd_bus_error *error _unused_)
{
    const struct backup *b = backup_find_calibration(userdata);
    return sd_bus_message_append_basic(reply, 'o', b ? b->object.path : "/");
}

/* ---- the options of Flash and Plan ---- */

struct flash_options {
    char **allow;
    const char *modem_version;
    bool reset, queue;
    char allow_text[REFUSALS_SIZE];
};

static int read_flash_options(sd_bus_message *m, struct flash_options *o, sd_bus_error *error)
{
    const struct option known[] = {
        {"allow", "as", &o->allow},
        {"modem-version", "s", &o->modem_version},
        {"reset", "b", &o->reset},
        {"queue", "b", &o->queue},
        {NULL},
    };
    int r = options_read(m, known, error);
    if (r < 0)
        return r;
    size_t n = strlen(o->modem_version);
    if (n > VERSION_BYTES_MAX || !text_is_clean(o->modem_version, n))
        return errors_set(error, ERROR_INVALID_ARGS, "The option \"modem-version\" is no version name.");
    return refusals_read(o->allow, o->allow_text, error);
}

static void flash_options_done(struct flash_options *o)
{
    options_free_list(o->allow);
}

int modem_take_flash(struct job *j, const struct firmware *f, const char *allow, const char *modem_version,
                     bool reset)
{
    j->allow = strdup(allow);
    j->modem_version = strdup(modem_version);
    j->firmware_name = strdup(f->name);
    j->reset = reset;
    memcpy(j->firmware_id, f->id, sizeof(j->firmware_id));
    return j->allow && j->modem_version && j->firmware_name ? record_set(j->firmware_facts, "model", f->model)
                                                            : -ENOMEM;
}

int modem_find_firmware(struct manager *manager, const char *path, struct firmware **ret, sd_bus_error *error)
{
    struct firmware *f = firmware_find_path(manager, path);
    if (!f)
        return errors_set(error, ERROR_NO_SUCH_FIRMWARE, "There is no firmware %s in the library.", path);
    if (strcmp(f->state, "ready") != 0)
        return errors_set(error, ERROR_FIRMWARE_INVALID, "Firmware %s is %s%s%s; import it again.",
                          *f->name ? f->name : f->id, f->state, f->problems && f->problems[0] ? ": " : "",
                          f->problems && f->problems[0] ? f->problems[0] : "");
    *ret = f;
    return 0;
}

/* ---- starting a job on a modem ---- */

int modem_new_job(struct modem *m, sd_bus_message *message, enum job_kind kind, struct job **ret,
                  sd_bus_error *error)
{
    uid_t uid;
    int r = senders_uid(m->manager->senders, message, &uid);
    if (r >= 0)
        r = job_new(m->manager, kind, uid, ret, error);
    if (r < 0)
        return r;
    (*ret)->modem = m;
    (*ret)->modem_path = strdup(m->object.path);
    if ((*ret)->modem_path)
        return 0;
    job_free(*ret);
    return -ENOMEM;
}

int modem_new_own_job(struct modem *m, enum job_kind kind, struct job **ret)
{
    struct job *j = job_alloc(m->manager, kind, RESCUE_UID);
    if (!j)
        return -ENOMEM;
    j->modem = m;
    j->modem_path = strdup(m->object.path);
    if (!j->modem_path) {
        job_free(j);
        return -ENOMEM;
    }
    *ret = j;
    return 0;
}

/*
 * Emergency download mode, or absent for now: a looping modem is mostly away, and a job waits for its next
 * window. One that runs its firmware is brought there by the job, if that can.
 */
int modem_check_mode(const struct modem *m, const char *what, bool running, sd_bus_error *error)
{
    const char *kind = modem_kind(m);
    if (running && strcmp(kind, "normal") == 0)
        return 0;
    if (strcmp(kind, "edl") == 0 || strcmp(kind, "crash-dump") == 0 || strcmp(kind, "absent") == 0)
        return 0;
    return errors_set(error, ERROR_WRONG_MODE,
                      "%s is in %s mode; to %s it, it must be in emergency download mode (05c6:9008)%s.",
                      modem_title(m), kind, what,
                      strcmp(kind, "normal") == 0 ? "; EnterEdl (\"qdlctl enter-edl\") brings it there" : "");
}

int modem_authorise(struct modem *m, sd_bus_message *message, bool milder, const char *lifted,
                    const char *what, const char *name, sd_bus_error *error)
{
    char title[160];
    snprintf(title, sizeof(title), "%s", modem_title(m));
    struct bouncer_detail details[] = {{"modem", title}, {what, name}, {NULL, NULL}};
    return manager_authorise(m->manager, message, milder, lifted, details, error);
}

/* ---- methods ---- */

static int method_identify(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct job *j = NULL;
    bool queue = false;
    const struct option known[] = {{"queue", "b", &queue}, {NULL}};
    int r = options_read(message, known, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = modem_check_mode(m, "identify", true, error);
    if (r >= 0)
        r = modem_new_job(m, message, JOB_IDENTIFY, &j, error);
    return r < 0 ? r : job_begin(j, message, queue, error);
}

static int method_get_identity(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct job *j = NULL;
    int r = options_read(message, NULL, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (strcmp(modem_kind(m), "normal") != 0)
        return errors_set(error, ERROR_WRONG_MODE,
                          "%s is in %s mode; only one that runs its firmware can tell its IMEI.",
                          modem_title(m), modem_kind(m));
    r = modem_new_job(m, message, JOB_IDENTITY, &j, error);
    return r < 0 ? r : job_begin(j, message, false, error);
}

static int method_enter_edl(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct job *j = NULL;
    bool queue = false;
    const struct option known[] = {{"queue", "b", &queue}, {NULL}};
    int r = options_read(message, known, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    const char *kind = modem_kind(m);
    bool dump = strcmp(kind, "crash-dump") == 0 && m->vendor_id == QUECTEL_VID;
    if (strcmp(kind, "normal") != 0 && !dump)
        return errors_set(error, ERROR_WRONG_MODE,
                          strcmp(kind, "edl") == 0
                              ? "%s is in emergency download mode already (%s)."
                              : "%s is in %s mode; only one that runs its firmware can be told to enter "
                                "emergency download mode.",
                          modem_title(m), strcmp(kind, "edl") == 0 ? m->mode : kind);
    r = modem_new_job(m, message, JOB_ENTER_EDL, &j, error);
    return r < 0 ? r : job_begin(j, message, queue, error);
}

static int begin_flash(struct modem *m, sd_bus_message *message, enum job_kind kind, const struct firmware *f,
                       const struct flash_options *o, sd_bus_error *error)
{
    struct job *j = NULL;
    int r = 0;
    if (kind == JOB_FLASH)
        r = modem_check_mode(m, "flash", true, error);
    if (r >= 0 && kind == JOB_FLASH)
        r = modem_check_space(m, *o->modem_version != '\0', error);
    if (r >= 0)
        r = modem_new_job(m, message, kind, &j, error);
    if (r < 0)
        return r;
    r = modem_take_flash(j, f, o->allow_text, o->modem_version, o->reset);
    if (r < 0) {
        job_free(j);
        return r;
    }
    /* A plan has no modem to wait for, and its caller waits for more than the path of a job. */
    return job_begin(j, message, o->queue && kind == JOB_FLASH, error);
}

static int flash_or_plan(struct modem *m, sd_bus_message *message, enum job_kind kind,
                         struct flash_options *o, sd_bus_error *error)
{
    const char *path = NULL;
    struct firmware *f = NULL;
    int r = sd_bus_message_read_basic(message, 'o', &path);
    if (r >= 0)
        r = read_flash_options(message, o, error);
    if (r >= 0)
        r = modem_find_firmware(m->manager, path, &f, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, kind == JOB_FLASH ? o->allow_text : NULL, "firmware", f->name,
                            error);
    if (r <= 0)
        return r < 0 ? r : 1;
    return begin_flash(m, message, kind, f, o, error);
}

static int method_plan(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    _cleanup_(flash_options_done) struct flash_options o = {.modem_version = "", .reset = true};
    return flash_or_plan(userdata, message, JOB_PLAN, &o, error);
}

static int method_flash(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    _cleanup_(flash_options_done) struct flash_options o = {.modem_version = "", .reset = true};
    return flash_or_plan(userdata, message, JOB_FLASH, &o, error);
}

/* The flash of the policy, now: it waits for its window, saves first, verifies and watches the boot. */
static int method_rescue(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct firmware *f = policy_firmware(m);
    const char *version = policy_is_certain(m) ? policy_of(m)->modem_version : NULL;
    _cleanup_(flash_options_done) struct flash_options o = {.modem_version = version ? version : "",
                                                            .reset = true};
    int r = read_flash_options(message, &o, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, o.allow_text, "firmware", f ? f->name : "(none)", error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (!f)
        return errors_set(error, ERROR_NO_SUCH_FIRMWARE,
                          "%s has no firmware to be rescued with; give it one by the policy rescue, or flash "
                          "a package that you name.",
                          modem_title(m));
    r = modem_find_firmware(m->manager, f->object.path, &f, error);
    return r < 0 ? r : begin_flash(m, message, JOB_FLASH, f, &o, error);
}

static int method_reset(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct job *j = NULL;
    bool queue = false;
    const char *mode = "normal";
    const struct option known[] = {{"mode", "s", &mode}, {"queue", "b", &queue}, {NULL}};
    int r = options_read(message, known, error);
    if (r < 0)
        return r;
    bool normal = strcmp(mode, "normal") == 0;
    if (!normal && strcmp(mode, "edl") != 0 && strcmp(mode, "off") != 0)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The option \"mode\" is normal, edl or off, not \"%.64s\".", mode);
    r = modem_authorise(m, message, normal && strcmp(modem_kind(m), "normal") != 0, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = modem_check_mode(m, "reset", true, error);
    if (r >= 0)
        r = modem_new_job(m, message, JOB_RESET, &j, error);
    if (r < 0)
        return r;
    j->reset_mode = strdup(mode);
    if (!j->reset_mode) {
        job_free(j);
        return -ENOMEM;
    }
    return job_begin(j, message, queue, error);
}

#define CONST         SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES       SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define FIELD(member) offsetof(struct modem, member)

const sd_bus_vtable modem_vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Port", "s", NULL, FIELD(port), CONST),
    SD_BUS_PROPERTY("KernelName", "s", NULL, FIELD(kernel_name), CHANGES),
    SD_BUS_PROPERTY("Mode", "s", NULL, FIELD(mode), CHANGES),
    SD_BUS_PROPERTY("VendorId", "q", NULL, FIELD(vendor_id), CHANGES),
    SD_BUS_PROPERTY("ProductId", "q", NULL, FIELD(product_id), CHANGES),
    SD_BUS_PROPERTY("Product", "s", NULL, FIELD(product), CHANGES),
    SD_BUS_PROPERTY("Model", "s", NULL, FIELD(model), CHANGES),
    SD_BUS_PROPERTY("FirmwareVersion", "s", NULL, FIELD(firmware_version), CHANGES),
    SD_BUS_PROPERTY("Confirmed", "b", NULL, FIELD(confirmed), CHANGES),
    SD_BUS_PROPERTY("ChipSerial", "s", NULL, FIELD(chip_serial), CHANGES),
    SD_BUS_PROPERTY("Chip", "s", NULL, FIELD(chip), CHANGES),
    SD_BUS_PROPERTY("HardwareId", "s", NULL, FIELD(hardware_id), CHANGES),
    SD_BUS_PROPERTY("PkHash", "s", NULL, FIELD(pk_hash), CHANGES),
    SD_BUS_PROPERTY("Storage", "s", NULL, FIELD(storage), CHANGES),
    SD_BUS_PROPERTY("Looping", "b", NULL, FIELD(looping), CHANGES),
    SD_BUS_PROPERTY("LoopCount", "u", NULL, FIELD(loop_count), CHANGES),
    SD_BUS_PROPERTY("LoopPeriodUSec", "t", NULL, FIELD(loop_period), CHANGES),
    SD_BUS_PROPERTY("WindowUSec", "t", NULL, FIELD(loop_window), CHANGES),
    SD_BUS_PROPERTY("NextWindowTime", "t", NULL, FIELD(next_window), CHANGES),
    SD_BUS_PROPERTY("Held", "b", NULL, FIELD(held), CHANGES),
    SD_BUS_PROPERTY("FactoryTestMode", "b", NULL, FIELD(factory_test_mode), CHANGES),
    SD_BUS_PROPERTY("Imei", "s", NULL, FIELD(imei), CHANGES),
    SD_BUS_PROPERTY("Job", "o", get_job, FIELD(job), CHANGES),
    SD_BUS_PROPERTY("Interrupted", "o", get_job, FIELD(interrupted), CHANGES),
    SD_BUS_PROPERTY("Policy", "s", NULL, FIELD(policy), CHANGES),
    SD_BUS_PROPERTY("RescueFirmware", "o", get_rescue_firmware, FIELD(rescue_firmware), CHANGES),
    SD_BUS_PROPERTY("Note", "s", NULL, FIELD(note), CHANGES),
    SD_BUS_PROPERTY("CalibrationBackup", "o", get_calibration, 0, CHANGES),
    SD_BUS_PROPERTY("LastBackupTime", "t", NULL, FIELD(last_backup_time), CHANGES),
    SD_BUS_PROPERTY("Inhibited", "b", NULL, FIELD(inhibited), CHANGES),
    SD_BUS_PROPERTY("InhibitedBy", "s", NULL, FIELD(inhibited_by), CHANGES),
    SD_BUS_PROPERTY("InhibitedUid", "u", NULL, FIELD(inhibited_uid), CHANGES),
    SD_BUS_PROPERTY("LastError", "s", NULL, FIELD(last_error), CHANGES),
    SD_BUS_PROPERTY("RecoveryHint", "s", NULL, FIELD(recovery_hint), CHANGES),
    SD_BUS_METHOD_WITH_ARGS("Identify", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            method_identify, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Catch", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            modem_method_catch, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Plan", SD_BUS_ARGS("o", firmware, "a{sv}", options),
                            SD_BUS_RESULT("aa{sv}", plan), method_plan, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Flash", SD_BUS_ARGS("o", firmware, "a{sv}", options), SD_BUS_RESULT("o", job),
                            method_flash, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Backup", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            modem_method_backup, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("CollectDump", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            modem_method_collect_dump, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Restore", SD_BUS_ARGS("o", backup, "a{sv}", options), SD_BUS_RESULT("o", job),
                            modem_method_restore, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetIdentity", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a{sv}", identity),
                            method_get_identity, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("EnterEdl", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            method_enter_edl, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Rescue", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_rescue,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetPolicy", SD_BUS_ARGS("s", policy, "o", firmware, "a{sv}", options),
                            SD_BUS_NO_RESULT, modem_method_set_policy, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, modem_method_forget,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reset", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_reset,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Inhibit", SD_BUS_ARGS("s", reason, "a{sv}", options), SD_BUS_RESULT("h", guard),
                            guard_method_inhibit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};
