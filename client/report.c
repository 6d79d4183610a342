/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus.h"
#include "output.h"

static const struct {
    const char *hint, *text;
    int code;
} hints[] = {
    {"retry", "Run the same command again; it continues where this one stopped.", EXIT_RETRY},
    {"replug", "Unplug the modem, plug it in again, and run the same command; it continues.", EXIT_RETRY},
    {"power-cycle", "Take the modem's power away for a few seconds, then run the same command again.",
     EXIT_RECOVERY},
    {"bridge-usb-boot",
     "Bridge USB_BOOT to the module's own 1.8 V (VDD_EXT), apply power, release it once 9008 appears.",
     EXIT_RECOVERY},
    {"import-firmware",
     "Get a whole copy of the package for this modem and import that: qdlctl firmware import FILE.",
     EXIT_OTHER},
    {"check-label",
     "Read the SW version on the modem's label (or Quectel's IMEI page) and give it with --modem-version=.",
     EXIT_OTHER},
    {"restore-backup", "Restore this unit's own backup; another unit's calibration is not yours.",
     EXIT_RECOVERY},
    {"wrong-firmware", "Find the package whose name begins like the version on the modem's label.",
     EXIT_OTHER},
    {"contact-vendor", "The modem's flash looks damaged; write no more to it and contact the vendor.",
     EXIT_RECOVERY},
};

/* Results that are not plain "done" or "failed". */
static const struct {
    const char *result, *text;
    int code; /* 0: by hint and error */
} results[] = {
    {"not-returned", "the modem has not come back", EXIT_RECOVERY},
    {"wrong-version", "the modem runs another version", EXIT_RECOVERY},
    {"no-calibration", "the modem has lost its calibration", EXIT_RECOVERY},
    {"interrupted", "interrupted", EXIT_OK},
};

enum report_form { FORM_TEXT, FORM_BYTES, FORM_STEPS, FORM_HINT };
static const struct {
    const char *key, *name;
    enum report_form form;
    const char *silent; /* a value that tells nobody anything */
} keys[] = {
    {"mode", "Mode", FORM_TEXT, NULL},
    {"model", "Model", FORM_TEXT, NULL},
    {"serial", "Chip serial", FORM_TEXT, NULL},
    {"chip", "Chip", FORM_TEXT, NULL},
    {"hwid", "Hardware id", FORM_TEXT, NULL},
    {"pkhash", "PK hash", FORM_TEXT, NULL},
    {"sahara-version", "Sahara", FORM_TEXT, NULL},
    {"storage", "Storage", FORM_TEXT, NULL},
    {"version", "Version", FORM_TEXT, NULL},
    {"imei", "IMEI", FORM_TEXT, NULL},
    {"programmer", "Programmer", FORM_TEXT, NULL},
    {"backup", "Backup", FORM_TEXT, NULL},
    {"calibration", "Calibration", FORM_TEXT, NULL},
    {"state", "State", FORM_TEXT, NULL},
    {"nv-items", "NV items", FORM_TEXT, NULL},
    {"files", "Files", FORM_TEXT, NULL},
    {"unreadable", "Unreadable", FORM_TEXT, "0"},
    {"partitions", "Partitions", FORM_TEXT, NULL},
    {"unreadable-calibration", "Unreadable calibration", FORM_TEXT, "0"},
    {"unreadable-pages", "Unreadable pages", FORM_TEXT, "0"},
    {"continued", "Continued", FORM_TEXT, NULL},
    {"changing-items", "Changing", FORM_TEXT, NULL},
    {"resumed", "Continued", FORM_STEPS, "0"},
    {"erased", "Erased", FORM_TEXT, NULL},
    {"written", "Written", FORM_TEXT, NULL},
    {"already-right", "Already right", FORM_TEXT, "0"},
    {"refused", "Refused", FORM_TEXT, "0"},
    {"blocks-written", "Blocks written", FORM_TEXT, NULL},
    {"blocks-already-right", "Already right", FORM_TEXT, "0"},
    {"erased-pages-written", "Erased inside", FORM_TEXT, "0"},
    {"bytes", "Bytes", FORM_BYTES, "0"},
    {"verified", "Verified", FORM_TEXT, NULL},
    {"partition-table", "Partition table", FORM_TEXT, NULL},
    {"bad-blocks", "Bad blocks", FORM_TEXT, "0, 0 of them new"},
    {"error-logs", "Modem's errors", FORM_TEXT, "0"},
    {"vendor-check", "Vendor check", FORM_TEXT, NULL},
    {"sbl-last", "Boot loader", FORM_TEXT, "yes"},
    {"reset", "Reset", FORM_TEXT, NULL},
    {"came-back", "Came back in", FORM_TEXT, NULL},
    {"operating-mode", "Operating mode", FORM_TEXT, NULL},
    {"regions", "Regions", FORM_TEXT, NULL},
    {"afterwards", "Afterwards", FORM_TEXT, NULL},
    {"hint", "What helps", FORM_HINT, NULL},
    {"problems", "Problem", FORM_TEXT, NULL},
};
enum { KEY_COUNT = sizeof(keys) / sizeof(keys[0]) };

