/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/manager.h"

#include <errno.h>
#include <string.h>

#include "service/backup.h"
#include "service/errors.h"
#include "service/firmware.h"
#include "service/guard.h"
#include "service/history.h"
#include "service/job.h"
#include "service/log.h"
#include "service/modem.h"
#include "service/neighbours.h"
#include "service/notify.h"
#include "service/options.h"
#include "service/probe.h"
#include "service/second.h"
#include "service/status.h"

enum { STOPPING_SIZE = 64 };

static const sd_bus_vtable manager_vtable[];
static int on_update(sd_event_source *source, void *userdata);

/* ---- new, start ---- */

/* Nobody can reach us any more, but a worker may be in the middle of a write: end in order, then be
 * restarted. */
static int on_disconnected(sd_bus_message *message _unused_, void *userdata, sd_bus_error *error _unused_)
{
    log_message(LOG_ERR, "The system bus is gone; the workers are stopped.");
    manager_stop(userdata, EXIT_FAILURE);
    return 0;
}

static void on_caller_gone(void *userdata, const char *name)
{
    struct manager *m = userdata;
    bouncer_forget(m->bouncer, name);
    for (struct job *j = m->jobs; j; j = j->next)
        job_drop_waits(j, name);
}

static int connect_bus(struct manager *m, struct error *e)
{
    int r = sd_bus_open_system_with_description(&m->bus, "qdld");
    if (r >= 0)
        r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_match_signal(m->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                                "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, m);
    if (r >= 0)
        r = senders_new(m->bus, on_caller_gone, m, &m->senders);
    if (r >= 0)
        r = bouncer_new(m->bus, m->senders, &m->config, &m->bouncer);
    if (r >= 0)
        r = neighbours_new(m, &m->neighbours);
    return r < 0 ? error_set(e, ERROR_FAILED, "The system bus cannot be reached: %s.", strerror(-r)) : 0;
}

static int export_objects(struct manager *m, struct error *e)
{
    /* Not object_init(): the manager's path is the prefix of all others. */
    m->object = (struct object){
        .bus = sd_bus_ref(m->bus),
        .path = strdup(MANAGER_PATH),
        .interface = MANAGER_INTERFACE,
        .vtable = manager_vtable,
        .userdata = m,
    };
    m->version = strdup(QDLD_VERSION);
    int r = m->object.path && m->version ? 0 : -ENOMEM;
    if (r >= 0)
        r = sd_bus_add_object_manager(m->bus, &m->object_manager, MANAGER_PATH);
    if (r >= 0)
        r = log_control_add(m->bus, &m->log_control);
    if (r >= 0)
        r = object_add(&m->object);
    if (r >= 0)
        r = history_load(m);
    if (r >= 0)
        r = firmware_load_all(m);
    if (r >= 0)
        r = job_load_all(m);
    if (r >= 0)
        r = modem_load_key(m);
    if (r >= 0)
        r = modem_load_all(m);
    if (r >= 0)
        r = backup_load_all(m);
    if (r >= 0)
        r = guard_restore(m);
    if (r >= 0)
        backup_update_modems(m);
    return r < 0 ? error_set(e, ERROR_FAILED, "What was remembered cannot be loaded: %s.", strerror(-r)) : 0;
}

int manager_new(sd_event *event, const struct manager_options *o, struct manager **ret, struct error *e)
{
    _cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(e, ERROR_FAILED, "Out of memory.");
    m->event = sd_event_ref(event);
    m->store = (struct store){-1, -1, -1, -1};
    m->worker_binary = process_open_binary(o->worker_path);
    if (m->worker_binary < 0)
        return error_set(e, ERROR_FAILED, "The worker %s cannot be opened: %s.", o->worker_path,
                         strerror(-m->worker_binary));
    int r = config_load(&m->config, o->config_path);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The configuration cannot be read: %s.", strerror(-r));
    r = sd_event_add_defer(event, &m->update_source, on_update, m);
    if (r >= 0)
        r = notify_new(event, &m->notify);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The event loop cannot be used: %s.", strerror(-r));
    r = store_open(&m->store, o->state_path, e);
    if (r >= 0)
        r = connect_bus(m, e);
    if (r >= 0)
        r = export_objects(m, e);
    if (r < 0)
        return r;
    *ret = steal_ptr(m);
    return 0;
}

int manager_start(struct manager *m, const struct manager_options *o, struct error *e)
{
    struct watch_handler handler = modem_watch_handler;
    handler.userdata = m;
    int r = o->virtual_path ? watch_virtual_new(m->event, o->virtual_path, &handler, &m->watch)
                            : watch_udev_new(m->event, &handler, &m->watch);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "Modems cannot be watched%s%s: %s.", o->virtual_path ? " at " : "",
                         o->virtual_path ? o->virtual_path : "", strerror(-r));
    r = sd_bus_request_name(m->bus, BUS_NAME, 0);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The name " BUS_NAME " cannot be taken on the bus: %s.",
                         strerror(-r));
    notify_surely(m->notify, "READY=1");
    manager_update(m);
    return 0;
}

