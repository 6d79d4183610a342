/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * XQCN as a stream: two elements, three attributes, and values of megabytes in one attribute, for which
 * general parsers need minutes or a document's worth of memory. No DTD, no entities, no comments, no text.
 * Time is linear in the size, memory constant.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "backup/calibration.h"
#include "base/io.h"
#include "base/text.h"

enum { BUFFER = 64 * 1024, NAME_SIZE = 256, TOKEN_SIZE = 16, PROLOG_MAX = 1024, HEX_STEP = 3 };

static const uint8_t ole2[] = {0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1};
static const uint8_t bom[] = {0xef, 0xbb, 0xbf};

struct scan {
    int fd;
    uint64_t base, size;
    const struct xqcn_events *events;
    struct error *e;

    uint8_t *buffer;
    uint64_t buffer_at; /* in the XQCN, of the buffer's first byte */
    size_t buffer_size;
    uint64_t at; /* of the next byte */
    uint64_t line, line_start;

    char names[XQCN_DEPTH_MAX][NAME_SIZE];
    const char *path[XQCN_DEPTH_MAX];
    size_t depth;
};

/* One tag's attributes. */
struct tag {
    bool is_stream, closed; /* closed: "<.../>" */
    bool has_name, has_length, has_value;
    char name[NAME_SIZE];
    uint64_t length, value_at, value_size;
};

static int _printf_(2, 3) malformed(struct scan *s, const char *format, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    return error_set(s->e, ERROR_BACKUP_DAMAGED, "this is no XQCN: line %" PRIu64 ", column %" PRIu64 ": %s",
                     s->line, s->at - s->line_start + 1, what);
}

static int fill(struct scan *s)
{
    size_t n = (size_t)MIN_OF((uint64_t)BUFFER, s->size - s->at);
    int r = io_pread_full(s->fd, s->buffer, n, s->base + s->at);
    if (r < 0)
        return error_set(s->e, ERROR_FAILED, "the XQCN cannot be read: %s", strerror(-r));
    s->buffer_at = s->at;
    s->buffer_size = n;
    return 0;
}

/* 1 there is one, 0 the end. */
static int peek(struct scan *s, uint8_t *ret)
{
    if (s->at >= s->size)
        return 0;
    if (s->at - s->buffer_at >= s->buffer_size) {
        int r = fill(s);
        if (r < 0)
            return r;
    }
    *ret = s->buffer[s->at - s->buffer_at];
    return 1;
}

/* One has to be there. */
static int need(struct scan *s, const char *inside, uint8_t *ret)
{
    int r = peek(s, ret);
    return r == 0 ? malformed(s, "it ends in %s", inside) : MIN_OF(r, 0);
}

static void take(struct scan *s, uint8_t byte)
{
    s->at++;
    if (byte == '\n') {
        s->line++;
        s->line_start = s->at;
    }
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* *ret: the first byte that is no blank, not taken; 0 at the end of the file. */
static int skip_blanks(struct scan *s, uint8_t *ret)
{
    for (;;) {
        uint8_t c = 0;
        int r = peek(s, &c);
        if (r <= 0 || !is_blank(c)) {
            *ret = r > 0 ? c : 0;
            return MIN_OF(r, 0);
        }
        take(s, c);
    }
}

static int expect(struct scan *s, char wanted)
{
    uint8_t c = 0;
    int r = peek(s, &c);
    if (r < 0)
        return r;
    if (r == 0)
        return malformed(s, "it ends where '%c' is expected", wanted);
    if (c != (uint8_t)wanted)
        return malformed(s, "'%c' is expected", wanted);
    take(s, c);
    return 0;
}

/* Letters only. */
static int read_word(struct scan *s, char word[TOKEN_SIZE])
{
    size_t n = 0;
    for (;;) {
        uint8_t c = 0;
        int r = peek(s, &c);
        if (r < 0)
            return r;
        bool letter = r > 0 && ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
        if (!letter || n == TOKEN_SIZE - 1)
            break;
        word[n++] = (char)c;
        take(s, c);
    }
    word[n] = '\0';
    return 0;
}

/* ---- attributes ---- */

/* The five that XML has by itself stay as they are; nothing that could be declared is expanded. */
static bool has_entity(const char *text)
{
    static const char *const own[] = {"&amp;", "&lt;", "&gt;", "&apos;", "&quot;"};
    for (const char *c = strchr(text, '&'); c; c = strchr(c + 1, '&')) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_SIZE(own); i++)
            known |= text_starts_with(c, own[i]);
        if (!known)
            return true;
    }
    return false;
}

