/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/policy.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "service/firmware.h"
#include "service/log.h"
#include "service/modem.h"

#define SUFFIX ".arm"

enum { FILE_NAME_SIZE = 240 };

/* ---- which one counts ---- */

const struct policy *policy_of(const struct modem *m)
{
    static char off[] = "off", hold[] = "hold";
    static const struct policy defaults[] = {{.mode = off}, {.mode = hold}};
    if (*text_known(m->unit_policy.mode))
        return &m->unit_policy;
    if (*text_known(m->port_policy.mode))
        return &m->port_policy;
    return &defaults[m->manager->config.default_policy == 0 ? 0 : 1];
}

bool policy_is(const struct modem *m, const char *mode)
{
    return strcmp(policy_of(m)->mode, mode) == 0;
}

bool policy_is_armed(const struct modem *m)
{
    const struct policy *p = policy_of(m);
    return (p == &m->unit_policy || p == &m->port_policy) && strcmp(p->mode, "off") != 0;
}

static bool knows_imei(const struct modem *m, const struct policy *p)
{
    return *text_known(p->imei_hash) && strcmp(p->imei_hash, text_known(m->imei_hash)) == 0;
}

bool policy_is_certain(const struct modem *m)
{
    const struct policy *p = policy_of(m);
    bool told = *text_known(m->seen_serial) && strcmp(m->seen_serial, text_known(m->chip_serial)) == 0;
    if (p == &m->unit_policy)
        /* While a job waits for it, it may be away for as long as a change of cards takes. */
        return told || (m->unit_watched && !modem_has_fallen(m));
    return !p->of_unit || (m->appearance && p->watched);
}

struct firmware *policy_firmware(const struct modem *m)
{
    const char *id = text_known(policy_of(m)->firmware_id);
    return *id ? firmware_find_id(m->manager, id) : NULL;
}

/* ---- changing ---- */

void policy_done(struct policy *p)
{
    free(p->mode);
    free(p->firmware_id);
    free(p->modem_version);
    free(p->imei_hash);
    *p = (struct policy){0};
}

static int fill(struct policy *p, const char *mode, const char *firmware_id, const char *modem_version)
{
    struct policy new = {
        .mode = strdup(text_known(mode)),
        .firmware_id = strdup(text_known(firmware_id)),
        .modem_version = strdup(text_known(modem_version)),
    };
    if (!new.mode || !new.firmware_id || !new.modem_version) {
        policy_done(&new);
        return -ENOMEM;
    }
    policy_done(p);
    *p = new;
    return 0;
}

static void file_name(const struct modem *m, char out[FILE_NAME_SIZE])
{
    snprintf(out, FILE_NAME_SIZE, "%s" SUFFIX, strrchr(m->object.path, '/') + 1);
}

static int save_port(struct modem *m)
{
    _cleanup_(record_freep) struct record *r = record_new();
    char name[FILE_NAME_SIZE];
    if (!r)
        return -ENOMEM;
    record_set(r, "PORT", m->port);
    record_set(r, "POLICY", m->port_policy.mode);
    record_set(r, "FIRMWARE", m->port_policy.firmware_id);
    record_set(r, "MODEM_VERSION", m->port_policy.modem_version);
    record_set(r, "OF_UNIT", m->port_policy.of_unit ? "1" : "");
    record_set(r, "IMEI_HASH", m->port_policy.imei_hash);
    file_name(m, name);
    return record_save(r, m->manager->store.fd_modems, name);
}

/* It loops, and is away for a moment. */
static bool is_between_windows(const struct modem *m)
{
    return m->number > 0 && !m->was_normal && now_usec() - m->gone_at < MODEM_SWITCH_USEC;
}

/* What is there may be another unit than the one that is remembered: a word about it counts for what is
 * there. */
static void bind(struct modem *m)
{
    struct policy *p = &m->port_policy;
    bool here = m->appearance || is_between_windows(m);
    p->of_unit = true;
    p->watched = here;
    text_replace(&p->imei_hash, !here || m->imei_watched ? text_known(m->imei_hash) : "");
}

int policy_set(struct modem *m, bool port, const char *mode, const char *firmware_id,
               const char *modem_version)
{
    bool unit = !port && *text_known(m->chip_serial);
    int r = fill(unit ? &m->unit_policy : &m->port_policy, mode, firmware_id, modem_version);
    if (r < 0)
        return r;
    if (unit) {
        modem_save(m);
    } else {
        if (!port)
            bind(m);
        m->policy_moved = false; /* the file is this one's again */
        r = save_port(m);
    }
    policy_publish(m);
    return r;
}

static bool is_same(const struct policy *a, const struct policy *b)
{
    return strcmp(text_known(a->mode), text_known(b->mode)) == 0 &&
           strcmp(text_known(a->firmware_id), text_known(b->firmware_id)) == 0 &&
           strcmp(text_known(a->modem_version), text_known(b->modem_version)) == 0;
}

