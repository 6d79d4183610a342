/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From what a client gives to a store entry: containers, pipes, limits. The broken kinds are in
 * test-package.c. */

#include <pthread.h>
#include "support.h"

static void test_clean_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *clean, *why;
    } names[] = {
        {"update/tz.mbn", "update/tz.mbn", NULL},
        {"./a//b/./c", "a/b/c", NULL},
        {"a\\b\\c.mbn", "a/b/c.mbn", NULL},
        {"dir/", "dir", NULL},
        {"./", "", NULL},
        {"..a/b..", "..a/b..", NULL},
        {"M\xc3\xbcller", "M\xc3\xbcller", NULL},
        {"", NULL, "empty"},
        {"/a", NULL, "absolute"},
        {"\\a", NULL, "absolute"},
        {"c:/a", NULL, "drive"},
        {"..", NULL, "climbs"},
        {"a/../b", NULL, "climbs"},
        {"a\\..\\b", NULL, "climbs"},
        {"a\nb", NULL, "control"},
        {"a\x7f", NULL, "control"},
        {"\xff", NULL, "UTF-8"},
    };
    char clean[PACKAGE_PATH_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *why = NULL;
        int r = archive_clean_name(names[i].name, clean, sizeof(clean), &why);
        assert_int_equal(r, names[i].clean ? 0 : -EINVAL);
        if (names[i].clean)
            assert_string_equal(clean, names[i].clean);
        else
            assert_non_null(strstr(why, names[i].why));
    }
    char name[1024];
    const char *why;
    memset(name, 'a', 256);
    name[256] = '\0';
    assert_int_equal(archive_clean_name(name, clean, sizeof(clean), &why), -EINVAL);
    name[255] = '\0';
    assert_int_equal(archive_clean_name(name, clean, sizeof(clean), &why), 0);
    for (size_t i = 0; i < 600; i++)
        name[i] = i % 100 == 99 ? '/' : 'a';
    name[600] = '\0';
    assert_int_equal(archive_clean_name(name, clean, sizeof(clean), &why), -EINVAL);
    name[PACKAGE_PATH_MAX - 1] = '\0';
    assert_int_equal(archive_clean_name(name, clean, sizeof(clean), &why), 0);
}

/* ---- pipes ---- */

struct feeder {
    int from, to;
    size_t piece;
    uint64_t limit;
};

static void *feed(void *userdata)
{
    struct feeder *f = userdata;
    char buffer[65536];
    uint64_t at = 0;
    ssize_t n;
    while (at < f->limit && (n = pread(f->from, buffer, MIN_OF(f->piece, f->limit - at), (off_t)at)) > 0) {
        if (io_write_full(f->to, buffer, (size_t)n) < 0)
            break;
        at += (uint64_t)n;
    }
    close(f->to);
    return NULL;
}

/* Imports what `archive` holds through a pipe, in pieces. */
static int import_piped(int archive, size_t piece, uint64_t limit, struct archive_result *ret,
                        struct error *e)
{
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct feeder f = {.from = archive, .to = ends[1], .piece = piece, .limit = limit};
    assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
    int store = support_import(ends[0], ret, NULL, e);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return store;
}

static void test_pipe(void **state)
{
    (void)state;
    static const char *const names[] = {"p.zip", "p.7z", "p.tar", "p.tar.gz", "p.tar.xz", "p.tar.zst"};
    static const size_t pieces[] = {65536, 7};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        for (size_t k = 0; k < ARRAY_SIZE(pieces); k++) {
            struct error e = {0};
            struct archive_result piped, direct;
            struct package *p, *q;
            int archive = support_make(names[i], "--small", NULL);
            int store = import_piped(archive, pieces[k], UINT64_MAX, &piped, &e);
            if (store < 0)
                fail_msg("%s: %s", names[i], e.message);
            int other = support_import(dup(archive), &direct, NULL, &e);
            assert_true(other >= 0);

            /* The same bytes came, the same entry was made of them, and nothing of the spool is left. */
            uint8_t sha256[SHA256_SIZE];
            struct stat st, given;
            assert_int_equal(fstat(archive, &given), 0);
            assert_int_equal(digest_sha256_fd(archive, 0, (uint64_t)given.st_size, sha256), 0);
            assert_memory_equal(piped.archive_sha256, sha256, SHA256_SIZE);
            assert_memory_equal(direct.archive_sha256, sha256, SHA256_SIZE);
            assert_int_equal(package_open(store, NULL, &p, &e), 0);
            assert_int_equal(package_open(other, NULL, &q, &e), 0);
            assert_string_equal(p->id, q->id);
            assert_int_equal(fstat(store, &st), 0);
            assert_true((uint64_t)st.st_size < 4 * p->size);
            support_close(p);
            support_close(q);
            close(archive);
        }
}

