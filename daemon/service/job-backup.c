/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From a file that a job's worker has filled to a backup: nobody can write to it any more (second_reopen), a
 * second worker reads it in full, it is linked into the store with its record, both are on disk. Only then
 * the job is done, or a worker that waits before its first erase hears BACKUP_STORED (flash rule 5).
 */

#include "service/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <syslog.h>

#include "base/text.h"
#include "service/errors.h"
#include "service/log-about.h"
#include "service/modem.h"
#include "service/second.h"
#include "service/settle.h"

bool job_makes_backup(const struct job *j)
{
    return j->job_kind == JOB_BACKUP || (j->job_kind == JOB_IMPORT && j->imports_backup);
}

/* A worker waits for the answer, or the job itself ends with it. */
static bool is_handshake(const struct job *j)
{
    return !job_makes_backup(j);
}

/* In the log and in the report: what the user has to name to get it back. */
static void tell_found(struct job *j, const struct backup *b, bool is_new)
{
    char text[256], line[300];
    snprintf(text, sizeof(text), "%s (%s, %s, %llu KiB%s)", b->id, b->kind, b->state,
             (unsigned long long)(b->size >> 10), is_new ? "" : ", stored before with the same content");
    snprintf(line, sizeof(line), "backup %s", text);
    job_log(j, line);
    record_set(j->report, "backup", text);
    object_changed(&j->object, "Report");
}

static void send_answer(struct job *j, const char *flag, const char *key, const char *value)
{
    struct link_message m = {.size = 0};
    if (link_add(&m, flag, "1") == 0 && link_add(&m, key, value) == 0)
        process_send(j->process, &m);
    link_message_done(&m);
}

/* The worker is answered: what it may offer yet is the other file. */
static void offer_is_over(struct job *j)
{
    if (!j->keeps_calibration)
        return;
    j->keeps_calibration = false;
    close_fd(j->fd_store);
    j->fd_store = j->fd_calibration;
    j->fd_calibration = -1;
    struct record *facts = record_new();
    if (facts) {
        record_free(j->backup_facts);
        j->backup_facts = facts;
    }
}

static void fail(struct job *j, const struct error *e)
{
    if (is_handshake(j)) {
        offer_is_over(j);
        job_log(j, e->message);
        send_answer(j, KEY_BACKUP_REFUSED, KEY_MESSAGE, e->message);
        return;
    }
    job_fail(j, e);
    job_finish(j);
}

static void log_stored(const struct backup *b)
{
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "Backup %s (%s) is stored and was read again.", b->id, backup_title(b));
    log_about_backup(b, LOG_BACKUP_STORED, LOG_NOTICE, line);
}

static void stored(struct job *j, struct backup *b)
{
    object_set_string(&j->object, "Object", &j->object_path, b->object.path);
    log_stored(b);
    if (is_handshake(j)) {
        if (!j->keeps_calibration)
            snprintf(j->saved_id, sizeof(j->saved_id), "%s", b->id);
        offer_is_over(j);
        job_save(j);
        send_answer(j, KEY_BACKUP_STORED, KEY_ID, b->id);
        job_flush(j);
    } else {
        job_finish(j);
    }
    backup_retain(b);
}

/* Nothing may rest on it any more; text: why. */
static void lose(struct backup *b, const char *text)
{
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "Backup %s (%s) %s", b->id, backup_title(b), text);
    log_about_backup(b, LOG_BACKUP_LOST, LOG_ERR, line);
    backup_verified(b, false);
}

static void on_settled(void *userdata, int error)
{
    struct job *j = userdata;
    struct error e = {0};
    struct backup *b = backup_find_id(j->manager, j->new_id);
    j->settle = NULL;
    if (error == 0 && b) {
        stored(j, b);
        return;
    }
    error_set(&e, ERROR_NO_SPACE, "The backup may not be on the disk: %s.",
              strerror(error < 0 ? -error : ENOENT));
    /* The kernel says so once: the next fsync of the same file would be well without a byte written. */
    if (b && error != -ECANCELED)
        lose(b, "may not be on the disk: it could not be synced.");
    fail(j, &e);
}

/* What the worker told that was at the modem must be what is in the file. */
static int check_told(const struct job *j, const struct record *facts, struct error *e)
{
    static const char *const same[] = {"sha256", "serial", "state", "kind"};
    for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
        const char *told = record_get(j->backup_facts, same[i]), *found = record_get(facts, same[i]);
        if (*told && strcmp(told, found) != 0)
            return error_set(e, ERROR_FAILED, "The worker told of the backup %s %s, and in its file is %s.",
                             same[i], told, *found ? found : "none");
    }
    return 0;
}

