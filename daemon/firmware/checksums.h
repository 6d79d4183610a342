/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The md5 list of a package (reference/edl.md 3.4). Two forms: Quectel's, between FILE:START and FILE:END,
 * "FILE:\path:HEX" or "\path:HEX" or
 * ":\path:HEX", and md5sum's "HEX  path". CRLF or LF, either separator, either case.
 */

#include "firmware/package.h"

struct checksum {
    char path[PACKAGE_PATH_MAX];
    uint8_t md5[MD5_SIZE];
};

struct checksums {
    struct checksum *entries;
    size_t n_entries;
};

/* Lines that are none, a list that is cut and contradictions become problems of the package. -ENOMEM. */
int checksums_parse(struct package *p, const char *text, size_t size, struct checksums *ret);
void checksums_done(struct checksums *c);

/*
 * The whole list against the package, all 128 bits: a file that differs and a referenced file that the list
 * lacks are problems; a missing file that nothing refers to, and a file that nobody lists, are notes.
 */
void checksums_check(struct package *p, const struct checksums *c);
