/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a modem told in normal mode: version, model, operating mode, IMEI. The IMEI itself is never here: its
 * HMAC with a key of this machine tells whether it is the same unit, its masked form is for people.
 */

#include "service/modem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "base/io.h"
#include "base/text.h"
#include "service/backup.h"
#include "service/log.h"
#include "service/modem-inner.h"

#define KEY_FILE "imei.key"

enum {
    KEY_BYTES = 32,
    VERSION_MAX = 127,
    IMEI_DIGITS = 15,
    OPERATING_FACTORY_TEST = 1, /* protocol/diag.h */
    OPERATING_OFFLINE = 2,
    OPERATING_OFFLINE_CDMA = 4,
};

bool modem_is_running_fact(const char *key)
{
    return strcmp(key, KEY_VERSION) == 0 || strcmp(key, KEY_MODEL) == 0 || strcmp(key, KEY_OPERATING) == 0 ||
           strcmp(key, KEY_IMEI_HASH) == 0 || strcmp(key, KEY_IMEI) == 0;
}

/* In normal mode it tells no serial: the one that is remembered is its own only if it was watched since. */
static void rest_on_serial(struct modem *m, bool news)
{
    if (m->unit_watched)
        text_replace(&m->facts_serial, text_known(m->chip_serial));
    else if (news)
        text_replace(&m->facts_serial, "");
}

static void learn_version(struct modem *m, const char *version)
{
    bool news = !text_equal_version(text_known(m->firmware_version), version);
    /* One that we did not put there is the unit's own, and says what family it is of (flash rule 2). */
    if (news)
        text_replace(&m->family_version, version);
    object_set_string(&m->object, "FirmwareVersion", &m->firmware_version, version);
    rest_on_serial(m, news);
}

static void learn_model(struct modem *m, const char *model)
{
    bool news = strcmp(text_known(m->model), model) != 0;
    object_set_string(&m->object, "Model", &m->model, model);
    rest_on_serial(m, news);
}

/*
 * Another IMEI is another unit, whatever else the port remembers. Where none is remembered it may be another
 * unit as well, in the place of the one whose serial is: then the serial does not vouch for it.
 */
static void learn_imei(struct modem *m, const char *hash)
{
    bool news = strcmp(text_known(m->imei_hash), hash) != 0;
    m->imei_watched = true;
    if (news && *text_known(m->imei_hash))
        modem_shelve(m);
    m->unit_watched |=
        !*text_known(m->chip_serial) || (!news && strcmp(text_known(m->imei_serial), m->chip_serial) == 0);
    if (!news)
        return;
    text_replace(&m->imei_hash, hash);
    text_replace(&m->imei_serial, m->unit_watched ? text_known(m->chip_serial) : "");
    modem_update_backup(m);
}

void modem_set_flaw(struct modem *m, const char *flaw)
{
    m->told_flaw = NULL; /* what it said is of before */
    text_replace(&m->calibration_flaw, flaw);
    modem_save(m);
}

/* Offline it says neither: a restore may have left it so. */
static int learn_operating(struct modem *m, const char *value)
{
    uint64_t mode;
    if (text_parse_u64(value, 10, UINT32_MAX, &mode) < 0)
        return -EBADMSG;
    object_set_bool(&m->object, "FactoryTestMode", &m->factory_test_mode, mode == OPERATING_FACTORY_TEST);
    if (mode >= OPERATING_OFFLINE && mode <= OPERATING_OFFLINE_CDMA)
        return 0;
    m->told_flaw = mode == OPERATING_FACTORY_TEST ? "factory-test" : "";
    /* What clears a unit has to be of that unit: one in its place may be well. */
    if (*m->told_flaw || m->unit_watched || !*text_known(m->chip_serial))
        text_replace(&m->calibration_flaw, m->told_flaw);
    return 0;
}

static bool is_masked(const char *imei)
{
    size_t stars = 0;
    for (const char *c = imei; *c; c++)
        stars += *c == '*';
    return strlen(imei) == IMEI_DIGITS && strspn(imei, "0123456789*") == IMEI_DIGITS && stars >= 8;
}

