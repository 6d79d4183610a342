/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Faults of a scenario: KIND@POINT, where a point is the Nth Firehose command (before it does anything, or
 * "done": after it did it and before it answers), the Nth <program>, <erase>, <read> or <power> (before it
 * does anything), the Nth time that it is off the bus (gone, only to stop), the Nth OUT byte, a byte of the
 * Nth OUT or IN transfer. A transfer is one datagram of the socket; all counts start at 1 and go on over
 * appearances, unless faults happen always: then they start again with each. unplug and hang happen on the
 * spot; nak and garbage turn the answer that comes next. stop is no fault of a modem: its process stops
 * (SIGSTOP) so that a test can do something to the host at this very point, and goes on with SIGCONT as if
 * nothing had been.
 *
 * For DIAG there are the points diag (the Nth request, nothing done), answered (it is done and not answered)
 * and every (each Nth request, again and again), and kinds that spoil one answer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scenario.h"

enum fault_kind {
    FAULT_NONE,
    FAULT_UNPLUG,
    FAULT_HANG,
    FAULT_NAK,
    FAULT_GARBAGE,
    FAULT_STOP,
    /* only in DIAG */
    FAULT_SILENT, /* diag: passed over; answered: done without a word */
    FAULT_SLOW,   /* comes after so many milliseconds (the offset, else 1000) */
    FAULT_CRC,    /* a wrong CRC */
    FAULT_CUT,    /* half of the frame and no end */
    FAULT_SHORT,  /* half of the payload in a right frame */
    FAULT_LONG,   /* more payload than there is */
    FAULT_TWICE,
    FAULT_OTHER, /* the answer before it in its place */
    FAULT_STALE, /* the answer before it, then the right one */
    FAULT_FLIP,  /* one bit of the payload is another, in a right frame */
};
enum fault_point {
    POINT_COMMAND,
    POINT_DONE,
    POINT_BYTE,
    POINT_PROGRAM,
    POINT_ERASE,
    POINT_READ,
    POINT_POWER,
    POINT_GONE,
    POINT_OUT,
    POINT_IN,
    POINT_DIAG,
    POINT_ANSWERED,
    POINT_EVERY
};

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
    uint64_t commands, programs, erases, reads, powers, absences, out_bytes, out_transfers, in_transfers,
        requests;
};

/* Parses the scenario's list; false with one line in error. */
bool faults_parse(struct faults *f, const struct scenario *s, char *error, size_t error_size);

/* A new appearance. */
void faults_appear(struct faults *f);

/* The next command arrived. */
enum fault_kind faults_command(struct faults *f);

/* It could be read, and is called this. */
enum fault_kind faults_tag(struct faults *f, const char *name);

/* It has left the bus. */
enum fault_kind faults_gone(struct faults *f);

/* It is done and about to be answered. */
enum fault_kind faults_done(struct faults *f);

/* A transfer of length bytes comes in or goes out; *ret_accepted of them happen before the fault does. */
enum fault_kind faults_out(struct faults *f, size_t length, size_t *ret_accepted);
enum fault_kind faults_in(struct faults *f, size_t length, size_t *ret_accepted);

/* The next DIAG request arrived; it is done and about to be answered. The offset: an error code, a time. */
enum fault_kind faults_diag(struct faults *f, uint64_t *ret_offset);
enum fault_kind faults_answered(struct faults *f, uint64_t *ret_offset);

const char *fault_kind_name(enum fault_kind k);
