/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The worker locks itself in before it reads its first untrusted byte: no_new_privs, landlock with no paths, a seccomp allow list that
 * answers EACCES to open and everything else that is not on it, rlimits. On Debian 12 a missing layer is an error; elsewhere it is said in
 * *ret_missing (static text, NULL if all are there). What needs files (locale, libcrypto, iconv) is loaded before.
 */

#include <stdint.h>

struct sandbox_limits {
    uint64_t memory; /* RLIMIT_DATA in bytes */
    uint64_t file_size; /* RLIMIT_FSIZE */
};
int sandbox_enter(const struct sandbox_limits *limits, const char **ret_missing);
