/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/backup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/text.h"
#include "service/log.h"
#include "service/modem.h"
#include "service/options.h"
#include "service/second.h"

#define BACKUP_PREFIX MANAGER_PATH "/backup"

enum {
    SHA256_DIGITS = 64,
    SERIAL_DIGITS = 8,
    FACT_BYTES_MAX = 128,
    PARTITIONS_MAX = 256,
    FILE_NAME_SIZE = BACKUP_ID_SIZE + 8,
};

/* What the second worker tells and the record keeps, under the same name. */
static const struct {
    const char *key;
    size_t offset;
} facts_table[] = {
    {"kind", offsetof(struct backup, kind)},
    {"state", offsetof(struct backup, told_state)},
    {"model", offsetof(struct backup, model)},
    {"version", offsetof(struct backup, firmware_version)},
    {"serial", offsetof(struct backup, chip_serial)},
    {"sha256", offsetof(struct backup, sha256)},
    {"partitions", offsetof(struct backup, partition_list)},
    {"unit-data", offsetof(struct backup, unit_data)},
    {"imei-hash", offsetof(struct backup, imei_hash)},
    {"xqcn-size", offsetof(struct backup, xqcn_size)},
    /* not the worker's, but kept likewise */
    {"port", offsetof(struct backup, port)},
    {"job", offsetof(struct backup, job_path)},
};

static char **string_at(const struct backup *b, size_t i)
{
    return (char **)((char *)(uintptr_t)b + facts_table[i].offset);
}

static void file_name(char out[FILE_NAME_SIZE], const char *id, const char *suffix)
{
    snprintf(out, FILE_NAME_SIZE, "%s.%s", id, suffix);
}

static bool is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

const char *backup_title(const struct backup *b)
{
    enum { MODEL_MAX = 64 };
    static char title[160];
    const char *model = *b->model ? b->model : "a modem";
    snprintf(title, sizeof(title), "%.16s of %.*s%s%.16s%s", b->kind, text_fit(model, MODEL_MAX), model,
             *b->chip_serial ? " (" : "", b->chip_serial, *b->chip_serial ? ")" : "");
    return title;
}

/* ---- new ---- */

static char **split(const char *list)
{
    size_t n = 0;
    char **parts = calloc(PARTITIONS_MAX + 1, sizeof(*parts));
    while (parts && *list && n < PARTITIONS_MAX) {
        size_t length = strcspn(list, ",");
        parts[n] = strndup(list, length);
        if (!parts[n++])
            return options_free_list(parts);
        list += length + (list[length] == ',');
    }
    return parts;
}

/* On the bus a file that is not what it was and content that was not whole look alike. */
static const char *shown_state(const struct backup *b)
{
    return b->rotten ? "damaged" : b->told_state;
}

/* Newest first, whatever the order of loading. */
static void link_in(struct backup *b)
{
    struct backup **i = &b->manager->backups;
    while (*i && (*i)->added_time > b->added_time)
        i = &(*i)->next;
    b->next = *i;
    *i = b;
}

int backup_new(struct manager *m, const char *id, const struct record *r, struct backup **ret)
{
    struct backup *b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->manager = m;
    b->added_time = record_get_u64(r, "added", 0);
    link_in(b);
    snprintf(b->id, sizeof(b->id), "%s", id);
    int q = object_init(&b->object, m->bus, BACKUP_PREFIX, id, BACKUP_INTERFACE, backup_vtable, b);
    for (size_t i = 0; q >= 0 && i < ARRAY_SIZE(facts_table); i++) {
        *string_at(b, i) = strdup(record_get(r, facts_table[i].key));
        if (!*string_at(b, i))
            q = -ENOMEM;
    }
    if (q >= 0) {
        /* Earlier versions kept what was shown. */
        const char *shown = record_get(r, "shown-state");
        b->rotten = record_get_u64(r, "rotten", *shown && strcmp(shown, b->told_state) != 0) != 0;
        b->state = strdup(shown_state(b));
        b->partitions = split(b->partition_list);
        if (!b->state || !b->partitions)
            q = -ENOMEM;
    }
    if (q < 0) {
        backup_free(b);
        return q;
    }
    b->created_time = record_get_u64(r, "created", 0);
    b->size = record_get_u64(r, "size", 0);
    b->owner_uid = (uint32_t)record_get_u64(r, "owner", 0);
    b->imported = record_get_u64(r, "imported", 0) != 0;
    b->automatic = record_get_u64(r, "automatic", 0) != 0;
    *ret = b;
    return 0;
}

