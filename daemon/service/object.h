/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What all our bus objects share: a path, a vtable, the list of properties that changed and are not signalled
 * yet, and the dictionary of properties that the List methods give. A property's value lives in the object's
 * struct at the vtable's offset: char * (NULL is ""), int for b, uint64_t, uint32_t, uint16_t, double.
 */

#include <stdint.h>
#include <systemd/sd-bus.h>
#include "base/cleanup.h"

enum { OBJECT_CHANGES_MAX = 40 };

struct object {
    sd_bus *bus;
    char *path;
    const char *interface;
    const sd_bus_vtable *vtable;
    void *userdata;                              /* the struct that the vtable's offsets count from */
    sd_bus_slot *slot;                           /* NULL: not on the bus */
    const char *changed[OBJECT_CHANGES_MAX + 1]; /* names of properties, NULL-terminated */
    size_t n_changed;
};

/* Makes the path of PREFIX/id (sd_bus_path_encode); the object is not on the bus yet. -ENOMEM. */
int object_init(struct object *o, sd_bus *bus, const char *prefix, const char *id, const char *interface,
                const sd_bus_vtable *vtable, void *userdata);
/* Puts it on the bus and tells so (InterfacesAdded). 0 or -errno. */
int object_add(struct object *o);
/* Takes it off the bus and tells so, if it is there; frees what is inside. */
void object_done(struct object *o);

/* ---- changes: each notes the property's name if the value differs; object_flush() signals them together
 * ---- */
void object_changed(struct object *o, const char *name);
/* NULL is "". */
void object_set_string(struct object *o, const char *name, char **field, const char *value);
void object_set_bool(struct object *o, const char *name, int *field, int value);
void object_set_u16(struct object *o, const char *name, uint16_t *field, uint16_t value);
void object_set_u32(struct object *o, const char *name, uint32_t *field, uint32_t value);
void object_set_u64(struct object *o, const char *name, uint64_t *field, uint64_t value);
void object_flush(struct object *o);

/* Appends "oa{sv}" as one struct: the path and every property. */
int object_append(const struct object *o, sd_bus_message *reply);

/* Longest string on the bus; object_set_string() cleans (text_clean) and cuts. */
enum { OBJECT_STRING_MAX = 4096 };
