/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "service/errors.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define IDENTIFIER     "qdld"

static const char *const event_ids[] = {
    [LOG_MODEM_APPEARED] = "22537d5ffa6f4877b00ec00de8a2bf6c",
    [LOG_MODEM_HELD] = "bd06d56524c24d80b410880745cda4a1",
    [LOG_MODEM_LOOPING] = "7e6e24784ecb4ec8b6e23c4841cda306",
    [LOG_JOB_STARTED] = "235ceba0290c4837b67271dd82008f07",
    [LOG_JOB_DONE] = "7d6173e37a734924ba1edbad7eb66d2a",
    [LOG_JOB_FAILED] = "cfc1e80c4ce245298ce14661fa4d1381",
    [LOG_JOB_INTERRUPTED] = "ce4929c958934fa6ba011237f9c8c856",
    [LOG_WORKER_KILLED] = "375d1d685c38474ea714301d2d68c481",
    [LOG_RESCUE_GAVE_UP] = "921cf4a98e104c83a563d9027951fa68",
    [LOG_BACKUP_STORED] = "5d29a095617f4c428a671db6be40a30c",
    [LOG_BACKUP_LOST] = "ed3b9abc901b48d4a21ace5bd101f40b",
    [LOG_RECORD_DAMAGED] = "1f36d4f10b2c4fe5aaa860eba5b10b69",
    [LOG_DENIED] = "4df1806eb72541f8b74c22f1fced5f7d",
    [LOG_NEIGHBOUR] = "41c70b97703a48078c33a1de61a872f1",
};

/* In the order of their numbers in syslog.h. */
static const char *const levels[] = {"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"};

enum target { TARGET_JOURNAL, TARGET_CONSOLE, TARGET_NULL };
static const char *const targets[] = {"journal", "console", "null"};

static struct {
    int fd; /* connected to the journal; -1 */
    int level;
    enum target target;
    unsigned long lost; /* lines that the journal did not take */
} out = {.fd = -1, .level = LOG_INFO, .target = TARGET_CONSOLE};

const char *log_event_id(enum log_event event)
{
    return (size_t)event < ARRAY_SIZE(event_ids) ? event_ids[event] : NULL;
}

int log_open(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    path = path ? path : JOURNAL_SOCKET;
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    log_close();
    out.fd = steal_fd(&fd);
    out.target = TARGET_JOURNAL;
    return 0;
}

void log_close(void)
{
    if (out.fd >= 0)
        close(out.fd);
    out.fd = -1;
    out.target = TARGET_CONSOLE;
}

static int find(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -EINVAL;
}

int log_set_level(const char *name)
{
    int level = find(levels, ARRAY_SIZE(levels), name);
    if (level < 0)
        return level;
    out.level = level;
    return 0;
}

int log_set_target(const char *name)
{
    int target = find(targets, ARRAY_SIZE(targets), name);
    if (target < 0)
        return target;
    if (target == TARGET_JOURNAL && out.fd < 0)
        return log_open(NULL);
    out.target = (enum target)target;
    return 0;
}

/* ---- writing ---- */

/* The entry whole in one datagram of the native protocol: KEY=VALUE lines. Values are clean, so none holds a
 * newline. */
static bool send_entry(int level, const char *id, const struct log_field *fields, const char *text)
{
    char entry[2 * LOG_TEXT_MAX];
    _cleanup_fclose_ FILE *f = fmemopen(entry, sizeof(entry), "w");
    if (!f)
        return false;
    fprintf(f, "PRIORITY=%d\nSYSLOG_IDENTIFIER=" IDENTIFIER "\nMESSAGE=%s\n", level, text);
    if (id)
        fprintf(f, "MESSAGE_ID=%s\n", id);
    for (size_t i = 0; fields && i < LOG_FIELDS_MAX && fields[i].key; i++) {
        const char *value = fields[i].value ? fields[i].value : "";
        char clean[256];
        if (text_clean(value, strlen(value), clean, sizeof(clean)) > 0)
            fprintf(f, "%s=%s\n", fields[i].key, clean);
    }
    long size = fflush(f) == 0 ? ftell(f) : -1;
    return size > 0 && send(out.fd, entry, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) == size;
}

