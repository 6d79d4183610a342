/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/modem.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/backup.h"
#include "service/neighbours.h"
#include "service/probe.h"

#define MODEM_PREFIX MANAGER_PATH "/modem"
#define SERIAL_UNSET "00000000" /* unfused: many chips have it, it tells nothing */
#define NO_PORT      "usb-"     /* a device without ID_PATH: named after its kernel name, never remembered */

/* ---- life ---- */

/* A port that was seen in this run stays (a looping modem comes back); a device without one has no name to
 * come back to. */
static bool is_needed(const struct modem *m)
{
    if (m->appearance || m->job || m->holder || m->guard || (*m->port && !m->forgotten))
        return true;
    for (const struct job *j = m->manager->jobs; j; j = j->next)
        if (j->modem == m)
            return true;
    return false;
}

/* Room for one more: the one that was gone for the longest time goes. Its unit is known again wherever it
 * comes back. */
static void make_room(struct manager *manager)
{
    struct modem *oldest = NULL;
    size_t n = 0;
    for (struct modem *m = manager->modems; m; m = m->next) {
        n++;
        bool busy = m->appearance || m->job || m->holder || m->guard || policy_is_armed(m);
        for (const struct job *j = manager->jobs; j && !busy; j = j->next)
            busy = j->modem == m;
        if (!busy && (!oldest || m->seen_time < oldest->seen_time))
            oldest = m;
    }
    if (n < MODEMS_MAX || !oldest)
        return;
    modem_shelve(oldest);
    modem_forget(oldest);
    modem_free(oldest);
}

int modem_get(struct manager *manager, const char *port, const char *kernel_name, struct modem **ret)
{
    _cleanup_free_ char *id = *port ? text_printf("%s", port) : text_printf(NO_PORT "%s", kernel_name);
    if (!id)
        return -ENOMEM;
    for (struct modem *m = manager->modems; m; m = m->next)
        if (strcmp(m->id, id) == 0) {
            *ret = m;
            return 0;
        }
    make_room(manager);
    struct modem *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->manager = manager;
    m->next = manager->modems;
    manager->modems = m;
    m->id = steal_ptr(id);
    m->port = strdup(port);
    m->mode = strdup("absent");
    int r = object_init(&m->object, manager->bus, MODEM_PREFIX, m->id, MODEM_INTERFACE, modem_vtable, m);
    if (r >= 0 && (!m->port || !m->mode))
        r = -ENOMEM;
    if (r < 0) {
        modem_free(m);
        return r;
    }
    rescue_port_load(m);
    policy_publish(m);
    *ret = m;
    return 0;
}

struct modem *modem_free(struct modem *m)
{
    if (!m)
        return NULL;
    for (struct modem **i = &m->manager->modems; *i; i = &(*i)->next)
        if (*i == m) {
            *i = m->next;
            break;
        }
    sd_event_source_disable_unref(m->release_timer);
    sd_event_source_disable_unref(m->loop_timer);
    opener_free(m->opener);
    probe_free(m->probe);
    process_free(m->holder);
    settle_free(m->tables_settle);
    rescue_free(m);
    object_done(&m->object);
    char *strings[] = {m->id,
                       m->port,
                       m->kernel_name,
                       m->mode,
                       m->product,
                       m->model,
                       m->firmware_version,
                       m->chip_serial,
                       m->chip,
                       m->hardware_id,
                       m->pk_hash,
                       m->storage,
                       m->last_error,
                       m->recovery_hint,
                       m->facts_serial,
                       m->family_version,
                       m->calibration_flaw,
                       m->project,
                       m->seen_serial,
                       m->policy,
                       m->rescue_firmware,
                       m->note,
                       m->quectel,
                       m->refused,
                       m->silent,
                       m->device_path,
                       m->inhibited_by,
                       m->imei,
                       m->imei_hash,
                       m->imei_serial};
    for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
        free(strings[i]);
    free(m);
    return NULL;
}

struct modem *modem_find_path(struct manager *manager, const char *path)
{
    struct modem *m = manager->modems;
    while (m && strcmp(m->object.path, path) != 0)
        m = m->next;
    return m;
}

void modem_free_unneeded(struct manager *manager)
{
    for (struct modem *m = manager->modems, *next; m; m = next) {
        next = m->next;
        if (!is_needed(m))
            modem_free(m);
    }
}

const char *modem_title(const struct modem *m)
{
    enum { WHAT_MAX = 64, WHERE_MAX = 80 };
    static char title[WHAT_MAX + WHERE_MAX + sizeof(" at ")];
    const char *what = m->model && *m->model ? m->model : "the modem";
    const char *where = m->kernel_name && *m->kernel_name ? m->kernel_name : m->id;
    snprintf(title, sizeof(title), "%.*s at %.*s", text_fit(what, WHAT_MAX), what, text_fit(where, WHERE_MAX),
             where);
    return title;
}

