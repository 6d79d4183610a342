/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/history.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "service/errors.h"
#include "service/job.h"
#include "service/modem.h"
#include "service/options.h"

#define FILE_NAME "history"

enum {
    TEXT_MAX = 400,
    LINE_MAX_BYTES = 1024,
    FILE_ROWS_MAX = 2 * HISTORY_MAX, /* then it is written anew with those that count */
    FILE_BYTES_MAX = (FILE_ROWS_MAX + 1) * LINE_MAX_BYTES,
};

/* In this order in a line. */
enum field { TIME, EVENT, PORT, SERIAL, JOB, KIND, UID, RESULT, TEXT, FIELD_COUNT };

struct history {
    char *rows[HISTORY_MAX]; /* the oldest first */
    size_t n, in_file;
    bool torn; /* the file does not end with a whole line */
};

static const char *const names[LOG_EVENT_COUNT] = {
    [LOG_MODEM_APPEARED] = "appeared",     [LOG_MODEM_HELD] = "held",        [LOG_MODEM_LOOPING] = "looping",
    [LOG_JOB_STARTED] = "started",         [LOG_JOB_DONE] = "done",          [LOG_JOB_FAILED] = "failed",
    [LOG_JOB_INTERRUPTED] = "interrupted", [LOG_RESCUE_GAVE_UP] = "gave-up",
};

struct history *history_free(struct history *h)
{
    for (size_t i = 0; h && i < h->n; i++)
        free(h->rows[i]);
    free(h);
    return NULL;
}

/* ---- rows ---- */

/* In place: tabs become the ends of fields. */
static bool split(char *line, char *fields[FIELD_COUNT])
{
    size_t n = 0;
    for (char *p = line; p && n < FIELD_COUNT; n++) {
        fields[n] = p;
        p = strchr(p, '\t');
        if (p)
            *p++ = '\0';
    }
    return n == FIELD_COUNT;
}

static bool is_number(const char *text, uint64_t max)
{
    uint64_t unused;
    return text_parse_u64(text, 10, max, &unused) >= 0;
}

/* What stands in a file may be half a line, or anything. */
static bool is_row(const char *line)
{
    char *fields[FIELD_COUNT];
    _cleanup_free_ char *copy = strdup(line);
    if (!copy || !split(copy, fields) || !is_number(fields[TIME], UINT64_MAX) ||
        !is_number(fields[JOB], UINT64_MAX) || !is_number(fields[UID], UINT32_MAX))
        return false;
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (!text_is_clean(fields[i], strlen(fields[i])))
            return false;
    return true;
}

static void keep(struct history *h, char *row)
{
    if (h->n == HISTORY_MAX) {
        free(h->rows[0]);
        memmove(&h->rows[0], &h->rows[1], --h->n * sizeof(h->rows[0]));
    }
    h->rows[h->n++] = row;
}

/* ---- the file ---- */

static int append(struct manager *m, const char *row)
{
    struct history *h = m->history;
    _cleanup_free_ char *line = text_printf("%s\n", row);
    _cleanup_close_ int fd = store_open_file(m->store.fd_jobs, FILE_NAME, O_WRONLY | O_APPEND | O_CREAT);
    if (!line || fd < 0)
        return fd < 0 ? fd : -ENOMEM;
    int r = io_write_full(fd, line, strlen(line));
    h->torn = r < 0;
    h->in_file++;
    return r;
}

static int write_all(struct manager *m)
{
    struct history *h = m->history;
    size_t size = 0, at = 0;
    for (size_t i = 0; i < h->n; i++)
        size += strlen(h->rows[i]) + 1;
    _cleanup_free_ char *text = malloc(size + 1);
    if (!text)
        return -ENOMEM;
    for (size_t i = 0; i < h->n; i++)
        at += (size_t)snprintf(text + at, size + 1 - at, "%s\n", h->rows[i]);
    int r = store_write(m->store.fd_jobs, FILE_NAME, text, size);
    if (r == 0) {
        h->in_file = h->n;
        h->torn = false;
    }
    return r;
}

int history_load(struct manager *m)
{
    _cleanup_free_ char *text = NULL;
    char *rest = NULL;
    size_t size = 0;
    struct history *h = m->history = calloc(1, sizeof(*h));
    if (!h)
        return -ENOMEM;
    _cleanup_close_ int fd = store_open_file(m->store.fd_jobs, FILE_NAME, O_RDONLY);
    if (fd < 0 || io_read_file(fd, FILE_BYTES_MAX, &text, &size) < 0)
        return 0; /* it is told to nobody that waits for it */
    h->torn = size > 0 && text[size - 1] != '\n';
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *row = is_row(line) ? strdup(line) : NULL;
        if (row)
            keep(h, row);
        h->in_file++;
    }
    return 0;
}

/* ---- what happens ---- */

