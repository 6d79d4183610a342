/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/text.h"
#include "service/backup.h"
#include "service/errors.h"
#include "service/options.h"
#include "service/second.h"

enum { LABEL_BYTES_MAX = 255, SHA256_DIGITS = 64, STAT_BLOCK = 512 };

/* What the kernel knows by itself: the owner of a network or FUSE file may never answer. */
static int look_at(int fd, struct statx *ret)
{
    int flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
    unsigned mask = STATX_TYPE | STATX_SIZE | STATX_INO | STATX_MTIME | STATX_CTIME;
    return statx(fd, "", flags, mask, ret) < 0 ? -errno : 0;
}

/*
 * Only what its owner could read anyway, and what cannot do more than be read: an O_PATH descriptor carries
 * no proof of access, a directory would let us open names with our own rights, a socket or a device can do
 * anything.
 *
 * Nothing but the worker reads from it. What is left to us is to close it, and that, too, asks the owner of a
 * FUSE file (FUSE_FLUSH) and waits for the answer. It cannot be left to others: sd-bus closes what came with
 * a message, and the bus daemon has closed its own copy before us, so whoever wants to stop the service that
 * way stops the bus first. The bus policy keeps descriptors to the methods that want one.
 */
static int check_archive(int fd, struct job_archive *ret, sd_bus_error *error)
{
    struct statx st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || look_at(fd, &st) < 0)
        return errors_set(error, ERROR_INVALID_ARGS, "The archive's descriptor is not usable: %s.",
                          strerror(errno));
    if (flags & O_PATH)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The archive is an O_PATH descriptor; it must be open for reading.");
    if (S_ISDIR(st.stx_mode))
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The archive is a directory; send one as tar through a pipe (qdlctl does).");
    if (!S_ISREG(st.stx_mode) && !S_ISFIFO(st.stx_mode))
        return errors_set(error, ERROR_INVALID_ARGS, "The archive is neither a regular file nor a pipe.");
    if ((flags & O_ACCMODE) == O_WRONLY)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The archive is open for writing only; it must be open for reading.");
    *ret = (struct job_archive){.size = 0};
    if (S_ISREG(st.stx_mode))
        *ret = (struct job_archive){
            .device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor,
            .inode = st.stx_ino,
            .size = st.stx_size,
            .modified = {.tv_sec = st.stx_mtime.tv_sec, .tv_nsec = st.stx_mtime.tv_nsec},
            .changed = {.tv_sec = st.stx_ctime.tv_sec, .tv_nsec = st.stx_ctime.tv_nsec},
        };
    return 0;
}

static int check_text(const char *label, const char *sha256, sd_bus_error *error)
{
    size_t n = strlen(label);
    if (n > LABEL_BYTES_MAX || !text_is_clean(label, n))
        return errors_set(
            error, ERROR_INVALID_ARGS,
            "The label has %zu bytes or control characters; at most %d printable bytes are allowed.", n,
            LABEL_BYTES_MAX);
    if (*sha256 &&
        (strlen(sha256) != SHA256_DIGITS || strspn(sha256, "0123456789abcdefABCDEF") != SHA256_DIGITS))
        return errors_set(error, ERROR_INVALID_ARGS, "The option \"sha256\" is not %d hex digits.",
                          SHA256_DIGITS);
    return 0;
}

static char *lower(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; p && *p; p++)
        if (*p >= 'A' && *p <= 'F')
            *p = (char)(*p - 'A' + 'a');
    return copy;
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_same_file(const struct job_archive *a, const struct job_archive *b)
{
    return a->inode != 0 && a->inode == b->inode && a->device == b->device && a->size == b->size &&
           is_same_time(&a->modified, &b->modified) && is_same_time(&a->changed, &b->changed);
}

/*
 * The import of this very file that this user has under way: eight modems that are flashed from one file need
 * it once. Only a user's own: what the file's owner says of it is believed by nobody else.
 */
static const struct job *find_same(const struct manager *m, uid_t uid, const struct job_archive *archive,
                                   const char *label, const char *sha256)
{
    for (const struct job *j = m->jobs; j; j = j->next) {
        bool runs = j->job_kind == JOB_IMPORT && !j->imports_backup && j->object.slot && !job_finished(j) &&
                    j->job_state != JOB_CANCELLING;
        if (runs && j->owner_uid == uid && is_same_file(&j->archive, archive) &&
            strcmp(j->label, label) == 0 && text_equal_nocase(j->sha256, sha256))
            return j;
    }
    return NULL;
}

