/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/session.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "transport/transport.h"

/* A device that comes later than this after it was asked for has just enumerated: its PBL waits to say hello.
 */
static const usec_t present_already = USEC_PER_SEC / 5;

/* How long a modem that is out of step has to be silent before it is asked anew. */
#define SETTLE_SILENCE (300 * USEC_PER_MSEC)
#define SETTLE_MAX     (2 * USEC_PER_SEC)
enum { SETTLE_SCRATCH = 4096 };

/* Appearances in which the modem did not even say what it is. */
enum { GONE_MAX = 10 };

/* From the ACK of a reset to the end of the USB connection (reference/edl.md 2.11). */
static const usec_t leave_time = 20 * USEC_PER_SEC;

enum { ASK_AGAIN_MAX = 3 }; /* times, until one that does not tell its chip is one that cannot */

enum { LEFT_MAX = 3 }; /* departures with the whole programmer, until it is refused */

/* What a NAND can be (reference/edl.md 2.4 knows 2 KiB and 4 KiB pages with 64 a block); beyond it a
 * programmer talks nonsense. */
enum {
    PAGE_MIN = 512,
    PAGE_MAX = 16384,
    PAGES_PER_BLOCK_MIN = 16,
    PAGES_PER_BLOCK_MAX = 512,
    BLOCKS_MAX = 65536
};

struct session *session_new(struct worker *w)
{
    struct session *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->worker = w;
    s->erased_fill = 0xff;
    s->programmer_id = worker_option(w, "firmware", "");
    window_init(&s->window, worker_option_u64(w, "window-usec", 0),
                worker_option_u64(w, "loop-period-usec", 0));
    session_expect_unit(s);
    return s;
}

static void let_go(struct session *s)
{
    s->firehose = firehose_free(s->firehose);
    s->transport = transport_free(s->transport);
    s->programmer_runs = false;
}

struct session *session_free(struct session *s)
{
    if (!s)
        return NULL;
    let_go(s);
    free(s);
    return NULL;
}

void session_detach(struct session *s)
{
    let_go(s);
    window_close(&s->window, now_usec(), true);
    worker_tell(s->worker, KEY_DEVICE_LOST, "1");
}

void session_lost(struct session *s)
{
    window_close(&s->window, now_usec(), false);
    session_detach(s);
}

/* What a floor below left unexplained gets its error here; what came from the waker is not the modem's fault.
 */
static int explain(int r, const char *doing, struct error *e)
{
    if (r == -ECANCELED)
        return error_set(e, ERROR_CANCELLED, "cancelled while %s", doing);
    if (r == -EINTR)
        return error_set(e, ERROR_INTERRUPTED, "interrupted while %s: the service is stopping", doing);
    if (r >= 0 || e->kind != ERROR_NONE)
        return r;
    if (r == -ENODEV)
        return error_set(e, ERROR_MODEM_GONE, "the modem went away while %s", doing);
    if (r == -ETIMEDOUT)
        return error_set(e, ERROR_TIMEOUT, "the modem did not answer in time while %s", doing);
    return error_set(e, ERROR_FAILED, "%s: %s", doing, strerror(-r));
}

/* ---- attach ---- */

/* In 9008, and what it did before that. */
static int wait_for_device(struct session *s, usec_t deadline, struct error *e)
{
    struct worker *w = s->worker;
    bool hears = s->hears_of_normal && (s->appearances > 0 || s->hears_at_once);
    s->ran_firmware = false;
    if (w->fd_device >= 0)
        return 0;
    worker_phase(w, "wait-device", NULL);
    transport_prepare();
    w->appeared[0] = '\0';
    worker_tell(w, KEY_WAIT_DEVICE, "edl");
    if (hears)
        worker_tell(w, KEY_WAIT_DEVICE, "normal");
    while (hears) {
        int r = worker_wait_news(w, deadline, e);
        if (r < 0 || w->fd_device >= 0)
            return r;
        if (strcmp(w->appeared, "normal") == 0 && s->normal_will_do)
            return -EALREADY;
        if (strcmp(w->appeared, "normal") == 0) {
            worker_log(w, "the modem runs its firmware; waiting for it in 9008");
            s->ran_firmware = true;
            hears = false;
            worker_tell(w, KEY_WAIT_DEVICE, "edl"); /* what was asked is answered */
        }
        w->appeared[0] = '\0';
    }
    return worker_wait_device(w, deadline, e);
}

