/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a worker writes to stdout and stderr: the last words of a library, of a sanitizer, of an exec that
 * failed. By then the process may be anybody's, so it never gets the service's own stderr (which is the
 * journal): it writes into a pipe, and what comes out of that is told line by line, escaped and bounded.
 */

#include <systemd/sd-event.h>

enum {
    MOUTH_BYTES_MAX = 64 * 1024, /* of one worker; what follows is not read any more */
    MOUTH_LINE_MAX = 1024,       /* a longer line is told in pieces */
};

struct mouth;

/* line: printable UTF-8, never empty. */
typedef void (*mouth_handler)(void *userdata, const char *line);

/* *ret_end: the end that is written to, the caller's; it blocks, as a process expects of its stderr. -errno.
 */
int mouth_new(sd_event *event, mouth_handler handler, void *userdata, struct mouth **ret, int *ret_end);
/* The process is gone: what it had written and nobody had read yet is told, a line without its end, too. */
void mouth_finish(struct mouth *m);
struct mouth *mouth_free(struct mouth *m);
