/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "worker/save.h"

#define LLU(n) ((unsigned long long)(n))

/* A chip without names is cut into about so many pieces, so that no image carries long erased stretches. */
enum { PIECES = 256, PIECE_MIN = 16 };

/* EFS2, RAWDATA, sys_rev, cust_info and what else rule 4 saves always. */
static bool is_always(const struct mibib_partition *p)
{
    static const char *const names[] = {"sec", "misc", "devinfo", "ddr", "MIBIB", "SBL"};
    if (mibib_is_unit_data(p->name) || p->first_block == 0)
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (text_equal_nocase(p->name, names[i]))
            return true;
    return false;
}

static int insert(struct save *s, size_t at, const char *name, uint64_t first, uint64_t end, bool unit_data,
                  struct error *e)
{
    struct save_range *grown = reallocarray(s->ranges, s->n_ranges + 1, sizeof(*grown));
    if (!grown || s->n_ranges == BACKUP_PARTS_MAX)
        return error_set(e, ERROR_FAILED, grown ? "too many ranges to save" : "out of memory");
    s->ranges = grown;
    memmove(&grown[at + 1], &grown[at], (s->n_ranges - at) * sizeof(*grown));
    s->n_ranges++;
    grown[at] = (struct save_range){.first_block = first, .n_blocks = end - first, .unit_data = unit_data};
    snprintf(grown[at].name, sizeof(grown[at].name), "%.*s", BACKUP_NAME_SIZE - 1, name);
    return 0;
}

static bool has_name(const struct save *s, const char *name)
{
    for (size_t i = 0; i < s->n_ranges; i++)
        if (text_equal_nocase(s->ranges[i].name, name))
            return true;
    return false;
}

/* Kept in order; what overlaps one that is there already is left to that one. What remains of it may be in
 * several pieces: only one that is whole, and the first of that name, is called by it. */
static int add(struct save *s, const char *name, uint64_t first_block, uint64_t n_blocks, bool unit_data,
               struct error *e)
{
    uint64_t at = first_block, end = first_block + n_blocks;
    char own[64];
    int r = 0;
    for (size_t i = 0; r == 0 && at < end; i++) {
        bool last = i == s->n_ranges;
        uint64_t next = last ? end : MIN_OF(end, s->ranges[i].first_block);
        if (at < next) {
            bool whole = at == first_block && next == end && !has_name(s, name);
            snprintf(own, sizeof(own), "blocks-%llu-%llu", LLU(at), LLU(next - 1));
            r = insert(s, i, whole ? name : own, at, next, unit_data, e);
            i++; /* the one that was there stands behind it */
        }
        if (last)
            break;
        if (r == 0)
            at = MAX_OF(at, s->ranges[i].first_block + s->ranges[i].n_blocks);
    }
    return r;
}

int save_add(struct save *s, const char *name, uint64_t first_block, uint64_t n_blocks, struct error *e)
{
    return add(s, name, first_block, n_blocks, mibib_is_unit_data(name), e);
}

static int add_partition(struct save *s, const struct mibib_partition *p, struct error *e)
{
    uint64_t n = p->n_blocks ? p->n_blocks : UINT32_MAX; /* cut to the chip when that is known */
    return save_add(s, p->name, p->first_block, n, e);
}

int save_add_always(struct save *s, const struct mibib_table *t, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < t->n_partitions; i++)
        if (is_always(&t->partitions[i]))
            r = add_partition(s, &t->partitions[i], e);
    return r;
}

int save_add_unit_data(struct save *s, const struct mibib_table *t, struct error *e)
{
    char name[64];
    int r = 0;
    for (size_t i = 0; r == 0 && i < t->n_partitions; i++) {
        const struct mibib_partition *p = &t->partitions[i];
        if (!mibib_is_unit_data(p->name))
            continue;
        snprintf(name, sizeof(name), "blocks-%llu-%llu", LLU(p->first_block),
                 LLU(p->first_block + p->n_blocks - 1));
        r = add(s, name, p->first_block, p->n_blocks, true, e);
    }
    return r;
}

static int add_gap(struct save *s, uint64_t first, uint64_t end, uint64_t piece, struct error *e)
{
    int r = 0;
    char name[64];
    for (uint64_t n; r == 0 && first < end; first += n) {
        n = MIN_OF(piece, end - first);
        snprintf(name, sizeof(name), "blocks-%llu-%llu", LLU(first), LLU(first + n - 1));
        r = save_add(s, name, first, n, e);
    }
    return r;
}

int save_add_all(struct save *s, const struct mibib_table *t, uint64_t blocks, struct error *e)
{
    uint64_t piece = MAX_OF(blocks / PIECES, (uint64_t)PIECE_MIN), at = 0;
    int r = 0;
    for (size_t i = 0; t && r == 0 && i < t->n_partitions; i++)
        r = add_partition(s, &t->partitions[i], e);
    /* save_add() moves them: looked at by number. */
    for (size_t i = 0; r == 0 && i < s->n_ranges && at < blocks; i++) {
        uint64_t first = s->ranges[i].first_block, n = s->ranges[i].n_blocks;
        if (first > at)
            r = add_gap(s, at, MIN_OF(first, blocks), piece, e);
        at = first + n;
        while (i < s->n_ranges && s->ranges[i].first_block != first)
            i++;
    }
    return r < 0 || at >= blocks ? r : add_gap(s, at, blocks, piece, e);
}

int save_add_named(struct save *s, const struct mibib_union *tables, const char *names, struct error *e)
{
    while (*names) {
        char name[MIBIB_NAME_SIZE + 2];
        size_t n = strcspn(names, ",");
        snprintf(name, sizeof(name), "%.*s", (int)MIN_OF(n, sizeof(name) - 1), names);
        bool found = false;
        for (size_t i = 0; n < sizeof(name) && i < tables->n; i++) {
            const struct mibib_partition *p = mibib_find(tables->table[i], name);
            int r = p ? add_partition(s, p, e) : 0;
            if (r < 0)
                return r;
            found |= p != NULL;
        }
        if (!found)
            return error_set(e, ERROR_INVALID_ARGS, "the modem's partition table has no %.*s",
                             (int)MIN_OF(n, (size_t)64), names);
        names += n + (names[n] == ',');
    }
    return 0;
}
