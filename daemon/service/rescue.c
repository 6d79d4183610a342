/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/rescue.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/candidates.h"
#include "service/errors.h"
#include "service/log-about.h"
#include "service/modem-inner.h"
#include "service/rescue-rule.h"

enum {
    ASKED_MAX = 3, /* a stranger that does not tell who it is */
    LOST_MAX = 4,  /* fewer may have been a plug that was pulled */
    WHY_SIZE = ERROR_MESSAGE_SIZE + 160,
};

/* ---- what is true of it ---- */

/* now: of what is there; else as if it were in 9008, unless what is there says otherwise. */
static enum catch_verdict judge(const struct modem *m, bool now, const char **ret_why)
{
    bool may_come = !m->appearance || modem_is(m, "normal");
    const struct catch_case c = {
        .edl = modem_is(m, "edl") || (!now && may_come),
        .off = policy_is(m, "off"),
        .armed = policy_is_armed(m),
        .quectel = *text_known(m->quectel) != '\0',
        .asked = *text_known(m->hardware_id) || m->rescue.asked >= ASKED_MAX ||
                 m->rescue.port.asked >= RESCUE_PORT_TIMES * ASKED_MAX,
        .chip = *text_known(m->hardware_id) && *text_known(m->chip),
        .pk_hash = candidates_know_hash(m),
        .looping = m->looping != 0,
        .unknown = m->manager->config.catch_unknown != 0,
    };
    return catch_judge(&c, ret_why);
}

/* Somebody's own flash waits to be continued: a policy that began another one would void its journal. */
static bool is_reserved(const struct modem *m)
{
    const struct job *i = m->interrupted;
    const struct policy *p = policy_of(m);
    return i && !(strcmp(i->firmware_id, text_known(p->firmware_id)) == 0 && !*text_known(i->allow) &&
                  i->reset && strcmp(text_known(i->modem_version), text_known(p->modem_version)) == 0);
}

static bool firmware_is_ready(const struct modem *m)
{
    const struct firmware *f = policy_firmware(m);
    return f && strcmp(f->state, "ready") == 0;
}

/* Once it is held; what only its own flash tells may yet stop it. */
static bool will_be_flashed(const struct modem *m)
{
    return policy_is(m, "rescue") && firmware_is_ready(m) && !*text_known(m->rescue.stopped) &&
           !is_reserved(m);
}

/* By its policy, and who it is is not known yet, or not known to be the one. */
static bool has_to_tell(const struct modem *m)
{
    bool there = modem_has_fallen(m);
    bool has_own = *text_known(m->unit_policy.mode) != '\0'; /* it tells its serial before anything else */
    return !policy_is_certain(m) && (there || !has_own);
}

static enum rescue_action decide(const struct modem *m, bool now, const char **ret_why)
{
    struct firmware *candidates[CANDIDATES_MAX];
    const struct rescue_facts f = {
        .stopping = m->manager->stopping || !*m->port,
        .busy = m->job != NULL,
        .held = m->holder != NULL,
        .wanted = m->rescue.wanted || m->guard || (m->holder && is_reserved(m)),
        .off = policy_is(m, "off"),
        .rescue = policy_is(m, "rescue") && policy_is_certain(m),
        .firmware = firmware_is_ready(m),
        .gave_up = *text_known(m->rescue.gave_up) || *text_known(m->rescue.port.gave_up),
        .stopped = *text_known(m->rescue.stopped) != '\0',
        .waiting = now_usec() < m->rescue.not_before,
        .unsaved = m->rescue.unsaved,
        .candidate = candidates_find(m, false, candidates) > 0,
        .verdict = judge(m, now, ret_why),
    };
    return rescue_next(&f);
}

/* One that nothing is remembered of gets no record for this. */
static void remember(struct modem *m)
{
    m->save_pending |= m->remembered;
}

/* ---- for people ---- */

/* Nothing is done about one that is in 9008, and it is not for lack of means. */
static void print_reason(const struct modem *m, char out[WHY_SIZE])
{
    const struct job *i = m->interrupted;
    bool rescue = policy_is(m, "rescue");
    if (m->guard)
        snprintf(out, WHY_SIZE, "is left to another tool: %s", text_known(m->inhibited_by));
    else if (m->holder && is_reserved(m))
        snprintf(out, WHY_SIZE,
                 "is kept for %s, which was interrupted: the same call continues it, and no policy begins "
                 "another one",
                 job_title(i));
    else if (m->rescue.wanted)
        snprintf(out, WHY_SIZE, "is left to the user who brought it to 9008");
    else if (rescue && *text_known(m->rescue.stopped))
        snprintf(out, WHY_SIZE,
                 "is not flashed: %s was cancelled by a user; a flash, or a policy set anew, takes that back",
                 m->rescue.stopped);
    else if (rescue && m->holder && !firmware_is_ready(m))
        snprintf(out, WHY_SIZE,
                 "is held, but not flashed: its policy's package is not in the library, or "
                 "was found to be invalid");
    else if (rescue && m->holder && !policy_is_certain(m))
        snprintf(out, WHY_SIZE,
                 "is held, but not flashed: whether it is the unit that its policy was set for is not known "
                 "(another one may be in its place); if it is to be flashed, set the policy anew, now that "
                 "it is here");
}

