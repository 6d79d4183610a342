/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/bouncer.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "service/errors.h"
#include "service/log.h"
#include "service/refusals.h"

#define ACTION_PREFIX "org.qdld1."
#define FREE          "" /* everybody may */

static const struct row {
    const char *interface, *method;
    const char *action; /* behind org.qdld1. */
    const char *milder; /* the owner, or the milder case; NULL: no difference */
} table[] = {
    {"org.qdld1.Manager", "ListModems", FREE, NULL},
    {"org.qdld1.Manager", "ListFirmware", FREE, NULL},
    {"org.qdld1.Manager", "ListBackups", FREE, NULL},
    {"org.qdld1.Manager", "ListJobs", FREE, NULL},
    {"org.qdld1.Manager", "GetHistory", "manage", FREE},
    {"org.qdld1.Manager", "ImportFirmware", "import", NULL},
    {"org.qdld1.Manager", "ImportBackup", "import", NULL},
    {"org.qdld1.Manager", "ArmPort", "set-policy", NULL},
    {"org.qdld1.Modem", "Identify", "identify", NULL},
    {"org.qdld1.Modem", "Catch", "catch", NULL},
    {"org.qdld1.Modem", "Rescue", "flash", NULL},
    {"org.qdld1.Modem", "SetPolicy", "set-policy", NULL},
    {"org.qdld1.Modem", "Forget", "set-policy", NULL},
    {"org.qdld1.Modem", "Plan", FREE, NULL},
    {"org.qdld1.Modem", "Flash", "flash", NULL},
    {"org.qdld1.Modem", "Backup", "backup", NULL},
    {"org.qdld1.Modem", "CollectDump", "backup", NULL},
    {"org.qdld1.Modem", "Restore", "restore", NULL},
    {"org.qdld1.Modem", "GetIdentity", "export-backup", NULL},
    {"org.qdld1.Modem", "EnterEdl", "enter-edl", NULL},
    {"org.qdld1.Modem", "Reset", "enter-edl", "reset"},
    {"org.qdld1.Modem", "Inhibit", "inhibit", NULL},
    {"org.qdld1.Firmware", "Verify", "import", NULL},
    {"org.qdld1.Firmware", "Remove", "manage", "import"},
    {"org.qdld1.Backup", "Open", "export-backup-other", "export-backup"},
    {"org.qdld1.Backup", "Verify", "backup", NULL},
    {"org.qdld1.Backup", "Remove", "manage", NULL},
    {"org.qdld1.Job", "Cancel", "cancel-other", FREE},
    {"org.qdld1.Job", "Wait", FREE, NULL},
    {"org.qdld1.Job", "GetLog", "manage", FREE},
    {"org.qdld1.Job", "Release", "manage", FREE},
};

enum { ACTIONS_MAX = 2, DETAILS_MAX = 8 };

#define DECISION_LIFE (60 * USEC_PER_SEC)

enum { CHECK_INTERACTIVE = 1 }; /* polkit's AllowUserInteraction */

/* One message that waits for polkit. */
struct pending {
    struct bouncer *bouncer;
    struct pending *next;
    sd_bus_message *message;
    sd_bus_slot *slot;
    uid_t uid;
    const char *actions[ACTIONS_MAX]; /* asked one after the other */
    size_t n_actions, asked;
    char *details[DETAILS_MAX][2];
    size_t n_details;
    bool decided;
    usec_t decided_at;
    int result; /* 1 or a negative errno, with error */
    sd_bus_error error;
};

struct bouncer {
    sd_bus *bus;
    const struct senders *senders;
    unsigned pending_max;
    struct pending *pending;
};

int bouncer_new(sd_bus *bus, const struct senders *senders, const struct config *config, struct bouncer **ret)
{
    struct bouncer *b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->bus = sd_bus_ref(bus);
    b->senders = senders;
    b->pending_max = config->pending_auth_per_uid;
    *ret = b;
    return 0;
}

static struct pending *pending_free(struct pending *p)
{
    if (!p)
        return NULL;
    for (struct pending **i = &p->bouncer->pending; *i; i = &(*i)->next)
        if (*i == p) {
            *i = p->next;
            break;
        }
    for (size_t i = 0; i < p->n_details; i++) {
        free(p->details[i][0]);
        free(p->details[i][1]);
    }
    sd_bus_slot_unref(p->slot);
    sd_bus_message_unref(p->message);
    sd_bus_error_free(&p->error);
    free(p);
    return NULL;
}

