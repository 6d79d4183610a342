/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Archives and store entries. Whatever is imported must open again as the same package, and lie within its
 * limits; the same bytes taken for a store entry must be refused or keep the promises of the index.
 */

#include <assert.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "firmware/package.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 4 * 1024 * 1024, ENTRIES_MAX = 64 };

static void check_package(int fd)
{
    struct package *p = NULL;
    struct error e;
    if (package_open(fd, NULL, &p, &e) < 0)
        return;
    assert(p->n_files >= 1 && strlen(p->id) == 32);
    for (size_t i = 0; i < p->n_files; i++)
        assert(*p->files[i].path && *p->files[i].path != '/' && strncmp(p->files[i].path, "../", 3) != 0);
    package_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct archive_options options = {
        .max_bytes = BYTES_MAX, .max_entries = ENTRIES_MAX, .input_timeout = USEC_PER_SEC, .wake_fd = -1};
    struct archive_result result;
    struct error e = {0};

    setlocale(LC_ALL, "C.UTF-8");
    int archive = memfd_create("archive", MFD_CLOEXEC), store = memfd_create("store", MFD_CLOEXEC);
    assert(archive >= 0 && store >= 0);
    if (io_pwrite_full(archive, data, size, 0) == 0) {
        int r = archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e);
        if (r == 0) {
            struct package *p = NULL;
            assert(result.bytes <= BYTES_MAX && result.entries <= ENTRIES_MAX);
            assert(package_open(store, NULL, &p, &e) == 0);
            package_free(p);
        } else {
            assert(e.kind != ERROR_NONE && *e.message);
        }
        check_package(archive);
    }
    close(archive);
    close(store);
    return 0;
}
