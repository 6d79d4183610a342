/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The list of system calls that a locked worker may make, and the filter made from it. Part of sandbox.h. */

/*
 * Loads the filter: what is on the list works, everything else answers EACCES, code for a foreign
 * architecture is killed. The process must have no_new_privs. Negative errno if it cannot be loaded.
 */
int syscalls_lock(void);
