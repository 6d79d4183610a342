/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a job that waits for its modem gets: one table of what it asked for and of what is at its port now.
 * Every event (a question, an appearance, an end, a holder that let go, a node that was opened) only changes
 * those facts; then the table is asked anew. So no order of events can lose an answer.
 *
 *      asked for \ there   nothing      9008         normal mode   anything else
 *      nothing             -            -            -             -
 *      edl                 -            give         -             -
 *      normal              elsewhere    news         tell          news
 *      both                elsewhere    give         tell          news
 *      diag                -            -            give          -
 *      diag and edl        -            give         give          -
 *
 * A crash dump is given like 9008 (it is at the same interface, and the worker's way out of it), and for diag
 * as well: SDX55's answers DIAG still (reference/edl.md 3.1).
 *
 * give: the holder is told to let go, the node is opened, the descriptor handed over; each step is taken when
 * the one before it is done. tell: APPEARED=normal answers the question, whenever it booted. news: APPEARED=
 * once for each appearance that came after the last one that the job had or was told of; the question stands.
 * elsewhere: it may have booted under another connector (its SuperSpeed side); if one, and only one, came
 * there meanwhile and no other job can mean it, tell; from then on that port is asked wherever the job's own
 * is empty, so that diag is given there, and no other job begins on it. Of several jobs that may mean the
 * same ones, each is told once as many have come as these jobs have lost.
 */

/* What a worker waits for. Its requests stand together until one of them is answered: then none stands. */
enum serve_wants {
    WANTS_NOTHING = 0,
    WANTS_EDL = 1 << 0,
    WANTS_NORMAL = 1 << 1,
    WANTS_DIAG = 1 << 2, /* in normal mode, but to be opened */
    WANTS_COUNT = 1 << 3
};

enum serve_there { THERE_NOTHING, THERE_EDL, THERE_DUMP, THERE_NORMAL, THERE_OTHER, THERE_COUNT };

enum serve_action { SERVE_NOTHING, SERVE_GIVE, SERVE_TELL, SERVE_NEWS, SERVE_ELSEWHERE };

enum serve_action serve_action(unsigned wants, enum serve_there there);
/* Of an appearance_kind(), or "absent". */
enum serve_there serve_there(const char *kind);