/* ---- who it is ---- */

void modem_update_confirmed(struct modem *m)
{
    bool known = *text_known(m->firmware_version) || *text_known(m->model);
    bool same = *text_known(m->seen_serial) && strcmp(text_known(m->facts_serial), m->seen_serial) == 0;
    object_set_bool(&m->object, "Confirmed", &m->confirmed, known && (same || m->facts_watched));
}

/*
 * From here on all that is remembered of its IMEI rests on this serial: it told it itself just now, or it was
 * learned with the serial. What one told that ran its firmware at this port, and was not watched since, may
 * be another one's.
 */
static void settle_facts(struct modem *m, const char *serial)
{
    bool foreign =
             !m->imei_watched && *text_known(m->imei_hash) && strcmp(text_known(m->imei_serial), serial) != 0,
         facts = m->facts_watched && strcmp(text_known(m->facts_serial), serial) != 0,
         imei = m->imei_watched && strcmp(text_known(m->imei_serial), serial) != 0;
    if (facts)
        text_replace(&m->facts_serial, serial);
    if (imei)
        text_replace(&m->imei_serial, serial);
    if (foreign) {
        text_replace(&m->imei_hash, "");
        object_set_string(&m->object, "Imei", &m->imei, "");
    }
    if (m->facts_watched && m->told_flaw)
        text_replace(&m->calibration_flaw, m->told_flaw);
    m->save_pending |= m->remembered && (facts || imei || foreign);
    m->unit_watched = true;
}

bool modem_owns_imei(const struct modem *m)
{
    return m->unit_watched && strcmp(text_known(m->imei_serial), text_known(m->chip_serial)) == 0;
}

/*
 * What this very device has told counts more than what is remembered of it. But an IMEI does not change: one
 * that told another when its serial was known is not the one that was watched, however fast it came.
 */
static void unshelve(struct modem *m, const char *serial)
{
    _cleanup_free_ char *version = strdup(text_known(m->firmware_version)),
                        *family = strdup(text_known(m->family_version)),
                        *model = strdup(text_known(m->model)), *imei = strdup(text_known(m->imei)),
                        *hash = strdup(text_known(m->imei_hash));
    modem_unshelve(m, serial);
    if (!version || !family || !model || !imei || !hash)
        return;
    if (m->imei_watched && *hash && *text_known(m->imei_hash) && strcmp(m->imei_hash, hash) != 0 &&
        strcmp(text_known(m->imei_serial), serial) == 0) {
        m->facts_watched = m->imei_watched = m->unit_watched = m->port_policy.watched = false;
        return;
    }
    if (m->facts_watched && *version) {
        object_set_string(&m->object, "FirmwareVersion", &m->firmware_version, version);
        text_replace(&m->family_version, family);
    }
    if (m->facts_watched && *model)
        object_set_string(&m->object, "Model", &m->model, model);
    if (m->facts_watched && m->told_flaw)
        text_replace(&m->calibration_flaw, m->told_flaw);
    if (m->imei_watched) {
        object_set_string(&m->object, "Imei", &m->imei, imei);
        text_replace(&m->imei_hash, hash);
    }
}

/* Somebody swapped the card; in so short a time that it was taken for the same one, if that was watched. */
static void was_swapped(struct modem *m)
{
    if (m->unit_watched)
        m->port_policy.watched = false;
    modem_shelve(m);
    m->unit_watched = m->imei_watched = false;
}

void modem_set_serial(struct modem *m, const char *serial)
{
    bool unset = strcmp(serial, SERIAL_UNSET) == 0;
    if (unset)
        serial = "";
    text_replace(&m->seen_serial, serial);
    if (unset && *text_known(m->chip_serial)) { /* what is remembered here is of one that has a serial */
        was_swapped(m);
        modem_update_interrupted(m);
    }
    if (!*serial) {
        modem_update_confirmed(m);
        return;
    }
    if (*text_known(m->chip_serial) && strcmp(m->chip_serial, serial) != 0) {
        was_swapped(m);
    }
    if (strcmp(text_known(m->chip_serial), serial) != 0) {
        if (!m->tables_watched)
            modem_drop_tables(m);
        unshelve(m, serial);
    }
    object_set_string(&m->object, "ChipSerial", &m->chip_serial, serial);
    settle_facts(m, serial);
    policy_settle(m);
    modem_update_confirmed(m);
    modem_update_backup(m);
    modem_update_interrupted(m);
}

/* Lower case, so that equal means equal. */
static bool is_hex(const char *value, size_t digits)
{
    return strlen(value) == digits && strspn(value, "0123456789abcdef") == digits;
}

/* Not now: the modem waits for its worker, and its worker for us. */
static void save_soon(struct modem *m)
{
    m->save_pending = true;
    manager_update(m->manager);
}

