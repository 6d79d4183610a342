/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What each option is called, which verbs look at it, and the texts of --help: of qdlctl, and of one verb. */

#include "qdlctl.h"

enum { HELP_OPTIONS_MAX = 32 };

struct help_option {
    int option;        /* what getopt gives */
    unsigned use;      /* enum verb_use of the verbs that look at it; others refuse it, but for USES_ANY */
    const char *name;  /* "--mode" */
    const char *value; /* "MODE"; NULL: takes none */
    const char *verbs; /* to whom it belongs, where all of them are shown; NULL: said by the text */
    const char *text;  /* a line, or some */
};

/* NULL behind the last one. */
const struct help_option *help_option(size_t i);

void help_all(const struct verb *verbs, size_t n_verbs);
/* Of one verb: how it is called, what it is for, its second words, and the options that it takes. */
void help_verb(const struct verb *verb, const struct verb *verbs, size_t n_verbs);
