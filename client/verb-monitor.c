/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Prints a line whenever a modem or a job changes in what matters to people; with --json its dictionary. */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bus.h"
#include "listen.h"
#include "loop.h"
#include "output.h"
#include "progress.h"

static void print_line(const char *text)
{
    char when[FORMAT_SIZE];
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    format_time((uint64_t)ts.tv_sec * 1000000, when);
    printf("%s  %s\n", when, text);
    fflush(stdout);
}

enum { LINE_SIZE = 1024, NOTE_MAX = 300, WHY_MAX = 500 };

/* What is compared and printed. A window more of a loop is news; that its next one moved is not. */
static void describe_modem(json_object *m, char out[LINE_SIZE])
{
    char loop[64] = "";
    const char *model = dict_string(m, "Model"), *note = dict_string(m, "Note"),
               *error = dict_string(m, "LastError");
    if (dict_bool(m, "Looping"))
        snprintf(loop, sizeof(loop), ", loops (%u seen)", (unsigned)dict_u64(m, "LoopCount"));
    snprintf(out, LINE_SIZE, "%s%s%s: %s%s%s%s%s%.*s%s%.*s", dict_string(m, "Port"), *model ? " " : "", model,
             strcmp(dict_string(m, "Mode"), "absent") == 0 ? "not there" : dict_string(m, "Mode"), loop,
             dict_bool(m, "Held") ? ", held" : "",
             strcmp(dict_string(m, "Job"), "/") != 0 ? ", a job has it" : "", *note ? "; it " : "",
             text_fit(note, NOTE_MAX), note, *error ? "; last error: " : "", text_fit(error, NOTE_MAX),
             error);
}

static void describe_job(json_object *j, char out[LINE_SIZE])
{
    const char *result = dict_string(j, "Result");
    const char *phase = strcmp(dict_string(j, "State"), "running") == 0 ? progress_phase(j) : "";
    const char *why = dict_string(j, "ErrorMessage");
    snprintf(out, LINE_SIZE, "job %llu (%s) %s%s%s%s%.*s", (unsigned long long)dict_u64(j, "Id"),
             dict_string(j, "Kind"), *result ? result : dict_string(j, "State"),
             *result || !*phase ? "" : ": ", *result ? "" : phase, *why ? ": " : "", text_fit(why, WHY_MAX),
             why);
}

/* before: path -> line; replaced by what is now. silent: how it was when we came is no news. */
static int show_changes(sd_bus *bus, const char *member,
                        void (*describe)(json_object *o, char out[LINE_SIZE]), bool silent,
                        json_object **before)
{
    json_object *list, *now = json_object_new_object();
    char line[LINE_SIZE];
    int code = bus_list(bus, member, &list);
    if (code != EXIT_OK || !now) {
        json_object_put(now);
        return code;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *o = json_object_array_get_idx(list, i);
        describe(o, line);
        const char *path = dict_string(o, "path");
        if (!silent && strcmp(*before ? dict_string(*before, path) : "", line) != 0 && !print_json(o))
            print_line(line);
        json_object_object_add(now, path, json_object_new_string(line));
    }
    fflush(stdout);
    json_object_put(list);
    json_object_put(*before);
    *before = now;
    return EXIT_OK;
}

int verb_monitor(sd_bus *bus, int argc, char **argv)
{
    json_object *modems = NULL, *jobs = NULL;
    struct listen l;
    (void)argc;
    (void)argv;
    int code = listen_begin(bus, &l);
    for (bool first = true; code == EXIT_OK; first = false) {
        code = show_changes(bus, "ListModems", describe_modem, false, &modems);
        if (code == EXIT_OK)
            code = show_changes(bus, "ListJobs", describe_job, first, &jobs);
        if (code == EXIT_OK)
            code = listen_next(&l);
    }
    listen_end(&l);
    json_object_put(modems);
    json_object_put(jobs);
    return code;
}
