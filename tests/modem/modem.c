/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "modem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "boot.h"
#include "layout.h"
#include "normal.h"
#include "programmer.h"
#include "sahara.h"
#include "trace.h"

enum mode { MODE_IS_PBL, MODE_IS_PROGRAMMER, MODE_IS_CRASH, MODE_IS_NORMAL };

enum {
    VID_QUALCOMM = 0x05C6,
    PID_EDL = 0x9008,
    PID_CRASH = 0x900E,
    VID_QUECTEL = 0x2C7C,
    PID_NORMAL = 0x0800, /* and of a crash */
    INTERFACES_NORMAL = 5,
};

struct life {
    struct modem *modem;
    enum mode mode;
    char version[BOOT_VERSION_MAX];
    bool booted_before, fell_back;
    uint32_t sbl_erases; /* of the SBL that it had at first */
};

/* ---- what it becomes ---- */

static uint32_t sbl_erases(const struct nand *n)
{
    struct layout l;
    uint32_t page;

    layout_default(&l, n->blocks);
    return layout_first_page(n, layout_find(&l, "SBL"), &page)
               ? n->records[page / n->pages_per_block].erase_count
               : 0;
}

/* Normal mode does not last with the firmware that it had at first, or with any. */
static bool does_not_last(const struct life *l)
{
    int64_t boots = l->modem->scenario->boots;

    return boots == BOOTS_NEVER_LASTS || ((boots == BOOTS_FALLS_BACK || boots == BOOTS_CRASHES) &&
                                          sbl_erases(l->modem->nand) == l->sbl_erases);
}

static enum mode power_on(struct life *l)
{
    struct modem *m = l->modem;
    char reason[BOOT_REASON_MAX] = "";

    if (m->stay_in_edl || m->scenario->force_edl) {
        snprintf(reason, sizeof(reason), "forced");
    } else if (l->fell_back) {
        snprintf(reason, sizeof(reason), "fell back");
    } else if (m->scenario->boots == BOOTS_NO) {
        snprintf(reason, sizeof(reason), "scenario");
    } else if (boot_decide(m->nand, l->version, reason)) {
        if (m->scenario->boots == BOOTS_OTHER_VERSION)
            snprintf(l->version, sizeof(l->version), "RM502QGLAAR99A99M4G");
        trace("boot normal version=%s", l->version);
        return MODE_IS_NORMAL;
    }
    m->stay_in_edl = l->fell_back = false;
    trace("boot 9008 reason=%s", reason);
    return MODE_IS_PBL;
}

static enum mode first_mode(struct life *l)
{
    snprintf(l->version, sizeof(l->version), "%.90s", l->modem->scenario->version);
    switch (l->modem->scenario->start) {
    case START_SAHARA:
    case START_MID_TRANSFER:
    case START_RESET_RESP:
        return MODE_IS_PBL;
    case START_FIREHOSE:
        return MODE_IS_PROGRAMMER;
    case START_CRASH_DUMP:
        return MODE_IS_CRASH;
    case START_NORMAL:
        return MODE_IS_NORMAL;
    default:
        return power_on(l);
    }
}

/* ---- one appearance ---- */

static void swap_unit(struct modem *m)
{
    if (m->scenario->swap_at && m->appearance == (unsigned)m->scenario->swap_at) {
        m->serial = (uint32_t)m->scenario->swap_serial;
        trace("swapped serial=%08x", m->serial);
    }
}

static struct plug plug_for(const struct modem *m, enum mode mode, const char *version)
{
    const struct scenario *s = m->scenario;
    bool normal = mode == MODE_IS_NORMAL, crash = mode == MODE_IS_CRASH;
    struct plug p = {.port = normal && *s->port_normal ? s->port_normal : s->port,
                     .kernel = normal && *s->kernel_normal ? s->kernel_normal : s->kernel,
                     .vid = VID_QUALCOMM,
                     .pid = PID_EDL,
                     .interfaces = 1,
                     .live_protocol = (unsigned)s->edl_protocol,
                     .version = normal ? version : "",
                     .max_packet = (unsigned)(normal ? s->max_packet_normal : s->max_packet)};

