/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "news.h"

#include <stdio.h>
#include <string.h>

#include "../bus.h"
#include "../loop.h"
#include "../output.h"
#include "../report.h"

#define GIVEN_UP  "is left to a human"
#define NO_OWNER  4294967295u /* Job.OwnerUid: a policy */
#define NO_OBJECT "/"

enum { MODEL_MAX = 64, NOTE_MAX = 600, BODY_MAX = 800, MESSAGE_MAX = 500, HELP_MAX = 300 };

static bool is_text(json_object *d, const char *key, const char *text)
{
    return d && strcmp(dict_string(d, key), text) == 0;
}

static bool is_edl(json_object *modem)
{
    return is_text(modem, "Mode", "sahara") || is_text(modem, "Mode", "firehose") ||
           is_text(modem, "Mode", "unknown");
}

static bool is_given_up(json_object *modem)
{
    return modem && strncmp(dict_string(modem, "Note"), GIVEN_UP, strlen(GIVEN_UP)) == 0;
}

static bool has(json_object *d, const char *key)
{
    return *dict_string(d, key) && !is_text(d, key, NO_OBJECT);
}

void news_name(json_object *modem, char *out, size_t size)
{
    const char *model = dict_string(modem, "Model"), *kernel = dict_string(modem, "KernelName");
    /* Every Qualcomm device in the world looks like that in 9008. */
    snprintf(out, size, "%.*s at %s", *model ? text_fit(model, MODEL_MAX) : (int)strlen("device"),
             *model ? model : "device", *kernel ? kernel : dict_string(modem, "Port"));
}

/* ---- modems ---- */

static void tell_lost_calibration(json_object *modem, struct news *out)
{
    const char *kernel = dict_string(modem, "KernelName");
    snprintf(out->summary, sizeof(out->summary), "A modem has lost its calibration");
    out->urgent = true;
    if (has(modem, "CalibrationBackup"))
        snprintf(out->body, sizeof(out->body),
                 "No network takes it as it is. This unit's own calibration was saved before: qdlctl restore "
                 "%s %.12s",
                 kernel, path_id(dict_string(modem, "CalibrationBackup")));
    else
        snprintf(out->body, sizeof(out->body),
                 "No network takes it as it is. \"qdlctl status %s\" says what helps; another unit's "
                 "calibration does not.",
                 kernel);
}

static void tell_loop(json_object *modem, struct news *out)
{
    char loop[LOOP_TEXT_SIZE];
    const char *note = dict_string(modem, "Note");
    loop_text(modem, loop);
    snprintf(out->summary, sizeof(out->summary), "A device keeps falling into emergency download mode");
    snprintf(out->body, sizeof(out->body), "%s.%s%.*s%s", loop, *note ? " It " : "", text_fit(note, NOTE_MAX),
             note, *note ? "." : " \"qdlctl rescue\" brings it back with a package for it.");
}

static void tell_edl(json_object *modem, struct news *out)
{
    const char *note = dict_string(modem, "Note");
    snprintf(out->summary, sizeof(out->summary), "A device is in emergency download mode");
    snprintf(out->body, sizeof(out->body), "It waits for firmware.%s%.*s%s", *note ? " It " : "",
             text_fit(note, NOTE_MAX), note, *note ? "." : "");
}

bool news_of_modem(json_object *before, json_object *now, struct news *out)
{
    char text[sizeof(out->body)];
    *out = (struct news){0};
    if (is_given_up(now) && !is_given_up(before)) {
        snprintf(out->summary, sizeof(out->summary), "A modem needs you");
        const char *note = dict_string(now, "Note");
        snprintf(out->body, sizeof(out->body), "It %.*s.", text_fit(note, NOTE_MAX), note);
        out->urgent = true;
    } else if (dict_bool(now, "FactoryTestMode") && !(before && dict_bool(before, "FactoryTestMode"))) {
        tell_lost_calibration(now, out);
    } else if (dict_bool(now, "Looping") && !(before && dict_bool(before, "Looping"))) {
        tell_loop(now, out);
    } else if (is_edl(now) && !dict_bool(now, "Looping") && !has(now, "Job") && !(before && is_edl(before))) {
        tell_edl(now, out);
    } else {
        return false;
    }
    out->can_rescue = has(now, "RescueFirmware") && !has(now, "Job") && !dict_bool(now, "FactoryTestMode");
    news_name(now, text, sizeof(text));
    snprintf(text + strlen(text), sizeof(text) - strlen(text), ": %.*s", text_fit(out->body, BODY_MAX),
             out->body);
    memcpy(out->body, text, sizeof(text));
    return true;
}

/* ---- jobs ---- */

static bool is_running(json_object *job)
{
    return is_text(job, "State", "running") || is_text(job, "State", "cancelling");
}

static bool is_finished(json_object *job)
{
    return is_text(job, "State", "finished");
}

static const struct {
    const char *kind, *begins, *over;
} writers[] = {
    {"flash", "A modem is being flashed", "A modem has new firmware"},
    {"restore", "A backup is being restored", "A backup was restored"},
};
enum { WRITER_COUNT = sizeof(writers) / sizeof(writers[0]) };

static void tell_end(json_object *job, size_t writer, const char *modem, struct news *out)
{
    const char *result = dict_string(job, "Result"), *message = dict_string(job, "ErrorMessage"),
               *help = report_help(job);
    if (strcmp(result, "done") == 0) {
        snprintf(out->summary, sizeof(out->summary), "%s", writers[writer].over);
        snprintf(out->body, sizeof(out->body), "%s: verified, and done.", modem);
        return;
    }
    out->urgent = strcmp(result, "cancelled") != 0;
    snprintf(out->summary, sizeof(out->summary), "%s: %s", dict_string(job, "Kind"), report_words(result));
    snprintf(out->body, sizeof(out->body), "%s%s%.*s%s%.*s", modem, *message ? ": " : "",
             text_fit(message, MESSAGE_MAX), message, *help ? " " : "", text_fit(help, HELP_MAX), help);
}

/* One that the service left behind its last step ends when its modem boots, perhaps as well as it could. */
static bool ends(json_object *before, json_object *now)
{
    return is_finished(now) && (!is_finished(before) || (is_text(before, "Result", "interrupted") &&
                                                         !is_text(now, "Result", "interrupted")));
}

bool news_of_job(json_object *before, json_object *now, const char *modem, struct news *out)
{
    size_t writer = 0;
    *out = (struct news){0};
    while (writer < WRITER_COUNT && !is_text(now, "Kind", writers[writer].kind))
        writer++;
    bool failed_alone = is_text(now, "Result", "failed") && dict_u64(now, "OwnerUid") == NO_OWNER;
    if (ends(before, now) && (writer < WRITER_COUNT || failed_alone)) {
        tell_end(now, writer, modem, out);
        return true;
    }
    if (writer == WRITER_COUNT || !is_running(now) || (before && is_running(before)))
        return false;
    snprintf(out->summary, sizeof(out->summary), "%s", writers[writer].begins);
    snprintf(out->body, sizeof(out->body),
             "%s: leave it plugged in and powered. \"qdlctl follow %llu\" shows it.", modem,
             (unsigned long long)dict_u64(now, "Id"));
    return true;
}