/* The same value again changes nothing on disk. */
static int learn_string(struct modem *m, const char *name, char **field, const char *value)
{
    if (strcmp(text_known(*field), value) == 0)
        return 0;
    object_set_string(&m->object, name, field, value);
    save_soon(m);
    return 0;
}

static int learn_mode(struct modem *m, const char *value)
{
    if (strcmp(value, "sahara") != 0 && strcmp(value, "firehose") != 0 && strcmp(value, "crash-dump") != 0)
        return -EBADMSG;
    /* A worker's last words about a device that has gone meanwhile are not about what is there now. */
    if (m->appearance)
        object_set_string(&m->object, "Mode", &m->mode, value);
    return 0;
}

int modem_learn(struct modem *m, const char *key, const char *value)
{
    enum { SERIAL_DIGITS = 8, HWID_DIGITS = 16, TEXT_MAX = 128 };
    if (modem_is_running_fact(key))
        return modem_learn_running(m, key, value);
    if (strcmp(key, KEY_SERIAL) == 0) {
        if (!is_hex(value, SERIAL_DIGITS))
            return -EBADMSG;
        bool news = strcmp(text_known(m->chip_serial), value) != 0;
        modem_set_serial(m, value);
        if (news || !m->remembered) /* from the modem's own mouth: worth remembering */
            save_soon(m);
        return 0;
    }
    if (strcmp(key, KEY_MODE) == 0)
        return learn_mode(m, value);
    if (strcmp(key, KEY_HWID) == 0)
        return is_hex(value, HWID_DIGITS) ? learn_string(m, "HardwareId", &m->hardware_id, value) : -EBADMSG;
    if (strcmp(key, KEY_PKHASH) == 0)
        return is_hex(value, 64) || is_hex(value, 96) || is_hex(value, 128)
                   ? learn_string(m, "PkHash", &m->pk_hash, value)
                   : -EBADMSG;
    if (strlen(value) > TEXT_MAX)
        return -EBADMSG;
    if (strcmp(key, KEY_CHIP) == 0)
        return learn_string(m, "Chip", &m->chip, value);
    if (strcmp(key, KEY_STORAGE) == 0)
        return learn_string(m, "Storage", &m->storage, value);
    if (strcmp(key, KEY_PROJECT) == 0) {
        text_replace(&m->project, value);
        text_replace(&m->quectel, "1"); /* nobody else's flash has that page */
        modem_save(m);
        return 0;
    }
    return -EBADMSG;
}

void modem_note_quectel(struct modem *m)
{
    if (*text_known(m->quectel))
        return;
    text_replace(&m->quectel, "1");
    modem_save(m);
}

void modem_flashed(struct modem *m, const char *model, const char *version, bool forced)
{
    if (*model)
        object_set_string(&m->object, "Model", &m->model, model);
    if (version && *version) {
        object_set_string(&m->object, "FirmwareVersion", &m->firmware_version, version);
        if (!forced)
            text_replace(&m->family_version, version);
    }
    text_replace(&m->facts_serial, m->unit_watched ? text_known(m->chip_serial) : "");
    m->facts_watched = true;
    text_replace(&m->quectel, "1");
    modem_update_confirmed(m);
    modem_save(m);
}

void modem_set_error(struct modem *m, const char *message, enum error_hint hint)
{
    object_set_string(&m->object, "LastError", &m->last_error, message);
    object_set_string(&m->object, "RecoveryHint", &m->recovery_hint, hint_name(hint));
    m->save_pending |= m->remembered;
}

void modem_update_backup(struct modem *m)
{
    uint64_t last = backup_last_time(m->manager, m);
    object_set_u64(&m->object, "LastBackupTime", &m->last_backup_time, last);
    object_changed(&m->object, "CalibrationBackup");
}

/* ---- jobs ---- */

static struct job *next_queued(const struct modem *m)
{
    for (struct job *j = m->manager->jobs; j; j = j->next)
        if (j->modem == m && j->job_state == JOB_QUEUED)
            return j;
    return NULL;
}

void modem_set_job(struct modem *m, struct job *j)
{
    m->job = j;
    neighbours_update(m->manager);
    object_changed(&m->object, "Job");
    if (j) {
        object_flush(&m->object);
        return;
    }
    struct job *next = m->manager->stopping ? NULL : next_queued(m);
    if (next)
        job_dequeue(next);
    else
        probe_look(m);
    object_flush(&m->object);
}

void modem_update_interrupted(struct modem *m)
{
    struct job *found = NULL;
    for (struct job *j = m->manager->jobs; j; j = j->next) {
        if (!job_resumable(j))
            continue;
        bool this_unit = *text_known(j->serial) && *text_known(m->chip_serial)
                             ? strcmp(j->serial, m->chip_serial) == 0
                             : strcmp(text_known(j->modem_path), m->object.path) == 0;
        if (this_unit)
            found = j;
    }
    if (m->interrupted == found)
        return;
    m->interrupted = found;
    object_changed(&m->object, "Interrupted");
}
