/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The time of a test whose modem is a child process, so that it neither waits for time-outs nor depends on
 * what else the machine does: a child that does not get the processor would be slow, and a slow modem is
 * treated otherwise than a quick one. It stands still while a child works, and when all of them wait it goes
 * to the moment for which the test waits. The linker puts poll() and clock_gettime() of child-clock.c in the
 * place of the real ones (--wrap); in the children they are the real ones.
 */

#include <sys/types.h>

/* One that may have something to say; it counts for as long as it lives. */
void child_clock_watch(pid_t pid);