static void print_note(const struct modem *m, enum rescue_action action, const char *why, char out[WHY_SIZE])
{
    struct firmware *candidates[CANDIDATES_MAX];
    bool there = modem_has_fallen(m);
    out[0] = '\0';
    if (there && !m->job && !policy_is(m, "off"))
        print_reason(m, out);
    if (*text_known(m->rescue.port.gave_up))
        snprintf(out, WHY_SIZE, "is left to a human: %s", m->rescue.port.gave_up);
    else if (*text_known(m->rescue.gave_up))
        snprintf(out, WHY_SIZE, "is left to a human: %s", m->rescue.gave_up);
    else if (m->rescue.failures > 0 && now_usec() < m->rescue.not_before)
        snprintf(out, WHY_SIZE, "waits before attempt %u of %u", m->rescue.failures + 1,
                 m->manager->config.rescue_attempts);
    else if (m->job || m->holder || *out)
        return;
    else if (action == RESCUE_STANDBY && will_be_flashed(m) && has_to_tell(m))
        snprintf(out, WHY_SIZE,
                 "is caught when it appears in 9008, and flashed once it is known to be the unit that its "
                 "policy was set for");
    else if (action == RESCUE_STANDBY)
        snprintf(out, WHY_SIZE, "is %s when it appears in 9008", will_be_flashed(m) ? "rescued" : "caught");
    else if (action == RESCUE_ASK)
        snprintf(out, WHY_SIZE, "is asked who it is when it appears again: it loops, and nobody knows it");
    else if (judge(m, false, &why) == CATCH_HOLD && candidates_find(m, false, candidates) == 0)
        snprintf(out, WHY_SIZE,
                 "cannot be caught: the library has no programmer that fits; import the package whose name "
                 "begins as the version on the modem's label");
    else if (there)
        snprintf(out, WHY_SIZE, "%s", why);
}

static void publish_note(struct modem *m, const char *note)
{
    if (strcmp(text_known(m->note), note) == 0)
        return;
    object_set_string(&m->object, "Note", &m->note, note);
    if (*note && modem_has_fallen(m))
        log_message(LOG_NOTICE, "%s %s.", modem_title(m), note);
}

/* ---- failures ---- */

/* The hint stays that of the job that failed, if there was one. */
static void say_gave_up(struct modem *m, const char *why, enum error_hint hint)
{
    char line[LOG_TEXT_MAX];
    modem_set_error(m, why, hint != HINT_NONE ? hint : hint_from_name(text_known(m->recovery_hint)));
    snprintf(line, sizeof(line), "%s is left to a human: %s", modem_title(m), why);
    log_about_modem(m, LOG_RESCUE_GAVE_UP, LOG_ERR, line);
}

static void give_up(struct modem *m, const char *why, enum error_hint hint)
{
    text_replace(&m->rescue.gave_up, why);
    say_gave_up(m, why, hint);
    modem_save(m);
}

/* Whoever is there: a port has an end, too. True: this is it. */
static bool port_is_spent(struct modem *m)
{
    const char *spent = rescue_port_is_spent(m);
    char text[WHY_SIZE];
    if (!spent)
        return false;
    snprintf(text, sizeof(text),
             "there were %s at this port, of whatever units: look at its power supply, its host and what is "
             "plugged in; its policy set anew begins anew",
             spent);
    rescue_port_give_up(m, text);
    say_gave_up(m, text, HINT_RETRY);
    return true;
}

static void count_at_port(struct modem *m)
{
    rescue_port_failed(m);
    port_is_spent(m);
}

static int on_pause_over(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct modem *m = userdata;
    m->rescue.timer = sd_event_source_disable_unref(m->rescue.timer);
    manager_update(m->manager);
    return 0;
}

