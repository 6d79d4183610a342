/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/neighbours.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "service/fwupd.h"
#include "service/job.h"
#include "service/log-about.h"
#include "service/modem.h"

#define MM_NAME     "org.freedesktop.ModemManager1"
#define MM_PATH     "/org/freedesktop/ModemManager1"
#define LOGIND_NAME "org.freedesktop.login1"
#define LOGIND_PATH "/org/freedesktop/login1"
#define LOGIND_WHAT                                                                                          \
    "shutdown:sleep:idle:handle-power-key:handle-suspend-key:handle-hibernate-key:handle-lid-switch"
#define MM_MATCH                                                                                             \
    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"                              \
    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" MM_NAME "'"
#define MM_MATCH_ADDED                                                                                       \
    "type='signal',sender='" MM_NAME "',path='" MM_PATH "',"                                                 \
    "interface='org.freedesktop.DBus.ObjectManager',member='InterfacesAdded'"

/* A device that ModemManager was asked to leave alone. */
struct device {
    struct neighbours *owner;
    struct device *next;
    char *path;  /* in sysfs */
    char *modem; /* the object whose it was when it was asked for */
    sd_bus_slot *slot;
    bool pending, taken;
};

struct neighbours {
    struct manager *manager;
    sd_bus_slot *match, *match_added;
    struct device *devices;
    struct fwupd *fwupd;
    sd_bus_slot *logind_slot;
    bool logind_refused; /* in this time of being unsafe */
    int fd_awake;        /* logind's lock; -1 */
};

