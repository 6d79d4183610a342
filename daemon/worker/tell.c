/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The worker's voice: everything of worker.h that goes to the service. */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "worker/worker.h"

enum {
    PPM = 1000000,
    VALUE_MAX = 1800, /* bytes of a value that always fit a datagram: escaping makes four of one at worst */
    LOG_BYTES_MAX =
        4 * 1024 * 1024, /* the limit of a job's log (interfaces: 4 MiB); a talkative programmer ends there */
};

static const usec_t progress_interval = USEC_PER_SEC / 5;

static void send_out(struct worker *w)
{
    if (w->out.n_fields == 0 && w->out.n_fds == 0)
        return;
    int r = link_send(w->closed ? w->fd_send : w->link, &w->out);
    if (r == -EPIPE)
        w->stop = true;
}

static void flush(struct worker *w)
{
    if (!w->listens_first)
        send_out(w);
}

void worker_listen_first(struct worker *w, bool first)
{
    w->listens_first = first;
    flush(w);
}

/* The longest start of text, at most max bytes, that does not cut a UTF-8 sequence. */
static size_t cut(const char *text, size_t size, size_t max)
{
    if (size <= max)
        return size;
    size_t n = max;
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n > 0 ? n : max;
}

/* Adds to the message in hand; one that is full goes out first. A value that fits no datagram at all is cut.
 */
static void put(struct worker *w, const char *key, const char *value)
{
    int r = link_add(&w->out, key, value);
    if (r != -EMSGSIZE && r != -E2BIG)
        return;
    send_out(w);
    if (link_add(&w->out, key, value) != -EMSGSIZE)
        return;
    _cleanup_free_ char *shorter = strndup(value, cut(value, strlen(value), VALUE_MAX));
    if (shorter)
        link_add(&w->out, key, shorter);
}

static void put_u64(struct worker *w, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    put(w, key, text);
}

void worker_tell(struct worker *w, const char *key, const char *value)
{
    put(w, key, value);
    flush(w);
}

void worker_backup_fact(struct worker *w, const char *name, const char *value)
{
    char key[64];
    snprintf(key, sizeof(key), KEY_BACKUP_FACT "%s", name);
    worker_tell(w, key, value);
}

void worker_backup_number(struct worker *w, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    worker_backup_fact(w, name, text);
}

static int fill_room(struct worker *w, const void *data, size_t size, int *ret)
{
    _cleanup_close_ int fd = w->n_rooms > 0 ? w->rooms[--w->n_rooms] : -1;
    if (fd < 0)
        return -ENOSPC;
    int r = io_memfd_fill(fd, data, size);
    if (r == 0)
        *ret = steal_fd(&fd);
    return r;
}

static bool is_handed(const struct worker *w, const void *data, size_t size)
{
    return w->handed && size == w->handed_size && memcmp(w->handed, data, size) == 0;
}

void worker_tell_memfd(struct worker *w, const char *key, const void *data, size_t size)
{
    int fd = -1;
    if (is_handed(w, data, size))
        return;
    int r = fill_room(w, data, size, &fd);
    if (r < 0) {
        worker_log(w, "WARN: %s cannot be handed over: %s", key, strerror(-r));
        return;
    }
    free(w->handed);
    w->handed = malloc(size + 1);
    w->handed_size = size;
    if (w->handed)
        memcpy(w->handed, data, size);
    put(w, key, "1");
    link_add_fd(&w->out, fd);
    flush(w);
}

void worker_ready(struct worker *w)
{
    worker_tell(w, KEY_READY, "1");
}

static void put_progress(struct worker *w)
{
    put_u64(w, KEY_PROGRESS, w->progress.ppm);
    put_u64(w, KEY_BYTES_DONE, w->progress.bytes_done);
    put_u64(w, KEY_BYTES_TOTAL, w->progress.bytes_total);
    w->progress.pending = false;
    w->progress.sent = now_usec();
}

void worker_progress(struct worker *w, uint64_t ppm, uint64_t bytes_done, uint64_t bytes_total)
{
    struct worker_progress *p = &w->progress;
    uint64_t end = p->end ? p->end : PPM;
    p->ppm = MAX_OF(p->ppm, p->begin + MIN_OF(ppm, (uint64_t)PPM) * (end - p->begin) / PPM);
    p->bytes_done = bytes_done;
    p->bytes_total = bytes_total;
    p->pending = true;
    if (p->sent != 0 && now_usec() - p->sent < progress_interval)
        return;
    put_progress(w);
    flush(w);
}

