/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the methods of org.qdld1.Modem share: modem-bus.c has them, modem-backup.c uses them, too. */

#include "service/firmware.h"
#include "service/modem.h"

/* what, name: of the other thing that the caller named, "firmware"; may be NULL. As manager_authorise(). */
int modem_authorise(struct modem *m, sd_bus_message *message, bool milder, const char *lifted,
                    const char *what, const char *name, sd_bus_error *error);
/* A job of the service's own (RESCUE_UID); not counted by limits. -ENOMEM. */
int modem_new_own_job(struct modem *m, enum job_kind kind, struct job **ret);
/* What a flash of this package is to do. -ENOMEM. */
int modem_take_flash(struct job *j, const struct firmware *f, const char *allow, const char *modem_version,
                     bool reset);
/* One that is in the library and ready: NoSuchFirmware, FirmwareInvalid. */
int modem_find_firmware(struct manager *manager, const char *path, struct firmware **ret,
                        sd_bus_error *error);
/* running: the job can take it from normal mode. WrongMode. */
int modem_check_mode(const struct modem *m, const char *what, bool running, sd_bus_error *error);
int modem_new_job(struct modem *m, sd_bus_message *message, enum job_kind kind, struct job **ret,
                  sd_bus_error *error);

/* ---- modem-policy.c ---- */
int modem_method_catch(sd_bus_message *message, void *userdata, sd_bus_error *error);
int modem_method_set_policy(sd_bus_message *message, void *userdata, sd_bus_error *error);
int modem_method_forget(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* ---- modem-backup.c ---- */
/* NoSpace before anything is started that saves first; version_given: the caller said what it runs. */
int modem_check_space(const struct modem *m, bool version_given, sd_bus_error *error);
int modem_method_backup(sd_bus_message *message, void *userdata, sd_bus_error *error);
int modem_method_collect_dump(sd_bus_message *message, void *userdata, sd_bus_error *error);
int modem_method_restore(sd_bus_message *message, void *userdata, sd_bus_error *error);
