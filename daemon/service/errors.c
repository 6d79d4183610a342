/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/errors.h"

#include <errno.h>
#include <stdarg.h>

#include "base/text.h"

static const char *const names[ERROR_KIND_COUNT] = {
#define X(suffix, name, number) [ERROR_##suffix] = BUS_ERROR_PREFIX name,
    ERROR_KINDS(X)
#undef X
};

const char *errors_bus_name(enum error_kind kind)
{
    if (kind == ERROR_INVALID_ARGS)
        return SD_BUS_ERROR_INVALID_ARGS;
    return (unsigned)kind < ERROR_KIND_COUNT && names[kind] ? names[kind] : "";
}

char *errors_text(const struct error *e)
{
    return e->words[0] ? text_printf("%s: \"%s\"", e->message, e->words) : text_printf("%s", e->message);
}

int errors_to_bus(const struct error *e, sd_bus_error *ret)
{
    _cleanup_free_ char *text = errors_text(e);
    enum error_kind kind = e->kind == ERROR_NONE ? ERROR_FAILED : e->kind;
    sd_bus_error_set(ret, errors_bus_name(kind), text ? text : "Out of memory");
    return error_errno(kind);
}

int errors_set(sd_bus_error *ret, enum error_kind kind, const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        return -ENOMEM;
    _cleanup_free_ char *owned = text;
    struct error e;
    error_set(&e, kind, "%s", owned);
    return errors_to_bus(&e, ret);
}