struct backup *backup_free(struct backup *b)
{
    if (!b)
        return NULL;
    for (struct backup **i = &b->manager->backups; *i; i = &(*i)->next)
        if (*i == b) {
            *i = b->next;
            break;
        }
    object_done(&b->object);
    for (size_t i = 0; i < ARRAY_SIZE(facts_table); i++)
        free(*string_at(b, i));
    free(b->state);
    options_free_list(b->partitions);
    free(b);
    return NULL;
}

static int save(const struct backup *b)
{
    _cleanup_(record_freep) struct record *r = record_new();
    char name[FILE_NAME_SIZE];
    if (!r)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(facts_table); i++)
        record_set(r, facts_table[i].key, *string_at(b, i));
    record_set_u64(r, "created", b->created_time);
    record_set_u64(r, "added", b->added_time);
    record_set_u64(r, "size", b->size);
    record_set_u64(r, "owner", b->owner_uid);
    record_set_u64(r, "imported", (uint64_t)b->imported);
    record_set_u64(r, "automatic", (uint64_t)b->automatic);
    record_set_u64(r, "rotten", (uint64_t)b->rotten);
    file_name(name, b->id, "rec");
    return record_save(r, b->manager->store.fd_backups, name);
}

/* ---- what a worker told ---- */

static bool is_one_of(const char *text, const char *a, const char *b, const char *c)
{
    return strcmp(text, a) == 0 || strcmp(text, b) == 0 || (c && strcmp(text, c) == 0);
}

static bool are_partitions(const char *list)
{
    size_t n = 1;
    for (const char *p = list; *p; p++) {
        n += *p == ',';
        if (!isalnum((unsigned char)*p) && !strchr("_-.:,", *p))
            return false;
    }
    return n <= PARTITIONS_MAX;
}

bool backup_is_described(const struct record *r)
{
    const char *kind = record_get(r, "kind");
    return is_hex(record_get(r, "sha256"), SHA256_DIGITS) &&
           is_one_of(record_get(r, "state"), "complete", "blank", "damaged") &&
           (is_one_of(kind, "nand", "calibration", "xqcn") || strcmp(kind, "dump") == 0);
}

static bool are_valid(const struct record *facts)
{
    const char *serial = record_get(facts, "serial"), *id = record_get(facts, "id"),
               *unit_data = record_get(facts, "unit-data"), *imei_hash = record_get(facts, "imei-hash");
    return is_hex(id, BACKUP_ID_SIZE - 1) && backup_is_described(facts) &&
           (!*serial || is_hex(serial, SERIAL_DIGITS)) && (!*unit_data || is_hex(unit_data, SHA256_DIGITS)) &&
           (!*imei_hash || is_hex(imei_hash, SHA256_DIGITS)) &&
           strspn(record_get(facts, "xqcn-size"), "0123456789") == strlen(record_get(facts, "xqcn-size")) &&
           strlen(record_get(facts, "model")) <= FACT_BYTES_MAX &&
           strlen(record_get(facts, "version")) <= FACT_BYTES_MAX &&
           are_partitions(record_get(facts, "partitions"));
}

/* The record of a new one: the worker's facts, those that we keep, and our own. */
static int make_record(const struct record *facts, int fd, const struct backup_origin *o, struct record **ret)
{
    static const char *const told[] = {"kind",       "state",     "model",     "version",  "sha256",
                                       "partitions", "unit-data", "imei-hash", "xqcn-size"};
    _cleanup_(record_freep) struct record *r = record_new();
    struct stat st;
    if (!r || fstat(fd, &st) < 0)
        return r ? -errno : -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(told); i++)
        if (record_set(r, told[i], record_get(facts, told[i])) < 0)
            return -ENOMEM;
    /* Unfused chips share this serial: it names no unit. */
    if (strcmp(record_get(facts, "serial"), BACKUP_SERIAL_UNSET) != 0)
        record_set(r, "serial", record_get(facts, "serial"));
    record_set(r, "port", o->port);
    record_set(r, "job", o->job_path);
    record_set_u64(r, "created", record_get_u64(facts, "created", 0));
    record_set_u64(r, "added", realtime_usec());
    record_set_u64(r, "size", (uint64_t)st.st_size);
    record_set_u64(r, "owner", o->owner);
    record_set_u64(r, "imported", o->imported);
    record_set_u64(r, "automatic", o->automatic);
    *ret = steal_ptr(r);
    return 0;
}

/* ---- adding ---- */

