/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usbip.h"

#include <stdio.h>
#include <string.h>

/* What ModemManager asks of a modem before it takes it for one. All else is ERROR, as in a modem without a
 * network. */
static const struct {
    const char *command, *answer;
} known[] = {
    {"", ""},
    {"Z", ""},
    {"E0", ""},
    {"V1", ""},
    {"+CMEE=1", ""},
    {"X4", ""},
    {"&C1", ""},
    {"+GCAP", "+GCAP: +CGSM"},
    {"+CGMI", "Quectel"},
    {"+GMI", "Quectel"},
    {"+CGMM", "RM502Q-GL"},
    {"+GMM", "RM502Q-GL"},
    {"+CFUN?", "+CFUN: 1"},
    {"+CPIN?", "+CPIN: READY"},
};

static void say(struct usbip_at *at, const char *text)
{
    int n = snprintf(at->text + at->text_length, sizeof(at->text) - at->text_length, "\r\n%s\r\n", text);

    /* A host that never listens misses what comes now. */
    if (n > 0 && (size_t)n < sizeof(at->text) - at->text_length)
        at->text_length += (size_t)n;
}

static void answer(struct usbip_at *at, const struct port_identity *id)
{
    const char *command = at->line + 2;

    if (strncmp(at->line, "AT", 2) != 0)
        return;
    if (strcmp(command, "+CGMR") == 0 || strcmp(command, "+GMR") == 0) {
        say(at, id->version);
        say(at, "OK");
        return;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(command, known[i].command) == 0) {
            if (*known[i].answer)
                say(at, known[i].answer);
            say(at, "OK");
            return;
        }
    say(at, "ERROR");
}

void usbip_at_take(struct usbip_at *at, const struct port_identity *id, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != '\r' && bytes[i] != '\n') {
            if (at->line_length < sizeof(at->line) - 1)
                at->line[at->line_length++] = (char)bytes[i];
            continue;
        }
        at->line[at->line_length] = '\0';
        if (at->line_length > 0)
            answer(at, id);
        at->line_length = 0;
    }
}
