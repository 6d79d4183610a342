/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Backups of earlier runs. A file without a record (a crash between the two, a record that was set aside) may
 * be the only copy there is: it is put aside as <id>.lost, read by a worker, one after the other, and taken
 * in again as what it says of itself. One that cannot be read stays where it is, for a person to look at.
 */

#include "service/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/text.h"
#include "service/log.h"
#include "service/second.h"

#define LOST ".lost"

enum { FILE_NAME_SIZE = BACKUP_ID_SIZE + 8 };

/* ---- with a record ---- */

static bool is_id(const char *text)
{
    return strlen(text) == BACKUP_ID_SIZE - 1 && strspn(text, "0123456789abcdef") == BACKUP_ID_SIZE - 1;
}

static void id_of(const char *name, char id[BACKUP_ID_SIZE])
{
    snprintf(id, BACKUP_ID_SIZE, "%.*s", (int)strcspn(name, "."), name);
}

static int load_entry(void *userdata, const char *name)
{
    struct manager *m = userdata;
    _cleanup_(record_freep) struct record *r = NULL;
    char id[BACKUP_ID_SIZE], tar[FILE_NAME_SIZE];
    struct backup *b = NULL;

    id_of(name, id);
    if (!is_id(id) || record_load(m->store.fd_backups, name, &r) < 0)
        return 0;
    snprintf(tar, sizeof(tar), "%s.tar", id);
    int fd = store_open_file(m->store.fd_backups, tar, O_RDONLY);
    if (fd == -ENOENT) {
        log_event(LOG_BACKUP_LOST, LOG_ERR, NULL, "Backup %s has a record but no file any more (%s).", id,
                  strerror(-fd));
        store_remove(m->store.fd_backups, name);
        return 0;
    }
    close_fd(fd);
    if (!backup_is_described(r)) {
        record_set_aside(m->store.fd_backups, name, "it does not say of what it is");
        return 0;
    }
    int q = backup_new(m, id, r, &b);
    return q < 0 ? q : object_add(&b->object);
}

/* ---- without one ---- */

static int put_aside(void *userdata, const char *name)
{
    struct manager *m = userdata;
    char id[BACKUP_ID_SIZE], lost[FILE_NAME_SIZE];
    int fd = m->store.fd_backups;
    id_of(name, id);
    if (!is_id(id) || backup_find_id(m, id))
        return 0;
    snprintf(lost, sizeof(lost), "%s" LOST, id);
    if (renameat(fd, name, fd, lost) < 0)
        log_message(LOG_WARNING, "backups/%s has no record and cannot be put aside: %s.", name,
                    strerror(errno));
    else
        store_remove(fd, name); /* still there if both name one file: it was being taken in again */
    return 0;
}

static void take_next(struct manager *m);

static void on_second(void *userdata, const struct record *facts, const struct error *error)
{
    struct manager *m = userdata;
    const struct backup_origin origin = {.job_path = "", .port = "", .owner = 0, .imported = true};
    char lost[FILE_NAME_SIZE];
    struct error e = *error;
    struct backup *b;
    bool is_new;

    snprintf(lost, sizeof(lost), "%s" LOST, m->lost_id);
    m->lost_second = NULL;
    _cleanup_close_ int fd = store_open_file(m->store.fd_backups, lost, O_RDONLY);
    int r = facts && fd >= 0 ? backup_add(m, facts, fd, &origin, &b, &is_new, &e) : -ENODATA;
    if (r < 0) {
        log_event(LOG_BACKUP_LOST, LOG_ERR, NULL, "backups/%s has no record and is no backup: %s", lost,
                  e.message);
    } else {
        store_remove(m->store.fd_backups, lost);
        log_message(LOG_NOTICE, "Backup %s (%s) had lost its record and was taken in again.", b->id,
                    backup_title(b));
    }
    take_next(m);
}

/* The first one behind the last. */
static int find_next(void *userdata, const char *name)
{
    struct manager *m = userdata;
    char id[BACKUP_ID_SIZE];
    id_of(name, id);
    if (!is_id(id) || strcmp(id, m->lost_id) <= 0)
        return 0;
    memcpy(m->lost_id, id, sizeof(id));
    return 1;
}

static void take_next(struct manager *m)
{
    char lost[FILE_NAME_SIZE];
    struct error e = {0};
    while (!m->stopping && store_list(m->store.fd_backups, LOST, find_next, m) > 0) {
        snprintf(lost, sizeof(lost), "%s" LOST, m->lost_id);
        int fd = store_open_file(m->store.fd_backups, lost, O_RDONLY);
        const struct second_order order = {.type = "backup", .prefix = KEY_BACKUP_FACT, .fd = fd};
        if (fd >= 0 && second_start(m, &order, on_second, m, &m->lost_second, &e) == 0)
            return;
        log_event(LOG_BACKUP_LOST, LOG_ERR, NULL, "backups/%s has no record and cannot be read: %s", lost,
                  fd < 0 ? strerror(-fd) : e.message);
    }
}

int backup_load_all(struct manager *m)
{
    int r = store_list(m->store.fd_backups, ".rec", load_entry, m);
    if (r >= 0)
        r = store_list(m->store.fd_backups, ".tar", put_aside, m);
    if (r >= 0)
        take_next(m);
    return r;
}
