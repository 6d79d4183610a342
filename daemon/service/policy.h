/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the service does unasked about a modem: off, hold (catch it and keep it), rescue (and flash a
 * package). A unit whose chip serial is known has a policy of its own, which goes where the unit goes (in its
 * record, modem-record.c); a connector may have one (modems/PORT.arm); the unit's goes before the
 * connector's, and [Catch] DefaultPolicy= is for the rest. modem-policy.c has the methods.
 *
 * Of a unit that has not told its serial yet the connector has the policy, for that unit and no other: it is
 * known by its IMEI, or by having been watched since the policy was set. Whoever else is there may be caught
 * and held by it, and nothing is written (policy_is_certain()).
 */

#include <stdbool.h>
#include <systemd/sd-bus.h>

struct firmware;
struct manager;
struct modem;

enum { POLICY_ARMED_MAX = 64 };

struct policy {
    char *mode;          /* "off", "hold", "rescue"; NULL or "": not set */
    char *firmware_id;   /* of rescue; NULL or "": none */
    char *modem_version; /* flash rule 2: the user's word for what the label says; NULL or "": none */
    bool of_unit;        /* the connector has it for a unit, until that tells its serial: */
    char *imei_hash;     /* the unit's; NULL or "": not known */
    bool watched; /* it was there when the policy was set, or has told that IMEI, and was watched since */
};

/* The one that counts; never NULL. */
const struct policy *policy_of(const struct modem *m);
bool policy_is(const struct modem *m, const char *mode);
/* A user said it, for the unit or for the connector; not the configuration. */
bool policy_is_armed(const struct modem *m);
/*
 * What is there is the unit that its policy was set for; always, where a connector was armed. Before that
 * nothing is written unasked, and the word for what its label says is not this modem's.
 */
bool policy_is_certain(const struct modem *m);
/* Its package; NULL if it has none, or the library has it no more. */
struct firmware *policy_firmware(const struct modem *m);

/* Frees what is in it. */
void policy_done(struct policy *p);
/*
 * For the unit if `port` is false, else for the connector; recorded and published. While the serial of the
 * unit is not known the connector keeps it for it: for the one that is there, else for the one that is
 * remembered there. NULL strings are "". -ENOMEM, or the errno of writing the
 * record.
 */
int policy_set(struct modem *m, bool port, const char *mode, const char *firmware_id,
               const char *modem_version);
/*
 * The unit has told its serial: what its connector has for it goes to it, if it is the one. One that comes
 * with a policy of its own keeps that, unless it was watched since it had no name.
 */
void policy_settle(struct modem *m);
/* Something appeared there. watched: it came so soon after the one before that it is the same. */
void policy_came(struct modem *m, bool watched);
/* What is there has told its IMEI: the policy of this unit is found by it, at another connector, too. */
void policy_heard_imei(struct modem *m);
/* The record of the unit was written; what moved to it goes from the connector's. */
void policy_recorded(struct modem *m);
/* Of unit and connector. */
void policy_forget(struct modem *m);
/* Policy and RescueFirmware, after anything that they come from has changed. */
void policy_publish(struct modem *m);

/* Manager.ArmPort (modem-policy.c). */
int policy_method_arm_port(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* Every modems/PORT.arm; objects are made for the connectors. 0 or -errno. */
int policy_load_all(struct manager *manager);
/* The title of the modem or unit whose policy needs this package, static; NULL: none does. */
const char *policy_user(struct manager *manager, const char *firmware_id);
unsigned policy_count_armed(const struct manager *manager);
