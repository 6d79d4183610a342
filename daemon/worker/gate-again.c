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

static int not_the_same(struct error *e, const char *what)
{
    return error_set(e, ERROR_WRONG_UNIT,
                     "the modem that came back is not the one that went away: %s; nothing was written to it",
                     what);
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

/* ---- samples of what only the unit has ---- */

enum {
    SAMPLE_BLOCKS = 6, /* from the first to the last one; a window may be short */
    SAMPLE_PAGES = 8,
};

/* As the programmer shows them, bad blocks and erased pages included: it shows them so again. */
static int take_sample(struct flash *f, const struct mibib_partition *p, uint8_t sha256[SHA256_SIZE],
                       struct error *e)
{
    const struct nand_geometry *g = &f->session->geometry;
    const uint64_t n = MIN_OF(p->n_blocks, (uint64_t)SAMPLE_BLOCKS);
    const size_t size = (size_t)SAMPLE_PAGES * g->page_size;
    _cleanup_free_ uint8_t *pages = malloc(size);
    _cleanup_(digest_freep) struct digest *digest = digest_new(DIGEST_SHA256);
    if (!pages || !digest)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t block = p->first_block + (n > 1 ? i * (p->n_blocks - 1) / (n - 1) : 0);
        struct firehose_range range = nand_range(g, block, 1);
        range.count = SAMPLE_PAGES;
        int r = flash_safe_point(f, e);
        if (r == 0)
            r = firehose_read_pages(f->session->firehose, &range, true, pages, e);
        if (r < 0)
            return r;
        digest_update(digest, pages, size);
    }
    digest_final(digest, sha256);
    return 0;
}

/* A fact more, where it can be had: a partition that cannot be read is none. */
static int remember_sample(struct flash *f, const struct mibib_partition *p, struct gate_sample *ret,
                           struct error *e)
{
    const struct nand_geometry *g = &f->session->geometry;
    struct error own = {0};
    *ret = (struct gate_sample){0};
    if (!p || !f->session->capabilities.skip_bad_block || g->pages_per_block < SAMPLE_PAGES ||
        p->n_blocks == 0 || p->first_block >= g->blocks || p->n_blocks > g->blocks - p->first_block)
        return 0;
    bool quiet = f->quiet;
    f->quiet = true;
    int r = take_sample(f, p, ret->sha256, &own);
    f->quiet = quiet;
    if (r == 0)
        ret->partition = *p;
    if (r == 0 || own.kind == ERROR_FIREHOSE_FAILED)
        return 0;
    *e = own;
    return r;
}

static bool changes(const struct flash *f, const struct mibib_partition *p)
{
    for (size_t i = 0; i < f->plan->n_steps; i++) {
        const struct plan_step *s = &f->plan->steps[i];
        if (f->steps[i].touched && s->first_block < p->first_block + p->n_blocks &&
            p->first_block < s->first_block + s->n_blocks)
            return true;
    }
    return false;
}

static int compare_sample(struct flash *f, const struct gate_sample *before, struct error *e)
{
    uint8_t now[SHA256_SIZE];
    char text[MIBIB_NAME_SIZE + 64];
    if (before->partition.n_blocks == 0 || changes(f, &before->partition))
        return 0;
    int r = take_sample(f, &before->partition, now, e);
    if (r < 0 || memcmp(now, before->sha256, SHA256_SIZE) == 0)
        return r;
    snprintf(text, sizeof(text), "its %s holds something else", before->partition.name);
    return not_the_same(e, text);
}

/* ---- all that is remembered ---- */

int gate_remember(struct flash *f, const struct mibib_table *modem, struct error *e)
{
    const struct sahara_identity *unit = &f->session->identity;
    const struct mibib_partition *rawdata = gate_partition(f, modem, "RAWDATA");
    struct error own = {0};

    if (unit->have_serial && unit->serial != 0) {
        gate_facts_done(&f->facts);
        return 0;
    }
    worker_log(f->worker,
               "the modem tells no serial number: should it go away in the middle, it is known "
               "again by its partition table, its project name, its bad blocks and its calibration");
    f->facts.table = modem ? mibib_print(modem) : NULL;
    if (modem && !f->facts.table)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = remember_sample(f, gate_partition(f, modem, "EFS2"), &f->facts.efs2, e);
    if (r == 0)
        r = remember_sample(f, rawdata, &f->facts.raw, e);
    if (r < 0 || !rawdata)
        return r;
    f->facts.rawdata = *rawdata;
    if (f->facts.project_read)
        return 0;
    f->quiet = true;
    r = read_project(f, &f->facts.project, &own);
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

static int compare_project(struct flash *f, struct error *e)
{
    _cleanup_free_ char *now = NULL;
    char text[2 * PROJECT_NAME_SIZE + 64];
    if (changes(f, &f->facts.rawdata))
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
    if (r == 0)
        r = compare_sample(f, &f->facts.raw, e);
    /* A firmware that ran writes to its EFS2 whenever it likes. */
    if (r == 0 && !f->booted && !f->session->ran_firmware)
        r = compare_sample(f, &f->facts.efs2, e);
    if (r == 0 && f->session->capabilities.skip_bad_block)
        r = compare_map(f, &now, e);
    f->quiet = false;
    return r;
}
