/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

#define ERROR_PREFIX "org.qdld1.Error."

int bus_open(sd_bus **ret)
{
    int r = sd_bus_open_system(ret);
    if (r < 0) {
        fprintf(stderr, "%s: the system bus cannot be reached: %s\n", program_invocation_short_name,
                strerror(-r));
        return EXIT_NO_SERVICE;
    }
    sd_bus_set_allow_interactive_authorization(*ret, !options.no_ask_password);
    return EXIT_OK;
}

static const struct {
    const char *name;
    int code;
} exit_codes[] = {
    {SD_BUS_ERROR_SERVICE_UNKNOWN, EXIT_NO_SERVICE},
    {SD_BUS_ERROR_NAME_HAS_NO_OWNER, EXIT_NO_SERVICE},
    {SD_BUS_ERROR_NO_REPLY, EXIT_NO_SERVICE},
    {SD_BUS_ERROR_TIMEOUT, EXIT_NO_SERVICE},
    {SD_BUS_ERROR_DISCONNECTED, EXIT_NO_SERVICE},
    {SD_BUS_ERROR_NO_SERVER, EXIT_NO_SERVICE},
    {SD_BUS_ERROR_UNKNOWN_OBJECT, EXIT_NO_SUCH},
    {SD_BUS_ERROR_ACCESS_DENIED, EXIT_DENIED},
    {SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_DENIED},
    {SD_BUS_ERROR_INVALID_ARGS, EXIT_USAGE},
    {ERROR_PREFIX "AmbiguousModem", EXIT_USAGE},
    {ERROR_PREFIX "NoSuchModem", EXIT_NO_SUCH},
    {ERROR_PREFIX "NoSuchFirmware", EXIT_NO_SUCH},
    {ERROR_PREFIX "NoSuchBackup", EXIT_NO_SUCH},
    {ERROR_PREFIX "NoSuchJob", EXIT_NO_SUCH},
    {ERROR_PREFIX "ModemBusy", EXIT_BUSY},
    {ERROR_PREFIX "ModemInhibited", EXIT_BUSY},
    {ERROR_PREFIX "FirmwareInUse", EXIT_BUSY},
    {ERROR_PREFIX "LimitExceeded", EXIT_BUSY},
    {ERROR_PREFIX "ModemGone", EXIT_RETRY},
    {ERROR_PREFIX "Timeout", EXIT_RETRY},
    {ERROR_PREFIX "SaharaFailed", EXIT_RETRY},
    {ERROR_PREFIX "FirehoseFailed", EXIT_RETRY},
    {ERROR_PREFIX "DiagFailed", EXIT_RETRY},
    {ERROR_PREFIX "Interrupted", EXIT_RETRY},
};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

int bus_exit_code(const char *name)
{
    if (!name)
        return EXIT_OTHER;
    for (size_t i = 0; i < sizeof(exit_codes) / sizeof(exit_codes[0]); i++)
        if (strcmp(exit_codes[i].name, name) == 0)
            return exit_codes[i].code;
    /* The bus, or systemd for it, could not start the service. */
    if (starts_with(name, "org.freedesktop.DBus.Error.Spawn.") ||
        starts_with(name, "org.freedesktop.systemd1."))
        return EXIT_NO_SERVICE;
    return EXIT_OTHER;
}

/* What sd-bus says when the connection is gone. */
static bool is_disconnected(int r)
{
    return r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ESHUTDOWN || r == -ETIMEDOUT;
}

int bus_report(const sd_bus_error *error, int r)
{
    const char *name = error ? error->name : NULL;
    const char *message = error && error->message ? error->message : strerror(r < 0 ? -r : EIO);
    int code = is_disconnected(r) ? EXIT_NO_SERVICE : bus_exit_code(name);
    fflush(stdout);
    if (code == EXIT_NO_SERVICE)
        fprintf(stderr, "%s: the service is not reachable (see systemctl status qdld): %s\n",
                program_invocation_short_name, message);
    else if (name && starts_with(name, ERROR_PREFIX))
        fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, name + strlen(ERROR_PREFIX), message);
    else
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, message);
    return code;
}

int bus_new_call(sd_bus *bus, sd_bus_message **ret, const char *path, const char *interface,
                 const char *member)
{
    int r = sd_bus_message_new_method_call(bus, ret, BUS_NAME, path, interface, member);
    return r < 0 ? r : sd_bus_message_set_auto_start(*ret, !options.no_start);
}

int bus_append_no_options(sd_bus_message *m)
{
    return sd_bus_message_append(m, "a{sv}", 0);
}

int bus_append_queue_option(sd_bus_message *m)
{
    return options.queue ? sd_bus_message_append(m, "a{sv}", 1, "queue", "b", 1) : bus_append_no_options(m);
}

