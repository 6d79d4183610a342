/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qdlctl.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "bus.h"

struct options options;

static const struct verb verbs[] = {
    {"list", "", "all modems, present and remembered (default)", verb_list, 0},
    {"status", "[MODEM]", "everything known of one modem or all", verb_status, 1},
    {"plan", "[MODEM] FIRMWARE", "what a flash would keep, erase, write and check", verb_plan, 2},
    {"flash", "[MODEM] FIRMWARE", "write a package, verify it, start the modem", verb_flash, 2},
    {"identify", "[MODEM]", "ask a modem in emergency download mode who it is", verb_identify, 1},
    {"reset", "[MODEM]", "boot it, or --mode=edl|off", verb_reset, 1},
    {"firmware", "[list|import|show|verify|remove] [ARG]", "the library of packages", verb_firmware, 2},
    {"jobs", "", "running and recent jobs", verb_jobs, 0},
    {"follow", "[JOB]", "follow a job to its end", verb_follow, 1},
    {"cancel", "JOB", "ask a job to end", verb_cancel, 1},
    {"log", "JOB", "print a job's log", verb_log, 1},
};

int usage_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("qdlctl: ", stderr);
    vfprintf(stderr, format, ap);
    fputs(" (see qdlctl --help)\n", stderr);
    va_end(ap);
    return EXIT_USAGE;
}

static void help(void)
{
    printf("qdlctl [OPTIONS] VERB [ARGS]\n\nBring Quectel modems back to life: flash them through the qdld "
           "service.\n\nVerbs:\n");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        char left[64];
        snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].arguments);
        if (strlen(left) <= 26)
            printf("  %-26s %s\n", left, verbs[i].help);
        else
            printf("  %s\n  %-26s %s\n", left, "", verbs[i].help);
    }
    printf("\nMODEM is a port, kernel name, chip serial or the beginning of a model; it may be left out "
           "where one modem fits.\n"
           "FIRMWARE is an id or name in the library, or a path to a directory, zip, 7z or tar, imported on "
           "the way.\n\n"
           "Options:\n"
           "  -h, --help                 this text\n"
           "      --version              the version of qdlctl\n"
           "  -j, --json=MODE            short (-j), pretty or off; a followed job is JSON lines, the last "
           "with its result\n"
           "  -q, --quiet                print errors only\n"
           "  -y, --yes                  do not ask before flashing\n"
           "      --no-wait              start the job, print its number, do not follow it\n"
           "      --timeout=SEC          follow for at most this long; the job goes on (exit 130)\n"
           "      --dry-run              flash: show the plan, do nothing\n"
           "      --allow=NAME,...       lift a refusal by the name of its error (WrongFirmware, "
           "EraseCalibration, ...)\n"
           "      --modem-version=NAME   the version on the modem's label, where it cannot be read from the "
           "modem\n"
           "      --no-reset             flash: leave the modem in emergency download mode\n"
           "      --queue                wait for the job that has the modem\n"
           "      --mode=MODE            reset: normal (default), edl or off\n"
           "      --label=TEXT           firmware import: the text to show with it\n"
           "      --sha256=HEX           firmware import: the digest that the file must have\n"
           "      --no-pager, --no-legend, --no-ask-password\n\n"
           "Exit status: 0 done, 1 other, 2 usage, 3 no such thing, 4 not authorised, 5 busy, 6 failed and "
           "may be retried,\n"
           "7 failed and the modem needs recovery, 8 service not reachable, 130 detached.\n");
}

enum {
    OPTION_VERSION = 256,
    OPTION_NO_WAIT,
    OPTION_TIMEOUT,
    OPTION_DRY_RUN,
    OPTION_ALLOW,
    OPTION_MODEM_VERSION,
    OPTION_NO_RESET,
    OPTION_QUEUE,
    OPTION_MODE,
    OPTION_LABEL,
    OPTION_SHA256,
    OPTION_NO_PAGER,
    OPTION_NO_LEGEND,
    OPTION_NO_ASK_PASSWORD,
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"json", required_argument, NULL, 'J'},
    {"quiet", no_argument, NULL, 'q'},
    {"yes", no_argument, NULL, 'y'},
    {"no-wait", no_argument, NULL, OPTION_NO_WAIT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"allow", required_argument, NULL, OPTION_ALLOW},
    {"modem-version", required_argument, NULL, OPTION_MODEM_VERSION},
    {"no-reset", no_argument, NULL, OPTION_NO_RESET},
    {"queue", no_argument, NULL, OPTION_QUEUE},
    {"mode", required_argument, NULL, OPTION_MODE},
    {"label", required_argument, NULL, OPTION_LABEL},
    {"sha256", required_argument, NULL, OPTION_SHA256},
    {"no-pager", no_argument, NULL, OPTION_NO_PAGER},
    {"no-legend", no_argument, NULL, OPTION_NO_LEGEND},
    {"no-ask-password", no_argument, NULL, OPTION_NO_ASK_PASSWORD},
    {0},
};

