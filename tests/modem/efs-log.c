/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "efs.h"

#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "trace.h"

enum { TEXT_SIZE = 64, RECORD_HEAD = 4, SEQUENCE_FIRST = 1, PAGE_SIZE_MAX = 65536 / 4 };

static const char magic[8] = {'Q', 'V', 'M', 'E', 'F', 'S', '2', 0};

struct page_head {
    char magic[8];
    uint32_t sequence, base, page, used, serial, reserved;
    uint64_t sum;
};

struct found_page {
    uint32_t sequence, page;
};

enum { RECORDS_OFFSET = TEXT_SIZE + sizeof(struct page_head) };

static size_t capacity(const struct efs *e)
{
    return e->nand->page_size - RECORDS_OFFSET;
}

size_t efs_log_record_max(const struct efs *e)
{
    return capacity(e) - RECORD_HEAD;
}

static uint64_t sum_of(const uint8_t *page, uint32_t page_size)
{
    uint64_t sum = 0;

    for (uint32_t at = TEXT_SIZE; at < page_size; at += sizeof(uint64_t)) {
        uint64_t word = 0;

        if (at != TEXT_SIZE + offsetof(struct page_head, sum))
            memcpy(&word, page + at, sizeof(word));
        sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
        sum ^= sum >> 29;
    }
    return sum;
}

/* ---- the way back: pages to content ---- */

/* A copy of the page, for a test may write to the flash file at any time, and its head. */
static bool read_page(const struct efs *e, uint32_t page, uint8_t *bytes, struct page_head *head)
{
    memcpy(bytes, nand_page(e->nand, page), e->nand->page_size);
    if (nand_page_state(e->nand, page) != PAGE_WRITTEN)
        return false;
    memcpy(head, bytes + TEXT_SIZE, sizeof(*head));
    return memcmp(head->magic, magic, sizeof(magic)) == 0 && head->page == page &&
           head->used <= capacity(e) && head->sum == sum_of(bytes, e->nand->page_size);
}

