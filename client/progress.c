/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bus.h"
#include "output.h"

enum { BAR_WIDTH = 24, BAR_NARROW = 10, PLAIN_STEP_PERCENT = 5, LINE_BYTES = 768, COLUMNS_DEFAULT = 80 };

#define WARNING "do not unplug"

static const struct {
    const char *phase, *text;
} phases[] = {
    {"identify", "asking the modem who it is"},
    {"enter-edl", "bringing the modem to emergency download mode"},
    {"", "starting"},
    {"preparing", "checking the backup"},
    {"spool", "reading the archive"},
    {"check", "checking"},
    {"wait-device", "waiting for the modem"},
    {"sahara", "talking to the boot ROM"},
    {"upload-programmer", "uploading the programmer"},
    {"configure", "starting the programmer"},
    {"gate", "checking the modem"},
    {"vendor-check", "asking the modem if it agrees"},
    {"backup", "saving"},
    {"store-backup", "storing what was saved"},
    {"erase", "erasing"},
    {"program", "writing"},
    {"verify", "verifying"},
    {"reset", "restarting the modem"},
    {"wait-normal", "waiting for the modem to boot"},
};

void progress_init(struct progress *p)
{
    *p = (struct progress){.live = terminal_moves(stdout) && options.json == JSON_OFF && !options.quiet,
                           .percent = -1};
}

const char *progress_phase(json_object *job)
{
    const char *state = dict_string(job, "State"), *phase = dict_string(job, "Phase");
    if (strcmp(state, "queued") == 0)
        return strcmp(dict_string(job, "Kind"), "import") == 0 ? "waiting for other imports"
                                                               : "waiting for the job that has the modem";
    if (strcmp(state, "cancelling") == 0)
        return "cancelling";
    /* Of a package or a file that is all; of a modem the detail says which partition. */
    if (strcmp(phase, "check") == 0 && !*dict_string(job, "Detail"))
        return "checking what is in it";
    if (strcmp(phase, "preparing") == 0 && strcmp(dict_string(job, "Kind"), "flash") == 0)
        return "checking the package";
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
        if (strcmp(phases[i].phase, phase) == 0)
            return phases[i].text;
    return phase;
}

static int percent_of(json_object *job)
{
    /* 100 % is for what is finished. */
    int percent = (int)(dict_double(job, "Progress") * 100 + 1e-6);
    return percent < 0 ? 0 : percent > 99 ? 99 : percent;
}

