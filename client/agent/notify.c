/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "org.freedesktop.Notifications"
#define PATH "/org/freedesktop/Notifications"
#define RULE "type='signal',sender='" NAME "',path='" PATH "',interface='" NAME "',member="

enum { BUBBLES_MAX = 64, URGENCY_NORMAL = 1, URGENCY_CRITICAL = 2, ANSWER_USEC = 10 * 1000000 };

struct bubble {
    char *path;
    uint32_t id; /* of the desktop; 0: none yet */
};

struct notify {
    sd_bus *bus;
    sd_bus_slot *slots[2];
    struct bubble bubbles[BUBBLES_MAX]; /* the oldest first */
    size_t n_bubbles;
    notify_rescue on_rescue;
    void *userdata;
};

static struct bubble *find(struct notify *n, const char *path)
{
    for (size_t i = 0; i < n->n_bubbles; i++)
        if (strcmp(n->bubbles[i].path, path) == 0)
            return &n->bubbles[i];
    return NULL;
}

static struct bubble *find_id(struct notify *n, uint32_t id)
{
    for (size_t i = 0; i < n->n_bubbles; i++)
        if (id && n->bubbles[i].id == id)
            return &n->bubbles[i];
    return NULL;
}

static void forget(struct notify *n, struct bubble *b)
{
    free(b->path);
    memmove(b, b + 1, (size_t)(n->bubbles + --n->n_bubbles - b) * sizeof(*b));
}

static struct bubble *get(struct notify *n, const char *path)
{
    struct bubble *b = find(n, path);
    char *copy = b ? NULL : strdup(path);
    if (b || !copy)
        return b;
    if (n->n_bubbles == BUBBLES_MAX)
        forget(n, &n->bubbles[0]);
    b = &n->bubbles[n->n_bubbles++];
    *b = (struct bubble){.path = copy};
    return b;
}

static int on_action(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct notify *n = userdata;
    const char *action;
    uint32_t id;
    (void)error;
    if (sd_bus_message_read(m, "us", &id, &action) < 0 || strcmp(action, "rescue") != 0)
        return 0;
    struct bubble *b = find_id(n, id);
    if (b)
        n->on_rescue(b->path, n->userdata);
    return 0;
}

static int on_closed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct notify *n = userdata;
    uint32_t id, reason;
    (void)error;
    struct bubble *b = sd_bus_message_read(m, "uu", &id, &reason) < 0 ? NULL : find_id(n, id);
    if (b)
        forget(n, b);
    return 0;
}

int notify_new(sd_bus *bus, notify_rescue on_rescue, void *userdata, struct notify **ret)
{
    struct notify *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    *n = (struct notify){.bus = sd_bus_ref(bus), .on_rescue = on_rescue, .userdata = userdata};
    int r = sd_bus_add_match(bus, &n->slots[0], RULE "'ActionInvoked'", on_action, n);
    if (r >= 0)
        r = sd_bus_add_match(bus, &n->slots[1], RULE "'NotificationClosed'", on_closed, n);
    if (r < 0) {
        notify_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

struct notify *notify_free(struct notify *n)
{
    if (!n)
        return NULL;
    while (n->n_bubbles)
        forget(n, &n->bubbles[0]);
    sd_bus_slot_unref(n->slots[0]);
    sd_bus_slot_unref(n->slots[1]);
    sd_bus_unref(n->bus);
    free(n);
    return NULL;
}

static int call(struct notify *n, const struct news *news, uint32_t *id, sd_bus_error *error)
{
    sd_bus_message *m = NULL, *reply = NULL;
    uint8_t urgency = news->urgent ? URGENCY_CRITICAL : URGENCY_NORMAL;
    int r = sd_bus_message_new_method_call(n->bus, &m, NAME, PATH, NAME, "Notify");
    if (r >= 0)
        r = sd_bus_message_append(m, "susss", "qdl-agent", *id, "modem", news->summary, news->body);
    if (r >= 0)
        r = news->can_rescue ? sd_bus_message_append(m, "as", 2, "rescue", "Rescue")
                             : sd_bus_message_append(m, "as", 0);
    if (r >= 0)
        r = sd_bus_message_append(m, "a{sv}i", 2, "urgency", "y", urgency, "desktop-entry", "s",
                                  "org.qdld1.agent", -1);
    if (r >= 0)
        r = sd_bus_call(n->bus, m, ANSWER_USEC, error, &reply);
    if (r >= 0)
        r = sd_bus_message_read(reply, "u", id);
    sd_bus_message_unref(reply);
    sd_bus_message_unref(m);
    return r;
}

/* The body may be read as markup. What comes from a modem is plain text. */
static void escape(const char *text, char *out, size_t size)
{
    size_t n = 0;
    for (; *text && n + 6 < size; text++) {
        const char *as = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : NULL;
        if (as)
            n += (size_t)snprintf(out + n, size - n, "%s", as);
        else
            out[n++] = *text;
    }
    for (; n > 0 && ((unsigned char)*text & 0xc0) == 0x80; n--) /* not half a character */
        text--;
    out[n] = '\0';
}

void notify_show(struct notify *n, const char *path, const struct news *news)
{
    struct bubble *b = get(n, path);
    sd_bus_error error = SD_BUS_ERROR_NULL;
    struct news plain = *news;
    if (!b)
        return;
    escape(news->body, plain.body, sizeof(plain.body));
    int r = call(n, &plain, &b->id, &error);
    if (r < 0)
        fprintf(stderr, "qdl-agent: cannot show \"%s\": %s\n", news->summary,
                error.message ? error.message : strerror(-r));
    sd_bus_error_free(&error);
}