static int by_sequence(const void *a, const void *b)
{
    const struct found_page *x = a, *y = b;

    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static bool has_end(const uint8_t *text, size_t length)
{
    return memchr(text, 0, length) != NULL;
}

static void replay_data(struct efs *e, const uint8_t *body, size_t length)
{
    uint32_t offset;
    uint16_t path_length;

    if (length < 6)
        return;
    memcpy(&offset, body, sizeof(offset));
    memcpy(&path_length, body + 4, sizeof(path_length));
    if (path_length <= length - 6 && has_end(body + 6, path_length))
        efs_write(e, (const char *)body + 6, offset, body + 6 + path_length, length - 6 - path_length);
}

/* The log is not written to while it is read: these changes stay in memory. */
static void replay(struct efs *e, enum efs_record type, const uint8_t *body, size_t length)
{
    uint16_t words[2];
    const char *path;

    if (type == EFS_RECORD_DATA) {
        replay_data(e, body, length);
    } else if (type == EFS_RECORD_NV && length == sizeof(words) + EFS_NV_SIZE) {
        memcpy(words, body, sizeof(words));
        efs_nv_put(e, words[0], words[1], body + sizeof(words));
    } else if (type == EFS_RECORD_NODE && length > 8 && has_end(body + 8, length - 8)) {
        memcpy(words, body, sizeof(words));
        memcpy(&e->clock, body + 4, sizeof(e->clock));
        efs_create(e, (const char *)body + 8, words[0], false);
    } else if (type == EFS_RECORD_GONE && has_end(body, length)) {
        efs_remove(e, (const char *)body);
    } else if (type == EFS_RECORD_RENAME && has_end(body, length)) {
        path = (const char *)body;
        if (has_end(body + strlen(path) + 1, length - strlen(path) - 1))
            efs_rename(e, path, path + strlen(path) + 1);
    }
}

static bool replay_page(struct efs *e, uint32_t page)
{
    uint8_t bytes[PAGE_SIZE_MAX], *records = bytes + RECORDS_OFFSET;
    struct page_head head;

    if (!read_page(e, page, bytes, &head))
        return false;
    for (size_t at = 0; at + RECORD_HEAD <= head.used;) {
        uint16_t length;

        memcpy(&length, records + at + 2, sizeof(length));
        if (length > head.used - at - RECORD_HEAD)
            return false;
        replay(e, records[at], records + at + RECORD_HEAD, length);
        at += RECORD_HEAD + length;
    }
    return true;
}

static bool find_partition(struct efs *e)
{
    const struct partition *p;
    struct layout l;

    if (!layout_read(e->nand, &l) || !(p = layout_find(&l, "EFS2")) || p->blocks == 0)
        return false;
    e->log.first_block = e->log.block = p->first_block;
    e->log.blocks = p->blocks;
    e->log.pages_per_block = e->nand->pages_per_block;
    e->log.newest = calloc(p->blocks, sizeof(*e->log.newest));
    if (!e->log.newest)
        abort();
    return true;
}

/* All whole pages of the partition, by sequence. */
static struct found_page *find_pages(struct efs *e, size_t *ret_count, uint32_t *ret_base)
{
    uint32_t ppb = e->nand->pages_per_block, highest = 0;
    struct found_page *found = calloc((size_t)e->log.blocks * ppb, sizeof(*found));
    size_t count = 0;

    if (!found)
        abort();
    for (uint32_t i = 0; i < e->log.blocks * ppb; i++) {
        uint32_t page = e->log.first_block * ppb + i;
        uint8_t bytes[PAGE_SIZE_MAX];
        struct page_head head;

        if (!read_page(e, page, bytes, &head))
            continue;
        found[count++] = (struct found_page){head.sequence, page};
        if (head.sequence > e->log.newest[i / ppb])
            e->log.newest[i / ppb] = head.sequence;
        if (head.sequence > highest) {
            highest = head.sequence;
            *ret_base = head.base;
            e->log.block = e->log.first_block + i / ppb;
        }
    }
    qsort(found, count, sizeof(*found), by_sequence);
    *ret_count = count;
    return found;
}

bool efs_log_read(struct efs *e)
{
    struct found_page *found;
    uint32_t base = 0;
    size_t count = 0, first = 0;
    bool whole;

    efs_empty(e);
    if (!find_partition(e))
        return false;
    found = find_pages(e, &count, &base);
    while (first < count && found[first].sequence < base)
        first++;
    whole = first < count && found[first].sequence == base;
    for (size_t i = first + 1; whole && i < count; i++)
        whole = found[i].sequence == found[i - 1].sequence + 1;
    for (size_t i = first; whole && i < count; i++)
        whole = replay_page(e, found[i].page);
    if (whole) {
        e->log.sequence = found[count - 1].sequence + 1;
        e->log.base = base;
    } else {
        efs_empty(e);
    }
    free(found);
    e->log.page = calloc(1, e->nand->page_size);
    if (!e->log.page)
        abort();
    return whole;
}

/* ---- the way there: changes to pages ---- */

static bool page_free(const struct efs *e, uint32_t block, uint32_t *ret_page)
{
    uint32_t ppb = e->nand->pages_per_block;

    if (nand_block_bad(e->nand, block))
        return false;
    for (uint32_t i = e->nand->records[block].next_page; i < e->log.pages_per_block; i++) {
        *ret_page = block * ppb + i;
        if (nand_page_state(e->nand, *ret_page) == PAGE_ERASED)
            return true;
    }
    return false;
}

/* The next page of the block where the last one went, else of the next block that has one. */
static bool next_page(struct efs *e, uint32_t *ret_page)
{
    for (uint32_t i = 0; i < e->log.blocks; i++) {
        uint32_t block = e->log.first_block + (e->log.block - e->log.first_block + i) % e->log.blocks;

        if (page_free(e, block, ret_page)) {
            e->log.block = block;
            return true;
        }
    }
    return false;
}

/* A page onto the chip, whatever is in it. */
static void write_page(struct efs *e)
{
    uint8_t bytes[PAGE_SIZE_MAX];
    struct page_head head = {.sequence = e->log.sequence, .base = e->log.base, .serial = e->serial};
    uint32_t ppb = e->nand->pages_per_block, page;

    if (e->log.counting) {
        e->log.counted++;
        e->log.used = 0;
        return;
    }
    while (next_page(e, &page)) {
        layout_unit_page("EFS2", e->serial, page - e->log.first_block * ppb, bytes, e->nand->page_size);
        memcpy(head.magic, magic, sizeof(magic));
        head.page = page;
        head.used = (uint32_t)e->log.used;
        memcpy(bytes + RECORDS_OFFSET, e->log.page, e->log.used);
        head.sum = 0;
        memcpy(bytes + TEXT_SIZE, &head, sizeof(head));
        head.sum = sum_of(bytes, e->nand->page_size);
        memcpy(bytes + TEXT_SIZE, &head, sizeof(head));
        if (nand_program_page(e->nand, page, bytes) == 0) {
            e->log.newest[page / ppb - e->log.first_block] = e->log.sequence++;
            e->log.used = 0;
            return;
        }
        nand_mark_bad(e->nand, page / ppb);
    }
    trace("efs full, a page is lost");
    e->log.used = 0;
}

void efs_log_append(struct efs *e, enum efs_record type, const void *head, size_t head_length,
                    const void *body, size_t body_length)
{
    uint16_t length = (uint16_t)(head_length + body_length);
    uint8_t *p;

    if (!e->log.page)
        return;
    if (e->log.used + RECORD_HEAD + length > capacity(e))
        write_page(e);
    p = e->log.page + e->log.used;
    p[0] = (uint8_t)type;
    p[1] = 0;
    memcpy(p + 2, &length, sizeof(length));
    if (head_length)
        memcpy(p + RECORD_HEAD, head, head_length);
    if (body_length)
        memcpy(p + RECORD_HEAD + head_length, body, body_length);
    e->log.used += RECORD_HEAD + (size_t)length;
    e->log.unsynced++;
}

void efs_log_sync(struct efs *e)
{
    if (e->log.page && e->log.used)
        write_page(e);
    e->log.unsynced = 0;
}

static void snapshot_node(struct efs *e, const struct efs_node *n)
{
    struct {
        uint16_t mode, zero;
        uint32_t time;
    } head = {n->mode, 0, n->time};
    uint8_t chunk_head[6 + EFS_PATH_MAX];
    uint16_t path_length = (uint16_t)(strlen(n->path) + 1);
    size_t chunk = efs_log_record_max(e) - 6 - path_length;

    efs_log_append(e, EFS_RECORD_NODE, &head, sizeof(head), n->path, path_length);
    for (size_t at = 0; at < n->size; at += chunk) {
        uint32_t offset = (uint32_t)at;

        memcpy(chunk_head, &offset, sizeof(offset));
        memcpy(chunk_head + 4, &path_length, sizeof(path_length));
        memcpy(chunk_head + 6, n->path, path_length);
        efs_log_append(e, EFS_RECORD_DATA, chunk_head, (size_t)6 + path_length, n->data + at,
                       n->size - at < chunk ? n->size - at : chunk);
    }
}

void efs_log_snapshot(struct efs *e)
{
    for (size_t i = 0; i < e->node_count; i++)
        snapshot_node(e, e->nodes[i]);
    for (size_t i = 0; i < e->nv_count; i++)
        efs_log_append(e, EFS_RECORD_NV, &e->nvs[i], 2 * sizeof(uint16_t), e->nvs[i].data, EFS_NV_SIZE);
}

static uint32_t snapshot_pages(struct efs *e)
{
    e->log.counting = true;
    e->log.counted = 0;
    efs_log_snapshot(e);
    write_page(e);
    e->log.counting = false;
    return e->log.counted;
}

/* How many pages are free in a block. */
static uint32_t block_free(const struct efs *e, uint32_t block)
{
    uint32_t ppb = e->nand->pages_per_block, count = 0;

    if (nand_block_bad(e->nand, block))
        return 0;
    for (uint32_t i = e->nand->records[block].next_page; i < e->log.pages_per_block; i++)
        count += nand_page_state(e->nand, block * ppb + i) == PAGE_ERASED;
    return count;
}

static uint32_t free_pages(const struct efs *e)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < e->log.blocks; i++)
        count += block_free(e, e->log.first_block + i);
    return count;
}