/* Nobody is there to ask, which is as good as a yes. */
static bool is_absent(const sd_bus_error *e)
{
    return sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
           sd_bus_error_has_name(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

/*
 * NotFound: it does not know this device. WrongState ("Modem not exported in the bus"): it still probes it,
 * or has made no modem of it, and cannot be kept from it (mm_device_inhibit() in its mm-device.c). Neither is
 * worth a warning: it is asked again when it has a new modem.
 */
static bool has_no_modem(const sd_bus_error *e)
{
    return strstr(e->name, ".NotFound") || strstr(e->name, ".WrongState");
}

static int new_call(struct neighbours *n, sd_bus_message **ret, const char *name, const char *path,
                    const char *interface, const char *member)
{
    int r = sd_bus_message_new_method_call(n->manager->bus, ret, name, path, interface, member);
    return r < 0 ? r : sd_bus_message_set_auto_start(*ret, false);
}

/* ---- ModemManager ---- */

static struct device *device_free(struct device *d)
{
    if (!d)
        return NULL;
    for (struct device **i = &d->owner->devices; *i; i = &(*i)->next)
        if (*i == d) {
            *i = d->next;
            break;
        }
    sd_bus_slot_unref(d->slot);
    free(d->path);
    free(d->modem);
    free(d);
    return NULL;
}

static struct device *find_device(const struct neighbours *n, const char *path)
{
    struct device *d = n->devices;
    while (d && strcmp(d->path, path) != 0)
        d = d->next;
    return d;
}

static struct modem *modem_of(const struct device *d)
{
    struct modem *m = d->owner->manager->modems;
    while (m && (!m->device_path || strcmp(m->device_path, d->path) != 0))
        m = m->next;
    return m;
}

static int on_inhibited(sd_bus_message *reply, void *userdata, sd_bus_error *error _unused_)
{
    struct device *d = userdata;
    struct manager *manager = d->owner->manager;
    const sd_bus_error *e = sd_bus_message_get_error(reply);
    const struct modem *m = modem_of(d);
    d->slot = sd_bus_slot_unref(d->slot);
    d->pending = false;
    d->taken = !e;
    if (e && !is_absent(e) && !has_no_modem(e) && m) {
        char line[LOG_TEXT_MAX];
        snprintf(line, sizeof(line), "ModemManager does not leave %s alone: %s.", modem_title(m),
                 e->message ? e->message : e->name);
        log_about_modem(m, LOG_NEIGHBOUR, LOG_WARNING, line);
    }
    modem_serve(manager);
    return 1;
}

static int ask_inhibit(struct device *d, bool inhibit, sd_bus_message_handler_t handler)
{
    struct neighbours *n = d->owner;
    sd_bus_message *m = NULL;
    int r = new_call(n, &m, MM_NAME, MM_PATH, MM_NAME, "InhibitDevice");
    if (r >= 0)
        r = sd_bus_message_append(m, "sb", d->path, inhibit);
    if (r >= 0)
        r = handler ? sd_bus_call_async(n->manager->bus, &d->slot, m, handler, d, NEIGHBOURS_WAIT_USEC)
                    : sd_bus_send(n->manager->bus, m, NULL);
    sd_bus_message_unref(m);
    return r;
}

static void take_device(struct neighbours *n, const struct modem *m)
{
    struct device *d = calloc(1, sizeof(*d));
    if (!d)
        return;
    *d = (struct device){.owner = n,
                         .next = n->devices,
                         .path = strdup(m->device_path),
                         .modem = strdup(m->object.path),
                         .pending = true};
    n->devices = d;
    if (!d->path || !d->modem || ask_inhibit(d, true, on_inhibited) < 0)
        device_free(d);
}

/* The inhibition is bound to our connection: what is not given back goes with it. */
static void give_back(struct device *d)
{
    if (d->taken || d->pending)
        (void)ask_inhibit(d, false, NULL);
    device_free(d);
}

/*
 * A calibration that is saved unasked is read over an interface of which ModemManager makes no use, while it
 * may keep a connection on another: to inhibit it would end that, and nobody has asked for anything.
 */
static bool reads_aside(const struct job *j)
{
    return j->owner_uid == RESCUE_UID && j->job_kind == JOB_BACKUP && j->kind_of_backup &&
           strcmp(j->kind_of_backup, "xqcn") == 0;
}

static bool is_needed(const struct modem *m)
{
    return m->device_path && *m->device_path && ((m->job && !reads_aside(m->job)) || m->guard);
}

/* Also where its modem is not now: what left SuperSpeed for 9008 at USB 2 comes back there, in the same job.
 */
static bool is_device_needed(const struct device *d)
{
    for (const struct modem *m = d->owner->manager->modems; m; m = m->next)
        if (is_needed(m) && (strcmp(m->device_path, d->path) == 0 || strcmp(m->object.path, d->modem) == 0))
            return true;
    return false;
}

static void update_devices(struct neighbours *n)
{
    for (struct device *d = n->devices, *next; d; d = next) {
        next = d->next;
        if (!is_device_needed(d))
            give_back(d);
    }
    for (const struct modem *m = n->manager->modems; m; m = m->next)
        if (is_needed(m) && !find_device(n, m->device_path))
            take_device(n, m);
}

/* A new ModemManager knows nothing of what the old one promised. */
static int on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error _unused_)
{
    struct neighbours *n = userdata;
    const char *name, *old_owner, *new_owner;
    if (sd_bus_message_read(message, "sss", &name, &old_owner, &new_owner) < 0 || !*new_owner)
        return 0;
    for (struct device *d = n->devices; d; d = d->next) {
        d->slot = sd_bus_slot_unref(d->slot);
        d->pending = ask_inhibit(d, true, on_inhibited) >= 0;
    }
    return 0;
}

static void ask_again(struct device *d)
{
    if (!d->taken && !d->pending)
        d->pending = ask_inhibit(d, true, on_inhibited) >= 0;
}

/* It has a modem now that it did not have, maybe one of which it could not be kept away before. */
static int on_modem_added(sd_bus_message *message _unused_, void *userdata, sd_bus_error *error _unused_)
{
    struct neighbours *n = userdata;
    for (struct device *d = n->devices; d; d = d->next)
        ask_again(d);
    return 0;
}

void neighbours_appeared(const struct modem *m)
{
    struct neighbours *n = m->manager->neighbours;
    struct device *d = n && m->device_path ? find_device(n, m->device_path) : NULL;
    if (d)
        ask_again(d);
    neighbours_update(m->manager);
}

bool neighbours_pending(const struct modem *m)
{
    const struct neighbours *n = m->manager->neighbours;
    const struct device *d = n && m->device_path ? find_device(n, m->device_path) : NULL;
    return d && d->pending && strcmp(modem_kind(m), "normal") == 0;
}

/* ---- logind ---- */

static const struct job *first_unsafe(const struct manager *m)
{
    const struct job *j = m->jobs;
    while (j && (job_finished(j) || j->safe_to_unplug))
        j = j->next;
    return j;
}

static int on_awake(sd_bus_message *reply, void *userdata, sd_bus_error *error _unused_)
{
    struct neighbours *n = userdata;
    const sd_bus_error *e = sd_bus_message_get_error(reply);
    const struct job *j = first_unsafe(n->manager);
    int fd;
    n->logind_slot = sd_bus_slot_unref(n->logind_slot);
    if (!e && sd_bus_message_read_basic(reply, 'h', &fd) >= 0)
        n->fd_awake = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    n->logind_refused = n->fd_awake < 0;
    if (e && !is_absent(e) && j) {
        char line[LOG_TEXT_MAX];
        snprintf(line, sizeof(line), "runs although logind may suspend the machine meanwhile: %s.",
                 e->message ? e->message : e->name);
        log_about_job(j, LOG_NEIGHBOUR, LOG_WARNING, line);
    }
    neighbours_update(n->manager);
    return 1;
}

static void stay_awake(struct neighbours *n, const struct job *j)
{
    sd_bus_message *m = NULL;
    char why[256]; /* room for both titles */
    snprintf(why, sizeof(why), "%s writes to %s", job_title(j), j->modem ? modem_title(j->modem) : "a modem");
    int r = new_call(n, &m, LOGIND_NAME, LOGIND_PATH, LOGIND_NAME ".Manager", "Inhibit");
    if (r >= 0)
        r = sd_bus_message_append(m, "ssss", LOGIND_WHAT, "qdld", why, "block");
    if (r >= 0)
        r = sd_bus_call_async(n->manager->bus, &n->logind_slot, m, on_awake, n, NEIGHBOURS_WAIT_USEC);
    sd_bus_message_unref(m);
}

static void update_awake(struct neighbours *n)
{
    const struct job *j = first_unsafe(n->manager);
    if (!j) {
        n->fd_awake = close_fd(n->fd_awake);
        n->logind_refused = false;
    } else if (n->fd_awake < 0 && !n->logind_slot && !n->logind_refused) {
        stay_awake(n, j);
    }
}

/* ---- all of them ---- */

int neighbours_new(struct manager *m, struct neighbours **ret)
{
    struct neighbours *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    *n = (struct neighbours){.manager = m, .fd_awake = -1};
    int r = sd_bus_add_match_async(m->bus, &n->match, MM_MATCH, on_owner_changed, NULL, n);
    if (r >= 0)
        r = sd_bus_add_match_async(m->bus, &n->match_added, MM_MATCH_ADDED, on_modem_added, NULL, n);
    if (r >= 0)
        r = fwupd_new(m, &n->fwupd);
    if (r < 0) {
        neighbours_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

struct neighbours *neighbours_free(struct neighbours *n)
{
    if (!n)
        return NULL;
    while (n->devices)
        device_free(n->devices);
    fwupd_free(n->fwupd);
    sd_bus_slot_unref(n->match);
    sd_bus_slot_unref(n->match_added);
    sd_bus_slot_unref(n->logind_slot);
    close_fd(n->fd_awake);
    free(n);
    return NULL;
}

void neighbours_update(struct manager *m)
{
    if (!m->neighbours)
        return;
    update_devices(m->neighbours);
    fwupd_keep_still(m->neighbours->fwupd, m->neighbours->devices != NULL);
    update_awake(m->neighbours);
}
