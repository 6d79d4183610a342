/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The state directory: firmware/ backups/ jobs/ modems/ (0700). A store entry is one file, made as O_TMPFILE
 * and linked in when it is complete; its record beside it (service/record.h). No name here comes from
 * outside: ids are hex digits or decimal numbers.
 */

#include <stdint.h>
#include "base/cleanup.h"
#include "base/error.h"
#include "service/config.h"

struct store {
    int fd_firmware, fd_backups, fd_jobs, fd_modems; /* directories; jobs/ is locked as long as we live */
};

/* Opens (and makes) the directories below `path` ($STATE_DIRECTORY, else /var/lib/qdld). */
int store_open(struct store *s, const char *path, struct error *e);
void store_close(struct store *s);

/* An unnamed file in dirfd, O_RDWR; -errno. */
int store_tmpfile(int dirfd);
/* Links it in as `name`, replacing nothing (-EEXIST). The data were fdatasynced by the worker; the directory
 * is synced lazily. */
int store_link(int dirfd, int fd, const char *name);
/* The same in place of a file of that name, which whoever has it open keeps. Never neither. */
int store_replace(int dirfd, int fd, const char *name);
int store_open_file(int dirfd, const char *name, int flags);
/* Writes a small file in one go: tmp + rename (a record; never torn). */
int store_write(int dirfd, const char *name, const char *data, size_t size);
int store_remove(int dirfd, const char *name);
/* Calls on_name for each regular file whose name ends with suffix, sorted. */
int store_list(int dirfd, const char *suffix, int (*on_name)(void *userdata, const char *name),
               void *userdata);
/* Bytes used by all files of a directory. */
uint64_t store_used(int dirfd);
/*
 * NoSpace if `bytes` more would leave less than the reserve free, or the library limit would be passed;
 * unnamed: what imports under way have written, which the directory does not show.
 */
int store_check_space(const struct store *s, const struct config *c, uint64_t bytes, uint64_t unnamed,
                      struct error *e);
