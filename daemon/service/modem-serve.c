/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A job that waits for its modem gets it, or is told of it: service/serve.h says what when, this does it. */

#include "service/modem.h"
#include "service/probe.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/text.h"
#include "service/log.h"
#include "service/neighbours.h"

/* ---- giving it ---- */

static void add_ids(const struct modem *m, struct link_message *message)
{
    link_addf(message, KEY_VID, "%04x", m->appearance->vid);
    link_addf(message, KEY_PID, "%04x", m->appearance->pid);
    link_add(message, KEY_PRODUCT, m->appearance->product);
}

static void hand_over(struct job *j, struct modem *m, int fd)
{
    struct link_message message = {.size = 0};
    link_add(&message, KEY_DEVICE, "1");
    add_ids(m, &message);
    if (m == j->elsewhere)
        link_add(&message, KEY_ELSEWHERE, "1");
    if (m->appeared_at > 0)
        link_addf(&message, KEY_SINCE, "%llu", (unsigned long long)m->appeared_at);
    if (link_add_fd(&message, fd) < 0)
        return;
    j->wants = WANTS_NOTHING;
    m->quiet = serve_there(modem_kind(m)) != THERE_NORMAL;
    snprintf(j->given_serial, sizeof(j->given_serial), "%s", text_known(m->seen_serial));
    j->device_error = (struct error){0};
    if (j->given != m->number) {
        j->given = j->since = m->number;
        j->facts_told = 0;
        /* One that runs its firmware has no window: it stays. */
        if (serve_there(modem_kind(m)) != THERE_NORMAL)
            object_set_u32(&j->object, "Window", &j->window, j->window + 1);
    }
    process_send(j->process, &message);
}

/*
 * Before anything was changed the job ends with the reason. After that the next window may be a better one;
 * the reason is kept for the case that there is none (accept_verdict()).
 */
static void cannot_open(struct job *j, const struct modem *m, int error)
{
    const struct appearance *a = m->appearance;
    const char *node = a->devnode ? a->devnode : a->key;
    struct error e = {0};
    j->refused = m->number;
    opener_explain(node, error, &e);
    job_log(j, e.message);
    if (opener_is_gone(error))
        return; /* its end is on the way, and after that perhaps another appearance */
    if (j->job_state == JOB_STANDBY) {
        log_message(LOG_WARNING, "%s cannot be caught: %s", modem_title(m), e.message);
        rescue_withdraw(j->modem);
        return;
    }
    j->device_error = e;
    if (j->destructive || j->own_error.kind != ERROR_NONE)
        return;
    j->own_error = e;
    process_stop(j->process);
}

/* A device that has left the bus already, its event still on the way, is not handed out. */
static int check_alive(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd < 0 || poll(&p, 1, 0) <= 0 || !(p.revents & (POLLHUP | POLLERR | POLLNVAL)))
        return fd;
    close_fd(fd);
    return -ENODEV;
}

static bool is_served(const struct job *j)
{
    return j->modem && j->modem->job == j && j->process && j->stage == STAGE_RUNNING;
}

void modem_lose_elsewhere(struct job *j)
{
    struct modem *m = steal_ptr(j->elsewhere);
    if (!m || m->job != j)
        return;
    m->opener = opener_free(m->opener);
    modem_set_job(m, NULL);
}

/* It is taken to be this job's modem: nobody else's meanwhile, and to be asked if the job wants to. */
static void find(struct job *j, struct modem *m)
{
    char line[LOG_TEXT_MAX];
    snprintf(line, sizeof(line), "the modem booted at another connector: %s", m->id);
    job_log(j, line);
    modem_lose_elsewhere(j);
    j->elsewhere = m;
    modem_set_job(m, j);
}

/* ---- gone before it had it ---- */

void modem_explain_missed(const struct modem *m, struct error *e)
{
    error_set(
        e, ERROR_MODEM_GONE,
        "%s appeared %d times in a row and was gone each time before it could be opened: its windows are "
        "too short for anything",
        modem_title(m), MISSED_MAX);
    error_hint(e, HINT_BRIDGE_USB_BOOT);
}

void modem_missed(struct modem *m)
{
    struct job *j = m->job;
    /* One that cannot be opened says why (cannot_open()), and goes on waiting. */
    if (!j || !is_served(j) || !(j->wants & WANTS_EDL) || j->given == m->number ||
        j->device_error.kind != ERROR_NONE || serve_there(modem_kind(m)) == THERE_NORMAL)
        return;
    if (j->job_state == JOB_STANDBY) {
        rescue_missed(m);
        return;
    }
    if (++j->missed < MISSED_MAX || j->own_error.kind != ERROR_NONE)
        return;
    modem_explain_missed(m, &j->own_error);
    job_log(j, j->own_error.message);
    process_stop(j->process);
}

/* Its worker has the modem, or there is none; now there is time for the world. */
static void settle(struct modem *m)
{
    struct job *j = m->job;
    m->quiet = false;
    modem_announce(m);
    if (j && j->job_state == JOB_STANDBY && j->given == m->number)
        job_publish(j);
    if (j)
        job_flush(j);
}

void modem_break_silence(struct modem *m)
{
    if (m->quiet)
        settle(m);
}

