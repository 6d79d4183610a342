/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/options.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "service/errors.h"

enum { OPTIONS_MAX = 16 }; /* of one method */

char **options_free_list(char **list)
{
    for (char **i = list; i && *i; i++)
        free(*i);
    free(list);
    return NULL;
}

static int read_value(sd_bus_message *m, const struct option *o)
{
    int boolean, r;
    if (strcmp(o->type, "b") == 0) {
        r = sd_bus_message_read_basic(m, 'b', &boolean);
        if (r > 0)
            *(bool *)o->value = boolean;
        return r;
    }
    if (strcmp(o->type, "as") == 0) {
        char **list = NULL;
        r = sd_bus_message_read_strv(m, &list);
        if (r < 0)
            return r;
        options_free_list(*(char ***)o->value);
        *(char ***)o->value = list;
        return 1;
    }
    return sd_bus_message_read_basic(m, o->type[0], o->value);
}

static int read_entry(sd_bus_message *m, const struct option *known, bool *seen, sd_bus_error *error)
{
    const char *key = NULL, *contents = NULL;
    int r = sd_bus_message_read_basic(m, 's', &key);
    if (r < 0)
        return r;
    size_t i = 0;
    while (known && known[i].name && strcmp(known[i].name, key) != 0)
        i++;
    if (!known || !known[i].name)
        return errors_set(error, ERROR_INVALID_ARGS, "%s does not know the option \"%.100s\".",
                          sd_bus_message_get_member(m), key);
    if (seen[i])
        return errors_set(error, ERROR_INVALID_ARGS, "The option \"%s\" is given twice.", key);
    seen[i] = true;

    r = sd_bus_message_peek_type(m, NULL, &contents);
    if (r < 0)
        return r;
    if (strcmp(contents, known[i].type) != 0)
        return errors_set(error, ERROR_INVALID_ARGS, "The option \"%s\" is of type %s, not %.32s.", key,
                          known[i].type, contents);
    r = sd_bus_message_enter_container(m, 'v', contents);
    if (r >= 0)
        r = read_value(m, &known[i]);
    return r < 0 ? r : sd_bus_message_exit_container(m);
}

int options_read(sd_bus_message *m, const struct option *known, sd_bus_error *error)
{
    bool seen[OPTIONS_MAX] = {0};
    int r = sd_bus_message_enter_container(m, 'a', "{sv}");
    if (r < 0)
        return r;
    while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
        r = read_entry(m, known, seen, error);
        if (r >= 0)
            r = sd_bus_message_exit_container(m);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : sd_bus_message_exit_container(m);
}
