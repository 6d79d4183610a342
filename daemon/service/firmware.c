/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/text.h"
#include "service/errors.h"
#include "service/log.h"
#include "service/policy.h"
#include "service/options.h"

#define FIRMWARE_PREFIX    MANAGER_PATH "/firmware"
#define FIRMWARE_INTERFACE "org.qdld1.Firmware"

enum { PROBLEMS_MAX = JOB_PROBLEMS_MAX, SHA256_DIGITS = 64, FILE_NAME_SIZE = FIRMWARE_ID_SIZE + 8 };

static const sd_bus_vtable firmware_vtable[];

/* What the worker tells (FIRMWARE.key) and the record keeps under the same name. */
static const struct {
    const char *key;
    size_t offset;
} facts_table[] = {
    {"name", offsetof(struct firmware, name)},
    {"model", offsetof(struct firmware, model)},
    {"prefix", offsetof(struct firmware, prefix)},
    {"baseline", offsetof(struct firmware, baseline)},
    {"release", offsetof(struct firmware, release)},
    {"memory", offsetof(struct firmware, memory)},
    {"edition", offsetof(struct firmware, edition)},
    {"chip", offsetof(struct firmware, chip)},
    {"geometry", offsetof(struct firmware, geometry)},
    {"programmer", offsetof(struct firmware, programmer)},
    {"sha256", offsetof(struct firmware, sha256)},
    /* not the worker's, but kept likewise */
    {"label", offsetof(struct firmware, label)},
    {"state", offsetof(struct firmware, state)},
    {"accepted", offsetof(struct firmware, accepted)},
};

static char **string_at(const struct firmware *f, size_t i)
{
    return (char **)((char *)(uintptr_t)f + facts_table[i].offset);
}

static bool is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

static void file_name(char out[FILE_NAME_SIZE], const char *id, const char *suffix)
{
    snprintf(out, FILE_NAME_SIZE, "%s.%s", id, suffix);
}

/* ---- new ---- */

static int firmware_new(struct manager *m, const char *id, const struct record *facts, struct firmware **ret)
{
    struct firmware *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->manager = m;
    f->next = m->firmware;
    m->firmware = f;
    snprintf(f->id, sizeof(f->id), "%s", id);
    int r = object_init(&f->object, m->bus, FIRMWARE_PREFIX, id, FIRMWARE_INTERFACE, firmware_vtable, f);
    for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(facts_table); i++) {
        *string_at(f, i) = strdup(record_get(facts, facts_table[i].key));
        if (!*string_at(f, i))
            r = -ENOMEM;
    }
    if (r < 0) {
        firmware_free(f);
        return r;
    }
    f->factory = record_get_u64(facts, "factory", 0) != 0;
    f->size = record_get_u64(facts, "size", 0);
    *ret = f;
    return 0;
}

static char **copy_problems(char *const *problems)
{
    size_t n = 0;
    while (problems && problems[n] && n < PROBLEMS_MAX)
        n++;
    char **copy = calloc(n + 1, sizeof(*copy));
    for (size_t i = 0; copy && i < n; i++)
        copy[i] = strdup(problems[i]);
    return copy;
}

static int save(const struct firmware *f)
{
    _cleanup_(record_freep) struct record *r = record_new();
    char name[FILE_NAME_SIZE];
    if (!r)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(facts_table); i++)
        record_set(r, facts_table[i].key, *string_at(f, i));
    record_set_u64(r, "factory", (uint64_t)f->factory);
    record_set_u64(r, "size", f->size);
    record_set_u64(r, "imported", f->imported_time);
    record_set_u64(r, "owner", f->owner_uid);
    for (size_t i = 0; f->problems && f->problems[i]; i++) {
        char key[24];
        snprintf(key, sizeof(key), "problem.%zu", i);
        record_set(r, key, f->problems[i]);
    }
    file_name(name, f->id, "rec");
    return record_save(r, f->manager->store.fd_firmware, name);
}

struct firmware *firmware_find_id(struct manager *m, const char *id)
{
    struct firmware *f = m->firmware;
    while (f && strcmp(f->id, id) != 0)
        f = f->next;
    return f;
}

