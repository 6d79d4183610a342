/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The command line's options: parsed into `options`, and checked against what a verb knows. */

#include "qdlctl.h"

/* What getopt calls those that have no letter. */
enum {
    OPTION_VERSION = 256,
    OPTION_NO_WAIT,
    OPTION_TIMEOUT,
    OPTION_DRY_RUN,
    OPTION_ALLOW,
    OPTION_MODEM_VERSION,
    OPTION_NO_RESET,
    OPTION_QUEUE,
    OPTION_FORMAT,
    OPTION_WAIT,
    OPTION_PORT,
    OPTION_MODE,
    OPTION_KIND,
    OPTION_PARTITIONS,
    OPTION_LABEL,
    OPTION_SHA256,
    OPTION_NO_PAGER,
    OPTION_NO_LEGEND,
    OPTION_NO_ASK_PASSWORD,
};

/* An exit code; says itself what was wrong. argv is permuted: see optind. */
int options_parse(int argc, char **argv);
/* Refuses options that were given and that this verb (enum verb_use) does not look at. */
int options_check(const char *verb, unsigned use);
/* What goes over the bus has to be. */
bool options_is_utf8(const char *text);
