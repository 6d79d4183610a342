/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/text.h"
#include "service/errors.h"
#include "service/log-about.h"
#include "service/modem-inner.h"
#include "service/neighbours.h"
#include "service/notify.h"
#include "service/options.h"
#include "service/probe.h"
#include "service/record.h"

#define NAME_PREFIX "guard-"
#define SUFFIX      ".guard"

enum { NAME_SIZE = 32, FILE_SIZE = NAME_SIZE + 8, NOTIFY_SIZE = 128 };

struct guard {
    struct manager *manager;
    struct guard *next;
    struct modem *modem;
    char *reason;
    uid_t uid;
    int fd;                  /* our end of the pipe */
    sd_event_source *source; /* the other end was closed */
    sd_bus_message *call;    /* waits for the holder to let go; NULL: answered */
    int fd_caller;           /* goes with the answer; -1 */
    char name[NAME_SIZE];    /* in the fd store */
};

/* ---- the record beside the descriptor that systemd keeps ---- */

static int runtime_directory(void)
{
    const char *path = getenv("RUNTIME_DIRECTORY");
    return path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static void file_name(const struct guard *g, char out[FILE_SIZE])
{
    snprintf(out, FILE_SIZE, "%s%s", g->name, SUFFIX);
}

static void keep(const struct guard *g)
{
    _cleanup_close_ int directory = runtime_directory();
    _cleanup_(record_freep) struct record *r = record_new();
    char file[FILE_SIZE], lines[NOTIFY_SIZE];
    if (directory < 0 || !r)
        return;
    record_set(r, "PORT", g->modem->port);
    record_set(r, "KERNEL", g->modem->kernel_name);
    record_set(r, "REASON", g->reason);
    record_set_u64(r, "UID", g->uid);
    file_name(g, file);
    snprintf(lines, sizeof(lines), "FDSTORE=1\nFDNAME=%s", g->name);
    int q = record_save(r, directory, file);
    if (q < 0 || !notify_send(lines, g->fd))
        log_message(LOG_WARNING, "The inhibition of %s will not outlive a restart of the service.",
                    modem_title(g->modem));
}

static void drop(const struct guard *g)
{
    _cleanup_close_ int directory = runtime_directory();
    char file[FILE_SIZE], lines[NOTIFY_SIZE];
    if (directory < 0)
        return;
    file_name(g, file);
    store_remove(directory, file);
    snprintf(lines, sizeof(lines), "FDSTOREREMOVE=1\nFDNAME=%s", g->name);
    (void)notify_send(lines, -1);
}

/* ---- life ---- */

static struct guard *guard_free(struct guard *g)
{
    if (!g)
        return NULL;
    for (struct guard **i = &g->manager->guards; *i; i = &(*i)->next)
        if (*i == g) {
            *i = g->next;
            break;
        }
    if (g->modem)
        g->modem->guard = NULL;
    sd_event_source_disable_unref(g->source);
    sd_bus_message_unref(g->call);
    close_fd(g->fd_caller);
    close_fd(g->fd);
    free(g->reason);
    free(g);
    return NULL;
}

static void publish(struct modem *m)
{
    const struct guard *g = m->guard;
    object_set_bool(&m->object, "Inhibited", &m->inhibited, g != NULL);
    object_set_string(&m->object, "InhibitedBy", &m->inhibited_by, g ? g->reason : "");
    object_set_u32(&m->object, "InhibitedUid", &m->inhibited_uid, g ? g->uid : 0);
    object_flush(&m->object);
}

static void log_guard(const struct guard *g, const char *what)
{
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "User %u %s %s: %s.", g->uid, what, modem_title(g->modem), g->reason);
    log_message(LOG_NOTICE, "%s", line);
}

static int on_closed(sd_event_source *source _unused_, int fd _unused_, uint32_t events _unused_,
                     void *userdata)
{
    struct guard *g = userdata;
    struct modem *m = g->modem;
    struct manager *manager = g->manager;
    log_guard(g, "no longer inhibits");
    drop(g);
    guard_free(g);
    publish(m);
    neighbours_update(manager);
    modem_serve(manager);
    manager_update(manager);
    return 0;
}

/* Takes fd. */
static int guard_new(struct modem *m, int fd, const char *reason, uid_t uid, struct guard **ret)
{
    struct guard *g = calloc(1, sizeof(*g));
    if (!g) {
        close_fd(fd);
        return -ENOMEM;
    }
    struct manager *manager = m->manager;
    *g = (struct guard){.manager = manager,
                        .next = manager->guards,
                        .modem = m,
                        .reason = strdup(reason),
                        .uid = uid,
                        .fd = fd,
                        .fd_caller = -1};
    manager->guards = m->guard = g;
    int r = g->reason ? sd_event_add_io(manager->event, &g->source, fd, 0, on_closed, g) : -ENOMEM;
    if (r < 0) {
        guard_free(g);
        return r;
    }
    *ret = g;
    return 0;
}

static void answer(struct guard *g)
{
    sd_bus_reply_method_return(g->call, "h", g->fd_caller);
    g->call = sd_bus_message_unref(g->call);
    g->fd_caller = close_fd(g->fd_caller);
}

