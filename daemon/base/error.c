/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"

static const struct {
    const char *name;
    int number;
} kinds[ERROR_KIND_COUNT] = {
#define X(suffix, name, number) [ERROR_##suffix] = {name, number},
    ERROR_KINDS(X)
#undef X
};

static const char *const hints[HINT_COUNT] = {
    [HINT_NONE] = "",
    [HINT_RETRY] = "retry",
    [HINT_REPLUG] = "replug",
    [HINT_POWER_CYCLE] = "power-cycle",
    [HINT_BRIDGE_USB_BOOT] = "bridge-usb-boot",
    [HINT_IMPORT_FIRMWARE] = "import-firmware",
    [HINT_CHECK_LABEL] = "check-label",
    [HINT_RESTORE_BACKUP] = "restore-backup",
    [HINT_WRONG_FIRMWARE] = "wrong-firmware",
    [HINT_CONTACT_VENDOR] = "contact-vendor",
};

int error_set(struct error *e, enum error_kind kind, const char *format, ...)
{
    if (!e)
        return error_errno(kind);

    char raw[2 * ERROR_MESSAGE_SIZE];
    va_list ap;
    va_start(ap, format);
    vsnprintf(raw, sizeof(raw), format, ap);
    va_end(ap);

    e->kind = kind;
    e->hint = HINT_NONE;
    e->words[0] = '\0';
    text_clean(raw, strlen(raw), e->message, sizeof(e->message));
    return error_errno(kind);
}

void error_hint(struct error *e, enum error_hint hint)
{
    if (e)
        e->hint = hint;
}

void error_words(struct error *e, const char *words)
{
    if (e && words)
        text_clean(words, strlen(words), e->words, sizeof(e->words));
}

const char *error_name(enum error_kind kind)
{
    return (unsigned)kind < ERROR_KIND_COUNT ? kinds[kind].name : NULL;
}

enum error_kind error_from_name(const char *name)
{
    for (int i = 1; i < ERROR_KIND_COUNT; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return (enum error_kind)i;
    return ERROR_NONE;
}

int error_errno(enum error_kind kind)
{
    if ((unsigned)kind >= ERROR_KIND_COUNT || kinds[kind].number == 0)
        return -EIO;
    return -kinds[kind].number;
}

const char *hint_name(enum error_hint hint)
{
    return (unsigned)hint < HINT_COUNT ? hints[hint] : "";
}

enum error_hint hint_from_name(const char *name)
{
    for (int i = 0; i < HINT_COUNT; i++)
        if (strcmp(hints[i], name) == 0)
            return (enum error_hint)i;
    return HINT_NONE;
}
