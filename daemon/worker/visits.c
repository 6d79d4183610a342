/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/visits.h"

#include <errno.h>
#include <string.h>

#include "firmware/package.h"
#include "worker/boot.h"
#include "worker/running.h"

enum { IN_VAIN_MAX = 8 /* pieces are halved meanwhile */ };

static const usec_t wait_device = 600 * USEC_PER_SEC;

int visits_load(struct worker *w, struct package **ret, char **ret_programmer, size_t *ret_size,
                struct error *e)
{
    _cleanup_(package_freep) struct package *p = NULL;
    const char *id = worker_option(w, "firmware", "");
    if (w->fd_package < 0)
        return 0;
    int r = package_open(w->fd_package, NULL, &p, e);
    if (r < 0)
        return r;
    if (*id && strcmp(id, p->id) != 0)
        return error_set(e, ERROR_DIGEST_MISMATCH,
                         "the library's file is not firmware %s any more: its content is %s", id, p->id);
    r = package_check(p, e);
    if (r < 0)
        return r;
    if (!p->programmer)
        return error_set(e, ERROR_FIRMWARE_INVALID, "the package has no programmer");
    r = package_load(p, p->programmer, PROGRAMMER_SIZE_MAX, ret_programmer, ret_size);
    if (r < 0)
        return error_set(e, ERROR_FIRMWARE_INVALID, "the programmer %s cannot be read: %s",
                         p->programmer->path, strerror(-r));
    *ret = steal_ptr(p);
    return 0;
}

/* One appearance, attached. -EAGAIN: it was sent back to Sahara. */
static int one(struct visits *v, const struct detect_result *found, bool again, struct error *e)
{
    struct session *s = v->session;
    if (found->state != DETECT_FIREHOSE && !v->programmer)
        return error_set(
            e, ERROR_NO_SUCH_FIRMWARE,
            "no programmer runs in the modem, and no firmware was given whose programmer could be used");
    if (found->state == DETECT_FIREHOSE && v->programmer && !v->replaced) {
        v->replaced = true;
        int r = session_replace_programmer(s, e);
        if (r != 0)
            return r < 0 ? r : -EAGAIN;
    }
    int r = session_start_programmer(s, found, v->programmer, v->programmer_size, e);
    return r < 0 ? r : v->visit(v->userdata, again, e);
}

static int lost_too_often(unsigned times, struct error *e)
{
    int r = error_set(e, ERROR_MODEM_GONE,
                      "the modem went away %u times in a row before a single step was finished", times);
    error_hint(e, HINT_BRIDGE_USB_BOOT);
    return r;
}

static int too_short(const struct window *w, unsigned in_vain, struct error *e)
{
    double length = (double)window_length(w) / USEC_PER_SEC;
    int r = w->whole
                ? error_set(e, ERROR_MODEM_GONE,
                            "the modem goes away by itself after %.2f s, which is too short for %s: it is "
                            "written and checked within one window. All that comes before it is done",
                            length, w->whole)
                : error_set(e, ERROR_MODEM_GONE,
                            "the modem goes away by itself after %.2f s, which is too short to do anything: "
                            "not one piece was finished in %u windows",
                            length, in_vain);
    error_hint(e, HINT_BRIDGE_USB_BOOT);
    return r;
}

int visits_judge(struct session *s, bool useful, unsigned max_in_vain, unsigned *in_vain, struct error *e)
{
    struct window *w = &s->window;
    if (useful) {
        *in_vain = 0;
        window_accepted(w);
        return 0;
    }
    bool once_more = ++*in_vain < max_in_vain;
    if (!window_is_known(w))
        return once_more ? 0 : lost_too_often(max_in_vain, e);
    switch (window_in_vain(w)) {
    case WINDOW_TOO_SHORT:
        return once_more ? 0 : too_short(w, *in_vain, e);
    case WINDOW_SMALLER:
        worker_log(s->worker, "no piece was finished in %d windows: at most %llu blocks at once from now on",
                   WINDOW_VAIN_MAX, (unsigned long long)w->piece);
        return 0;
    default:
        return 0;
    }
}

int visits_run(struct visits *v, struct error *e)
{
    struct worker *w = v->session->worker;
    int first = running_comes_first(w) ? running_take(w, NULL, NULL, e) : 0;
    if (first < 0)
        return first;
    unsigned in_vain = 0;
    for (bool again = false;;) {
        struct detect_result found;
        uint64_t before = v->progress(v->userdata);
        usec_t deadline = deadline_in(worker_option_u64(w, "wait-device-usec", wait_device));
        int r = session_attach(v->session, deadline, true, &found, e);
        if (r < 0)
            return r;
        r = one(v, &found, again, e);
        if (r == -EAGAIN)
            continue;
        if (r != -ENODEV)
            return r;
        session_lost(v->session);
        again = true;
        v->replaced = false; /* what runs in the next one may be another one's programmer again */
        bool useful = v->progress(v->userdata) > before;
        worker_log(w, "WARN: the modem went away (%s)", e->message);
        if (!useful && v->in_vain)
            v->in_vain(v->userdata);
        r = visits_judge(v->session, useful, IN_VAIN_MAX, &in_vain, e);
        if (r < 0)
            return r;
        *e = (struct error){0};
    }
}

void visits_end(struct visits *v, struct job_outcome *o)
{
    struct session *s = v->session;
    struct worker *w = s->worker;
    bool ours = v->unit_is_ours || o->error.kind != ERROR_WRONG_UNIT;
    if (ours && worker_option_u64(w, "came-from-normal", 0) == 1 && boot_untouched(w, s) == 0)
        return;
    if (!s->transport || !s->firehose || !s->programmer_runs || w->stop || o->error.kind == ERROR_MODEM_GONE)
        return;
    o->hold = s;
    v->session = NULL;
}
