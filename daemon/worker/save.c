/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading, piece by piece (look.h), into the writer: each while the next one comes. */

#include "worker/save.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#define LLU(n) ((unsigned long long)(n))

enum {
    MIB = 1024 * 1024,
    ROOM_BESIDES = 4 * MIB,    /* manifest, XML, sums */
    PIECE_BYTES = 1024 * 1024, /* of one read command; the modem waits while it is judged */
    PORTION_BYTES = 32 * 1024,
    PPM = 1000000,
};

void save_done(struct save *s)
{
    free(s->ranges);
    nand_map_done(&s->map);
    save_cache_done(&s->cache);
    s->writer = backup_writer_free(s->writer);
    *s = (struct save){0};
}

static const struct nand_geometry *geometry(const struct save *s)
{
    return &s->session->geometry;
}

/* ---- before ---- */

static void cut_to_chip(struct save *s)
{
    uint64_t blocks = geometry(s)->blocks;
    while (s->n_ranges > 0 && s->ranges[s->n_ranges - 1].first_block >= blocks)
        s->n_ranges--;
    if (s->n_ranges > 0) {
        struct save_range *last = &s->ranges[s->n_ranges - 1];
        last->n_blocks = MIN_OF(last->n_blocks, blocks - last->first_block);
    }
}

/* How this programmer, in this appearance, lets bad blocks be known. */
static enum backup_map map_of(const struct session *s)
{
    if (s->capabilities.skip_bad_block)
        return BACKUP_MAP_READ;
    /* A list that is full may have been cut. */
    bool whole = s->storage.bad_block_list && s->storage.n_bad_blocks < ARRAY_SIZE(s->storage.bad_blocks);
    return whole ? BACKUP_MAP_TOLD : BACKUP_MAP_NONE;
}

static int prepare_map(struct save *s)
{
    const struct firehose_storage *told = &s->session->storage;
    nand_map_done(&s->map);
    int r = nand_map_init(&s->map, geometry(s)->blocks);
    if (r == 0 && map_of(s->session) == BACKUP_MAP_TOLD)
        for (size_t i = 0; i < told->n_bad_blocks; i++)
            nand_map_set(&s->map, told->bad_blocks[i], true);
    return r;
}

/*
 * Behind the table's four pages nothing is written as a rule: one of 0xEE there shows how this programmer
 * fills. Anything else settles nothing, one of 0xFF may have been written.
 */
static int probe_fill(struct save *s, uint64_t mibib_block, struct error *e)
{
    const struct nand_geometry *g = geometry(s);
    if (mibib_block == UINT64_MAX || g->pages_per_block <= MIBIB_PAGES)
        return 0;
    _cleanup_free_ uint8_t *page = malloc(g->page_size);
    if (!page)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = nand_read_page(s->session->firehose, g, mibib_block, g->pages_per_block - 1,
                           s->look.how == BACKUP_MAP_READ, page, e);
    if (r < 0)
        return r;
    s->look.fill_settled = page[0] == LOOK_ERASED_EE && memcmp(page, page + 1, g->page_size - 1) == 0;
    return 0;
}

int save_check_room(const struct save *s, int fd, uint32_t block_size, const char *way_out, struct error *e)
{
    struct statvfs v;
    uint64_t need = ROOM_BESIDES;
    for (size_t i = 0; i < s->n_ranges; i++)
        need += s->ranges[i].n_blocks * block_size;
    if (fstatvfs(fd, &v) < 0)
        return error_set(e, ERROR_NO_SPACE, "the room for a backup cannot be told: %s", strerror(errno));
    uint64_t left = (uint64_t)v.f_bavail * v.f_frsize;
    /* A file system without blocks has no limit: a tmpfs that was given none. */
    if (v.f_blocks == 0 || left >= need)
        return 0;
    return error_set(
        e, ERROR_NO_SPACE,
        "what is saved may take %llu MiB, and %llu MiB are free where backups are kept; nothing was "
        "started%s",
        LLU((need + MIB - 1) / MIB), LLU(left / MIB), way_out);
}