/* ---- state ---- */

static bool is_busy(const struct manager *m)
{
    for (const struct job *j = m->jobs; j; j = j->next)
        if (!job_finished(j) && j->job_state != JOB_STANDBY)
            return true;
    return false;
}

static bool has_holder(const struct manager *m)
{
    for (const struct modem *i = m->modems; i; i = i->next)
        if (i->holder || probe_has_worker(i->probe))
            return true;
    return false;
}

static int on_leave_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct manager *m = userdata;
    sd_event_exit(m->event, m->exit_status);
    return 0;
}

static int on_last_answer(sd_bus_message *reply _unused_, void *userdata, sd_bus_error *error _unused_)
{
    return on_leave_time(NULL, 0, userdata);
}

/* A call that stood in front may wait for the bus to tell its sender: that was asked before this is. */
static int on_name_released(sd_bus_message *reply _unused_, void *userdata, sd_bus_error *error _unused_)
{
    struct manager *m = userdata;
    m->release_slot = sd_bus_slot_unref(m->release_slot);
    if (sd_bus_call_method_async(m->bus, &m->release_slot, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                 "org.freedesktop.DBus", "GetId", on_last_answer, m, "") < 0)
        on_leave_time(NULL, 0, m);
    return 1;
}

/* What is sent to the name from here on waits for the service that is started next; what was sent before
 * stands in front of the answer and is answered. */
static void leave_bus(struct manager *m)
{
    m->stop_timer = sd_event_source_disable_unref(m->stop_timer);
    if (sd_event_add_time_relative(m->event, &m->stop_timer, CLOCK_MONOTONIC, MANAGER_LEAVE_USEC, 0,
                                   on_leave_time, m) < 0 ||
        sd_bus_release_name_async(m->bus, &m->release_slot, BUS_NAME, on_name_released, m) < 0)
        on_leave_time(NULL, 0, m);
}

/* A modem is about to be handed to its worker, or to be answered by it: that comes first, unless its node
 * hangs while it is opened, or the modem says nothing. */
static bool hands_over(const struct manager *m)
{
    for (const struct modem *i = m->modems; i; i = i->next)
        if (i->job && (i->opener || i->quiet))
            return true;
    return false;
}

static int on_overdue(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct manager *m = userdata;
    m->overdue = true;
    manager_update(m);
    return 0;
}

/* True: somebody calls it again soon. */
static bool update_later(struct manager *m)
{
    if (!m->overdue && hands_over(m))
        return m->update_timer || sd_event_add_time_relative(m->event, &m->update_timer, CLOCK_MONOTONIC,
                                                             MANAGER_PATIENCE_USEC, 0, on_overdue, m) >= 0;
    m->update_timer = sd_event_source_disable_unref(m->update_timer);
    m->overdue = false;
    return false;
}

