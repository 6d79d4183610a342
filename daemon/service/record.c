/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "link/link.h"
#include "service/log.h"

enum { RECORD_SIZE_MAX = 256 * 1024, RECORD_PAIRS_MAX = 1024 };

struct pair {
    char *key, *value;
};

struct record {
    struct pair *pairs;
    size_t n_pairs;
};

struct record *record_new(void)
{
    return calloc(1, sizeof(struct record));
}

struct record *record_free(struct record *r)
{
    if (!r)
        return NULL;
    for (size_t i = 0; i < r->n_pairs; i++) {
        free(r->pairs[i].key);
        free(r->pairs[i].value);
    }
    free(r->pairs);
    free(r);
    return NULL;
}

static struct pair *find_pair(const struct record *r, const char *key)
{
    for (size_t i = 0; i < r->n_pairs; i++)
        if (strcmp(r->pairs[i].key, key) == 0)
            return &r->pairs[i];
    return NULL;
}

static void remove_pair(struct record *r, struct pair *p)
{
    free(p->key);
    free(p->value);
    memmove(p, p + 1, (size_t)(r->pairs + r->n_pairs - p - 1) * sizeof(*p));
    r->n_pairs--;
}

int record_set(struct record *r, const char *key, const char *value)
{
    struct pair *p = find_pair(r, key);
    if (!value || !*value) {
        if (p)
            remove_pair(r, p);
        return 0;
    }
    _cleanup_free_ char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    if (!p) {
        if (r->n_pairs == RECORD_PAIRS_MAX)
            return -E2BIG;
        struct pair *grown = realloc(r->pairs, (r->n_pairs + 1) * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        r->pairs = grown;
        char *name = strdup(key);
        if (!name)
            return -ENOMEM;
        p = &r->pairs[r->n_pairs++];
        *p = (struct pair){.key = name};
    }
    free(p->value);
    p->value = steal_ptr(copy);
    return 0;
}

int record_set_u64(struct record *r, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return record_set(r, key, text);
}

const char *record_get(const struct record *r, const char *key)
{
    const struct pair *p = find_pair(r, key);
    return p ? p->value : "";
}

uint64_t record_get_u64(const struct record *r, const char *key, uint64_t fallback)
{
    uint64_t value;
    return text_parse_u64(record_get(r, key), 10, UINT64_MAX, &value) == 0 ? value : fallback;
}

void record_each(const struct record *r, void (*on_pair)(void *userdata, const char *key, const char *value),
                 void *userdata)
{
    for (size_t i = 0; i < r->n_pairs; i++)
        on_pair(userdata, r->pairs[i].key, r->pairs[i].value);
}

int record_save(const struct record *r, int dirfd, const char *name)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return -ENOMEM;
    bool failed = false;
    for (size_t i = 0; i < r->n_pairs; i++) {
        _cleanup_free_ char *value = text_escape(r->pairs[i].value, strlen(r->pairs[i].value));
        failed |= !value || fprintf(f, "%s=%s\n", r->pairs[i].key, value) < 0;
    }
    failed |= fclose(f) != 0;
    return failed ? -ENOMEM : store_write(dirfd, name, text, size);
}

/* What a damaged disk made of a value must still be a string for the bus: such bytes stay escaped. */
static int on_field(void *userdata, const char *key, const char *value)
{
    if (text_is_clean(value, strlen(value)))
        return record_set(userdata, key, value);
    _cleanup_free_ char *escaped = text_escape(value, strlen(value));
    return escaped ? record_set(userdata, key, escaped) : -ENOMEM;
}

void record_set_aside(int dirfd, const char *name, const char *why)
{
    _cleanup_free_ char *aside = text_printf("%s.bad", name);
    if (aside)
        renameat(dirfd, name, dirfd, aside);
    log_event(LOG_RECORD_DAMAGED, LOG_WARNING, NULL,
              "The record %s is damaged (%s); it was set aside as %s.bad.", name, why, name);
}

int record_load(int dirfd, const char *name, struct record **ret)
{
    _cleanup_close_ int fd = store_open_file(dirfd, name, O_RDONLY);
    if (fd < 0)
        return fd;
    _cleanup_free_ char *text = NULL;
    _cleanup_(record_freep) struct record *r = record_new();
    size_t size = 0, line = 0;
    if (!r)
        return -ENOMEM;
    int q = io_read_file(fd, RECORD_SIZE_MAX, &text, &size);
    if (q == 0)
        q = link_parse_text(text, size, on_field, NULL, r, &line);
    if (q == -ENOMEM)
        return q;
    if (q < 0 || r->n_pairs == 0) { /* every record says something: the power went before its data came */
        char why[40];
        snprintf(why, sizeof(why), q < 0 ? "line %zu" : "it is empty", line);
        record_set_aside(dirfd, name, why);
        return -EBADMSG;
    }
    *ret = steal_ptr(r);
    return 0;
}
