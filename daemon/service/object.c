/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/object.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/log.h"

int object_init(struct object *o, sd_bus *bus, const char *prefix, const char *id, const char *interface,
                const sd_bus_vtable *vtable, void *userdata)
{
    *o = (struct object){.interface = interface, .vtable = vtable, .userdata = userdata};
    int r = sd_bus_path_encode(prefix, id, &o->path);
    if (r < 0)
        return r;
    o->bus = sd_bus_ref(bus);
    return 0;
}

int object_add(struct object *o)
{
    int r = sd_bus_add_object_vtable(o->bus, &o->slot, o->path, o->interface, o->vtable, o->userdata);
    if (r < 0)
        return r;
    o->n_changed = 0;
    r = sd_bus_emit_object_added(o->bus, o->path);
    return r < 0 ? r : 0;
}

/* Takes it off the bus and tells so. Harmless if it is not there. */
static void take_off(struct object *o)
{
    if (!o->slot)
        return;
    sd_bus_emit_object_removed(o->bus, o->path);
    o->slot = sd_bus_slot_unref(o->slot);
}

void object_done(struct object *o)
{
    take_off(o);
    free(o->path);
    o->path = NULL;
    o->bus = sd_bus_unref(o->bus);
}

void object_changed(struct object *o, const char *name)
{
    for (size_t i = 0; i < o->n_changed; i++)
        if (strcmp(o->changed[i], name) == 0)
            return;
    if (o->n_changed == OBJECT_CHANGES_MAX)
        object_flush(o);
    o->changed[o->n_changed++] = name;
    o->changed[o->n_changed] = NULL;
}

void object_set_string(struct object *o, const char *name, char **field, const char *value)
{
    char clean[OBJECT_STRING_MAX + 1];
    if (!value)
        value = "";
    text_clean(value, strlen(value), clean, sizeof(clean));
    if (strcmp(*field ? *field : "", clean) == 0)
        return;
    char *copy = strdup(clean);
    if (!copy)
        return; /* the old value stays: better than none */
    free(*field);
    *field = copy;
    object_changed(o, name);
}

#define DEFINE_SETTER(suffix, type)                                                                          \
    void object_set_##suffix(struct object *o, const char *name, type *field, type value)                    \
    {                                                                                                        \
        if (*field == value)                                                                                 \
            return;                                                                                          \
        *field = value;                                                                                      \
        object_changed(o, name);                                                                             \
    }
DEFINE_SETTER(bool, int)
DEFINE_SETTER(u16, uint16_t)
DEFINE_SETTER(u32, uint32_t)
DEFINE_SETTER(u64, uint64_t)

void object_flush(struct object *o)
{
    if (o->n_changed > 0 && o->slot) {
        int r = sd_bus_emit_properties_changed_strv(o->bus, o->path, o->interface, (char **)o->changed);
        if (r < 0 && r != -ENOTCONN)
            log_message(LOG_WARNING, "%s: changes could not be signalled: %s.", o->path, strerror(-r));
    }
    o->n_changed = 0;
}

static int append_value(const struct object *o, const sd_bus_vtable *v, sd_bus_message *reply)
{
    void *field = (char *)o->userdata + v->x.property.offset;
    if (v->x.property.get)
        return v->x.property.get(o->bus, o->path, o->interface, v->x.property.member, reply, field, NULL);
    if (v->x.property.signature[0] == 's') {
        const char *text = *(char **)field;
        return sd_bus_message_append_basic(reply, 's', text ? text : "");
    }
    return sd_bus_message_append_basic(reply, v->x.property.signature[0], field);
}

int object_append(const struct object *o, sd_bus_message *reply)
{
    int r = sd_bus_message_open_container(reply, 'r', "oa{sv}");
    if (r >= 0)
        r = sd_bus_message_append_basic(reply, 'o', o->path);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "{sv}");
    for (const sd_bus_vtable *v = o->vtable; r >= 0 && v->type != _SD_BUS_VTABLE_END; v++) {
        if (v->type != _SD_BUS_VTABLE_PROPERTY)
            continue;
        r = sd_bus_message_open_container(reply, 'e', "sv");
        if (r >= 0)
            r = sd_bus_message_append_basic(reply, 's', v->x.property.member);
        if (r >= 0)
            r = sd_bus_message_open_container(reply, 'v', v->x.property.signature);
        if (r >= 0)
            r = append_value(o, v, reply);
        if (r >= 0)
            r = sd_bus_message_close_container(reply);
        if (r >= 0)
            r = sd_bus_message_close_container(reply);
    }
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}
