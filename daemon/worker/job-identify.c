/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who is this modem? In EDL nothing is written to it and no programmer uploaded; one that runs its firmware
 * is asked over DIAG in one short exchange.
 */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/running.h"
#include "worker/session.h"

/* A looping modem shows itself every 14 to 20 s; three rounds are enough to be asked. */
static const usec_t wait_device = 60 * USEC_PER_SEC;

static const char *const modes[] = {[DETECT_SAHARA] = "sahara",
                                    [DETECT_FIREHOSE] = "firehose",
                                    [DETECT_CRASH_DUMP] = "crash-dump",
                                    [DETECT_STREAMING] = "streaming"};

static void report(struct session *s, const struct detect_result *found)
{
    const struct sahara_identity *id = &s->identity;
    struct worker *w = s->worker;

    worker_report(w, "mode", "%s", modes[found->state]);
    if (id->have_serial)
        worker_report(w, "serial", "%08x", id->serial);
    if (id->have_hwid) {
        const char *chip = sahara_chip_name(id->hwid);
        worker_report(w, "hwid", "%016llx", (unsigned long long)id->hwid);
        worker_report(w, "chip", "%s", chip ? chip : "unknown");
    }
    if (id->pk_hash_size > 0) {
        char hex[2 * SAHARA_PK_HASH_MAX + 1];
        text_hex(id->pk_hash, id->pk_hash_size, hex);
        worker_report(w, "pkhash", "%s", hex);
    }
    if (id->sahara_version > 0)
        worker_report(w, "sahara-version", "%u", id->sahara_version);
    if (s->geometry.blocks > 0)
        worker_report(w, "storage", "nand %u/%uK x %llu", s->geometry.page_size,
                      nand_block_size(&s->geometry) / 1024, (unsigned long long)s->geometry.blocks);
}

/* A programmer that runs already tells its storage at least. One that does not is no failure of this job. */
static int ask_programmer(struct session *s, const struct detect_result *found, struct error *e)
{
    struct error storage = {0};
    int r = session_start_programmer(s, found, NULL, 0, &storage);
    if (r == -ECANCELED || r == -EINTR || r == -ENODEV) {
        *e = storage;
        return r;
    }
    if (r < 0)
        worker_log(s->worker, "WARN: the running programmer does not tell its storage: %s", storage.message);
    return 0;
}

static int identify_running(struct worker *w, struct error *e)
{
    struct running running = {.worker = w};
    struct running_identity id;
    char masked[DIAG_IMEI_DIGITS + 1];
    worker_ready(w);
    usec_t deadline = deadline_in(worker_option_u64(w, "wait-device-usec", wait_device));
    int r = running_attach(&running, deadline, e);
    if (r == 0)
        r = running_identify(&running, &id, e);
    running_detach(&running);
    if (r < 0)
        return r;
    running_mask_imei(id.imei, masked);
    worker_report(w, "mode", "normal");
    worker_report(w, "version", "%s", id.version);
    worker_report(w, "model", "%s", id.model);
    worker_report(w, "imei", "%s", *masked ? masked : "none");
    if (id.oper_mode_known)
        worker_report(w, "operating-mode", "%u (%s)", id.oper_mode, diag_oper_mode_name(id.oper_mode));
    return 0;
}

int job_identify(struct worker *w, struct job_outcome *o)
{
    if (worker_option_u64(w, "normal", 0) == 1)
        return identify_running(w, &o->error);
    _cleanup_(session_freep) struct session *s = session_new(w);
    struct detect_result found;
    if (!s)
        return -ENOMEM;

    worker_ready(w);
    usec_t deadline = deadline_in(worker_option_u64(w, "wait-device-usec", wait_device));
    int r = session_attach(s, deadline, true, &found, &o->error);
    if (r == 0 && found.state == DETECT_FIREHOSE)
        r = ask_programmer(s, &found, &o->error);
    if (r < 0)
        return r;
    report(s, &found);
    if (found.state == DETECT_STREAMING)
        return error_set(&o->error, ERROR_WRONG_MODE,
                         "the modem speaks streaming download (HDLC), not Sahara: it cannot be asked");
    /* In EDL it is held: its hello is in our hands, and the claim keeps others from talking in between. */
    if (found.state != DETECT_CRASH_DUMP && worker_option_u64(w, "hold", 1) == 1)
        o->hold = steal_ptr(s);
    return 0;
}

/* In full, for the one who asked: it goes through a sealed memfd, not through a line that somebody may log.
 */
int job_identity(struct worker *w, struct job_outcome *o)
{
    struct running running = {.worker = w};
    struct running_identity id;
    worker_ready(w);
    usec_t deadline = deadline_in(worker_option_u64(w, "wait-device-usec", wait_device));
    int r = running_attach(&running, deadline, &o->error);
    if (r == 0)
        r = running_identify(&running, &id, &o->error);
    running_detach(&running);
    if (r < 0)
        return r;
    _cleanup_free_ char *text = text_printf("%s%s%sversion=%s\nmodel=%s\n", *id.imei ? "imei=" : "", id.imei,
                                            *id.imei ? "\n" : "", id.version, id.model);
    if (!text)
        return -ENOMEM;
    worker_tell_memfd(w, KEY_PLAN, text, strlen(text));
    return 0;
}
