/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/modem.h"

#include <string.h>

#include "base/text.h"
#include "service/guard.h"
#include "service/history.h"
#include "service/log-about.h"
#include "service/neighbours.h"
#include "service/probe.h"

const char *modem_kind(const struct modem *m)
{
    return m->appearance ? appearance_kind(m->appearance) : "absent";
}

bool modem_is(const struct modem *m, const char *kind)
{
    return strcmp(modem_kind(m), kind) == 0;
}

bool modem_has_fallen(const struct modem *m)
{
    return m->appearance && !modem_is(m, "normal");
}

/* ---- the holder ---- */

static void log_holder(const struct modem *m, enum log_event event, int level, const char *what,
                       const char *why)
{
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "The holder of %s %s: %s.", modem_title(m), what, why);
    log_about_modem(m, event, level, line);
}

static void on_holder_message(void *userdata, struct link_message *message)
{
    struct modem *m = userdata;
    for (size_t i = 0; i < message->n_fields; i++)
        if (message->n_fds > 0 || !expect_key(JOB_FLASH, STAGE_HOLDING, message->fields[i].key)) {
            process_kill(m->holder, "it said something that a holder may not say");
            return;
        }
}

static void on_holder_gone(void *userdata, const struct process_end *end)
{
    struct modem *m = userdata;
    struct manager *manager = m->manager;
    if (end->broken)
        log_holder(m, LOG_WORKER_KILLED, LOG_WARNING, "was killed", end->broken);
    m->holder = process_free(m->holder);
    m->release_timer = sd_event_source_disable_unref(m->release_timer);
    object_set_bool(&m->object, "Held", &m->held, 0);
    object_flush(&m->object);
    guard_serve(m);
    modem_serve(manager);
    manager_update(manager);
}

void modem_hold(struct modem *m, struct process *p, uint64_t number)
{
    const struct process_handler handler = {
        .message = on_holder_message, .gone = on_holder_gone, .userdata = m};
    process_free(m->holder);
    m->holder = p;
    process_set_handler(p, &handler);
    object_set_bool(&m->object, "Held", &m->held, 1);
    log_holder(m, LOG_MODEM_HELD, LOG_INFO, "has it", "it stays in EDL until a job needs it or it goes");
    /* It may have gone, or the service may be stopping, while the worker made up its mind. */
    if (!m->appearance || m->number != number)
        process_tell(p, KEY_DEVICE_GONE);
    if (m->manager->stopping) {
        process_tell(p, KEY_STOP);
        process_stop(p);
    }
}

/* ---- appearances ---- */

static const char *first_mode(const struct appearance *a)
{
    const char *kind = appearance_kind(a);
    if (strcmp(kind, "edl") != 0)
        return kind;
    return a->cold ? "unknown" : "sahara"; /* a 9008 that just enumerated is the ROM's */
}

void modem_void_journals(struct modem *m)
{
    bool normal = modem_is(m, "normal");
    if (!m->job && normal)
        job_void_backups(m->manager, m->object.path);
    bool booting = m->interrupted && job_waits_for_boot(m->interrupted);
    if (booting && normal) /* whoever has it now */
        job_note_boot(m->interrupted);
    if (m->job || !m->interrupted)
        return;
    if (booting) {
        if (normal || !m->appearance || !m->interrupted->booted)
            return;
    } else if (!normal) {
        return;
    }
    job_void_journal(m->interrupted);
    modem_update_interrupted(m);
}

static void identify(struct modem *m, const struct appearance *a)
{
    char serial[9] = "";
    bool edl = strcmp(appearance_kind(a), "edl") == 0;
    bool switched = m->was_normal && edl && !a->cold && now_usec() - m->gone_at < MODEM_SWITCH_USEC;
    m->facts_watched = m->facts_watched && switched;
    m->told_flaw = m->facts_watched ? m->told_flaw : NULL;
    /* A gap that is long enough to change the card ends it, unless it is our own reset that is waited for. */
    bool soon = now_usec() - m->gone_at < MODEM_SWITCH_USEC;
    m->unit_watched = m->unit_watched && !a->cold && (m->job || soon);
    /* One that runs its firmware is to tell it anew, but where it comes back from our own job. */
    m->imei_watched = m->imei_watched && !a->cold && (m->job || (edl && soon));
    m->tables_watched = m->tables_watched && soon && !a->cold;
    policy_came(m, soon && !a->cold);
    appearance_serial(a->product, serial);
    bool news = m->remembered && *serial && strcmp(m->chip_serial ? m->chip_serial : "", serial) != 0;
    modem_set_serial(m, serial);
    if (news) /* what this port remembers is found by the serial from now on, wherever the unit goes */
        m->save_pending = true;
}

