/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/running.h"

#include <errno.h>
#include <string.h>

#include "base/digest.h"
#include "base/text.h"
#include "firmware/version.h"
#include "transport/transport.h"

/* From the echo to the end of the USB connection: about 3 s on SDX55, up to 10 s on EM05-G (edl.md 3.2). */
static const usec_t leave_time = 20 * USEC_PER_SEC;

static int explain(int r, const char *doing, struct error *e)
{
    if (r == -ECANCELED)
        return error_set(e, ERROR_CANCELLED, "cancelled while %s", doing);
    if (r == -EINTR)
        return error_set(e, ERROR_INTERRUPTED, "interrupted while %s: the service is stopping", doing);
    return r;
}

/* In normal mode; or, with edl, in either. */
static int await_device(struct worker *w, bool edl, usec_t deadline, struct error *e)
{
    if (w->fd_device < 0) {
        worker_phase(w, "wait-device", NULL);
        worker_tell(w, KEY_WAIT_DEVICE, "diag");
        if (edl)
            worker_tell(w, KEY_WAIT_DEVICE, "edl");
    }
    int r = worker_wait_device(w, deadline, e);
    return r != -ETIMEDOUT ? r
                           : error_set(e, ERROR_TIMEOUT,
                                       "the modem was not there in normal mode within the time allowed");
}

static int open_device(struct running *r, bool crashed, struct error *e)
{
    struct worker *w = r->worker;
    int q = transport_open(steal_fd(&w->fd_device), TRANSPORT_DIAG, &r->transport, e);
    if (q < 0)
        return explain(q, "opening the modem's DIAG interface", e);
    transport_set_waker(r->transport, w->link, worker_wake, w);
    worker_phase(w, "identify", NULL);
    q = crashed ? diag_open_crashed(r->transport, &r->diag, e) : diag_open(r->transport, &r->diag, e);
    if (q < 0) {
        running_detach(r);
        return explain(q, "opening DIAG", e);
    }
    return 0;
}

int running_attach(struct running *r, usec_t deadline, struct error *e)
{
    int q = await_device(r->worker, false, deadline, e);
    r->given = q == 0;
    return q < 0 ? q : open_device(r, false, e);
}

int running_attach_crashed(struct running *r, usec_t deadline, struct error *e)
{
    int q = await_device(r->worker, false, deadline, e);
    return q < 0 ? q : open_device(r, true, e);
}

void running_detach(struct running *r)
{
    r->diag = diag_free(r->diag);
    r->transport = transport_free(r->transport);
}

/* ---- who it is ---- */

int running_imei_hash(const struct worker *w, const char *imei, char ret[SHA256_HEX_SIZE])
{
    uint8_t key[SHA256_SIZE], mac[SHA256_SIZE];
    if (!*imei || text_unhex(worker_option(w, "imei-key", ""), key, sizeof(key)) < 0)
        return -EINVAL;
    int r = digest_hmac_sha256(key, sizeof(key), imei, strlen(imei), mac);
    if (r == 0)
        text_hex(mac, sizeof(mac), ret);
    return r;
}

void running_mask_imei(const char *imei, char ret[DIAG_IMEI_DIGITS + 1])
{
    enum { SHOWN = 2 };
    size_t n = strnlen(imei, DIAG_IMEI_DIGITS);
    for (size_t i = 0; i < n; i++)
        ret[i] = i < SHOWN || i + SHOWN >= n ? imei[i] : '*';
    ret[n] = '\0';
}

/* What the modem cannot tell is no failure; that it goes away, or that we are to end, is. */
static bool is_final(int r)
{
    return r == -ENODEV || r == -ECANCELED || r == -EINTR || r == -ETIMEDOUT;
}

static int read_imei(struct running *r, struct running_identity *id, struct error *e)
{
    uint8_t item[DIAG_NV_SIZE];
    unsigned status;
    struct error own = {0};
    int q = diag_nv_read(r->diag, DIAG_NV_IMEI, 0, item, &status, &own);
    if (q == 0 && status == DIAG_NV_DONE && diag_imei_parse(item, id->imei) < 0)
        worker_log(r->worker, "WARN: the modem's NV item of its IMEI holds none");
    else if (q == 0 && status != DIAG_NV_DONE)
        worker_log(r->worker, "WARN: the modem has no IMEI (%s)", diag_nv_status_name(status));
    if (q < 0 && is_final(q)) {
        *e = own;
        return q;
    }
    if (q < 0)
        worker_log(r->worker, "WARN: the modem does not tell its IMEI: %s", own.message);
    return 0;
}

static int read_oper_mode(struct running *r, struct running_identity *id, struct error *e)
{
    struct error own = {0};
    int q = diag_read_oper_mode(r->diag, &id->oper_mode, &own);
    id->oper_mode_known = q == 0;
    id->factory_test = q == 0 && id->oper_mode == DIAG_OPER_FACTORY_TEST;
    if (q < 0 && is_final(q)) {
        *e = own;
        return q;
    }
    if (q < 0)
        worker_log(r->worker, "WARN: the modem does not tell its operating mode: %s", own.message);
    return 0;
}

static void tell(struct worker *w, const struct running_identity *id)
{
    struct version version;
    char hash[SHA256_HEX_SIZE], masked[DIAG_IMEI_DIGITS + 1], mode[16];
    /* First whose the rest is. */
    if (running_imei_hash(w, id->imei, hash) == 0) {
        running_mask_imei(id->imei, masked);
        memcpy(w->imei_hash, hash, sizeof(w->imei_hash));
        worker_tell(w, KEY_IMEI_HASH, hash);
        worker_tell(w, KEY_IMEI, masked);
    }
    worker_tell(w, KEY_VERSION, id->version);
    /* As a package's model is named, so that both can be compared. */
    worker_tell(w, KEY_MODEL, version_parse(id->version, &version) == 0 ? version.model : id->model);
    if (id->oper_mode_known) {
        snprintf(mode, sizeof(mode), "%u", id->oper_mode);
        worker_tell(w, KEY_OPERATING, mode);
    }
}

