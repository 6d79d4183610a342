/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Faults of a scenario: KIND@POINT, where a point is the Nth Firehose command (before it does anything, or
 * "done": after it did it and before it answers), the Nth OUT byte, a byte of the Nth OUT or IN transfer. A
 * transfer is one datagram of the socket; all counts start at 1 and go on over appearances, unless faults
 * happen always: then they start again with each. unplug and hang happen on the spot; nak and garbage turn
 * the answer that comes next. stop is no fault of a modem: its process stops (SIGSTOP) so that a test can do
 * something to the host at this very point, and goes on with SIGCONT as if nothing had been.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scenario.h"

enum fault_kind { FAULT_NONE, FAULT_UNPLUG, FAULT_HANG, FAULT_NAK, FAULT_GARBAGE, FAULT_STOP };
enum fault_point { POINT_COMMAND, POINT_DONE, POINT_BYTE, POINT_OUT, POINT_IN };

struct fault {
    enum fault_kind kind;
    enum fault_point point;
    uint64_t number, offset;
    bool spent;
};

struct faults {
    struct fault list[SCENARIO_FAULTS_MAX];
    size_t count;
    bool always;
    uint64_t commands, out_bytes, out_transfers, in_transfers;
};

/* Parses the scenario's list; false with one line in error. */
bool faults_parse(struct faults *f, const struct scenario *s, char *error, size_t error_size);

/* A new appearance. */
void faults_appear(struct faults *f);

/* The next command arrived. */
enum fault_kind faults_command(struct faults *f);

/* It is done and about to be answered. */
enum fault_kind faults_done(struct faults *f);

/* A transfer of length bytes comes in or goes out; *ret_accepted of them happen before the fault does. */
enum fault_kind faults_out(struct faults *f, size_t length, size_t *ret_accepted);
enum fault_kind faults_in(struct faults *f, size_t length, size_t *ret_accepted);

const char *fault_kind_name(enum fault_kind k);
