/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/xml.h"

#include <errno.h>
#include <string.h>
#include <libxml/parser.h>
#include <libxml/tree.h>

#include "base/text.h"

static const char document_start[] = "<?xml";
static const char document_end[] = "</data>";

enum { START_SIZE = sizeof(document_start) - 1, END_SIZE = sizeof(document_end) - 1 };

struct xml_splitter {
    char *buffer;
    size_t size, capacity;
    size_t scanned;       /* no end of a document begins before this offset */
    bool behind_document; /* what comes next follows a document, */
    size_t padding;       /* and so much padding came already */
    bool tail_known;
    size_t tail;
    xmlDocPtr document; /* the last <data>, while children of it are left */
    xmlNodePtr child;   /* the next one */
};

/* ---- documents ---- */

const char *xml_attribute(const struct xml_document *d, const char *name)
{
    for (size_t i = 0; i < d->n_attributes; i++)
        if (text_equal_nocase(d->attributes[i].name, name))
            return d->attributes[i].value;
    return NULL;
}

struct xml_document *xml_document_free(struct xml_document *d)
{
    if (!d)
        return NULL;
    for (size_t i = 0; i < d->n_attributes; i++) {
        free(d->attributes[i].name);
        free(d->attributes[i].value);
    }
    free(d->tag);
    free(d);
    return NULL;
}

static enum xml_kind kind_of(const char *tag)
{
    if (text_equal_nocase(tag, "log"))
        return XML_LOG;
    if (text_equal_nocase(tag, "response"))
        return XML_RESPONSE;
    return XML_OTHER;
}

static int document_from_node(xmlNodePtr node, struct xml_document **ret)
{
    _cleanup_(xml_document_freep) struct xml_document *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->tag = strdup((const char *)node->name);
    if (!d->tag)
        return -ENOMEM;
    d->kind = kind_of(d->tag);
    for (xmlAttrPtr a = node->properties; a && d->n_attributes < XML_ATTRIBUTES_MAX; a = a->next) {
        xmlChar *value = xmlNodeListGetString(node->doc, a->children, 1);
        struct xml_attribute *to = &d->attributes[d->n_attributes++];
        to->name = strdup((const char *)a->name);
        to->value = strdup(value ? (const char *)value : "");
        xmlFree(value);
        if (!to->name || !to->value)
            return -ENOMEM;
    }
    *ret = steal_ptr(d);
    return 0;
}

/* ---- repair: what a log holds must not cost the log ---- */

struct repair {
    char *out;
    size_t used;
};

/* The longest replacement: "&quot;" for one byte. */
enum { REPAIR_FACTOR = 6 };

static void put(struct repair *r, const char *text, size_t size)
{
    memcpy(r->out + r->used, text, size);
    r->used += size;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* One character of text, or one invalid byte as \xNN (F0 E9 88 14 was seen in logs of 9x07, 8.2). Returns the
 * bytes taken. */
static size_t put_character(struct repair *r, const char *text, size_t left)
{
    const unsigned char first = (unsigned char)text[0];
    size_t n = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (is_blank(text[0]) || (n <= left && text_is_clean(text, n))) {
        put(r, text, n);
        return n;
    }
    char escaped[5];
    snprintf(escaped, sizeof(escaped), "\\x%02x", first);
    put(r, escaped, 4);
    return 1;
}

/* A quote inside a log's value ends it only if the tag goes on or ends behind it: JSON is sent unescaped,
 * too. */
static bool quote_closes(const char *text, size_t left)
{
    size_t i = 0;
    while (i < left && is_blank(text[i]))
        i++;
    if (i == left || text[i] == '>')
        return true;
    if (text[i] == '/')
        return i + 1 < left && text[i + 1] == '>';
    if (i == 0)
        return false;
    size_t name = i;
    while (i < left && is_name_char(text[i]))
        i++;
    return i > name && i + 1 < left && text[i] == '=' && (text[i + 1] == '"' || text[i + 1] == '\'');
}

/* True for &lt; and the like, and for a printable ASCII character or a line end as number; all else is only
 * text. */
static bool is_reference(const char *text, size_t left)
{
    static const char *const names[] = {"&amp;", "&lt;",  "&gt;",  "&quot;", "&apos;",
                                        "&#9;",  "&#10;", "&#13;", "&#xA;",  "&#xD;"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i]) <= left && memcmp(text, names[i], strlen(names[i])) == 0)
            return true;

    char number[5] = "";
    const char *end = memchr(text, ';', MIN_OF(left, sizeof(number) + 2));
    if (left < 4 || text[1] != '#' || !end || (size_t)(end - text) - 2 >= sizeof(number))
        return false;
    memcpy(number, text + 2, (size_t)(end - text) - 2);
    bool hexadecimal = number[0] == 'x';
    uint64_t c;
    return text_parse_u64(number + hexadecimal, hexadecimal ? 16 : 10, 0x7e, &c) == 0 && c >= 0x20;
}

