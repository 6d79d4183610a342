/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/job.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/text.h"
#include "service/backup.h"
#include "service/candidates.h"
#include "service/firmware.h"
#include "service/modem.h"

/* The JOB message being made: the first thing that did not fit is kept. */
struct order {
    struct link_message message;
    int result;
};

static void add_option(struct order *o, const char *name, const char *value)
{
    char key[64];
    if (!value || !*value || o->result < 0)
        return;
    snprintf(key, sizeof(key), KEY_OPTION "%s", name);
    o->result = link_add(&o->message, key, value);
}

static void add_number(struct order *o, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    add_option(o, name, text);
}

/* fd: a descriptor of its own for the worker, taken. Negative: the errno of opening it. */
static void add_fd(struct order *o, const char *name, int fd)
{
    if (fd < 0 && o->result == 0)
        o->result = fd;
    if (o->result == 0)
        o->result = link_add(&o->message, KEY_FD, name);
    if (o->result == 0)
        o->result = link_add_fd(&o->message, fd);
    else
        close_fd(fd);
}

static int duplicate(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

/* ---- what each kind is given (link/keys.h) ---- */

static void order_import(struct job *j, struct order *o)
{
    const struct config *c = &j->manager->config;
    add_option(o, "type", j->imports_backup ? "backup" : NULL);
    add_option(o, "sha256", j->sha256);
    /* Names the package where its archive does not; a text, read for a version and nothing else. */
    add_option(o, "label", j->label);
    add_number(o, "max-bytes", c->package_bytes_max);
    add_number(o, "max-entries", c->package_entries_max);
    add_number(o, "input-timeout-usec", c->input_timeout);
    add_option(o, "imei-key", j->manager->imei_key);
    add_fd(o, "archive", steal_fd(&j->fd_archive));
    add_fd(o, "store", duplicate(j->fd_store));
}

static int open_firmware(const struct job *j)
{
    const struct firmware *f = firmware_find_id(j->manager, j->firmware_id);
    return f ? firmware_open(f) : -ENOENT;
}

static int open_backup(const struct job *j)
{
    const struct backup *b = backup_find_id(j->manager, j->backup_id);
    return b ? backup_open(b) : -ENOENT;
}

static void order_verify(struct job *j, struct order *o)
{
    add_option(o, "imei-key", j->manager->imei_key);
    add_option(o, "type", j->backup_id[0] ? "backup" : NULL);
    add_option(o, "id", j->backup_id[0] ? j->backup_id : j->firmware_id);
    add_fd(o, "store", j->backup_id[0] ? open_backup(j) : open_firmware(j));
}

/*
 * Who is there is known for certain: it is confirmed, or has told its serial in this appearance. Nothing else
 * need be known of it: a brick that nobody has seen before is named by its catch.
 */
static bool is_named(const struct modem *m)
{
    return m->confirmed || (m->appearance && *text_known(m->seen_serial));
}

/* Without a serial it is of the one that was watched since; what was left half written here is taken for it.
 */
static const char *known_flaw(const struct modem *m)
{
    const struct job *i = m->interrupted;
    const char *flaw = text_known(m->calibration_flaw);
    if (strcmp(flaw, "half-written") == 0 || (i && !i->complete && job_changes_calibration(i)))
        return "half-written";
    return m->confirmed || *text_known(m->chip_serial) ? flaw : "";
}

/* What the service remembers of the unit; who it must be only if that is known. */
static void order_unit(const struct job *j, struct order *o)
{
    const struct modem *m = j->modem;
    add_option(o, "known-version", m->family_version);
    add_option(o, "known-confirmed", m->confirmed ? "1" : "0");
    add_option(o, "calibration-flaw", known_flaw(m));
    add_option(o, "calibration-flaw-of", m->chip_serial);
    /* One that runs its firmware has told much, and yet may be in the place of the one whose serial it is. */
    if (is_named(m) && m->unit_watched) {
        add_option(o, "serial", m->chip_serial);
        add_option(o, "hwid", m->hardware_id);
        add_option(o, "pkhash", m->pk_hash);
    }
    /* Of whoever was here before they would be believed. What is continued is of the same unit. */
    bool own = *text_known(m->chip_serial) || m->tables_watched || j->resumes;
    int tables = own ? modem_open_tables(m) : -ENOENT;
    if (tables != -ENOENT)
        add_fd(o, "recorded", tables);
}

/* How much time it gives: nothing if it does not loop. */
static void order_loop(const struct modem *m, struct order *o)
{
    if (m->loop_window > 0)
        add_number(o, "window-usec", m->loop_window);
    if (m->loop_period > 0)
        add_number(o, "loop-period-usec", m->loop_period);
}

/* One that runs its firmware is asked who it is and brought to 9008 first. */
static void add_running(const struct job *j, struct order *o)
{
    add_option(o, "came-from-normal", strcmp(modem_kind(j->modem), "normal") == 0 ? "1" : "0");
    add_option(o, "imei-key", j->manager->imei_key);
}

static void order_plan(struct job *j, struct order *o)
{
    add_option(o, "firmware", j->firmware_id);
    add_option(o, "allow", j->allow);
    add_option(o, "modem-version", j->modem_version);
    add_option(o, "reset", j->reset ? "1" : "0");
    add_fd(o, "package", open_firmware(j));
    order_unit(j, o);
}

static void order_flash(struct job *j, struct order *o)
{
    const struct config *c = &j->manager->config;
    order_plan(j, o);
    order_loop(j->modem, o);
    if (is_named(j->modem)) /* else the unit is asked in Sahara who it is */
        add_option(o, "running-programmer", j->modem->running);
    add_number(o, "wait-device-usec", c->wait_device);
    add_number(o, "boot-usec", c->boot_timeout);
    add_running(j, o);
    /* What booted has to be the unit that was complete. */
    if (j->resumes && job_waits_for_boot(j->resumes))
        add_option(o, "unit-imei", j->resumes->imei_hash);
    else if (is_named(j->modem))
        add_option(o, "unit-imei", j->modem->imei_hash);
    add_number(o, "created", realtime_usec());
    add_fd(o, "journal", duplicate(j->fd_journal));
    add_fd(o, "backup", duplicate(j->fd_store));
    if (j->fd_calibration >= 0)
        add_fd(o, "calibration", duplicate(j->fd_calibration));
}

/* What a backup and a restore share: the unit, and a programmer to read and write it with. */
static void order_saving(struct job *j, struct order *o)
{
    add_option(o, "firmware", j->firmware_id);
    add_option(o, "partitions", j->partitions);
    add_number(o, "created", realtime_usec());
    add_number(o, "wait-device-usec", j->manager->config.wait_device);
    add_running(j, o);
    if (j->firmware_id[0])
        add_fd(o, "package", open_firmware(j));
    order_unit(j, o);
    order_loop(j->modem, o);
}

static void order_backup(struct job *j, struct order *o)
{
    add_option(o, "kind", j->kind_of_backup);
    order_saving(j, o);
    add_fd(o, "store", duplicate(j->fd_store));
    if (j->fd_journal >= 0)
        add_fd(o, "journal", duplicate(j->fd_journal));
}

/*
 * Whose it is, by what is remembered of both: a modem that lost its calibration cannot tell any more, nor can
 * one in 9008 that has no serial. It must
 * be the one that this is remembered of for certain: a blank card at the same port is not given another one's
 * IMEI.
 */
static void add_binding(const struct job *j, struct order *o)
{
    const struct backup *b = backup_find_id(j->manager, j->backup_id);
    const struct modem *m = j->modem;
    bool known = b && *b->imei_hash && m->imei_hash && *m->imei_hash;
    bool same = known && strcmp(b->imei_hash, m->imei_hash) == 0;
    bool watched = m->imei_watched || (j->kind_of_backup && m->unit_watched);
    add_option(o, "bound", same && watched && backup_is_of(b, m) ? "1" : "0");
    add_option(o, "foreign", known && !same && watched ? "1" : "0");
    if (b && !j->kind_of_backup &&
        *b->imei_hash) /* one that runs its firmware is asked by the worker itself */
        add_option(o, "backup-imei", b->imei_hash);
}

static void order_restore(struct job *j, struct order *o)
{
    /* What ran its firmware shall run it again, also if the first half of this call left it in 9008. */
    bool ran = strcmp(modem_kind(j->modem), "normal") == 0 || (j->resumes && j->resumes->reset);
    j->reset = j->reset && ran;
    add_option(o, "reset", j->reset ? "1" : "0");
    if (j->kind_of_backup)
        add_option(o, "kind", j->kind_of_backup);
    add_number(o, "boot-usec", j->manager->config.boot_timeout);
    if (is_named(j->modem))
        add_option(o, "unit-imei", j->modem->imei_hash);
    add_binding(j, o);
    add_option(o, "backup", j->backup_id);
    add_option(o, "allow", j->allow);
    order_saving(j, o);
    add_fd(o, "source", open_backup(j));
    add_fd(o, "journal", duplicate(j->fd_journal));
    add_fd(o, "backup", duplicate(j->fd_store));
}

static void order_identify(struct job *j, struct order *o)
{
    /* Nobody else's modem is kept: asked, and left alone again. */
    bool own = j->owner_uid == RESCUE_UID;
    add_option(o, "hold", own ? "0" : "1");
    add_option(o, "normal", !own && strcmp(modem_kind(j->modem), "normal") == 0 ? "1" : "0");
    add_option(o, "imei-key", j->manager->imei_key);
    add_number(o, "wait-device-usec", own ? USEC_INFINITY : j->manager->config.wait_device);
}

static void order_enter_edl(struct job *j, struct order *o)
{
    add_option(o, "crashed", strcmp(modem_kind(j->modem), "crash-dump") == 0 ? "1" : "0");
    add_option(o, "imei-key", j->manager->imei_key);
    add_number(o, "wait-device-usec", j->manager->config.wait_device);
}

/* A user's own word tries again what failed before; the service by itself does not. */
static void order_catch(struct job *j, struct order *o)
{
    struct firmware *list[CANDIDATES_MAX];
    size_t n = candidates_find(j->modem, j->owner_uid != RESCUE_UID, list);
    for (size_t i = 0; i < n; i++) {
        char name[32], text[FIRMWARE_ID_SIZE + 32];
        snprintf(name, sizeof(name), "candidate-%zu", i);
        snprintf(text, sizeof(text), "%s %.16s", list[i]->id, list[i]->chip);
        add_option(o, name, text);
        add_fd(o, name, firmware_open(list[i]));
    }
    if (j->timeout > 0)
        add_number(o, "timeout-usec", j->timeout);
}

static void order_reset(struct job *j, struct order *o)
{
    add_option(o, "mode", j->reset_mode);
    add_option(o, "normal", strcmp(modem_kind(j->modem), "normal") == 0 ? "1" : "0");
    add_option(o, "imei-key", j->manager->imei_key);
    add_number(o, "wait-device-usec", j->manager->config.wait_device);
    add_number(o, "boot-usec", j->manager->config.boot_timeout);
}

static void (*const orders[JOB_KIND_COUNT])(struct job *j, struct order *o) = {
    [JOB_IDENTITY] = order_enter_edl, [JOB_IMPORT] = order_import,       [JOB_VERIFY] = order_verify,
    [JOB_PLAN] = order_plan,          [JOB_FLASH] = order_flash,         [JOB_IDENTIFY] = order_identify,
    [JOB_RESET] = order_reset,        [JOB_CATCH] = order_catch,         [JOB_BACKUP] = order_backup,
    [JOB_RESTORE] = order_restore,    [JOB_ENTER_EDL] = order_enter_edl,
};

/* ---- files ---- */

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* The last one of the same call: there is one of a modem at most (job_void_backups()). */
static struct job *find_backup(const struct job *j)
{
    for (struct job *i = j->manager->jobs; i && j->modem && job_has_journal(j); i = i->next)
        if (job_backup_resumable(i) && strcmp(i->modem_path, j->modem->object.path) == 0 &&
            same_text(i->kind_of_backup, j->kind_of_backup) && same_text(i->partitions, j->partitions))
            return i;
    return NULL;
}

/* The interrupted flash or restore that this one continues; NULL. */
static struct job *find_resumable(const struct job *j)
{
    struct job *i = j->modem ? j->modem->interrupted : NULL;
    if (j->job_kind == JOB_BACKUP)
        return find_backup(j);
    if (!job_has_journal(j) || !i || i->job_kind != j->job_kind || !job_resumable(i))
        return NULL;
    /* What boots may be another unit in its place. */
    if (job_waits_for_boot(i) && !job_may_be_of(i, j->modem))
        return NULL;
    /* Of a restore it says how it ends, and nothing of what is written. */
    bool same_end = i->reset == j->reset || j->job_kind == JOB_RESTORE;
    bool same = strcmp(i->firmware_id, j->firmware_id) == 0 && same_text(i->allow, j->allow) &&
                same_text(i->modem_version, j->modem_version) && same_end &&
                strcmp(i->backup_id, j->backup_id) == 0 && same_text(i->partitions, j->partitions);
    return same ? i : NULL;
}

/* An empty journal, or the one of the job that is continued; that one changes hands when the pre-flight is
 * over. */
static int open_journal(struct job *j)
{
    int dirfd = j->manager->store.fd_jobs;
    j->resumes = find_resumable(j);
    if (!j->resumes)
        return store_tmpfile(dirfd);
    char name[32];
    snprintf(name, sizeof(name), "%llu.journal", (unsigned long long)j->resumes->id);
    return store_open_file(dirfd, name, O_RDWR);
}

/* Before every flash of a modem that runs its firmware. */
static bool saves_calibration(const struct job *j)
{
    return j->manager->config.backups_automatic && strcmp(modem_kind(j->modem), "normal") == 0;
}

static int open_part(const struct job *j)
{
    char name[32];
    snprintf(name, sizeof(name), "%llu.part", (unsigned long long)j->resumes->id);
    return store_open_file(j->manager->store.fd_jobs, name, O_RDWR);
}

static int open_files(struct job *j, struct error *e)
{
    struct store *s = &j->manager->store;
    if (job_kind_is_question(j->job_kind))
        return 0;
    if (j->fd_log < 0 && (j->fd_log = store_tmpfile(s->fd_jobs)) < 0)
        return error_set(e, ERROR_NO_SPACE, "The log of this %s cannot be made: %s.", j->kind,
                         strerror(-j->fd_log));
    bool package = j->job_kind == JOB_IMPORT && !j->imports_backup;
    if (job_has_journal(j) && (j->fd_journal = open_journal(j)) < 0)
        return error_set(e, ERROR_NO_SPACE, "The journal of this %s cannot be opened: %s.", j->kind,
                         strerror(-j->fd_journal));
    bool backup = job_makes_backup(j) || j->job_kind == JOB_FLASH || j->job_kind == JOB_RESTORE;
    if (j->job_kind == JOB_BACKUP && j->resumes)
        j->fd_store = open_part(j);
    else if (package || backup)
        j->fd_store = store_tmpfile(package ? s->fd_firmware : s->fd_backups);
    if ((package || backup) && j->fd_store < 0)
        return error_set(e, ERROR_NO_SPACE, "A file for the %s cannot be made: %s.",
                         package ? "package" : "backup", strerror(-j->fd_store));
    /* What cannot be saved so is saved from the flash all the same (flash rule 5). */
    if (j->job_kind == JOB_FLASH && saves_calibration(j))
        j->fd_calibration = store_tmpfile(s->fd_backups);
    return 0;
}

/*
 * The worker has the only descriptor that writes; ours is for linking the file in. A process that is being
 * started holds copies of all of ours for a moment, and a file is believed only once nobody can write to it
 * (second_reopen()).
 */
static int give_up_writing(int *fd)
{
    char path[64];
    if (*fd < 0)
        return 0;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    if (reader < 0)
        return -errno;
    close_fd(*fd);
    *fd = reader;
    return 0;
}

int job_start_worker(struct job *j, struct error *e)
{
    if (j->firmware_id[0] && !firmware_find_id(j->manager, j->firmware_id))
        return error_set(e, ERROR_NO_SUCH_FIRMWARE, "The firmware %s has been removed meanwhile.",
                         j->firmware_id);
    int r = open_files(j, e);
    if (r < 0)
        return r;

    struct order order = {.result = 0};
    order.result = link_add(&order.message, KEY_JOB, j->kind);
    orders[j->job_kind](j, &order);
    if (order.result == 0)
        order.result = give_up_writing(&j->fd_store);
    if (order.result == 0)
        order.result = give_up_writing(&j->fd_calibration);
    if (order.result < 0) {
        link_message_done(&order.message);
        return error_set(e, ERROR_FAILED, "The worker of this %s cannot be told what to do: %s.", j->kind,
                         strerror(-order.result));
    }
    struct process_handler handler = job_process_handler;
    handler.userdata = j;
    r = process_start(j->manager->event, j->manager->worker_binary, &handler, &j->process);
    if (r < 0) {
        link_message_done(&order.message);
        return error_set(e, ERROR_FAILED, "The worker of this %s cannot be started: %s.", j->kind,
                         strerror(-r));
    }
    if (j->job_kind == JOB_IMPORT)
        process_set_owner(j->process, j->owner_uid);
    process_send(j->process, &order.message);
    return 0;
}