/* 18d1:d00d is every phone in its boot loader: it means something only at the port of a modem. */
static bool is_stranger(struct manager *manager, const struct appearance *a)
{
    if (strcmp(appearance_kind(a), "fastboot") != 0)
        return false;
    const struct modem *m = manager->modems;
    while (m && (!m->remembered || strcmp(m->port, a->port) != 0))
        m = m->next;
    return !m;
}

/* What was there is gone: its users are told, and the modem is absent. */
static void leave(struct modem *m)
{
    modem_break_silence(m);
    modem_announce(m);
    struct job *j = m->job;
    modem_loop_went(m);
    rescue_went(m);
    modem_missed(m);
    if (j && j->job_state == JOB_STANDBY) {
        rescue_withdraw(m);
        j = NULL;
    }
    m->was_normal = modem_is(m, "normal");
    m->gone_at = now_usec();
    m->appearance = NULL;
    m->running[0] = '\0';
    m->opener = opener_free(m->opener);
    object_set_string(&m->object, "KernelName", &m->kernel_name, "");
    object_set_string(&m->object, "Product", &m->product, "");
    object_set_u16(&m->object, "VendorId", &m->vendor_id, 0);
    object_set_u16(&m->object, "ProductId", &m->product_id, 0);
    object_set_string(&m->object, "Mode", &m->mode, "absent");
    object_set_bool(&m->object, "FactoryTestMode", &m->factory_test_mode, 0);
    if (m->probe)
        probe_left(m->probe);
    if (j && j->process && j->given == m->number)
        process_tell(j->process, KEY_DEVICE_GONE);
    if (m->holder)
        process_tell(m->holder, KEY_DEVICE_GONE);
}

/* A modem in normal mode is no event: that it works is what is expected. */
static void log_appearance(const struct modem *m)
{
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "%04x:%04x appeared: %s, mode %s.", m->vendor_id, m->product_id,
             modem_title(m), m->mode);
    if (modem_is(m, "normal")) {
        log_message(LOG_INFO, "%s", line);
        history_add_modem(m, LOG_MODEM_APPEARED, line);
    } else {
        log_about_modem(m, LOG_MODEM_APPEARED, LOG_NOTICE, line);
    }
}

void modem_announce(struct modem *m)
{
    if (!m->unannounced)
        return;
    m->unannounced = false;
    if (!m->object.slot)
        object_add(&m->object);
    object_flush(&m->object);
    log_appearance(m);
    manager_update(m->manager);
}

/* ModemManager names devices so; a modem that comes up at another place is another device to it. */
static void set_device_path(struct modem *m, const char *path)
{
    free(m->device_path);
    m->device_path = strdup(path);
    neighbours_appeared(m);
}

static void on_appeared(void *userdata, const struct appearance *a)
{
    struct manager *manager = userdata;
    struct modem *m;
    if (is_stranger(manager, a))
        return;
    int r = modem_get(manager, a->port, a->kernel_name, &m);
    if (r < 0) {
        log_message(LOG_ERR, "The modem at %s cannot be shown: %s.", a->kernel_name, strerror(-r));
        return;
    }
    /* A port holds one device: the other side of its connector speaks for the end of this one. */
    if (m->appearance)
        leave(m);
    m->appearance = a;
    set_device_path(m, a->key);
    m->number = ++manager->n_appearances;
    m->seen_time = realtime_usec();
    m->appeared_at = a->cold ? 0 : now_usec();
    object_set_string(&m->object, "KernelName", &m->kernel_name, a->kernel_name);
    object_set_string(&m->object, "Product", &m->product, a->product);
    object_set_u16(&m->object, "VendorId", &m->vendor_id, a->vid);
    object_set_u16(&m->object, "ProductId", &m->product_id, a->pid);
    object_set_string(&m->object, "Mode", &m->mode, first_mode(a));
    identify(m, a);
    m->forgotten = false;
    if (a->vid == QUECTEL_VID)
        modem_note_quectel(m);
    modem_loop_came(m);
    rescue_came(m);
    modem_void_journals(m);
    probe_look(m);
    m->unannounced = true;
    modem_serve(manager); /* its worker first, then the world, which does not wait for a node that hangs */
    if (m->opener)
        manager_update(manager);
    else
        modem_announce(m);
}

static struct modem *find_appearance(struct manager *manager, const struct appearance *a)
{
    struct modem *m = manager->modems;
    while (m && m->appearance != a)
        m = m->next;
    return m;
}

static void on_gone(void *userdata, const struct appearance *a)
{
    struct manager *manager = userdata;
    struct modem *m = find_appearance(manager, a);
    if (!m)
        return; /* a newer one came to the same port before this one's end was told */
    leave(m);
    object_flush(&m->object);
    modem_serve(manager);
    manager_update(manager);
}

const struct watch_handler modem_watch_handler = {.appeared = on_appeared, .gone = on_gone};
