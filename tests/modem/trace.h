/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The trace of a virtual modem: one line an event, "MICROSECONDS EVENT key=value…", the time from
 * CLOCK_MONOTONIC so that a test can put it beside its own. A line that starts with VIOLATION after its time
 * is something that a host must never make a modem do (or a rule of NAND that was broken); tests fail on any
 * of them that they do not expect.
 *
 * There is one trace a process. Lines are buffered and written out before the modem waits for anything.
 */

#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC, and the hours by which it was set on. */
int64_t trace_now(void);

/* Sets it on by an hour; for signal handlers. */
void trace_go_on(void);

/* Opens (and truncates) path; "-" is standard error. 0 or -errno. Without a call, nothing is written. */
int trace_open(const char *path);

/* One event. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One event, prefixed with VIOLATION, and counted. */
void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How many violations so far. */
unsigned trace_violations(void);

void trace_flush(void);
void trace_close(void);
