/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "programmer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "trace.h"

enum { BIG_LOG = 1 << 20, DEFAULT_RESET_US = 100, PAYLOAD_MIN = 512, PAYLOAD_LIMIT = 1 << 20 };

#define BUILD_DATE "Apr 19 2020 - 17:49:11"

static const char *const functions[] = {
    "program",
    "read",
    "nop",
    "patch",
    "configure",
    "setbootablestoragedrive",
    "erase",
    "power",
    "firmwarewrite",
    "getstorageinfo",
    "benchmark",
    "emmc",
    "ufs",
    "fixgpt",
    "getsha256digest",
};

enum { FUNCTIONS = sizeof(functions) / sizeof(functions[0]) };

/* ---- what it is ---- */

/* One that was there before us (start=firehose) came from a file that we have not seen: it knows everything.
 */
static bool has_literal(const struct modem *m, const char *literal)
{
    return m->image.size == 0 || image_has(&m->image, literal);
}

static bool knows(const struct modem *m, int64_t setting, const char *literal)
{
    return setting == KNOWS_AUTO ? has_literal(m, literal) : setting == KNOWS_YES;
}

static void look_at_image(struct programmer *p)
{
    const struct scenario *s = p->scenario;
    struct modem *m = p->modem;

    p->is_9x07 = s->family == FAMILY_AUTO ? p->nand->page_size == 2048 : s->family == FAMILY_9X07;
    p->knows_skip_bad_block = knows(m, s->knows_skip_bad_block, "skip_bad_block");
    p->knows_last_sector = knows(m, s->knows_last_sector, "last_sector");
    p->knows_pages_per_block = knows(m, s->knows_pages_per_block, "PAGES_PER_BLOCK");
    p->knows_digest = s->digest == DIGEST_AUTO ? has_literal(m, "getsha256digest") : s->digest != DIGEST_OFF;
    p->knows_vendor =
        s->vendor == VENDOR_CHECK ? has_literal(m, "c_project_name") : s->vendor != VENDOR_UNKNOWN;
    p->auto_erase = s->auto_erase == KNOWS_AUTO ? !p->is_9x07 : s->auto_erase == KNOWS_YES;
    trace("programmer family=%s skip_bad_block=%d last_sector=%d PAGES_PER_BLOCK=%d getsha256digest=%d "
          "c_project_name=%d",
          p->is_9x07 ? "9x07" : "devprg", p->knows_skip_bad_block, p->knows_last_sector,
          p->knows_pages_per_block, p->knows_digest, p->knows_vendor);
}

/* ---- the banner ---- */

static int flood(struct programmer *p)
{
    int r = 0;

    for (unsigned n = 0; r == 0; n++)
        r = speak_log(p, "INFO: still here %u", n);
    return r;
}

static int banner_9x07(struct programmer *p)
{
    return speak_log(p,
                     "Supported Functions: program read erase configure nop power benchmark getstorageinfo ");
}

static int banner_devprg(struct programmer *p)
{
    int r = speak_log(p, "INFO: Binary build date: %s", BUILD_DATE);

    if (r == 0)
        r = speak_log(p, "INFO: Binary build date: %s", BUILD_DATE);
    if (r == 0)
        r = speak_log(p, "INFO: Chip serial num: 0 (0x0)");
    if (r == 0)
        r = speak_log(p, "INFO: Supported Functions (%d):", FUNCTIONS);
    for (unsigned i = 0; r == 0 && i < FUNCTIONS; i++)
        if (p->knows_digest || strcmp(functions[i], "getsha256digest"))
            r = speak_log(p, "INFO: %s", functions[i]);
    if (r == 0 && p->scenario->log_flood == 0)
        r = flood(p);
    if (r == 0)
        r = speak_log(p, "INFO: End of supported functions %d", FUNCTIONS);
    return r;
}

/* ---- small tags ---- */