/* A device from the service, opened; *ret_fresh: nobody can have talked to it before us. */
static int open_next(struct session *s, usec_t deadline, bool *ret_fresh, struct error *e)
{
    struct worker *w = s->worker;
    usec_t asked = now_usec();

    int r = wait_for_device(s, deadline, e);
    if (r == -ETIMEDOUT && s->appearances > 0)
        return error_set(e, ERROR_MODEM_GONE,
                         "the modem went away and did not come back within the time allowed");
    if (r < 0)
        return r;
    *ret_fresh = s->appearances > 0 || now_usec() - asked > present_already;
    r = transport_open(steal_fd(&w->fd_device), TRANSPORT_EDL, &s->transport, e);
    if (r < 0)
        return explain(r, "opening the modem", e);
    transport_set_waker(s->transport, w->link, worker_wake, w);
    usec_t now = now_usec();
    window_open(&s->window, w->since > 0 && w->since < now ? w->since : now);
    s->appearances++;
    return 0;
}

static void tell_mode(struct session *s, const struct detect_result *found)
{
    static const char *const modes[] = {
        [DETECT_SAHARA] = "sahara", [DETECT_FIREHOSE] = "firehose", [DETECT_CRASH_DUMP] = "crash-dump"};
    const char *mode = found->state < ARRAY_SIZE(modes) ? modes[found->state] : NULL;
    worker_log(s->worker, "the modem speaks %s%s", mode ? mode : "streaming download (HDLC)",
               found->rungs > 0 ? ", after some persuasion" : "");
    if (mode)
        worker_tell(s->worker, KEY_MODE, mode);
}

/* Late answers, until there are none. 1: there were some. */
static int let_settle(struct session *s)
{
    uint8_t scratch[SETTLE_SCRATCH];
    usec_t end = deadline_in(SETTLE_MAX);
    int heard = 0;
    while (now_usec() < end) {
        size_t n;
        int r = transport_read(s->transport, scratch, sizeof(scratch), deadline_in(SETTLE_SILENCE), &n, NULL);
        if (r == -ETIMEDOUT)
            break;
        if (r < 0)
            return r;
        heard = 1;
    }
    return heard;
}

static bool ends_all(int r)
{
    return r == -ENODEV || r == -ECANCELED || r == -EINTR;
}

/* Command mode and back is one exchange: left in the middle of it, a modem is stuck for whoever comes next.
 * in_step: if not, a refusal may be the answer to something that was said before, and is none. */
static int ask_once(struct session *s, bool in_step, struct detect_result *found, struct sahara_identity *ret,
                    struct error *e)
{
    bool critical = s->worker->critical;
    s->worker->critical = true;
    int r = sahara_identify(s->transport, &found->hello, ret, e);
    ret->refused &= in_step;
    s->worker->critical = critical;
    return r < 0 ? explain(r, "asking the modem who it is", e) : worker_check(s->worker, e);
}

/* It was left at its hello; if it said more behind that, it is brought there again. *ret_in_step: nothing
 * that it says next can be the answer to something else. */
static int settle_at_hello(struct session *s, struct detect_result *found, bool *ret_in_step, struct error *e)
{
    bool critical = s->worker->critical;
    s->worker->critical = true;
    *ret_in_step = false;
    int r = let_settle(s);
    if (r != 0 && !ends_all(r)) {
        r = detect_return_to_hello(s->transport, found, e);
        *ret_in_step = r == 0 && found->rungs <= 1;
    }
    s->worker->critical = critical;
    return r < 0 ? explain(r, "bringing the modem back to its HELLO", e) : worker_check(s->worker, e);
}

/*
 * Which chip it is decides what may be flashed (flash rule 1): a modem that was only slow, and is out of step
 * with us, is asked again when all its late answers have come. One that never tells costs a job so many
 * time-outs, and not each window of it. fresh: nobody can have said anything before.
 */
static int ask_identity(struct session *s, bool fresh, struct detect_result *found,
                        struct sahara_identity *ret, struct error *e)
{
    bool in_step = found->rungs == 0;
    int r = ask_once(s, in_step, found, ret, e);
    while (r == 0 && !ret->complete && !(ret->refused && fresh) && !ret->have_hwid &&
           !s->identity.have_hwid && s->asked_again < ASK_AGAIN_MAX) {
        const struct sahara_identity before = *ret;
        s->asked_again++;
        worker_log(s->worker, "the modem did not say which chip it is: it is asked again");
        r = settle_at_hello(s, found, &in_step, e);
        if (r < 0)
            return r;
        if (found->state != DETECT_SAHARA) {
            tell_mode(s, found);
            return 0;
        }
        r = ask_once(s, in_step, found, ret, e);
        if (!ret->have_serial && before.have_serial) {
            ret->have_serial = true;
            ret->serial = before.serial;
        }
    }
    if (ret->complete)
        s->asked_again = 0;
    return r;
}

