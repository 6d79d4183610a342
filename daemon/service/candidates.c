/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/candidates.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

enum { KIB = 1024, ID_DIGITS = FIRMWARE_ID_SIZE - 1, OUTCOMES_BYTES_MAX = 2048 };

/* ---- outcomes: comma lists ---- */

static unsigned count_in(const char *list, const char *item)
{
    unsigned n = 0;
    size_t length = strlen(item);
    for (const char *p = text_known(list); *p; p += strcspn(p, ","), p += *p == ',')
        n += strncmp(p, item, length) == 0 && (p[length] == ',' || p[length] == '\0');
    return n;
}

/* The oldest go where it would become too long. */
static void append_to(char **list, const char *item)
{
    const char *old = text_known(*list);
    while (*old && strlen(old) + strlen(item) + 1 > OUTCOMES_BYTES_MAX) {
        old += strcspn(old, ",");
        old += *old == ',';
    }
    char *grown = text_printf("%s%s%s", old, *old ? "," : "", item);
    if (!grown)
        return;
    free(*list);
    *list = grown;
}

static bool is_spent(const struct modem *m, const struct firmware *f)
{
    return count_in(m->refused, f->id) > 0 || count_in(m->silent, f->id) >= CANDIDATES_SILENT;
}

static bool took_hash(const struct modem *m, const struct firmware *f)
{
    return *text_known(m->pk_hash) && count_in(f->accepted, m->pk_hash) > 0;
}

bool candidates_know_hash(const struct modem *m)
{
    for (const struct firmware *f = m->manager->firmware; f; f = f->next)
        if (strcmp(f->state, "ready") == 0 && took_hash(m, f))
            return true;
    return false;
}

static void forget_silence(struct modem *m, const char *id)
{
    char item[ID_DIGITS + 1];
    _cleanup_free_ char *old = m->silent;
    m->silent = NULL;
    for (const char *p = text_known(old); *p; p += strcspn(p, ","), p += *p == ',') {
        snprintf(item, sizeof(item), "%.*s", (int)MIN_OF(strcspn(p, ","), (size_t)ID_DIGITS), p);
        if (strcmp(item, id) != 0)
            append_to(&m->silent, item);
    }
}

int candidates_told(struct modem *m, const char *value, bool hash_told)
{
    char outcome[16], id[FIRMWARE_ID_SIZE], rest;
    if (sscanf(value, "%15s %32[0-9a-f]%c", outcome, id, &rest) != 2 || strlen(id) != ID_DIGITS)
        return -EBADMSG;
    struct firmware *f = firmware_find_id(m->manager, id);
    if (strcmp(outcome, "accepted") == 0) {
        if (m->appearance)
            snprintf(m->running, sizeof(m->running), "%s", id);
        if (f && hash_told && *text_known(m->pk_hash) && !took_hash(m, f)) {
            append_to(&f->accepted, m->pk_hash);
            firmware_learned(f);
        }
        if (!count_in(m->silent, id))
            return 0;
        forget_silence(m, id);
    } else if (strcmp(outcome, "refused") == 0) {
        if (!count_in(m->refused, id))
            append_to(&m->refused, id);
    } else if (strcmp(outcome, "silent") == 0) {
        append_to(&m->silent, id);
    } else {
        return -EBADMSG;
    }
    modem_save(m);
    return 0;
}

/* ---- which fit ---- */

struct geometry {
    unsigned page, block_kib, blocks;
};

/* STORAGE= of a worker: "nand 4096/256K x 2048". What is not known fits: the worker compares again. */
static bool geometry_fits(const struct modem *m, const struct firmware *f)
{
    struct geometry g;
    char name[32], rest;
    if (!*f->geometry ||
        sscanf(text_known(m->storage), "nand %9u/%9uK x %9u%c", &g.page, &g.block_kib, &g.blocks, &rest) != 3)
        return true;
    snprintf(name, sizeof(name), "p%uK_b%uK", g.page / KIB, g.block_kib);
    return strcmp(name, f->geometry) == 0;
}

static bool fits(const struct modem *m, const struct firmware *f)
{
    return strcmp(f->state, "ready") == 0 && *f->programmer && geometry_fits(m, f) &&
           (!*text_known(m->chip) || strcmp(f->chip, m->chip) == 0);
}

enum rank { RANK_SPENT, RANK_ANY, RANK_FAMILY, RANK_RAN, RANK_HASH, RANK_POLICY };

static enum rank rank_of(const struct modem *m, const struct firmware *f)
{
    if (is_spent(m, f))
        return RANK_SPENT;
    if (strcmp(f->id, text_known(policy_of(m)->firmware_id)) == 0)
        return RANK_POLICY;
    if (took_hash(m, f))
        return RANK_HASH;
    if (*f->name && strcmp(f->name, text_known(m->firmware_version)) == 0)
        return RANK_RAN;
    if (*f->prefix && text_starts_with(text_known(m->family_version), f->prefix))
        return RANK_FAMILY;
    return RANK_ANY;
}

static bool is_one_chip(const struct modem *m)
{
    const char *chip = NULL;
    for (const struct firmware *f = m->manager->firmware; f; f = f->next) {
        if (!fits(m, f))
            continue;
        if (chip && strcmp(chip, f->chip) != 0)
            return false;
        chip = f->chip;
    }
    return true;
}

size_t candidates_find(const struct modem *m, bool all, struct firmware *ret[CANDIDATES_MAX])
{
    enum rank ranks[CANDIDATES_MAX], least = is_one_chip(m) ? RANK_ANY : RANK_FAMILY;
    size_t n = 0;
    if (all)
        least = RANK_SPENT;
    /* A flash in the middle goes on with its own programmer; another one would speak of blocks in another
     * way. */
    const char *only = m->interrupted ? m->interrupted->firmware_id : NULL;
    for (struct firmware *f = m->manager->firmware; f; f = f->next) {
        enum rank r = rank_of(m, f);
        if (!fits(m, f) || r < least || (only && strcmp(only, f->id) != 0))
            continue;
        size_t at = n;
        while (at > 0 &&
               (ranks[at - 1] < r || (ranks[at - 1] == r && ret[at - 1]->imported_time < f->imported_time)))
            at--;
        if (at == CANDIDATES_MAX)
            continue;
        n = MIN_OF(n + 1, (size_t)CANDIDATES_MAX);
        for (size_t i = n - 1; i > at; i--) {
            ret[i] = ret[i - 1];
            ranks[i] = ranks[i - 1];
        }
        ret[at] = f;
        ranks[at] = r;
    }
    return n;
}