int save_begin(struct save *s, int fd, const struct backup *facts, uint64_t mibib_block, struct error *e)
{
    struct backup with_session = *facts;
    if (geometry(s)->blocks == 0)
        return error_set(
            e, ERROR_GEOMETRY_DIFFERS,
            "the programmer does not tell the size of the flash, so it cannot be read as a whole");
    cut_to_chip(s);
    if (s->n_ranges == 0)
        return error_set(e, ERROR_INVALID_ARGS, "there is nothing to save");
    with_session.geometry = *geometry(s);
    with_session.map = map_of(s->session);
    s->geometry = *geometry(s);
    s->writer = backup_writer_free(s->writer);
    s->made = NULL;
    s->range = 0;
    s->in_range = false;
    s->blocks_done = s->blocks_total = 0;
    for (size_t i = 0; i < s->n_ranges; i++)
        s->blocks_total += s->ranges[i].n_blocks;
    s->piece = MAX_OF(PIECE_BYTES / nand_block_size(geometry(s)), (uint32_t)1);
    if (prepare_map(s) < 0)
        return error_set(e, ERROR_FAILED, "no room for a map of %llu blocks", LLU(geometry(s)->blocks));
    s->look =
        (struct look){.session = s->session, .how = with_session.map, .map = &s->map, .fill = LOOK_ERASED_EE};
    int r = save_cache_open(&s->cache, s->keeps_cache ? s->session->worker->fd_journal : -1, fd, s->session,
                            s->look.how, s->cache_anew, e);
    if (r == 0)
        r = probe_fill(s, mibib_block, e);
    return r < 0 ? r : backup_writer_new(fd, &with_session, &s->writer, e);
}

bool save_goes_on(const struct save *s)
{
    const struct nand_geometry *a = &s->geometry, *b = geometry(s);
    return s->writer && s->session->recognized && !s->session->ran_firmware && a->page_size == b->page_size &&
           a->pages_per_block == b->pages_per_block && a->blocks == b->blocks &&
           s->look.how == map_of(s->session);
}

void save_smaller_pieces(struct save *s)
{
    s->piece = MAX_OF(s->piece / 2, (uint64_t)1);
}

/* ---- all of it ---- */

/* What was read and judged is hashed and written while the next piece comes: the modem does not wait for it.
 */
struct belt {
    struct save *s;
    struct look_piece coming, going;
    uint64_t gone; /* pages of `going` that are in the file */
    uint64_t at;   /* where the block lies there that the next of them is in */
    int r;         /* of writing, and why */
    struct error e;
};

static uint64_t pages_of(const struct belt *b)
{
    return b->going.n * geometry(b->s)->pages_per_block;
}

/* Pages of one block, at most up to this one. */
static void put_pages(struct belt *b, uint64_t up_to)
{
    struct save *s = b->s;
    uint32_t pages = geometry(s)->pages_per_block, first = (uint32_t)(b->gone % pages),
             n = (uint32_t)MIN_OF(up_to - b->gone, (uint64_t)(pages - first));
    uint64_t block = b->gone / pages;
    const uint8_t *data = b->going.data + block * nand_block_size(geometry(s)),
                  *states = b->going.states + block * pages;
    if (first == 0)
        b->at = backup_writer_offset(s->writer);
    b->r = backup_writer_pages(s->writer, states, data, first, n, &b->e);
    if (b->r == 0 && first + n == pages)
        save_cache_note(&s->cache, b->going.first + block, b->at, data, states);
    b->gone += n;
}

/* As much of the last piece as has come of the next: in portions of half of what the modem can send without
 * our attention. */
static void put_meanwhile(void *userdata, uint64_t bytes)
{
    struct belt *b = userdata;
    uint64_t up_to = MIN_OF(bytes / PORTION_BYTES * PORTION_BYTES / geometry(b->s)->page_size, pages_of(b));
    while (b->r == 0 && b->gone < up_to)
        put_pages(b, up_to);
}

static int put_rest(struct belt *b, struct error *e)
{
    struct save *s = b->s;
    while (b->r == 0 && b->gone < pages_of(b))
        put_pages(b, pages_of(b));
    if (b->r < 0) {
        *e = b->e;
        return b->r;
    }
    if (b->going.n == 0)
        return 0;
    s->blocks_done += b->going.n;
    b->going.n = b->gone = 0;
    if (s->tell_progress)
        worker_progress(s->session->worker, s->blocks_done * PPM / s->blocks_total,
                        s->blocks_done * nand_block_size(geometry(s)),
                        s->blocks_total * nand_block_size(geometry(s)));
    return 0;
}

/* What has come goes; its place is free for the next. */
static int turn(struct belt *b, struct error *e)
{
    int r = put_rest(b, e);
    if (r < 0)
        return r;
    struct look_piece came = b->coming;
    b->coming = b->going;
    b->going = came;
    b->s->block += came.n;
    return 0;
}