/* The most pages that a snapshot can take: records do not cross pages, so up to half of each can be lost. */
static uint32_t snapshot_bound(const struct efs *e)
{
    size_t bytes = e->nv_count * (sizeof(struct efs_nv) + RECORD_HEAD);

    for (size_t i = 0; i < e->node_count; i++)
        bytes += e->nodes[i]->size + e->nodes[i]->size / 16 + 2 * EFS_PATH_MAX;
    return (uint32_t)(bytes * 2 / capacity(e) + 2);
}

/* Are there blocks that a snapshot of so many pages sets free? It goes into the next free ones. */
static bool compacting_helps(const struct efs *e, uint32_t pages)
{
    for (uint32_t i = 0; i < e->log.blocks; i++) {
        uint32_t block = e->log.first_block + (e->log.block - e->log.first_block + i) % e->log.blocks;
        uint32_t room = block_free(e, block);

        if (pages == 0 && !nand_block_bad(e->nand, block) && e->nand->records[block].next_page)
            return true;
        pages -= room < pages ? room : pages;
    }
    return false;
}

/* Everything anew into free pages; with the last of them the old log is not needed any more. */
static void compact(struct efs *e)
{
    uint32_t pages, base;

    efs_log_sync(e);
    pages = snapshot_pages(e);
    if (free_pages(e) <= pages || !compacting_helps(e, pages))
        return;
    trace("efs compacts into pages=%u", pages);
    base = e->log.sequence;
    efs_log_snapshot(e);
    e->log.base = base;
    write_page(e);
    for (uint32_t i = 0; i < e->log.blocks; i++) {
        uint32_t block = e->log.first_block + i;

        if (nand_block_bad(e->nand, block) || e->log.newest[i] >= base || !e->nand->records[block].next_page)
            continue;
        if (nand_erase_block(e->nand, block) == 0)
            e->log.newest[i] = 0;
    }
}

