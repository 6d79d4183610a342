/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/catch-rule.h"

static enum catch_verdict verdict(enum catch_verdict v, const char *why, const char **ret_why)
{
    *ret_why = why;
    return v;
}

enum catch_verdict catch_judge(const struct catch_case *c, const char **ret_why)
{
    if (!c->edl)
        return verdict(CATCH_LEAVE, "is not in 9008", ret_why);
    if (c->off)
        return verdict(CATCH_LEAVE, "is left alone: its policy is off", ret_why);
    if (c->armed)
        return verdict(CATCH_HOLD, "is caught: its policy says so", ret_why);
    if (c->quectel)
        return verdict(CATCH_HOLD, "is caught: it was a Quectel modem before", ret_why);
    if (c->chip && c->pk_hash)
        return verdict(CATCH_HOLD, "is caught: a modem's chip that takes programmers of the library",
                       ret_why);
    if (c->unknown)
        return verdict(CATCH_HOLD, "is caught: CatchUnknown=yes", ret_why);
    if (c->looping && !c->asked)
        return verdict(CATCH_IDENTIFY, "is asked who it is: it loops, and nobody knows it", ret_why);
    return verdict(CATCH_LEAVE,
                   "is left alone: nothing says that it is a Quectel modem, it may be anybody's phone",
                   ret_why);
}
