/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/modem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "link/keys.h"
#include "service/log.h"
#include "service/settle.h"

/*
 * Two sorts of files in modems/: PORT.rec with PORT.tables for the unit at a port (the name as in its object
 * path), and unit-SERIAL.rec with its tables for a unit that went from its port: the shelf. An encoded port
 * has no '-', so they never meet.
 */

enum { FILE_NAME_SIZE = 240 };

static const char *const suffixes[] = {"rec", "tables"};

static const struct {
    const char *key, *property;
    size_t offset;
} saved[] = {
    {"MODEL", "Model", offsetof(struct modem, model)},
    {"FIRMWARE_VERSION", "FirmwareVersion", offsetof(struct modem, firmware_version)},
    {"SERIAL", "ChipSerial", offsetof(struct modem, chip_serial)},
    {"CHIP", "Chip", offsetof(struct modem, chip)},
    {"HWID", "HardwareId", offsetof(struct modem, hardware_id)},
    {"PKHASH", "PkHash", offsetof(struct modem, pk_hash)},
    {"STORAGE", "Storage", offsetof(struct modem, storage)},
    {"LAST_ERROR", "LastError", offsetof(struct modem, last_error)},
    {"RECOVERY_HINT", "RecoveryHint", offsetof(struct modem, recovery_hint)},
    {"FACTS_SERIAL", NULL, offsetof(struct modem, facts_serial)},
    {"FAMILY_VERSION", NULL, offsetof(struct modem, family_version)},
    {"IMEI", "Imei", offsetof(struct modem, imei)},
    {"IMEI_HASH", NULL, offsetof(struct modem, imei_hash)},
    {"IMEI_SERIAL", NULL, offsetof(struct modem, imei_serial)},
    {"CALIBRATION_FLAW", NULL, offsetof(struct modem, calibration_flaw)},
    {"PROJECT", NULL, offsetof(struct modem, project)},
    {"QUECTEL", NULL, offsetof(struct modem, quectel)},
    {"REFUSED", NULL, offsetof(struct modem, refused)},
    {"SILENT", NULL, offsetof(struct modem, silent)},
    {"POLICY", NULL, offsetof(struct modem, unit_policy.mode)},
    {"POLICY_FIRMWARE", NULL, offsetof(struct modem, unit_policy.firmware_id)},
    {"POLICY_VERSION", NULL, offsetof(struct modem, unit_policy.modem_version)},
};

static char **string_at(struct modem *m, size_t i)
{
    return (char **)((char *)m + saved[i].offset);
}

static void port_file(const struct modem *m, const char *suffix, char out[FILE_NAME_SIZE])
{
    snprintf(out, FILE_NAME_SIZE, "%s.%s", strrchr(m->object.path, '/') + 1, suffix);
}

static void shelf_file(const char *serial, const char *suffix, char out[FILE_NAME_SIZE])
{
    snprintf(out, FILE_NAME_SIZE, MODEM_SHELF "%s.%s", serial, suffix);
}

void modem_save(struct modem *m)
{
    _cleanup_(record_freep) struct record *r = record_new();
    char name[FILE_NAME_SIZE];
    if (!r || !*m->port)
        return;
    record_set(r, "PORT", m->port);
    record_set_u64(r, "SEEN", m->seen_time);
    for (size_t i = 0; i < ARRAY_SIZE(saved); i++)
        record_set(r, saved[i].key, *string_at(m, i));
    rescue_record(m, r);
    port_file(m, "rec", name);
    int q = record_save(r, m->manager->store.fd_modems, name);
    if (q < 0)
        log_message(LOG_WARNING, "What is known of %s cannot be written: %s.", modem_title(m), strerror(-q));
    else
        policy_recorded(m);
    m->remembered = q >= 0;
    m->save_pending = false;
}

static void take_memory(struct modem *m, const struct record *r)
{
    for (size_t i = 0; i < ARRAY_SIZE(saved); i++) {
        const char *value = record_get(r, saved[i].key);
        if (saved[i].property) {
            object_set_string(&m->object, saved[i].property, string_at(m, i), value);
        } else {
            free(*string_at(m, i));
            *string_at(m, i) = strdup(value);
        }
    }
    rescue_recall(m, r);
    policy_publish(m);
}

static void clear_memory(struct modem *m)
{
    _cleanup_(record_freep) struct record *nothing = record_new();
    if (nothing)
        take_memory(m, nothing);
    m->facts_watched = false;
    modem_update_backup(m);
}

/* ---- the shelf ---- */