int running_identify(struct running *r, struct running_identity *ret, struct error *e)
{
    struct running_identity id = {0};
    struct diag_build build;
    int q = diag_read_build(r->diag, &build, e);
    if (q < 0)
        return explain(q, "asking the modem for its version", e);
    snprintf(id.version, sizeof(id.version), "%s", build.version);
    snprintf(id.model, sizeof(id.model), "%s", build.model);
    id.model_id = build.model_id;
    q = read_imei(r, &id, e);
    if (q == 0)
        q = read_oper_mode(r, &id, e);
    if (q < 0)
        return explain(q, "asking the modem who it is", e);
    tell(r->worker, &id);
    *ret = id;
    return 0;
}

/* ---- away: into EDL, or through a restart ---- */

/* Between the command and the end of the connection there is nothing to cancel. 0: it has left; 1: it was
 * told and did not. */
static int leave(struct running *r, int told)
{
    struct worker *w = r->worker;
    int q = told;
    if (told == 0)
        q = transport_wait(r->transport, w->link, worker_wake, w, deadline_in(leave_time));
    running_detach(r);
    if (told < 0 || q != -ENODEV)
        return told < 0 ? told : 1;
    worker_tell(w, KEY_DEVICE_LOST, "1");
    return 0;
}

int running_enter_edl(struct running *r, struct error *e)
{
    struct worker *w = r->worker;
    struct error own = {0};
    worker_phase(w, "enter-edl", NULL);
    bool critical = w->critical;
    w->critical = true;
    int q = leave(r, diag_enter_edl(r->diag, &own));
    w->critical = critical;
    if (q == 0)
        return worker_check(w, e);
    if (q > 0) {
        q = error_set(
            e, ERROR_TIMEOUT,
            "the modem confirmed that it goes to emergency download mode and did not leave the bus");
        error_hint(e, HINT_POWER_CYCLE);
        return q;
    }
    *e = own;
    if (q == -EOPNOTSUPP || q == -EPROTO)
        q = error_set(
            e, ERROR_UNSUPPORTED,
            "the modem's firmware knows neither of the two commands that lead to emergency download "
            "mode (%s)",
            own.message);
    return explain(q, "bringing the modem to emergency download mode", e);
}

int running_restart(struct running *r, enum diag_mode mode, struct error *e)
{
    struct worker *w = r->worker;
    struct error own = {0};
    worker_phase(w, "reset", NULL);
    bool critical = w->critical;
    w->critical = true;
    w->appeared[0] = '\0'; /* what appears from now on is its answer */
    int q = leave(r, diag_set_mode(r->diag, mode, &own));
    w->critical = critical;
    if (q <= 0) {
        *e = q < 0 ? own : *e;
        return q;
    }
    q = error_set(e, ERROR_TIMEOUT, "the modem confirmed that it restarts and did not leave the bus");
    error_hint(e, HINT_POWER_CYCLE);
    return q;
}

/* ---- a job that begins in normal mode ---- */

static const usec_t wait_device = 120 * USEC_PER_SEC;

bool running_comes_first(const struct worker *w)
{
    return worker_option_u64(w, "came-from-normal", 0) == 1;
}

const char *running_known_version(const struct worker *w, bool *ret_confirmed)
{
    bool told = w->told_version[0] != '\0';
    *ret_confirmed = told || worker_option_u64(w, "known-confirmed", 0) == 1;
    return told ? w->told_version : worker_option(w, "known-version", "");
}

/* That of the unit that the service remembers here; which one is there it may not know yet. */
static bool is_of(const struct worker *w, const struct sahara_identity *unit)
{
    const char *of = worker_option(w, "calibration-flaw-of", "");
    char serial[16];
    snprintf(serial, sizeof(serial), "%08x", unit->serial);
    return !*of || !unit->have_serial || strcmp(of, serial) == 0;
}

enum backup_flaw running_known_flaw(const struct worker *w, const struct sahara_identity *unit)
{
    if (w->told_factory_test)
        return BACKUP_FLAW_FACTORY_TEST;
    if (w->told_online || !is_of(w, unit))
        return BACKUP_FLAW_NONE;
    return backup_flaw_from_name(worker_option(w, "calibration-flaw", ""));
}

int running_take(struct worker *w, running_visit visit, void *userdata, struct error *e)
{
    struct running running = {.worker = w};
    struct running_identity id;
    usec_t deadline = deadline_in(worker_option_u64(w, "wait-device-usec", wait_device));
    int r = await_device(w, true, deadline, e);
    if (r < 0)
        return r;
    /* It went there by itself meanwhile: what follows finds it waiting. */
    if (strcmp(w->vid, "05c6") == 0 && strcmp(w->pid, "9008") == 0)
        return 0;
    r = open_device(&running, false, e);
    if (r == 0)
        r = running_identify(&running, &id, e);
    if (r == 0) {
        worker_log(w, "the modem runs %s%s", id.version, id.factory_test ? ", in factory test mode" : "");
        snprintf(w->told_version, sizeof(w->told_version), "%s", id.version);
        w->told_factory_test = id.factory_test;
        w->told_online = id.oper_mode_known && !id.factory_test && !diag_oper_mode_is_offline(id.oper_mode);
    }
    if (r == 0 && visit)
        r = visit(userdata, &running, &id, e);
    if (r == 0)
        r = running_enter_edl(&running, e);
    running_detach(&running);
    return r;
}
