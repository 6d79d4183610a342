/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The worker locks itself in before it reads its first untrusted byte: no_new_privs, landlock with no paths,
 * a seccomp allow list that answers EACCES to open and everything else that is not on it, rlimits. On Debian
 * 12 a missing layer is an error; elsewhere it is said in *ret_missing (static text, NULL if all are there).
 * What needs files (locale, libcrypto, iconv) is loaded before.
 */

#include <stdbool.h>
#include <stdint.h>

struct sandbox_limits {
    uint64_t memory;    /* RLIMIT_DATA in bytes */
    uint64_t file_size; /* RLIMIT_FSIZE */
};
/* -errno if a layer that must be there is not (then *ret_missing names it and the caller must not read
 * anything foreign). */
int sandbox_enter(const struct sandbox_limits *limits, const char **ret_missing);

/* The single layers, for their tests. -EOPNOTSUPP or what the kernel said. */
int sandbox_landlock(void);
int sandbox_seccomp(void);
/* True if this os-release names a system where every layer is known to work (Debian 12). */
bool sandbox_is_strict(const char *os_release);
