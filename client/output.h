/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What people see: tables, sizes, times, colours, JSON. */

#include <json-c/json.h>
#include <stdio.h>
#include <sys/types.h>
#include "qdlctl.h"

enum { TABLE_COLUMNS_MAX = 10 };

struct table {
    const char *const *titles; /* NULL-terminated */
    size_t n_columns;
    char **cells;
    size_t n_cells;
};
void table_init(struct table *t, const char *const *titles);
/* The next cell of the row; "" and NULL are shown as "-". */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints it (with the legend unless --no-legend) through a pager where one helps, and empties it. */
void table_print(struct table *t);

/* With --json: prints the value and returns true; nothing else should be printed then. */
bool print_json(json_object *value);

/* "64.0 MiB", "3.4 MB/s", "12 s", "2026-11-22 18:41:00"; into a buffer of FORMAT_SIZE bytes. */
enum { FORMAT_SIZE = 32 };
void format_size(uint64_t bytes, char *out);
void format_rate(uint64_t bytes_per_second, char *out);
void format_span(uint64_t usec, char *out);
void format_time(uint64_t realtime_usec, char *out);

/* Asks "... [y/N]" and reads a line: only "y" and "yes" are a yes, and the end of the input is none. */
bool ask(const char *question);

/* Where long text goes: through a pager if somebody sits there. `lines` 0: not known. */
FILE *output_open(size_t lines, pid_t *ret_pager);
void output_close(FILE *f, pid_t pager);

/* Columns that a UTF-8 text takes, near enough: one a character. */
size_t text_width(const char *text);
/* For "%.*s": the bytes of the first characters, `max` at most. Half a character is no text for a bus. */
int text_fit(const char *text, int max);
/* Columns of a terminal; 0 if it is none. */
size_t terminal_width(FILE *f);
/* A terminal that can move its cursor: TERM is set and not dumb. */
bool terminal_moves(FILE *f);
/* The same, and NO_COLOR is not set. */
bool colours(FILE *f);
/*
 * One "Name: value" line of a block of facts, names aligned, folded to the terminal; nothing if the value is
 * empty.
 */
void print_field_to(FILE *f, const char *name, const char *value);
void print_field(const char *name, const char *value);
