/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "help.h"

#include <stdio.h>
#include <string.h>

#include "options.h"

static const struct help_option table[] = {
    {'h', USES_ANY, "--help", NULL, NULL,
     "this text, or with a verb what that does and which options it takes"},
    {OPTION_VERSION, USES_ANY, "--version", NULL, NULL, "the version of qdlctl"},
    {'J', USES_ANY, "--json", "MODE", NULL,
     "short (-j), pretty or off; a followed job is JSON lines, the last with its result"},
    {'q', USES_ANY, "--quiet", NULL, NULL, "print errors only (and what was asked to be shown)"},
    {'y', USES_FLASH | USES_RESET | USES_ANY, "--yes", NULL, NULL, "do not ask before flashing or restoring"},
    {OPTION_NO_WAIT, USES_JOB, "--no-wait", NULL, NULL, "start the job, print its number, do not follow it"},
    {OPTION_TIMEOUT, USES_JOB | USES_FOLLOW, "--timeout", "SEC", NULL,
     "follow for at most this long; the job goes on (exit 130)"},
    {OPTION_DRY_RUN, USES_FLASH, "--dry-run", NULL, "flash", "show the plan, leave the modem alone"},
    {OPTION_ALLOW, USES_FLASH | USES_PLAN | USES_ALLOW, "--allow", "NAME,...", NULL,
     "lift a refusal by the name of its error (WrongFirmware, EraseCalibration, ...)"},
    {OPTION_MODEM_VERSION, USES_FLASH | USES_PLAN | USES_VERSION, "--modem-version", "NAME", NULL,
     "the version on the modem's label, where it cannot be read from the modem"},
    {OPTION_NO_RESET, USES_FLASH | USES_PLAN | USES_RESET, "--no-reset", NULL, "flash, restore",
     "leave the modem in emergency download mode"},
    {OPTION_WAIT, USES_WAIT, "--wait", NULL, "rescue, catch",
     "wait for the first modem in 9008 and say what to do"},
    {OPTION_PORT, USES_PORT, "--port", "PORT", "rescue, catch, policy",
     "the connector of that name, whatever comes there"},
    {OPTION_QUEUE, USES_MODEM, "--queue", NULL, NULL, "wait for the job that has the modem"},
    {OPTION_KIND, USES_BACKUP, "--kind", "KIND", "backup",
     "nand (default: everything), calibration (what only this unit has)\n"
     "or xqcn (its calibration over DIAG, while it runs)"},
    {OPTION_FORMAT, USES_FORMAT, "--format", "FORMAT", "backups export",
     "native (default) or xqcn, for QPST and others"},
    {OPTION_PARTITIONS, USES_PARTITIONS, "--partitions", "A,B,...", "backup, restore", "only these"},
    {'o', USES_OUTPUT, "--output", "FILE", "backup, dump, backups export", "a copy for yourself"},
    {OPTION_MODE, USES_MODE, "--mode", "MODE", "reset", "normal (default), edl or off"},
    {OPTION_LABEL, USES_IMPORT, "--label", "TEXT", "firmware import", "the text to show with it"},
    {OPTION_SHA256, USES_IMPORT, "--sha256", "HEX", "firmware import", "the digest that the file must have"},
    {OPTION_NO_PAGER, USES_ANY, "--no-pager", NULL, NULL, "long output goes straight to the terminal"},
    {OPTION_NO_LEGEND, USES_ANY, "--no-legend", NULL, NULL, "tables without their first line"},
    {OPTION_NO_ASK_PASSWORD, USES_ANY, "--no-ask-password", NULL, NULL, "never ask for a password"},
};
enum { N_OPTIONS = sizeof(table) / sizeof(table[0]), TEXT_AT = 29, VERB_WIDTH = 26 };
_Static_assert((int)N_OPTIONS <= (int)HELP_OPTIONS_MAX, "an option has no place to be noted as given");

const struct help_option *help_option(size_t i)
{
    return i < N_OPTIONS ? &table[i] : NULL;
}