static int on_update(sd_event_source *source _unused_, void *userdata)
{
    struct manager *m = userdata;
    if (update_later(m))
        return 0;
    if (!m->stopping)
        job_start_waiting(m);
    modem_free_unneeded(m);
    /* A job that begins puts itself behind the others; no modem comes or goes by this. */
    for (struct modem *i = m->modems; i; i = i->next) {
        modem_break_silence(i);
        modem_announce(i);
        if (i->save_pending)
            modem_save(i);
        modem_join(i);
        job_look_booted(i);
        rescue_look(i);
    }
    bool busy = is_busy(m);
    object_set_bool(&m->object, "Busy", &m->busy, busy);
    object_flush(&m->object);
    bool needed = busy || has_holder(m);
    if (m->restart_wanted && !needed && !m->guards)
        manager_stop(m, MANAGER_EXIT_RESTART);
    status_tell(m);
    if (m->stopping && !needed && !m->release_slot)
        leave_bus(m);
    return 0;
}

void manager_update(struct manager *m)
{
    sd_event_source_set_enabled(m->update_source, SD_EVENT_ONESHOT);
}

int manager_check_running(const struct manager *m, sd_bus_error *error)
{
    return m->stopping
               ? errors_set(error, ERROR_INTERRUPTED, "The service is being stopped; try again in a moment.")
               : 0;
}

int manager_authorise(struct manager *m, sd_bus_message *message, bool milder, const char *lifted,
                      const struct bouncer_detail *details, sd_bus_error *error)
{
    return bouncer_check(m->bouncer, message, milder, lifted, details, error);
}

/* ---- stop, free ---- */

static int on_stop_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct manager *m = userdata;
    log_message(LOG_WARNING, "A worker did not end within %llu s; it is killed.",
                (unsigned long long)(m->config.stop_timeout / USEC_PER_SEC));
    for (struct job *j = m->jobs; j; j = j->next)
        if (j->process)
            process_kill(j->process, NULL);
    for (struct modem *i = m->modems; i; i = i->next)
        if (i->holder)
            process_kill(i->holder, NULL);
    return 0;
}

static struct job *first_queued(const struct manager *m)
{
    struct job *j = m->jobs;
    while (j && j->job_state != JOB_QUEUED)
        j = j->next;
    return j;
}

void manager_stop(struct manager *m, int exit_status)
{
    if (m->stopping)
        return;
    m->stopping = true;
    m->exit_status = exit_status;
    char lines[STOPPING_SIZE];
    snprintf(lines, sizeof(lines), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
             (unsigned long long)(m->config.stop_timeout + PROCESS_TERM_USEC));
    notify_surely(m->notify, lines);
    if (sd_event_add_time_relative(m->event, &m->stop_timer, CLOCK_MONOTONIC, m->config.stop_timeout, 0,
                                   on_stop_time, m) < 0)
        on_stop_time(NULL, 0, m);
    /* Each that finishes may make an older one be forgotten: the list is walked anew. */
    for (struct job *j; (j = first_queued(m));)
        job_stop(j);
    for (struct job *j = m->jobs; j; j = j->next)
        job_stop(j);
    for (struct modem *i = m->modems; i; i = i->next)
        if (i->holder) {
            process_tell(i->holder, KEY_STOP);
            process_stop(i->holder); /* it writes nothing */
        }
    for (struct modem *i = m->modems; i; i = i->next)
        if (i->probe)
            probe_stop(i->probe);
    manager_update(m);
}

void manager_restart(struct manager *m)
{
    m->restart_wanted = true;
    manager_update(m);
}

struct manager *manager_free(struct manager *m)
{
    if (!m)
        return NULL;
    m->stopping = true; /* nothing starts any more */
    if (m->watch)
        watch_free(m->watch);
    while (m->jobs)
        job_free(m->jobs);
    guard_free_all(m);
    while (m->modems)
        modem_free(m->modems);
    while (m->firmware)
        firmware_free(m->firmware);
    second_free(m->lost_second);
    while (m->backups)
        backup_free(m->backups);
    notify_free(m->notify);
    sd_event_source_disable_unref(m->stop_timer);
    sd_event_source_disable_unref(m->update_source);
    sd_event_source_disable_unref(m->update_timer);
    sd_bus_slot_unref(m->release_slot);
    object_done(&m->object);
    sd_bus_slot_unref(m->object_manager);
    sd_bus_slot_unref(m->log_control);
    free(m->version);
    free(m->status);
    neighbours_free(m->neighbours);
    bouncer_free(m->bouncer);
    senders_free(m->senders);
    sd_bus_flush_close_unref(m->bus);
    history_free(m->history);
    store_close(&m->store);
    close_fd(m->worker_binary);
    sd_event_unref(m->event);
    free(m);
    return NULL;
}