static bool move_file(const struct modem *m, const char *from, const char *to)
{
    int fd = m->manager->store.fd_modems;
    if (renameat(fd, from, fd, to) == 0)
        return true;
    if (errno != ENOENT)
        log_message(LOG_WARNING, "modems/%s cannot be renamed to %s: %s.", from, to, strerror(errno));
    return false;
}

/* True: there was something. */
static bool move_files(const struct modem *m, const char *serial, bool to_shelf)
{
    bool moved = false;
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        char port[FILE_NAME_SIZE], shelf[FILE_NAME_SIZE];
        port_file(m, suffixes[i], port);
        shelf_file(serial, suffixes[i], shelf);
        moved |= move_file(m, to_shelf ? port : shelf, to_shelf ? shelf : port);
    }
    return moved;
}

struct shelf_count {
    int fd;
    size_t n;
    char oldest[FILE_NAME_SIZE / 2]; /* its serial */
    uint64_t oldest_seen;
};

static int count_shelved(void *userdata, const char *name)
{
    struct shelf_count *c = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    if (!text_starts_with(name, MODEM_SHELF) || record_load(c->fd, name, &r) < 0)
        return 0;
    uint64_t seen = record_get_u64(r, "SEEN", 0);
    if (c->n++ == 0 || seen < c->oldest_seen) {
        c->oldest_seen = seen;
        snprintf(c->oldest, sizeof(c->oldest), "%.*s", (int)strcspn(name + strlen(MODEM_SHELF), "."),
                 name + strlen(MODEM_SHELF));
    }
    return 0;
}

static void remove_shelved(int fd, const char *serial)
{
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        char name[FILE_NAME_SIZE];
        shelf_file(serial, suffixes[i], name);
        store_remove(fd, name);
    }
}

static void limit_shelf(const struct manager *manager)
{
    struct shelf_count c = {.fd = manager->store.fd_modems};
    store_list(c.fd, ".rec", count_shelved, &c);
    if (c.n > MODEMS_MAX)
        remove_shelved(c.fd, c.oldest);
}

void modem_shelve(struct modem *m)
{
    if ((m->remembered || m->save_pending) && m->chip_serial && *m->chip_serial) {
        modem_save(m);
        move_files(m, m->chip_serial, true);
        limit_shelf(m->manager);
    }
    modem_drop_tables(m); /* of one without a serial */
    m->remembered = m->save_pending = false;
    clear_memory(m);
}

void modem_unshelve(struct modem *m, const char *serial)
{
    struct manager *manager = m->manager;
    for (struct modem *o = manager->modems, *next; o; o = next) {
        next = o->next;
        if (o == m || o->appearance || !o->chip_serial || strcmp(o->chip_serial, serial) != 0)
            continue;
        /* The unit was at another port before: that one has nothing any more. */
        modem_shelve(o);
        object_flush(&o->object);
    }
    _cleanup_(record_freep) struct record *r = NULL;
    char name[FILE_NAME_SIZE];
    shelf_file(serial, "rec", name);
    int q = record_load(manager->store.fd_modems, name, &r);
    if (q == 0)
        take_memory(m, r);
    else if (q != -ENOENT && q != -EBADMSG)
        return;                       /* it is there still, for the next time */
    if (move_files(m, serial, false)) /* its tables also when its record was damaged */
        modem_save(m);
}

void modem_forget(struct modem *m)
{
    int fd = m->manager->store.fd_modems;
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        char name[FILE_NAME_SIZE];
        port_file(m, suffixes[i], name);
        store_remove(fd, name);
    }
    remove_shelved(fd, text_known(m->chip_serial));
    rescue_port_forget(m);
    m->remembered = false;
    clear_memory(m);
}

/* ---- partition tables recorded for the unit ---- */

void modem_drop_tables(struct modem *m)
{
    char name[FILE_NAME_SIZE];
    m->tables_watched = false;
    if (!*m->port)
        return;
    port_file(m, "tables", name);
    store_remove(m->manager->store.fd_modems, name);
}

/* Line by line, wherever it lies: by what holds all of its lines it is protected already. */
static bool has_table(const char *all, const char *table)
{
    for (const char *p = all; (p = strstr(p, table)); p++) {
        char behind = p[strlen(table)];
        if ((p == all || p[-1] == '\n') && (behind == '\0' || behind == '\n'))
            return true;
    }
    return false;
}

static size_t count_tables(const char *all)
{
    size_t n = 1;
    for (const char *p = all; (p = strstr(p, "\n" RECORDED_BETWEEN)); p++)
        n++;
    return n;
}