static void count_failure(struct modem *m, const char *why)
{
    const struct config *c = &m->manager->config;
    char text[WHY_SIZE];
    if (++m->rescue.failures >= c->rescue_attempts) {
        snprintf(text, sizeof(text), "%u attempts failed, the last one: %s", m->rescue.failures, why);
        give_up(m, text, HINT_NONE);
        return;
    }
    usec_t pause = rescue_pause(c->rescue_backoff, m->rescue.failures);
    m->rescue.not_before = deadline_in(pause);
    m->rescue.timer = sd_event_source_disable_unref(m->rescue.timer);
    remember(m);
    sd_event_add_time(m->manager->event, &m->rescue.timer, CLOCK_MONOTONIC, m->rescue.not_before, 0,
                      on_pause_over, m);
    log_message(LOG_WARNING, "%s: attempt %u of %u failed, the next one is in %llu s: %s", modem_title(m),
                m->rescue.failures, c->rescue_attempts, (unsigned long long)(pause / USEC_PER_SEC), why);
}

static void fail(struct modem *m, const char *why)
{
    count_failure(m, why);
    count_at_port(m);
}

/* What failed is over, and what was wished; how often it was flashed today stays. */
static void begin_anew(struct modem *m)
{
    struct rescue_day day = m->rescue.day;
    rescue_recall(m, NULL);
    m->rescue.day = day;
    remember(m);
    manager_update(m->manager);
}

void rescue_reset(struct modem *m)
{
    m->rescue.day = (struct rescue_day){0};
    rescue_port_forget(m);
    begin_anew(m);
}

void rescue_begun(struct modem *m)
{
    rescue_day_add(&m->rescue.day, realtime_usec() / USEC_PER_SEC);
    rescue_port_begun(m);
    remember(m);
}

/* A modem that boots each time and falls back later: every flash of it succeeds. */
static bool had_its_share(struct modem *m)
{
    unsigned n = rescue_day_count(&m->rescue.day, realtime_usec() / USEC_PER_SEC);
    char text[WHY_SIZE];
    if (m->interrupted)
        return false;
    if (n < m->manager->config.rescue_per_day)
        return port_is_spent(m);
    snprintf(
        text, sizeof(text),
        "it was flashed %u times within a day ([Rescue] FlashesPerDay=) and is in 9008 again: look at its "
        "power supply, its host and the package; a rescue or flash that somebody asks for is done at any "
        "time",
        n);
    give_up(m, text, HINT_RETRY);
    return true;
}

/* ---- what became of a job ---- */

/* A user brought it to 9008, or wants it there, or does not want it flashed: no policy goes in between. */
static void note_wish(struct modem *m, const struct job *j)
{
    bool enters = strcmp(j->kind, "enter-edl") == 0 ||
                  (j->job_kind == JOB_RESET && strcmp(text_known(j->reset_mode), "edl") == 0);
    bool writes = j->job_kind == JOB_FLASH || j->job_kind == JOB_RESTORE;
    bool cancelled = strcmp(j->verdict, "cancelled") == 0;
    if (writes && j->object.slot) { /* what did not pass its pre-flight says nothing */
        text_replace(&m->rescue.stopped, cancelled ? job_title(j) : "");
        remember(m);
    }
    if (strcmp(j->verdict, "done") != 0)
        return;
    if (writes)
        rescue_reset(m);
    if (enters) {
        m->rescue.wanted = true;
        remember(m);
    }
}

/* Somebody changed the module in the middle: no failure of the one that is there now. One that only tells
 * something else of itself each time is the same, and does not get another attempt for ever. */
static bool is_another_now(const struct modem *m, const struct job *j)
{
    const char *of = *text_known(j->serial) ? j->serial : j->given_serial;
    return j->stranger_at_port || (*of && *text_known(m->chip_serial) && strcmp(of, m->chip_serial) != 0);
}

static void note_failure(struct modem *m, const struct job *j)
{
    enum rescue_failure failure = rescue_judge_failure(j->verdict, j->error.kind);
    const char *why = j->error.message;
    struct firmware *left[CANDIDATES_MAX];
    if (failure == FAILURE_OTHER || j->preempted || m->manager->stopping)
        return;
    if (is_another_now(m, j)) {
        count_at_port(m);
        return;
    }
    if (j->job_kind == JOB_CATCH && candidates_find(m, false, left) == 0)
        return; /* nothing is tried before there is something new to try */
    if (j->job_kind == JOB_CATCH && failure == FAILURE_FINAL)
        failure = FAILURE_AGAIN; /* which programmers failed is remembered; another one may come */
    if (j->error.hint == HINT_CONTACT_VENDOR)
        failure = FAILURE_FINAL;
    if (j->job_kind == JOB_FLASH && j->error.kind == ERROR_VERSION_UNKNOWN)
        m->rescue.unsaved = true;
    if (failure == FAILURE_AGAIN) {
        fail(m, why);
        return;
    }
    give_up(m, why, HINT_NONE);
    count_at_port(m);
}

