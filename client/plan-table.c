/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A plan as a table for people: one row a partition, in the order of the flash, with all that is done to it;
 * the steps one by one, in the order of execution, are in the JSON.
 */

#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus.h"
#include "output.h"

enum { ACTIONS_SIZE = 64, RISK_SIZE = 256 };

struct row {
    const char *partition, *file;
    uint64_t first, blocks, saved, written;
    char actions[ACTIONS_SIZE], risk[RISK_SIZE];
};

/* "erase, write"; what is there already is not said again. */
static void add_words(char *out, size_t size, const char *words)
{
    size_t used = strlen(out);
    if (*words && !strstr(out, words))
        snprintf(out + used, size - used, "%s%s", used ? ", " : "", words);
}

static int by_place(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->blocks < y->blocks ? -1 : x->blocks > y->blocks;
}

/* The partition's row at that place; parts of one that are erased or written alone have their own. */
static struct row *row_of(struct row *rows, size_t *n, json_object *step)
{
    const char *partition = dict_string(step, "partition");
    uint64_t first = dict_u64(step, "first-block"), blocks = dict_u64(step, "blocks");
    for (size_t i = 0; i < *n; i++)
        if (rows[i].first == first && rows[i].blocks == blocks && strcmp(rows[i].partition, partition) == 0)
            return &rows[i];
    rows[*n] = (struct row){.partition = partition, .first = first, .blocks = blocks, .file = ""};
    return &rows[(*n)++];
}

static void take_step(struct row *row, json_object *step)
{
    const char *action = dict_string(step, "action");
    if (strcmp(action, "save") == 0)
        row->saved = dict_u64(step, "bytes");
    else
        add_words(row->actions, sizeof(row->actions), strcmp(action, "verify") == 0 ? "check" : action);
    if (strcmp(action, "write") == 0) {
        row->written = dict_u64(step, "bytes");
        row->file = dict_string(step, "file");
    }
    add_words(row->risk, sizeof(row->risk), dict_string(step, "risk"));
}

static void print_rows(const struct row *rows, size_t n)
{
    static const char *const titles[] = {"PARTITION", "BLOCKS", "SAVED FIRST", "WHAT IS DONE",
                                         "SIZE",      "FILE",   "RISK",        NULL};
    struct table t;
    table_init(&t, titles);
    for (size_t i = 0; i < n; i++) {
        char saved[FORMAT_SIZE] = "", written[FORMAT_SIZE] = "";
        if (rows[i].saved)
            format_size(rows[i].saved, saved);
        if (rows[i].written)
            format_size(rows[i].written, written);
        table_cell(&t, rows[i].partition);
        if (rows[i].blocks > 0)
            table_cellf(&t, "%llu-%llu", (unsigned long long)rows[i].first,
                        (unsigned long long)(rows[i].first + rows[i].blocks - 1));
        else
            table_cellf(&t, "%llu on", (unsigned long long)rows[i].first);
        table_cell(&t, saved);
        table_cell(&t, rows[i].actions);
        table_cell(&t, written);
        table_cell(&t, rows[i].file);
        table_cell(&t, rows[i].risk);
    }
    table_print(&t);
}

void plan_print_table(json_object *plan)
{
    size_t steps = json_object_array_length(plan), n = 0;
    struct row *rows = calloc(steps ? steps : 1, sizeof(*rows));
    bool resets = false;
    const char *asked = "";
    if (!rows)
        return;
    for (size_t i = 1; i < steps; i++) {
        json_object *step = json_object_array_get_idx(plan, i);
        const char *action = dict_string(step, "action");
        if (strcmp(action, "reset") == 0)
            resets = true;
        else if (strcmp(action, "check") == 0)
            asked = dict_string(step, "partition");
        else
            take_step(row_of(rows, &n, step), step);
    }
    char question[160];
    snprintf(question, sizeof(question), "the modem, whether it is %.100s: if not, nothing is erased", asked);
    if (*asked)
        print_field("Asked first", question);
    print_field("At the end",
                resets ? "the modem is started, and asked what it runs" : "the modem stays in 9008");
    printf("\n");
    qsort(rows, n, sizeof(*rows), by_place);
    print_rows(rows, n);
    free(rows);
}
