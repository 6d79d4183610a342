/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/rescue-port.h"

#include <string.h>

#include "base/text.h"
#include "service/log.h"
#include "service/modem.h"
#include "service/record.h"

#define SUFFIX ".tries"

enum { FILE_NAME_SIZE = 240 };

static void file_name(const struct modem *m, char out[FILE_NAME_SIZE])
{
    snprintf(out, FILE_NAME_SIZE, "%s" SUFFIX, strrchr(m->object.path, '/') + 1);
}

static void save(struct modem *m)
{
    const struct rescue_port *p = &m->rescue.port;
    _cleanup_(record_freep) struct record *r = record_new();
    _cleanup_free_ char *day = rescue_day_print(&p->day);
    char name[FILE_NAME_SIZE];
    if (!r || !*m->port)
        return;
    record_set(r, "GAVE_UP", p->gave_up);
    record_set_u64(r, "FAILURES", p->failures);
    record_set(r, "FLASHED", day);
    file_name(m, name);
    int q = record_save(r, m->manager->store.fd_modems, name);
    if (q < 0)
        log_message(LOG_WARNING, "What was tried at %s cannot be written: %s.", m->port, strerror(-q));
}

void rescue_port_load(struct modem *m)
{
    struct rescue_port *p = &m->rescue.port;
    _cleanup_(record_freep) struct record *r = NULL;
    char name[FILE_NAME_SIZE];
    file_name(m, name);
    if (!*m->port || record_load(m->manager->store.fd_modems, name, &r) < 0)
        return;
    text_replace(&p->gave_up, record_get(r, "GAVE_UP"));
    p->failures = (unsigned)MIN_OF(record_get_u64(r, "FAILURES", 0), (uint64_t)UINT16_MAX);
    rescue_day_read(&p->day, record_get(r, "FLASHED"));
}

void rescue_port_failed(struct modem *m)
{
    m->rescue.port.failures++;
    save(m);
}

void rescue_port_begun(struct modem *m)
{
    rescue_day_add(&m->rescue.port.day, realtime_usec() / USEC_PER_SEC);
    save(m);
}

const char *rescue_port_is_spent(const struct modem *m)
{
    static char text[160];
    const struct config *c = &m->manager->config;
    unsigned flashes = rescue_day_count(&m->rescue.port.day, realtime_usec() / USEC_PER_SEC);
    unsigned failures = m->rescue.port.failures;
    if (flashes >= MIN_OF(RESCUE_PORT_TIMES * c->rescue_per_day, (unsigned)RESCUE_DAY_MAX))
        snprintf(text, sizeof(text), "%u flashes within a day", flashes);
    else if (failures >= RESCUE_PORT_TIMES * c->rescue_attempts)
        snprintf(text, sizeof(text), "%u failures in a row", failures);
    else
        return NULL;
    return text;
}

void rescue_port_give_up(struct modem *m, const char *why)
{
    text_replace(&m->rescue.port.gave_up, why);
    save(m);
}

void rescue_port_ran(struct modem *m)
{
    struct rescue_port *p = &m->rescue.port;
    p->asked = 0;
    if (p->failures == 0 && !*text_known(p->gave_up))
        return;
    p->failures = 0;
    text_replace(&p->gave_up, "");
    save(m);
}

void rescue_port_forget(struct modem *m)
{
    char name[FILE_NAME_SIZE];
    rescue_port_free(m);
    m->rescue.port = (struct rescue_port){0};
    if (!*m->port)
        return;
    file_name(m, name);
    store_remove(m->manager->store.fd_modems, name);
}

void rescue_port_free(struct modem *m)
{
    free(m->rescue.port.gave_up);
    m->rescue.port.gave_up = NULL;
}
