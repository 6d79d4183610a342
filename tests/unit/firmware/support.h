/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of this floor share: packages from tests/package/make-package.py, their import into an
 * unnamed file. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "firmware/plan.h"

#define GENERATOR "tests/package/make-package.py"
#define VERSION   "RM502QGLAAR11A02M4G_01.001.01.001"

extern char **environ;

/* A directory of this test run; everything in it goes at the end. */
static char support_directory[64];

static inline int support_setup(void **state)
{
    (void)state;
    setlocale(LC_ALL, "C.UTF-8");
    digest_init();
    snprintf(support_directory, sizeof(support_directory), "/tmp/qdld-test-XXXXXX");
    return mkdtemp(support_directory) ? 0 : -1;
}

static inline void support_run(const char *const arguments[])
{
    pid_t pid;
    int status;
    assert_int_equal(
        posix_spawnp(&pid, arguments[0], NULL, NULL, (char *const *)(uintptr_t)arguments, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s failed with status %d", arguments[0], status);
}

/* The generator, started with the first package: a Python for each of them would be most of the time. */
static int support_generator = -1;
static pid_t support_generator_pid;

static inline void support_start_generator(void)
{
    const char *const arguments[] = {"/usr/bin/python3", GENERATOR, "--each", NULL};
    posix_spawn_file_actions_t actions;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
    assert_int_equal(posix_spawn(&support_generator_pid, arguments[0], &actions, NULL,
                                 (char *const *)(uintptr_t)arguments, environ),
                     0);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    support_generator = pair[0];
}

static inline int support_teardown(void **state)
{
    (void)state;
    const char *const arguments[] = {"rm", "-rf", support_directory, NULL};
    if (support_generator >= 0) {
        support_generator = close_fd(support_generator);
        waitpid(support_generator_pid, NULL, 0);
    }
    support_run(arguments);
    return 0;
}

/* Runs the generator with these options (ended by NULL) and opens what it wrote. */
static inline int support_make(const char *name, ...)
{
    char path[128], answer[16] = "";
    va_list ap;

    if (support_generator < 0)
        support_start_generator();
    snprintf(path, sizeof(path), "%s/%s", support_directory, name);
    dprintf(support_generator, "--out\t%s", path);
    va_start(ap, name);
    for (const char *a; (a = va_arg(ap, const char *));)
        dprintf(support_generator, "\t%s", a);
    va_end(ap);
    dprintf(support_generator, "\n");
    if (read(support_generator, answer, sizeof(answer) - 1) <= 0 || strcmp(answer, "made\n") != 0)
        fail_msg("the generator did not make %s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* An unnamed file, as the service makes for a store entry. */
static inline int support_store(void)
{
    int fd = open(support_directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

struct support_problems {
    char text[16384];
    size_t n;
};

static inline void support_on_problem(void *userdata, const char *text)
{
    struct support_problems *p = userdata;
    size_t n = strlen(p->text);
    snprintf(p->text + n, sizeof(p->text) - n, "%s\n", text);
    p->n++;
}

static inline struct archive_options support_options(void)
{
    return (struct archive_options){.max_bytes = PACKAGE_SIZE_MAX,
                                    .max_entries = PACKAGE_FILES_MAX,
                                    .input_timeout = 10 * USEC_PER_SEC,
                                    .wake_fd = -1};
}

/* Imports and closes the archive; the store's fd, or negative with *e. */
static inline int support_import(int archive, struct archive_result *ret, struct support_problems *problems,
                                 struct error *e)
{
    struct archive_options options = support_options();
    struct archive_result result;
    int store = support_store();
    int r = archive_import(archive, store, &options, NULL, problems ? support_on_problem : NULL, problems,
                           ret ? ret : &result, e);
    close(archive);
    if (r < 0) {
        close(store);
        return r;
    }
    return store;
}

/* A whole package from the generator: imported and opened. The store's fd goes with package_free() of the
 * test's end of life. */
static inline struct package *support_open(int archive)
{
    struct error e = {0};
    struct package *p = NULL;
    int store = support_import(archive, NULL, NULL, &e);
    if (store < 0)
        fail_msg("import: %s", e.message);
    if (package_open(store, NULL, &p, &e) < 0)
        fail_msg("open: %s", e.message);
    return p;
}

static inline void support_close(struct package *p)
{
    close(p->fd);
    package_free(p);
}

/* All problems in one text, to look for a word in. */
static inline const char *support_problems_of(const struct package *p)
{
    static char text[16384];
    text[0] = '\0';
    for (size_t i = 0; i < p->n_problems; i++) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof(text) - n, "%s\n", p->problems[i]);
    }
    return text;
}