/*
 * An old PBL refuses command mode, and the way back to a hello restarts it: asked again it would go again,
 * for ever. One that was asked to the end before is another matter: it can be asked. So is one that was slow
 * when its window ended.
 */
static void note_departure(struct session *s, const struct sahara_identity *told)
{
    if (!told->persuaded || s->asked || (!told->refused && s->asked_again++ < ASK_AGAIN_MAX))
        return;
    s->leaves_when_asked = true;
    worker_log(s->worker, "the modem restarts when it is asked who it is: it is not asked again");
}

static void on_silence(void *userdata)
{
    worker_listen_first(userdata, false);
}

static int find_out(struct session *s, bool fresh, bool identify, struct detect_result *ret, struct error *e)
{
    struct sahara_identity now = {0};
    struct detect_result found = {0};

    worker_phase(s->worker, "sahara", NULL);
    int r = detect_modem(s->transport, fresh, on_silence, s->worker, &found, e);
    if (r < 0)
        return explain(r, "finding out what the modem speaks", e);
    tell_mode(s, &found);
    s->recognized = false;
    bool ask = identify && found.state == DETECT_SAHARA && !s->leaves_when_asked;
    if (ask)
        r = ask_identity(s, fresh, &found, &now, e);
    if (r == -ENODEV)
        note_departure(s, &now);
    if (r < 0)
        return r;
    if (!now.have_serial)
        now.have_serial = session_product_serial(s->worker->product, &now.serial);
    /* An appearance that we could not ask and whose product string says nothing is as unknown as it was. */
    if (ask || now.have_serial || found.state == DETECT_FIREHOSE)
        r = session_check_identity(s, &now, now.complete, e);
    if (r < 0)
        return r;
    *ret = found;
    return 0;
}

/* The modem has the word: what is told of it goes out when it was asked, or lets us wait. */
static int look(struct session *s, bool fresh, bool identify, struct detect_result *ret, struct error *e)
{
    worker_listen_first(s->worker, true);
    int r = find_out(s, fresh, identify, ret, e);
    worker_listen_first(s->worker, false);
    return r;
}

static int gone_too_soon(struct error *e)
{
    int r = error_set(e, ERROR_MODEM_GONE,
                      "the modem went away %d times in a row before it had said who it is: it is never there "
                      "long enough",
                      GONE_MAX);
    error_hint(e, HINT_BRIDGE_USB_BOOT);
    return r;
}

int session_attach(struct session *s, usec_t deadline, bool identify, struct detect_result *ret,
                   struct error *e)
{
    struct error own = {0};
    e = e ? e : &own;
    if (s->transport)
        session_detach(s);
    for (unsigned gone = 0;;) {
        bool fresh = false;
        int r = open_next(s, deadline, &fresh, e);
        if (r == 0)
            r = look(s, fresh, identify, ret, e);
        if (r != -ENODEV || now_usec() >= deadline)
            return r;
        session_lost(s);
        if (++gone >= GONE_MAX)
            return gone_too_soon(e);
        *e = (struct error){0};
    }
}

/* ---- programmer ---- */

static void on_log(void *userdata, enum firehose_log_level level, const char *text)
{
    struct session *s = userdata;
    const char *prefix = "";
    if (level == FIREHOSE_LOG_ERROR) {
        prefix = "ERROR: ";
        snprintf(s->last_error_log, sizeof(s->last_error_log), "%s", text);
    } else if (level == FIREHOSE_LOG_WARN) {
        prefix = "WARN: ";
    } else if (s->quiet) {
        return;
    }
    if (text_starts_with(text, prefix))
        text += strlen(prefix);
    worker_log(s->worker, "%smodem: %s", prefix, text);
}

/*
 * An upload out of step: late answers to what was asked before (a slow modem, a host that was killed) are
 * taken for answers to it, on either side (reference/edl.md, quirk 39: RESET, and the HELLO that follows).
 * Once, and not where the modem refused the programmer itself.
 */
static int upload_again(struct session *s, const void *programmer, size_t size, struct error *e)
{
    struct error first = *e;
    struct detect_result again;
    worker_log(s->worker, "WARN: %s; trying once more", first.message);
    int r = let_settle(s);
    if (!ends_all(r))
        r = detect_return_to_hello(s->transport, &again, e);
    if (ends_all(r)) {
        *e = (struct error){0};
        return r;
    }
    *e = first;
    if (r < 0 || again.state != DETECT_SAHARA)
        return error_errno(first.kind);
    *e = (struct error){0};
    return sahara_upload(s->transport, &again.hello, programmer, size, NULL, NULL, e);
}