    if (normal || (crash && s->crash_id == CRASH_ID_QUECTEL)) {
        p.vid = VID_QUECTEL;
        p.pid = normal ? (unsigned)s->pid_normal : (unsigned)PID_NORMAL;
        if (normal) {
            p.live_interface = (unsigned)s->diag_interface;
            p.live_protocol = (unsigned)s->diag_protocol;
        }
        p.interfaces = normal ? INTERFACES_NORMAL : 1;
        snprintf(p.product, sizeof(p.product), "%s", s->product);
        return p;
    }
    if (crash)
        p.pid = PID_CRASH;
    if (*s->product_edl)
        snprintf(p.product, sizeof(p.product), "%s", s->product_edl);
    else
        snprintf(p.product, sizeof(p.product), "QUSB_BULK_CID:0410_SN:%08X", m->serial);
    return p;
}

/* A loop cuts the power some time after the modem showed up; a soft one leaves a running programmer alone. */
static void arm_window(struct modem *m, enum mode mode)
{
    const struct scenario *s = m->scenario;

    if (s->loop == LOOP_NONE || s->window_ms <= 0 || mode == MODE_IS_NORMAL)
        return;
    if (s->loop == LOOP_SOFT && mode == MODE_IS_PROGRAMMER)
        return;
    m->front.power_until = trace_now() + s->window_ms * 1000;
}

static int run_pbl(struct modem *m)
{
    int r = pbl_run(m);

    if (r != MODE_PROGRAMMER)
        return r;
    if (m->scenario->loop == LOOP_SOFT)
        m->front.power_until = 0;
    return programmer_run(m, true);
}

static int run_mode(struct life *l)
{
    struct modem *m = l->modem;
    int64_t us = -1;
    int r;

    switch (l->mode) {
    case MODE_IS_PBL:
        return run_pbl(m);
    case MODE_IS_PROGRAMMER:
        return programmer_run(m, false);
    case MODE_IS_CRASH:
        return crash_dump_run(m);
    case MODE_IS_NORMAL:
        if (m->scenario->boots == BOOTS_ONCE_MORE && !l->booted_before)
            us = m->scenario->once_more_ms * 1000;
        if (does_not_last(l))
            us = m->scenario->normal_ms * 1000;
        l->booted_before = true;
        r = normal_run(m, l->version, us);
        if (r != MODE_TIME || !does_not_last(l))
            return r;
        l->fell_back = m->scenario->boots != BOOTS_CRASHES;
        return l->fell_back ? r : MODE_CRASH;
    }
    return -EINVAL;
}

static int appear(struct life *l)
{
    struct modem *m = l->modem;
    struct plug plug;
    int r;

    m->appearance++;
    swap_unit(m);
    plug = plug_for(m, l->mode, l->version);
    m->front.ended = END_NONE;
    m->front.port_reset_restarts = m->scenario->port_reset == PORT_RESET_RESTART;
    r = front_appear(&m->front, &plug);
    if (r < 0)
        return r;
    arm_window(m, l->mode);
    r = run_mode(l);
    if (r > 0)
        front_flush(&m->front);
    front_vanish(&m->front);
    return r;
}

/* How long it is away, in µs (-1: for good), after what it ended with. */
static int64_t absence(struct life *l, int ended)
{
    const struct scenario *s = l->modem->scenario;

    if (ended == MODE_OFF)
        return -1;
    if (ended > 0)
        return s->reboot_ms * 1000;
    switch (l->modem->front.ended) {
    case END_WINDOW:
        return s->gap_ms * 1000;
    case END_FAULT:
        return s->replug_ms < 0 ? -1 : s->replug_ms * 1000;
    default:
        return s->reboot_ms * 1000;
    }
}

static bool is_over(const struct front *f)
{
    return f->ended == END_TERMINATED || f->ended == END_NO_HOST;
}

int modem_run(struct modem *m)
{
    struct life l = {.modem = m};
    int64_t crashes = 0;

    m->serial = (uint32_t)m->scenario->serial;
    l.sbl_erases = sbl_erases(m->nand);
    l.mode = first_mode(&l);
    for (;;) {
        int64_t away;
        int ended = appear(&l), r;

        if (ended < 0 && ended != -ENODEV)
            return ended;
        if (is_over(&m->front))
            return 0;
        away = absence(&l, ended);
        m->front.ended = END_NONE;
        if (ended > 0)
            trace("mode ended %d", ended);
        front_gone(&m->front);
        r = front_wait_off(&m->front, away);
        if (r < 0)
            return 0;
        m->stay_in_edl = ended == MODE_RESET_TO_EDL;
        bool again = l.mode == MODE_IS_CRASH && ended == MODE_RESET && crashes++ < m->scenario->crash_again;
        l.mode = ended == MODE_CRASH || again ? MODE_IS_CRASH : power_on(&l);
    }
}
