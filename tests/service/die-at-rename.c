/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* LD_PRELOAD: the process dies when a job's file with the ending DIE_AT_RENAME_OF is renamed to another
 * job's, DIE_AT_RENAME=before or behind it. */

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
    const char *when = getenv("DIE_AT_RENAME"), *of = getenv("DIE_AT_RENAME_OF");
    int this_one = when && of && ends_with(old, of) && ends_with(new, of);
    if (this_one && strcmp(when, "before") == 0)
        raise(SIGKILL);
    int r = next(old_dirfd, old, new_dirfd, new);
    if (this_one)
        raise(SIGKILL);
    return r;
}
