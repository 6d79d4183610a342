/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The splitter and reader of Firehose documents: bytes in, documents out. Documents may be split over reads,
 * glued together, padded with NULs and newlines, and followed by raw data (reference/edl.md 2.1, 8.1 to 8.3).
 * libxml2 reads each one, without DTD, entities or network.
 *
 * A log may hold bytes that are no text, raw ampersands, brackets and quotes (8.2, 8.5): they are made
 * harmless first, invalid bytes as \xNN. A response is read strictly: what is not well-formed there is
 * garbage, never guessed at.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cleanup.h"

enum {
    XML_DOCUMENT_MAX = 64 * 1024, /* MaxXMLSizeInBytes is 4096; a log may be longer, never this long */
    XML_ATTRIBUTES_MAX = 32,
};

enum xml_kind { XML_LOG, XML_RESPONSE, XML_OTHER };

struct xml_attribute {
    char *name, *value;
};

struct xml_document {
    enum xml_kind kind;
    char *tag;
    struct xml_attribute attributes[XML_ATTRIBUTES_MAX];
    size_t n_attributes;
};

/*
 * A document's attribute by name, case ignored; NULL if absent. Valid UTF-8, but foreign: line ends have
 * become blanks. Attributes behind the first XML_ATTRIBUTES_MAX are dropped, as programmers do with ours
 * (2.1).
 */
const char *xml_attribute(const struct xml_document *d, const char *name);
struct xml_document *xml_document_free(struct xml_document *d);
DEFINE_CLEANUP(struct xml_document *, xml_document_free)

struct xml_splitter;
struct xml_splitter *xml_splitter_new(void);
struct xml_splitter *xml_splitter_free(struct xml_splitter *s);
DEFINE_CLEANUP(struct xml_splitter *, xml_splitter_free)

/*
 * Appends received bytes, at most XML_DOCUMENT_MAX at once. -ENOBUFS: more than XML_DOCUMENT_MAX bytes
 * without the end of a document; all that was buffered is dropped. -ENOMEM.
 */
int xml_splitter_feed(struct xml_splitter *s, const void *data, size_t size);
/*
 * The next document. -ENOMEM. 1: *ret is one (the caller frees it); a <data> with several children comes out
 * as several. 0: more bytes are needed. -EBADMSG: what is buffered is no Firehose document (garbage); it has
 * been dropped up to the next "<?xml" if there is one, and *ret_garbage_size tells how many bytes.
 */
int xml_splitter_next(struct xml_splitter *s, struct xml_document **ret, size_t *ret_garbage_size);
/* Takes what is buffered behind the last document as raw data (the ACK with rawmode="true" came): up to
 * `size` bytes. */
size_t xml_splitter_take_raw(struct xml_splitter *s, void *buffer, size_t size);
/* Bytes behind the last document. */
size_t xml_splitter_buffered(const struct xml_splitter *s);
/* How many bytes of padding this modem last had between two documents; false if there were no two yet. */
bool xml_splitter_tail(const struct xml_splitter *s, size_t *ret);
bool xml_is_padding(const void *data, size_t size);
/* Drops `size` buffered bytes if all of them are padding (NULs, blanks, line ends); false if they are not. */
bool xml_splitter_drop_padding(struct xml_splitter *s, size_t size);