static int on_configure(struct programmer *p, const struct tag *t)
{
    const struct scenario *s = p->scenario;
    const char *memory = tag_get(t, "MemoryName"), *payload = tag_get(t, "MaxPayloadSizeToTargetInBytes"),
               *zlp = tag_get(t, "ZlpAwareHost");
    unsigned long want = payload ? strtoul(payload, NULL, 10) : 0;
    unsigned long supported = (unsigned long)s->payload_max * (s->configure == CONFIGURE_LARGER ? 2 : 1);
    char attributes[512];
    bool refuse;
    int r;

    p->configures++;
    refuse = want > supported || (s->configure == CONFIGURE_NAK_ONCE && p->configures == 1);
    if (s->configure == CONFIGURE_SECOND_NAK && p->configures > 1)
        return speak_nak(p, "ERROR: configure was called before");
    if (want < PAYLOAD_MIN && !refuse)
        return speak_nak(p, "ERROR: MaxPayloadSizeToTargetInBytes %lu is too small", want);
    if (refuse) {
        r = speak_log(p, "NAK: MaxPayloadSizeToTargetInBytes sent by host %lu larger than supported %lu",
                      want, supported);
        snprintf(attributes, sizeof(attributes),
                 "MinVersionSupported=\"1\" MemoryName=\"%s\" MaxPayloadSizeToTargetInBytes=\"%lu\" ",
                 memory ? memory : "nand", supported);
        return r < 0 ? r : speak_response(p, false, false, attributes);
    }
    if (!zlp)
        zlp = tag_get(t, "ZLPAwareHost");
    p->zlp_aware = !zlp || strcmp(zlp, "0") != 0;
    p->configured = true;
    p->payload = want;
    snprintf(p->memory_name, sizeof(p->memory_name), "%.15s", memory ? memory : "emmc");
    p->nand_selected = strcasecmp(p->memory_name, "nand") == 0;
    r = speak_log(p,
                  p->nand_selected ? "INFO: Storage type set to value %s"
                                   : "ERROR: Not support configure MemoryName %s",
                  p->memory_name);
    snprintf(
        attributes, sizeof(attributes),
        "MemoryName=\"%s\" MinVersionSupported=\"1\" Version=\"1\" MaxPayloadSizeToTargetInBytes=\"%lu\" "
        "MaxPayloadSizeToTargetInBytesSupported=\"%lu\" MaxXMLSizeInBytes=\"%d\" %sDateTime=\"%s\" ",
        p->memory_name, want, supported, DOCUMENT_MAX,
        p->is_9x07 ? "MaxPayloadSizeFromTargetInBytes=\"4096\" TargetName=\"9x07\" " : "", BUILD_DATE);
    return r < 0 ? r : speak_response(p, true, false, attributes);
}

static int on_power(struct programmer *p, const struct tag *t)
{
    const char *value = tag_get(t, "value"),
               *delay = tag_get(t, p->is_9x07 ? "delayinseconds" : "DelayInSeconds");
    int64_t us = delay ? strtoll(delay, NULL, 10) * 1000000 : DEFAULT_RESET_US;
    int end = 0, r;

    if (value && strcmp(value, "reset") == 0)
        end = MODE_RESET;
    else if (value && strcmp(value, "off") == 0)
        end = MODE_OFF;
    else if (value && strcmp(value, "reset_to_edl") == 0 && !p->is_9x07)
        end = MODE_RESET_TO_EDL;
    if (!end)
        return speak_nak(p, "ERROR: Unknown power value %s", value ? value : "(none)");
    /* It resets only when its last words have been collected. */
    r = speak_response(p, true, false, "");
    if (r == 0)
        r = speak_log(
            p, "INFO: Will issue reset/power off %lld useconds, if this hangs check if watchdog is enabled",
            (long long)us);
    if (r == 0)
        r = speak_log(p, "INFO: bsp_target_reset() 1");
    if (r == 0)
        r = speak_flush(p);
    if (r == 0)
        r = front_wait_off(p->front, p->scenario->power_delay == POWER_DELAY_HONOUR ? us : DEFAULT_RESET_US);
    return r < 0 ? r : end;
}

static int on_nop(struct programmer *p, const struct tag *t)
{
    (void)t;
    return speak_response(p, true, false, "");
}

static int on_patch(struct programmer *p, const struct tag *t)
{
    const char *file = tag_get(t, "filename");
    int r = speak_log(p, "WARN: patch command is deprecated");

    if (r == 0 && file && strcmp(file, "DISK") == 0)
        violation("patch of the disk");
    return r < 0 ? r : speak_response(p, true, false, "");
}

static int on_peek(struct programmer *p, const struct tag *t)
{
    (void)t;
    return speak_nak(p, "ERROR: Peek is disabled on secure boot devices");
}

static int on_erase(struct programmer *p, const struct tag *t)
{
    if (tag_get(t, "vendor") && p->knows_vendor)
        return vendor_check(p, t);
    return storage_erase(p, t);
}

static const struct handler {
    const char *name;
    int (*run)(struct programmer *p, const struct tag *t);
    bool storage;
} handlers[] = {
    {"configure", on_configure, false},
    {"nop", on_nop, false},
    {"power", on_power, false},
    {"patch", on_patch, true},
    {"peek", on_peek, false},
    {"poke", on_peek, false},
    {"setbootablestoragedrive", on_nop, true},
    {"benchmark", on_nop, false},
    {"program", storage_program, true},
    {"read", storage_read, true},
    {"erase", on_erase, true},
    {"getstorageinfo", storage_info, true},
    {"getsha256digest", storage_digest, true},
};

