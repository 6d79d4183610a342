/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIELD_WIDTH = 14, COLUMN_GAP = 2 };

void table_init(struct table *t, const char *const *titles)
{
    *t = (struct table){.titles = titles};
    while (titles[t->n_columns])
        t->n_columns++;
}

void table_cell(struct table *t, const char *text)
{
    char **grown = realloc(t->cells, (t->n_cells + 1) * sizeof(*grown));
    char *copy = strdup(text && *text ? text : "-");
    if (!grown || !copy)
        abort();
    t->cells = grown;
    t->cells[t->n_cells++] = copy;
}

void table_cellf(struct table *t, const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    if (vasprintf(&text, format, ap) < 0)
        abort();
    va_end(ap);
    table_cell(t, text);
    free(text);
}

/* Columns a UTF-8 text takes, near enough: one a character. */
static size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_row(FILE *f, char *const *cells, size_t n, const size_t *widths)
{
    for (size_t i = 0; i < n; i++) {
        fputs(cells[i], f);
        if (i + 1 < n)
            fprintf(f, "%*s", (int)(widths[i] - text_width(cells[i]) + COLUMN_GAP), "");
    }
    fputc('\n', f);
}

/* A pager only where somebody sits and the table does not fit; *ret_pid 0 if none was started. */
static FILE *open_output(size_t lines, pid_t *ret_pid)
{
    struct winsize size;
    int fds[2];
    *ret_pid = 0;
    if (options.no_pager || !isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ||
        lines < size.ws_row || pipe(fds) < 0)
        return stdout;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[0], STDIN_FILENO);
        close(fds[0]);
        close(fds[1]);
        setenv("LESS", "FRSX", 0);
        const char *pager = getenv("PAGER");
        if (pager && *pager)
            execlp(pager, pager, NULL);
        execlp("less", "less", NULL);
        execlp("cat", "cat", NULL);
        _exit(127);
    }
    close(fds[0]);
    FILE *f = pid > 0 ? fdopen(fds[1], "w") : NULL;
    if (!f) {
        close(fds[1]);
        return stdout;
    }
    signal(SIGPIPE, SIG_IGN);
    *ret_pid = pid;
    return f;
}

void table_print(struct table *t)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    char *titles[TABLE_COLUMNS_MAX];
    for (size_t c = 0; c < t->n_columns; c++) {
        titles[c] = (char *)t->titles[c];
        widths[c] = options.no_legend ? 0 : strlen(t->titles[c]);
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t w = text_width(t->cells[i]), *at = &widths[i % t->n_columns];
        *at = w > *at ? w : *at;
    }

    pid_t pid;
    FILE *f = open_output(t->n_cells / t->n_columns + 1, &pid);
    if (!options.no_legend) {
        bool bold = f == stdout && colours(f);
        fputs(bold ? "\033[1m" : "", f);
        print_row(f, titles, t->n_columns, widths);
        fputs(bold ? "\033[0m" : "", f);
    }
    for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns)
        print_row(f, t->cells + i, t->n_columns, widths);
    if (pid > 0) {
        fclose(f);
        waitpid(pid, NULL, 0);
    }
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i]);
    free(t->cells);
    table_init(t, t->titles);
}

bool print_json(json_object *value)
{
    if (options.json == JSON_OFF)
        return false;
    int flags = options.json == JSON_PRETTY ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
                                            : JSON_C_TO_STRING_PLAIN;
    printf("%s\n", json_object_to_json_string_ext(value, flags | JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(stdout);
    return true;
}

void format_size(uint64_t bytes, char *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(out, FORMAT_SIZE, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void format_rate(uint64_t rate, char *out)
{
    snprintf(out, FORMAT_SIZE, "%.1f MB/s", (double)rate / 1e6);
}

void format_span(uint64_t usec, char *out)
{
    unsigned long long s = (usec + 500000) / 1000000;
    if (s < 60)
        snprintf(out, FORMAT_SIZE, "%llu s", s);
    else if (s < 3600)
        snprintf(out, FORMAT_SIZE, "%llu min %02llu s", s / 60, s % 60);
    else
        snprintf(out, FORMAT_SIZE, "%llu h %02llu min", s / 3600, s % 3600 / 60);
}

void format_time(uint64_t usec, char *out)
{
    time_t t = (time_t)(usec / 1000000);
    struct tm tm;
    out[0] = '\0';
    if (usec && localtime_r(&t, &tm))
        strftime(out, FORMAT_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
}

bool colours(FILE *f)
{
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR");
    return isatty(fileno(f)) && term && strcmp(term, "dumb") != 0 && !(none && *none);
}

void print_field(const char *name, const char *value)
{
    if (value && *value)
        printf("%*s: %s\n", FIELD_WIDTH, name, value);
}
