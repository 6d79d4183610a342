/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "nand.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"

enum { HEADER_SIZE = 4096, DATA_ALIGNMENT = 4096, FLIPPED_BYTE = 100, BLOCKS_MAX = 65536 };

static const char flash_magic[8] = {'Q', 'V', 'M', 'N', 'A', 'N', 'D', '1'};

struct flash_header {
    char magic[8];
    uint32_t page_size, pages_per_block, blocks, reserved;
    uint64_t states_offset, records_offset, data_offset;
};

static uint64_t align_up(uint64_t value)
{
    return (value + DATA_ALIGNMENT - 1) / DATA_ALIGNMENT * DATA_ALIGNMENT;
}

static struct flash_header header_for(uint32_t page_size, uint32_t pages_per_block, uint32_t blocks)
{
    struct flash_header h = {.page_size = page_size, .pages_per_block = pages_per_block, .blocks = blocks};

    memcpy(h.magic, flash_magic, sizeof(flash_magic));
    h.states_offset = HEADER_SIZE;
    h.records_offset = align_up(h.states_offset + (uint64_t)pages_per_block * blocks);
    h.data_offset = align_up(h.records_offset + (uint64_t)blocks * sizeof(struct block_record));
    return h;
}

static uint64_t size_of(const struct flash_header *h)
{
    return h->data_offset + (uint64_t)h->blocks * h->pages_per_block * h->page_size;
}

int nand_create(const char *path, uint32_t page_size, uint32_t pages_per_block, uint32_t blocks)
{
    struct flash_header h = header_for(page_size, pages_per_block, blocks);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int r = 0;

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size_of(&h)) < 0 || pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
        r = -EIO;
    close(fd);
    return r;
}

static void mark_from_scenario(struct nand *n)
{
    const struct scenario *s = n->scenario;

    for (size_t i = 0; i < s->bad.count; i++)
        if (s->bad.values[i] < n->blocks)
            nand_mark_bad(n, s->bad.values[i]);
    for (size_t i = 0; i < s->unreadable.count; i++)
        if (s->unreadable.values[i] < n->pages && n->states[s->unreadable.values[i]] == PAGE_WRITTEN)
            n->states[s->unreadable.values[i]] = PAGE_UNREADABLE;
}

int nand_open(struct nand *n, const char *path, struct scenario *s)
{
    struct flash_header h, want;
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h)) {
        close(fd);
        return -EBADMSG;
    }
    want = header_for(h.page_size, h.pages_per_block, h.blocks);
    if (h.blocks > BLOCKS_MAX || memcmp(&want, &h, sizeof(h)) || (uint64_t)st.st_size != size_of(&h)) {
        close(fd);
        return -EBADMSG;
    }
    *n = (struct nand){.page_size = h.page_size,
                       .pages_per_block = h.pages_per_block,
                       .blocks = h.blocks,
                       .pages = h.blocks * h.pages_per_block,
                       .map_size = (size_t)st.st_size,
                       .scenario = s};
    n->map = mmap(NULL, n->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (n->map == MAP_FAILED) {
        n->map = NULL;
        return -ENOMEM;
    }
    n->states = n->map + h.states_offset;
    n->records = (struct block_record *)(n->map + h.records_offset);
    n->data = n->map + h.data_offset;
    mark_from_scenario(n);
    return 0;
}

void nand_close(struct nand *n)
{
    if (n->map)
        munmap(n->map, n->map_size);
    n->map = NULL;
}

bool nand_block_bad(const struct nand *n, uint32_t block)
{
    return n->records[block].flags & BLOCK_BAD;
}

void nand_mark_bad(struct nand *n, uint32_t block)
{
    if (!nand_block_bad(n, block))
        trace("nand bad block=%u", block);
    n->records[block].flags |= BLOCK_BAD;
}

int nand_erase_block(struct nand *n, uint32_t block)
{
    struct block_record *record = &n->records[block];

    if (nand_block_bad(n, block)) {
        violation("erase of bad block=%u", block);
        return -EIO;
    }
    if (number_list_has(&n->scenario->fail_erase, block)) {
        nand_mark_bad(n, block);
        return -EIO;
    }
    memset(n->states + block * n->pages_per_block, PAGE_ERASED, n->pages_per_block);
    record->next_page = 0;
    record->flags &= (uint8_t)~BLOCK_INCOMPLETE;
    record->erase_count++;
    return 0;
}

/* Takes the page off the list, so that it flips only once. */
static void strike_off(struct number_list *l, uint32_t value)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->values[i] == value)
            l->values[i] = UINT32_MAX;
}

int nand_program_page(struct nand *n, uint32_t page, const uint8_t *data)
{
    uint32_t block = page / n->pages_per_block, index = page % n->pages_per_block;
    struct block_record *record = &n->records[block];
    uint8_t *cell = n->data + (size_t)page * n->page_size;

    if (nand_block_bad(n, block)) {
        violation("program of page=%u in bad block=%u", page, block);
        return -EIO;
    }
    if (number_list_has(&n->scenario->fail_program, block))
        return -EIO;
    if (n->states[page] != PAGE_ERASED) {
        /* Bits only go from 1 to 0; with its ECC wrong too the page cannot be read any more. */
        violation("program of page=%u which is not erased", page);
        n->states[page] = PAGE_UNREADABLE;
        return 0;
    }
    if (index < record->next_page)
        violation("program of page=%u out of order: next of block=%u is %u", page, block, record->next_page);
    memcpy(cell, data, n->page_size);
    if (number_list_has(&n->scenario->flip, page)) {
        cell[FLIPPED_BYTE] ^= 1;
        trace("nand flip page=%u", page);
        if (!n->scenario->flip_always)
            strike_off(&n->scenario->flip, page);
    }
    n->states[page] = PAGE_WRITTEN;
    record->next_page = (uint8_t)(index + 1);
    return 0;
}

enum page_state nand_page_state(const struct nand *n, uint32_t page)
{
    return n->states[page];
}

const uint8_t *nand_page(const struct nand *n, uint32_t page)
{
    return n->data + (size_t)page * n->page_size;
}

void nand_tear_page(struct nand *n, uint32_t page)
{
    trace("nand torn page=%u", page);
    n->states[page] = PAGE_UNREADABLE;
}

void nand_tear_block(struct nand *n, uint32_t block)
{
    trace("nand torn block=%u", block);
    memset(n->states + block * n->pages_per_block, PAGE_UNREADABLE, n->pages_per_block);
    n->records[block].next_page = (uint8_t)n->pages_per_block;
}

void nand_set_incomplete(struct nand *n, uint32_t block, bool incomplete)
{
    if (incomplete)
        n->records[block].flags |= BLOCK_INCOMPLETE;
    else
        n->records[block].flags &= (uint8_t)~BLOCK_INCOMPLETE;
}
