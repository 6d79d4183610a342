/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/fwupd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "service/log.h"

#define FWUPD_NAME "org.freedesktop.fwupd"
#define FWUPD_MATCH                                                                                          \
    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"                              \
    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" FWUPD_NAME "'"
#define REASON "a modem is being rescued"

enum { ID_MAX = 64 };
/* Nobody waits for the answer, and one that came after we had stopped listening could not be given back. */
#define ANSWER_USEC UINT64_MAX

struct fwupd {
    struct manager *manager;
    sd_bus_slot *match, *slot; /* slot: of the question */
    char *id;                  /* of what it has granted; NULL */
    bool still;
};

static int call(struct fwupd *f, const char *member, const char *text, bool wait);

static void give_back(struct fwupd *f)
{
    if (f->id)
        (void)call(f, "Uninhibit", f->id, false);
    free(f->id);
    f->id = NULL;
}

/* It is not there, or older than the method. */
static bool is_nothing(const sd_bus_error *e)
{
    return sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
           sd_bus_error_has_name(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER) ||
           sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_METHOD);
}

static int on_inhibited(sd_bus_message *reply, void *userdata, sd_bus_error *error _unused_)
{
    struct fwupd *f = userdata;
    const sd_bus_error *e = sd_bus_message_get_error(reply);
    const char *id;
    f->slot = sd_bus_slot_unref(f->slot);
    if (e && !is_nothing(e))
        log_event(LOG_NEIGHBOUR, LOG_WARNING, NULL, "fwupd may update a modem that has a job: %s.",
                  e->message ? e->message : e->name);
    if (e || sd_bus_message_read_basic(reply, 's', &id) < 0 || strlen(id) > ID_MAX)
        return 1;
    f->id = strdup(id);
    if (!f->still)
        give_back(f);
    return 1;
}

static int call(struct fwupd *f, const char *member, const char *text, bool wait)
{
    sd_bus_message *m = NULL;
    sd_bus *bus = f->manager->bus;
    int r = sd_bus_message_new_method_call(bus, &m, FWUPD_NAME, "/", FWUPD_NAME, member);
    if (r >= 0)
        r = sd_bus_message_set_auto_start(m, false);
    if (r >= 0)
        r = sd_bus_message_append(m, "s", text);
    if (r >= 0)
        r = wait ? sd_bus_call_async(bus, &f->slot, m, on_inhibited, f, ANSWER_USEC)
                 : sd_bus_send(bus, m, NULL);
    sd_bus_message_unref(m);
    return r;
}

/* What the old one has granted went with it. */
static int on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error _unused_)
{
    struct fwupd *f = userdata;
    const char *name, *old_owner, *new_owner;
    if (sd_bus_message_read(message, "sss", &name, &old_owner, &new_owner) < 0)
        return 0;
    f->slot = sd_bus_slot_unref(f->slot);
    free(f->id);
    f->id = NULL;
    if (f->still && *new_owner)
        (void)call(f, "Inhibit", REASON, true);
    return 0;
}

int fwupd_new(struct manager *m, struct fwupd **ret)
{
    struct fwupd *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->manager = m;
    int r = sd_bus_add_match_async(m->bus, &f->match, FWUPD_MATCH, on_owner_changed, NULL, f);
    if (r < 0) {
        fwupd_free(f);
        return r;
    }
    *ret = f;
    return 0;
}

struct fwupd *fwupd_free(struct fwupd *f)
{
    if (!f)
        return NULL;
    sd_bus_slot_unref(f->match);
    sd_bus_slot_unref(f->slot);
    free(f->id);
    free(f);
    return NULL;
}

void fwupd_keep_still(struct fwupd *f, bool still)
{
    if (still == f->still)
        return;
    f->still = still;
    if (!still)
        give_back(f);
    else if (!f->slot) /* else the answer to the last question is on its way, and will do */
        (void)call(f, "Inhibit", REASON, true);
}