static void tell_programmer(struct session *s, const char *outcome)
{
    char text[64];
    snprintf(text, sizeof(text), "%s %.32s", outcome, s->programmer_id);
    if (*s->programmer_id)
        worker_tell(s->worker, KEY_PROGRAMMER, text);
}

/*
 * It took the whole programmer and went away: some do that to a signature that they do not like, and each
 * does it whose window ends just then. Towards the end of its window it is the window, and else LEFT_MAX
 * times in a row are no accident.
 */
static int judge_departure(struct session *s, struct error *e)
{
    bool late = now_usec() >= window_deadline(&s->window);
    if (!late && ++s->left_after_upload >= LEFT_MAX)
        return error_errno(e->kind);
    if (!late)
        window_close(&s->window, now_usec(), true); /* what is no window, perhaps, does not measure one */
    *e = (struct error){0};
    return error_set(e, ERROR_MODEM_GONE,
                     "it went away as soon as it had the whole programmer: its window ended%s",
                     late ? "" : ", or it does not take this one");
}

static int upload(struct session *s, const struct detect_result *found, const void *programmer, size_t size,
                  struct error *e)
{
    worker_phase(s->worker, "upload-programmer", NULL);
    int r = sahara_upload(s->transport, &found->hello, programmer, size, NULL, NULL, e);
    if (r < 0 && e->kind == ERROR_SAHARA_FAILED)
        r = upload_again(s, programmer, size, e);
    if (r == -ENODEV && e->kind == ERROR_PROGRAMMER_REJECTED)
        r = judge_departure(s, e);
    if (r < 0 && e->kind == ERROR_PROGRAMMER_REJECTED)
        tell_programmer(s, "refused");
    if (r < 0)
        return explain(r, "uploading the programmer", e);
    s->programmer_runs = true;
    s->left_after_upload = 0;
    nand_capabilities_read(programmer, size, &s->capabilities);
    r = firehose_await_banner(s->firehose, e);
    if (r < 0 && e->kind == ERROR_PROGRAMMER_REJECTED)
        tell_programmer(s, "silent");
    if (r < 0)
        return explain(r, "waiting for the programmer to start", e);
    tell_programmer(s, "accepted");
    worker_tell(s->worker, KEY_MODE, "firehose");
    if (firehose_vip(s->firehose))
        return error_set(e, ERROR_UNSUPPORTED,
                         "the programmer wants signed tables (VIP), which is not supported");
    if (firehose_banner_seen(s->firehose) && !firehose_banner_has(s->firehose, "getsha256digest"))
        s->capabilities.digest = false;
    return 0;
}

static bool sane(const struct firehose_storage *st)
{
    if (!st->valid || st->page_size < PAGE_MIN || st->page_size > PAGE_MAX ||
        (st->page_size & (st->page_size - 1)) != 0)
        return false;
    uint32_t pages = st->block_size / st->page_size;
    return st->block_size % st->page_size == 0 && pages >= PAGES_PER_BLOCK_MIN &&
           pages <= PAGES_PER_BLOCK_MAX && st->total_blocks > 0 && st->total_blocks <= BLOCKS_MAX;
}

static int look_at_storage(struct session *s, struct error *e)
{
    int r = firehose_storage_info(s->firehose, &s->storage, e);
    if (r < 0 && e->kind == ERROR_FIREHOSE_FAILED)
        error_hint(e, HINT_CONTACT_VENDOR); /* a NAND that does not open (flash rule 5) */
    if (r < 0)
        return explain(r, "asking for the storage", e);
    if (!sane(&s->storage)) {
        worker_log(s->worker,
                   "WARN: the programmer tells no usable geometry (%llu blocks of %u bytes, pages of %u)",
                   (unsigned long long)s->storage.total_blocks, s->storage.block_size, s->storage.page_size);
        s->geometry = (struct nand_geometry){0};
        return 0;
    }
    s->geometry = (struct nand_geometry){.page_size = s->storage.page_size,
                                         .pages_per_block = s->storage.block_size / s->storage.page_size,
                                         .blocks = s->storage.total_blocks};
    window_set_block_size(&s->window, s->storage.block_size);
    char text[64];
    snprintf(text, sizeof(text), "nand %u/%uK x %llu", s->geometry.page_size, s->storage.block_size / 1024,
             (unsigned long long)s->geometry.blocks);
    worker_tell(s->worker, KEY_STORAGE, text);
    return 0;
}

