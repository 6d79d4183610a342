/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where modems come from: watch-udev.c (libudev) and watch-virtual.c (a unix socket, only with
 * --virtual=PATH). Both tell appearances of Quectel devices and candidates (2c7c:*, 05c6:9008, 05c6:900e and
 * the other ids of reference/edl.md 3.1 and 4) and when they went. Nothing is opened here: opener.h makes a
 * fresh descriptor for each worker.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "base/cleanup.h"
#include "base/error.h"

struct appearance {
    char *key;         /* where it is: syspath, or "virtual:KERNEL"; the next one there has the same */
    char *port;        /* connector: ID_PATH of the USB 2 side; "" if udev has none */
    char *kernel_name; /* "1-2.3" */
    char *devnode;     /* "/dev/bus/usb/001/002"; NULL for a virtual one */
    char *product;     /* product string, cleaned; "" if none */
    uint16_t vid, pid;
    unsigned interfaces;
    bool cold;      /* it was there when we started looking */
    int virtual_fd; /* the socket of a virtual modem, -1 else; owned by the watch */
};

struct watch_handler {
    void (*appeared)(void *userdata, const struct appearance *a); /* a stays valid until gone() */
    void (*gone)(void *userdata, const struct appearance *a);
    void *userdata;
};

struct watch;

/* Starts the monitor first, then enumerates (every cold device is told before this returns). */
int watch_udev_new(sd_event *event, const struct watch_handler *handler, struct watch **ret);
/* Listens on path (0666: anybody may rehearse; --virtual is a test and demo switch). An old socket there is
 * replaced. */
int watch_virtual_new(sd_event *event, const char *path, const struct watch_handler *handler,
                      struct watch **ret);
/* Every appearance that is still there is told as gone first. Takes NULL. */
struct watch *watch_free(struct watch *w);
DEFINE_CLEANUP(struct watch *, watch_free)

/*
 * Kind of what appeared, by ids and number of interfaces alone: "normal", "edl", "crash-dump", "fastboot",
 * "unknown" (static). A hint, never trusted (1.5).
 */
const char *appearance_kind(const struct appearance *a);
/*
 * True if the ids are of a device we look at; shared by both watches. Which of them may be touched is for
 * others to decide: 05c6:9008 is every Qualcomm device in the world, and 18d1:d00d (fastboot) means something
 * on a port with a memory only.
 */
bool appearance_is_candidate(uint16_t vid, uint16_t pid);
/*
 * The serial of a product string "QUSB_BULK_CID:0410_SN:49CBD7EF": 8 lower-case hex digits into out[9],
 * padded with leading zeros as Sahara's is printed; -ENOENT if there is none.
 */
int appearance_serial(const char *product, char out[9]);

/*
 * Its encoded form, in which all but letters and digits take three bytes, names files: a longer one is no
 * name that anything could be remembered under.
 */
bool appearance_port_fits(const char *port);

/* For the two implementations. */
struct watch_ops {
    void (*free)(struct watch *w);
};
struct watch {
    const struct watch_ops *ops;
};
/* Frees all of it (virtual_fd is closed). Takes NULL. */
struct appearance *appearance_free(struct appearance *a);
DEFINE_CLEANUP(struct appearance *, appearance_free)