struct bouncer *bouncer_free(struct bouncer *b)
{
    if (!b)
        return NULL;
    while (b->pending)
        pending_free(b->pending);
    sd_bus_unref(b->bus);
    free(b);
    return NULL;
}

static const struct row *find_row(sd_bus_message *m)
{
    const char *interface = sd_bus_message_get_interface(m), *method = sd_bus_message_get_member(m);
    for (size_t i = 0; interface && method && i < ARRAY_SIZE(table); i++)
        if (strcmp(table[i].interface, interface) == 0 && strcmp(table[i].method, method) == 0)
            return &table[i];
    return NULL;
}

static int ask(struct pending *p);

/* The answer is known: let the message run through the dispatcher once more, from its first argument. */
static int decide(struct pending *p, int result)
{
    p->decided = true;
    p->decided_at = now_usec();
    p->result = result;
    p->slot = sd_bus_slot_unref(p->slot);
    int r = sd_bus_message_rewind(p->message, true);
    if (r >= 0)
        r = sd_bus_enqueue_for_read(p->bouncer->bus, p->message);
    if (r < 0)
        pending_free(p);
    return 1;
}

/* Not a challenge that the caller may still answer: that is how every interactive client begins. */
static void log_denied(const struct pending *p)
{
    char uid[16];
    snprintf(uid, sizeof(uid), "%u", p->uid);
    const struct log_field fields[] = {{LOG_FIELD_UID, uid}, {NULL}};
    log_event(LOG_DENIED, LOG_NOTICE, fields, "User %u was not authorised for %s (" ACTION_PREFIX "%s).",
              p->uid, sd_bus_message_get_member(p->message), p->actions[p->asked]);
}

static int deny(struct pending *p, bool challenge)
{
    const char *name =
        challenge ? SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED : SD_BUS_ERROR_ACCESS_DENIED;
    int r = sd_bus_error_setf(&p->error, name, "Not authorised: %s%s is needed for %s.", ACTION_PREFIX,
                              p->actions[p->asked], sd_bus_message_get_member(p->message));
    if (!challenge)
        log_denied(p);
    return decide(p, r < 0 ? r : -EACCES);
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error _unused_)
{
    struct pending *p = userdata;
    int authorised = 0, challenge = 0;

    /* No polkitd, or one that cannot answer for this caller: nobody but root. */
    if (sd_bus_message_is_method_error(reply, NULL))
        return deny(p, false);
    int r = sd_bus_message_enter_container(reply, 'r', "bba{ss}");
    if (r > 0)
        r = sd_bus_message_read(reply, "bb", &authorised, &challenge);
    if (r <= 0 || !authorised)
        return deny(p, r > 0 && challenge);

    p->asked++;
    if (p->asked == p->n_actions)
        return decide(p, 1);
    p->slot = sd_bus_slot_unref(p->slot);
    return ask(p) < 0 ? deny(p, false) : 1;
}

/* CheckAuthorization for the next action: subject (sa{sv}), action s, details a{ss}, flags u, cancellation id
 * s. */
static int ask(struct pending *p)
{
    sd_bus_message *m = NULL;
    char action[64];
    snprintf(action, sizeof(action), ACTION_PREFIX "%s", p->actions[p->asked]);

    int r = sd_bus_message_new_method_call(p->bouncer->bus, &m, "org.freedesktop.PolicyKit1",
                                           "/org/freedesktop/PolicyKit1/Authority",
                                           "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
    if (r >= 0)
        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(p->message), action);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'a', "{ss}");
    for (size_t i = 0; r >= 0 && i < p->n_details; i++)
        r = sd_bus_message_append(m, "{ss}", p->details[i][0], p->details[i][1]);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    if (r >= 0)
        r = sd_bus_message_append(
            m, "us",
            sd_bus_message_get_allow_interactive_authorization(p->message) > 0 ? CHECK_INTERACTIVE : 0, "");
    /* A prompt waits for a person: no time-out of ours. */
    if (r >= 0)
        r = sd_bus_call_async(p->bouncer->bus, &p->slot, m, on_answer, p, UINT64_MAX);
    sd_bus_message_unref(m);
    return r;
}

/*
 * Takes the decision of a message that was dispatched again; 0 if it was not. What it is about may have
 * changed while polkit was asked (a package removed and imported by somebody else under the same id): the
 * answer counts for what was asked only.
 */
