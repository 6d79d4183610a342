/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The life of a virtual modem: power on -> boot decision -> normal mode, or 9008: PBL (Sahara) -> programmer
 * (Firehose)
 * -> reset -> power on. One appearance is one time on the bus; the loop of a scenario cuts the power in
 * between.
 */

#include <stdbool.h>
#include <stdint.h>

#include "fault.h"
#include "front.h"
#include "image.h"
#include "nand.h"
#include "scenario.h"

struct modem {
    struct scenario *scenario;
    struct nand *nand;
    struct front front;
    struct faults faults;
    struct image image; /* the programmer that was uploaded last */
    uint32_t serial;    /* of the unit that sits there now */
    unsigned appearance;
    bool stay_in_edl;
};

/* How a mode ended while the modem still had power. */
enum mode_end {
    MODE_PROGRAMMER = 1, /* PBL: the programmer was accepted */
    MODE_RESET,
    MODE_RESET_TO_EDL,
    MODE_CRASH,
    MODE_TIME, /* normal mode: its time is over */
    MODE_OFF,
};

/* Lives until SIGTERM, or until there is no host any more. 0 or -errno. */
int modem_run(struct modem *m);
