/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who calls: the EUID that the bus reports for a unique name. Only the bus knows it, and the loop does not
 * wait for its answer: the first call of each caller is put aside, the bus is asked, and when it has answered
 * the call goes through the dispatcher as if it had just come, in its order. So every handler of ours finds
 * its caller known.
 *
 * A unique name is never used again, and its user never changes; what is known is forgotten when the name
 * leaves the bus.
 */

#include <sys/types.h>
#include <systemd/sd-bus.h>

enum {
    SENDERS_ASKED_MAX = 256, /* callers about whom the bus is being asked */
    SENDERS_HELD_MAX = 1024, /* calls that wait for its answers, all together */
};

struct senders;

/* on_gone: a name that had called left the bus. To be made before the service has its name. -errno. */
int senders_new(sd_bus *bus, void (*on_gone)(void *userdata, const char *name), void *userdata,
                struct senders **ret);
struct senders *senders_free(struct senders *s);

/* The EUID of a call's sender; -ENXIO if it is not known: it came by another way than the bus, or has left.
 */
int senders_uid(const struct senders *s, sd_bus_message *m, uid_t *ret);
