/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "bus.h"
#include "follow.h"
#include "output.h"
#include "select.h"

enum { COPY_SIZE = 16 * 1024 };

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
    json_object *job;
    sd_bus_message *m = NULL;
    if (argc < 2)
        return usage_error("cancel takes a JOB");
    int code = select_job(bus, argv[1], &job);
    if (code != EXIT_OK)
        return code;
    agent_start();
    int r = bus_new_call(bus, &m, dict_string(job, "path"), "org.qdld1.Job", "Cancel");
    if (r >= 0)
        r = bus_append_no_options(m);
    code = r < 0 ? bus_report(NULL, r) : bus_call(bus, m, NULL);
    json_object_put(job);
    return code;
}

int verb_log(sd_bus *bus, int argc, char **argv)
{
    json_object *job;
    sd_bus_message *m = NULL, *reply = NULL;
    char chunk[COPY_SIZE];
    int fd, code;
    if (argc < 2)
        return usage_error("log takes a JOB");
    code = select_job(bus, argv[1], &job);
    if (code != EXIT_OK)
        return code;
    agent_start();
    int r = bus_new_call(bus, &m, dict_string(job, "path"), "org.qdld1.Job", "GetLog");
    if (r >= 0)
        r = bus_append_no_options(m);
    code = r < 0 ? bus_report(NULL, r) : bus_call(bus, m, &reply);
    if (code == EXIT_OK && sd_bus_message_read(reply, "h", &fd) >= 0) {
        off_t at = 0;
        ssize_t n;
        while ((n = pread(fd, chunk, sizeof(chunk), at)) > 0) {
            fwrite(chunk, 1, (size_t)n, stdout);
            at += n;
        }
    }
    sd_bus_message_unref(reply);
    json_object_put(job);
    return code;
}
