/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One modem in EDL in the hands of a job, over as many appearances as it takes: wait for the device, open it,
 * find out what it speaks, identify it, upload the programmer, configure, look at its storage. In every
 * appearance serial, HWID and PK hash must equal those of the first (WrongUnit, nothing written).
 */

#include "worker/window.h"
#include "worker/worker.h"

struct session {
    struct worker *worker;
    struct transport *transport;
    struct firehose *firehose;
    unsigned appearances;
    struct window window; /* how long each lasts, and how much fits into this one */

    /* What any appearance told; a later one must not contradict it. Parts that nobody told stay missing. */
    struct sahara_identity identity;
    bool identity_known; /* at least one part is there */
    bool asked; /* in Sahara's command mode to its end, so that a missing part is one that the modem does not
                   tell */
    bool recognized; /* this appearance told a serial that names somebody, and it is the one of before (or of
                        the options). False in the first one of a job that names no unit. */
    /* Before this appearance, and after the last one, it was seen in normal mode: it may have changed its
     * flash. Only a job that sets `hears_of_normal` is told. */
    bool hears_of_normal, ran_firmware;
    bool hears_at_once;     /* before it was ever there in 9008, too */
    bool normal_will_do;    /* besides: session_attach() ends with -EALREADY when it is seen there */
    unsigned asked_again;   /* times, because it did not say which chip it is */
    bool leaves_when_asked; /* gone on the way back from command mode, refused or too often: not asked any
                               more */
    /* Options serial, hwid, pkhash: the unit that the job is for; empty if none was named. */
    struct sahara_identity expected;

    /* Id of the package whose programmer is uploaded, borrowed; what comes of it is told (PROGRAMMER=). "":
     * not. */
    const char *programmer_id;
    unsigned left_after_upload; /* times in a row that it took all of it and went away */
    /* Found in Firehose: uploaded by somebody else, and its capabilities are not those of our file. */
    bool programmer_was_running;
    /* The modem speaks Firehose in this appearance, whether or not it could be configured. */
    bool programmer_runs;
    /* Literals of the programmer that we uploaded, minus what its banner lacks. */
    struct nand_capabilities capabilities;
    struct firehose_storage storage;
    struct nand_geometry geometry; /* from getstorageinfo; blocks 0: not known (yet) */
    uint8_t erased_fill;           /* 0xff until session_probe_fill() */
    char last_error_log[256];
    bool quiet; /* while pages are read by the hundred: INFO logs of the programmer are not passed on */
};

struct session *session_new(struct worker *w);
struct session *session_free(struct session *s);
DEFINE_CLEANUP(struct session *, session_free)

/*
 * Waits for the modem in EDL (WAIT_DEVICE=edl, until `deadline`), opens it and classifies it; one that goes
 * away meanwhile is waited for again. *ret is what detect_modem() found, not only Sahara or Firehose: the
 * caller judges. With identify, a modem in Sahara is asked who it is; what is known of the unit (always the
 * serial in the product string, all that a programmer that runs already leaves) is compared with the first
 * appearance and with the unit that the job is for. ModemGone, ModemBusy, Timeout, WrongUnit, Cancelled,
 * Interrupted. After an error the transport may be open still: the job can try something else or free the
 * session.
 */
int session_attach(struct session *s, usec_t deadline, bool identify, struct detect_result *ret,
                   struct error *e);
/*
 * From whatever session_attach() found to a configured programmer: upload (Sahara) or reuse (Firehose,
 * programmer may be NULL), banner, configure, storage. programmer is kept by the caller for the session's
 * life. CANCEL and STOP wait meanwhile: they would leave the modem in the middle of a transfer. -ENODEV with
 * ModemGone: the caller may session_detach() and attach again.
 */
int session_start_programmer(struct session *s, const struct detect_result *found, const void *programmer,
                             size_t size, struct error *e);
/*
 * A programmer that runs already and that we cannot know to be this package's: back to Sahara, so that the
 * package's own is used and the unit can be asked who it is. 1: on its way, attach again; 0: it stayed (9x07
 * has no such command), go on with what is there and expect little of it.
 */
int session_replace_programmer(struct session *s, struct error *e);
/* Reads one page that the caller knows to be erased and takes its fill (0xff or 0xee) over; another content
 * changes nothing. */
int session_probe_fill(struct session *s, uint64_t page, struct error *e);
/* Drops the transport of a modem that we sent away (tells DEVICE_LOST=1), keeps what was learned. */
void session_detach(struct session *s);
/* The same after -ENODEV, which measures a window. */
void session_lost(struct session *s);
/*
 * No piece of work fits into what is left of this window: nothing is in flight any more until the modem goes,
 * -ENODEV. 0: it did not go, the window was not what it seemed; ask again what fits. A safe point: Cancelled
 * (also in the middle of a flash, which then waits in 9008), Interrupted.
 */
int session_let_pass(struct session *s, struct error *e);
/*
 * The holder's life: whatever the modem says is taken off it and dropped, the claim kept, until RELEASE,
 * STOP, link EOF or the modem goes. It says nothing any more, its exit tells. Always 0: a holder has no
 * errors.
 */
int session_hold(struct session *s);

/* ---- session-identity.c ---- */

/*
 * Compares what this appearance told with the earlier ones and with the unit of the options, remembers and
 * tells (SERIAL= HWID= PKHASH= CHIP=) what is new. asked: command mode was gone through to its end, what is
 * missing is not told by this modem. What an earlier appearance told this one must tell too: always the
 * serial (but for a unit that is not asked because it would leave), the rest if it was asked; and of two that
 * were asked none tells more than the other. Sets s->recognized. WrongUnit.
 */
int session_check_identity(struct session *s, const struct sahara_identity *now, bool asked, struct error *e);
/* The serial of "QUSB_BULK_CID:0410_SN:49CBD7EF"; false if there is none. */
bool session_product_serial(const char *product, uint32_t *ret);
/* What the modem told of itself; where it told nothing (a programmer runs already) what the service knows of
 * this very appearance. */
struct sahara_identity session_unit(const struct session *s);
/* Reads the options serial, hwid, pkhash into s->expected, unless WrongUnit is allowed. */
void session_expect_unit(struct session *s);
