/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one place of this floor that knows libxml2: elements of a package's XML, one after the other, without a
 * tree, DTD, entities or network. Everything beyond elements and the five predefined entities is refused.
 */

#include <stddef.h>
#include <stdint.h>

enum {
    XMLFILE_TAG_MAX = 4096, /* bytes from '<' to '>': bounds libxml2's quadratic look for double attributes */
    XMLFILE_TEXT_MAX = 256,
};

struct xmlfile {
    /*
     * An element begins. attributes: name, value, name, value, NULL (NULL if there is none); depth 0 is the
     * root. Non-zero stops the parser, xmlfile_parse() then returns it.
     */
    int (*on_element)(void *userdata, const char *name, const char *const *attributes, unsigned depth,
                      unsigned line);
    /* The text of a leaf, cut to XMLFILE_TEXT_MAX - 1 bytes; NULL if nobody wants it. */
    void (*on_text)(void *userdata, const char *element, const char *text);
    void *userdata;
};

/* 0; -EBADMSG with the reason and the line in `why`; what on_element() returned; -ENOMEM. */
int xmlfile_parse(const struct xmlfile *x, const char *text, size_t size, char *why, size_t why_size);

/* The value of an attribute by its exact name; NULL if absent. */
const char *xmlfile_attribute(const char *const *attributes, const char *name);
