/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Modem.Backup and Modem.Restore, the programmer that they read with, and the room that is needed first. */

#include "service/modem-inner.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/backup.h"
#include "service/candidates.h"
#include "service/errors.h"
#include "service/options.h"
#include "service/refusals.h"

enum { PARTITIONS_MAX = 64, NAME_BYTES_MAX = 32, KIB = 1024 };

/* ---- geometry ---- */

struct geometry {
    unsigned page, block_kib, blocks;
};

/* STORAGE= of a worker: "nand 4096/256K x 2048". */
static bool read_storage(const struct modem *m, struct geometry *ret)
{
    char rest;
    struct geometry g;
    if (sscanf(text_known(m->storage), "nand %9u/%9uK x %9u%c", &g.page, &g.block_kib, &g.blocks, &rest) != 3)
        return false;
    *ret = g;
    return true;
}

static uint64_t chip_size(const struct modem *m)
{
    struct geometry g;
    return read_storage(m, &g) ? (uint64_t)g.block_kib * KIB * g.blocks : BACKUP_CHIP_SIZE;
}

/* ---- a programmer ---- */

/* The package whose programmer is used; one that runs already does without. NoSuchFirmware. */
static int choose_programmer(const struct modem *m, struct job *j, sd_bus_error *error)
{
    struct firmware *list[CANDIDATES_MAX];
    const struct firmware *f = candidates_find(m, false, list) > 0 ? list[0] : NULL;
    if (!f && (m->held || strcmp(m->mode, "firehose") == 0))
        return 0;
    if (!f)
        return errors_set(
            error, ERROR_NO_SUCH_FIRMWARE,
            "No package in the library has a programmer for %s%s%s%s; import the one whose name "
            "begins as the version on the modem's label.",
            modem_title(m), *text_known(m->chip) ? " (" : "", text_known(m->chip),
            *text_known(m->chip) ? ")" : "; if several chips are in the library, Identify it first");
    memcpy(j->firmware_id, f->id, sizeof(j->firmware_id));
    j->firmware_name = strdup(f->name);
    return j->firmware_name ? 0 : -ENOMEM;
}

/* ---- room ---- */

static int check_room(const struct modem *m, uint64_t bytes, sd_bus_error *error)
{
    struct error e = {0};
    return backup_check_space(m->manager, bytes, &e) < 0 ? errors_to_bus(&e, error) : 0;
}

int modem_check_space(const struct modem *m, bool version_given, sd_bus_error *error)
{
    /* Flash rule 5: of an unknown version everything is saved. Else the worker knows how much it is, and says
     * so before anything is started, too. */
    bool version_known = version_given || *text_known(m->family_version) || *text_known(m->project);
    return check_room(m, version_known ? 0 : chip_size(m), error);
}

/* ---- options ---- */

static bool is_partition(const char *name)
{
    size_t n = strlen(name);
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-.:", *p))
            return false;
    return n > 0 && n <= NAME_BYTES_MAX;
}

/* As a comma list, malloc'ed. */
static int read_partitions(char *const *list, char **ret, sd_bus_error *error)
{
    size_t n = 0, at = 0;
    char text[PARTITIONS_MAX * (NAME_BYTES_MAX + 1)] = "";
    for (char *const *i = list; i && *i; i++) {
        if (!is_partition(*i))
            return errors_set(error, ERROR_INVALID_ARGS,
                              "The option \"partitions\" has \"%.64s\", which is no partition's name.", *i);
        if (n++ == PARTITIONS_MAX)
            return errors_set(error, ERROR_INVALID_ARGS, "The option \"partitions\" names more than %d.",
                              PARTITIONS_MAX);
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? "," : "", *i);
    }
    *ret = strdup(text);
    return *ret ? 0 : -ENOMEM;
}