/* ---- earlier runs ---- */

static void load_problems(struct firmware *f, const struct record *r)
{
    char *list[PROBLEMS_MAX + 1] = {0};
    for (size_t i = 0; i < PROBLEMS_MAX; i++) {
        char key[24];
        snprintf(key, sizeof(key), "problem.%zu", i);
        const char *text = record_get(r, key);
        if (!*text)
            break;
        list[i] = (char *)(uintptr_t)text;
    }
    f->problems = copy_problems(list);
}

static int load_entry(void *userdata, const char *name)
{
    struct manager *m = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    char id[FIRMWARE_ID_SIZE], tar[FILE_NAME_SIZE];
    struct firmware *f = NULL;

    snprintf(id, sizeof(id), "%.*s", (int)strcspn(name, "."), name);
    if (!is_hex(id, FIRMWARE_ID_SIZE - 1) || record_load(m->store.fd_firmware, name, &r) < 0)
        return 0;
    file_name(tar, id, "tar");
    int fd = store_open_file(m->store.fd_firmware, tar, O_RDONLY);
    if (fd < 0) {
        store_remove(m->store.fd_firmware, name);
        return 0;
    }
    close_fd(fd);
    int q = firmware_new(m, id, r, &f);
    if (q < 0)
        return q;
    f->imported_time = record_get_u64(r, "imported", 0);
    f->owner_uid = (uint32_t)record_get_u64(r, "owner", 0);
    load_problems(f, r);
    return object_add(&f->object);
}

/* A package whose record was never written: its import did not come to its end. */
static int drop_stray(void *userdata, const char *name)
{
    struct manager *m = userdata;
    char id[FIRMWARE_ID_SIZE];
    snprintf(id, sizeof(id), "%.*s", (int)strcspn(name, "."), name);
    if (!firmware_find_id(m, id))
        store_remove(m->store.fd_firmware, name);
    return 0;
}

int firmware_load_all(struct manager *m)
{
    int r = store_list(m->store.fd_firmware, ".rec", load_entry, m);
    return r < 0 ? r : store_list(m->store.fd_firmware, ".tar", drop_stray, m);
}

/* ---- import ---- */

/* What the worker found in it, from the record of a package of the same content. */
static void take_facts(struct firmware *f, const struct record *facts)
{
    static const char *const properties[] = {"Name",     "Model",      "Prefix",  "Baseline",
                                             "Release",  "Memory",     "Edition", "Chip",
                                             "Geometry", "Programmer", "Factory"};
    for (size_t i = 0; i < ARRAY_SIZE(facts_table); i++) {
        const char *value = record_get(facts, facts_table[i].key);
        char *copy = *value ? strdup(value) : NULL;
        if (!copy)
            continue;
        free(*string_at(f, i));
        *string_at(f, i) = copy;
    }
    f->factory = record_get_u64(facts, "factory", 0) != 0;
    for (size_t i = 0; i < ARRAY_SIZE(properties); i++)
        object_changed(&f->object, properties[i]);
}

/*
 * The name of a package is the name of its directory or archive: the content does not tell which version it
 * is, and under a name that says nothing no modem gets it (flash rule 2). So one that says something goes
 * before one that does not; between two that do, the first stays.
 */
static bool is_named_better(const struct firmware *f, const struct record *facts)
{
    return !*f->prefix && *record_get(facts, "prefix");
}

/* The same content anew, in place of a file that a Verify found damaged, or that has no name. */
static int replace(struct firmware *f, const struct record *facts, int store_fd, const char *tar,
                   struct firmware **ret, struct error *e)
{
    int r = store_replace(f->manager->store.fd_firmware, store_fd, tar);
    if (r < 0)
        return error_set(e, ERROR_NO_SPACE, "The package cannot be kept in the library: %s.", strerror(-r));
    if (is_named_better(f, facts))
        take_facts(f, facts);
    firmware_verified(f, true, NULL);
    *ret = f;
    return 0;
}