static void test_cut_pipe(void **state)
{
    (void)state;
    static const char *const names[] = {"c.zip", "c.7z", "c.tar.gz", "c.tar.xz"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct error e = {0};
        int archive = support_make(names[i], "--small", NULL);
        assert_int_equal(import_piped(archive, 4096, 20000, NULL, &e), -EBADMSG);
        assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
        close(archive);
    }
}

static void test_silent_pipe(void **state)
{
    (void)state;
    struct archive_options options = support_options();
    struct archive_result result;
    struct error e = {0};
    int ends[2], store = support_store();
    options.input_timeout = 50 * USEC_PER_MSEC;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(archive_import(ends[0], store, &options, NULL, NULL, NULL, &result, &e), -ETIMEDOUT);
    assert_int_equal(e.kind, ERROR_TIMEOUT);
    /* Also in the middle of a zip, and of a tar. */
    static const char *const beginnings[] = {"PK\3\4aaaaaaaa", "some/name"};
    for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++) {
        e = (struct error){0};
        assert_int_equal(io_write_full(ends[1], beginnings[i], strlen(beginnings[i])), 0);
        assert_int_equal(archive_import(ends[0], store, &options, NULL, NULL, NULL, &result, &e), -ETIMEDOUT);
        assert_int_equal(e.kind, ERROR_TIMEOUT);
    }
    close(ends[0]);
    close(ends[1]);
    close(store);
}

struct stopper {
    int wake;
    unsigned calls;
    struct error *e;
};

static int stop(void *userdata, _unused_ uint64_t done, _unused_ uint64_t total)
{
    struct stopper *s = userdata;
    s->calls++;
    return error_set(s->e, ERROR_CANCELLED, "enough");
}

/* A cancel is heard while a pipe says nothing, and while data come. */
static void test_cancel(void **state)
{
    (void)state;
    struct archive_options options = support_options();
    struct archive_result result;
    struct error e = {0};
    struct stopper s = {.e = &e};
    int ends[2], wake[2], store = support_store();
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(pipe2(wake, O_CLOEXEC), 0);
    options.wake_fd = wake[0];
    options.input_timeout = 3600 * USEC_PER_SEC;
    assert_int_equal(io_write_full(wake[1], "x", 1), 0);
    assert_int_equal(archive_import(ends[0], store, &options, stop, NULL, &s, &result, &e), -ECANCELED);
    assert_int_equal(e.kind, ERROR_CANCELLED);
    assert_int_equal(s.calls, 1);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(wake[i]);
    }

    static const char *const names[] = {"s.zip", "s.7z", "s.tar.xz"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int archive = support_make(names[i], "--small", NULL);
        options.wake_fd = -1;
        e = (struct error){0};
        assert_int_equal(archive_import(archive, store, &options, stop, NULL, &s, &result, &e), -ECANCELED);
        assert_int_equal(e.kind, ERROR_CANCELLED);
        close(archive);
    }
    close(store);
}

/* ---- a file that changes while it is read ---- */

struct swap {
    int file;
    char *other;
    size_t size;
    bool done;
};

/* When all of it was hashed and nothing is unpacked yet. */
static int swap_file(void *userdata, uint64_t done, uint64_t total)
{
    struct swap *s = userdata;
    if (s->done || done < total)
        return 0;
    s->done = true;
    return ftruncate(s->file, 0) < 0 ? -errno : io_pwrite_full(s->file, s->other, s->size, 0);
}

/* What a digest vouches for is what comes in, also if the file's owner writes another one meanwhile. */
static void test_what_was_hashed_is_unpacked(void **state)
{
    (void)state;
    static const char *const names[] = {"w.zip", "w.7z"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char path[128];
        struct error e = {0};
        struct archive_result result;
        struct archive_options options = support_options();
        struct swap s = {.file = -1};
        struct package *meant = support_open(support_make(names[i], "--small", "--seed=2", NULL)), got = {0};
        int other = support_make(names[i], "--small", NULL);
        assert_int_equal(io_read_file(other, PACKAGE_SIZE_MAX, &s.other, &s.size), 0);
        close(other);

        int archive = support_make(names[i], "--small", "--seed=2", NULL), store = support_store();
        snprintf(path, sizeof(path), "%s/%s", support_directory, names[i]);
        s.file = open(path, O_WRONLY | O_CLOEXEC);
        options.exact = true;
        assert_int_equal(archive_import(archive, store, &options, swap_file, NULL, &s, &result, &e), 0);
        assert_true(s.done);
        assert_int_equal(archive_read_index(store, &got, &e), 0);
        assert_string_equal(got.id, meant->id);
        for (size_t k = 0; k < got.n_files; k++)
            free(got.files[k].path);
        free(got.files);
        free(s.other);
        close(s.file);
        close(store);
        close(archive);
        support_close(meant);
    }
}