void guard_serve(struct modem *m)
{
    struct guard *g = m->guard;
    if (g && g->call && !m->holder && !m->probe)
        answer(g);
}

/* ---- Inhibit ---- */

static unsigned count_guards(const struct manager *m, uid_t uid)
{
    unsigned n = 0;
    for (const struct guard *g = m->guards; g; g = g->next)
        n += g->uid == uid;
    return n;
}

int guard_check(const struct modem *m, sd_bus_error *error)
{
    if (!m->guard)
        return 0;
    return errors_set(error, ERROR_MODEM_INHIBITED, "%s is inhibited by user %u: %s.", modem_title(m),
                      m->guard->uid, m->guard->reason);
}

static int check_free(const struct modem *m, uid_t uid, sd_bus_error *error)
{
    int r = guard_check(m, error);
    if (r < 0)
        return r;
    if (m->job)
        return errors_set(error, ERROR_MODEM_BUSY, "%s is busy with %s; wait for its end.", modem_title(m),
                          job_title(m->job));
    if (count_guards(m->manager, uid) >= GUARDS_PER_UID)
        return errors_set(error, ERROR_LIMIT_EXCEEDED, "User %u inhibits %d modems already.", uid,
                          GUARDS_PER_UID);
    return 0;
}

/* What a journal says of the flash is not known to be true any more: another tool may write. */
static void void_journal(struct modem *m)
{
    job_void_backups(m->manager, m->object.path);
    if (!m->interrupted)
        return;
    job_void_journal(m->interrupted);
    modem_update_interrupted(m);
}

static int take(struct modem *m, sd_bus_message *message, const char *reason, uid_t uid)
{
    struct guard *g;
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    int r = guard_new(m, pipe_fds[0], reason, uid, &g);
    if (r < 0) {
        close_fd(pipe_fds[1]);
        return r;
    }
    g->fd_caller = pipe_fds[1];
    g->call = sd_bus_message_ref(message);
    snprintf(g->name, sizeof(g->name), NAME_PREFIX "%llx", (unsigned long long)realtime_usec());
    void_journal(m);
    keep(g);
    log_guard(g, "inhibits");
    publish(m);
    neighbours_update(m->manager);
    modem_release_holder(m);
    if (m->probe)
        probe_stop(m->probe);
    guard_serve(m);
    manager_update(m->manager);
    return 1;
}

int guard_method_inhibit(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    const struct option known[] = {{NULL}};
    const char *reason;
    uid_t uid;
    int r = sd_bus_message_read_basic(message, 's', &reason);
    if (r >= 0)
        r = options_read(message, known, error);
    if (r < 0)
        return r;
    size_t n = strlen(reason);
    if (n == 0 || n > GUARD_REASON_MAX || !text_is_clean(reason, n))
        return errors_set(error, ERROR_INVALID_ARGS, "A reason is one line of 1 to %d bytes.",
                          GUARD_REASON_MAX);
    r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = manager_check_running(m->manager, error);
    if (r >= 0)
        r = senders_uid(m->manager->senders, message, &uid);
    if (r >= 0)
        r = check_free(m, uid, error);
    return r < 0 ? r : take(m, message, reason, uid);
}

/* ---- over a restart ---- */

/* Takes fd. */
static void restore_one(struct manager *manager, int directory, const char *name, int fd)
{
    _cleanup_(record_freep) struct record *r = NULL;
    struct guard *g;
    struct modem *m;
    char file[FILE_SIZE];
    if (!text_starts_with(name, NAME_PREFIX) || strlen(name) >= NAME_SIZE) {
        close_fd(fd);
        return;
    }
    snprintf(file, sizeof(file), "%s%s", name, SUFFIX);
    if (directory < 0 || record_load(directory, file, &r) < 0 ||
        modem_get(manager, record_get(r, "PORT"), record_get(r, "KERNEL"), &m) < 0 || m->guard) {
        close_fd(fd);
        return;
    }
    if (guard_new(m, fd, record_get(r, "REASON"), (uid_t)record_get_u64(r, "UID", 0), &g) < 0)
        return;
    snprintf(g->name, sizeof(g->name), "%s", name);
    if (!m->object.slot)
        object_add(&m->object);
    publish(m);
    log_guard(g, "still inhibits");
}

struct clean {
    struct manager *manager;
    int directory;
};

/* A record whose pipe is gone. */
static int clean_one(void *userdata, const char *file)
{
    const struct clean *c = userdata;
    for (const struct guard *g = c->manager->guards; g; g = g->next) {
        char name[FILE_SIZE];
        file_name(g, name);
        if (strcmp(name, file) == 0)
            return 0;
    }
    return store_remove(c->directory, file);
}

int guard_restore(struct manager *m)
{
    _cleanup_close_ int directory = runtime_directory();
    char **names = NULL;
    int n = sd_listen_fds_with_names(true, &names);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        restore_one(m, directory, names[i], fd);
        free(names[i]);
    }
    free(names);
    struct clean clean = {m, directory};
    if (directory >= 0)
        store_list(directory, SUFFIX, clean_one, &clean);
    return n < 0 ? n : 0;
}

void guard_free_all(struct manager *m)
{
    while (m->guards)
        guard_free(m->guards);
}
