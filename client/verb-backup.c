/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Saving a modem, and putting back what was saved. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "bus.h"
#include "copy.h"
#include "follow.h"
#include "output.h"
#include "select.h"
#include "send.h"

/* ---- backup ---- */

static int start_backup(sd_bus *bus, const char *modem, bool dump, char **ret_job)
{
    sd_bus_message *m = NULL;
    agent_start();
    int r = bus_new_call(bus, &m, modem, "org.qdld1.Modem", dump ? "CollectDump" : "Backup");
    if (r >= 0)
        r = dump ? bus_append_queue_option(m) : bus_append_backup_options(m);
    return bus_call_job(bus, r, m, ret_job);
}

/* The backup is safe in the store by now, whatever becomes of the copy. */
static int copy_result(sd_bus *bus, json_object *job)
{
    int code = copy_backup(bus, dict_string(job, "Object"), options.output);
    if (code == EXIT_OK && options.json == JSON_OFF && !options.quiet)
        print_field("Copy", options.output);
    else if (code != EXIT_OK)
        fprintf(stderr, "The backup is in the store: qdlctl backups export %.12s FILE\n",
                path_id(dict_string(job, "Object")));
    return code;
}

static int save(sd_bus *bus, int argc, char **argv, bool dump)
{
    json_object *modem, *job = NULL;
    char *path = NULL;
    int code = EXIT_OK;
    if (options.output && options.no_wait)
        code = usage_error("--output needs the end of the job; it does not go with --no-wait");
    else if (options.output && strcmp(options.output, "-") == 0)
        code = usage_error("--output=- does not go with the progress of a job; use backups export BACKUP -");
    else if (options.output)
        code = copy_check(options.output);
    if (code == EXIT_OK)
        code = select_modem(bus, argc > 1 ? argv[1] : NULL, MODEM_WORK, &modem);
    if (code != EXIT_OK)
        return code;
    code = start_backup(bus, dict_string(modem, "path"), dump, &path);
    if (code == EXIT_OK && options.no_wait)
        code = follow_or_leave(bus, path);
    else if (code == EXIT_OK)
        code = follow_job(bus, path, true, &job);
    if (code == EXIT_OK && job && options.output)
        code = copy_result(bus, job);
    json_object_put(job);
    json_object_put(modem);
    free(path);
    return code;
}

int verb_backup(sd_bus *bus, int argc, char **argv)
{
    return save(bus, argc, argv, false);
}

int verb_dump(sd_bus *bus, int argc, char **argv)
{
    return save(bus, argc, argv, true);
}

/* ---- restore ---- */

/* With a slash it is a path, otherwise the store goes first; what is both is refused. */
static int find_backup(sd_bus *bus, const char *selector, char **ret)
{
    json_object *backup;
    bool here = *selector && access(selector, F_OK) == 0;
    if (strchr(selector, '/') && strncmp(selector, BUS_MANAGER "/", strlen(BUS_MANAGER "/")) != 0)
        return send_backup(bus, selector, false, ret);
    int code = select_backup(bus, selector, here, &backup);
    if (here && code == EXIT_NO_SUCH)
        return send_backup(bus, selector, false, ret);
    if (code != EXIT_OK)
        return code;
    const char *path = dict_string(backup, "path");
    if (here)
        code = usage_error("\"%s\" is a file here and a backup in the store; write ./%s or the whole id",
                           selector, selector);
    else if (!(*ret = strdup(path)))
        code = bus_report(NULL, -ENOMEM);
    json_object_put(backup);
    return code;
}

/* Asked only where somebody can answer, as before a flash. */
static int confirm(sd_bus *bus, json_object *modem, const char *path)
{
    json_object *backup;
    char when[FORMAT_SIZE];
    if (options.yes || options.json != JSON_OFF || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return EXIT_OK;
    int code = bus_get_all(bus, path, "org.qdld1.Backup", &backup);
    if (code != EXIT_OK)
        return code;
    print_field("Modem",
                *dict_string(modem, "Model") ? dict_string(modem, "Model") : dict_string(modem, "Product"));
    print_field("Chip serial", dict_string(modem, "ChipSerial"));
    print_field("Port", dict_string(modem, "Port"));
    format_time(dict_u64(backup, "CreatedTime"), when);
    print_field("Backup", path_id(path));
    print_field("Kind", dict_string(backup, "Kind"));
    print_field("State", dict_string(backup, "State"));
    print_field("Taken", when);
    print_field("Of", dict_string(backup, "ChipSerial"));
    json_object_put(backup);
    if (ask("What is on the modem is saved first, then overwritten. Restore it?"))
        return EXIT_OK;
    fprintf(stderr, "qdlctl: nothing was done\n");
    return EXIT_OTHER;
}

static int start_restore(sd_bus *bus, const char *modem, const char *backup)
{
    sd_bus_message *m = NULL;
    char *job = NULL;
    agent_start();
    int r = bus_new_call(bus, &m, modem, "org.qdld1.Modem", "Restore");
    if (r >= 0)
        r = sd_bus_message_append(m, "o", backup);
    if (r >= 0)
        r = bus_append_backup_options(m);
    int code = bus_call_job(bus, r, m, &job);
    if (code == EXIT_OK)
        code = follow_or_leave(bus, job);
    free(job);
    return code;
}

int verb_restore(sd_bus *bus, int argc, char **argv)
{
    json_object *modem;
    char *backup = NULL;
    int code = select_modem(bus, argc > 2 ? argv[1] : NULL, MODEM_WORK, &modem);
    if (code != EXIT_OK)
        return code;
    code = find_backup(bus, argv[argc - 1], &backup);
    if (code == EXIT_DETACHED)
        fprintf(stderr,
                "The backup is being imported; nothing else was started: restore it once that is done.\n");
    if (code == EXIT_OK)
        code = confirm(bus, modem, backup);
    if (code == EXIT_OK)
        code = start_restore(bus, dict_string(modem, "path"), backup);
    json_object_put(modem);
    free(backup);
    return code;
}
