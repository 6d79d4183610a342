/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "bus.h"
#include "output.h"

enum { BAR_WIDTH = 24, PLAIN_STEP_PERCENT = 5, LINE_MAX_COLUMNS = 240 };

static const struct {
    const char *phase, *text;
} phases[] = {
    {"", "starting"},
    {"preparing", "checking the package"},
    {"spool", "reading the archive"},
    {"check", "checking the package"},
    {"wait-device", "waiting for the modem"},
    {"sahara", "talking to the boot ROM"},
    {"upload-programmer", "uploading the programmer"},
    {"configure", "starting the programmer"},
    {"gate", "checking the modem"},
    {"vendor-check", "asking the modem if it agrees"},
    {"erase", "erasing"},
    {"program", "writing"},
    {"verify", "verifying"},
    {"reset", "restarting the modem"},
    {"wait-normal", "waiting for the modem to boot"},
};

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
    {"import-firmware", "Import the package for this modem: qdlctl firmware import FILE.", EXIT_OTHER},
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

void progress_init(struct progress *p)
{
    *p = (struct progress){.live = isatty(STDOUT_FILENO) && colours(stdout), .percent = -1};
    if (options.json != JSON_OFF || options.quiet)
        p->live = false;
}

static const char *phase_text(const char *phase)
{
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
        if (strcmp(phases[i].phase, phase) == 0)
            return phases[i].text;
    return phase;
}

static uint64_t realtime_usec(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* "writing  modem  [#####...]  43 %  3.6 MB/s  12 s left  window 2  do not unplug" */
static void draw_line(json_object *job)
{
    char bar[BAR_WIDTH + 1], line[LINE_MAX_COLUMNS], rate[FORMAT_SIZE] = "", left[FORMAT_SIZE] = "",
                                                     window[32] = "";
    double done = dict_double(job, "Progress");
    int filled = (int)(done * BAR_WIDTH);
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    if (dict_u64(job, "Rate"))
        format_rate(dict_u64(job, "Rate"), rate);
    uint64_t end = dict_u64(job, "ExpectedEndTime"), now = realtime_usec();
    if (end > now)
        format_span(end - now, left);
    if (dict_u64(job, "Window") > 1)
        snprintf(window, sizeof(window), "window %llu  ", (unsigned long long)dict_u64(job, "Window"));

    const char *detail = dict_string(job, "Detail");
    bool unsafe = strcmp(dict_string(job, "State"), "finished") != 0 && !dict_bool(job, "SafeToUnplug");
    snprintf(line, sizeof(line), "%s%s%s  [%s] %3.0f %%  %s%s%s%s%s%s", phase_text(dict_string(job, "Phase")),
             *detail ? "  " : "", detail, bar, done * 100, window, rate, *rate ? "  " : "", left,
             *left ? " left  " : "", unsafe ? "do not unplug" : "");
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_col < LINE_MAX_COLUMNS)
        line[size.ws_col - 1] = '\0';
    printf("\r\033[K%s", line);
    fflush(stdout);
}

static void print_plain(struct progress *p, json_object *job)
{
    const char *phase = dict_string(job, "Phase"), *detail = dict_string(job, "Detail");
    char item[sizeof(p->phase)];
    int percent = (int)(dict_double(job, "Progress") * 100);
    snprintf(item, sizeof(item), "%s %s", phase, detail);
    bool moved = percent >= p->percent + PLAIN_STEP_PERCENT;
    if (strcmp(item, p->phase) == 0 && !moved)
        return;
    snprintf(p->phase, sizeof(p->phase), "%s", item);
    if (moved)
        p->percent = percent - percent % PLAIN_STEP_PERCENT;
    printf("%3d %%  %s%s%s\n", percent, phase_text(phase), *detail ? "  " : "", detail);
    fflush(stdout);
}

void progress_show(struct progress *p, json_object *job)
{
    if (print_json(job) || options.quiet || strcmp(dict_string(job, "State"), "finished") == 0)
        return;
    if (p->live) {
        draw_line(job);
        p->drawn = true;
    } else {
        print_plain(p, job);
    }
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stdout);
    fflush(stdout);
    p->drawn = false;
}

int progress_exit_code(json_object *job)
{
    const char *result = dict_string(job, "Result"), *hint = dict_string(job, "RecoveryHint");
    if (strcmp(result, "done") == 0)
        return EXIT_OK;
    if (strcmp(result, "not-returned") == 0 || strcmp(result, "wrong-version") == 0 ||
        strcmp(result, "no-calibration") == 0)
        return EXIT_RECOVERY;
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (strcmp(hints[i].hint, hint) == 0)
            return hints[i].code;
    if (strcmp(result, "interrupted") == 0)
        return EXIT_RETRY;
    return bus_exit_code(dict_string(job, "ErrorName"));
}

/* The report's entries, strings and lists of strings. */
static void print_report(FILE *f, json_object *job)
{
    json_object *report;
    if (!json_object_object_get_ex(job, "Report", &report))
        return;
    json_object_object_foreach(report, key, value)
    {
        if (json_object_is_type(value, json_type_array))
            for (size_t i = 0; i < json_object_array_length(value); i++)
                fprintf(f, "  %s: %s\n", key, json_object_get_string(json_object_array_get_idx(value, i)));
        else
            fprintf(f, "  %s: %s\n", key, json_object_get_string(value));
    }
}

void progress_result(json_object *job)
{
    const char *result = dict_string(job, "Result"), *message = dict_string(job, "ErrorMessage");
    const char *name = strrchr(dict_string(job, "ErrorName"), '.');
    char span[FORMAT_SIZE] = "";
    uint64_t start = dict_u64(job, "StartTime"), end = dict_u64(job, "EndTime");
    if (start && end > start)
        format_span(end - start, span);
    if (options.json != JSON_OFF)
        return;
    if (strcmp(result, "done") == 0) {
        if (options.quiet)
            return;
        printf("%s %llu: done%s%s\n", dict_string(job, "Kind"), (unsigned long long)dict_u64(job, "Id"),
               *span ? " in " : "", span);
        print_report(stdout, job);
        return;
    }
    fprintf(stderr, "qdlctl: %s %llu: %s%s%s%s%s\n", dict_string(job, "Kind"),
            (unsigned long long)dict_u64(job, "Id"), result, name ? ": " : "", name ? name + 1 : "",
            *message ? ": " : "", message);
    print_report(stderr, job);
    const char *hint = dict_string(job, "RecoveryHint");
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (strcmp(hints[i].hint, hint) == 0)
            fprintf(stderr, "What helps: %s\n", hints[i].text);
}