/* 0: nothing was recorded yet. */
static int read_tables(const struct modem *m, char **ret, size_t *ret_size)
{
    _cleanup_free_ char *text = NULL;
    char name[FILE_NAME_SIZE];
    port_file(m, "tables", name);
    _cleanup_close_ int fd = store_open_file(m->manager->store.fd_modems, name, O_RDONLY);
    if (fd == -ENOENT)
        return 0;
    int r = fd < 0 ? fd : io_read_file(fd, RECORDED_SIZE_MAX, &text, ret_size);
    if (r == 0 && *ret_size == 0)
        r = -ENODATA; /* there was something once */
    if (r < 0)
        return r;
    *ret = steal_ptr(text);
    return 1;
}

static void on_tables_settled(void *userdata, int error)
{
    struct modem *m = userdata;
    m->tables_settle = NULL;
    if (error < 0)
        log_message(LOG_WARNING, "The partition tables of %s may not be on the disk: %s.", modem_title(m),
                    strerror(-error));
}

/* Long before anything is erased; a file that the power emptied would stop every flash. */
static int settle_tables(struct modem *m, const char *name)
{
    _cleanup_close_ int fd = store_open_file(m->manager->store.fd_modems, name, O_RDONLY);
    const int fds[] = {fd, m->manager->store.fd_modems};
    m->tables_settle = settle_free(m->tables_settle);
    return fd < 0 ? fd
                  : settle_start(m->manager->event, fds, ARRAY_SIZE(fds), on_tables_settled, m,
                                 &m->tables_settle);
}

int modem_add_table(struct modem *m, int memfd)
{
    _cleanup_free_ char *table = NULL, *all = NULL;
    size_t size = 0, have_size = 0;
    char name[FILE_NAME_SIZE];
    if (io_memfd_check(memfd, RECORDED_SIZE_MAX / 2) < 0)
        return -EBADMSG;
    int r = io_read_file(memfd, RECORDED_SIZE_MAX / 2, &table, &size);
    if (r < 0 || !*m->port || size == 0)
        return r;
    if (strlen(table) != size || table[size - 1] != '\n' || strstr(table, "\n" RECORDED_BETWEEN))
        return -EBADMSG;

    if (*text_known(m->chip_serial) && !m->unit_watched)
        return 0; /* it has not told that it is the one that is remembered */
    if (!*text_known(m->chip_serial) && !m->tables_watched)
        modem_drop_tables(m);
    m->tables_watched = true;
    r = read_tables(m, &all, &have_size);
    /* What the power emptied is made anew: a job that comes so far saves all of the chip. */
    if ((r < 0 && r != -ENODATA) || (all && has_table(all, table)))
        return 0; /* known already; one that cannot be read is not made worse */
    if (all && (have_size + strlen(RECORDED_BETWEEN) + size > RECORDED_SIZE_MAX ||
                count_tables(all) >= RECORDED_TABLES_MAX)) {
        /* The oldest are the ones that the calibration was made with: they stay. */
        log_message(LOG_WARNING, "%s had more partition tables than are recorded of one modem.",
                    modem_title(m));
        return 0;
    }
    _cleanup_free_ char *joined = text_printf("%s%s%s", all ? all : "", all ? RECORDED_BETWEEN : "", table);
    if (!joined)
        return -ENOMEM;
    port_file(m, "tables", name);
    r = store_write(m->manager->store.fd_modems, name, joined, strlen(joined));
    if (r == 0)
        r = settle_tables(m, name);
    if (r < 0)
        log_message(LOG_WARNING, "A partition table of %s cannot be recorded: %s.", modem_title(m),
                    strerror(-r));
    else if (!m->remembered)
        modem_save(m);
    return 0;
}

int modem_open_tables(const struct modem *m)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    int r = *m->port ? read_tables(m, &text, &size) : 0;
    if (r == 0)
        return -ENOENT;
    if (r < 0)
        log_message(LOG_WARNING, "The partition tables recorded of %s cannot be read: %s.", modem_title(m),
                    strerror(-r));
    return io_memfd_sealed("recorded", text ? text : "", text ? size : 0);
}

/* ---- earlier runs ---- */

static int load_modem(void *userdata, const char *name)
{
    struct manager *manager = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    struct modem *m = NULL;
    if (text_starts_with(name, MODEM_SHELF) || record_load(manager->store.fd_modems, name, &r) < 0)
        return 0;
    const char *port = record_get(r, "PORT");
    if (!*port)
        return 0;
    int q = modem_get(manager, port, "", &m);
    if (q < 0 || m->object.slot)
        return q;
    m->remembered = true;
    m->seen_time = record_get_u64(r, "SEEN", 0);
    take_memory(m, r);
    modem_update_interrupted(m);
    return object_add(&m->object);
}

int modem_load_all(struct manager *m)
{
    int r = store_list(m->store.fd_modems, ".rec", load_modem, m);
    return r < 0 ? r : policy_load_all(m);
}
