/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The programs that share a modem and a machine with us, asked to stand aside. Neither has to be there, and
 * neither's refusal stops a job: it is said in the journal (LOG_NEIGHBOUR), "qdlctl doctor" explains.
 *
 * ModemManager leaves a modem alone (InhibitDevice, by the path of its USB device in sysfs) while a job or a
 * guard has it: it would probe it when it boots, and talk to the interface that we need. It forgets when it
 * is restarted, and is asked anew. fwupd updates nothing meanwhile
 * (service/fwupd.h). logind keeps the machine awake (a block inhibitor; lid and keys besides,
 * because logind ignores sleep inhibitors for them) while a modem may not be unplugged.
 */

#include <stdbool.h>
#include "service/manager.h"

struct neighbours;

/* Never fails for want of a neighbour. -ENOMEM, or what the bus says of our match. */
int neighbours_new(struct manager *m, struct neighbours **ret);
struct neighbours *neighbours_free(struct neighbours *n);

/* Something changed of what they are kept away from: asks for what is missing, gives back what is not needed.
 */
void neighbours_update(struct manager *m);
/* It came (device_path is set): ModemManager, which did not know a modem in EDL, may know it now. */
void neighbours_appeared(const struct modem *m);
/*
 * True while ModemManager has not answered for a modem in normal mode, of which it may be the user at this
 * moment: nobody should open it before. modem_serve() is called when it has, at most NEIGHBOURS_WAIT_USEC
 * later. A modem in EDL is none of its business (60-qdld.rules) and never waits.
 */
bool neighbours_pending(const struct modem *m);

enum { NEIGHBOURS_WAIT_USEC = 10 * 1000000 /* ModemManager disables a connected modem first */ };
