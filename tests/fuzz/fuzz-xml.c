/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bytes from a programmer, cut anywhere: what the splitter gives out must keep the promises of xml.h. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "protocol/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_document(const struct xml_document *d)
{
    assert(d->tag && d->n_attributes <= XML_ATTRIBUTES_MAX);
    for (size_t i = 0; i < d->n_attributes; i++) {
        const char *value = d->attributes[i].value;
        assert(d->attributes[i].name && value);
        /* Line ends may be in it by reference; nothing else that is not text. */
        for (size_t n; *value; value += n) {
            n = strcspn(value, "\t\r\n");
            assert(text_is_clean(value, n));
            n += value[n] != '\0';
        }
        (void)xml_attribute(d, d->attributes[i].name);
    }
}

/* The first byte chooses how the rest is cut and how much of it is taken as raw data in between. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t step = data[0] & 1 ? 1 + data[0] / 2 : 16384;
    bool raw = data[0] & 0x40;
    struct xml_splitter *s = xml_splitter_new();
    assert(s);
    for (size_t at = 1; at < size;) {
        size_t n = size - at < step ? size - at : step;
        size_t before = xml_splitter_buffered(s);
        int r = xml_splitter_feed(s, data + at, n);
        assert(r == 0 || r == -ENOBUFS);
        assert(xml_splitter_buffered(s) == (r == 0 ? before + n : 0));
        at += n;
        for (;;) {
            struct xml_document *d = NULL;
            size_t garbage = 0;
            before = xml_splitter_buffered(s);
            r = xml_splitter_next(s, &d, &garbage);
            assert(xml_splitter_buffered(s) <= before);
            if (r == 0)
                break;
            if (r == -EBADMSG) {
                assert(garbage > 0 && garbage <= before);
                continue;
            }
            assert(r == 1);
            check_document(d);
            char buffer[64];
            if (raw && d->kind == XML_RESPONSE)
                (void)xml_splitter_take_raw(s, buffer, sizeof(buffer));
            xml_document_free(d);
        }
    }
    xml_splitter_free(s);
    return 0;
}