static int take_decision(struct bouncer *b, sd_bus_message *m, const char *const *actions, size_t n_actions,
                         sd_bus_error *error)
{
    for (struct pending *p = b->pending; p; p = p->next)
        if (p->message == m && p->decided) {
            int result = p->result;
            bool same = p->n_actions == n_actions;
            for (size_t i = 0; same && i < n_actions; i++)
                same = strcmp(p->actions[i], actions[i]) == 0;
            if (result < 0)
                sd_bus_error_move(error, &p->error);
            else if (!same)
                result =
                    sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                      "Not authorised: it changed while the authorisation was asked for; "
                                      "try again.");
            pending_free(p);
            return result;
        }
    return 0;
}

/* Those that still wait for polkit. */
static unsigned count_pending(const struct bouncer *b, uid_t uid)
{
    unsigned n = 0;
    for (const struct pending *p = b->pending; p; p = p->next)
        n += p->uid == uid && !p->decided;
    return n;
}

/* A decision is taken by the very next dispatch of its message, unless its object has gone meanwhile: then
 * nobody asks for it any more. */
static void forget_orphans(struct bouncer *b)
{
    usec_t now = now_usec();
    for (struct pending *p = b->pending, *next; p; p = next) {
        next = p->next;
        if (p->decided && now - p->decided_at > DECISION_LIFE)
            pending_free(p);
    }
}

void bouncer_forget(struct bouncer *b, const char *sender)
{
    for (struct pending *p = b->pending, *next; p; p = next) {
        next = p->next;
        if (!p->decided && strcmp(sd_bus_message_get_sender(p->message), sender) == 0)
            pending_free(p);
    }
}

static int add_detail(struct pending *p, const char *key, const char *value)
{
    if (p->n_details == DETAILS_MAX)
        return -E2BIG;
    char **detail = p->details[p->n_details++];
    detail[0] = strdup(key);
    detail[1] = strdup(value ? value : "");
    return detail[0] && detail[1] ? 0 : -ENOMEM;
}

/* Who authorises it shall know what it is that is not minded. */
static int add_lifted(struct pending *p, const char *lifted)
{
    char refusals[REFUSALS_PHRASE_SIZE];
    refusals_print(lifted, refusals);
    int r = add_detail(p, "operation", sd_bus_message_get_member(p->message));
    return r < 0 ? r : add_detail(p, "refusals", refusals);
}

int bouncer_check(struct bouncer *b, sd_bus_message *m, bool milder, const char *lifted,
                  const struct bouncer_detail *details, sd_bus_error *error)
{
    const struct row *row = find_row(m);
    if (!row)
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "No rule allows %s.",
                                 sd_bus_message_get_member(m));
    const char *action = milder && row->milder ? row->milder : row->action;
    const char *actions[ACTIONS_MAX] = {NULL};
    size_t n_actions = 0;
    if (*action)
        actions[n_actions++] = action;
    if (lifted && *lifted)
        actions[n_actions++] = "force";
    int r = take_decision(b, m, actions, n_actions, error);
    if (r != 0)
        return r;
    if (n_actions == 0)
        return 1;

    uid_t uid;
    r = senders_uid(b->senders, m, &uid);
    if (r < 0)
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "The caller left the bus.");
    if (uid == 0 || uid == geteuid())
        return 1;
    forget_orphans(b);
    if (count_pending(b, uid) >= b->pending_max)
        return errors_set(error, ERROR_LIMIT_EXCEEDED,
                          "User %u has %u authorisations pending; answer them first.", uid, b->pending_max);

    struct pending *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    *p = (struct pending){.bouncer = b, .next = b->pending, .message = sd_bus_message_ref(m), .uid = uid};
    b->pending = p;
    memcpy(p->actions, actions, sizeof(p->actions));
    p->n_actions = n_actions;
    r = details && details->key ? add_detail(p, "target", details->value) : 0;
    for (; r >= 0 && details && details->key; details++)
        r = add_detail(p, details->key, details->value);
    if (r >= 0 && lifted && *lifted)
        r = add_lifted(p, lifted);
    if (r < 0) {
        pending_free(p);
        return r;
    }
    r = ask(p);
    if (r < 0) {
        pending_free(p);
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "polkit could not be asked: %s.",
                                 strerror(-r));
    }
    return 0;
}

void bouncer_print_table(FILE *f)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *milder = table[i].milder ? table[i].milder : table[i].action;
        fprintf(f, "%s %s %s %s\n", table[i].interface, table[i].method,
                *table[i].action ? table[i].action : "-", *milder ? milder : "-");
    }
}
