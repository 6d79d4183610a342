/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Md5 lists: whatever they hold, entries are clean relative paths, and a list with a problem is never
 * silently taken. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/checksums.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char tz[] = "update/tz.mbn";
    struct package_file files[] = {{.path = tz, .referenced = true}};
    struct package p = {.fd = -1, .files = files, .n_files = ARRAY_SIZE(files)};
    struct checksums list = {0};

    if (checksums_parse(&p, (const char *)data, size, &list) == 0) {
        assert(list.n_entries <= PACKAGE_FILES_MAX);
        assert(list.n_entries > 0 || p.n_problems > 0);
        for (size_t i = 0; i < list.n_entries; i++) {
            const char *path = list.entries[i].path;
            assert(*path && *path != '/' && !strchr(path, '\\') && strcmp(path, "..") != 0);
            assert(strncmp(path, "../", 3) != 0 && !strstr(path, "/../"));
        }
        checksums_check(&p, &list);
        checksums_done(&list);
    }
    for (size_t i = 0; i < p.n_problems; i++)
        free(p.problems[i]);
    for (size_t i = 0; i < p.n_notes; i++)
        free(p.notes[i]);
    return 0;
}