static int read_text(struct scan *s, uint8_t quote, char *out, size_t size)
{
    size_t n = 0;
    for (;;) {
        uint8_t c = 0;
        int r = need(s, "an attribute", &c);
        if (r < 0)
            return r;
        if (c == quote)
            break;
        if (c < ' ' || c == '<')
            return malformed(s, "a name cannot have a byte 0x%02x", c);
        if (n == size - 1)
            return malformed(s, "a name is longer than %zu bytes", size - 1);
        out[n++] = (char)c;
        take(s, c);
    }
    out[n] = '\0';
    if (has_entity(out))
        return malformed(s, "entities have no place in it");
    take(s, quote);
    return 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Pairs of hex digits, one blank between them. */
static int read_value(struct scan *s, uint8_t quote, struct tag *t)
{
    uint64_t n = 0;
    t->value_at = s->at;
    for (;;) {
        uint8_t c = 0;
        int r = need(s, "a value", &c);
        if (r < 0)
            return r;
        uint64_t in_value = s->at - t->value_at;
        if (c == quote) {
            if (in_value % HEX_STEP != 2 && in_value != 0)
                return malformed(s, "half a byte at the end of a value");
            break;
        }
        bool blank = in_value % HEX_STEP == 2;
        if (blank ? c != ' ' : hex_digit(c) < 0)
            return malformed(s, blank ? "a blank is expected between two bytes" : "a hex digit is expected");
        n += in_value % HEX_STEP == 1;
        if (n > XQCN_VALUE_MAX)
            return error_set(s->e, ERROR_TOO_LARGE,
                             "line %" PRIu64 ": a value of the XQCN is larger than %d MiB", s->line,
                             XQCN_VALUE_MAX >> 20);
        s->at++;
    }
    t->value_size = n;
    take(s, quote);
    return 0;
}

static int read_attribute(struct scan *s, struct tag *t)
{
    char word[TOKEN_SIZE], digits[16];
    uint8_t quote = 0;
    int r = read_word(s, word);
    if (r < 0)
        return r;
    bool *seen = strcmp(word, "Name") == 0     ? &t->has_name
                 : strcmp(word, "Length") == 0 ? &t->has_length
                 : strcmp(word, "Value") == 0  ? &t->has_value
                                               : NULL;
    if (!seen || (!t->is_stream && seen != &t->has_name))
        return malformed(s, "an attribute \"%s\" has no meaning here", word);
    if (*seen)
        return malformed(s, "attribute %s comes twice", word);
    *seen = true;
    r = expect(s, '=');
    if (r == 0)
        r = need(s, "an attribute", &quote);
    if (r == 0 && quote != '\'' && quote != '"')
        return malformed(s, "a quote is expected");
    if (r < 0)
        return r;
    take(s, quote);
    if (seen == &t->has_name)
        return read_text(s, quote, t->name, sizeof(t->name));
    if (seen == &t->has_value)
        return read_value(s, quote, t);
    r = read_text(s, quote, digits, sizeof(digits));
    if (r == 0 && text_parse_u64(digits, 10, XQCN_VALUE_MAX, &t->length) < 0)
        return malformed(s, "a Length is a number up to %d, not \"%s\"", XQCN_VALUE_MAX, digits);
    return r;
}

/* Behind its name, up to and with ">". */
static int read_attributes(struct scan *s, struct tag *t)
{
    for (;;) {
        uint8_t c = 0, before = 0;
        int r = peek(s, &before);
        if (r >= 0)
            r = skip_blanks(s, &c);
        if (r < 0)
            return r;
        if (c == '>') {
            take(s, c);
            return 0;
        }
        if (c == '/') {
            take(s, c);
            t->closed = true;
            return expect(s, '>');
        }
        if (!is_blank(before))
            return malformed(s, "a blank is expected between two attributes");
        r = read_attribute(s, t);
        if (r < 0)
            return r;
    }
}

/* ---- tags ---- */

static int on_stream(struct scan *s, const struct tag *t)
{
    if (!t->has_name || !t->has_length || !t->has_value)
        return malformed(s, "a Stream has Name, Length and Value");
    if (t->length != t->value_size)
        return malformed(s, "the Length of %.60s is %" PRIu64 ", and its Value has %" PRIu64 " bytes",
                         t->name, t->length, t->value_size);
    if (s->depth == 0)
        return malformed(s, "a Stream outside of any Storage");
    return s->events->stream(s->events->userdata, s->path, s->depth, t->name, t->value_at, t->value_size,
                             s->e);
}

static int on_storage(struct scan *s, const struct tag *t)
{
    if (!t->has_name)
        return malformed(s, "a Storage has a Name");
    if (s->depth == XQCN_DEPTH_MAX)
        return malformed(s, "more than %d Storages in each other", XQCN_DEPTH_MAX);
    snprintf(s->names[s->depth], NAME_SIZE, "%s", t->name);
    s->path[s->depth] = s->names[s->depth];
    s->depth++;
    int r = s->events->storage(s->events->userdata, s->path, s->depth, s->e);
    if (t->closed)
        s->depth--;
    return r;
}

static int read_end_tag(struct scan *s, const char *open)
{
    char word[TOKEN_SIZE];
    uint8_t c = 0;
    int r = read_word(s, word);
    if (r == 0)
        r = skip_blanks(s, &c);
    if (r == 0)
        r = expect(s, '>');
    if (r == 0 && strcmp(word, open) != 0)
        return malformed(s, "</%s> is expected, not </%s>", open, word);
    return r;
}

/* "<Stream ...>" needs its "</Stream>" with nothing between. */
static int close_stream(struct scan *s)
{
    uint8_t c = 0;
    int r = skip_blanks(s, &c);
    if (r == 0)
        r = expect(s, '<');
    if (r == 0)
        r = expect(s, '/');
    return r == 0 ? read_end_tag(s, "Stream") : r;
}

static int read_tag(struct scan *s)
{
    struct tag t = {.is_stream = false};
    char word[TOKEN_SIZE];
    uint8_t c = 0;
    int r = expect(s, '<');
    if (r == 0 && peek(s, &c) > 0 && c == '/') {
        take(s, c);
        if (s->depth == 0)
            return malformed(s, "an end of nothing");
        r = read_end_tag(s, "Storage");
        s->depth--;
        return r;
    }
    if (r == 0 && (c == '!' || c == '?'))
        return malformed(s, "comments, DTDs and instructions have no place in an XQCN");
    if (r == 0)
        r = read_word(s, word);
    if (r < 0)
        return r;
    t.is_stream = strcmp(word, "Stream") == 0;
    if (!t.is_stream && strcmp(word, "Storage") != 0)
        return malformed(s, "an element \"%s\" is none of an XQCN", word);
    r = read_attributes(s, &t);
    if (r < 0)
        return r;
    if (!t.is_stream)
        return on_storage(s, &t);
    r = on_stream(s, &t);
    return r == 0 && !t.closed ? close_stream(s) : r;
}

/* ---- the document ---- */

static int read_prolog(struct scan *s)
{
    static const char start[] = "<?xml";
    uint8_t c = 0;
    if (s->size >= sizeof(bom) && memcmp(s->buffer, bom, sizeof(bom)) == 0)
        s->at = s->line_start = sizeof(bom);
    int r = skip_blanks(s, &c);
    size_t left = s->buffer_size - (size_t)(s->at - s->buffer_at);
    const uint8_t *here = s->buffer + (s->at - s->buffer_at);
    if (r < 0 || left < sizeof(start) - 1 || memcmp(here, start, sizeof(start) - 1) != 0)
        return r;
    /* Whatever it says of the encoding: names are ASCII and values are digits. */
    for (uint64_t begin = s->at; s->at - begin < PROLOG_MAX;) {
        r = peek(s, &c);
        if (r <= 0)
            break;
        take(s, c);
        if (c == '>')
            return 0;
    }
    return r < 0 ? r : malformed(s, "its <?xml ...?> does not end");
}

static int read_document(struct scan *s)
{
    bool begun = false;
    for (;;) {
        uint8_t c = 0;
        int r = skip_blanks(s, &c);
        if (r < 0)
            return r;
        if (c == 0 && s->at >= s->size)
            break;
        if (begun && s->depth == 0)
            return malformed(s, "something lies behind the end");
        if (c != '<')
            return malformed(s, "text has no place in an XQCN");
        r = read_tag(s);
        if (r < 0)
            return r;
        begun = true;
    }
    if (!begun)
        return malformed(s, "it is empty");
    return s->depth == 0 ? 0 : malformed(s, "it ends inside of Storage \"%.60s\"", s->path[s->depth - 1]);
}

int xqcn_scan(int fd, uint64_t base, uint64_t size, const struct xqcn_events *events, struct error *e)
{
    struct error own = {0};
    _cleanup_free_ struct scan *s = calloc(1, sizeof(*s));
    _cleanup_free_ uint8_t *buffer = malloc(BUFFER);
    if (!s || !buffer)
        return error_set(e, ERROR_FAILED, "out of memory");
    if (size > XQCN_FILE_MAX)
        return error_set(e, ERROR_TOO_LARGE, "the XQCN has %" PRIu64 " MiB; at most %" PRIu64 " are read",
                         size >> 20, XQCN_FILE_MAX >> 20);
    *s = (struct scan){.fd = fd,
                       .base = base,
                       .size = size,
                       .events = events,
                       .e = e ? e : &own,
                       .buffer = buffer,
                       .line = 1};
    int r = size > 0 ? fill(s) : 0;
    if (r < 0)
        return r;
    if (s->buffer_size >= sizeof(ole2) && memcmp(buffer, ole2, sizeof(ole2)) == 0)
        return error_set(e, ERROR_UNSUPPORTED,
                         "this is a QCN (an OLE2 file) and not an XQCN; QPST's Software Download saves it as "
                         "XQCN when the file name ends with .xqcn");
    r = read_prolog(s);
    return r < 0 ? r : read_document(s);
}

int xqcn_value(int fd, uint64_t base, uint64_t offset, uint64_t size, uint8_t *ret, struct error *e)
{
    enum { BYTES = BUFFER / HEX_STEP };
    _cleanup_free_ uint8_t *text = malloc(BUFFER);
    if (!text)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t done = 0; done < size;) {
        size_t n = (size_t)MIN_OF((uint64_t)BYTES, size - done);
        int r = io_pread_full(fd, text, n * HEX_STEP - 1, base + offset + done * HEX_STEP);
        for (size_t i = 0; r == 0 && i < n; i++) {
            int high = hex_digit(text[i * HEX_STEP]), low = hex_digit(text[i * HEX_STEP + 1]);
            if (high < 0 || low < 0)
                r = -EBADMSG;
            else
                ret[done + i] = (uint8_t)(high << 4 | low);
        }
        if (r < 0)
            return error_set(e, ERROR_BACKUP_DAMAGED, "a value of the XQCN cannot be read again: %s",
                             strerror(-r));
        done += n;
    }
    return 0;
}
