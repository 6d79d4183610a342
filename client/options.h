/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The command line's options: parsed into `options`, and checked against what a verb knows. */

#include "qdlctl.h"

/* --help and --version set *ret_done. An exit code; says itself what was wrong. argv is permuted: see optind.
 */
int options_parse(int argc, char **argv, const struct verb *verbs, size_t n_verbs, bool *ret_done);
/* Refuses options that were given and that this verb (enum verb_use) does not look at. */
int options_check(const char *verb, unsigned use);
/* What goes over the bus has to be. */
bool options_is_utf8(const char *text);