/* The same content of the same unit, taken by us, in a file that is what it was. */
static struct backup *find_same(struct manager *m, const struct record *facts)
{
    const char *serial = record_get(facts, "serial"), *imei = record_get(facts, "imei-hash");
    bool named = *serial && strcmp(serial, BACKUP_SERIAL_UNSET) != 0;
    if (!named && !*imei)
        return NULL;
    for (struct backup *b = m->backups; b; b = b->next)
        if (!b->imported && !b->rotten && strcmp(b->chip_serial, named ? serial : "") == 0 &&
            (named || strcmp(b->imei_hash, imei) == 0) &&
            strcmp(b->sha256, record_get(facts, "sha256")) == 0 &&
            strcmp(b->told_state, record_get(facts, "state")) == 0 &&
            strcmp(b->kind, record_get(facts, "kind")) == 0)
            return b;
    return NULL;
}

struct backup *backup_find_standing(struct manager *m, const struct record *facts, bool imported)
{
    struct backup *b = backup_find_id(m, record_get(facts, "id"));
    if (!b && !imported)
        b = find_same(m, facts);
    return b && !b->rotten ? b : NULL;
}

static int no_room(struct error *e, int r)
{
    return error_set(e, ERROR_NO_SPACE, "The backup cannot be kept: %s.", strerror(-r));
}

/* The same file anew: in place of one that a Verify found damaged, else it is dropped. */
static int add_again(struct backup *b, int fd, const struct backup_origin *o, bool *ret_new, struct error *e)
{
    char tar[FILE_NAME_SIZE], mended[FILE_NAME_SIZE];
    *ret_new = false;
    if (b->rotten) {
        int dirfd = b->manager->store.fd_backups;
        file_name(tar, b->id, "tar");
        file_name(mended, b->id, "mend");
        store_remove(dirfd, mended);
        int r = store_link(dirfd, fd, mended);
        if (r == 0 && renameat(dirfd, mended, dirfd, tar) < 0)
            r = -errno;
        if (r < 0)
            return no_room(e, r);
        *ret_new = true;
        backup_verified(b, true);
    }
    b->imported &= o->imported;
    b->automatic &= o->automatic;
    return 0;
}

int backup_add(struct manager *m, const struct record *facts, int fd, const struct backup_origin *origin,
               struct backup **ret, bool *ret_new, struct error *e)
{
    _cleanup_(record_freep) struct record *r = NULL;
    const char *id = record_get(facts, "id");
    char tar[FILE_NAME_SIZE];
    struct backup *b;

    if (!are_valid(facts))
        return error_set(e, ERROR_FAILED, "The worker told of the backup what cannot be: id \"%s\", %s, %s.",
                         id, record_get(facts, "kind"), record_get(facts, "state"));
    b = backup_find_id(m, id);
    if (b) {
        *ret = b;
        return add_again(b, fd, origin, ret_new, e);
    }
    b = origin->imported ? NULL : find_same(m, facts);
    if (b) {
        *ret_new = false;
        *ret = b;
        return 0;
    }
    file_name(tar, id, "tar");
    int q = make_record(facts, fd, origin, &r);
    if (q >= 0)
        q = store_link(m->store.fd_backups, fd, tar);
    if (q < 0)
        return no_room(e, q);
    q = backup_new(m, id, r, &b);
    if (q >= 0)
        q = save(b);
    if (q >= 0)
        q = object_add(&b->object);
    if (q < 0) {
        store_remove(m->store.fd_backups, tar);
        backup_free(b);
        return no_room(e, q);
    }
    backup_update_modems(m);
    *ret = b;
    *ret_new = true;
    return 0;
}

int backup_settle(const struct backup *b, settle_handler handler, void *userdata, struct settle **ret)
{
    const struct manager *m = b->manager;
    char rec[FILE_NAME_SIZE];
    file_name(rec, b->id, "rec");
    _cleanup_close_ int tar = backup_open(b);
    _cleanup_close_ int record = store_open_file(m->store.fd_backups, rec, O_RDONLY);
    const int fds[] = {tar, record, m->store.fd_backups};
    if (tar < 0 || record < 0)
        return tar < 0 ? tar : record;
    return settle_start(m->event, fds, ARRAY_SIZE(fds), handler, userdata, ret);
}

/* ---- use ---- */

struct backup *backup_find_path(struct manager *m, const char *path)
{
    struct backup *b = m->backups;
    while (b && strcmp(b->object.path, path) != 0)
        b = b->next;
    return b;
}