/* What the words in capitals stand for, and what is added where they may be left out. */
static const struct {
    const char *word, *text, *optional;
} words[] = {
    {"MODEM", "a port, kernel name, chip serial or the beginning of a model",
     "; left out where one modem fits"},
    {"FIRMWARE",
     "an id or name in the library, or a path to a directory, zip, 7z or tar, imported on the way", ""},
    {"BACKUP", "the id of one, or its beginning; restore takes a file, too, and puts it into the store", ""},
};
enum { N_WORDS = sizeof(words) / sizeof(words[0]) };

static void print_word(size_t i, bool optional)
{
    printf("%s is %s%s.\n", words[i].word, words[i].text, optional ? words[i].optional : "");
}

static void print_option(const struct help_option *o, bool whose)
{
    char left[TEXT_AT], letter[4] = "";
    bool short_form = o->option < OPTION_VERSION && o->option != 'J';
    if (short_form || o->option == 'J')
        snprintf(letter, sizeof(letter), "-%c,", short_form ? o->option : 'j');
    snprintf(left, sizeof(left), "  %-3s %s%s%s", letter, o->name, o->value ? "=" : "",
             o->value ? o->value : "");
    printf("%-*s%s%s", TEXT_AT, left, whose && o->verbs ? o->verbs : "", whose && o->verbs ? ": " : "");
    for (const char *at = o->text; at;) {
        size_t n = strcspn(at, "\n");
        printf("%.*s\n", (int)n, at);
        at = at[n] ? at + n + 1 : NULL;
        if (at)
            printf("%*s", TEXT_AT, "");
    }
}

static void print_verb(const struct verb *verb)
{
    char left[64];
    snprintf(left, sizeof(left), "%s %s", verb->name, verb->arguments);
    if (strlen(left) <= VERB_WIDTH)
        printf("  %-*s %s\n", VERB_WIDTH, left, verb->help);
    else
        printf("  %s\n  %-*s %s\n", left, VERB_WIDTH, "", verb->help);
}

void help_all(const struct verb *verbs, size_t n_verbs)
{
    printf("qdlctl [OPTIONS] VERB [ARGS]\n\nBring Quectel modems back to life: flash them through the qdld "
           "service.\n\nVerbs:\n");
    for (size_t i = 0; i < n_verbs; i++)
        print_verb(&verbs[i]);
    printf("\n");
    for (size_t i = 0; i < N_WORDS; i++)
        print_word(i, true);
    printf("\nOptions:\n");
    for (size_t i = 0; i < N_OPTIONS; i++)
        print_option(&table[i], true);
    printf(
        "\nExit status: 0 done, 1 other, 2 usage, 3 no such thing, 4 not authorised, 5 busy, 6 failed and "
        "may be retried,\n7 failed and the modem needs recovery, 8 service not reachable, 130 detached.\n");
}

/* Those of "firmware" and "backups". */
static void print_second_words(const struct verb *verb, const struct verb *verbs, size_t n_verbs)
{
    size_t length = strlen(verb->name);
    bool said = false;
    for (size_t i = 0; i < n_verbs; i++)
        if (strncmp(verbs[i].name, verb->name, length) == 0 && verbs[i].name[length] == ' ') {
            printf("%s", said ? "" : "\nVerbs:\n");
            print_verb(&verbs[i]);
            said = true;
        }
}

void help_verb(const struct verb *verb, const struct verb *verbs, size_t n_verbs)
{
    bool optional = strstr(verb->arguments, "[MODEM]") != NULL, said = false;
    printf("qdlctl [OPTIONS] %s%s%s\n\n%s\n", verb->name, *verb->arguments ? " " : "", verb->arguments,
           verb->help);
    print_second_words(verb, verbs, n_verbs);
    for (size_t i = 0; i < N_WORDS; i++)
        if (strstr(verb->arguments, words[i].word)) {
            printf("%s", said ? "" : "\n");
            print_word(i, optional);
            said = true;
        }
    said = false;
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (table[i].use & verb->use) {
            printf("%s", said ? "" : "\nOptions:\n");
            print_option(&table[i], false);
            said = true;
        }
    printf("\nOptions of every verb:\n");
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (table[i].use == USES_ANY)
            print_option(&table[i], false);
    printf("\nMore about it: man qdlctl. All verbs: qdlctl --help\n");
}
