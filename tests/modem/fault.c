/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "trace.h"

static const char *const kinds[] = {"none", "unplug", "hang",  "nak",  "garbage", "stop",  "silent", "slow",
                                    "crc",  "cut",    "short", "long", "twice",   "other", "stale",  "flip"};
static const char *const points[] = {"command", "done", "byte", "program", "erase",    "read", "power",
                                     "gone",    "out",  "in",   "diag",    "answered", "every"};

const char *fault_kind_name(enum fault_kind k)
{
    return kinds[k];
}

static int find(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static bool parse_one(struct fault *f, const char *text)
{
    char kind[16], point[16], rest;
    uint64_t number, offset = 0;
    int k, p;

    if (sscanf(text, "%15[a-z]@%15[a-z]:%" SCNu64 "+%" SCNi64 "%c", kind, point, &number, &offset, &rest) !=
            4 &&
        sscanf(text, "%15[a-z]@%15[a-z]:%" SCNu64 "%c", kind, point, &number, &rest) != 3)
        return false;
    k = find(kinds, sizeof(kinds) / sizeof(kinds[0]), kind);
    p = find(points, sizeof(points) / sizeof(points[0]), point);
    if (k <= 0 || p < 0 || number == 0)
        return false;
    if (offset && p < POINT_OUT)
        return false;
    if (k >= FAULT_SILENT && p < POINT_DIAG)
        return false;
    /* There is nothing that it could do while it is away. */
    if (p == POINT_GONE && k != FAULT_STOP)
        return false;
    *f = (struct fault){(enum fault_kind)k, (enum fault_point)p, number, offset, false};
    return true;
}

bool faults_parse(struct faults *f, const struct scenario *s, char *error, size_t error_size)
{
    *f = (struct faults){.always = s->fault_always};
    for (size_t i = 0; i < s->fault.count; i++) {
        if (!parse_one(&f->list[i], s->fault.values[i])) {
            snprintf(error, error_size, "fault '%s': not KIND@POINT:N", s->fault.values[i]);
            return false;
        }
        f->count++;
    }
    return true;
}

void faults_appear(struct faults *f)
{
    if (!f->always)
        return;
    f->commands = f->programs = f->erases = f->reads = f->powers = f->out_bytes = f->out_transfers =
        f->in_transfers = f->requests = 0;
    for (size_t i = 0; i < f->count; i++)
        f->list[i].spent = false;
}

static enum fault_kind strike(struct fault *f)
{
    f->spent = true;
    trace("fault %s@%s:%" PRIu64 "+%" PRIu64, kinds[f->kind], points[f->point], f->number, f->offset);
    return f->kind;
}

static enum fault_kind at_count(struct faults *f, enum fault_point point, uint64_t count)
{
    for (size_t i = 0; i < f->count; i++)
        if (!f->list[i].spent && f->list[i].point == point && f->list[i].number == count)
            return strike(&f->list[i]);
    return FAULT_NONE;
}

enum fault_kind faults_command(struct faults *f)
{
    return at_count(f, POINT_COMMAND, ++f->commands);
}

enum fault_kind faults_tag(struct faults *f, const char *name)
{
    if (strcmp(name, "program") == 0)
        return at_count(f, POINT_PROGRAM, ++f->programs);
    if (strcmp(name, "erase") == 0)
        return at_count(f, POINT_ERASE, ++f->erases);
    if (strcmp(name, "read") == 0)
        return at_count(f, POINT_READ, ++f->reads);
    if (strcmp(name, "power") == 0)
        return at_count(f, POINT_POWER, ++f->powers);
    return FAULT_NONE;
}

enum fault_kind faults_gone(struct faults *f)
{
    return at_count(f, POINT_GONE, ++f->absences);
}

enum fault_kind faults_done(struct faults *f)
{
    return at_count(f, POINT_DONE, f->commands);
}

static enum fault_kind in_transfer(struct faults *f, enum fault_point point, uint64_t count, size_t length,
                                   size_t *ret_accepted)
{
    for (size_t i = 0; i < f->count; i++) {
        struct fault *t = &f->list[i];
        if (t->spent || t->point != point || t->number != count)
            continue;
        *ret_accepted = t->offset < length ? (size_t)t->offset : length;
        return strike(t);
    }
    return FAULT_NONE;
}

enum fault_kind faults_out(struct faults *f, size_t length, size_t *ret_accepted)
{
    uint64_t before = f->out_bytes;

    f->out_bytes += length;
    f->out_transfers++;
    *ret_accepted = length;
    for (size_t i = 0; i < f->count; i++) {
        struct fault *t = &f->list[i];
        if (t->spent || t->point != POINT_BYTE || t->number <= before || t->number > f->out_bytes)
            continue;
        /* The Nth byte is the first that does not arrive. */
        *ret_accepted = (size_t)(t->number - before - 1);
        return strike(t);
    }
    return in_transfer(f, POINT_OUT, f->out_transfers, length, ret_accepted);
}

enum fault_kind faults_in(struct faults *f, size_t length, size_t *ret_accepted)
{
    f->in_transfers++;
    *ret_accepted = length;
    return in_transfer(f, POINT_IN, f->in_transfers, length, ret_accepted);
}

static enum fault_kind at_request(struct faults *f, enum fault_point point, uint64_t *ret_offset)
{
    for (size_t i = 0; i < f->count; i++) {
        struct fault *t = &f->list[i];
        bool again = point == POINT_DIAG && t->point == POINT_EVERY && f->requests % t->number == 0;

        if (!again && (t->spent || t->point != point || t->number != f->requests))
            continue;
        *ret_offset = t->offset;
        return strike(t);
    }
    return FAULT_NONE;
}

enum fault_kind faults_diag(struct faults *f, uint64_t *ret_offset)
{
    f->requests++;
    return at_request(f, POINT_DIAG, ret_offset);
}

enum fault_kind faults_answered(struct faults *f, uint64_t *ret_offset)
{
    return at_request(f, POINT_ANSWERED, ret_offset);
}