void rescue_finished(struct modem *m, const struct job *j)
{
    if (j->owner_uid != RESCUE_UID) {
        note_wish(m, j);
        return;
    }
    bool done = strcmp(j->verdict, "done") == 0;
    if (j->job_kind == JOB_IDENTIFY) {
        m->rescue.asked += !j->preempted;
        m->rescue.port.asked += !j->preempted;
    } else if (j->job_kind == JOB_BACKUP) {
        m->rescue.unsaved = false; /* once, whatever came of it: the flash has given up already */
    } else if (!done) {
        note_failure(m, j);
    } else if (j->job_kind == JOB_FLASH) {
        m->rescue.flashed_at = now_usec();
    }
}

/* ---- appearances ---- */

void rescue_came(struct modem *m)
{
    struct rescue *r = &m->rescue;
    r->appeared_at = now_usec();
    if (modem_is(m, "normal") && r->wanted) {
        r->wanted = false;
        remember(m);
    }
    if (!modem_is(m, "edl") || r->flashed_at == 0)
        return;
    if (r->appeared_at - r->flashed_at < LOOP_APART_USEC)
        fail(m, "it was flashed, verified and booted, and fell back into 9008");
    r->flashed_at = 0;
}

void rescue_went(struct modem *m)
{
    struct rescue *r = &m->rescue;
    usec_t stayed = now_usec() - r->appeared_at;
    if (modem_is(m, "normal") && stayed >= LOOP_APART_USEC) {
        bool told = *text_known(r->gave_up) || r->failures > 0;
        begin_anew(m);
        rescue_port_ran(m);
        if (told)
            log_message(LOG_INFO, "%s ran its firmware for minutes: what failed before is over.",
                        modem_title(m));
    }
    if (!m->holder || m->job || strcmp(m->mode, "firehose") != 0)
        return;
    r->port.lost = stayed < LOOP_SHORT_USEC ? r->port.lost + 1 : 0;
    if (r->port.lost >= LOST_MAX) {
        modem_set_error(m, text_known(m->last_error), HINT_BRIDGE_USB_BOOT);
        fail(m, "it goes away even with a programmer running, so that it cannot be held; a flash uses one "
                "window after the other, and a bridge at USB_BOOT ends the loop");
    }
}

/* ---- the standby ---- */

static void dismiss(struct modem *m)
{
    struct job *j = m->rescue.standby;
    if (!j)
        return; /* what it was told stays: it may have the modem, and be given back (rescue_withdraw()) */
    m->rescue.standby = NULL;
    job_stop(j);
}

/* All that its worker is told: another one is needed when this changes. */
static char *print_basis(const struct modem *m, enum rescue_action action)
{
    struct firmware *list[CANDIDATES_MAX];
    size_t n = action == RESCUE_STANDBY ? candidates_find(m, false, list) : 0, at = 0;
    char text[CANDIDATES_MAX * (FIRMWARE_ID_SIZE + 1) + 16];
    at += (size_t)snprintf(text, sizeof(text), "%d", (int)action);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, " %s", list[i]->id);
    return strdup(text);
}

static void prepare_standby(struct modem *m, enum rescue_action action)
{
    _cleanup_free_ char *basis = print_basis(m, action);
    struct error e = {0};
    struct job *j;
    if (!basis || (m->rescue.standby && strcmp(m->rescue.basis, basis) == 0))
        return;
    dismiss(m);
    int r = modem_new_own_job(m, action == RESCUE_ASK ? JOB_IDENTIFY : JOB_CATCH, &j);
    if (r < 0)
        return;
    free(m->rescue.basis);
    m->rescue.basis = steal_ptr(basis);
    m->rescue.standby = j;
    if (job_begin_own(j, true, &e) < 0)
        fail(m, e.message); /* the job is gone, and has left the modem */
}

void rescue_offer(struct modem *m)
{
    struct job *j = m->rescue.standby;
    const char *why;
    if (!j || m->job || m->holder || !m->appearance || j->stage != STAGE_RUNNING || !(j->wants & WANTS_EDL) ||
        j->refused == m->number)
        return;
    if (decide(m, true, &why) != (j->job_kind == JOB_IDENTIFY ? RESCUE_ASK : RESCUE_STANDBY))
        return;
    m->rescue.standby = NULL;
    m->job = j;
}