/* ---- descriptors and limits ---- */

static void test_descriptors(void **state)
{
    (void)state;
    struct archive_options options = support_options();
    struct archive_result result;
    int store = support_store();
    char path[128];
    snprintf(path, sizeof(path), "%s/d.zip", support_directory);
    close(support_make("d.zip", "--small", NULL));
    const struct {
        int fd;
        const char *text;
    } bad[] = {
        {open(support_directory, O_RDONLY | O_CLOEXEC), "a directory"},
        {open(path, O_PATH | O_CLOEXEC), "not open for reading"},
        {open(path, O_WRONLY | O_CLOEXEC), "not open for reading"},
        {open("/dev/null", O_RDONLY | O_CLOEXEC), "neither a regular file nor a pipe"},
        {999, "not open"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error e = {0};
        assert_int_equal(archive_import(bad[i].fd, store, &options, NULL, NULL, NULL, &result, &e), -EINVAL);
        assert_int_equal(e.kind, ERROR_INVALID_ARGS);
        assert_non_null(strstr(e.message, bad[i].text));
        if (bad[i].fd != 999)
            close(bad[i].fd);
    }
    close(store);
}

static void test_limits(void **state)
{
    (void)state;
    static const char *const names[] = {"l.zip", "l.7z", "l.tar.zst"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int archive = support_make(names[i], "--small", NULL);
        struct archive_options options = support_options();
        struct archive_result result;
        struct error e = {0};
        int store = support_store();
        assert_int_equal(archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e), 0);
        close(store);

        /* Exactly what it needs is enough, one less is not. */
        options.max_bytes = result.bytes;
        options.max_entries = result.entries;
        store = support_store();
        assert_int_equal(archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e), 0);
        close(store);
        options.max_bytes--;
        store = support_store();
        assert_int_equal(archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e), -EFBIG);
        assert_int_equal(e.kind, ERROR_TOO_LARGE);
        close(store);
        options.max_bytes++;
        options.max_entries--;
        store = support_store();
        assert_int_equal(archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e), -EFBIG);
        close(store);
        close(archive);
    }
}

static void test_full_disk(void **state)
{
    (void)state;
    int archive = support_make("f.zip", "--small", NULL);
    struct archive_options options = support_options();
    struct archive_result result;
    struct error e = {0};
    int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(full >= 0);
    assert_int_equal(archive_import(archive, full, &options, NULL, NULL, NULL, &result, &e), -ENOSPC);
    assert_int_equal(e.kind, ERROR_NO_SPACE);
    close(full);
    close(archive);
}

/* The entry is an ordinary tar to everybody else. */
static void test_store_is_tar(void **state)
{
    (void)state;
    char path[128];
    struct error e = {0};
    struct archive_options options = support_options();
    struct archive_result result;
    int archive = support_make("t.7z", "--small", NULL);
    snprintf(path, sizeof(path), "%s/entry.tar", support_directory);
    int store = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(store >= 0);
    assert_int_equal(archive_import(archive, store, &options, NULL, NULL, NULL, &result, &e), 0);
    const char *const list[] = {"tar", "--occurrence=1", "-tf", path, VERSION "/update/tz.mbn", NULL};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), out = dup(STDOUT_FILENO);
    dup2(null, STDOUT_FILENO);
    support_run(list);
    dup2(out, STDOUT_FILENO);
    close(null);
    close(out);
    close(store);
    close(archive);
}

static void test_content_digest(void **state)
{
    (void)state;
    char a[] = "a", b[] = "b";
    struct package_file files[2] = {{.path = b, .size = 2}, {.path = a, .size = 1}};
    struct package_file other[2] = {{.path = a, .size = 1}, {.path = b, .size = 2}};
    uint8_t x[SHA256_SIZE], y[SHA256_SIZE];
    assert_int_equal(archive_content_sha256(files, 2, x), 0);
    assert_int_equal(archive_content_sha256(other, 2, y), 0);
    assert_memory_equal(x, y, SHA256_SIZE);
    other[1].size = 3;
    assert_int_equal(archive_content_sha256(other, 2, y), 0);
    assert_memory_not_equal(x, y, SHA256_SIZE);
    other[1].size = 2;
    other[1].sha256[31] = 1;
    assert_int_equal(archive_content_sha256(other, 2, y), 0);
    assert_memory_not_equal(x, y, SHA256_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_name),     cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_cut_pipe),       cmocka_unit_test(test_silent_pipe),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_what_was_hashed_is_unpacked),
        cmocka_unit_test(test_descriptors),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_full_disk),      cmocka_unit_test(test_store_is_tar),
        cmocka_unit_test(test_content_digest),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