void efs_log_format(struct efs *e)
{
    if (!e->log.page)
        return;
    trace("efs formats");
    for (uint32_t i = 0; i < e->log.blocks; i++) {
        uint32_t block = e->log.first_block + i;

        e->log.newest[i] = 0;
        if (!nand_block_bad(e->nand, block))
            nand_erase_block(e->nand, block);
    }
    e->log.sequence = e->log.base = SEQUENCE_FIRST;
    e->log.block = e->log.first_block;
    e->mounted = true;
    write_page(e);
}

int efs_log_reserve(struct efs *e, size_t bytes)
{
    size_t pages = (bytes + RECORD_HEAD) * 2 / capacity(e) + 2;

    if (!e->log.page)
        return 0;
    if (e->log.blocks == 0)
        return EFS_ENOSPC;
    if (!e->mounted)
        efs_log_format(e);
    if (e->scenario->efs_journal && e->log.unsynced >= (uint64_t)e->scenario->efs_journal)
        return EFS_ENOSPC;
    if (free_pages(e) < pages + snapshot_bound(e))
        compact(e);
    return free_pages(e) >= pages ? 0 : EFS_ENOSPC;
}

/* ---- the factory ---- */

bool efs_log_fresh(struct efs *e, uint32_t pages_per_block)
{
    uint32_t pages, fillers;

    if (!find_partition(e))
        return true; /* nothing to write into */
    e->log.page = calloc(1, e->nand->page_size);
    if (!e->log.page)
        abort();
    e->mounted = true;
    e->log.sequence = e->log.base = SEQUENCE_FIRST;
    pages = snapshot_pages(e);
    e->log.pages_per_block = pages_per_block;
    fillers = free_pages(e) > pages ? free_pages(e) - pages : 0;
    if (!fillers)
        e->log.pages_per_block = e->nand->pages_per_block;
    if (free_pages(e) < pages)
        return false;
    for (uint32_t i = 0; i < fillers; i++)
        write_page(e);
    efs_log_snapshot(e);
    efs_log_sync(e);
    return true;
}

void efs_log_free(struct efs *e)
{
    free(e->log.page);
    free(e->log.newest);
    e->log = (struct efs_log){0};
}
