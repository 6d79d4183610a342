/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The type byte of every usbfs ioctl (linux/usbdevice_fs.h: _IO('U', n)) and where it and n stand in the
 * number. */
enum { IOCTL_TYPE_MASK = 0xff00, IOCTL_TYPE_USBFS = 'U' << 8, IOCTL_NUMBER_BITS = 8 };

DEFINE_CLEANUP(scmp_filter_ctx, seccomp_release)

/* Allowed whatever their arguments. A call that this architecture does not have is passed over. */
static const char *const allowed[] = {
    /* descriptors that were given */
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "lseek", "_llseek",
    "close", "fstat", "fstat64", "fstatfs", "fstatfs64", "ftruncate", "ftruncate64", "fallocate", "fsync",
    "fdatasync", "fadvise64", "fadvise64_64", "dup", "dup2", "dup3",
    /* memory */
    "brk", "munmap", "mremap", "madvise",
    /* the link and a virtual modem's socket: open already, so nothing here makes, binds or connects one */
    "sendmsg", "recvmsg", "sendto", "recvfrom", "shutdown", "getsockopt",
    /* waiting; libusb makes an eventfd, a timerfd and a pipe of its own */
    "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64", "epoll_create1",
    "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_settime64", "timerfd_gettime", "pipe2", "futex", "futex_time64", "sched_yield",
    "restart_syscall",
    /* time; most of it is answered by the vdso */
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday", "time",
    "nanosleep", "clock_nanosleep", "clock_nanosleep_time64",
    /* about itself */
    "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrandom", "uname", "getrlimit",
    "ugetrlimit", "sysinfo", "sched_getaffinity", "rseq", "set_robust_list",
    /* signals, and the end */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "exit", "exit_group"};

static int allow(scmp_filter_ctx filter, const char *name, unsigned n_args, const struct scmp_arg_cmp *args)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return 0;
    int r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, n_args, args);
    /* A pseudo number (the call exists on other architectures only) takes no rule with arguments: nothing to
     * allow then. */
    return r == -EDOM || (number < 0 && r == -EINVAL) ? 0 : r;
}

/* Not F_SETOWN and F_SETSIG: by them the kernel sends any signal to any process of this user. */
static int allow_fcntl(scmp_filter_ctx filter)
{
    static const int commands[] = {F_GETFD, F_SETFD,         F_GETFL,     F_SETFL,
                                   F_DUPFD, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS};
    int r = 0;
    for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(commands); i++) {
        const struct scmp_arg_cmp command = SCMP_A1_64(SCMP_CMP_EQ, (uint64_t)commands[i], 0);
        r = allow(filter, "fcntl", 1, &command);
        if (r >= 0)
            r = allow(filter, "fcntl64", 1, &command);
    }
    return r;
}

/*
 * All of usbfs but its number 0, control transfers. No modem needs one of us, and libusb's only one would
 * come before the first IN transfer: it asks which configuration is active (a wrapped descriptor has no sysfs
 * to tell it), which costs a turn on the wire, and a second and more where a boot ROM does not answer.
 * Refused, it takes the first one, and a modem has no other.
 */
static int allow_usbfs(scmp_filter_ctx filter)
{
    int r = 0;
    for (unsigned bit = 0; r >= 0 && bit < IOCTL_NUMBER_BITS; bit++) {
        const struct scmp_arg_cmp number =
            SCMP_A1_64(SCMP_CMP_MASKED_EQ, IOCTL_TYPE_MASK | 1U << bit, IOCTL_TYPE_USBFS | 1U << bit);
        r = allow(filter, "ioctl", 1, &number);
    }
    return r;
}

static int allow_with_arguments(scmp_filter_ctx filter)
{
    /* Memory is never made executable: nothing is loaded once locked. */
    const struct scmp_arg_cmp not_executable = SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    /* glibc's fstat is a newfstatat of "" on the descriptor. A path given with this flag tells no more than
     * its metadata. */
    const struct scmp_arg_cmp stat_of_fd = SCMP_A3_64(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH);
    const struct scmp_arg_cmp statx_of_fd = SCMP_A2_64(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH);
    /* Buffer sizes and the like; no other level. */
    const struct scmp_arg_cmp socket_level = SCMP_A1_64(SCMP_CMP_EQ, SOL_SOCKET, 0);
    /* Limits of this process only; the hard ones are set, so this can only tighten. */
    const struct scmp_arg_cmp own_process = SCMP_A0_64(SCMP_CMP_EQ, 0, 0);
    /* abort() and raise(): the service and the other workers run as the same user. */
    const struct scmp_arg_cmp own_signals = SCMP_A0_64(SCMP_CMP_EQ, (uint64_t)getpid(), 0);
    const struct {
        const char *name;
        struct scmp_arg_cmp argument;
    } rules[] = {{"mmap", not_executable},     {"mmap2", not_executable},  {"mprotect", not_executable},
                 {"newfstatat", stat_of_fd},   {"fstatat64", stat_of_fd},  {"statx", statx_of_fd},
                 {"setsockopt", socket_level}, {"prlimit64", own_process}, {"tgkill", own_signals}};
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        int r = allow(filter, rules[i].name, 1, &rules[i].argument);
        if (r < 0)
            return r;
    }
    return 0;
}

int syscalls_lock(void)
{
    _cleanup_(seccomp_releasep) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EACCES));
    if (!filter)
        return -ENOMEM;
    /* A binary tree: a flash makes a few system calls for each 8 KiB. Older libraries do without. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
        int r = allow(filter, allowed[i], 0, NULL);
        if (r < 0)
            return r;
    }
    int r = allow_fcntl(filter);
    if (r >= 0)
        r = allow_usbfs(filter);
    if (r >= 0)
        r = allow_with_arguments(filter);
    return r < 0 ? r : seccomp_load(filter);
}