int firmware_add(struct manager *m, const struct record *facts, int store_fd, const char *label, uid_t owner,
                 struct firmware **ret, struct error *e)
{
    const char *id = record_get(facts, "id"), *sha256 = record_get(facts, "sha256");
    char tar[FILE_NAME_SIZE];
    struct firmware *f = NULL;

    if (!is_hex(id, FIRMWARE_ID_SIZE - 1) || !is_hex(sha256, SHA256_DIGITS) || !text_starts_with(sha256, id))
        return error_set(e, ERROR_FAILED, "The worker gave the package no valid id: \"%s\", SHA-256 \"%s\".",
                         id, sha256);
    f = firmware_find_id(m, id);
    if (f && strcmp(f->state, "ready") == 0 && !is_named_better(f, facts)) {
        *ret = f;
        return 0;
    }
    file_name(tar, id, "tar");
    if (f)
        return replace(f, facts, store_fd, tar, ret, e);
    int r = store_link(m->store.fd_firmware, store_fd, tar);
    if (r < 0)
        return error_set(e, ERROR_NO_SPACE, "The package cannot be kept in the library: %s.", strerror(-r));
    r = firmware_new(m, id, facts, &f);
    if (r >= 0) {
        free(f->state);
        free(f->label);
        f->state = strdup("ready");
        f->label = strdup(label ? label : "");
        f->owner_uid = owner;
        f->imported_time = realtime_usec();
        r = f->state && f->label ? save(f) : -ENOMEM;
    }
    if (r >= 0)
        r = object_add(&f->object);
    if (r < 0) {
        store_remove(m->store.fd_firmware, tar);
        firmware_free(f);
        return error_set(e, ERROR_NO_SPACE, "The package cannot be recorded in the library: %s.",
                         strerror(-r));
    }
    *ret = f;
    return 0;
}

/* ---- use ---- */

struct firmware *firmware_find_path(struct manager *m, const char *path)
{
    struct firmware *f = m->firmware;
    while (f && strcmp(f->object.path, path) != 0)
        f = f->next;
    return f;
}

void firmware_learned(struct firmware *f)
{
    int r = save(f);
    if (r < 0)
        log_message(LOG_WARNING, "The record of firmware %s cannot be written: %s.", f->id, strerror(-r));
}

int firmware_open(const struct firmware *f)
{
    char tar[FILE_NAME_SIZE];
    file_name(tar, f->id, "tar");
    return store_open_file(f->manager->store.fd_firmware, tar, O_RDONLY);
}

void firmware_verified(struct firmware *f, bool ready, char *const *problems)
{
    char **copy = copy_problems(ready ? NULL : problems);
    if (copy) {
        options_free_list(f->problems);
        f->problems = copy;
        object_changed(&f->object, "Problems");
    }
    object_set_string(&f->object, "State", &f->state, ready ? "ready" : "invalid");
    firmware_learned(f);
    object_flush(&f->object);
}

/* True while an unfinished job uses it. */
static bool is_in_use(const struct firmware *f)
{
    for (const struct job *j = f->manager->jobs; j; j = j->next)
        if (!job_finished(j) && strcmp(j->firmware_id, f->id) == 0)
            return true;
    return false;
}

/* ---- methods ---- */