static void add(struct job *j)
{
    const struct backup_origin origin = {
        .job_path = j->object.path,
        .port = j->modem ? j->modem->port : "",
        .owner = j->owner_uid,
        .imported = j->job_kind == JOB_IMPORT,
        .automatic = is_handshake(j),
    };
    struct error e = {0};
    struct backup *b = NULL;
    bool is_new = false;

    int r = backup_add(j->manager, j->backup_facts, j->fd_store, &origin, &b, &is_new, &e);
    if (r < 0) {
        fail(j, &e);
        return;
    }
    tell_found(j, b, is_new);
    memcpy(j->new_id, b->id, sizeof(j->new_id));
    r = backup_settle(b, on_settled, j, &j->settle);
    if (r < 0) {
        error_set(&e, ERROR_FAILED, "The backup cannot be brought to the disk: %s.", strerror(-r));
        fail(j, &e);
    }
}

static bool check_old(struct job *j);

/* The one that is there already, read anew: it may have rotted since, and then it stands in for nothing. */
static void on_old(void *userdata, const struct record *facts, const struct error *error)
{
    struct job *j = userdata;
    struct backup *b = backup_find_id(j->manager, j->new_id);
    j->second = NULL;
    if (b && !facts) {
        char text[256];
        snprintf(text, sizeof(text), "is not what it was: %.200s It stands in for nothing.", error->message);
        lose(b, text);
    }
    /* There may be another one, which nobody has read yet. */
    if ((b && facts) || !check_old(j))
        add(j);
}

/* True: it is being read. */
static bool check_old(struct job *j)
{
    const struct backup *b = backup_find_standing(j->manager, j->backup_facts, j->job_kind == JOB_IMPORT);
    struct error e = {0};
    if (!b)
        return false;
    memcpy(j->new_id, b->id, sizeof(j->new_id));
    const struct second_order order = {
        .type = "backup", .prefix = KEY_BACKUP_FACT, .id = b->id, .fd = backup_open(b)};
    bool ours = order.fd == -EMFILE || order.fd == -ENFILE || order.fd == -ENOMEM;
    if (order.fd >= 0 && second_start(j->manager, &order, on_old, j, &j->second, &e) == 0)
        return true;
    if (order.fd < 0)
        error_set(&e, ours ? ERROR_FAILED : ERROR_BACKUP_DAMAGED, "its file cannot be opened.");
    if (order.fd >= 0 || ours) /* that says nothing of the file */
        fail(j, &e);
    else
        on_old(j, NULL, &e);
    return true;
}

static void take_fact(void *userdata, const char *key, const char *value)
{
    record_set(userdata, key, value);
}

/*
 * A raw backup does not tell whose IMEI is in it. Of a unit without a serial it is the one that this very
 * device told before it went to 9008, or nobody's.
 */
static void bind_to_imei(struct job *j, const struct record *facts)
{
    const struct modem *m = j->modem;
    const char *kind = record_get(j->backup_facts, "kind"), *serial = record_get(j->backup_facts, "serial");
    if (*record_get(facts, "imei-hash") || (strcmp(kind, "nand") != 0 && strcmp(kind, "calibration") != 0))
        return;
    bool named = *serial && strcmp(serial, BACKUP_SERIAL_UNSET) != 0;
    bool known = j->job_kind != JOB_IMPORT && m && m->imei_watched && !named;
    record_set(j->backup_facts, "imei-hash", known ? text_known(m->imei_hash) : "");
}

static void on_second(void *userdata, const struct record *facts, const struct error *error)
{
    struct job *j = userdata;
    struct error e = *error;
    j->second = NULL;
    if (!facts || check_told(j, facts, &e) < 0) {
        fail(j, &e);
        return;
    }
    record_each(facts, take_fact, j->backup_facts); /* from now on: of what is in the file */
    bind_to_imei(j, facts);
    if (!check_old(j))
        add(j);
}

void job_keep_backup(struct job *j)
{
    struct error e = {0};
    if (!is_handshake(j)) {
        /* Its worker is through with it; what is left takes seconds. */
        j->timer = sd_event_source_disable_unref(j->timer);
        object_set_string(&j->object, "Phase", &j->phase, "store-backup");
        object_set_string(&j->object, "Detail", &j->detail, "");
        object_set_bool(&j->object, "Cancelable", &j->cancelable, false);
    }
    struct second_order order = {.type = "backup", .prefix = KEY_BACKUP_FACT};
    if (second_start_over(j->manager, &j->fd_store, j->kind, &order, on_second, j, &j->second, &e) < 0)
        fail(j, &e);
    else
        job_flush(j);
}

int job_take_offer(struct job *j, const char *value)
{
    /* Once: what is saved before the first erase cannot be saved again behind it. */
    if (strcmp(value, "calibration") == 0 && !j->keeps_calibration && !j->backup_offered &&
        j->fd_calibration >= 0) {
        int raw = j->fd_store;
        j->fd_store = j->fd_calibration;
        j->fd_calibration = raw;
        j->keeps_calibration = true;
        job_keep_backup(j);
        return 0;
    }
    if (strcmp(value, "1") != 0 || j->keeps_calibration || j->backup_offered || j->fd_store < 0)
        return -EBADMSG;
    j->backup_offered = true;
    job_keep_backup(j);
    return 0;
}

void job_drop_backup(struct job *j)
{
    j->second = second_free(j->second);
    j->settle = settle_free(j->settle);
}
