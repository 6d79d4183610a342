/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Partition tables from a modem's flash or a package, and their text form: whatever parses must keep the
 * promises of mibib.h. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "storage/mibib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct mibib_table *t)
{
    uint64_t end = 0;
    assert(t->n_partitions >= 1 && t->n_partitions <= MIBIB_PARTITIONS_MAX);
    for (size_t i = 0; i < t->n_partitions; i++) {
        assert(t->partitions[i].name[0] && memchr(t->partitions[i].name, 0, MIBIB_NAME_SIZE));
        assert(t->partitions[i].first_block >= end);
        assert(t->partitions[i].n_blocks > 0 || (t->partitions[i].grows && i == t->n_partitions - 1));
        end = t->partitions[i].first_block + t->partitions[i].n_blocks;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mibib_table t, back;
    struct error e;
    if (size < 1)
        return 0;
    size_t page_size = data[0] & 1 ? 4096 : 2048;
    uint64_t blocks = data[0] & 2 ? 2048 : 0;
    uint8_t *pages = malloc(page_size * MIBIB_PAGES);
    if (!pages)
        return 0;
    memset(pages, 0xff, page_size * MIBIB_PAGES);
    memcpy(pages, data + 1, size - 1 < page_size * MIBIB_PAGES ? size - 1 : page_size * MIBIB_PAGES);
    if (mibib_parse(pages, page_size, blocks, &t, &e) == 0) {
        check(&t);
        char *text = mibib_print(&t);
        assert(text && mibib_scan(text, strlen(text), &back) == 0);
        check(&back);
        free(text);
    }
    free(pages);
    if (mibib_scan((const char *)data, size, &t) == 0)
        check(&t);
    struct mibib_tables several;
    if (mibib_scan_several((const char *)data, size, &several) == 0) {
        assert(several.n >= 1 && several.n <= MIBIB_TABLES_MAX);
        for (size_t i = 0; i < several.n; i++)
            check(&several.table[i]);
        mibib_tables_done(&several);
    }
    return 0;
}
