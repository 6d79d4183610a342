/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Rawprogram XML as a package could bring it: whatever it says, commands keep the promises of package.h, and
 * ranges that are accepted lie on block borders and hold their image. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/ranges.h"
#include "firmware/rawprogram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char sbl[] = "update/sbl1.mbn", tz[] = "update/tz.mbn";
    struct package_file files[] = {{.path = sbl, .size = 5000}, {.path = tz, .size = 1024 * 1024}};
    struct package p = {.fd = -1,
                        .files = files,
                        .n_files = ARRAY_SIZE(files),
                        .geometry = {.page_size = 2048, .pages_per_block = 64}};
    struct block_range range;
    char why[256];

    if (rawprogram_parse(&p, "update/firehose", (const char *)data, size) == 0) {
        assert(p.n_commands <= PACKAGE_STEPS_MAX && p.n_problems <= PACKAGE_PROBLEMS_MAX);
        for (size_t i = 0; i < p.n_commands; i++) {
            const struct package_command *c = &p.commands[i];
            assert((c->kind == COMMAND_PROGRAM) == (c->file != NULL));
            if (c->kind == COMMAND_VENDOR) {
                assert(!strpbrk(c->vendor.project_name, "\"<>& ") &&
                       !strpbrk(c->vendor.project_type, "\"<>& "));
                continue;
            }
            assert(c->count > 0 && c->count <= PACKAGE_PAGES_MAX && c->start <= PACKAGE_PAGES_MAX);
            assert(c->last >= c->start + c->count - 1);
            if (ranges_of_command(&p, c, &range, why, sizeof(why)) < 0)
                continue;
            assert(range.first * 64 == c->start && range.count * 64 == c->count);
            assert(!c->file || c->file->size <= range.count * 64 * 2048);
        }
        if (p.n_commands < 64)
            ranges_check(&p);
    }
    free(p.commands);
    free_texts(p.problems, p.n_problems);
    free_texts(p.notes, p.n_notes);
    return 0;
}