/* ---- methods ---- */

static int begin_list(sd_bus_message *m, sd_bus_message **ret)
{
    int r = sd_bus_message_new_method_return(m, ret);
    return r < 0 ? r : sd_bus_message_open_container(*ret, 'a', "(oa{sv})");
}

static int send_list(sd_bus_message *reply, int r)
{
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r;
}

static int list_begin(struct manager *m, sd_bus_message *message, const struct option *known,
                      sd_bus_message **ret, sd_bus_error *error)
{
    int r = options_read(message, known, error);
    if (r >= 0)
        r = manager_authorise(m, message, false, NULL, NULL, error);
    return r <= 0 ? r : begin_list(message, ret);
}

static int method_list_modems(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct manager *m = userdata;
    sd_bus_message *reply = NULL;
    int r = list_begin(m, message, NULL, &reply, error);
    if (!reply)
        return r < 0 ? r : 1;
    for (const struct modem *i = m->modems; r >= 0 && i; i = i->next)
        if (i->object.slot)
            r = object_append(&i->object, reply);
    return send_list(reply, r);
}

static int method_list_firmware(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct manager *m = userdata;
    sd_bus_message *reply = NULL;
    int r = list_begin(m, message, NULL, &reply, error);
    if (!reply)
        return r < 0 ? r : 1;
    for (const struct firmware *i = m->firmware; r >= 0 && i; i = i->next)
        if (i->object.slot)
            r = object_append(&i->object, reply);
    return send_list(reply, r);
}

static int method_list_backups(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct manager *m = userdata;
    sd_bus_message *reply = NULL;
    int r = list_begin(m, message, NULL, &reply, error);
    if (!reply)
        return r < 0 ? r : 1;
    for (const struct backup *i = m->backups; r >= 0 && i; i = i->next)
        if (i->object.slot)
            r = object_append(&i->object, reply);
    return send_list(reply, r);
}

static int method_list_jobs(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct manager *m = userdata;
    sd_bus_message *reply = NULL;
    uint64_t since = 0;
    const char *modem = NULL;
    const struct option known[] = {{"since", "t", &since}, {"modem", "o", &modem}, {NULL}};
    int r = list_begin(m, message, known, &reply, error);
    if (!reply)
        return r < 0 ? r : 1;
    if (modem && !modem_find_path(m, modem)) {
        sd_bus_message_unref(reply);
        return errors_set(error, ERROR_NO_SUCH_MODEM, "There is no modem %s.", modem);
    }
    for (const struct job *i = m->jobs; r >= 0 && i; i = i->next)
        if (i->object.slot && i->created_time >= since &&
            (!modem || (i->modem_path && strcmp(i->modem_path, modem) == 0)))
            r = object_append(&i->object, reply);
    return send_list(reply, r);
}

static const sd_bus_vtable manager_vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Version", "s", NULL, offsetof(struct manager, version), SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("Busy", "b", NULL, offsetof(struct manager, busy), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_METHOD_WITH_ARGS("ListModems", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(oa{sv})", modems),
                            method_list_modems, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListFirmware", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("a(oa{sv})", firmware), method_list_firmware,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListBackups", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(oa{sv})", backups),
                            method_list_backups, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(oa{sv})", jobs),
                            method_list_jobs, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetHistory", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("aa{sv}", rows),
                            history_method_get, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ImportFirmware", SD_BUS_ARGS("h", archive, "s", label, "a{sv}", options),
                            SD_BUS_RESULT("o", job), import_firmware, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ArmPort", SD_BUS_ARGS("s", port, "s", policy, "o", firmware, "a{sv}", options),
                            SD_BUS_NO_RESULT, policy_method_arm_port, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ImportBackup", SD_BUS_ARGS("h", archive, "a{sv}", options),
                            SD_BUS_RESULT("o", job), import_backup, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};