/* "A,B" as a NULL-terminated list; empty parts are left out. Lives as long as the process. */
static char **split_commas(const char *text)
{
    char *copy = strdup(text), *save = NULL;
    char **list = calloc(strlen(text) + 2, sizeof(*list));
    if (!copy || !list)
        abort();
    size_t n = 0;
    for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save))
        list[n++] = part;
    return list;
}

static int parse_json(const char *mode)
{
    static const char *const modes[] = {"off", "short", "pretty"};
    for (int i = 0; i < 3; i++)
        if (strcmp(mode, modes[i]) == 0) {
            options.json = (enum json_mode)i;
            return EXIT_OK;
        }
    return usage_error("--json=%s is unknown; expected short, pretty or off", mode);
}

static int parse_timeout(const char *text)
{
    char *end;
    errno = 0;
    unsigned long seconds = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || seconds == 0 || seconds > 31536000)
        return usage_error("--timeout=%s: expected seconds from 1 to 31536000", text);
    options.timeout_usec = seconds * 1000000ULL;
    return EXIT_OK;
}

/* -1: go on; else the exit code. */
static int take_option(int c)
{
    int code = EXIT_OK;
    switch (c) {
    case 'h':
        help();
        return EXIT_OK;
    case OPTION_VERSION:
        printf("qdlctl %s\n", QDLD_VERSION);
        return EXIT_OK;
    case 'j':
        options.json = JSON_SHORT;
        break;
    case 'J':
        code = parse_json(optarg);
        break;
    case 'q':
        options.quiet = true;
        break;
    case 'y':
        options.yes = true;
        break;
    case OPTION_NO_WAIT:
        options.no_wait = true;
        break;
    case OPTION_TIMEOUT:
        code = parse_timeout(optarg);
        break;
    case OPTION_DRY_RUN:
        options.dry_run = true;
        break;
    case OPTION_ALLOW:
        options.allow = split_commas(optarg);
        break;
    case OPTION_MODEM_VERSION:
        options.modem_version = optarg;
        break;
    case OPTION_NO_RESET:
        options.no_reset = true;
        break;
    case OPTION_QUEUE:
        options.queue = true;
        break;
    case OPTION_MODE:
        options.mode = optarg;
        break;
    case OPTION_LABEL:
        options.label = optarg;
        break;
    case OPTION_SHA256:
        options.sha256 = optarg;
        break;
    case OPTION_NO_PAGER:
        options.no_pager = true;
        break;
    case OPTION_NO_LEGEND:
        options.no_legend = true;
        break;
    case OPTION_NO_ASK_PASSWORD:
        options.no_ask_password = true;
        break;
    default:
        fputs("(see qdlctl --help)\n", stderr);
        return EXIT_USAGE;
    }
    return code == EXIT_OK ? -1 : code;
}

static int run_verb(int argc, char **argv)
{
    static char name[] = "list", *list[] = {name, NULL};
    if (argc == 0) {
        argc = 1;
        argv = list;
    }
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, argv[0]) != 0)
            continue;
        if (argc - 1 > verbs[i].arguments_max)
            return usage_error("%s takes %s", argv[0],
                               *verbs[i].arguments ? verbs[i].arguments : "no argument");
        sd_bus *bus = NULL;
        int code = bus_open(&bus);
        if (code == EXIT_OK)
            code = verbs[i].run(bus, argc, argv);
        agent_stop();
        sd_bus_flush_close_unref(bus);
        return code;
    }
    return usage_error("%s is not a verb", argv[0]);
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    for (int c; (c = getopt_long(argc, argv, "hjqy", long_options, NULL)) >= 0;) {
        int code = take_option(c);
        if (code >= 0)
            return code;
    }
    return run_verb(argc - optind, argv + optind);
}
