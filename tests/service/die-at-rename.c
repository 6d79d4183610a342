/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* LD_PRELOAD: the process dies when a journal is renamed to another job's, DIE_AT_RENAME=before or behind it.
 */

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static int ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

int renameat(int old_dirfd, const char *old, int new_dirfd, const char *new)
{
    int (*next)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    const char *when = getenv("DIE_AT_RENAME");
    int journal = when && ends_with(old, ".journal") && ends_with(new, ".journal");
    if (journal && strcmp(when, "before") == 0)
        raise(SIGKILL);
    int r = next(old_dirfd, old, new_dirfd, new);
    if (journal)
        raise(SIGKILL);
    return r;
}
