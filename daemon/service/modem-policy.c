/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Modem.Catch, SetPolicy and Forget, Manager.ArmPort. */

#include "service/modem-inner.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/candidates.h"
#include "service/errors.h"
#include "service/log.h"
#include "service/options.h"

enum { PORT_BYTES_MAX = 128, VERSION_BYTES_MAX = 127 };

/* ---- Catch ---- */

int modem_method_catch(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct firmware *list[CANDIDATES_MAX];
    struct job *j = NULL;
    bool queue = false;
    uint64_t timeout = 0;
    const struct option options[] = {{"timeout", "t", &timeout}, {"queue", "b", &queue}, {NULL}};
    int r = options_read(message, options, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (!m->held && candidates_find(m, true, list) == 0)
        return errors_set(
            error, ERROR_NO_SUCH_FIRMWARE,
            "No package in the library has a programmer for %s; import the one whose name begins as the "
            "version on the modem's label.",
            modem_title(m));
    r = modem_new_job(m, message, JOB_CATCH, &j, error);
    if (r < 0)
        return r;
    j->timeout = timeout;
    return job_begin(j, message, queue, error);
}

/* ---- policies ---- */

struct policy_call {
    const char *mode, *path, *modem_version;
    struct firmware *firmware; /* of rescue */
};

static int read_call(struct manager *manager, sd_bus_message *message, struct policy_call *c,
                     sd_bus_error *error)
{
    const struct option options[] = {{"modem-version", "s", &c->modem_version}, {NULL}};
    c->modem_version = "";
    int r = sd_bus_message_read(message, "so", &c->mode, &c->path);
    if (r >= 0)
        r = options_read(message, options, error);
    if (r < 0)
        return r;
    size_t n = strlen(c->modem_version);
    bool rescue = strcmp(c->mode, "rescue") == 0, none = strcmp(c->path, "/") == 0;
    if (n > VERSION_BYTES_MAX || !text_is_clean(c->modem_version, n))
        return errors_set(error, ERROR_INVALID_ARGS, "The option \"modem-version\" is no version name.");
    if (!rescue && strcmp(c->mode, "hold") != 0 && strcmp(c->mode, "off") != 0)
        return errors_set(error, ERROR_INVALID_ARGS, "A policy is off, hold or rescue, not \"%.64s\".",
                          c->mode);
    if (!rescue && (!none || n > 0))
        return errors_set(
            error, ERROR_INVALID_ARGS,
            "A firmware (and the option \"modem-version\") goes with the policy rescue; for %s it is \"/\".",
            c->mode);
    if (rescue && none)
        return errors_set(error, ERROR_INVALID_ARGS, "The policy rescue needs the firmware to flash.");
    return rescue ? modem_find_firmware(manager, c->path, &c->firmware, error) : 0;
}

/*
 * Flash rule 2, as far as it can be said today: a policy that every attempt would refuse is refused now. What
 * the modem's own flash says is for the worker.
 */
static int check_match(const struct modem *m, const struct policy_call *c, sd_bus_error *error)
{
    const struct firmware *f = c->firmware;
    const char *runs = *text_known(m->family_version) ? m->family_version : c->modem_version;
    if (!f)
        return 0;
    if (!*f->prefix || !*f->baseline)
        return errors_set(error, ERROR_WRONG_FIRMWARE,
                          "What firmware %s is for cannot be told from its name, so no policy can flash it.",
                          f->id);
    _cleanup_free_ char *family = text_printf("%s%s", f->prefix, f->baseline);
    if (!family)
        return -ENOMEM;
    if (*runs &&
        (!text_starts_with(runs, family) || (*f->memory && !strstr(runs + strlen(family), f->memory))))
        return errors_set(error, ERROR_WRONG_FIRMWARE,
                          "%s runs %s, and firmware %s is for %s…%s: it would be refused each time.",
                          modem_title(m), runs, f->name, family, f->memory);
    return 0;
}

static int apply(struct modem *m, bool port, const struct policy_call *c, sd_bus_error *error)
{
    int r = policy_set(m, port, c->mode, c->firmware ? c->firmware->id : "", c->modem_version);
    if (r < 0)
        return errors_set(error, ERROR_NO_SPACE, "The policy cannot be recorded: %s.", strerror(-r));
    log_message(LOG_INFO, "The policy of %s is %s%s%s now.", modem_title(m), c->mode,
                c->firmware ? " with " : "", c->firmware ? c->firmware->name : "");
    m->forgotten = false;
    if (m->job && policy_is(m, "off"))
        job_preempt(m->job); /* it had the modem in one window, and waits for the next */
    rescue_reset(m);
    object_flush(&m->object);
    return 0;
}

int modem_method_set_policy(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    struct policy_call c = {0};
    int r = read_call(m->manager, message, &c, error);
    if (r >= 0 && !*m->port)
        r = errors_set(error, ERROR_UNSUPPORTED,
                       "%s is at a port that udev has no ID_PATH for: nothing can be remembered of it.",
                       modem_title(m));
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, c.firmware ? "firmware" : NULL,
                            c.firmware ? c.firmware->name : NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = check_match(m, &c, error);
    if (r >= 0)
        r = apply(m, false, &c, error);
    return r < 0 ? r : sd_bus_reply_method_return(message, NULL);
}

/* An ID_PATH: "pci-0000:00:14.0-usb-0:1.2". */
static bool is_port(const char *port)
{
    size_t n = strlen(port);
    return n > 0 && n <= PORT_BYTES_MAX && appearance_port_fits(port) &&
           strspn(port, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_-+@") == n;
}

static struct modem *find_port(const struct manager *manager, const char *port)
{
    struct modem *m = manager->modems;
    while (m && strcmp(m->port, port) != 0)
        m = m->next;
    return m;
}

int policy_method_arm_port(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct manager *manager = userdata;
    struct policy_call c = {0};
    const char *port = "";
    int r = sd_bus_message_read_basic(message, 's', &port);
    if (r >= 0)
        r = read_call(manager, message, &c, error);
    if (r >= 0 && !is_port(port))
        r = errors_set(error, ERROR_INVALID_ARGS, "\"%.128s\" is no port: udev's ID_PATH is meant.", port);
    if (r >= 0) {
        struct bouncer_detail details[] = {
            {"modem", port},
            {c.firmware ? "firmware" : NULL, c.firmware ? c.firmware->name : NULL},
            {NULL, NULL}};
        r = manager_authorise(manager, message, false, NULL, details, error);
    }
    if (r <= 0)
        return r < 0 ? r : 1;
    struct modem *m = find_port(manager, port);
    if (!(m && *text_known(m->port_policy.mode)) && policy_count_armed(manager) >= POLICY_ARMED_MAX)
        return errors_set(error, ERROR_LIMIT_EXCEEDED, "%d ports are armed; at most so many are.",
                          POLICY_ARMED_MAX);
    r = modem_get(manager, port, m ? text_known(m->kernel_name) : "", &m);
    if (r >= 0)
        r = check_match(m, &c, error);
    if (r >= 0)
        r = apply(m, true, &c, error);
    if (r >= 0 && !m->object.slot)
        r = object_add(&m->object);
    if (r < 0 && m && !m->object.slot)
        m->forgotten = true; /* made for this, and for nothing */
    manager_update(manager);
    return r < 0 ? r : sd_bus_reply_method_return(message, NULL);
}

/* ---- Forget ---- */

int modem_method_forget(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    struct modem *m = userdata;
    int r = options_read(message, NULL, error);
    if (r >= 0)
        r = modem_authorise(m, message, false, NULL, NULL, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (m->job && !job_preempt(m->job))
        return errors_set(error, ERROR_MODEM_BUSY, "%s is busy with %s.", modem_title(m), job_title(m->job));
    log_message(LOG_INFO, "What was known of %s is forgotten.", modem_title(m));
    modem_forget(m);
    policy_forget(m);
    rescue_reset(m);
    m->forgotten = true;
    object_flush(&m->object);
    manager_update(m->manager);
    return sd_bus_reply_method_return(message, NULL);
}