/* How many blocks from the next one on are read with one command; 0: it is one that is told to be bad. */
static uint64_t next_run(const struct save *s, const struct save_range *range)
{
    uint64_t left = range->first_block + range->n_blocks - s->block, n = 0;
    if (s->look.how == BACKUP_MAP_NONE)
        return 1;
    if (s->look.how == BACKUP_MAP_READ)
        return MIN_OF(s->piece, left);
    while (n < MIN_OF(s->piece, left) && !nand_map_is_bad(&s->map, s->block + n))
        n++;
    return n;
}

static int save_some(struct belt *belt, struct error *e)
{
    struct save *s = belt->s;
    struct look_piece *p = &belt->coming;
    const struct save_range *range = &s->ranges[s->range];
    struct window *w = &s->session->window;
    p->first = s->block;
    p->n = next_run(s, range);
    int r = 0;
    /* What only the unit has may be other than it was before an interruption that nobody watched. */
    if (!range->unit_data && save_cache_take(&s->cache, s->block, p->data, p->states) > 0) {
        p->n = 1;
    } else if (p->n > 0) {
        uint64_t n = window_fit(w, WINDOW_WORK(WINDOW_READ), p->n, now_usec());
        if (n == 0) {
            r = put_rest(belt, e);
            return r < 0 ? r : session_let_pass(s->session, e);
        }
        p->n = n;
        window_begun(w, n);
        usec_t start = now_usec();
        r = look_at_piece(&s->look, p, range->unit_data, e);
        if (r == 0)
            window_took(w, WINDOW_READ, p->n, now_usec() - start);
    } else {
        p->n = 1;
        memset(p->states, NAND_PAGE_BAD, geometry(s)->pages_per_block);
    }
    return r < 0 ? r : turn(belt, e);
}

/* No command is in hand: whoever wants an end may have it, but for a flash that was begun. */
static int safe_point(struct save *s, struct error *e)
{
    return worker_check_as(s->session->worker, s->locked, e);
}

static int save_range(struct belt *belt, struct error *e)
{
    struct save *s = belt->s;
    const struct save_range *range = &s->ranges[s->range];
    int r = 0;
    worker_phase(s->session->worker, "backup", range->name);
    if (!s->in_range) {
        r = backup_writer_begin(s->writer, range->name, range->first_block, range->n_blocks, e);
        s->block = range->first_block;
        s->in_range = r == 0;
    }
    while (r == 0 && s->block < range->first_block + range->n_blocks) {
        r = safe_point(s, e);
        if (r == 0)
            r = save_some(belt, e);
    }
    /* Also when the modem is gone: what was read and ACKed stays. */
    struct error own = {0};
    int written = put_rest(belt, &own);
    if (written < 0) {
        *e = own;
        return written;
    }
    if (r == 0)
        r = backup_writer_end(s->writer, e);
    if (r < 0)
        return r;
    s->in_range = false;
    s->range++;
    return 0;
}

static int run(struct save *s, struct error *e)
{
    size_t block_size = nand_block_size(geometry(s)), room = MAX_OF((size_t)PIECE_BYTES, block_size),
           pages = room / geometry(s)->page_size;
    _cleanup_free_ uint8_t *data = malloc(2 * room), *states = malloc(2 * pages);
    if (!data || !states)
        return error_set(e, ERROR_FAILED, "out of memory");
    struct belt belt = {.s = s,
                        .coming = {.data = data, .states = states},
                        .going = {.data = data + room, .states = states + pages}};
    int r = 0;
    s->look.meanwhile = put_meanwhile;
    s->look.userdata = &belt;
    while (r == 0 && s->range < s->n_ranges)
        r = save_range(&belt, e);
    s->look.meanwhile = NULL;
    if (r == 0 && !s->made)
        r = backup_writer_finish(s->writer, &s->made, e);
    return r;
}

int save_run(struct save *s, struct error *e)
{
    struct worker *w = s->session->worker;
    struct error own = {0};
    bool critical = w->critical;
    /* CANCEL and STOP wait for the command in hand: a read that is left in the middle leaves the modem stuck.
     */
    w->critical = true;
    s->session->quiet = true;
    int r = run(s, e ? e : &own);
    s->session->quiet = false;
    w->critical = critical;
    return r;
}
