/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"
#include "follow.h"
#include "output.h"
#include "select.h"

enum { COPY_SIZE = 64 * 1024, LOG_MAX = 8 * 1024 * 1024 };

int verb_jobs(sd_bus *bus, int argc, char **argv)
{
    static const char *const titles[] = {"JOB",      "KIND",    "MODEM",   "STATE",
                                         "PROGRESS", "CREATED", "MESSAGE", NULL};
    json_object *list;
    (void)argc;
    (void)argv;
    int code = bus_list(bus, "ListJobs", &list);
    if (code != EXIT_OK)
        return code;
    size_t n = json_object_array_length(list);
    if (!print_json(list) && n == 0 && !options.quiet) {
        printf("No job is there.\n");
    } else if (options.json == JSON_OFF && n > 0) {
        struct table t;
        table_init(&t, titles);
        for (size_t i = 0; i < n; i++) {
            json_object *j = json_object_array_get_idx(list, i);
            const char *modem = dict_string(j, "Modem"), *result = dict_string(j, "Result");
            char created[FORMAT_SIZE];
            format_time(dict_u64(j, "CreatedTime"), created);
            table_cell(&t, path_id(dict_string(j, "path")));
            table_cell(&t, dict_string(j, "Kind"));
            table_cell(&t, strcmp(modem, "/") == 0 ? "" : path_id(modem));
            table_cell(&t, *result ? result : dict_string(j, "State"));
            table_cellf(&t, "%.0f %%", dict_double(j, "Progress") * 100);
            table_cell(&t, created);
            table_cell(&t, dict_string(j, "ErrorMessage"));
        }
        table_print(&t);
    }
    json_object_put(list);
    return EXIT_OK;
}

int verb_follow(sd_bus *bus, int argc, char **argv)
{
    json_object *job;
    int code = select_job(bus, argc > 1 ? argv[1] : NULL, &job);
    if (code != EXIT_OK)
        return code;
    code = follow_job(bus, dict_string(job, "path"), true, NULL);
    json_object_put(job);
    return code;
}

int verb_cancel(sd_bus *bus, int argc, char **argv)
{
    json_object *job, *after;
    (void)argc;
    int code = select_job(bus, argv[1], &job);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(job, "path");
    code = bus_call_simple(bus, path, "org.qdld1.Job", "Cancel", NULL);
    if (code == EXIT_OK && options.json != JSON_OFF) {
        code = bus_get_all(bus, path, "org.qdld1.Job", &after);
        if (code == EXIT_OK) {
            print_json(after);
            json_object_put(after);
        }
    } else if (code == EXIT_OK && !options.quiet) {
        printf("Asked job %s (%s) to cancel; it ends at its next safe point.\n", path_id(path),
               dict_string(job, "Kind"));
    }
    json_object_put(job);
    return code;
}

/* The log so far as one text; it may grow while we read. NULL: said. */
static char *read_log(int fd, size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0, room = 0;
    ssize_t n;
    do {
        if (room - size < COPY_SIZE) {
            char *grown = realloc(text, room += 4 * COPY_SIZE);
            if (!grown)
                abort();
            text = grown;
        }
        n = pread(fd, text + size, COPY_SIZE, (off_t)size);
        size += n > 0 ? (size_t)n : 0;
    } while (n > 0 && size < LOG_MAX);
    if (n < 0) {
        bus_report(NULL, -errno);
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}

static int print_log(int fd, json_object *job)
{
    size_t size = 0;
    char *text = read_log(fd, &size);
    if (!text)
        return EXIT_OTHER;
    if (options.json != JSON_OFF) {
        json_object *answer = json_object_new_object();
        json_object_object_add(answer, "path", json_object_new_string(dict_string(job, "path")));
        json_object_object_add(answer, "log", json_object_new_string_len(text, (int)size));
        print_json(answer);
        json_object_put(answer);
    } else {
        pid_t pager;
        size_t lines = 1;
        for (size_t i = 0; i < size; i++)
            lines += text[i] == '\n';
        FILE *f = output_open(lines, &pager);
        fwrite(text, 1, size, f);
        output_close(f, pager);
    }
    free(text);
    return EXIT_OK;
}

int verb_log(sd_bus *bus, int argc, char **argv)
{
    json_object *job;
    sd_bus_message *reply = NULL;
    int fd;
    (void)argc;
    int code = select_job(bus, argv[1], &job);
    if (code != EXIT_OK)
        return code;
    code = bus_call_simple(bus, dict_string(job, "path"), "org.qdld1.Job", "GetLog", &reply);
    if (code == EXIT_OK) {
        int r = sd_bus_message_read(reply, "h", &fd);
        code = r < 0 ? bus_report(NULL, r) : print_log(fd, job);
    }
    sd_bus_message_unref(reply);
    json_object_put(job);
    return code;
}