void worker_progress_part(struct worker *w, uint64_t end)
{
    w->progress.begin = w->progress.ppm;
    w->progress.end = end;
}

void worker_phase(struct worker *w, const char *phase, const char *detail)
{
    if (w->progress.pending)
        put_progress(w);
    put(w, KEY_PHASE, phase);
    put(w, KEY_DETAIL, detail ? detail : "");
    flush(w);
}

void worker_state(struct worker *w, bool unsafe, bool cancelable)
{
    w->critical = !cancelable;
    /* What the service assumes of a job that said nothing yet: safe to unplug, can be cancelled. */
    bool was_unsafe = w->state_told && w->unsafe, was_cancelable = !w->state_told || w->cancelable;
    if (unsafe == was_unsafe && cancelable == was_cancelable)
        return;
    w->state_told = true;
    w->unsafe = unsafe;
    w->cancelable = cancelable;
    put(w, KEY_UNSAFE, unsafe ? "1" : "0");
    put(w, KEY_CANCELABLE, cancelable ? "1" : "0");
    flush(w);
}

static void log_text(struct worker *w, const char *text)
{
    size_t size = strlen(text);
    if (w->log_bytes >= LOG_BYTES_MAX)
        return;
    w->log_bytes += size + 1;
    if (w->log_bytes >= LOG_BYTES_MAX) {
        worker_tell(w, KEY_LOG, "WARN: the log is full, the rest is not kept");
        return;
    }
    do {
        size_t n = cut(text, size, VALUE_MAX);
        _cleanup_free_ char *piece = strndup(text, n);
        if (!piece)
            return;
        put(w, KEY_LOG, piece);
        text += n;
        size -= n;
    } while (size > 0);
    flush(w);
}

void worker_log(struct worker *w, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *raw = NULL;
    int n = vasprintf(&raw, format, ap);
    va_end(ap);
    if (n < 0)
        return;
    _cleanup_free_ char *owned = raw;
    size_t room = 4 * (size_t)n + 1; /* \xNN for every byte */
    _cleanup_free_ char *clean = malloc(room);
    if (!clean)
        return;
    text_clean(raw, (size_t)n, clean, room);
    log_text(w, clean);
}

void worker_problem(struct worker *w, const char *text)
{
    worker_tell(w, KEY_PROBLEM, text);
}

void worker_report(struct worker *w, const char *key, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *value = NULL;
    int n = vasprintf(&value, format, ap);
    va_end(ap);
    if (n < 0)
        return;
    _cleanup_free_ char *owned = value;
    char name[64];
    snprintf(name, sizeof(name), KEY_REPORT "%s", key);
    worker_tell(w, name, value);
}

void worker_result(struct worker *w, int r, struct job_outcome *o, bool hold)
{
    struct error *e = &o->error;
    const char *result = o->result;
    if (r < 0 && e->kind == ERROR_NONE) {
        if (r == -ECANCELED)
            error_set(e, ERROR_CANCELLED, "cancelled before it was done");
        else if (r == -EINTR)
            error_set(e, ERROR_INTERRUPTED, "interrupted: the service is stopping");
        else
            error_set(e, ERROR_FAILED, "the job failed: %s", strerror(-r));
    }
    if (r < 0 && strcmp(result, "done") == 0) {
        if (e->kind == ERROR_CANCELLED)
            result = "cancelled";
        else if (e->kind == ERROR_INTERRUPTED)
            result = "interrupted";
        else
            result = "failed";
    }

    if (w->progress.pending)
        put_progress(w);
    flush(w);
    /* The longest of each (base/error.h), escaped, fit one datagram together. */
    _Static_assert(4 * (ERROR_MESSAGE_SIZE + ERROR_WORDS_SIZE) + 256 < LINK_MESSAGE_MAX,
                   "a result is one message");
    put(w, KEY_RESULT, result);
    if (e->kind != ERROR_NONE) {
        put(w, KEY_ERROR, error_name(e->kind));
        put(w, KEY_MESSAGE, e->message);
        if (e->words[0])
            put(w, KEY_WORDS, e->words);
        if (e->hint != HINT_NONE)
            put(w, KEY_HINT, hint_name(e->hint));
    }
    if (hold)
        put(w, KEY_HOLDING, "1");
    flush(w);
}
