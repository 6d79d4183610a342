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

#include "help.h"

enum { TIMEOUT_MAX_SEC = 365 * 24 * 3600 };

struct options options;

int usage_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("qdlctl: ", stderr);
    vfprintf(stderr, format, ap);
    fprintf(stderr, " (see qdlctl %s%s--help)\n", options.verb ? options.verb : "", options.verb ? " " : "");
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
    case 'h':
        options.help = true;
        break;
    case OPTION_VERSION:
        options.version = true;
        break;
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

static bool given[HELP_OPTIONS_MAX];

/* One that the verb would not look at is refused: a --dry-run that is not heard does harm. */
int options_check(const char *verb, unsigned use)
{
    const struct help_option *o;
    for (size_t i = 0; (o = help_option(i)); i++)
        if (given[i] && !(o->use & (use | USES_ANY)))
            return usage_error("%s does not take %s", verb, o->name);
    return EXIT_OK;
}

int options_parse(int argc, char **argv)
{
    const struct help_option *o;
    for (int c; (c = getopt_long(argc, argv, "hjqyo:", long_options, NULL)) >= 0;) {
        for (size_t i = 0; (o = help_option(i)); i++)
            given[i] |= o->option == c;
        int code = take_option(c);
        if (code != EXIT_OK)
            return code;
    }
    return EXIT_OK;
}