void policy_settle(struct modem *m)
{
    struct policy *own = &m->unit_policy, *kept = &m->port_policy;
    const char *serial = text_known(m->chip_serial);
    bool told = m->unit_watched || strcmp(text_known(m->seen_serial), serial) == 0,
         named = kept->of_unit && told && *serial,
         joined = knows_imei(m, kept) && strcmp(text_known(m->imei_serial), serial) == 0;
    if (!named || !(kept->watched || joined) ||
        (*text_known(own->mode) && !kept->watched && !is_same(own, kept)))
        return;
    policy_done(own);
    *own = *kept;
    own->of_unit = own->watched = false;
    *kept = (struct policy){0};
    m->policy_moved = m->save_pending = true;
    policy_publish(m);
}

void policy_came(struct modem *m, bool watched)
{
    m->port_policy.watched = m->port_policy.watched && watched;
}

/* The connector of another one has it for this unit. */
static struct modem *find_elsewhere(const struct modem *m)
{
    for (struct modem *o = m->manager->modems; o; o = o->next)
        if (o != m && o->port_policy.of_unit && knows_imei(m, &o->port_policy) &&
            !(o->appearance && o->port_policy.watched))
            return o;
    return NULL;
}

/* On disk here before it is not there any more. */
static void fetch(struct modem *m, struct modem *o)
{
    char name[FILE_NAME_SIZE];
    if (*text_known(m->unit_policy.mode) || *text_known(m->port_policy.mode))
        return; /* what was said of it here, or of this connector, stands */
    m->port_policy = o->port_policy;
    if (save_port(m) < 0) {
        m->port_policy = (struct policy){0};
        return;
    }
    o->port_policy = (struct policy){0};
    file_name(o, name);
    store_remove(o->manager->store.fd_modems, name);
    policy_publish(o);
    object_flush(&o->object);
}

void policy_heard_imei(struct modem *m)
{
    struct policy *p = &m->port_policy;
    struct modem *elsewhere = *m->port ? find_elsewhere(m) : NULL;
    if (elsewhere)
        fetch(m, elsewhere);
    if (!p->of_unit)
        return;
    if (p->watched && !*text_known(p->imei_hash)) {
        text_replace(&p->imei_hash, m->imei_hash);
        save_port(m);
    }
    p->watched = knows_imei(m, p);
    policy_settle(m);
    policy_publish(m);
}

void policy_recorded(struct modem *m)
{
    char name[FILE_NAME_SIZE];
    if (!m->policy_moved)
        return;
    m->policy_moved = false;
    file_name(m, name);
    store_remove(m->manager->store.fd_modems, name);
}

void policy_forget(struct modem *m)
{
    char name[FILE_NAME_SIZE];
    policy_done(&m->unit_policy);
    policy_done(&m->port_policy);
    m->policy_moved = false;
    file_name(m, name);
    store_remove(m->manager->store.fd_modems, name);
    policy_publish(m);
}

void policy_publish(struct modem *m)
{
    const struct firmware *f = policy_firmware(m);
    object_set_string(&m->object, "Policy", &m->policy, policy_of(m)->mode);
    object_set_string(&m->object, "RescueFirmware", &m->rescue_firmware, f ? f->object.path : "/");
}

/* ---- earlier runs ---- */

static int load_port(void *userdata, const char *name)
{
    struct manager *manager = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    struct modem *m = NULL;
    if (record_load(manager->store.fd_modems, name, &r) < 0 || !*record_get(r, "PORT"))
        return 0;
    int q = modem_get(manager, record_get(r, "PORT"), "", &m);
    if (q >= 0)
        q = fill(&m->port_policy, record_get(r, "POLICY"), record_get(r, "FIRMWARE"),
                 record_get(r, "MODEM_VERSION"));
    if (q < 0)
        return q;
    m->port_policy.of_unit = strcmp(record_get(r, "OF_UNIT"), "1") == 0;
    text_replace(&m->port_policy.imei_hash, record_get(r, "IMEI_HASH"));
    policy_publish(m);
    return m->object.slot ? 0 : object_add(&m->object);
}

int policy_load_all(struct manager *manager)
{
    return store_list(manager->store.fd_modems, SUFFIX, load_port, manager);
}

/* ---- users of a package ---- */

struct search {
    struct manager *manager;
    const char *id;
    char title[64];
};

/* A unit that is away: its policy lies with its record on the shelf. */
static int look_at_record(void *userdata, const char *name)
{
    struct search *s = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    if (s->title[0] || !text_starts_with(name, MODEM_SHELF) ||
        record_load(s->manager->store.fd_modems, name, &r) < 0)
        return 0;
    if (strcmp(record_get(r, "POLICY_FIRMWARE"), s->id) == 0)
        snprintf(s->title, sizeof(s->title), "the unit %s", record_get(r, "SERIAL"));
    return 0;
}

const char *policy_user(struct manager *manager, const char *firmware_id)
{
    static struct search s;
    for (const struct modem *m = manager->modems; m; m = m->next)
        if (strcmp(text_known(m->unit_policy.firmware_id), firmware_id) == 0 ||
            strcmp(text_known(m->port_policy.firmware_id), firmware_id) == 0)
            return modem_title(m);
    s = (struct search){.manager = manager, .id = firmware_id};
    store_list(manager->store.fd_modems, ".rec", look_at_record, &s);
    return s.title[0] ? s.title : NULL;
}

unsigned policy_count_armed(const struct manager *manager)
{
    unsigned n = 0;
    for (const struct modem *m = manager->modems; m; m = m->next)
        n += *text_known(m->port_policy.mode) != '\0';
    return n;
}
