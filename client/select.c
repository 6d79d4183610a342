/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "select.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "bus.h"

enum { ID_PREFIX_MIN = 4 };

typedef bool (*matcher)(json_object *object, const char *selector);

static bool is_present(json_object *modem)
{
    return strcmp(dict_string(modem, "Mode"), "absent") != 0;
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

static bool firmware_exactly(json_object *f, const char *selector)
{
    return strcmp(path_id(dict_string(f, "path")), selector) == 0 ||
           strcmp(dict_string(f, "path"), selector) == 0;
}

static bool firmware_by_name(json_object *f, const char *selector)
{
    return strcmp(dict_string(f, "Name"), selector) == 0 || strcmp(dict_string(f, "Label"), selector) == 0;
}

static bool firmware_by_prefix(json_object *f, const char *selector)
{
    return strlen(selector) >= ID_PREFIX_MIN &&
           strncasecmp(path_id(dict_string(f, "path")), selector, strlen(selector)) == 0;
}

/* How many objects fit; *ret is the last of them (borrowed). `say` lists them on stderr. */
static size_t match(json_object *list, matcher fits, const char *selector, bool present, bool say,
                    json_object **ret)
{
    size_t n = 0;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *o = json_object_array_get_idx(list, i);
        if ((present && !is_present(o)) || !fits(o, selector))
            continue;
        *ret = o;
        n++;
        if (say && *dict_string(o, "Port"))
            fprintf(stderr, "  %s  %s  %s\n", dict_string(o, "Port"), dict_string(o, "Model"),
                    dict_string(o, "ChipSerial"));
        else if (say)
            fprintf(stderr, "  %s  %s\n", path_id(dict_string(o, "path")), dict_string(o, "Name"));
    }
    return n;
}

int select_modem(sd_bus *bus, const char *selector, bool present, json_object **ret)
{
    json_object *list, *found = NULL;
    if (selector && !*selector)
        return usage_error("MODEM is empty; expected a port, kernel name, chip serial or model");
    int code = bus_list(bus, "ListModems", &list);
    if (code != EXIT_OK)
        return code;

    matcher fits = selector ? modem_exactly : modem_any;
    if (selector)
        present = match(list, fits, selector, false, false, &found) == 0 && present;
    if (selector && !found)
        fits = modem_by_model;
    size_t n = match(list, fits, selector, present, false, &found);
    if (n == 1) {
        *ret = json_object_get(found);
    } else if (n == 0 && selector) {
        fprintf(stderr,
                "qdlctl: no modem fits \"%s\" (a port, kernel name, chip serial or model; see qdlctl list)\n",
                selector);
        code = EXIT_NO_SUCH;
    } else if (n == 0) {
        fprintf(stderr, "qdlctl: no modem is there\n");
        code = EXIT_NO_SUCH;
    } else {
        fprintf(stderr, "qdlctl: %zu modems fit, name one by its port or serial:\n", n);
        match(list, fits, selector, present, true, &found);
        code = EXIT_USAGE;
    }
    json_object_put(list);
    return code;
}

int select_firmware(sd_bus *bus, const char *selector, bool quiet, json_object **ret)
{
    static const matcher order[] = {firmware_exactly, firmware_by_name, firmware_by_prefix};
    json_object *list, *found = NULL;
    if (!*selector)
        return usage_error("FIRMWARE is empty; expected an id, a version name, a label or a path");
    int code = bus_list(bus, "ListFirmware", &list);
    if (code != EXIT_OK)
        return code;

    size_t n = 0, i = 0;
    while (i < 3 && (n = match(list, order[i], selector, false, false, &found)) == 0)
        i++;
    if (n == 1) {
        *ret = json_object_get(found);
    } else if (n == 0) {
        if (!quiet)
            fprintf(stderr, "qdlctl: no firmware \"%s\" in the library (see qdlctl firmware)\n", selector);
        code = EXIT_NO_SUCH;
    } else {
        fprintf(stderr, "qdlctl: %zu packages fit \"%s\", name one by its id:\n", n, selector);
        match(list, order[i], selector, false, true, &found);
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
