/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

enum { TIMEOUT_MAX_SEC = 365 * 24 * 3600 };

struct options options;

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

bool options_is_utf8(const char *text)
{
    static locale_t utf8;
    if (!utf8)
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    locale_t before = uselocale(utf8);
    bool valid = mbstowcs(NULL, text, 0) != (size_t)-1;
    uselocale(before);
    return valid;
}

static void help(const struct verb *verbs, size_t n_verbs)
{
    printf("qdlctl [OPTIONS] VERB [ARGS]\n\nBring Quectel modems back to life: flash them through the qdld "
           "service.\n\nVerbs:\n");
    for (size_t i = 0; i < n_verbs; i++) {
        char left[64];
        snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].arguments);
        if (strlen(left) <= 26)
            printf("  %-26s %s\n", left, verbs[i].help);
        else
            printf("  %s\n  %-26s %s\n", left, "", verbs[i].help);
    }
    printf(
        "\nMODEM is a port, kernel name, chip serial or the beginning of a model; left out "
        "where one modem fits.\n"
        "FIRMWARE is an id or name in the library, or a path to a directory, zip, 7z or tar, imported on "
        "the way.\n"
        "BACKUP is the id of one, or its beginning; restore takes a file, too, and puts it into the "
        "store.\n\n"
        "Options:\n"
        "  -h, --help                 this text\n"
        "      --version              the version of qdlctl\n"
        "  -j, --json=MODE            short (-j), pretty or off; a followed job is JSON lines, the last "
        "with its result\n"
        "  -q, --quiet                print errors only (and what was asked to be shown)\n"
        "  -y, --yes                  do not ask before flashing or restoring\n"
        "      --no-wait              start the job, print its number, do not follow it\n"
        "      --timeout=SEC          follow for at most this long; the job goes on (exit 130)\n"
        "      --dry-run              flash: show the plan, leave the modem alone\n"
        "      --allow=NAME,...       lift a refusal by the name of its error (WrongFirmware, "
        "EraseCalibration, ...)\n"
        "      --modem-version=NAME   the version on the modem's label, where it cannot be read from the "
        "modem\n"
        "      --no-reset             flash, restore: leave the modem in emergency download mode\n"
        "      --wait                 rescue, catch: wait for the first modem in 9008 and say what to do\n"
        "      --port=PORT            rescue, catch, policy: of a connector, whatever comes there\n"
        "      --queue                wait for the job that has the modem\n"
        "      --kind=KIND            backup: nand (default: everything), calibration (what only this unit "
        "has)\n"
        "                             or xqcn (its calibration over DIAG, while it runs)\n"
        "      --format=FORMAT        backups export: native (default) or xqcn, for QPST and others\n"
        "      --partitions=A,B,...   backup, restore: only these\n"
        "  -o, --output=FILE          backup, backups export: a copy for yourself\n"
        "      --mode=MODE            reset: normal (default), edl or off\n"
        "      --label=TEXT           firmware import: the text to show with it\n"
        "      --sha256=HEX           firmware import: the digest that the file must have\n"
        "      --no-pager             long output goes straight to the terminal\n"
        "      --no-legend            tables without their first line\n"
        "      --no-ask-password      never ask for a password\n\n"
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
    OPTION_FORMAT,
    OPTION_WAIT,
    OPTION_PORT,
    OPTION_MODE,
    OPTION_KIND,
    OPTION_PARTITIONS,
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
    {"wait", no_argument, NULL, OPTION_WAIT},
    {"port", required_argument, NULL, OPTION_PORT},
    {"mode", required_argument, NULL, OPTION_MODE},
    {"kind", required_argument, NULL, OPTION_KIND},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"partitions", required_argument, NULL, OPTION_PARTITIONS},
    {"output", required_argument, NULL, 'o'},
    {"label", required_argument, NULL, OPTION_LABEL},
    {"sha256", required_argument, NULL, OPTION_SHA256},
    {"no-pager", no_argument, NULL, OPTION_NO_PAGER},
    {"no-legend", no_argument, NULL, OPTION_NO_LEGEND},
    {"no-ask-password", no_argument, NULL, OPTION_NO_ASK_PASSWORD},
    {0},
};

