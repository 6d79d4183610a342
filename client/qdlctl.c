/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qdlctl.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "bus.h"
#include "help.h"
#include "options.h"

enum { ARGUMENTS_ANY = 4096 };

static const struct verb verbs[] = {
    {"list", "", "all modems, present and remembered (default)", verb_list, 0, 0, 0},
    {"status", "[MODEM]", "everything known of one modem or all", verb_status, 0, 1, 0},
    {"plan", "[MODEM] FIRMWARE", "what a flash would keep, erase, write and check", verb_plan, 1, 2,
     USES_PLAN | USES_FOLLOW},
    {"flash", "[MODEM] FIRMWARE", "write a package, verify it, start the modem", verb_flash, 1, 2,
     USES_FLASH | USES_JOB | USES_MODEM},
    {"rescue", "[MODEM] [FIRMWARE]", "out of the loop and flashed; --wait tells what to do at the bench",
     verb_rescue, 0, 2, USES_PLAN | USES_JOB | USES_MODEM | USES_PORT | USES_WAIT},
    {"catch", "[MODEM]", "hold it in the next window that it gives", verb_catch, 0, 1,
     USES_JOB | USES_MODEM | USES_PORT | USES_WAIT},
    {"policy", "MODEM POLICY [FIRMWARE]", "what is done unasked: off, hold, or rescue FIRMWARE", verb_policy,
     1, 3, USES_PORT | USES_VERSION},
    {"monitor", "", "a line for whatever happens", verb_monitor, 0, 0, USES_FOLLOW},
    {"forget", "MODEM", "what is remembered of it, its policy included", verb_forget, 1, 1, 0},
    {"backup", "[MODEM]", "save its flash, or --kind=calibration|xqcn; -o FILE for a copy", verb_backup, 0, 1,
     USES_JOB | USES_MODEM | USES_BACKUP | USES_OUTPUT | USES_PARTITIONS},
    {"dump", "[MODEM]", "save the memory of a modem that has crashed; -o FILE for a copy", verb_dump, 0, 1,
     USES_JOB | USES_MODEM | USES_OUTPUT},
    {"restore", "[MODEM] BACKUP", "write a backup back, the present state is saved first", verb_restore, 1, 2,
     USES_JOB | USES_MODEM | USES_ALLOW | USES_PARTITIONS | USES_RESET},
    {"identify", "[MODEM]", "ask a modem who it is", verb_identify, 0, 1, USES_JOB | USES_MODEM},
    {"enter-edl", "[MODEM]", "bring a running modem to emergency download mode", verb_enter_edl, 0, 1,
     USES_JOB | USES_MODEM},
    {"reset", "[MODEM]", "boot it, or --mode=edl|off", verb_reset, 0, 1, USES_JOB | USES_MODEM | USES_MODE},
    {"firmware", "[list]", "the library of packages", verb_firmware_list, 0, 0, 0},
    {"firmware import", "PATH", "put a package into it: a directory, zip, 7z or tar", verb_firmware_import, 1,
     1, USES_JOB | USES_IMPORT},
    {"firmware show", "FIRMWARE", "everything known of a package", verb_firmware_show, 1, 1, 0},
    {"firmware verify", "FIRMWARE", "read it again and check every digest", verb_firmware_verify, 1, 1,
     USES_JOB},
    {"firmware remove", "FIRMWARE", "take it out of the library", verb_firmware_remove, 1, 1, 0},
    {"backups", "[list]", "what was saved of modems", verb_backups_list, 0, 0, 0},
    {"backups show", "BACKUP", "everything known of a backup", verb_backups_show, 1, 1, 0},
    {"backups export", "BACKUP [FILE]", "copy it into a file", verb_backups_export, 1, 2,
     USES_OUTPUT | USES_FORMAT},
    {"backups import", "FILE", "put such a file into the store", verb_backups_import, 1, 1, USES_JOB},
    {"backups verify", "BACKUP", "read it again and check every digest", verb_backups_verify, 1, 1, USES_JOB},
    {"backups remove", "BACKUP", "delete it", verb_backups_remove, 1, 1, USES_ALLOW},
    {"jobs", "", "running and recent jobs", verb_jobs, 0, 0, 0},
    {"history", "[MODEM]", "what happened to modems and jobs", verb_history, 0, 1, 0},
    {"follow", "[JOB]", "follow a job to its end", verb_follow, 0, 1, USES_FOLLOW},
    {"cancel", "JOB", "ask a job to end", verb_cancel, 1, 1, 0},
    {"log", "JOB", "print a job's log", verb_log, 1, 1, 0},
    {"inhibit", "MODEM -- COMMAND...", "leave it to another tool while COMMAND runs (root)", verb_inhibit, 2,
     ARGUMENTS_ANY, 0},
    {"doctor", "", "what stands in the way of a modem, and the cure", verb_doctor, 0, 0, 0},
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* The verbs of two words, and what is said of a second one that is none. */
static const struct {
    const char *first, *seconds;
} stores[] = {
    {"firmware", "list, import, show, verify or remove"},
    {"backups", "list, show, export, import, verify or remove"},
};
enum { N_STORES = sizeof(stores) / sizeof(stores[0]) };

/* "firmware import PATH": the two words are the verb; argv[0] is its last word then. */
static int find_words(int *argc, char ***argv, const struct verb **ret)
{
    char both[64];
    size_t store = 0;
    *ret = find_verb((*argv)[0]);
    if (!*ret)
        return usage_error("%s is not a verb", (*argv)[0]);
    while (store < N_STORES && strcmp((*argv)[0], stores[store].first) != 0)
        store++;
    if (store == N_STORES || *argc < 2)
        return EXIT_OK;
    snprintf(both, sizeof(both), "%s %.40s", stores[store].first, (*argv)[1]);
    if (strcmp((*argv)[1], "list") != 0)
        *ret = find_verb(both);
    if (!*ret)
        return usage_error("%.60s is unknown; expected %s", both, stores[store].seconds);
    (*argc)--;
    (*argv)++;
    return EXIT_OK;
}

static int run_verb(int argc, char **argv)
{
    static char name[] = "list", *list[] = {name, NULL};
    const struct verb *verb;
    if (argc == 0) {
        argc = 1;
        argv = list;
    }
    int code = find_words(&argc, &argv, &verb);
    if (code == EXIT_OK)
        options.verb = verb->name;
    if (code == EXIT_OK && options.help) {
        help_verb(verb, verbs, N_VERBS);
        return EXIT_OK;
    }
    if (code == EXIT_OK && (argc - 1 < verb->arguments_min || argc - 1 > verb->arguments_max))
        code = usage_error("%s takes %s", verb->name, verb->arguments_max ? verb->arguments : "no argument");
    if (code == EXIT_OK)
        code = options_check(verb->name, verb->use);
    if (code != EXIT_OK)
        return code;

    sd_bus *bus = NULL;
    code = bus_open(&bus);
    if (code == EXIT_OK)
        code = verb->run(bus, argc, argv);
    agent_stop();
    sd_bus_flush_close_unref(bus);
    return code;
}

static int run(int argc, char **argv)
{
    if (options.version)
        printf("qdlctl %s\n", QDLD_VERSION);
    else if (options.help && argc == 0)
        help_all(verbs, N_VERBS);
    else
        return run_verb(argc, argv);
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    /* 0.43, not 0.42999999999999999 */
    json_c_set_serialization_double_format("%.6g", JSON_C_OPTION_GLOBAL);
    int code = options_parse(argc, argv);
    if (code == EXIT_OK)
        code = run(argc - optind, argv + optind);
    if ((fflush(stdout) != 0 || ferror(stdout)) && errno != EPIPE) {
        fprintf(stderr, "qdlctl: standard output: %s\n", strerror(errno));
        code = code == EXIT_OK ? EXIT_OTHER : code;
    }
    return code;
}
