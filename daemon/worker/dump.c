/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "transport/transport.h"
#include "worker/save.h"

static const usec_t wait_device = 120 * USEC_PER_SEC, settle_time = 60 * USEC_PER_SEC;

enum { PPM = 1000000, PARTITIONS_TOLD_MAX = 1500 /* bytes of the list that fit a message */ };

struct dump {
    struct worker *worker;
    struct session *session;
    struct dump_writer *writer;
    uint64_t done, total;
    unsigned refused; /* regions of which something is missing */
    bool lost;        /* the modem went away in the middle: what is saved by then is kept */
};

void dump_tell(struct worker *w, const struct dump_facts *f)
{
    char hex[SHA256_HEX_SIZE], regions[PARTITIONS_TOLD_MAX] = "";
    memcpy(regions, f->partitions, strnlen(f->partitions, sizeof(regions) - 1));
    if (strlen(f->partitions) >= sizeof(regions) && strrchr(regions, ','))
        *strrchr(regions, ',') = '\0'; /* whole names */
    worker_backup_fact(w, "id", f->id);
    worker_backup_fact(w, "kind", "dump");
    worker_backup_fact(w, "state", backup_state_name(f->damaged ? BACKUP_DAMAGED : BACKUP_COMPLETE));
    worker_backup_number(w, "size", f->file_size);
    text_hex(f->sha256, SHA256_SIZE, hex);
    worker_backup_fact(w, "sha256", hex);
    worker_backup_fact(w, "serial", f->serial);
    worker_backup_fact(w, "model", f->model);
    worker_backup_fact(w, "version", f->version);
    worker_backup_fact(w, "chip", f->chip);
    worker_backup_fact(w, "partitions", regions);
    worker_backup_number(w, "created", f->created);
}

/* ---- saving ---- */

static int on_data(void *userdata, const void *data, size_t size, struct error *e)
{
    struct dump *d = userdata;
    int r = dump_writer_data(d->writer, data, size, e);
    if (r < 0)
        return r;
    d->done += size;
    worker_progress(d->worker, d->done * PPM / d->total, d->done, d->total);
    return worker_check(d->worker, e);
}

/* What the modem refuses in the middle of a region stays zeros there, and the dump is a damaged one. */
static int save_region(struct dump *d, const struct sahara_memory *m, const struct sahara_region *region,
                       struct error *e)
{
    struct error own = {0};
    uint64_t before = d->done;
    worker_phase(d->worker, "backup", region->name);
    int r = dump_writer_begin(d->writer, region, e);
    if (r < 0)
        return r;
    r = sahara_memory_read(d->session->transport, m, region, on_data, d, &own);
    d->lost = (r == -ENODEV || r == -ETIMEDOUT) && d->done > 0;
    if (r < 0 && own.kind != ERROR_SAHARA_FAILED && !d->lost) {
        *e = own;
        return r;
    }
    if (r < 0) {
        d->refused++;
        worker_log(d->worker, "WARN: %s: %s; the rest of it is left out", region->name, own.message);
    }
    d->done = before + region->length;
    return dump_writer_end(d->writer, e);
}

static void take_facts(const struct dump *d, struct dump_facts *f)
{
    struct backup known;
    backup_facts(d->session, "", &known);
    f->damaged = d->refused > 0; /* a lost one is among them */
    if (known.unit.have_serial)
        snprintf(f->serial, sizeof(f->serial), "%08x", known.unit.serial);
    snprintf(f->chip, sizeof(f->chip), "%s", known.chip);
    snprintf(f->model, sizeof(f->model), "%s", known.model);
    snprintf(f->version, sizeof(f->version), "%s", known.version);
    f->created = known.created;
}

static int save_memory(struct dump *d, const struct sahara_hello *hello, struct error *e)
{
    _cleanup_(sahara_memory_done) struct sahara_memory m = {0};
    struct dump_facts *f = calloc(1, sizeof(*f));
    int r = f ? sahara_memory_open(d->session->transport, hello, &m, e)
              : error_set(e, ERROR_FAILED, "out of memory");
    if (r == 0 && m.n_regions == 0)
        r = error_set(e, ERROR_SAHARA_FAILED, "the modem offers nothing of its memory");
    for (size_t i = 0; r == 0 && i < m.n_regions; i++)
        d->total += m.regions[i].length;
    if (r == 0 && m.left_out > 0)
        worker_log(d->worker,
                   "WARN: %u regions of the modem's table are empty or out of bounds and are left out",
                   m.left_out);
    size_t n = 0;
    for (; r == 0 && n < m.n_regions && !d->lost; n++)
        r = save_region(d, &m, &m.regions[n], e);
    if (r == 0) {
        take_facts(d, f);
        r = dump_writer_finish(d->writer, f, e);
    }
    if (r == 0) {
        if (d->lost)
            worker_report(d->worker, "regions", "%zu of %zu, the last one in part: the modem went away", n,
                          m.n_regions);
        else
            worker_report(d->worker, "regions", "%zu, %" PRIu64 " bytes", m.n_regions, d->total);
        dump_tell(d->worker, f);
        /* Who stores it has to know that nobody writes to it any more. */
        d->worker->fd_store = close_fd(d->worker->fd_store);
    }
    free(f);
    return r;
}

