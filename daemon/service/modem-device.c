/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/modem.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#include "base/text.h"

#define QUECTEL_VID 0x2c7c

const char *modem_kind(const struct modem *m)
{
    return m->appearance ? appearance_kind(m->appearance) : "absent";
}

static bool is_kind(const struct modem *m, const char *kind)
{
    return strcmp(modem_kind(m), kind) == 0;
}

/* A crash dump is at the same interface, and the worker's way out of it. */
static bool is_edl(const struct modem *m)
{
    return is_kind(m, "edl") || is_kind(m, "crash-dump");
}

/* ---- handing over ---- */

static void add_ids(const struct modem *m, struct link_message *message)
{
    link_addf(message, KEY_VID, "%04x", m->appearance->vid);
    link_addf(message, KEY_PID, "%04x", m->appearance->pid);
    link_add(message, KEY_PRODUCT, m->appearance->product);
}

/* A fresh descriptor; one of a device that has left the bus already, its event still on the way, is not
 * handed out. */
static int open_appearance(const struct modem *m)
{
    int fd = appearance_open(m->appearance);
    if (fd < 0)
        return fd;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL)) {
        close_fd(fd);
        return -ENODEV;
    }
    return fd;
}

static void hand_over(struct modem *m)
{
    struct job *j = m->job;
    struct link_message message = {.size = 0};
    int fd = open_appearance(m);
    if (fd < 0) {
        char text[128];
        snprintf(text, sizeof(text), "The modem cannot be opened now: %s.", strerror(-fd));
        job_log(j, text);
        return; /* its end is on the way, and after that perhaps another appearance */
    }
    link_add(&message, KEY_DEVICE, "1");
    add_ids(m, &message);
    if (link_add_fd(&message, fd) < 0)
        return;
    j->wants = WANTS_NOTHING;
    j->device_given = true;
    if (!j->device_key || strcmp(j->device_key, m->appearance->key) != 0) {
        free(j->device_key);
        j->device_key = strdup(m->appearance->key);
        j->facts_told = 0;
        object_set_u32(&j->object, "Window", &j->window, j->window + 1);
    }
    process_send(j->process, &message);
}

static void tell_appeared(struct job *j, const struct modem *m)
{
    struct link_message message = {.size = 0};
    link_add(&message, KEY_APPEARED, modem_kind(m));
    add_ids(m, &message);
    process_send(j->process, &message);
    if (is_kind(m, "normal"))
        j->wants = WANTS_NOTHING;
}

static int on_release_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct modem *m = userdata;
    process_kill(m->holder, "it did not release the modem");
    return 0;
}

/* One user for a usbfs description: the holder goes before the next one gets the modem. */
static void release_holder(struct modem *m)
{
    if (m->release_timer)
        return;
    process_tell(m->holder, KEY_RELEASE);
    if (sd_event_add_time_relative(m->manager->event, &m->release_timer, CLOCK_MONOTONIC, MODEM_RELEASE_USEC,
                                   0, on_release_time, m) < 0)
        process_kill(m->holder, NULL);
}

void modem_serve(struct modem *m)
{
    struct job *j = m->job;
    if (!j || !j->process || !m->appearance)
        return;
    bool edl = j->wants & WANTS_EDL && is_edl(m);
    if (edl && m->holder)
        release_holder(m);
    else if (edl)
        hand_over(m);
    else if (j->wants & WANTS_NORMAL && is_kind(m, "normal"))
        tell_appeared(j, m);
}

/* ---- the holder ---- */

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
        sd_journal_print(LOG_WARNING, "The holder of %s was killed: %s.", modem_title(m), end->broken);
    m->holder = process_free(m->holder);
    m->release_timer = sd_event_source_disable_unref(m->release_timer);
    object_set_bool(&m->object, "Held", &m->held, 0);
    object_flush(&m->object);
    modem_serve(m);
    if (m->job)
        job_flush(m->job);
    manager_update(manager);
}