static int method_verify(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct firmware *f = userdata;
    struct bouncer_detail details[] = {{"firmware", f->name}, {NULL, NULL}};
    struct job *j = NULL;
    uid_t uid;
    int r = options_read(m, NULL, error);
    if (r >= 0)
        r = manager_authorise(f->manager, m, false, NULL, details, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = senders_uid(f->manager->senders, m, &uid);
    if (r >= 0)
        r = job_new(f->manager, JOB_VERIFY, uid, &j, error);
    if (r < 0)
        return r;
    memcpy(j->firmware_id, f->id, sizeof(j->firmware_id));
    return job_begin(j, m, false, error);
}

static int method_remove(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct firmware *f = userdata;
    struct bouncer_detail details[] = {{"firmware", f->name}, {NULL, NULL}};
    char name[FILE_NAME_SIZE];
    uid_t uid;
    int r = options_read(m, NULL, error);
    if (r >= 0)
        r = senders_uid(f->manager->senders, m, &uid);
    if (r >= 0)
        r = manager_authorise(f->manager, m, uid == f->owner_uid, NULL, details, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    if (is_in_use(f))
        return errors_set(error, ERROR_FIRMWARE_IN_USE, "Firmware %s is used by a job that is not finished.",
                          *f->name ? f->name : f->id);
    const char *user = policy_user(f->manager, f->id);
    if (user)
        return errors_set(error, ERROR_FIRMWARE_IN_USE,
                          "Firmware %s is what the rescue policy of %s flashes; give that another one first.",
                          *f->name ? f->name : f->id, user);
    /* First the record: a package without one is swept away at the next start. */
    file_name(name, f->id, "rec");
    r = store_remove(f->manager->store.fd_firmware, name);
    if (r < 0 && r != -ENOENT)
        return errors_set(error, ERROR_FAILED, "Firmware %s cannot be removed: %s.", f->id, strerror(-r));
    file_name(name, f->id, "tar");
    store_remove(f->manager->store.fd_firmware, name);
    r = sd_bus_reply_method_return(m, NULL);
    firmware_free(f);
    return r < 0 ? r : 1;
}

struct firmware *firmware_free(struct firmware *f)
{
    if (!f)
        return NULL;
    for (struct firmware **i = &f->manager->firmware; *i; i = &(*i)->next)
        if (*i == f) {
            *i = f->next;
            break;
        }
    object_done(&f->object);
    for (size_t i = 0; i < ARRAY_SIZE(facts_table); i++)
        free(*string_at(f, i));
    options_free_list(f->problems);
    free(f);
    return NULL;
}

static int get_problems(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                        const char *property _unused_, sd_bus_message *reply, void *userdata,
                        sd_bus_error *error _unused_)
{
    return sd_bus_message_append_strv(reply, *(char ***)userdata);
}

#define CONST         SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES       SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define FIELD(member) offsetof(struct firmware, member)

static const sd_bus_vtable firmware_vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Name", "s", NULL, FIELD(name), CHANGES),
    SD_BUS_PROPERTY("Label", "s", NULL, FIELD(label), CONST),
    SD_BUS_PROPERTY("State", "s", NULL, FIELD(state), CHANGES),
    SD_BUS_PROPERTY("Model", "s", NULL, FIELD(model), CHANGES),
    SD_BUS_PROPERTY("Prefix", "s", NULL, FIELD(prefix), CHANGES),
    SD_BUS_PROPERTY("Baseline", "s", NULL, FIELD(baseline), CHANGES),
    SD_BUS_PROPERTY("Release", "s", NULL, FIELD(release), CHANGES),
    SD_BUS_PROPERTY("Memory", "s", NULL, FIELD(memory), CHANGES),
    SD_BUS_PROPERTY("Edition", "s", NULL, FIELD(edition), CHANGES),
    SD_BUS_PROPERTY("Chip", "s", NULL, FIELD(chip), CHANGES),
    SD_BUS_PROPERTY("Geometry", "s", NULL, FIELD(geometry), CHANGES),
    SD_BUS_PROPERTY("Programmer", "s", NULL, FIELD(programmer), CHANGES),
    SD_BUS_PROPERTY("Factory", "b", NULL, FIELD(factory), CHANGES),
    SD_BUS_PROPERTY("Size", "t", NULL, FIELD(size), CONST),
    SD_BUS_PROPERTY("Sha256", "s", NULL, FIELD(sha256), CONST),
    SD_BUS_PROPERTY("ImportedTime", "t", NULL, FIELD(imported_time), CONST),
    SD_BUS_PROPERTY("OwnerUid", "u", NULL, FIELD(owner_uid), CONST),
    SD_BUS_PROPERTY("Problems", "as", get_problems, FIELD(problems), CHANGES),
    SD_BUS_METHOD_WITH_ARGS("Verify", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_verify,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Remove", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_remove,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};
