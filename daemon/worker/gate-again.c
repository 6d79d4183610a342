/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "worker/gate.h"
#include "worker/project.h"

#define LLU(n) ((unsigned long long)(n))

void gate_facts_done(struct gate_facts *facts)
{
    free(facts->table);
    free(facts->project);
    *facts = (struct gate_facts){0};
}

/* *ret: the name in RAWDATA, or NULL if it says nothing. */
static int read_project(struct flash *f, char **ret, struct error *e)
{
    char name[PROJECT_NAME_SIZE] = "";
    *ret = NULL;
    if (f->facts.rawdata.n_blocks == 0)
        return 0;
    int r = project_read(f, &f->facts.rawdata, name, e);
    if (r <= 0)
        return r;
    *ret = strdup(name);
    return *ret ? 0 : error_set(e, ERROR_FAILED, "out of memory");
}

int gate_remember(struct flash *f, const struct mibib_table *modem, struct error *e)
{
    const struct sahara_identity *unit = &f->session->identity;
    const struct mibib_partition *rawdata = gate_rawdata(f, modem);
    struct error own = {0};

    if (unit->have_serial && unit->serial != 0) {
        gate_facts_done(&f->facts);
        return 0;
    }
    worker_log(f->worker, "the modem tells no serial number: should it go away in the middle, it is known "
                          "again by its partition table, its project name and its bad blocks");
    f->facts.table = modem ? mibib_print(modem) : NULL;
    if (modem && !f->facts.table)
        return error_set(e, ERROR_FAILED, "out of memory");
    if (!rawdata)
        return 0;
    f->facts.rawdata = *rawdata;
    if (f->facts.project_read)
        return 0;
    f->quiet = true;
    int r = read_project(f, &f->facts.project, &own);
    f->quiet = false;
    if (r < 0 && own.kind == ERROR_FIREHOSE_FAILED) {
        /* One fact less; the flash itself does not need it. */
        f->facts.rawdata.n_blocks = 0;
        return 0;
    }
    if (r < 0 && e)
        *e = own;
    return r;
}

static int not_the_same(struct error *e, const char *what)
{
    return error_set(e, ERROR_WRONG_UNIT,
                     "the modem that came back is not the one that went away: %s; nothing was written to it",
                     what);
}

/* ---- table ---- */

static bool wrote_table(const struct flash *f)
{
    for (size_t i = 0; i < f->plan->n_steps; i++)
        if (f->plan->steps[i].mibib && f->steps[i].touched)
            return true;
    return false;
}

/* The gate's, or, where this flash is at it, none or the package's. */
static int compare_table(struct flash *f, const struct mibib_table *now, struct error *e)
{
    _cleanup_free_ char *text = now ? mibib_print(now) : NULL;
    _cleanup_free_ char *package = f->package->table_known ? mibib_print(&f->package->table) : NULL;
    const char *before = f->facts.table;
    if ((now && !text) || (f->package->table_known && !package))
        return error_set(e, ERROR_FAILED, "out of memory");
    if (text && before ? strcmp(text, before) == 0 : text == before)
        return 0;
    if (wrote_table(f) && (!text || (package && strcmp(text, package) == 0)))
        return 0;
    return not_the_same(e, !text     ? "it has no partition table any more"
                           : !before ? "it has a partition table"
                                     : "its partition table is another one");
}

/* ---- project ---- */

static bool changes_rawdata(const struct flash *f)
{
    const struct mibib_partition *p = &f->facts.rawdata;
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (f->steps[i].touched && s->first_block < p->first_block + p->n_blocks &&
            p->first_block < s->first_block + s->n_blocks)
            return true;
    }
    return false;
}

static int compare_project(struct flash *f, struct error *e)
{
    _cleanup_free_ char *now = NULL;
    char text[2 * PROJECT_NAME_SIZE + 64];
    if (changes_rawdata(f))
        return 0;
    int r = read_project(f, &now, e);
    if (r < 0)
        return r;
    const char *a = f->facts.project ? f->facts.project : "", *b = now ? now : "";
    if (strcmp(a, b) == 0)
        return 0;
    snprintf(text, sizeof(text), "its project name is %s, it was %s", *b ? b : "not told",
             *a ? a : "not told");
    return not_the_same(e, text);
}

/* ---- bad blocks ---- */

/* With its neighbour, where that is asked for too. */
static int look_again(struct flash *f, uint64_t block, struct nand_map *now, struct error *e)
{
    bool two = nand_map_is_known(&f->at_gate, block + 1) && !nand_map_is_known(now, block + 1);
    int r = flash_safe_point(f, e);
    return r < 0 ? r
                 : nand_read_map(f->session->firehose, &f->session->geometry, &f->session->capabilities,
                                 block, two ? 2 : 1, now, e);
}

/*
 * A block that this job saw go bad is explained. One that went bad with the command in hand is not, and looks
 * like another unit: then the same call made again starts at the gate, which is the smaller evil.
 */
static int compare_map(struct flash *f, struct nand_map *now, struct error *e)
{
    char text[96];
    for (uint64_t b = 0; b < f->at_gate.blocks; b++) {
        if (!nand_map_is_known(&f->at_gate, b))
            continue;
        int r = nand_map_is_known(now, b) ? 0 : look_again(f, b, now, e);
        if (r < 0)
            return r;
        bool was = nand_map_is_bad(&f->at_gate, b), is = nand_map_is_bad(now, b);
        if (is == was || (is && nand_map_is_bad(&f->map, b)))
            continue;
        snprintf(text, sizeof(text), "its block %llu is %s, it was %s", LLU(b), is ? "bad" : "good",
                 was ? "bad" : "good");
        return not_the_same(e, text);
    }
    return 0;
}

int gate_again(struct flash *f, struct error *e)
{
    _cleanup_free_ struct mibib_table *room = malloc(sizeof(*room));
    _cleanup_(nand_map_done) struct nand_map now = {0};
    const struct mibib_table *modem = NULL;
    if (!room)
        return error_set(e, ERROR_FAILED, "out of memory");

    worker_phase(f->worker, "gate", NULL);
    f->quiet = true;
    int r = nand_map_init(&now, f->at_gate.blocks);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "no room for a map of %llu blocks", LLU(f->at_gate.blocks));
    r = gate_read_table(f, &now, room, &modem, e);
    if (r == 0)
        r = compare_table(f, modem, e);
    if (r == 0)
        r = compare_project(f, e);
    if (r == 0 && f->session->capabilities.skip_bad_block)
        r = compare_map(f, &now, e);
    f->quiet = false;
    return r;
}
