/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A scripted programmer for Firehose tests: steps of "hear this tag, say that", on top of peer.h. */

#include "peer.h"

#include "protocol/firehose-internal.h"

#define XML_HEAD      "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n"
#define SAY(tag)      XML_HEAD "<data>\n" tag "\n</data>\n"
#define LOG(text)     SAY("<log value=\"" text "\" />")
#define ANSWER(attrs) SAY("<response " attrs " />")
#define ACK           ANSWER("value=\"ACK\" rawmode=\"false\"")
#define ACK_RAW       ANSWER("value=\"ACK\" rawmode=\"true\"")
#define NAK           ANSWER("value=\"NAK\" rawmode=\"false\"")

enum step_flags {
    STEP_STAMMER = 1 << 0, /* every byte in its own transfer */
    STEP_UNPLUG = 1 << 1,  /* gone after this step */
    STEP_ZLP = 1 << 2,     /* a ZLP behind it */
};

/* hear: what the next document must contain (NULL: say without being asked). The last step has neither. */
struct step {
    const char *hear;
    const char *say;
    unsigned flags;
    size_t size; /* of say, if it holds NULs */
};

/* One document, checked for what every document must be; the text stays in `text`. */
static inline bool hear_document(struct peer *p, const char *part, char *text, size_t size)
{
    ssize_t n;
    do /* a host that gave up a command clears the way first */
        n = peer_hear(p, text, size - 1);
    while (n >= 0 && p->type == VIRTUAL_CLEAR_HALT);
    if (n < 0)
        return false;
    text[n] = '\0';
    if (p->type != VIRTUAL_DATA || strncmp(text, "<?xml ", 6) != 0 || !strstr(text, "</data>"))
        peer_complain(p, "expected a document with %s, got '%c' with %zd: %.40s", part, p->type, n, text);
    else if (n % 512 == 0)
        peer_complain(p, "a document of %zd bytes would need a ZLP", n);
    else if (!strstr(text, part))
        peer_complain(p, "expected a document with %s, got %.300s", part, text);
    return !p->over;
}

static inline void play_steps(struct peer *p, const struct step *steps)
{
    char text[4096];
    for (const struct step *s = steps; s->hear || s->say; s++) {
        if (s->hear && !hear_document(p, s->hear, text, sizeof(text)))
            return;
        size_t size = s->size ? s->size : s->say ? strlen(s->say) : 0;
        if (s->flags & STEP_STAMMER)
            peer_stammer(p, s->say, size);
        else if (size > 0)
            peer_say(p, s->say, size);
        if (s->flags & STEP_ZLP)
            peer_say(p, NULL, 0);
        if (s->flags & STEP_UNPLUG)
            return;
    }
    /* Nothing else was to be sent. */
    if (peer_hear(p, text, sizeof(text) - 1) >= 0)
        peer_complain(p, "expected nothing more, got '%c': %.300s", p->type, text);
}

static inline void modem_steps(struct peer *p, const void *arg)
{
    play_steps(p, arg);
}

#define STEPS(...) ((const struct step[]){__VA_ARGS__, {}})

/* What the host function of a case leaves in c->bytes, as text, so that a failing case shows all of it. */
static inline void _printf_(2, 3) note(struct peer_case *c, const char *format, ...)
{
    size_t used = strlen((char *)c->bytes);
    va_list ap;
    va_start(ap, format);
    vsnprintf((char *)c->bytes + used, sizeof(c->bytes) - used, format, ap);
    va_end(ap);
}

struct expected {
    int r;
    enum error_kind kind;
    const char *words; /* in e.words */
    const char *notes;
};

static inline void play(struct peer_case *cases, const struct expected *expected, size_t n)
{
    peer_play(cases, n);
    for (size_t i = 0; i < n; i++) {
        const struct peer_case *c = &cases[i];
        const struct expected *x = &expected[i];
        if (c->r != x->r || c->e.kind != x->kind || (x->words && !strstr(c->e.words, x->words)) ||
            (x->notes && strcmp((const char *)c->bytes, x->notes) != 0))
            fail_msg("%s: %d %s \"%s\" words \"%s\" notes \"%s\"", c->name, c->r, error_name(c->e.kind),
                     c->e.message, c->e.words, (const char *)c->bytes);
    }
}

static inline void log_to_notes(void *userdata, enum firehose_log_level level, const char *text)
{
    static const char letters[] = "DIWE";
    note(userdata, "%c:%s|", letters[level], text);
}