static void add(struct manager *m, enum log_event event, const struct modem *modem, const struct job *j,
                const char *text)
{
    struct history *h = m->history;
    char clean[TEXT_MAX], number[24];
    if (!h || !names[event])
        return;
    text_clean(text, strlen(text), clean, sizeof(clean));
    snprintf(number, sizeof(number), "%" PRIu64, j ? j->id : 0);
    char *row =
        text_printf("%llu\t%s\t%s\t%s\t%s\t%s\t%u\t%s\t%s", (unsigned long long)realtime_usec(), names[event],
                    modem ? modem->port : "", modem ? text_known(modem->chip_serial) : "", number,
                    j ? job_kind_name(j->job_kind) : "", j ? j->owner_uid : RESCUE_UID,
                    j ? text_known(j->result) : "", clean);
    if (!row)
        return;
    if (!is_row(row) || strlen(row) >= LINE_MAX_BYTES) {
        free(row); /* a port or a serial that no device has */
        return;
    }
    keep(h, row);
    int r = h->torn || h->in_file >= FILE_ROWS_MAX ? write_all(m) : append(m, row);
    if (r < 0)
        log_message(LOG_DEBUG, "The history cannot be written: %s.", strerror(-r));
}

void history_add_job(const struct job *j, enum log_event event, const char *text)
{
    add(j->manager, event, j->modem, j, text);
}

void history_add_modem(const struct modem *m, enum log_event event, const char *text)
{
    bool each_turn = event == LOG_MODEM_APPEARED || event == LOG_MODEM_HELD;
    if (!m->looping || !each_turn)
        add(m->manager, event, m, NULL, text);
}

/* ---- the method ---- */

/* The object of the modem that is remembered at this port now; "/" if there is none. */
static const char *path_of(const struct manager *m, const char *port)
{
    for (const struct modem *i = m->modems; *port && i; i = i->next)
        if (strcmp(i->port, port) == 0 && i->object.slot)
            return i->object.path;
    return "/";
}

static int append_row(sd_bus_message *reply, const struct manager *m, char *const f[FIELD_COUNT])
{
    uint64_t time = 0, job = 0, uid = 0;
    (void)text_parse_u64(f[TIME], 10, UINT64_MAX, &time); /* is_row() */
    (void)text_parse_u64(f[JOB], 10, UINT64_MAX, &job);
    (void)text_parse_u64(f[UID], 10, UINT32_MAX, &uid);
    return sd_bus_message_append(reply, "a{sv}", 10, "time", "t", time, "event", "s", f[EVENT], "modem", "o",
                                 path_of(m, f[PORT]), "port", "s", f[PORT], "serial", "s", f[SERIAL], "job",
                                 "t", job, "kind", "s", f[KIND], "uid", "u", (uint32_t)uid, "result", "s",
                                 f[RESULT], "text", "s", f[TEXT]);
}

struct question {
    uint64_t since;
    uint32_t limit;
    bool all;
    const struct modem *modem;
    uid_t caller;
};

static bool is_asked(const struct question *q, char *const f[FIELD_COUNT])
{
    uint64_t time = 0, uid = 0;
    (void)text_parse_u64(f[TIME], 10, UINT64_MAX, &time);
    (void)text_parse_u64(f[UID], 10, UINT32_MAX, &uid);
    if (time < q->since || (!q->all && uid != q->caller && uid != RESCUE_UID))
        return false;
    /* Of the unit wherever it was, and of whatever was at its port without a name. */
    const struct modem *m = q->modem;
    return !m || (*f[SERIAL] && *text_known(m->chip_serial) ? strcmp(f[SERIAL], m->chip_serial) == 0
                                                            : strcmp(f[PORT], m->port) == 0);
}

/* The last `limit` rows that are asked for, the oldest first. */
static int append_rows(sd_bus_message *reply, const struct manager *m, const struct question *q)
{
    const struct history *h = m->history;
    char *fields[FIELD_COUNT];
    size_t first = h->n;
    int r = sd_bus_message_open_container(reply, 'a', "a{sv}");
    for (uint32_t n = 0; first > 0 && n < q->limit; first--) {
        _cleanup_free_ char *row = strdup(h->rows[first - 1]);
        n += row && split(row, fields) && is_asked(q, fields);
    }
    for (size_t i = first; r >= 0 && i < h->n; i++) {
        _cleanup_free_ char *row = strdup(h->rows[i]);
        if (!row)
            return -ENOMEM;
        if (split(row, fields) && is_asked(q, fields))
            r = append_row(reply, m, fields);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

int history_method_get(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct manager *m = userdata;
    sd_bus_message *reply = NULL;
    struct question q = {.limit = HISTORY_MAX};
    const char *modem = NULL;
    const struct option known[] = {{"since", "t", &q.since},
                                   {"limit", "u", &q.limit},
                                   {"modem", "o", &modem},
                                   {"all", "b", &q.all},
                                   {NULL}};
    int r = options_read(message, known, error);
    if (r >= 0 && modem && !(q.modem = modem_find_path(m, modem)))
        r = errors_set(error, ERROR_NO_SUCH_MODEM, "There is no modem %s.", modem);
    if (r >= 0) {
        struct bouncer_detail details[] = {{"history", "the history of every user's jobs"}, {NULL, NULL}};
        r = manager_authorise(m, message, !q.all, false, details, error);
    }
    if (r <= 0)
        return r < 0 ? r : 1;
    r = senders_uid(m->senders, message, &q.caller);
    if (r < 0)
        return r;
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = append_rows(reply, m, &q);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}