/* ---- the loop ---- */

static const struct handler *find_handler(const struct programmer *p, const char *name)
{
    static const char *const not_on_9x07[] = {"patch", "peek", "poke", "setbootablestoragedrive"};

    for (unsigned i = 0; p->is_9x07 && i < sizeof(not_on_9x07) / sizeof(not_on_9x07[0]); i++)
        if (strcmp(not_on_9x07[i], name) == 0)
            return NULL;
    if (!p->knows_digest && strcmp(name, "getsha256digest") == 0)
        return NULL;
    for (unsigned i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (strcmp(handlers[i].name, name) == 0)
            return &handlers[i];
    return NULL;
}

static int habits(struct programmer *p)
{
    const struct scenario *s = p->scenario;
    int r = front_busy(p->front, s->command_us);

    for (int64_t i = 0; r == 0 && i < s->chatty; i++)
        r = speak_log(p, "DEBUG: %lld of %lld words that nobody asked for", (long long)i + 1,
                      (long long)s->chatty);
    if (r == 0 && s->big_log == (int64_t)p->commands)
        r = speak_big_log(p, BIG_LOG);
    if (r == 0 && s->log_flood > 0 && s->log_flood <= (int64_t)p->commands)
        r = flood(p);
    return r;
}

static int run_command(struct programmer *p, const struct tag *t)
{
    const struct handler *h = find_handler(p, t->name);
    int r;

    if (!h)
        return speak_nak(p, "ERROR: Unknown command %.64s", t->name);
    r = speak_log(p, "INFO: Calling handler for %s", h->name);
    if (r == 0 && t->truncated)
        r = speak_log(p, "WARN: Input XML has more than %d attributes, remaining ignored",
                      DOCUMENT_ATTRIBUTES_MAX);
    if (r < 0)
        return r;
    if (h->storage && !p->configured)
        return speak_nak(p, "ERROR: %s before configure", h->name);
    return h->run(p, t);
}

static void trace_command(const struct programmer *p, const struct tag *t)
{
    char text[1024];
    size_t n = 0;

    text[0] = 0;
    for (unsigned i = 0; i < t->count && n < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, " %.64s=\"%.128s\"", t->attributes[i].name,
                              t->attributes[i].value);
    trace("command %u %s%s", p->commands, t->name, text);
}

static int on_document(struct programmer *p, char *text, size_t length)
{
    const char *reason = "too long";
    struct tag t;
    int r;

    p->commands++;
    p->answered = false;
    r = front_strike(p->front, faults_command(&p->modem->faults));
    if (r < 0)
        return r;
    text[length] = 0;
    if (length >= DOCUMENT_MAX || strlen(text) != length || !document_parse(text, &t, &reason)) {
        trace("command %u unreadable length=%zu: %s", p->commands, length, reason);
        return speak_nak(p, "ERROR: XML (%zu bytes) not formed correctly: %s", length, reason);
    }
    trace_command(p, &t);
    r = front_strike(p->front, faults_tag(&p->modem->faults, t.name));
    if (r == 0)
        r = habits(p);
    if (r < 0)
        return r;
    if (p->front->nak_next) {
        p->front->nak_next = false;
        return speak_nak(p, "ERROR: Line %u: HANDLE_%s_FAILURE", 1000 + p->commands, t.name);
    }
    return run_command(p, &t);
}

static int loop(struct programmer *p)
{
    char text[DOCUMENT_MAX + 1];
    size_t length;
    int r = 0;

    while (r == 0) {
        r = speak_flush(p);
        if (r == 0)
            r = front_read(p->front, text, DOCUMENT_MAX, &length);
        if (r == 0 && length)
            r = on_document(p, text, length);
    }
    return r;
}

int programmer_run(struct modem *m, bool banner)
{
    struct programmer p = {.modem = m, .scenario = m->scenario, .nand = m->nand, .front = &m->front};
    int r;

    trace("state programmer");
    p.buffer = malloc(PAYLOAD_LIMIT);
    if (!p.buffer)
        return -ENOMEM;
    look_at_image(&p);
    r = front_busy(p.front, m->scenario->programmer_start_ms * 1000);
    p.answered = true;
    if (r == 0 && banner)
        r = p.is_9x07 ? banner_9x07(&p) : banner_devprg(&p);
    if (r == 0)
        r = loop(&p);
    speak_free(&p);
    free(p.buffer);
    return r;
}