static uint64_t realtime_usec(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void draw_bar(char *out, double done, int width)
{
    int filled = (int)(done * width);
    *out++ = '[';
    for (int i = 0; i < width; i++)
        *out++ = i < filled ? '#' : '.';
    *out++ = ']';
    *out++ = ' ';
    *out = '\0';
}

/* "  window 7, next in 2 s", of a job that has needed more than one appearance of its modem. */
static void window_text(const struct progress *p, json_object *job, const char *before, char *out,
                        size_t size)
{
    uint64_t appearances = dict_u64(job, "Window"), now = realtime_usec();
    char span[FORMAT_SIZE] = "";
    bool waits = strcmp(dict_string(job, "Phase"), "wait-device") == 0 && p->next_window > now;
    out[0] = '\0';
    if (appearances < 2)
        return;
    if (waits)
        format_span(p->next_window - now, span);
    snprintf(out, size, "%swindow %llu%s%s", before, (unsigned long long)appearances,
             waits ? ", next in " : "", span);
}

/*
 * "[#####.....]  43 %  writing modem  3.6 MB/s  12 s left  window 2  do not unplug". `level` tells how much
 * of it is left out to fit a narrow terminal; the warning goes last of all.
 */
static size_t format_line(char *out, const struct progress *p, json_object *job, int level)
{
    char bar[BAR_WIDTH + 4] = "", span[FORMAT_SIZE], rate[FORMAT_SIZE + 2] = "", left[FORMAT_SIZE + 8] = "",
                         window[FORMAT_SIZE + 48] = "";
    const char *detail = level < 2 ? dict_string(job, "Detail") : "";
    uint64_t end = dict_u64(job, "ExpectedEndTime"), now = realtime_usec();
    if (level < 5)
        draw_bar(bar, dict_double(job, "Progress"), level < 1 ? BAR_WIDTH : BAR_NARROW);
    if (dict_u64(job, "Rate") && level < 3) {
        format_rate(dict_u64(job, "Rate"), span);
        snprintf(rate, sizeof(rate), "  %s", span);
    }
    if (end > now && level < 4) {
        format_span(end - now, span);
        snprintf(left, sizeof(left), "  %s left", span);
    }
    if (level < 4)
        window_text(p, job, "  ", window, sizeof(window));
    bool unsafe = strcmp(dict_string(job, "State"), "finished") != 0 && !dict_bool(job, "SafeToUnplug");
    snprintf(out, LINE_BYTES, "%s%3d %%  %s%s%s%s%s%s%s%s", bar, percent_of(job),
             level < 6 ? progress_phase(job) : "", *detail ? " " : "", detail, rate, left, window,
             unsafe ? (level < 6 ? "  " : "") : "", unsafe ? WARNING : "");
    return text_width(out);
}

/* Redrawn over itself, the rest blanked: no escape codes but for the warning's weight. */
static void draw_line(struct progress *p, json_object *job)
{
    char line[LINE_BYTES];
    size_t columns = terminal_width(stdout), width;
    int level = 0;
    columns = columns > 0 ? columns - 1 : COLUMNS_DEFAULT - 1;
    while ((width = format_line(line, p, job, level)) > columns && level < 6)
        level++;
    if (width > columns) {
        line[columns] = '\0'; /* plain ASCII at this level */
        width = columns;
    }
    char *warning = colours(stdout) ? strstr(line, WARNING) : NULL;
    int before = warning ? (int)(warning - line) : (int)strlen(line);
    printf("\r%.*s%s%s%s%*s", before, line, warning ? "\033[1m" : "", line + before, warning ? "\033[0m" : "",
           p->drawn > width ? (int)(p->drawn - width) : 0, "");
    fflush(stdout);
    p->drawn = width;
}

static bool is_beginning(const char *phase)
{
    static const char *const beginnings[] = {"sahara", "upload-programmer", "configure"};
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
        if (strcmp(beginnings[i], phase) == 0)
            return true;
    return false;
}

/* A line for each phase and each step of 5 %. */
static void print_plain(struct progress *p, json_object *job)
{
    const char *text = progress_phase(job), *detail = dict_string(job, "Detail");
    int percent = percent_of(job), step = percent / PLAIN_STEP_PERCENT;
    char window[FORMAT_SIZE + 48];
    window_text(p, job, ", ", window, sizeof(window));
    /* What every window begins with was told of the first. */
    if (*window && is_beginning(dict_string(job, "Phase")))
        return;
    /* It waits for the modem to go, too. */
    if (*window && !p->away && strcmp(dict_string(job, "Phase"), "wait-device") == 0)
        return;
    if (strcmp(text, p->phase) == 0 && step <= p->percent / PLAIN_STEP_PERCENT)
        return;
    snprintf(p->phase, sizeof(p->phase), "%s", text);
    p->percent = percent;
    printf("%3d %%  %s%s%s%s\n", percent, text, *detail ? " " : "", detail, window);
    fflush(stdout);
}

void progress_show(struct progress *p, json_object *job)
{
    bool over = strcmp(dict_string(job, "State"), "finished") == 0;
    /* The last line is told by its "result", for readers that know nothing of the property names. */
    if (over)
        json_object_object_add(job, "result", json_object_new_string(dict_string(job, "Result")));
    if (print_json(job) || options.quiet || over)
        return;
    if (p->live)
        draw_line(p, job);
    else
        print_plain(p, job);
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        printf("\r%*s\r", (int)p->drawn, "");
    fflush(stdout);
    p->drawn = 0;
}