/* journald was restarted: its socket is another one now. */
static bool send_again(int level, const char *id, const struct log_field *fields, const char *text)
{
    if (send_entry(level, id, fields, text))
        return true;
    return errno != EAGAIN && errno != ENOBUFS && log_open(NULL) >= 0 && send_entry(level, id, fields, text);
}

static void write_entry(int level, const char *id, const struct log_field *fields, const char *format,
                        va_list arguments)
{
    char raw[LOG_TEXT_MAX], text[LOG_TEXT_MAX];
    if (level > out.level || out.target == TARGET_NULL)
        return;
    int n = vsnprintf(raw, sizeof(raw), format, arguments);
    if (n < 0)
        return;
    text_clean(raw, MIN_OF((size_t)n, sizeof(raw) - 1), text, sizeof(text));
    if (out.target == TARGET_CONSOLE) {
        fprintf(stderr, "<%d>%s\n", level, text);
        return;
    }
    if (out.lost > 0) {
        char note[96];
        snprintf(note, sizeof(note), "%lu lines before this one were not taken by the journal.", out.lost);
        if (send_again(LOG_WARNING, NULL, NULL, note))
            out.lost = 0;
    }
    if (!send_again(level, id, fields, text))
        out.lost++;
}

void log_message(int level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_entry(level, NULL, NULL, format, arguments);
    va_end(arguments);
}

void log_event(enum log_event event, int level, const struct log_field *fields, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_entry(level, log_event_id(event), fields, format, arguments);
    va_end(arguments);
}

/* ---- org.freedesktop.LogControl1 ---- */

static const char *get_identifier(void)
{
    return IDENTIFIER;
}

static const char *get_level(void)
{
    return levels[out.level];
}

static const char *get_target(void)
{
    return targets[out.target];
}

static const struct control {
    const char *property;
    const char *(*get)(void);
    int (*set)(const char *name);
    const char *choices;
} controls[] = {
    {"LogLevel", get_level, log_set_level, "a log level: emerg to debug"},
    {"LogTarget", get_target, log_set_target, "a log target that can be had: journal, console or null"},
    {"SyslogIdentifier", get_identifier, NULL, NULL},
};

/* Of a property of the vtable. */
static const struct control *find_control(const char *property)
{
    const struct control *c = controls;
    while (strcmp(c->property, property) != 0)
        c++;
    return c;
}

static int get_control(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                       const char *property, sd_bus_message *reply, void *userdata _unused_,
                       sd_bus_error *error _unused_)
{
    return sd_bus_message_append(reply, "s", find_control(property)->get());
}

static int set_control(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                       const char *property, sd_bus_message *value, void *userdata _unused_,
                       sd_bus_error *error)
{
    const struct control *c = find_control(property);
    const char *name;
    int r = sd_bus_message_read(value, "s", &name);
    if (r < 0)
        return r;
    r = c->set(name);
    return r < 0 ? errors_set(error, ERROR_INVALID_ARGS, "\"%.32s\" is not %s.", name, c->choices) : 0;
}

/* Unprivileged for sd-bus, whose own check asks the bus and waits for the answer; the bus policy lets root
 * only reach this path. */
static const sd_bus_vtable control_vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_control, set_control, 0, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_control, set_control, 0, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("SyslogIdentifier", "s", get_control, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_VTABLE_END,
};

int log_control_add(sd_bus *bus, sd_bus_slot **ret)
{
    return sd_bus_add_object_vtable(bus, ret, LOG_CONTROL_PATH, "org.freedesktop.LogControl1", control_vtable,
                                    NULL);
}