static int append_list(sd_bus_message *m, const char *name, char **list)
{
    if (!list)
        return 0;
    int r = sd_bus_message_open_container(m, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append(m, "s", name);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'v', "as");
    if (r >= 0)
        r = sd_bus_message_append_strv(m, list);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_allow(sd_bus_message *m)
{
    return append_list(m, "allow", options.allow);
}

int bus_append_flash_options(sd_bus_message *m)
{
    int r = sd_bus_message_open_container(m, 'a', "{sv}");
    if (r >= 0)
        r = append_allow(m);
    if (r >= 0 && options.modem_version)
        r = sd_bus_message_append(m, "{sv}", "modem-version", "s", options.modem_version);
    if (r >= 0 && options.no_reset)
        r = sd_bus_message_append(m, "{sv}", "reset", "b", 0);
    if (r >= 0 && options.queue)
        r = sd_bus_message_append(m, "{sv}", "queue", "b", 1);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

int bus_append_allow_option(sd_bus_message *m)
{
    int r = sd_bus_message_open_container(m, 'a', "{sv}");
    if (r >= 0)
        r = append_allow(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

int bus_append_backup_options(sd_bus_message *m)
{
    int r = sd_bus_message_open_container(m, 'a', "{sv}");
    if (r >= 0)
        r = append_list(m, "partitions", options.partitions);
    if (r >= 0)
        r = append_allow(m);
    if (r >= 0 && options.kind)
        r = sd_bus_message_append(m, "{sv}", "kind", "s", options.kind);
    if (r >= 0 && options.no_reset)
        r = sd_bus_message_append(m, "{sv}", "reset", "b", 0);
    if (r >= 0 && options.queue)
        r = sd_bus_message_append(m, "{sv}", "queue", "b", 1);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

/* usec 0: sd-bus's own limit. */
static int call(sd_bus *bus, int built, sd_bus_message *m, uint64_t usec, sd_bus_message **ret)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = built < 0 ? built : sd_bus_call(bus, m, usec, &error, ret);
    int code = r < 0 ? bus_report(&error, r) : EXIT_OK;
    sd_bus_error_free(&error);
    sd_bus_message_unref(m);
    return code;
}

int bus_call(sd_bus *bus, int built, sd_bus_message *m, sd_bus_message **ret)
{
    return call(bus, built, m, UINT64_MAX, ret);
}

int bus_call_simple(sd_bus *bus, const char *path, const char *interface, const char *member,
                    sd_bus_message **ret)
{
    sd_bus_message *m = NULL;
    agent_start();
    int r = bus_new_call(bus, &m, path, interface, member);
    if (r >= 0)
        r = bus_append_no_options(m);
    return bus_call(bus, r, m, ret);
}

int bus_call_job(sd_bus *bus, int built, sd_bus_message *m, char **ret_job)
{
    sd_bus_message *reply = NULL;
    const char *path;
    int code = bus_call(bus, built, m, &reply);
    if (code == EXIT_OK && (sd_bus_message_read(reply, "o", &path) < 0 || !(*ret_job = strdup(path)))) {
        fprintf(stderr, "%s: the service did not answer with a job\n", program_invocation_short_name);
        code = EXIT_OTHER;
    }
    sd_bus_message_unref(reply);
    return code;
}

static json_object *read_strings(sd_bus_message *m)
{
    json_object *array = json_object_new_array();
    const char *text;
    if (sd_bus_message_enter_container(m, 'a', "s") < 0)
        return array;
    while (sd_bus_message_read(m, "s", &text) > 0)
        json_object_array_add(array, json_object_new_string(text));
    sd_bus_message_exit_container(m);
    return array;
}

static json_object *read_basic(sd_bus_message *m, char type)
{
    union {
        const char *s;
        int b;
        uint16_t q;
        uint32_t u;
        uint64_t t;
        double d;
    } value;
    if (sd_bus_message_read_basic(m, type, &value) < 0)
        return NULL;
    switch (type) {
    case 's':
    case 'o':
        return json_object_new_string(value.s);
    case 'b':
        return json_object_new_boolean(value.b);
    case 'q':
        return json_object_new_int64(value.q);
    case 'u':
        return json_object_new_int64(value.u);
    case 't':
        return json_object_new_uint64(value.t);
    default:
        return json_object_new_double(value.d);
    }
}

/* The variant at hand; one of a type that this client does not know is skipped. */
static json_object *read_variant(sd_bus_message *m)
{
    char type;
    const char *contents = NULL;
    if (sd_bus_message_peek_type(m, &type, &contents) < 0 || type != 'v' || !contents)
        return NULL;
    bool basic = strlen(contents) == 1 && strchr("sobqutd", contents[0]);
    if (!basic && strcmp(contents, "as") != 0 && strcmp(contents, "a{sv}") != 0) {
        sd_bus_message_skip(m, "v");
        return NULL;
    }
    char signature[8];
    snprintf(signature, sizeof(signature), "%s", contents);
    sd_bus_message_enter_container(m, 'v', signature);
    json_object *value = basic                          ? read_basic(m, signature[0])
                         : strcmp(signature, "as") == 0 ? read_strings(m)
                                                        : bus_read_dict(m);
    sd_bus_message_exit_container(m);
    return value;
}

json_object *bus_read_dict(sd_bus_message *m)
{
    if (sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
        return NULL;
    json_object *dict = json_object_new_object();
    while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
        const char *key;
        if (sd_bus_message_read(m, "s", &key) < 0)
            break;
        json_object *value = read_variant(m);
        if (value)
            json_object_object_add(dict, key, value);
        sd_bus_message_exit_container(m);
    }
    sd_bus_message_exit_container(m);
    return dict;
}

/* "path" first, then the properties; takes dict. */
static json_object *with_path(const char *path, json_object *dict)
{
    json_object *d = json_object_new_object();
    json_object_object_add(d, "path", json_object_new_string(path));
    json_object_object_foreach(dict, key, value)
    {
        json_object_object_add(d, key, json_object_get(value));
    }
    json_object_put(dict);
    return d;
}

int bus_list(sd_bus *bus, const char *member, json_object **ret)
{
    sd_bus_message *m = NULL, *reply = NULL;
    int r = bus_new_call(bus, &m, BUS_MANAGER, "org.qdld1.Manager", member);
    if (r >= 0)
        r = bus_append_no_options(m);
    int code = call(bus, r, m, 0, &reply);
    if (code != EXIT_OK)
        return code;

    json_object *array = json_object_new_array();
    if (sd_bus_message_enter_container(reply, 'a', "(oa{sv})") >= 0)
        while (sd_bus_message_enter_container(reply, 'r', "oa{sv}") > 0) {
            const char *path;
            json_object *dict;
            if (sd_bus_message_read(reply, "o", &path) < 0 || !(dict = bus_read_dict(reply)))
                break;
            json_object_array_add(array, with_path(path, dict));
            sd_bus_message_exit_container(reply);
        }
    sd_bus_message_unref(reply);
    *ret = array;
    return EXIT_OK;
}

static int new_get_all(sd_bus *bus, const char *path, const char *interface, sd_bus_message **ret)
{
    int r = bus_new_call(bus, ret, path, "org.freedesktop.DBus.Properties", "GetAll");
    return r < 0 ? r : sd_bus_message_append(*ret, "s", interface);
}

int bus_take_all(sd_bus_message *reply, const char *path, json_object **ret)
{
    if (sd_bus_message_is_method_error(reply, NULL))
        return bus_report(sd_bus_message_get_error(reply), 0);
    json_object *dict = bus_read_dict(reply);
    if (!dict)
        return bus_report(NULL, -EBADMSG);
    *ret = with_path(path, dict);
    return EXIT_OK;
}

int bus_get_all(sd_bus *bus, const char *path, const char *interface, json_object **ret)
{
    sd_bus_message *m = NULL, *reply = NULL;
    int r = new_get_all(bus, path, interface, &m);
    int code = call(bus, r, m, 0, &reply);
    if (code == EXIT_OK)
        code = bus_take_all(reply, path, ret);
    sd_bus_message_unref(reply);
    return code;
}

int bus_ask_all(sd_bus *bus, const char *path, const char *interface, sd_bus_message_handler_t handler,
                void *userdata)
{
    sd_bus_message *m = NULL;
    int r = new_get_all(bus, path, interface, &m);
    if (r >= 0)
        r = sd_bus_call_async(bus, NULL, m, handler, userdata, 0);
    sd_bus_message_unref(m);
    return r < 0 ? bus_report(NULL, r) : EXIT_OK;
}

const char *dict_string(json_object *d, const char *key)
{
    json_object *value;
    return json_object_object_get_ex(d, key, &value) && json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

uint64_t dict_u64(json_object *d, const char *key)
{
    json_object *value;
    return json_object_object_get_ex(d, key, &value) ? json_object_get_uint64(value) : 0;
}

double dict_double(json_object *d, const char *key)
{
    json_object *value;
    return json_object_object_get_ex(d, key, &value) ? json_object_get_double(value) : 0;
}

bool dict_bool(json_object *d, const char *key)
{
    json_object *value;
    return json_object_object_get_ex(d, key, &value) && json_object_get_boolean(value);
}

const char *path_id(const char *path)
{
    static char id[256];
    char parent[256];
    const char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) >= sizeof(parent))
        return path;
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    char *decoded = NULL;
    if (sd_bus_path_decode(path, parent, &decoded) <= 0)
        return slash + 1;
    snprintf(id, sizeof(id), "%s", decoded);
    free(decoded);
    return id;
}
