/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/senders.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "service/errors.h"

#define BUS_DRIVER      "org.freedesktop.DBus"
#define BUS_DRIVER_PATH "/org/freedesktop/DBus"

struct sender {
    struct senders *owner;
    struct sender *next;
    char *name;
    bool known;
    uid_t uid;
    sd_bus_slot *slot;     /* the question that is under way */
    sd_bus_message **held; /* its calls, until the answer is there */
    size_t n_held;
};

struct senders {
    sd_bus *bus;
    sd_bus_slot *filter, *departures;
    void (*on_gone)(void *userdata, const char *name);
    void *userdata;
    struct sender *list;
    size_t n_held;
};

/* ---- one caller ---- */

static struct sender *find(const struct senders *s, const char *name)
{
    struct sender *i = s->list;
    while (i && strcmp(i->name, name) != 0)
        i = i->next;
    return i;
}

static void drop_held(struct sender *i)
{
    i->owner->n_held -= i->n_held;
    while (i->n_held > 0)
        sd_bus_message_unref(i->held[--i->n_held]);
    free(i->held);
    i->held = NULL;
}

static struct sender *sender_free(struct sender *i)
{
    if (!i)
        return NULL;
    for (struct sender **at = &i->owner->list; *at; at = &(*at)->next)
        if (*at == i) {
            *at = i->next;
            break;
        }
    drop_held(i);
    sd_bus_slot_unref(i->slot);
    free(i->name);
    free(i);
    return NULL;
}

static int hold(struct sender *i, sd_bus_message *m)
{
    sd_bus_message **grown = reallocarray(i->held, i->n_held + 1, sizeof(sd_bus_message *));
    if (!grown)
        return -ENOMEM;
    i->held = grown;
    i->held[i->n_held++] = sd_bus_message_ref(m);
    i->owner->n_held++;
    return 0;
}

/* None of its calls can be told who asks: each gets an error, which no longer matters to one that has left.
 */
static void give_up(struct sender *i, const char *why)
{
    for (size_t k = 0; k < i->n_held; k++)
        sd_bus_reply_method_errorf(i->held[k], SD_BUS_ERROR_ACCESS_DENIED,
                                   "The bus does not say who calls: %s.", why);
    sender_free(i);
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error _unused_)
{
    struct sender *i = userdata;
    uint32_t uid;
    i->slot = sd_bus_slot_unref(i->slot);
    const sd_bus_error *failure = sd_bus_message_get_error(reply);
    int r = failure ? -ENXIO : sd_bus_message_read_basic(reply, 'u', &uid);
    if (r < 0) {
        give_up(i, failure && failure->message ? failure->message : strerror(-r));
        return 1;
    }
    i->known = true;
    i->uid = (uid_t)uid;
    /* What the dispatcher has in hand goes before what it reads next: the order stays the caller's. */
    for (size_t k = 0; r >= 0 && k < i->n_held; k++)
        r = sd_bus_enqueue_for_read(i->owner->bus, i->held[k]);
    if (r < 0)
        give_up(i, strerror(-r));
    else
        drop_held(i);
    return 1;
}

static int ask(struct senders *s, const char *name, struct sender **ret)
{
    struct sender *i = calloc(1, sizeof(*i));
    if (!i)
        return -ENOMEM;
    *i = (struct sender){.owner = s, .next = s->list, .name = strdup(name)};
    s->list = i;
    int r = i->name ? sd_bus_call_method_async(s->bus, &i->slot, BUS_DRIVER, BUS_DRIVER_PATH, BUS_DRIVER,
                                               "GetConnectionUnixUser", on_answer, i, "s", name)
                    : -ENOMEM;
    if (r < 0) {
        sender_free(i);
        return r;
    }
    *ret = i;
    return 0;
}

/* ---- every message that comes ---- */

/* Reading properties and introspection need no name. */
static bool needs_sender(sd_bus_message *m)
{
    const char *interface = sd_bus_message_get_interface(m);
    return sd_bus_message_is_method_call(m, NULL, NULL) > 0 && sd_bus_message_get_sender(m) &&
           !(interface && text_starts_with(interface, BUS_DRIVER "."));
}

static size_t count_asked(const struct senders *s)
{
    size_t n = 0;
    for (const struct sender *i = s->list; i; i = i->next)
        n += !i->known;
    return n;
}

static int put_aside(struct senders *s, struct sender *i, sd_bus_message *m, sd_bus_error *error)
{
    int r = 0;
    if (s->n_held >= SENDERS_HELD_MAX || (!i && count_asked(s) >= SENDERS_ASKED_MAX))
        return errors_set(error, ERROR_LIMIT_EXCEEDED, "Too many calls at once; try again in a moment.");
    if (!i)
        r = ask(s, sd_bus_message_get_sender(m), &i);
    if (r >= 0)
        r = hold(i, m);
    return r < 0 ? r : 1;
}

/* 0: to be dispatched; 1: put aside. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct senders *s = userdata;
    if (!needs_sender(m))
        return 0;
    struct sender *i = find(s, sd_bus_message_get_sender(m));
    return i && i->known ? 0 : put_aside(s, i, m, error);
}

static int on_departure(sd_bus_message *m, void *userdata, sd_bus_error *error _unused_)
{
    struct senders *s = userdata;
    const char *name;
    int r = sd_bus_message_read(m, "s", &name);
    struct sender *i = r < 0 ? NULL : find(s, name);
    if (!i)
        return 0;
    sender_free(i);
    s->on_gone(s->userdata, name);
    return 0;
}

/* ---- life ---- */

int senders_new(sd_bus *bus, void (*on_gone)(void *userdata, const char *name), void *userdata,
                struct senders **ret)
{
    struct senders *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct senders){.bus = sd_bus_ref(bus), .on_gone = on_gone, .userdata = userdata};
    int r = sd_bus_add_filter(bus, &s->filter, on_message, s);
    if (r >= 0)
        r = sd_bus_add_match_async(bus, &s->departures,
                                   "type='signal',sender='" BUS_DRIVER "',path='" BUS_DRIVER_PATH
                                   "',interface='" BUS_DRIVER "',member='NameOwnerChanged',arg2=''",
                                   on_departure, NULL, s);
    if (r < 0) {
        senders_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct senders *senders_free(struct senders *s)
{
    if (!s)
        return NULL;
    while (s->list)
        sender_free(s->list);
    sd_bus_slot_unref(s->filter);
    sd_bus_slot_unref(s->departures);
    sd_bus_unref(s->bus);
    free(s);
    return NULL;
}

int senders_uid(const struct senders *s, sd_bus_message *m, uid_t *ret)
{
    const char *name = sd_bus_message_get_sender(m);
    const struct sender *i = name ? find(s, name) : NULL;
    if (!i || !i->known)
        return -ENXIO;
    *ret = i->uid;
    return 0;
}
