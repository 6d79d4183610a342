/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "words.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bus.h"
#include "loop.h"
#include "output.h"

static void say(const char *text)
{
    if (options.json == JSON_OFF && !options.quiet) {
        puts(text);
        fflush(stdout);
    }
}

void words_wait(const char *where)
{
    if (options.json != JSON_OFF || options.quiet)
        return;
    printf("Waiting for a modem in emergency download mode (05c6:9008)%s%s.\n", *where ? " at " : "", where);
    say("9008 is the chip's ROM loader: the modem is not dead. Use a USB 2 port. If it loops, plug it in and "
        "wait.\n"
        "Only if 9008 never appears:\n"
        "  1. Take the power from the module.\n"
        "  2. Bridge USB_BOOT with the module's own 1.8 V (VDD_EXT). Press a bare wire, do not solder; never "
        "3.3 V, never\n"
        "     to the shield. Pin 65 is a supply output, leave it alone.\n"
        "  3. Apply power, and hold the wire until this says \"seen\".");
}

void words_seen(json_object *modem, bool bridged)
{
    char loop[LOOP_TEXT_SIZE];
    if (options.json != JSON_OFF || options.quiet)
        return;
    printf("Seen: %s at %s. Release the bridge if you hold one, and leave the power on.\n",
           *dict_string(modem, "Model") ? dict_string(modem, "Model") : "a modem",
           dict_string(modem, "Port"));
    loop_text(modem, loop);
    /* What was measured before the bridge says nothing about the modem that stands behind it. */
    if (*loop && !bridged)
        printf("It loops (%s): its windows are used one after the other, there is nothing to do.\n", loop);
    fflush(stdout);
}

static const struct {
    const char *hint, *text;
} again[] = {
    {"bridge-usb-boot", "Its windows are too short. Take the power away, bridge USB_BOOT with VDD_EXT (1.8 "
                        "V), apply power, and hold the wire until this says \"seen\"."},
    {"replug", "Unplug the modem and plug it in again; the same USB 2 port is fine."},
    {"power-cycle", "Take the power away from the modem for a few seconds, and apply it again."},
    {"retry", "It is tried again as soon as the modem shows itself."},
};

bool words_want_bridge(json_object *job)
{
    return strcmp(dict_string(job, "RecoveryHint"), "bridge-usb-boot") == 0;
}

bool words_again(json_object *job)
{
    const char *hint = dict_string(job, "RecoveryHint");
    for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++)
        if (strcmp(again[i].hint, hint) == 0) {
            say(again[i].text);
            return true;
        }
    return false;
}

void words_end(json_object *job)
{
    const char *result = dict_string(job, "Result");
    if (strcmp(result, "no-calibration") == 0)
        say("\"+CFUN: 5\": the calibration is gone. Restore this unit's own backup (qdlctl backups, qdlctl "
            "restore); another unit's is not yours.");
    else if (strcmp(result, "done") == 0 && strcmp(dict_string(job, "Kind"), "flash") == 0)
        say("It boots. Should it say \"+CFUN: 5\" one day, its calibration is gone: restore this unit's "
            "backup (qdlctl backups).");
    else if (strcmp(result, "done") == 0)
        say("It is held: qdlctl backup saves what it has, qdlctl flash writes a package.");
}