static void take_opened(struct modem *m, int fd)
{
    struct job *j = m->job;
    fd = check_alive(fd);
    if (!j || !is_served(j) || !(j->wants & (WANTS_EDL | WANTS_DIAG)))
        close_fd(fd);
    else if (fd < 0)
        cannot_open(j, m, fd);
    else
        hand_over(j, m, fd);
    if (m->quiet)
        manager_update(m->manager);
    else
        settle(m);
}

static void on_opened(void *userdata, int fd)
{
    struct modem *m = userdata;
    m->opener = opener_free(m->opener);
    take_opened(m, fd);
}

static int on_release_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct modem *m = userdata;
    process_kill(m->holder, "it did not release the modem");
    return 0;
}

/* One user for a usbfs description: the holder goes before the next one gets the modem. */
void modem_release_holder(struct modem *m)
{
    if (!m->holder || m->release_timer)
        return;
    process_tell(m->holder, KEY_RELEASE);
    if (sd_event_add_time_relative(m->manager->event, &m->release_timer, CLOCK_MONOTONIC, MODEM_RELEASE_USEC,
                                   0, on_release_time, m) < 0)
        process_kill(m->holder, NULL);
}

static void give(struct job *j, struct modem *m)
{
    if (m->holder) {
        modem_release_holder(m);
        return;
    }
    if (m->probe) {
        probe_stop(m->probe);
        return;
    }
    if (m->opener || j->refused == m->number || neighbours_pending(m))
        return;
    int r = opener_start(m->manager->event, m->appearance, on_opened, m, &m->opener);
    if (r < 0)
        take_opened(m, r);
}

/* ---- telling of it ---- */

static void tell(struct job *j, struct modem *m)
{
    struct link_message message = {.size = 0};
    link_add(&message, KEY_APPEARED, modem_kind(m));
    add_ids(m, &message);
    process_send(j->process, &message);
    j->since = MAX_OF(j->since, m->number);
    m->claimed = m->number;
    if (serve_there(modem_kind(m)) == THERE_NORMAL)
        j->wants = WANTS_NOTHING;
}

/* Events of two ports come in any order; a boot takes longer. */
#define OUT_OF_ORDER_USEC (2 * USEC_PER_SEC)

/*
 * It came after this job's modem went, nobody else has it or keeps us away from it, and it is no other unit
 * that we know. One that came while the job had its modem is another one, and is not to be disturbed.
 */
static bool may_be(const struct job *j, const struct modem *m)
{
    bool other = j->serial && m->chip_serial && *m->chip_serial && strcmp(j->serial, m->chip_serial) != 0;
    return m != j->modem && m->appearance && serve_there(modem_kind(m)) == THERE_NORMAL && !m->job &&
           !m->guard && !other && m->number > j->since && m->claimed != m->number &&
           m->appeared_at + OUT_OF_ORDER_USEC >= j->modem->gone_at;
}

/* What is at this place for the job: another unit is nothing. */
static enum serve_there there_for(const struct job *j, const struct modem *m)
{
    return m->number == j->strange ? THERE_NOTHING : serve_there(modem_kind(m));
}

/* It had its modem, which is away, and may yet ask where it booted. */
static bool has_lost(const struct job *j)
{
    return is_served(j) && j->given && there_for(j, j->modem) == THERE_NOTHING && j->wants & WANTS_NORMAL;
}

static bool share_candidates(const struct job *a, const struct job *b, bool *ret_all)
{
    bool any = false, all = true;
    for (const struct modem *m = a->manager->modems; m; m = m->next) {
        bool mine = may_be(a, m), theirs = may_be(b, m);
        any |= mine && theirs;
        all &= mine == theirs;
    }
    *ret_all = all;
    return any;
}

/*
 * The modem in normal mode that is this job's. One that could be another job's as well is nobody's until as
 * many have booted as were lost: then each lost one is among them, which is what the jobs asked, and each is
 * given one of its own. NULL: not known (yet).
 */
static struct modem *find_elsewhere(const struct job *j)
{
    struct modem *found = NULL;
    unsigned lost = 0, before = 0, booted = 0;
    for (const struct job *i = j->manager->jobs; i; i = i->next) {
        bool all;
        if (!has_lost(i) || !share_candidates(i, j, &all))
            continue;
        if (!all)
            return NULL;
        lost++;
        before += i->id < j->id;
    }
    for (struct modem *m = j->manager->modems; m; m = m->next)
        if (may_be(j, m) && booted++ == before)
            found = m;
    return booted == lost ? found : NULL;
}

/* ---- all of it ---- */

static void serve(struct job *j)
{
    struct modem *m = j->modem, *elsewhere;
    if (!is_served(j))
        return;
    if (there_for(j, m) == THERE_NOTHING && j->elsewhere)
        m = j->elsewhere; /* it may reboot there */
    switch (serve_action(j->wants, there_for(j, m))) {
    case SERVE_NOTHING:
        break;
    case SERVE_GIVE:
        give(j, m);
        break;
    case SERVE_TELL:
        tell(j, m);
        break;
    case SERVE_NEWS:
        if (m->number > j->since)
            tell(j, m);
        break;
    case SERVE_ELSEWHERE:
        elsewhere = find_elsewhere(j);
        if (elsewhere) {
            find(j, elsewhere);
            tell(j, elsewhere);
        }
        break;
    }
    job_flush(j);
}

void modem_serve(struct manager *manager)
{
    for (struct modem *m = manager->modems; m; m = m->next)
        rescue_offer(m);
    for (struct job *j = manager->jobs; j; j = j->next)
        serve(j);
}
