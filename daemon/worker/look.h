/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What lies in blocks of a modem's flash: their pages, and what each of them is. Used by whoever saves them
 * (save.c) and by whoever compares them with what shall lie there (restore-write.c). Nothing is changed.
 *
 * Where the programmer can show bad blocks (skip_bad_block) a read is physical, and what each page is follows
 * from its fill (reference/edl.md 2.6). Where it only tells them, runs of good blocks are read. Where it does
 * neither, each block is read alone, and one that is refused from its first page to its last counts as bad.
 */

#include "backup/backup.h"
#include "worker/session.h"

enum { LOOK_ERASED_FF = 0xff, LOOK_ERASED_EE = 0xee };

struct look {
    struct session *session;
    enum backup_map how; /* are the bad blocks known? */
    struct nand_map *map;
    /*
     * Whether a page of nothing but 0xEE is an erased one (of 0xFF always is): most programmers of NAND put
     * it there, some put 0xFF (reference/edl.md, corrections). Until it is settled, the first such page makes
     * us ask the rest of the chip; taking data for erased loses a page that nobody ever saw, taking erased
     * for data ends in a flash that no file system can use (2.8).
     */
    uint8_t fill;
    bool fill_settled;
    bool to_the_end;       /* what is looked at decides something that nobody leaves half-way (SBL) */
    bool hides;            /* a page that was shown as erased was not */
    unsigned second_looks; /* at pages that could not be read */
    unsigned refused;      /* blocks that count as bad because they were */

    /* Called again and again while data come, with how many bytes of a read have: there is time for a little
       work that is not the wire's, as the transport has transfers posted. NULL: nothing to do. */
    void (*meanwhile)(void *userdata, uint64_t bytes);
    void *userdata;
};

/* A run of blocks: room for their pages is the caller's, n is what was read. */
struct look_piece {
    uint64_t first, n;
    uint8_t *data, *states; /* enum nand_page_state of each page */
};

/*
 * Reads p->n blocks, or fewer (n is set) if one of them was refused. twice: pages at the ends of an erased
 * stretch are read alone besides, where the programmer could hide data in it. A page that cannot be read is
 * read once more, up to some hundred of them. FirehoseFailed and what a read says besides; between two reads
 * Interrupted and Cancelled, unless it is to_the_end.
 */
int look_at_piece(struct look *l, struct look_piece *p, bool twice, struct error *e);
/* One page of a piece once more, alone. */
int look_at_page(struct look *l, struct look_piece *p, uint64_t page, struct error *e);
/* Could this programmer hide written pages among erased ones? It shows one fill for a whole buffer. */
bool look_hides_pages(const struct look *l);