static int start_programmer(struct session *s, const struct detect_result *found, const void *programmer,
                            size_t size, struct error *e)
{
    if (found->state != DETECT_SAHARA && found->state != DETECT_FIREHOSE)
        return error_set(e, ERROR_WRONG_MODE,
                         "the modem takes no programmer: it is not in emergency download mode");
    s->firehose = firehose_free(s->firehose);
    s->firehose = firehose_new(s->transport);
    if (!s->firehose)
        return error_set(e, ERROR_FAILED, "no memory for the Firehose session");
    firehose_on_log(s->firehose, on_log, s);
    s->programmer_runs = s->programmer_was_running = found->state == DETECT_FIREHOSE;
    s->capabilities = (struct nand_capabilities){0};
    s->last_error_log[0] = '\0';
    int r = 0;
    if (!s->programmer_was_running)
        r = upload(s, found, programmer, size, e);
    if (r < 0)
        return r;
    worker_phase(s->worker, "configure", NULL);
    r = firehose_configure(s->firehose, 0, e);
    if (r < 0)
        return explain(r, "configuring the programmer", e);
    return look_at_storage(s, e);
}

int session_replace_programmer(struct session *s, struct error *e)
{
    struct worker *w = s->worker;
    struct error ignored = {0};
    worker_log(w,
               "a programmer runs already that may not be this package's: sending the modem back to Sahara");
    s->firehose = firehose_free(s->firehose);
    s->firehose = firehose_new(s->transport);
    if (!s->firehose)
        return error_set(e, ERROR_FAILED, "out of memory");
    worker_phase(w, "reset", NULL);
    int r = firehose_power(s->firehose, FIREHOSE_POWER_EDL, &ignored);
    if (r == 0)
        r = transport_wait(s->transport, w->link, worker_wake, w, deadline_in(leave_time));
    int asked = worker_check(w, e);
    if (asked < 0)
        return asked;
    if (r == -ENODEV) {
        session_detach(s);
        return 1;
    }
    worker_log(w, "WARN: the programmer that runs does not go back to Sahara (%s); it is used as it is",
               ignored.message);
    return 0;
}

int session_start_programmer(struct session *s, const struct detect_result *found, const void *programmer,
                             size_t size, struct error *e)
{
    struct error own = {0};
    e = e ? e : &own;
    bool critical = s->worker->critical;
    s->worker->critical = true;
    int r = start_programmer(s, found, programmer, size, e);
    s->worker->critical = critical;
    return r < 0 ? r : worker_check(s->worker, e);
}

int session_let_pass(struct session *s, struct error *e)
{
    struct worker *w = s->worker;
    bool unsafe = w->state_told && w->unsafe, cancelable = !w->state_told || w->cancelable,
         critical = w->critical;
    worker_phase(w, "wait-device", NULL);
    /* Nothing is in flight and nothing will be: the one moment in which it may be unplugged. */
    worker_state(w, false, true);
    int r = transport_wait(s->transport, w->link, worker_wake, w, window_overdue(&s->window));
    int asked = worker_check(w, e);
    worker_state(w, unsafe, cancelable);
    w->critical = critical;
    if (asked < 0)
        return asked;
    if (r == -ENODEV)
        return error_set(e, ERROR_MODEM_GONE, "its window ended as expected");
    if (r < 0 && r != -ETIMEDOUT)
        return explain(r, "waiting for the end of the modem's window", e);
    worker_log(w, "the modem is still there although its window of %.1f s is over: going on",
               (double)window_length(&s->window) / USEC_PER_SEC);
    window_outlived(&s->window);
    return 0;
}

int session_probe_fill(struct session *s, uint64_t page, struct error *e)
{
    struct error own = {0};
    e = e ? e : &own;
    struct firehose_range range = nand_range(&s->geometry, page / s->geometry.pages_per_block, 1);
    range.start = page;
    range.count = 1;
    _cleanup_free_ uint8_t *data = malloc(s->geometry.page_size);
    if (!data)
        return error_set(e, ERROR_FAILED, "no memory for a page");
    int r = firehose_read_pages(s->firehose, &range, false, data, e);
    if (r < 0)
        return explain(r, "reading an erased page", e);
    /* 0xff and 0xee are the two fills of an erased page that were seen (reference/edl.md 2.6, corrections).
     */
    bool uniform = memcmp(data, data + 1, s->geometry.page_size - 1) == 0;
    if (uniform && (data[0] == 0xff || data[0] == 0xee))
        s->erased_fill = data[0];
    return 0;
}