int report_exit_code(json_object *job)
{
    const char *result = dict_string(job, "Result"), *hint = dict_string(job, "RecoveryHint");
    if (strcmp(result, "done") == 0)
        return EXIT_OK;
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
        if (results[i].code && strcmp(results[i].result, result) == 0)
            return results[i].code;
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (strcmp(hints[i].hint, hint) == 0)
            return hints[i].code;
    if (strcmp(result, "interrupted") == 0)
        return EXIT_RETRY;
    int code = bus_exit_code(dict_string(job, "ErrorName"));
    /* A job that failed was reached and was allowed: these are the words of the job, not of our call. */
    return code == EXIT_OK || code == EXIT_USAGE || code == EXIT_NO_SERVICE ? EXIT_OTHER : code;
}

static const char *hint_text(const char *hint)
{
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (strcmp(hints[i].hint, hint) == 0)
            return hints[i].text;
    return "";
}

static void print_entry(FILE *f, size_t i, const char *value)
{
    char text[FORMAT_SIZE * 2], number[FORMAT_SIZE];
    if (keys[i].silent && strcmp(keys[i].silent, value) == 0)
        return;
    if (keys[i].form == FORM_BYTES) {
        format_size(strtoull(value, NULL, 10), number);
        snprintf(text, sizeof(text), "%s", number);
        value = text;
    } else if (keys[i].form == FORM_STEPS) {
        snprintf(text, sizeof(text), "%.8s steps were done already", value);
        value = text;
    } else if (keys[i].form == FORM_HINT) {
        value = hint_text(value);
    }
    print_field_to(f, keys[i].name, value);
}

/* A list of one that the message says already is not said again. */
static bool is_said(json_object *list, const char *message)
{
    return json_object_array_length(list) == 1 &&
           strstr(message, json_object_get_string(json_object_array_get_idx(list, 0)));
}

static void print_value(FILE *f, size_t key, const char *name, json_object *value, const char *message)
{
    if (!json_object_is_type(value, json_type_array)) {
        if (key < KEY_COUNT)
            print_entry(f, key, json_object_get_string(value));
        else
            print_field_to(f, name, json_object_get_string(value));
        return;
    }
    for (size_t i = 0; i < json_object_array_length(value) && !is_said(value, message); i++)
        print_field_to(f, key < KEY_COUNT ? keys[key].name : name,
                       json_object_get_string(json_object_array_get_idx(value, i)));
}

/* In our order; what a newer service says besides comes last under its own name. */
static void print_report(FILE *f, json_object *job)
{
    json_object *report, *value;
    const char *message = dict_string(job, "ErrorMessage");
    if (!json_object_object_get_ex(job, "Report", &report))
        return;
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (json_object_object_get_ex(report, keys[i].key, &value))
            print_value(f, i, NULL, value, message);
    json_object_object_foreach(report, name, other)
    {
        size_t i = 0;
        while (i < KEY_COUNT && strcmp(keys[i].key, name) != 0)
            i++;
        if (i == KEY_COUNT)
            print_value(f, i, name, other, message);
    }
}

static void print_done(json_object *job)
{
    char span[FORMAT_SIZE] = "";
    uint64_t start = dict_u64(job, "StartTime"), end = dict_u64(job, "EndTime");
    if (start && end >= start + 1000000)
        format_span(end - start, span);
    printf("Job %llu (%s) is done%s%s.\n", (unsigned long long)dict_u64(job, "Id"), dict_string(job, "Kind"),
           *span ? " after " : "", span);
    print_report(stdout, job);
}

const char *report_words(const char *result)
{
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
        if (strcmp(results[i].result, result) == 0)
            return results[i].text;
    return result;
}

const char *report_help(json_object *job)
{
    return hint_text(dict_string(job, "RecoveryHint"));
}

void report_result(json_object *job)
{
    const char *result = dict_string(job, "Result"), *message = dict_string(job, "ErrorMessage");
    const char *name = strrchr(dict_string(job, "ErrorName"), '.');
    if (options.json != JSON_OFF)
        return;
    if (strcmp(result, "done") == 0) {
        if (!options.quiet)
            print_done(job);
        return;
    }
    result = report_words(result);
    fflush(stdout);
    fprintf(stderr, "qdlctl: job %llu (%s) %s%s%s%s%s%s\n", (unsigned long long)dict_u64(job, "Id"),
            dict_string(job, "Kind"), strcmp(result, "cancelled") == 0 ? "was " : "", result,
            name || *message ? ": " : "", name ? name + 1 : "", name && *message ? ": " : "", message);
    print_report(stderr, job);
    print_field_to(stderr, "What helps", report_help(job));
}
