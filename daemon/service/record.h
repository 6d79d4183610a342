/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Small records on disk (a job, a modem, a firmware entry): KEY=VALUE lines, escaped as on the link, written
 * whole by store_write(). A record that does not parse or is empty is set aside as NAME.bad and said in the
 * journal; it never keeps the service from starting.
 */

#include <stdint.h>
#include "service/store.h"

struct record;

struct record *record_new(void);
struct record *record_free(struct record *r);
DEFINE_CLEANUP(struct record *, record_free)

/* Setting replaces; NULL or "" removes. -ENOMEM. */
int record_set(struct record *r, const char *key, const char *value);
int record_set_u64(struct record *r, const char *key, uint64_t value);
/* "" if absent. */
const char *record_get(const struct record *r, const char *key);
uint64_t record_get_u64(const struct record *r, const char *key, uint64_t fallback);
/* Every pair in order of setting. */
void record_each(const struct record *r, void (*on_pair)(void *userdata, const char *key, const char *value),
                 void *userdata);

int record_save(const struct record *r, int dirfd, const char *name);
/* -ENOENT; -EBADMSG after it was set aside. */
int record_load(int dirfd, const char *name, struct record **ret);
/* As record_load() does, for one that says too little. */
void record_set_aside(int dirfd, const char *name, const char *why);