static int check_kind(const char *kind, char *const *partitions, sd_bus_error *error)
{
    if (strcmp(kind, "nand") != 0 && strcmp(kind, "calibration") != 0 && strcmp(kind, "xqcn") != 0)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The option \"kind\" is nand, calibration or xqcn, not \"%.64s\".", kind);
    if (strcmp(kind, "nand") != 0 && partitions && *partitions)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The option \"partitions\" goes with kind=nand; what kind=%s saves is fixed.",
                          kind);
    return 0;
}

/* Calibration over DIAG: the firmware itself has to tell and to take it. */
static int check_runs(const struct modem *m, const char *what, sd_bus_error *error)
{
    if (strcmp(modem_kind(m), "normal") == 0)
        return 0;
    return errors_set(error, ERROR_WRONG_MODE,
                      "%s is in %s mode; to %s its calibration as XQCN it must run its firmware%s.",
                      modem_title(m), modem_kind(m), what,
                      strcmp(modem_kind(m), "edl") == 0
                          ? " (\"qdlctl reset\" boots it; kind=calibration saves the raw partitions)"
                          : "");
}

/* ---- Backup ---- */

int modem_method_backup(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    _cleanup_(options_free_listp) char **partitions = NULL;
    _cleanup_free_ char *list = NULL;
    const char *kind = "nand";
    struct job *j = NULL;
    bool queue = false;
    const struct option options[] = {
        {"kind", "s", &kind}, {"partitions", "as", &partitions}, {"queue", "b", &queue}, {NULL}};

    int r = options_read(message, options, error);
    if (r >= 0)
        r = check_kind(kind, partitions, error);
    if (r >= 0)
        r = read_partitions(partitions, &list, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    bool xqcn = strcmp(kind, "xqcn") == 0;
    r = xqcn ? check_runs(m, "save", error) : modem_check_mode(m, "save", true, error);
    if (r >= 0)
        r = check_room(m, strcmp(kind, "nand") == 0 ? chip_size(m) : 0, error);
    if (r >= 0)
        r = modem_new_job(m, message, JOB_BACKUP, &j, error);
    if (r < 0)
        return r;
    r = xqcn ? 0 : choose_programmer(m, j, error);
    j->kind_of_backup = strdup(kind);
    j->partitions = steal_ptr(list);
    if (r >= 0 && !j->kind_of_backup)
        r = -ENOMEM;
    if (r < 0) {
        job_free(j);
        return r;
    }
    return job_begin(j, message, queue, error);
}

/* ---- CollectDump ---- */

int modem_method_collect_dump(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct job *j = NULL;
    bool queue = false;
    const struct option options[] = {{"queue", "b", &queue}, {NULL}};

    int r = options_read(message, options, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (strcmp(modem_kind(m), "crash-dump") != 0)
        r = errors_set(
            error, ERROR_WRONG_MODE,
            "%s is in %s mode; only one that has crashed (05c6:900e and its like) lends its memory.",
            modem_title(m), modem_kind(m));
    if (r >= 0)
        r = check_room(m, BACKUP_DUMP_SIZE, error);
    if (r >= 0)
        r = modem_new_job(m, message, JOB_BACKUP, &j, error);
    if (r < 0)
        return r;
    j->kind_of_backup = strdup("dump");
    j->partitions = strdup("");
    if (!j->kind_of_backup || !j->partitions) {
        job_free(j);
        return -ENOMEM;
    }
    return job_begin(j, message, queue, error);
}

/* ---- Restore ---- */

struct restore_options {
    char **partitions, **allow;
    bool reset, queue;
    char allow_text[REFUSALS_SIZE];
};

static void restore_options_done(struct restore_options *o)
{
    options_free_list(o->partitions);
    options_free_list(o->allow);
}

static int read_restore_options(sd_bus_message *message, struct restore_options *o, sd_bus_error *error)
{
    const struct option options[] = {
        {"partitions", "as", &o->partitions},
        {"allow", "as", &o->allow},
        {"reset", "b", &o->reset},
        {"queue", "b", &o->queue},
        {NULL},
    };
    int r = options_read(message, options, error);
    return r < 0 ? r : refusals_read(o->allow, o->allow_text, error);
}

/* What can be said without looking into it; the worker compares everything else with the modem. */
static int check_backup(const struct modem *m, const struct backup *b, const struct restore_options *o,
                        sd_bus_error *error)
{
    if (strcmp(b->kind, "dump") == 0)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "Backup %s (%s) is a crash dump: the memory of a modem, not its flash.", b->id,
                          backup_title(b));
    if (strcmp(b->state, "damaged") == 0 && !strstr(o->allow_text, error_name(ERROR_BACKUP_DAMAGED)))
        return errors_set(
            error, ERROR_BACKUP_DAMAGED,
            "Backup %s (%s) is damaged; use --allow=BackupDamaged to restore what is left of it.", b->id,
            backup_title(b));
    const char *serial = text_known(m->chip_serial);
    bool other = *serial && *b->chip_serial && strcmp(serial, b->chip_serial) != 0;
    if (other && !strstr(o->allow_text, error_name(ERROR_WRONG_UNIT)))
        return errors_set(
            error, ERROR_WRONG_UNIT,
            "Backup %s is of the unit with the chip serial %s, and %s has %s; calibration belongs "
            "to one unit (--allow=WrongUnit).",
            b->id, b->chip_serial, modem_title(m), serial);
    return 0;
}

int modem_method_restore(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    _cleanup_(restore_options_done) struct restore_options o = {.reset = true};
    _cleanup_free_ char *list = NULL;
    const char *path = NULL;
    struct job *j = NULL;

    int r = sd_bus_message_read_basic(message, 'o', &path);
    if (r >= 0)
        r = read_restore_options(message, &o, error);
    if (r >= 0)
        r = read_partitions(o.partitions, &list, error);
    const struct backup *b = r >= 0 ? backup_find_path(m->manager, path) : NULL;
    if (r >= 0 && !b)
        r = errors_set(error, ERROR_NO_SUCH_BACKUP, "There is no backup %s.", path);
    if (r >= 0) {
        char title[160];
        snprintf(title, sizeof(title), "%s", backup_title(b));
        r = modem_authorise(m, message, false, o.allow_text, "backup", title, error);
    }
    if (r <= 0)
        return r < 0 ? r : 1;
    r = check_backup(m, b, &o, error);
    bool xqcn = strcmp(b->kind, "xqcn") == 0;
    if (r >= 0 && xqcn && list && *list)
        r = errors_set(error, ERROR_INVALID_ARGS, "Backup %s has no partitions: it is put back as a whole.",
                       b->id);
    if (r >= 0 && xqcn && !o.reset)
        r = errors_set(error, ERROR_INVALID_ARGS,
                       "Backup %s is put back over DIAG; what was written so takes a restart to count.",
                       b->id);
    if (r >= 0)
        r = xqcn ? check_runs(m, "restore", error) : modem_check_mode(m, "restore", true, error);
    if (r >= 0)
        r = xqcn ? check_room(m, BACKUP_XQCN_SIZE, error) : modem_check_space(m, false, error);
    if (r >= 0)
        r = modem_new_job(m, message, JOB_RESTORE, &j, error);
    if (r < 0)
        return r;
    memcpy(j->backup_id, b->id, sizeof(j->backup_id));
    if (xqcn) {
        j->kind_of_backup = strdup("xqcn");
        r = j->kind_of_backup ? 0 : -ENOMEM;
    } else {
        r = choose_programmer(m, j, error);
    }
    j->allow = strdup(o.allow_text);
    j->partitions = steal_ptr(list);
    j->reset = o.reset;
    if (r >= 0 && !j->allow)
        r = -ENOMEM;
    if (r < 0) {
        job_free(j);
        return r;
    }
    return job_begin(j, message, o.queue, error);
}
