/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "select.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "bus.h"

enum { ID_PREFIX_MIN = 4 };

typedef bool (*matcher)(json_object *object, const char *selector);

static bool is_path(json_object *o, const char *key)
{
    const char *path = dict_string(o, key);
    return *path && strcmp(path, "/") != 0;
}

/*
 * It is there, or it is only away for now: a job waits for it, or a flash of it can be continued. Such a one
 * counts when a verb chooses: otherwise the command that should continue it would take its neighbour.
 */
static bool is_live(json_object *modem)
{
    return strcmp(dict_string(modem, "Mode"), "absent") != 0 || is_path(modem, "Job") ||
           is_path(modem, "Interrupted") || dict_bool(modem, "Looping");
}

static bool modem_exactly(json_object *m, const char *selector)
{
    return strcmp(dict_string(m, "Port"), selector) == 0 ||
           strcmp(dict_string(m, "KernelName"), selector) == 0 ||
           strcasecmp(dict_string(m, "ChipSerial"), selector) == 0 ||
           strcmp(dict_string(m, "path"), selector) == 0;
}

static bool modem_by_model(json_object *m, const char *selector)
{
    return strncasecmp(dict_string(m, "Model"), selector, strlen(selector)) == 0;
}

static bool modem_any(json_object *m, const char *selector)
{
    (void)m;
    (void)selector;
    return true;
}

static bool has_id_exactly(json_object *f, const char *selector)
{
    return strcmp(path_id(dict_string(f, "path")), selector) == 0 ||
           strcmp(dict_string(f, "path"), selector) == 0;
}

static bool firmware_by_name(json_object *f, const char *selector)
{
    return strcmp(dict_string(f, "Name"), selector) == 0;
}

static bool has_id_prefix(json_object *f, const char *selector)
{
    return strlen(selector) >= ID_PREFIX_MIN &&
           strncasecmp(path_id(dict_string(f, "path")), selector, strlen(selector)) == 0;
}

/* How many objects fit; *ret is the last of them (borrowed). `live`: only such modems. */
static size_t match(json_object *list, matcher fits, const char *selector, bool live, json_object **ret)
{
    size_t n = 0;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *o = json_object_array_get_idx(list, i);
        if ((live && !is_live(o)) || !fits(o, selector))
            continue;
        *ret = o;
        n++;
    }
    return n;
}

static const char *or_dash(const char *text)
{
    return *text ? text : "-";
}

static void name_modems(json_object *list, matcher fits, const char *selector, bool live)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *o = json_object_array_get_idx(list, i);
        if ((!live || is_live(o)) && fits(o, selector))
            fprintf(stderr, "  %s  %s  %s  %s\n", dict_string(o, "Port"),
                    or_dash(dict_string(o, "ChipSerial")), or_dash(dict_string(o, "Model")),
                    dict_string(o, "Mode"));
    }
}

static void name_firmware(json_object *list, matcher fits, const char *selector)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *o = json_object_array_get_idx(list, i);
        if (fits(o, selector))
            fprintf(stderr, "  %s  %s  %s\n", path_id(dict_string(o, "path")),
                    or_dash(dict_string(o, "Name")), or_dash(dict_string(o, "Label")));
    }
}

static int no_modem(const char *selector, json_object *remembered)
{
    if (remembered)
        fprintf(stderr,
                "qdlctl: no modem is there%s%s%s; one is remembered at %s (name that port to wait for it)\n",
                selector ? " that fits \"" : "", selector ? selector : "", selector ? "\"" : "",
                dict_string(remembered, "Port"));
    else if (selector)
        fprintf(stderr,
                "qdlctl: no modem fits \"%s\" (a port, kernel name, chip serial or model; see qdlctl list)\n",
                selector);
    else
        fprintf(stderr, "qdlctl: no modem is there\n");
    return EXIT_NO_SUCH;
}

/* Live ones go before remembered ones; those count to look at, or if they are named exactly. */
static int choose_modem(json_object *list, const char *selector, enum modem_use use, json_object **ret)
{
    static const matcher by_name[] = {modem_exactly, modem_by_model};
    json_object *found = NULL;
    matcher fits = modem_any;
    size_t n = 0;
    if (selector)
        fits = by_name[match(list, modem_exactly, selector, false, &found) == 0];
    found = NULL;
    bool live = (n = match(list, fits, selector, true, &found)) > 0;
    if (!live)
        n = match(list, fits, selector, false, &found);
    if (n == 0 || (!live && use == MODEM_WORK && fits != modem_exactly))
        return no_modem(selector, found);
    if (n == 1) {
        *ret = json_object_get(found);
        return EXIT_OK;
    }
    fprintf(stderr, "qdlctl: %zu modems fit%s%s%s; name one by its port or serial:\n", n,
            selector ? " \"" : "", selector ? selector : "", selector ? "\"" : "");
    name_modems(list, fits, selector, live);
    return EXIT_USAGE;
}

