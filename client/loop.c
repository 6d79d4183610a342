/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loop.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bus.h"
#include "output.h"

enum { USEC = 1000000 };

static uint64_t now_realtime(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * USEC + (uint64_t)ts.tv_nsec / 1000;
}

/* While it is there the next window is not what anybody waits for. */
static void next_text(json_object *modem, char out[FORMAT_SIZE * 2])
{
    uint64_t next = dict_u64(modem, "NextWindowTime"), now = now_realtime();
    char span[FORMAT_SIZE];
    out[0] = '\0';
    if (strcmp(dict_string(modem, "Mode"), "absent") != 0)
        snprintf(out, FORMAT_SIZE * 2, ", there now");
    else if (next > now) {
        format_span(next - now, span);
        snprintf(out, FORMAT_SIZE * 2, ", next in %s", span);
    } else if (next > 0)
        snprintf(out, FORMAT_SIZE * 2, ", next overdue");
}

void loop_text(json_object *modem, char out[LOOP_TEXT_SIZE])
{
    char period[FORMAT_SIZE] = "", window[FORMAT_SIZE] = "", next[FORMAT_SIZE * 2];
    out[0] = '\0';
    if (!dict_bool(modem, "Looping"))
        return;
    if (dict_u64(modem, "LoopPeriodUSec"))
        snprintf(period, sizeof(period), "every %.1f s, ", (double)dict_u64(modem, "LoopPeriodUSec") / USEC);
    if (dict_u64(modem, "WindowUSec"))
        snprintf(window, sizeof(window), "window %.1f s, ", (double)dict_u64(modem, "WindowUSec") / USEC);
    next_text(modem, next);
    snprintf(out, LOOP_TEXT_SIZE, "%s%s%u seen%s", period, window, (unsigned)dict_u64(modem, "LoopCount"),
             next);
}