void rescue_withdraw(struct modem *m)
{
    if (m->job->preempted)
        return; /* it is on its way out, and whoever waits for that is served by its end */
    m->rescue.standby = m->job;
    m->job = NULL;
}

void rescue_missed(struct modem *m)
{
    struct error e = {0};
    if (++m->rescue.port.missed < MISSED_MAX)
        return;
    m->rescue.port.missed = 0;
    modem_explain_missed(m, &e);
    modem_set_error(m, e.message, e.hint);
    fail(m, e.message);
}

/* ---- flash and backup ---- */

static int begin(struct job *j, int r, struct error *e)
{
    if (r >= 0)
        return job_begin_own(j, false, e);
    job_free(j);
    return error_set(e, ERROR_FAILED, "%s", strerror(-r));
}

static int start_flash(struct modem *m, struct error *e)
{
    struct firmware *f = policy_firmware(m);
    struct job *j;
    const struct policy *p = policy_of(m);
    bool version_known =
        *text_known(p->modem_version) || *text_known(m->family_version) || *text_known(m->project);
    int r = backup_check_space(m->manager, version_known ? 0 : BACKUP_CHIP_SIZE, e);
    if (r >= 0)
        r = modem_new_own_job(m, JOB_FLASH, &j);
    return r < 0 ? r : begin(j, modem_take_flash(j, f, "", text_known(p->modem_version), true), e);
}

static int start_backup(struct modem *m, struct error *e)
{
    struct firmware *list[CANDIDATES_MAX];
    struct job *j;
    int r = backup_check_space(m->manager, BACKUP_CHIP_SIZE, e);
    if (r >= 0)
        r = modem_new_own_job(m, JOB_BACKUP, &j);
    if (r < 0)
        return r;
    if (candidates_find(m, false, list) > 0)
        memcpy(j->firmware_id, list[0]->id, sizeof(j->firmware_id));
    j->kind_of_backup = strdup("nand");
    return begin(j, j->kind_of_backup ? 0 : -ENOMEM, e);
}

/* ---- all of it ---- */

void rescue_look(struct modem *m)
{
    const char *why = "";
    char note[WHY_SIZE];
    struct error e = {0};
    int r = 0;
    enum rescue_action action = decide(m, false, &why);
    print_note(m, action, why, note);
    publish_note(m, note);
    if (action == RESCUE_STANDBY || action == RESCUE_ASK)
        prepare_standby(m, action);
    else
        dismiss(m);
    if (action == RESCUE_FLASH && had_its_share(m))
        manager_update(m->manager); /* the note tells it */
    else if (action == RESCUE_FLASH)
        r = start_flash(m, &e);
    else if (action == RESCUE_SAVE) {
        m->rescue.unsaved = false;
        r = start_backup(m, &e);
    }
    if (r < 0 && action == RESCUE_FLASH)
        fail(m, e.kind != ERROR_NONE ? e.message : strerror(-r));
    object_flush(&m->object);
}

/* ---- memory ---- */

void rescue_record(const struct modem *m, struct record *r)
{
    const struct rescue *s = &m->rescue;
    _cleanup_free_ char *day = rescue_day_print(&s->day);
    record_set(r, "GAVE_UP", s->gave_up);
    record_set(r, "STOPPED", s->stopped);
    record_set(r, "WANTED", s->wanted ? "1" : "");
    if (s->failures > 0)
        record_set_u64(r, "FAILURES", s->failures);
    record_set(r, "FLASHED", day);
}

void rescue_recall(struct modem *m, const struct record *r)
{
    struct rescue *s = &m->rescue;
    s->timer = sd_event_source_disable_unref(s->timer);
    s->asked = 0;
    s->not_before = s->flashed_at = 0;
    s->unsaved = false;
    text_replace(&s->gave_up, r ? record_get(r, "GAVE_UP") : "");
    text_replace(&s->stopped, r ? record_get(r, "STOPPED") : "");
    s->wanted = r && strcmp(record_get(r, "WANTED"), "1") == 0;
    s->failures = r ? (unsigned)MIN_OF(record_get_u64(r, "FAILURES", 0), (uint64_t)UINT16_MAX) : 0;
    rescue_day_read(&s->day, r ? record_get(r, "FLASHED") : "");
}

void rescue_free(struct modem *m)
{
    m->rescue.timer = sd_event_source_disable_unref(m->rescue.timer);
    free(m->rescue.basis);
    free(m->rescue.gave_up);
    free(m->rescue.stopped);
    rescue_port_free(m);
    policy_done(&m->unit_policy);
    policy_done(&m->port_policy);
}