int select_modem(sd_bus *bus, const char *selector, enum modem_use use, json_object **ret)
{
    json_object *list;
    if (selector && !*selector)
        return usage_error("MODEM is empty; expected a port, kernel name, chip serial or model");
    int code = bus_list(bus, "ListModems", &list);
    if (code != EXIT_OK)
        return code;
    code = choose_modem(list, selector, use, ret);
    json_object_put(list);
    return code;
}

int select_firmware(sd_bus *bus, const char *selector, bool quiet, json_object **ret)
{
    static const matcher order[] = {has_id_exactly, firmware_by_name, has_id_prefix};
    json_object *list, *found = NULL;
    if (!*selector)
        return usage_error("FIRMWARE is empty; expected an id, a version name or a path");
    int code = bus_list(bus, "ListFirmware", &list);
    if (code != EXIT_OK)
        return code;

    size_t n = 0, i = 0;
    while (i < 3 && (n = match(list, order[i], selector, false, &found)) == 0)
        i++;
    if (n == 1) {
        *ret = json_object_get(found);
    } else if (n == 0) {
        if (!quiet)
            fprintf(stderr, "qdlctl: no firmware \"%s\" in the library (see qdlctl firmware)\n", selector);
        code = EXIT_NO_SUCH;
    } else {
        fprintf(stderr, "qdlctl: %zu packages fit \"%s\", name one by its id or its beginning:\n", n,
                selector);
        name_firmware(list, order[i], selector);
        code = EXIT_USAGE;
    }
    json_object_put(list);
    return code;
}

static void name_backups(json_object *list, matcher fits, const char *selector)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *o = json_object_array_get_idx(list, i);
        if (fits(o, selector))
            fprintf(stderr, "  %s  %s  %s  %s\n", path_id(dict_string(o, "path")), dict_string(o, "Kind"),
                    or_dash(dict_string(o, "Model")), or_dash(dict_string(o, "ChipSerial")));
    }
}

int select_backup(sd_bus *bus, const char *selector, bool quiet, json_object **ret)
{
    static const matcher order[] = {has_id_exactly, has_id_prefix};
    json_object *list, *found = NULL;
    if (!*selector)
        return usage_error("BACKUP is empty; expected an id or its beginning");
    int code = bus_list(bus, "ListBackups", &list);
    if (code != EXIT_OK)
        return code;
    size_t n = 0, i = 0;
    while (i < 2 && (n = match(list, order[i], selector, false, &found)) == 0)
        i++;
    if (n == 1) {
        *ret = json_object_get(found);
    } else if (n == 0) {
        if (!quiet)
            fprintf(stderr, "qdlctl: no backup \"%s\" in the store (see qdlctl backups)\n", selector);
        code = EXIT_NO_SUCH;
    } else {
        fprintf(stderr, "qdlctl: %zu backups fit \"%s\", name one by its id or its beginning:\n", n,
                selector);
        name_backups(list, order[i], selector);
        code = EXIT_USAGE;
    }
    json_object_put(list);
    return code;
}

int select_job(sd_bus *bus, const char *selector, json_object **ret)
{
    json_object *list, *found = NULL;
    bool found_open = false;
    int code = bus_list(bus, "ListJobs", &list);
    if (code != EXIT_OK)
        return code;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *job = json_object_array_get_idx(list, i);
        bool open = strcmp(dict_string(job, "State"), "finished") != 0;
        const char *path = dict_string(job, "path");
        bool fits = selector ? strcmp(path_id(path), selector) == 0 || strcmp(path, selector) == 0
                             : open || !found_open;
        if (fits) {
            found = job;
            found_open = open;
        }
    }
    if (found) {
        *ret = json_object_get(found);
    } else {
        fprintf(stderr, selector ? "qdlctl: no job \"%s\" (see qdlctl jobs)\n" : "qdlctl: there is no job\n",
                selector);
        code = EXIT_NO_SUCH;
    }
    json_object_put(list);
    return code;
}
