/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "document.h"

#include <ctype.h>
#include <string.h>

static const struct {
    const char *entity;
    char character;
} entities[] = {{"&quot;", '"'}, {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&apos;", '\''}};

enum { ENTITIES = sizeof(entities) / sizeof(entities[0]) };

static char *skip_space(char *p)
{
    while (isspace((unsigned char)*p))
        p++;
    return p;
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == ':' || c == '.';
}

/* Cuts off a name; *p moves behind it, *terminator is what stood there. */
static const char *cut_name(char **p, char *terminator)
{
    char *start = *p;

    while (is_name(**p))
        (*p)++;
    *terminator = **p;
    if (*p == start)
        return NULL;
    **p = 0;
    return start;
}

static void unescape(char *text)
{
    char *out = text;

    while (*text) {
        size_t n = 0;
        for (unsigned i = 0; *text == '&' && i < ENTITIES && n == 0; i++)
            if (strncmp(text, entities[i].entity, strlen(entities[i].entity)) == 0) {
                n = strlen(entities[i].entity);
                *out++ = entities[i].character;
            }
        if (n == 0) {
            *out++ = *text;
            n = 1;
        }
        text += n;
    }
    *out = 0;
}

/* name="value"; NULL with a reason if it is none. */
static char *parse_attribute(char *p, struct tag *t, const char **reason)
{
    struct attribute a;
    char terminator, quote, *end;

    a.name = cut_name(&p, &terminator);
    if (!a.name || (terminator != '=' && !isspace((unsigned char)terminator))) {
        *reason = "attribute name";
        return NULL;
    }
    p++;
    if (terminator != '=') {
        p = skip_space(p);
        if (*p++ != '=') {
            *reason = "attribute without value";
            return NULL;
        }
    }
    p = skip_space(p);
    quote = *p;
    end = quote == '"' || quote == '\'' ? strchr(p + 1, quote) : NULL;
    if (!end) {
        *reason = "attribute value without quotes";
        return NULL;
    }
    *end = 0;
    a.value = p + 1;
    unescape(p + 1);
    if (t->count < DOCUMENT_ATTRIBUTES_MAX)
        t->attributes[t->count++] = a;
    else
        t->truncated = true;
    return end + 1;
}

bool document_parse(char *text, struct tag *ret, const char **reason)
{
    char *p = skip_space(text), terminator;

    *ret = (struct tag){0};
    if (strncmp(p, "<?xml", 5) == 0) {
        p = strstr(p, "?>");
        if (!p) {
            *reason = "prolog does not end";
            return false;
        }
        p = skip_space(p + 2);
    }
    *reason = "no <data>";
    if (strncmp(p, "<data>", 6))
        return false;
    p = skip_space(p + 6);
    *reason = "no tag";
    if (*p++ != '<')
        return false;
    ret->name = cut_name(&p, &terminator);
    if (!ret->name)
        return false;
    if (terminator == '/') {
        /* cut_name has overwritten the slash */
        *reason = "tag does not end";
        if (p[1] != '>')
            return false;
        p += 2;
    } else {
        *reason = "long form of a tag";
        if (!isspace((unsigned char)terminator))
            return false;
        p = skip_space(p + 1);
        while (*p && *p != '/' && *p != '>') {
            p = parse_attribute(p, ret, reason);
            if (!p)
                return false;
            p = skip_space(p);
        }
        *reason = "long form of a tag";
        if (p[0] != '/' || p[1] != '>')
            return false;
        p += 2;
    }
    p = skip_space(p);
    *reason = "more than one tag";
    return strncmp(p, "</data>", 7) == 0 && *skip_space(p + 7) == 0;
}

const char *tag_get(const struct tag *t, const char *name)
{
    for (unsigned i = 0; i < t->count; i++)
        if (strcmp(t->attributes[i].name, name) == 0)
            return t->attributes[i].value;
    return NULL;
}

size_t document_escape(char *out, size_t size, const char *text)
{
    size_t n = 0;

    for (; *text; text++) {
        const char *piece = NULL;
        for (unsigned i = 0; i < ENTITIES; i++)
            if (entities[i].character == *text && *text != '\'')
                piece = entities[i].entity;
        size_t length = piece ? strlen(piece) : 1;
        if (n + length >= size)
            break;
        memcpy(out + n, piece ? piece : text, length);
        n += length;
    }
    out[n] = 0;
    return n;
}