/* The job of an import, told where to read. */
static int new_import(struct manager *manager, uid_t uid, int archive, bool *wait, struct job **ret,
                      sd_bus_error *error)
{
    struct job *j = NULL;
    int r = job_new_waiting(manager, JOB_IMPORT, uid, wait, &j, error);
    if (r < 0)
        return r;
    j->fd_archive = fcntl(archive, F_DUPFD_CLOEXEC, 0);
    if (j->fd_archive < 0) {
        job_free(j);
        return -ENOMEM;
    }
    *ret = j;
    return 0;
}

static int check_size(const struct manager *manager, uint64_t size, sd_bus_error *error)
{
    uint64_t max = manager->config.package_bytes_max;
    if (size <= max)
        return 0;
    return errors_set(error, ERROR_TOO_LARGE, "The archive has %llu MiB; at most %llu MiB are allowed.",
                      (unsigned long long)(size >> 20), (unsigned long long)(max >> 20));
}

/* What the imports under way have written: their files have no name yet and are not in the library's list. */
static uint64_t unnamed_bytes(const struct manager *m)
{
    uint64_t all = 0;
    for (const struct job *j = m->jobs; j; j = j->next) {
        struct stat st;
        bool package = j->job_kind == JOB_IMPORT && !j->imports_backup && !job_finished(j);
        /* Blocks: a spooled zip lies far behind the end of what is unpacked (firmware/package.h). */
        if (package && j->fd_store >= 0 && fstat(j->fd_store, &st) == 0)
            all += (uint64_t)st.st_blocks * STAT_BLOCK;
    }
    return all;
}

