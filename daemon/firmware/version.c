/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/version.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    HARDWARE_LETTERS = 2, /* "AA": antenna and board variant, the end of the prefix */
    PREFIX_MIN = 4,       /* "BG95" would be the shortest, and has hardware letters behind it */
    CODE_SIZE = 3,        /* "R11", "A02" */
};

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_edition_char(char c)
{
    return is_upper(c) || is_digit(c) || (c >= 'a' && c <= 'z') || c == '.' || c == '-' || c == '_';
}

/* Length of the run of upper-case letters and digits at the start. */
static size_t code_run(const char *text)
{
    size_t n = 0;
    while (is_upper(text[n]) || is_digit(text[n]))
        n++;
    return n;
}

static bool is_code(const char *text, char letter)
{
    return text[0] == letter && is_digit(text[1]) && is_digit(text[2]);
}

/* Copies [from, to) if it fits. */
static bool take(char *out, size_t size, const char *from, const char *to)
{
    size_t n = (size_t)(to - from);
    if (n >= size)
        return false;
    memcpy(out, from, n);
    out[n] = '\0';
    return true;
}

int version_parse(const char *name, struct version *ret)
{
    struct version v = {0};
    size_t run = code_run(name);

    /* The last Rnn that has an Ann behind it: a model's own name may hold something alike further in front.
     */
    const char *baseline = NULL;
    for (size_t i = PREFIX_MIN; i + 2 * CODE_SIZE <= run; i++)
        if (is_code(name + i, 'R') && is_code(name + i + CODE_SIZE, 'A'))
            baseline = name + i;
    if (!baseline)
        return -EINVAL;

    const char *release = baseline + CODE_SIZE, *memory = release + CODE_SIZE, *end = name + run;
    if (memory < end && *memory != 'M')
        return -EINVAL;
    if (memory < end && end - memory < 2)
        return -EINVAL;
    if (*end != '\0' && *end != '_')
        return -EINVAL;
    for (const char *c = end; *c; c++)
        if (!is_edition_char(*c))
            return -EINVAL;

    const char *edition = *end ? end + 1 : end;
    if (!take(v.name, sizeof(v.name), name, name + strlen(name)) ||
        !take(v.prefix, sizeof(v.prefix), name, baseline) ||
        !take(v.model, sizeof(v.model), name, baseline - HARDWARE_LETTERS) ||
        !take(v.baseline, sizeof(v.baseline), baseline, release) ||
        !take(v.release, sizeof(v.release), release, memory) ||
        !take(v.memory, sizeof(v.memory), memory, end) ||
        !take(v.edition, sizeof(v.edition), edition, edition + strlen(edition)))
        return -EINVAL;
    *ret = v;
    return 0;
}

int version_match(const struct version *package, const struct version *modem, struct error *e)
{
    const struct {
        const char *what, *package, *modem;
        bool compare;
    } parts[] = {
        {"model", package->prefix, modem->prefix, true},
        {"baseline", package->baseline, modem->baseline, true},
        {"memory", package->memory, modem->memory, *package->memory && *modem->memory},
    };
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i].compare && strcmp(parts[i].package, parts[i].modem) != 0) {
            int r = error_set(e, ERROR_WRONG_FIRMWARE,
                              "The package %s is not for this modem, which runs %s: %s %s instead of %s",
                              package->name, modem->name, parts[i].what, parts[i].package, parts[i].modem);
            error_hint(e, HINT_WRONG_FIRMWARE);
            return r;
        }
    return 0;
}
