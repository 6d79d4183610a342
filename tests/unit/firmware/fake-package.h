/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A package put together by hand, for tests of one parser: files with content in an unnamed file, and nothing
 * checked. */

#include "support.h"

static inline struct package *fake_new(void)
{
    struct package *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->fd = support_store();
    p->geometry = (struct nand_geometry){.page_size = 2048, .pages_per_block = 64};
    return p;
}

static inline void fake_add(struct package *p, const char *path, const void *data, size_t size)
{
    struct stat st;
    struct digest *md5 = digest_new(DIGEST_MD5);
    assert_int_equal(fstat(p->fd, &st), 0);
    assert_int_equal(io_pwrite_full(p->fd, data, size, (uint64_t)st.st_size), 0);
    p->files = realloc(p->files, (p->n_files + 1) * sizeof(*p->files));
    assert_non_null(p->files);
    struct package_file *f = &p->files[p->n_files++];
    *f = (struct package_file){.path = strdup(path), .offset = (uint64_t)st.st_size, .size = size};
    digest_update(md5, data, size);
    digest_final(md5, f->md5);
    digest_free(md5);
    digest_sha256(data, size, f->sha256);
}

/* The text must be among the problems, or there must be none (NULL). */
static inline void fake_expect(const struct package *p, const char *text)
{
    const char *problems = support_problems_of(p);
    if (text ? !strstr(problems, text) : p->n_problems > 0)
        fail_msg("expected %s, the problems are:\n%s", text ? text : "none", problems);
}

static inline bool fake_has_note(const struct package *p, const char *text)
{
    for (size_t i = 0; i < p->n_notes; i++)
        if (strstr(p->notes[i], text))
            return true;
    return false;
}

/* A file of a real package, if it is at hand beside the checkout; NULL otherwise. */
static inline char *fake_real(const char *name, size_t *ret_size)
{
    const char *place = getenv("QDLD_REAL_PACKAGE"); /* where such files are kept elsewhere */
    const char *const places[] = {"../shared/data/eg25g", place ? place : ""};
    char path[256];
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        char *data;
        snprintf(path, sizeof(path), "%s/%s", places[i], name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        int r = io_read_file(fd, 1024 * 1024, &data, ret_size);
        close(fd);
        return r == 0 ? data : NULL;
    }
    return NULL;
}