struct backup *backup_find_id(struct manager *m, const char *id)
{
    struct backup *b = m->backups;
    while (b && strcmp(b->id, id) != 0)
        b = b->next;
    return b;
}

int backup_open(const struct backup *b)
{
    char tar[FILE_NAME_SIZE];
    file_name(tar, b->id, "tar");
    return store_open_file(b->manager->store.fd_backups, tar, O_RDONLY);
}

int backup_open_xqcn(const struct backup *b)
{
    uint64_t size = 0;
    _cleanup_close_ int fd = backup_open(b);
    _cleanup_close_ int copy = store_tmpfile(b->manager->store.fd_backups);
    if (fd < 0 || copy < 0)
        return fd < 0 ? fd : copy;
    if (text_parse_u64(b->xqcn_size, 10, BACKUP_XQCN_MAX, &size) < 0 || size == 0)
        return -EBADMSG;
    off_t from = BACKUP_XQCN_OFFSET;
    while (size > 0) {
        ssize_t n = copy_file_range(fd, &from, copy, NULL, (size_t)size, 0);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        size -= (uint64_t)n;
    }
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
    int only_read = open(path, O_RDONLY | O_CLOEXEC);
    return only_read < 0 ? -errno : only_read;
}

void backup_verified(struct backup *b, bool intact)
{
    b->rotten = !intact;
    object_set_string(&b->object, "State", &b->state, shown_state(b));
    int r = save(b);
    if (r < 0)
        log_message(LOG_WARNING, "The record of backup %s cannot be written: %s.", b->id, strerror(-r));
    object_flush(&b->object);
    backup_update_modems(b->manager);
}

const struct job *backup_user(const struct backup *b)
{
    for (const struct job *j = b->manager->jobs; j; j = j->next)
        if (!job_finished(j) && strcmp(j->backup_id, b->id) == 0)
            return j;
    return NULL;
}

bool backup_is_of(const struct backup *b, const struct modem *m)
{
    const char *serial = text_known(m->chip_serial), *imei = text_known(m->imei_hash),
               *port = text_known(m->port);
    if (*serial && *b->chip_serial)
        return strcmp(b->chip_serial, serial) == 0;
    if (*imei && *b->imei_hash)
        return strcmp(b->imei_hash, imei) == 0;
    return !*serial && !*b->chip_serial && !*imei && !*b->imei_hash && *port && strcmp(b->port, port) == 0;
}

uint64_t backup_last_time(const struct manager *m, const struct modem *modem)
{
    uint64_t last = 0;
    for (const struct backup *b = m->backups; b; b = b->next)
        if (backup_is_of(b, modem) && !b->imported && backup_is_good(b) && b->added_time > last)
            last = b->added_time;
    return last;
}

const struct backup *backup_find_calibration(const struct modem *m)
{
    for (const struct backup *b = m->manager->backups; b; b = b->next) /* newest first */
        if (strcmp(b->kind, "xqcn") == 0 && !b->imported && backup_is_good(b) && backup_is_of(b, m))
            return b;
    return NULL;
}

void backup_update_modems(struct manager *m)
{
    for (struct modem *i = m->modems; i; i = i->next) {
        modem_update_backup(i);
        object_flush(&i->object);
    }
}

int backup_check_space(struct manager *m, uint64_t bytes, struct error *e)
{
    struct statvfs v;
    uint64_t left;
    do {
        if (fstatvfs(m->store.fd_backups, &v) < 0)
            return error_set(e, ERROR_NO_SPACE, "The space left for backups cannot be told: %s.",
                             strerror(errno));
        left = (uint64_t)v.f_bavail * v.f_frsize;
        if (left >= bytes && left - bytes >= BACKUP_SLACK)
            return 0;
    } while (job_drop_parts(m, true));
    return error_set(e, ERROR_NO_SPACE,
                     "What is saved first may take %llu MiB, and %llu MiB are free where backups are kept; "
                     "nothing was started.",
                     (unsigned long long)((bytes + BACKUP_SLACK) >> 20), (unsigned long long)(left >> 20));
}

/* ---- what may go ---- */

int backup_remove(struct backup *b)
{
    struct manager *m = b->manager;
    char name[FILE_NAME_SIZE];
    /* First the file: without its record it would be taken in again at the next start. */
    file_name(name, b->id, "tar");
    int r = store_remove(m->store.fd_backups, name);
    if (r < 0 && r != -ENOENT)
        return r;
    file_name(name, b->id, "rec");
    store_remove(m->store.fd_backups, name);
    backup_free(b);
    backup_update_modems(m);
    return 0;
}
