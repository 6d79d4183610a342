/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HOUR_US (INT64_C(3600) * 1000000)

static FILE *out;
static unsigned violations;
static volatile sig_atomic_t hours;

int64_t trace_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 + hours * HOUR_US;
}

void trace_go_on(void)
{
    hours++;
}

int trace_open(const char *path)
{
    out = strcmp(path, "-") == 0 ? stderr : fopen(path, "we");
    return out ? 0 : -errno;
}

__attribute__((format(printf, 2, 0))) static void line(const char *prefix, const char *format, va_list ap)
{
    if (!out)
        return;
    fprintf(out, "%" PRId64 " %s", trace_now(), prefix);
    vfprintf(out, format, ap);
    fputc('\n', out);
}

void trace(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    line("", format, ap);
    va_end(ap);
}

void violation(const char *format, ...)
{
    va_list ap;

    violations++;
    va_start(ap, format);
    line("VIOLATION ", format, ap);
    va_end(ap);
}

unsigned trace_violations(void)
{
    return violations;
}

void trace_flush(void)
{
    if (out)
        fflush(out);
}

void trace_close(void)
{
    if (out && out != stderr)
        fclose(out);
    out = NULL;
}
