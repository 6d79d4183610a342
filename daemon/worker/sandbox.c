/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "worker/syscalls.h"

/* Rights that are newer than the kernel headers of the base system; the running kernel's ABI decides what is
 * asked for. */
#define FS_TRUNCATE           (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV          (UINT64_C(1) << 15) /* ABI 5 */
#define NET_BIND_TCP          (UINT64_C(1) << 0)  /* ABI 4 */
#define NET_CONNECT_TCP       (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_SOCKET (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL          (UINT64_C(1) << 1)
#define FS_ABI_1              ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* EXECUTE ... MAKE_SYM */

enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL_DEV = 5, ABI_SCOPE = 6 };
enum { OS_RELEASE_MAX = 16 * 1024, OPEN_FILES_MAX = 64 };
/* What is mapped besides data: the program, its libraries, its stack (48 MiB in all on Debian 12). Shared
 * memory that somebody maps counts here and not as data. */
enum { MAPPED_MAX = 128 * 1024 * 1024 };

/* struct landlock_ruleset_attr as of ABI 6; an older kernel takes its beginning. */
struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

int sandbox_landlock(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return abi < 0 ? -errno : -EOPNOTSUPP;

    /* Everything that can be handled is, and no rule allows anything. Descriptors that are open already are
     * not touched by it. */
    struct ruleset rules = {.handled_access_fs = FS_ABI_1};
    size_t size = sizeof(rules.handled_access_fs);
    if (abi >= ABI_REFER)
        rules.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= ABI_TRUNCATE)
        rules.handled_access_fs |= FS_TRUNCATE;
    if (abi >= ABI_NET) {
        rules.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
        size = offsetof(struct ruleset, scoped);
    }
    if (abi >= ABI_IOCTL_DEV)
        rules.handled_access_fs |= FS_IOCTL_DEV;
    if (abi >= ABI_SCOPE) {
        rules.scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
        size = sizeof(rules);
    }

    _cleanup_close_ int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (ruleset < 0)
        return -errno;
    return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}

int sandbox_seccomp(void)
{
    return syscalls_lock();
}

static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);
    for (const char *p = text; (p = strstr(p, line)); p += n)
        if ((p == text || p[-1] == '\n') && (p[n] == '\n' || p[n] == '\0'))
            return true;
    return false;
}

bool sandbox_is_strict(const char *os_release)
{
    return has_line(os_release, "ID=debian") &&
           (has_line(os_release, "VERSION_ID=\"12\"") || has_line(os_release, "VERSION_ID=12"));
}

static bool strict_here(void)
{
    _cleanup_close_ int fd = open("/etc/os-release", O_RDONLY | O_CLOEXEC);
    _cleanup_free_ char *text = NULL;
    return fd >= 0 && io_read_file(fd, OS_RELEASE_MAX, &text, NULL) == 0 && sandbox_is_strict(text);
}

static int limit(__rlimit_resource_t resource, uint64_t value)
{
    /* Only ever lowered: a limit that somebody else set tighter stays. */
    struct rlimit old, new;
    if (getrlimit(resource, &old) < 0)
        return -errno;
    new.rlim_cur = new.rlim_max = MIN_OF((rlim_t)value, old.rlim_max);
    return setrlimit(resource, &new) < 0 ? -errno : 0;
}

static int set_limits(const struct sandbox_limits *limits)
{
    int r = limit(RLIMIT_CORE, 0);
    if (r == 0)
        r = limit(RLIMIT_NOFILE, OPEN_FILES_MAX);
    if (r == 0)
        r = limit(RLIMIT_FSIZE, limits->file_size);
#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes of shadow */
    if (r == 0)
        r = limit(RLIMIT_DATA, limits->memory);
    if (r == 0)
        r = limit(RLIMIT_AS, limits->memory + MAPPED_MAX);
#endif
    return r;
}

int sandbox_enter(const struct sandbox_limits *limits, const char **ret_missing)
{
    bool strict = strict_here();
    const char *missing = NULL;

    int r = set_limits(limits);
    if (r < 0) {
        *ret_missing = "resource limits";
        return r;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        *ret_missing = "no_new_privs";
        return -errno;
    }
    int landlock = sandbox_landlock();
    if (landlock < 0)
        missing = "landlock";
    int seccomp = sandbox_seccomp();
    if (seccomp < 0)
        missing = missing ? "landlock and seccomp" : "seccomp";
    *ret_missing = missing;
    if (missing && strict)
        return landlock < 0 ? landlock : seccomp;
    return 0;
}