void modem_hold(struct modem *m, struct process *p)
{
    const struct process_handler handler = {
        .message = on_holder_message, .gone = on_holder_gone, .userdata = m};
    process_free(m->holder);
    m->holder = p;
    process_set_handler(p, &handler);
    object_set_bool(&m->object, "Held", &m->held, 1);
    /* It may have gone, or the service may be stopping, while the worker made up its mind. */
    if (!m->appearance)
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

/*
 * A modem in normal mode sits on its SuperSpeed port, perhaps under another connector, and a job waits for
 * it: if there is only one job that waits for a modem that is not there, this is it (flash rule 10). Not so
 * if this port has a unit of its own, which happens to boot at the same time.
 */
static struct job *job_without_modem(const struct modem *m)
{
    struct job *found = NULL;
    for (struct job *j = m->manager->jobs; j; j = j->next) {
        if (j->serial && m->chip_serial && *m->chip_serial && strcmp(j->serial, m->chip_serial) != 0)
            continue;
        if (!j->modem || !j->process || !(j->wants & WANTS_NORMAL) || j->modem->appearance)
            continue;
        if (found)
            return NULL;
        found = j;
    }
    return found;
}

static void tell_job(struct modem *m)
{
    struct job *j = m->job;
    if (!j && is_kind(m, "normal"))
        j = job_without_modem(m);
    if (!j || !j->process)
        return;
    /* One that waits for both gets the modem in EDL itself, and of anything else the news. */
    if (j->wants & WANTS_NORMAL && !(j->wants & WANTS_EDL && is_edl(m)))
        tell_appeared(j, m);
    else
        modem_serve(m);
    job_flush(j);
}

void modem_void_journals(struct modem *m)
{
    if (m->job || !m->interrupted || !is_kind(m, "normal"))
        return;
    job_void_journal(m->interrupted);
    modem_update_interrupted(m);
}

static void identify(struct modem *m, const struct appearance *a)
{
    char serial[9] = "";
    bool edl = strcmp(appearance_kind(a), "edl") == 0;
    bool switched = m->was_normal && edl && !a->cold && now_usec() - m->gone_at < MODEM_SWITCH_USEC;
    m->facts_watched = m->facts_watched && switched;
    appearance_serial(a->product, serial);
    modem_set_serial(m, serial);
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

static void on_appeared(void *userdata, const struct appearance *a)
{
    struct manager *manager = userdata;
    struct modem *m;
    if (is_stranger(manager, a))
        return;
    int r = modem_get(manager, a->port, a->kernel_name, &m);
    if (r < 0) {
        sd_journal_print(LOG_ERR, "The modem at %s cannot be shown: %s.", a->kernel_name, strerror(-r));
        return;
    }
    m->appearance = a;
    m->seen_time = realtime_usec();
    object_set_string(&m->object, "KernelName", &m->kernel_name, a->kernel_name);
    object_set_string(&m->object, "Product", &m->product, a->product);
    object_set_u16(&m->object, "VendorId", &m->vendor_id, a->vid);
    object_set_u16(&m->object, "ProductId", &m->product_id, a->pid);
    object_set_string(&m->object, "Mode", &m->mode, first_mode(a));
    identify(m, a);
    if (a->vid == QUECTEL_VID && !m->remembered)
        modem_save(m);
    modem_void_journals(m);

    if (!m->object.slot)
        object_add(&m->object);
    object_flush(&m->object);
    sd_journal_print(LOG_INFO, "%04x:%04x appeared: %s, mode %s.", a->vid, a->pid, modem_title(m), m->mode);
    tell_job(m);
    manager_update(manager);
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
    m->was_normal = is_kind(m, "normal");
    m->gone_at = now_usec();
    m->appearance = NULL;
    object_set_string(&m->object, "KernelName", &m->kernel_name, "");
    object_set_string(&m->object, "Product", &m->product, "");
    object_set_u16(&m->object, "VendorId", &m->vendor_id, 0);
    object_set_u16(&m->object, "ProductId", &m->product_id, 0);
    object_set_string(&m->object, "Mode", &m->mode, "absent");
    object_flush(&m->object);
    if (m->job && m->job->process && m->job->device_given) {
        process_tell(m->job->process, KEY_DEVICE_GONE);
        /* It comes back under the same key (its path in sysfs), and that is the next window. */
        free(m->job->device_key);
        m->job->device_key = NULL;
    }
    if (m->holder)
        process_tell(m->holder, KEY_DEVICE_GONE);
    manager_update(manager);
}

const struct watch_handler modem_watch_handler = {.appeared = on_appeared, .gone = on_gone};
