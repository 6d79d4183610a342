/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A Firehose document as a programmer reads it (reference/edl.md 2.1): one self-closing tag inside <data>, no
 * more, in at most 4096 bytes. It is parsed in place.
 */

#include <stdbool.h>
#include <stddef.h>

enum { DOCUMENT_MAX = 4096, DOCUMENT_ATTRIBUTES_MAX = 24 };

struct attribute {
    const char *name, *value;
};

struct tag {
    const char *name;
    struct attribute attributes[DOCUMENT_ATTRIBUTES_MAX];
    unsigned count;
    bool truncated; /* more attributes than a programmer keeps */
};

/* text is NUL-terminated and is changed; what ret points to lives in it. False: reason says what a programmer
   would complain about. */
bool document_parse(char *text, struct tag *ret, const char **reason);

/* The value of an attribute, or NULL. */
const char *tag_get(const struct tag *t, const char *name);

/* Writes text with the entities that a value in double quotes needs; returns its length. */
size_t document_escape(char *out, size_t size, const char *text);
