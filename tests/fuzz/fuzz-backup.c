/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A backup file of a client. The first byte says whether the rest is a whole file or a manifest, which
 * otherwise hides behind headers that a fuzzer hardly hits. What is taken must be consistent in itself. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backup/backup-inner.h"
#include "base/io.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file = -1;

int LLVMFuzzerInitialize(int *argc _unused_, char ***argv _unused_)
{
    file = memfd_create("backup", MFD_CLOEXEC);
    return digest_init();
}

static void use(const struct backup *b)
{
    _cleanup_free_ uint8_t *block = malloc(nand_block_size(&b->geometry));
    struct error e = {0};
    if (!block)
        return;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct backup_part *p = &b->parts[i];
        if (p->first_block + p->n_blocks > b->geometry.blocks || backup_image_size(b, p) != p->size)
            abort();
        if (b->fd >= 0 && p->offset + p->size > b->file_size)
            abort();
        if (b->fd >= 0 && !backup_block_is_bad(b, p, p->first_block))
            (void)backup_read_block(b, p, p->first_block, block, &e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(backup_freep) struct backup *b = NULL;
    struct error e = {0};
    if (size == 0)
        return 0;
    if (data[0] % 2) {
        if (manifest_parse((const char *)data + 1, size - 1, &b, &e) == 0)
            use(b);
        return 0;
    }
    if (ftruncate(file, 0) < 0 || io_pwrite_full(file, data + 1, size - 1, 0) < 0)
        return 0;
    if (backup_open(file, &b, &e) == 0) {
        use(b);
        (void)backup_check(b, NULL, NULL, &e);
    }
    return 0;
}
