/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* XQCN files from anywhere: whatever is understood is written and understood again as the same. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backup/calibration.h"
#include "base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct calibration *c = NULL, *back = NULL;
    struct error e = {0};
    int fd = memfd_create("in", 0), out = memfd_create("out", 0);
    uint64_t written;
    assert(fd >= 0 && out >= 0 && io_pwrite_full(fd, data, size, 0) == 0);
    int r = xqcn_read(fd, 0, size, &c, &e);
    assert((r < 0) == (e.kind != ERROR_NONE) && (r == 0) == (c != NULL));
    for (size_t i = 0; r == 0 && i < c->n_files; i++)
        assert(c->files[i].path[0] == '/' && !strstr(c->files[i].path, "/.."));
    if (r == 0) {
        assert(xqcn_write(c, out, 0, &written, &e) == 0);
        assert(xqcn_read(out, 0, written, &back, &e) == 0);
        assert(back->n_nv == c->n_nv && back->n_files == c->n_files);
        assert(c->n_nv == 0 || memcmp(back->nv, c->nv, c->n_nv * sizeof(*c->nv)) == 0);
        for (size_t i = 0; i < c->n_files; i++)
            assert(strcmp(back->files[i].path, c->files[i].path) == 0 &&
                   back->files[i].size == c->files[i].size);
    }
    calibration_free(c);
    calibration_free(back);
    close(fd);
    close(out);
    return 0;
}
