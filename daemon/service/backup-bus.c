/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/backup.h"

#include <errno.h>
#include <string.h>

#include "service/errors.h"
#include "service/options.h"

static int authorise(struct backup *b, sd_bus_message *m, bool milder, const char *lifted,
                     sd_bus_error *error)
{
    char title[160];
    snprintf(title, sizeof(title), "%s", backup_title(b));
    struct bouncer_detail details[] = {{"backup", title}, {NULL, NULL}};
    return manager_authorise(b->manager, m, milder, lifted, details, error);
}

static int method_open(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct backup *b = userdata;
    const char *format = "native";
    const struct option known[] = {{"format", "s", &format}, {NULL}};
    uid_t uid;
    int r = options_read(m, known, error);
    if (r < 0)
        return r;
    if (strcmp(format, "native") != 0 && strcmp(format, "xqcn") != 0)
        return errors_set(error, ERROR_INVALID_ARGS,
                          "The option \"format\" is native or xqcn, not \"%.64s\".", format);
    r = senders_uid(b->manager->senders, m, &uid);
    if (r >= 0)
        r = authorise(b, m, uid == b->owner_uid, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    bool xqcn = strcmp(format, "xqcn") == 0;
    if (xqcn && strcmp(b->kind, "xqcn") != 0)
        return errors_set(error, ERROR_UNSUPPORTED,
                          "Backup %s is a copy of the flash (%s); only one of kind xqcn can be had as XQCN.",
                          b->id, b->kind);
    _cleanup_close_ int fd = xqcn ? backup_open_xqcn(b) : backup_open(b);
    if (fd < 0)
        return errors_set(error, ERROR_FAILED, "Backup %s cannot be opened: %s.", b->id, strerror(-fd));
    return sd_bus_reply_method_return(m, "h", fd);
}

static int method_verify(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct backup *b = userdata;
    struct job *j = NULL;
    uid_t uid;
    int r = options_read(m, NULL, error);
    if (r >= 0)
        r = authorise(b, m, false, NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    r = senders_uid(b->manager->senders, m, &uid);
    if (r >= 0)
        r = job_new(b->manager, JOB_VERIFY, uid, &j, error);
    if (r < 0)
        return r;
    memcpy(j->backup_id, b->id, sizeof(j->backup_id));
    return job_begin(j, m, false, error);
}

/* The one refusal that a removal knows; a name of another one would be a misunderstanding. */
static int check_allow(char *const *allow, bool *ret_last, sd_bus_error *error)
{
    *ret_last = false;
    for (; allow && *allow; allow++) {
        if (strcmp(*allow, error_name(ERROR_LAST_BACKUP)) != 0)
            return errors_set(error, ERROR_INVALID_ARGS, "The option \"allow\" does not know \"%.64s\" here.",
                              *allow);
        *ret_last = true;
    }
    return 0;
}

static int method_remove(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct backup *b = userdata;
    _cleanup_(options_free_listp) char **allow = NULL;
    const struct option known[] = {{"allow", "as", &allow}, {NULL}};
    const struct job *user;
    bool last;
    int r = options_read(m, known, error);
    if (r >= 0)
        r = check_allow(allow, &last, error);
    if (r >= 0)
        r = authorise(b, m, false, last ? error_name(ERROR_LAST_BACKUP) : NULL, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    user = backup_user(b);
    if (user)
        return errors_set(error, ERROR_MODEM_BUSY, "Backup %s is used by job %s, which is not finished.",
                          b->id, job_title(user));
    if (!last && backup_is_last(b))
        return errors_set(
            error, ERROR_LAST_BACKUP,
            "Backup %s (%s) is the last good one of its unit; use --allow=LastBackup to remove it "
            "all the same.",
            b->id, backup_title(b));
    char id[BACKUP_ID_SIZE];
    memcpy(id, b->id, sizeof(id));
    r = backup_remove(b);
    return r < 0 ? errors_set(error, ERROR_FAILED, "Backup %s cannot be removed: %s.", id, strerror(-r))
                 : sd_bus_reply_method_return(m, NULL);
}

/* ---- properties ---- */

static int get_partitions(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                          const char *property _unused_, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error _unused_)
{
    return sd_bus_message_append_strv(reply, *(char ***)userdata);
}

static int get_path(sd_bus *bus _unused_, const char *path _unused_, const char *interface _unused_,
                    const char *property _unused_, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error _unused_)
{
    const char *value = *(char **)userdata;
    return sd_bus_message_append_basic(reply, 'o', sd_bus_object_path_is_valid(value) ? value : "/");
}

#define CONST         SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES       SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define FIELD(member) offsetof(struct backup, member)

const sd_bus_vtable backup_vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Kind", "s", NULL, FIELD(kind), CONST),
    SD_BUS_PROPERTY("State", "s", NULL, FIELD(state), CHANGES),
    SD_BUS_PROPERTY("Model", "s", NULL, FIELD(model), CONST),
    SD_BUS_PROPERTY("FirmwareVersion", "s", NULL, FIELD(firmware_version), CONST),
    SD_BUS_PROPERTY("ChipSerial", "s", NULL, FIELD(chip_serial), CONST),
    SD_BUS_PROPERTY("CreatedTime", "t", NULL, FIELD(created_time), CONST),
    SD_BUS_PROPERTY("Size", "t", NULL, FIELD(size), CONST),
    SD_BUS_PROPERTY("Sha256", "s", NULL, FIELD(sha256), CONST),
    SD_BUS_PROPERTY("Partitions", "as", get_partitions, FIELD(partitions), CONST),
    SD_BUS_PROPERTY("OwnerUid", "u", NULL, FIELD(owner_uid), CONST),
    SD_BUS_PROPERTY("Job", "o", get_path, FIELD(job_path), CONST),
    SD_BUS_METHOD_WITH_ARGS("Open", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", file), method_open,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Verify", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_verify,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Remove", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_remove,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};