/* ---- afterwards ---- */

static int wake_on_either(void *userdata)
{
    struct worker *w = userdata;
    int r = worker_wake(w);
    if (w->fd_device >= 0 || w->appeared[0])
        return -EALREADY;
    return r == -ENODEV ? 0 : r;
}

static void report_after(struct dump *d, const char *text)
{
    worker_report(d->worker, "afterwards", "%s", text);
    worker_log(d->worker, "%s", text);
}

/* The modem after a reset: 1: it crashed again; else what it did is reported. */
static int see_it_again(struct dump *d)
{
    struct worker *w = d->worker;
    struct detect_result found;
    struct error ignored = {0};
    usec_t deadline = deadline_in(worker_option_u64(w, "boot-usec", settle_time));
    w->appeared[0] = '\0';
    worker_tell(w, KEY_WAIT_DEVICE, "edl");
    worker_tell(w, KEY_WAIT_DEVICE, "normal");
    if (w->fd_device < 0)
        (void)transport_wait(NULL, w->link, wake_on_either, w, deadline);
    if (w->fd_device < 0) {
        report_after(d, strcmp(w->appeared, "normal") == 0 ? "the modem runs its firmware again"
                                                           : "the modem was reset and did not appear again");
        return 0;
    }
    if (session_attach(d->session, deadline, false, &found, &ignored) < 0) {
        report_after(d, "the modem was reset and cannot be talked to");
        return 0;
    }
    if (found.state == DETECT_CRASH_DUMP)
        return 1;
    report_after(d, "the modem came back in emergency download mode: it can be flashed");
    return 0;
}

/* Part of a dump is worth more than none; the whole of it needs another call. */
static void tell_lost(struct dump *d)
{
    session_detach(d->session);
    worker_report(d->worker, "hint", "%s", hint_name(HINT_RETRY));
    report_after(d,
                 "the modem went away while its memory was read: what was read is saved, as a damaged dump; "
                 "collect it again when the modem is back in its crash dump");
}

/* The dump is saved: nothing that happens here is an error of it. */
static void start_anew(struct dump *d)
{
    struct worker *w = d->worker;
    for (unsigned crashes = 0; crashes < DUMP_CRASHES_MAX; crashes++) {
        struct error e = {0};
        worker_phase(w, "reset", NULL);
        int r = sahara_reset(d->session->transport, &e);
        if (r == 0)
            r = transport_wait(d->session->transport, w->link, worker_wake, w, deadline_in(settle_time));
        session_detach(d->session);
        if (r != -ENODEV) {
            report_after(d, "the modem does not leave its crash dump: switch it off and on");
            return;
        }
        worker_phase(w, "wait-normal", NULL);
        if (see_it_again(d) == 0)
            return;
    }
    worker_report(w, "hint", "%s", hint_name(HINT_BRIDGE_USB_BOOT));
    report_after(
        d, "the modem crashes each time that it starts: bridge USB_BOOT, so that it comes up in emergency "
           "download mode, and flash its own firmware anew");
}

int dump_collect(struct worker *w, struct error *e)
{
    _cleanup_(dump_writer_freep) struct dump_writer *writer = NULL;
    _cleanup_(session_freep) struct session *s = NULL;
    struct detect_result found;
    if (w->fd_store < 0)
        return error_set(e, ERROR_INVALID_ARGS, "a dump needs a file to put it in");
    writer = dump_writer_new(w->fd_store);
    s = session_new(w);
    if (!writer || !s)
        return error_set(e, ERROR_FAILED, "out of memory");
    struct dump d = {.worker = w, .session = s, .writer = writer};
    worker_ready(w);
    int r = session_attach(s, deadline_in(worker_option_u64(w, "wait-device-usec", wait_device)), false,
                           &found, e);
    if (r == 0 && found.state != DETECT_CRASH_DUMP)
        r = error_set(e, ERROR_WRONG_MODE, "the modem has not crashed: it offers none of its memory");
    if (r == 0)
        r = save_memory(&d, &found.hello, e);
    if (r == 0 && d.lost)
        tell_lost(&d);
    else if (r == 0)
        start_anew(&d);
    return r;
}
