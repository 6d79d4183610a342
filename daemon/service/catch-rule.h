/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whom to catch unasked (architecture, "A modem is a port with a memory"): 05c6:9008 is every Qualcomm device
 * in the world, somebody's phone included. One pure function, one clause a row of its test.
 */

#include <stdbool.h>

enum catch_verdict {
    CATCH_LEAVE,    /* not touched, and said to be */
    CATCH_IDENTIFY, /* may be asked in Sahara's command mode, no more */
    CATCH_HOLD,     /* may be given a programmer of the library */
};

struct catch_case {
    bool edl;     /* it is in 9008; in a crash dump or normal mode nothing is caught */
    bool off;     /* policy off */
    bool armed;   /* a user gave this port or unit the policy hold or rescue */
    bool quectel; /* the port, or the chip serial where one is told, belonged to a Quectel modem before */
    bool asked;   /* it was identified, or cannot be: asking again tells nothing new */
    bool chip;    /* its HWID is in our table of modem chips */
    bool pk_hash; /* a programmer of the library ran on a modem with its PK hash */
    bool looping; /* it comes and goes */
    bool unknown; /* [Catch] CatchUnknown=yes */
};

/* *ret_why: what the rule says, as the end of a sentence about the modem; static. */
enum catch_verdict catch_judge(const struct catch_case *c, const char **ret_why);
