/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/probe.h"

#include <string.h>

#include "service/guard.h"
#include "service/log.h"
#include "service/opener.h"

enum {
    PROBE_USEC = 60 * 1000000, /* the whole exchange; it takes a second */
    PROBE_FACTS_MAX = 32,
};

struct probe {
    struct modem *modem;
    struct process *process; /* NULL: waits for its delay */
    struct opener *opener;
    sd_event_source *timer;
    enum link_stage stage;
    unsigned facts;
    bool ended; /* it said how it ended; the reason is in the same message */
    bool done;  /* it told all it was asked */
    bool wants; /* it waits for the device */
    bool stopping;
};

struct probe *probe_free(struct probe *p)
{
    if (!p)
        return NULL;
    sd_event_source_disable_unref(p->timer);
    opener_free(p->opener);
    process_free(p->process);
    p->modem->probe = NULL;
    free(p);
    return NULL;
}

bool probe_has_worker(const struct probe *p)
{
    return p && p->process;
}

static void end(struct probe *p)
{
    struct modem *m = p->modem;
    struct manager *manager = m->manager;
    bool told = p->done;
    probe_free(p);
    if (told)
        modem_keep_calibration(m);
    guard_serve(m);
    object_flush(&m->object);
    modem_serve(manager);
    manager_update(manager);
}

void probe_stop(struct probe *p)
{
    if (!p->process) {
        end(p);
        return;
    }
    if (p->stopping)
        return;
    p->stopping = true;
    process_tell(p->process, KEY_STOP);
    process_stop(p->process);
}

void probe_left(struct probe *p)
{
    if (!p->process) {
        probe_free(p);
        return;
    }
    p->opener = opener_free(p->opener);
    process_tell(p->process, KEY_DEVICE_GONE);
    probe_stop(p);
}

/* ---- its worker ---- */

static void on_opened(void *userdata, int fd)
{
    struct probe *p = userdata;
    const struct appearance *a = p->modem->appearance;
    struct link_message message = {.size = 0};
    p->opener = opener_free(p->opener);
    if (fd < 0 || !a) {
        close_fd(fd);
        probe_stop(p);
        return;
    }
    link_add(&message, KEY_DEVICE, "1");
    link_addf(&message, KEY_VID, "%04x", a->vid);
    link_addf(&message, KEY_PID, "%04x", a->pid);
    link_add(&message, KEY_PRODUCT, a->product);
    if (link_add_fd(&message, fd) == 0)
        process_send(p->process, &message);
}

static bool take(struct probe *p, const struct link_field *f)
{
    struct modem *m = p->modem;
    if (!expect_key(JOB_IDENTIFY, p->stage, f->key))
        return false;
    if (strcmp(f->key, KEY_READY) == 0) {
        p->stage = STAGE_RUNNING;
        return true;
    }
    if (strcmp(f->key, KEY_RESULT) == 0) {
        bool again = p->ended;
        p->done = strcmp(f->value, "done") == 0;
        p->ended = true;
        return !again;
    }
    if (strcmp(f->key, KEY_MESSAGE) == 0) {
        log_message(LOG_INFO, "%s could not be asked who it is: %.300s", modem_title(m), f->value);
        return true;
    }
    if (strcmp(f->key, KEY_WAIT_DEVICE) == 0) {
        if (strcmp(f->value, "diag") != 0 || p->opener || p->wants)
            return false;
        p->wants = true;
        return opener_start(m->manager->event, m->appearance, on_opened, p, &p->opener) >= 0;
    }
    if (!modem_is_running_fact(f->key))
        return true; /* phases, logs, reports: nobody reads them */
    return ++p->facts <= PROBE_FACTS_MAX && modem_learn(m, f->key, f->value) >= 0;
}

static void on_message(void *userdata, struct link_message *message)
{
    struct probe *p = userdata;
    for (size_t i = 0; i < message->n_fields; i++)
        if (message->n_fds > 0 || !p->modem->appearance || !take(p, &message->fields[i])) {
            process_kill(p->process, "it said what it may not say");
            return;
        }
    if (p->ended)
        p->stage = STAGE_ENDED;
    object_flush(&p->modem->object);
}

static void on_gone(void *userdata, const struct process_end *process_end)
{
    struct probe *p = userdata;
    if (process_end->broken)
        log_message(LOG_WARNING, "The worker that asked %s who it is was killed: %s.", modem_title(p->modem),
                    process_end->broken);
    p->process = process_free(p->process);
    end(p);
}

static int on_time_over(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct probe *p = userdata;
    process_kill(p->process, "it took too long");
    return 0;
}

static int arm(struct probe *p, usec_t usec, sd_event_time_handler_t handler)
{
    p->timer = sd_event_source_disable_unref(p->timer);
    return sd_event_add_time_relative(p->modem->manager->event, &p->timer, CLOCK_MONOTONIC, usec, 0, handler,
                                      p);
}

/* ---- starting ---- */

static bool may_ask(const struct modem *m)
{
    return m->manager->config.identify_on_appear && !m->manager->stopping && m->appearance &&
           strcmp(modem_kind(m), "normal") == 0 && !m->job && !m->holder && !m->guard;
}

static int start(struct probe *p)
{
    struct manager *manager = p->modem->manager;
    struct process_handler handler = {.message = on_message, .gone = on_gone, .userdata = p};
    struct link_message order = {.size = 0};
    int r = arm(p, PROBE_USEC, on_time_over);
    if (r >= 0)
        r = process_start(manager->event, manager->worker_binary, &handler, &p->process);
    if (r < 0)
        return r;
    link_add(&order, KEY_JOB, job_kind_name(JOB_IDENTIFY));
    link_add(&order, KEY_OPTION "normal", "1");
    link_add(&order, KEY_OPTION "imei-key", manager->imei_key);
    process_send(p->process, &order);
    return 0;
}

static int on_delay_over(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct probe *p = userdata;
    struct modem *m = p->modem;
    /* A job that has come meanwhile asks by itself. */
    if (!may_ask(m) || start(p) < 0)
        probe_free(p);
    else
        m->probed = m->number;
    return 0;
}

void probe_look(struct modem *m)
{
    if (!may_ask(m) || m->probe || m->probed == m->number)
        return;
    struct probe *p = calloc(1, sizeof(*p));
    if (!p)
        return;
    p->modem = m;
    m->probe = p;
    if (arm(p, m->manager->config.identify_delay, on_delay_over) < 0)
        probe_free(p);
}