/*
 * Copies a document so that invalid bytes are escaped everywhere, and what would break the value of a <log>
 * is escaped there. No byte outside of a log changes its meaning: a response is as it was sent.
 */
static void repair_document(struct repair *r, const char *text, size_t size)
{
    static const char log_tag[] = "<log";
    bool in_log = false;
    char quote = 0;
    for (size_t i = 0; i < size;) {
        char c = text[i];
        size_t left = size - i;
        if (!in_log && left > sizeof(log_tag) && memcmp(text + i, log_tag, sizeof(log_tag) - 1) == 0)
            in_log = !is_name_char(text[i + sizeof(log_tag) - 1]);
        else if (in_log && !quote && (c == '"' || c == '\''))
            quote = c;
        else if (in_log && !quote && c == '>')
            in_log = false;
        else if (quote && c == quote && quote_closes(text + i + 1, left - 1))
            quote = 0;
        else if (quote && (c == quote || c == '<' || (c == '&' && !is_reference(text + i, left)))) {
            const char *with = c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : "&apos;";
            put(r, with, strlen(with));
            i++;
            continue;
        }
        i += put_character(r, text + i, left);
    }
}

/* Parses one whole document and keeps it as the one whose children come next. -EBADMSG, -ENOMEM. */
static int parse(struct xml_splitter *s, const char *text, size_t size)
{
    _cleanup_free_ char *out = malloc(size * REPAIR_FACTOR);
    if (!out)
        return -ENOMEM;
    struct repair r = {.out = out};
    repair_document(&r, text, size);
    /* A programmer has no use for a DTD, and without one there are no entities to expand. */
    if (memmem(r.out, r.used, "<!DOCTYPE", 9))
        return -EBADMSG;

    xmlDocPtr document = xmlReadMemory(r.out, (int)r.used, NULL, "UTF-8",
                                       XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr root = document ? xmlDocGetRootElement(document) : NULL;
    if (!root || document->intSubset || !xmlStrEqual(root->name, BAD_CAST "data")) {
        xmlFreeDoc(document);
        return -EBADMSG;
    }
    s->document = document;
    s->child = root->children;
    return 0;
}

/* ---- splitter ---- */

struct xml_splitter *xml_splitter_new(void)
{
    xmlInitParser(); /* before a sandbox closes */
    return calloc(1, sizeof(struct xml_splitter));
}

struct xml_splitter *xml_splitter_free(struct xml_splitter *s)
{
    if (!s)
        return NULL;
    if (s->document)
        xmlFreeDoc(s->document);
    free(s->buffer);
    free(s);
    return NULL;
}

static void drop(struct xml_splitter *s, size_t size)
{
    s->size -= size;
    memmove(s->buffer, s->buffer + size, s->size);
    s->scanned = 0;
}

int xml_splitter_feed(struct xml_splitter *s, const void *data, size_t size)
{
    if (size == 0)
        return 0;
    if (size > XML_DOCUMENT_MAX || s->size + size > 2 * XML_DOCUMENT_MAX ||
        (s->size + size > XML_DOCUMENT_MAX && !memmem(s->buffer, s->size, document_end, END_SIZE) &&
         !memmem(data, size, document_end, END_SIZE))) {
        s->size = s->scanned = 0;
        return -ENOBUFS;
    }
    if (s->size + size > s->capacity) {
        size_t capacity = MAX_OF(2 * s->capacity, s->size + size);
        char *grown = realloc(s->buffer, capacity);
        if (!grown)
            return -ENOMEM;
        s->buffer = grown;
        s->capacity = capacity;
    }
    memcpy(s->buffer + s->size, data, size);
    s->size += size;
    return 0;
}

static bool is_padding(char c)
{
    return c == '\0' || is_blank(c);
}

static void skip_padding(struct xml_splitter *s)
{
    size_t n = 0;
    while (n < s->size && is_padding(s->buffer[n]))
        n++;
    if (n > 0)
        drop(s, n);
    s->padding += n;
    if (s->behind_document && s->size > 0) {
        if (s->buffer[0] == document_start[0]) {
            s->tail = s->padding;
            s->tail_known = true;
        }
        s->behind_document = false;
    }
}

/* Drops what is in front of the next start of a document, or of what may become one with the next bytes. */
static int drop_garbage(struct xml_splitter *s, size_t *ret_garbage_size)
{
    const char *next = memmem(s->buffer + 1, s->size - 1, document_start, START_SIZE);
    size_t n = next ? (size_t)(next - s->buffer) : s->size;
    if (!next) {
        size_t tail = MIN_OF((size_t)START_SIZE - 1, s->size - 1);
        while (tail > 0 && memcmp(s->buffer + s->size - tail, document_start, tail) != 0)
            tail--;
        n -= tail;
    }
    drop(s, n);
    *ret_garbage_size = n;
    return -EBADMSG;
}

/* The length of the document at the start of the buffer: 1 whole, 0 more is needed, -EBADMSG it is none. */
static int find_document(struct xml_splitter *s, size_t *ret_size)
{
    if (memcmp(s->buffer, document_start, MIN_OF(s->size, (size_t)START_SIZE)) != 0)
        return -EBADMSG;
    if (s->size < START_SIZE)
        return 0;
    size_t from = MAX_OF(s->scanned, (size_t)START_SIZE);
    const char *end = memmem(s->buffer + from, s->size - from, document_end, END_SIZE);
    const char *next = memmem(s->buffer + from, s->size - from, document_start, START_SIZE);
    if (next && (!end || next < end))
        return -EBADMSG; /* it was cut, and the next one follows */
    if (!end) {
        s->scanned = MAX_OF(from, s->size - MIN_OF(s->size, (size_t)END_SIZE - 1));
        return 0;
    }
    *ret_size = (size_t)(end - s->buffer) + END_SIZE;
    return *ret_size > XML_DOCUMENT_MAX ? -EBADMSG : 1;
}

/* The next element of the document that is parsed. 0: there is none left. */
static int next_child(struct xml_splitter *s, struct xml_document **ret)
{
    while (s->child && s->child->type != XML_ELEMENT_NODE)
        s->child = s->child->next;
    if (!s->child) {
        if (s->document)
            xmlFreeDoc(s->document);
        s->document = NULL;
        return 0;
    }
    int r = document_from_node(s->child, ret);
    if (r < 0)
        return r;
    s->child = s->child->next;
    return 1;
}

int xml_splitter_next(struct xml_splitter *s, struct xml_document **ret, size_t *ret_garbage_size)
{
    for (;;) {
        int r = next_child(s, ret);
        if (r != 0)
            return r;
        skip_padding(s);
        if (s->size == 0)
            return 0;
        size_t size;
        r = find_document(s, &size);
        if (r == 0)
            return 0;
        if (r < 0)
            return drop_garbage(s, ret_garbage_size);
        r = parse(s, s->buffer, size);
        if (r == -ENOMEM)
            return r;
        drop(s, size);
        s->behind_document = true;
        s->padding = 0;
        if (r < 0) {
            *ret_garbage_size = size;
            return r;
        }
    }
}

size_t xml_splitter_take_raw(struct xml_splitter *s, void *buffer, size_t size)
{
    size_t n = MIN_OF(size, s->size);
    s->behind_document = false;
    if (n > 0) {
        memcpy(buffer, s->buffer, n);
        drop(s, n);
    }
    return n;
}

size_t xml_splitter_buffered(const struct xml_splitter *s)
{
    return s->size;
}

bool xml_splitter_drop_padding(struct xml_splitter *s, size_t size)
{
    if (size > s->size || !xml_is_padding(s->buffer, size))
        return false;
    if (size > 0)
        drop(s, size);
    return true;
}

bool xml_splitter_tail(const struct xml_splitter *s, size_t *ret)
{
    if (s->tail_known)
        *ret = s->tail;
    return s->tail_known;
}

bool xml_is_padding(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!is_padding(((const char *)data)[i]))
            return false;
    return true;
}
