/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/xmlfile.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

static const char COMMENT[] = "<!--";

struct reader {
    const struct xmlfile *x;
    xmlParserCtxtPtr context;
    unsigned depth;
    int stopped; /* what on_element() said */
    bool dtd;
    char element[64]; /* the innermost open one */
    char text[XMLFILE_TEXT_MAX];
    size_t n_text;
};

/* ---- before libxml2 sees it ---- */

/* The tag that begins at p ends within XMLFILE_TAG_MAX bytes; '>' inside quotes does not end it. */
static bool tag_is_short(const char *p, const char *end)
{
    char quote = '\0';
    for (const char *c = p + 1; c < end && c - p < XMLFILE_TAG_MAX; c++) {
        if (quote)
            quote = *c == quote ? '\0' : quote;
        else if (*c == '"' || *c == '\'')
            quote = *c;
        else if (*c == '>')
            return true;
    }
    return end - p < XMLFILE_TAG_MAX; /* the parser will say that it is cut */
}

static int check_text(const char *text, size_t size, char *why, size_t why_size)
{
    const char *end = text + size;
    unsigned line = 1;

    for (const char *p = text; p < end; p++) {
        if (*p == '\n')
            line++;
        if (*p == '\0') {
            snprintf(why, why_size, "line %u holds a NUL byte (UTF-8 is expected)", line);
            return -EBADMSG;
        }
        if (*p != '<')
            continue;
        if ((size_t)(end - p) >= strlen(COMMENT) && memcmp(p, COMMENT, strlen(COMMENT)) == 0)
            continue;
        if (!tag_is_short(p, end)) {
            snprintf(why, why_size, "line %u: a tag is longer than %d bytes", line, XMLFILE_TAG_MAX);
            return -EBADMSG;
        }
    }
    return 0;
}

/* ---- libxml2's callbacks ---- */

static void on_start(void *userdata, const xmlChar *name, const xmlChar **attributes)
{
    struct reader *r = userdata;
    r->n_text = 0;
    snprintf(r->element, sizeof(r->element), "%s", (const char *)name);
    if (r->stopped == 0 && r->x->on_element)
        r->stopped = r->x->on_element(r->x->userdata, (const char *)name, (const char *const *)attributes,
                                      r->depth, (unsigned)xmlSAX2GetLineNumber(r->context));
    r->depth++;
    if (r->stopped != 0)
        xmlStopParser(r->context);
}

static void on_end(void *userdata, const xmlChar *name)
{
    struct reader *r = userdata;
    if (r->depth > 0)
        r->depth--;
    if (r->x->on_text && strcmp(r->element, (const char *)name) == 0) {
        r->text[r->n_text] = '\0';
        r->x->on_text(r->x->userdata, r->element, r->text);
    }
    r->element[0] = '\0';
}

static void on_characters(void *userdata, const xmlChar *text, int size)
{
    struct reader *r = userdata;
    size_t room = sizeof(r->text) - 1 - r->n_text, n = MIN_OF((size_t)size, room);
    memcpy(r->text + r->n_text, text, n);
    r->n_text += n;
}

/* Called before the first declaration of a DTD is read: entities are refused unseen. */
static void on_dtd(void *userdata, _unused_ const xmlChar *name, _unused_ const xmlChar *external,
                   _unused_ const xmlChar *system)
{
    struct reader *r = userdata;
    r->dtd = true;
    xmlStopParser(r->context);
}

static void on_message(_unused_ void *userdata, _unused_ const char *format, ...)
{
    /* The context keeps the last error; nothing goes to stderr. */
}

int xmlfile_parse(const struct xmlfile *x, const char *text, size_t size, char *why, size_t why_size)
{
    int bad = check_text(text, size, why, why_size);
    if (bad < 0)
        return bad;
    if (size == 0 || size > INT_MAX) {
        snprintf(why, why_size, "it is empty");
        return -EBADMSG;
    }
    xmlParserCtxtPtr context = xmlCreateMemoryParserCtxt(text, (int)size);
    if (!context)
        return -ENOMEM;
    struct reader reader = {.x = x, .context = context};
    xmlCtxtUseOptions(context, XML_PARSE_NONET);
    /* The plain SAX interface: without its magic number libxml2 uses these callbacks only, and builds nothing
     * itself. */
    *context->sax = (xmlSAXHandler){
        .initialized = 1,
        .startElement = on_start,
        .endElement = on_end,
        .characters = on_characters,
        .cdataBlock = on_characters,
        .internalSubset = on_dtd,
        .warning = on_message,
        .error = on_message,
        .fatalError = on_message,
    };
    context->userData = &reader;
    xmlParseDocument(context);

    int result = 0;
    if (reader.stopped != 0) {
        result = reader.stopped;
    } else if (reader.dtd) {
        snprintf(why, why_size, "it has a document type declaration, which could define entities");
        result = -EBADMSG;
    } else if (!context->wellFormed) {
        const char *message = context->lastError.message ? context->lastError.message : "not well-formed";
        snprintf(why, why_size, "line %d: %.*s", context->lastError.line, (int)strcspn(message, "\n"),
                 message);
        result = context->lastError.code == XML_ERR_NO_MEMORY ? -ENOMEM : -EBADMSG;
    }
    xmlFreeParserCtxt(context);
    return result;
}

const char *xmlfile_attribute(const char *const *attributes, const char *name)
{
    for (size_t i = 0; attributes && attributes[i]; i += 2)
        if (strcmp(attributes[i], name) == 0)
            return attributes[i + 1] ? attributes[i + 1] : "";
    return NULL;
}
