/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIELD_WIDTH = 14, FIELD_ROOM_MIN = 24, COLUMN_GAP = 2, LAST_COLUMN_MIN = 10 };

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

size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

size_t terminal_width(FILE *f)
{
    struct winsize size;
    return isatty(fileno(f)) && ioctl(fileno(f), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int text_fit(const char *text, int max)
{
    int n = (int)strnlen(text, (size_t)max + 1);
    if (n <= max)
        return n;
    for (n = max; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
        n--;
    return n;
}

/* Bytes of the first `columns` characters. */
static int text_cut(const char *text, size_t columns)
{
    const char *p = text;
    for (; *p && columns > 0; columns--)
        for (p++; ((unsigned char)*p & 0xc0) == 0x80;)
            p++;
    return (int)(p - text);
}

/* The last cell is cut to what is left of `total` columns (0: never), so that a row stays a line. */
static void print_row(FILE *f, char *const *cells, size_t n, const size_t *widths, size_t total)
{
    size_t used = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        fprintf(f, "%s%*s", cells[i], (int)(widths[i] - text_width(cells[i]) + COLUMN_GAP), "");
        used += widths[i] + COLUMN_GAP;
    }
    size_t room = total > used ? total - used : 0;
    if (room >= LAST_COLUMN_MIN && text_width(cells[n - 1]) > room)
        fprintf(f, "%.*s...\n", text_cut(cells[n - 1], room - 3), cells[n - 1]);
    else
        fprintf(f, "%s\n", cells[n - 1]);
}

/* PAGER may have arguments, as everywhere. Its own keys cannot start other programs under sudo. */
static void run_pager(const char *pager, int fd)
{
    dup2(fd, STDIN_FILENO);
    setenv("LESS", "FRSXMK", 0);
    setenv("LESSSECURE", "1", 1);
    if (pager)
        execl("/bin/sh", "sh", "-c", pager, NULL);
    execlp("less", "less", NULL);
    execlp("cat", "cat", NULL);
    _exit(127);
}

FILE *output_open(size_t lines, pid_t *ret_pager)
{
    struct winsize size;
    const char *pager = getenv("PAGER");
    int fds[2];
    *ret_pager = 0;
    if (options.no_pager || !terminal_moves(stdout) || (pager && (!*pager || strcmp(pager, "cat") == 0)) ||
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || (lines > 0 && lines < size.ws_row) ||
        pipe2(fds, O_CLOEXEC) < 0)
        return stdout;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        run_pager(pager, fds[0]);
    close(fds[0]);
    FILE *f = pid > 0 ? fdopen(fds[1], "w") : NULL;
    if (!f) {
        close(fds[1]);
        return stdout;
    }
    /* It may be left before the end, and a Ctrl-C in it is its own. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    *ret_pager = pid;
    return f;
}

void output_close(FILE *f, pid_t pager)
{
    if (pager <= 0)
        return;
    fclose(f);
    while (waitpid(pager, NULL, 0) < 0 && errno == EINTR)
        ;
    signal(SIGINT, SIG_DFL);
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

    pid_t pager;
    size_t total = terminal_width(stdout);
    FILE *f = output_open(t->n_cells / t->n_columns + 1, &pager);
    if (!options.no_legend) {
        bool bold = colours(stdout);
        fputs(bold ? "\033[1m" : "", f);
        print_row(f, titles, t->n_columns, widths, 0);
        fputs(bold ? "\033[0m" : "", f);
    }
    for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns)
        print_row(f, t->cells + i, t->n_columns, widths, total);
    output_close(f, pager);
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

bool terminal_moves(FILE *f)
{
    const char *term = getenv("TERM");
    return isatty(fileno(f)) && term && *term && strcmp(term, "dumb") != 0;
}

bool colours(FILE *f)
{
    const char *none = getenv("NO_COLOR");
    return terminal_moves(f) && !(none && *none);
}

/* How many bytes of the text go on this line: up to the last blank that fits, at least one word. */
static size_t fold(const char *text, size_t room)
{
    size_t cut = (size_t)text_cut(text, room), at = cut;
    if (!text[cut])
        return cut;
    while (at > 0 && text[at] != ' ')
        at--;
    return at > 0 ? at : cut + strcspn(text + cut, " ");
}

void print_field_to(FILE *f, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    size_t columns = terminal_width(f), indent = FIELD_WIDTH + 2;
    size_t room = columns >= indent + FIELD_ROOM_MIN ? columns - indent : SIZE_MAX;
    fprintf(f, "%*s: ", FIELD_WIDTH, name);
    for (;;) {
        size_t n = fold(value, room);
        fprintf(f, "%.*s\n", (int)n, value);
        value += n;
        while (*value == ' ')
            value++;
        if (!*value)
            return;
        fprintf(f, "%*s", (int)indent, "");
    }
}

void print_field(const char *name, const char *value)
{
    print_field_to(stdout, name, value);
}

bool ask(const char *question)
{
    char *line = NULL;
    size_t size = 0;
    printf("%s [y/N] ", question);
    fflush(stdout);
    ssize_t n = getline(&line, &size, stdin);
    if (n < 0)
        printf("\n");
    while (n > 0 && strchr("\r\n\t ", line[n - 1]))
        line[--n] = '\0';
    bool yes = n > 0 && (strcasecmp(line, "y") == 0 || strcasecmp(line, "yes") == 0);
    free(line);
    return yes;
}
