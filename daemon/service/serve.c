/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/serve.h"

#include <string.h>

#include "base/cleanup.h"

static const enum serve_action table[WANTS_COUNT][THERE_COUNT] = {
    [WANTS_EDL] = {[THERE_EDL] = SERVE_GIVE, [THERE_DUMP] = SERVE_GIVE},
    [WANTS_NORMAL] = {[THERE_NOTHING] = SERVE_ELSEWHERE,
                      [THERE_EDL] = SERVE_NEWS,
                      [THERE_DUMP] = SERVE_NEWS,
                      [THERE_NORMAL] = SERVE_TELL,
                      [THERE_OTHER] = SERVE_NEWS},
    [WANTS_EDL | WANTS_NORMAL] = {[THERE_NOTHING] = SERVE_ELSEWHERE,
                                  [THERE_EDL] = SERVE_GIVE,
                                  [THERE_DUMP] = SERVE_GIVE,
                                  [THERE_NORMAL] = SERVE_TELL,
                                  [THERE_OTHER] = SERVE_NEWS},
    [WANTS_DIAG] = {[THERE_DUMP] = SERVE_GIVE, [THERE_NORMAL] = SERVE_GIVE},
    [WANTS_DIAG |
        WANTS_EDL] = {[THERE_EDL] = SERVE_GIVE, [THERE_DUMP] = SERVE_GIVE, [THERE_NORMAL] = SERVE_GIVE},
};

enum serve_action serve_action(unsigned wants, enum serve_there there)
{
    return wants < WANTS_COUNT && (unsigned)there < THERE_COUNT ? table[wants][there] : SERVE_NOTHING;
}

enum serve_there serve_there(const char *kind)
{
    static const struct {
        const char *kind;
        enum serve_there there;
    } kinds[] = {
        {"absent", THERE_NOTHING},
        {"edl", THERE_EDL},
        {"crash-dump", THERE_DUMP},
        {"normal", THERE_NORMAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(kinds[i].kind, kind) == 0)
            return kinds[i].there;
    return THERE_OTHER;
}