int modem_learn_running(struct modem *m, const char *key, const char *value)
{
    size_t size = strlen(value);
    if (size > VERSION_MAX || !text_is_clean(value, size))
        return -EBADMSG;
    /* Of the device that is there now, by its own word. */
    if (strcmp(key, KEY_VERSION) == 0 && *value)
        learn_version(m, value);
    else if (strcmp(key, KEY_MODEL) == 0 && *value)
        learn_model(m, value);
    else if (strcmp(key, KEY_OPERATING) == 0 && learn_operating(m, value) < 0)
        return -EBADMSG;
    else if (strcmp(key, KEY_IMEI) == 0) {
        if (!is_masked(value))
            return -EBADMSG;
        object_set_string(&m->object, "Imei", &m->imei, value);
    } else if (strcmp(key, KEY_IMEI_HASH) == 0) {
        if (size != 2 * KEY_BYTES || strspn(value, "0123456789abcdef") != size)
            return -EBADMSG;
        learn_imei(m, value);
        policy_heard_imei(m);
        manager_update(m->manager);
    }
    m->facts_watched = true;
    modem_update_confirmed(m);
    modem_save(m);
    return 0;
}

/* ---- at another connector ---- */

/* NULL: there is none, or more than one that it could be. */
static struct modem *find_by_imei(const struct modem *m)
{
    struct modem *found = NULL;
    for (struct modem *o = m->manager->modems; o; o = o->next) {
        if (o == m || strcmp(text_known(o->imei_hash), m->imei_hash) != 0)
            continue;
        if (found || o->appearance || o->job || o->holder || o->guard || !*text_known(o->chip_serial) ||
            strcmp(text_known(o->imei_serial), o->chip_serial) != 0)
            return NULL;
        found = o;
    }
    return found;
}

void modem_join(struct modem *m)
{
    bool nameless = strcmp(modem_kind(m), "normal") == 0 && m->facts_watched && !m->job && *m->port &&
                    *text_known(m->imei_hash) && !*text_known(m->chip_serial);
    struct modem *o = nameless ? find_by_imei(m) : NULL;
    if (!o)
        return;
    _cleanup_free_ char *serial = strdup(o->chip_serial), *version = strdup(text_known(m->firmware_version)),
                        *model = strdup(text_known(m->model));
    if (!serial || !version || !model)
        return;
    modem_unshelve(m, serial);
    if (strcmp(text_known(m->chip_serial), serial) != 0)
        return; /* it has no record that could be moved */
    log_message(LOG_INFO, "%s is the unit %s, by its IMEI: it was at another port before.", modem_title(m),
                serial);
    /* What it tells itself counts more than what was remembered. */
    m->facts_watched = m->unit_watched = m->imei_watched = true;
    if (m->told_flaw)
        text_replace(&m->calibration_flaw, m->told_flaw);
    if (*version)
        learn_version(m, version);
    if (*model)
        learn_model(m, model);
    text_replace(&m->facts_serial, serial);
    policy_settle(m);
    modem_update_confirmed(m);
    modem_update_backup(m);
    modem_update_interrupted(m);
    modem_save(m);
    object_flush(&m->object);
}

/* ---- what is kept of it, unasked ---- */

void modem_keep_calibration(struct modem *m)
{
    struct job *j = NULL;
    struct error e = {0};
    bool healthy = *text_known(m->imei_hash) && *text_known(m->imei) && !m->factory_test_mode;
    if (!m->manager->config.backups_automatic || m->manager->stopping || m->job || m->guard || !healthy ||
        strcmp(modem_kind(m), "normal") != 0 || m->kept == m->number || backup_find_calibration(m))
        return;
    m->kept = m->number; /* once an appearance, whatever comes of it */
    int r = backup_check_space(m->manager, BACKUP_XQCN_SIZE, &e);
    if (r >= 0)
        r = modem_new_own_job(m, JOB_BACKUP, &j);
    if (r >= 0) {
        j->kind_of_backup = strdup("xqcn");
        if (j->kind_of_backup)
            r = job_begin_own(j, false, &e);
        else
            job_free(j);
    }
    if (r < 0)
        log_message(LOG_WARNING, "The calibration of %s is not saved: %s", modem_title(m),
                    e.kind != ERROR_NONE ? e.message : strerror(-r));
}

/* ---- the key ---- */

int modem_load_key(struct manager *m)
{
    uint8_t key[KEY_BYTES];
    _cleanup_close_ int fd = store_open_file(m->store.fd_modems, KEY_FILE, O_RDONLY);
    int r = fd < 0 ? fd : io_pread_full(fd, key, sizeof(key), 0);
    /* A key that was lost costs no more than what was known by it. */
    if (r < 0) {
        if (getrandom(key, sizeof(key), 0) != sizeof(key))
            return -EIO;
        r = store_write(m->store.fd_modems, KEY_FILE, (const char *)key, sizeof(key));
        if (r < 0)
            return r;
    }
    text_hex(key, sizeof(key), m->imei_key);
    return 0;
}