/* Adds "A,B" to the NULL-terminated list; empty parts are left out. Lives as long as the process. */
static void add_to(char ***to, const char *text)
{
    size_t n = 0;
    while (*to && (*to)[n])
        n++;
    char *copy = strdup(text), *save = NULL;
    char **list = realloc(*to, (n + strlen(text) + 2) * sizeof(*list));
    if (!copy || !list)
        abort();
    for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save))
        list[n++] = part;
    list[n] = NULL;
    *to = list;
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
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    options.deadline_usec = ((uint64_t)now.tv_sec + seconds) * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return EXIT_OK;
}

static int take_option(int c)
{
    int code = EXIT_OK;
    if (optarg && !options_is_utf8(optarg))
        return usage_error("the text of an option is not UTF-8");
    switch (c) {
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
        add_to(&options.allow, optarg);
        break;
    case OPTION_PARTITIONS:
        add_to(&options.partitions, optarg);
        break;
    case OPTION_KIND:
        options.kind = optarg;
        break;
    case OPTION_FORMAT:
        options.format = optarg;
        break;
    case 'o':
        options.output = optarg;
        break;
    case OPTION_MODEM_VERSION:
        options.modem_version = optarg;
        break;
    case OPTION_NO_RESET:
        options.no_reset = true;
        break;
    case OPTION_WAIT:
        options.wait = true;
        break;
    case OPTION_PORT:
        options.port = optarg;
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
    return code;
}

/* An option that the verb would not look at is refused: a --dry-run that is not heard does harm. */
static const struct {
    int option;
    unsigned use;
    const char *name;
} uses[] = {
    {OPTION_NO_WAIT, USES_JOB, "--no-wait"},
    {OPTION_TIMEOUT, USES_JOB | USES_FOLLOW, "--timeout"},
    {OPTION_DRY_RUN, USES_FLASH, "--dry-run"},
    {OPTION_ALLOW, USES_FLASH | USES_PLAN | USES_ALLOW, "--allow"},
    {OPTION_KIND, USES_BACKUP, "--kind"},
    {OPTION_FORMAT, USES_FORMAT, "--format"},
    {OPTION_PARTITIONS, USES_PARTITIONS, "--partitions"},
    {'o', USES_OUTPUT, "--output"},
    {OPTION_MODEM_VERSION, USES_FLASH | USES_PLAN | USES_VERSION, "--modem-version"},
    {OPTION_WAIT, USES_WAIT, "--wait"},
    {OPTION_PORT, USES_PORT, "--port"},
    {OPTION_NO_RESET, USES_FLASH | USES_PLAN | USES_RESET, "--no-reset"},
    {OPTION_QUEUE, USES_MODEM, "--queue"},
    {OPTION_MODE, USES_MODE, "--mode"},
    {OPTION_LABEL, USES_IMPORT, "--label"},
    {OPTION_SHA256, USES_IMPORT, "--sha256"},
};
enum { N_USES = sizeof(uses) / sizeof(uses[0]) };
static bool given[N_USES];

int options_check(const char *verb, unsigned use)
{
    for (size_t i = 0; i < N_USES; i++)
        if (given[i] && !(uses[i].use & use))
            return usage_error("%s does not take %s", verb, uses[i].name);
    return EXIT_OK;
}

int options_parse(int argc, char **argv, const struct verb *verbs, size_t n_verbs, bool *ret_done)
{
    *ret_done = false;
    for (int c; (c = getopt_long(argc, argv, "hjqyo:", long_options, NULL)) >= 0;) {
        if (c == 'h' || c == OPTION_VERSION) {
            *ret_done = true;
            if (c == 'h')
                help(verbs, n_verbs);
            else
                printf("qdlctl %s\n", QDLD_VERSION);
            return EXIT_OK;
        }
        for (size_t i = 0; i < N_USES; i++)
            given[i] |= uses[i].option == c;
        int code = take_option(c);
        if (code != EXIT_OK)
            return code;
    }
    return EXIT_OK;
}