int import_firmware(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct manager *manager = userdata;
    const char *label = NULL, *sha256 = "";
    bool queue = false, wait = false;
    const struct option known[] = {{"sha256", "s", &sha256}, {"queue", "b", &queue}, {NULL}};
    struct error e = {0};
    struct job *j = NULL;
    struct job_archive file;
    int archive;
    uid_t uid;

    int r = sd_bus_message_read(m, "hs", &archive, &label);
    if (r >= 0)
        r = options_read(m, known, error);
    if (r >= 0)
        r = check_archive(archive, &file, error);
    if (r >= 0)
        r = check_text(label, sha256, error);
    if (r >= 0)
        r = manager_authorise(manager, m, false, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;

    r = check_size(manager, file.size, error);
    if (r >= 0)
        r = senders_uid(manager->senders, m, &uid);
    if (r < 0)
        return r;
    const struct job *same = find_same(manager, uid, &file, label, sha256);
    if (same)
        return sd_bus_reply_method_return(m, "o", same->object.path);
    if (store_check_space(&manager->store, &manager->config, file.size, unnamed_bytes(manager), &e) < 0)
        return errors_to_bus(&e, error);
    r = new_import(manager, uid, archive, queue ? &wait : NULL, &j, error);
    if (r < 0)
        return r;
    j->archive = file;
    j->label = strdup(label);
    j->sha256 = lower(sha256);
    if (!j->label || !j->sha256) {
        job_free(j);
        return -ENOMEM;
    }
    return job_begin(j, m, wait, error);
}

/* What somebody brings must leave room for what has to be saved. */
static int check_backup_space(struct manager *manager, uint64_t size, struct error *e)
{
    uint64_t needed;
    if (__builtin_add_overflow(size, manager->config.reserve_free, &needed))
        needed = UINT64_MAX;
    return backup_check_space(manager, needed, e);
}

int import_backup(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct manager *manager = userdata;
    bool queue = false, wait = false;
    const struct option known[] = {{"queue", "b", &queue}, {NULL}};
    struct error e = {0};
    struct job *j = NULL;
    struct job_archive file;
    int archive;
    uid_t uid;

    int r = sd_bus_message_read(m, "h", &archive);
    if (r >= 0)
        r = options_read(m, known, error);
    if (r >= 0)
        r = check_archive(archive, &file, error);
    if (r >= 0)
        r = manager_authorise(manager, m, false, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = check_size(manager, file.size, error);
    if (r >= 0)
        r = senders_uid(manager->senders, m, &uid);
    if (r < 0)
        return r;
    if (check_backup_space(manager, file.size, &e) < 0)
        return errors_to_bus(&e, error);
    r = new_import(manager, uid, archive, queue ? &wait : NULL, &j, error);
    if (r < 0)
        return r;
    j->imports_backup = true;
    return job_begin(j, m, wait, error);
}

static int check_library(const struct manager *m, uint64_t bytes, struct error *e)
{
    uint64_t max = m->config.library_bytes_max;
    if (bytes <= max && store_used(m->store.fd_firmware) <= max - bytes)
        return 0;
    return error_set(e, ERROR_NO_SPACE,
                     "The package would make the library larger than %llu MiB; remove one first.",
                     (unsigned long long)(max >> 20));
}

/* Called at every step of the progress, five times a second at most. */
int import_check_space(const struct job *j, struct error *e)
{
    const struct config *c = &j->manager->config;
    struct statvfs v;
    if (j->imports_backup)
        return check_backup_space(j->manager, 0, e);
    if (fstatvfs(j->fd_store, &v) < 0)
        return error_set(e, ERROR_NO_SPACE, "The space left in the firmware library cannot be told: %s.",
                         strerror(errno));
    uint64_t left = (uint64_t)v.f_bavail * v.f_frsize;
    if (left < c->reserve_free)
        return error_set(e, ERROR_NO_SPACE,
                         "The package would eat the %llu MiB that are kept free for backups.",
                         (unsigned long long)(c->reserve_free >> 20));
    return check_library(j->manager, unnamed_bytes(j->manager), e);
}

/* ---- what was unpacked ---- */

/*
 * The worker that unpacked the archive parsed what anybody may have made, so that it may be anybody's by now:
 * it could call a file of its own by the id of a package that is trusted. What counts is what a fresh worker
 * finds, which reads nothing but our own index and hashes bytes. The other facts (name, model, chip) are for
 * show; a flash reads them from the package itself.
 */
static int keep(struct job *j, const struct record *found, struct error *e)
{
    struct firmware *f = NULL;
    const char *told = record_get(j->firmware_facts, "id"), *id = record_get(found, "id");
    bool same = strcmp(told, id) == 0 &&
                strcmp(record_get(j->firmware_facts, "sha256"), record_get(found, "sha256")) == 0;
    if (!*id)
        return error_set(e, ERROR_FAILED, "The worker that read the package again told no content.");
    if (!same)
        return error_set(e, ERROR_FAILED,
                         "The worker that unpacked the archive calls the package %s, and its content is %s; "
                         "it is not kept.",
                         told, id);
    struct stat st;
    int r = fstat(j->fd_store, &st) < 0 ? -errno : 0;
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The size of the package cannot be told: %s.", strerror(-r));
    /* What was not written counts from now on, too: the file has a size and a name. */
    r = check_library(j->manager, (uint64_t)st.st_size, e);
    if (r >= 0)
        r = firmware_add(j->manager, j->firmware_facts, j->fd_store, j->label, j->owner_uid, &f, e);
    if (r >= 0)
        object_set_string(&j->object, "Object", &j->object_path, f->object.path);
    return r;
}

static void fail(struct job *j, const struct error *e)
{
    job_fail(j, e);
    job_finish(j);
}

static void on_second(void *userdata, const struct record *facts, const struct error *error)
{
    struct job *j = userdata;
    struct error e = *error;
    j->second = NULL;
    if (!facts || keep(j, facts, &e) < 0)
        fail(j, &e);
    else
        job_finish(j);
}

void import_keep(struct job *j)
{
    struct error e = {0};
    j->timer = sd_event_source_disable_unref(j->timer);
    object_set_string(&j->object, "Phase", &j->phase, "verify");
    object_set_string(&j->object, "Detail", &j->detail, "");
    struct second_order order = {.type = "content", .prefix = KEY_FIRMWARE};
    if (second_start_over(j->manager, &j->fd_store, j->kind, &order, on_second, j, &j->second, &e) < 0)
        fail(j, &e);
    else
        job_flush(j);
}

void import_stop(struct job *j, enum error_kind kind, const char *why)
{
    struct error e = {0};
    if (j->job_kind != JOB_IMPORT || j->imports_backup || j->process || !j->second)
        return;
    error_set(&e, kind, "%s", why);
    second_stop(j->second, &e);
}
