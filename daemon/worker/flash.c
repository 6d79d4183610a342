/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/flash.h"

#include <string.h>

#include "base/text.h"

#define LLU(n) ((unsigned long long)(n))

enum {
    PPM = 1000000,
    VERIFY_DIVISOR = 4, /* reading and hashing inside the modem against writing over the bus */
};

static void on_log(void *userdata, enum firehose_log_level level, const char *text)
{
    struct flash *f = userdata;
    const char *prefix = "";
    if (level == FIREHOSE_LOG_ERROR) {
        prefix = "ERROR: ";
        snprintf(f->session->last_error_log, sizeof(f->session->last_error_log), "%s", text);
    } else if (level == FIREHOSE_LOG_WARN) {
        prefix = "WARN: ";
    } else if (f->quiet) {
        return;
    }
    /* The programmer's own prefix gives way to the one that the job's log is sorted by. */
    if (text_starts_with(text, prefix))
        text += strlen(prefix);
    worker_log(f->worker, "%smodem: %s", prefix, text);
}

void flash_listen(struct flash *f)
{
    firehose_on_log(f->session->firehose, on_log, f);
}

void flash_listen_no_more(struct flash *f)
{
    firehose_on_log(f->session->firehose, NULL, NULL);
}

void flash_note_errors(struct flash *f, const char *what)
{
    struct firehose *firehose = f->session->firehose;
    unsigned n = firehose_error_count(firehose);
    if (n == 0)
        return;
    f->error_logs += n;
    worker_log(f->worker,
               "WARN: %u error%s from the programmer while %s (\"%s\"): what is in the flash decides", n,
               n == 1 ? "" : "s", what, firehose_first_error(firehose));
    firehose_clear_errors(firehose);
}

int flash_safe_point(struct flash *f, struct error *e)
{
    struct worker *w = f->worker;
    int r = worker_check_as(w, w->critical && f->destructive, e);
    return r < 0 || now_usec() < window_deadline(&f->session->window) ? r : session_let_pass(f->session, e);
}

int flash_end_if_asked(struct flash *f, struct error *e)
{
    return f->sbl_in_hand ? 0 : worker_check(f->worker, e);
}

const char *flash_step_name(const struct plan_step *s)
{
    static char name[64];
    if (s->partition[0])
        snprintf(name, sizeof(name), "%s", s->partition);
    else
        snprintf(name, sizeof(name), "blocks %llu to %llu", LLU(s->first_block),
                 LLU(s->first_block + s->n_blocks - 1));
    return name;
}

uint64_t flash_work(const struct flash *f, const struct plan_step *s)
{
    uint64_t page_size = f->plan->geometry.page_size;
    switch (s->action) {
    case PLAN_ERASE:
        return s->n_blocks * page_size; /* a block is erased in about the time of writing one of its pages */
    case PLAN_WRITE:
        return s->pages * page_size;
    case PLAN_VERIFY:
        return s->pages * page_size / VERIFY_DIVISOR;
    default:
        return 0;
    }
}

void flash_progress(struct flash *f)
{
    uint64_t ppm = f->work_total ? MIN_OF(f->work_done, f->work_total) * PPM / f->work_total : 0;
    worker_progress(f->worker, ppm, f->bytes_written, f->plan->bytes_to_write);
}
