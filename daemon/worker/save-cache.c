/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/save-cache.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"

enum { ERASED = 0xff, PAGES_MAX = 1024, HEAD = 2 * sizeof(uint64_t) };

/* A record: block and offset (the host's byte order: it is read where it was written), states, checksum. */
static size_t record_size(const struct save_cache *c)
{
    return HEAD + c->geometry.pages_per_block + GMAC_SIZE;
}

/* The number says how a record looks: with another one, or a SHA-256 as version 1 had, it is not ours. */
static int make_key(struct save_cache *c, const struct sahara_identity *unit, enum backup_map how)
{
    _cleanup_free_ char *text =
        text_printf("qdld-save 2 %08x %u %u %" PRIu64 " %d", unit->serial, c->geometry.page_size,
                    c->geometry.pages_per_block, c->geometry.blocks, (int)how);
    return text ? digest_sha256(text, strlen(text), c->key) : -ENOMEM;
}

static int sum_record(const struct save_cache *c, const uint8_t *record, const uint8_t *data,
                      uint8_t ret[GMAC_SIZE])
{
    struct iovec pieces[1 + PAGES_MAX] = {{(void *)record, record_size(c) - GMAC_SIZE}};
    size_t n = 1, size = c->geometry.page_size;
    for (uint32_t i = 0; i < c->geometry.pages_per_block; i++) {
        if (record[HEAD + i] != NAND_PAGE_DATA)
            continue;
        if (i > 0 && record[HEAD + i - 1] == NAND_PAGE_DATA)
            pieces[n - 1].iov_len += size;
        else
            pieces[n++] = (struct iovec){(void *)(data + i * size), size};
    }
    return digest_gmac(c->key, pieces, n, ret);
}

/* Where each block's last record lies; a journal of another key is emptied. */
static int load(struct save_cache *c)
{
    uint8_t found[SHA256_SIZE];
    struct stat st;
    uint64_t head[2];
    if (fstat(c->fd_journal, &st) < 0)
        return -errno;
    if (st.st_size < SHA256_SIZE || io_pread_full(c->fd_journal, found, sizeof(found), 0) < 0 ||
        memcmp(found, c->key, sizeof(found)) != 0)
        return 0;
    c->end = SHA256_SIZE;
    while (c->end + record_size(c) <= (uint64_t)st.st_size) {
        if (io_pread_full(c->fd_journal, head, sizeof(head), c->end) < 0 || head[0] >= c->geometry.blocks)
            return 0;
        c->blocks[head[0]] = (struct save_cache_block){.offset = head[1], .record = c->end};
        c->end += record_size(c);
    }
    return 0;
}

int save_cache_open(struct save_cache *c, int fd_journal, int fd_file, const struct session *s,
                    enum backup_map how, bool anew, struct error *e)
{
    const struct sahara_identity unit = session_unit(s);
    *c = (struct save_cache){.fd_journal = fd_journal, .fd_file = fd_file, .geometry = s->geometry};
    if (fd_journal < 0 || !unit.have_serial || unit.serial == 0 || c->geometry.pages_per_block > PAGES_MAX)
        return 0;
    c->blocks = calloc(c->geometry.blocks, sizeof(*c->blocks));
    if (!c->blocks || make_key(c, &unit, how) < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    for (uint64_t i = 0; i < c->geometry.blocks; i++)
        c->blocks[i].record = UINT64_MAX;
    if (!anew && load(c) < 0)
        c->end = 0;
    if (c->end == 0 &&
        (ftruncate(fd_journal, 0) < 0 || io_pwrite_full(fd_journal, c->key, SHA256_SIZE, 0) < 0))
        save_cache_done(c);
    if (c->end == 0)
        c->end = SHA256_SIZE;
    return 0;
}

void save_cache_done(struct save_cache *c)
{
    free(c->blocks);
    c->blocks = NULL;
}

int save_cache_take(struct save_cache *c, uint64_t block, uint8_t *data, uint8_t *states)
{
    uint8_t record[HEAD + PAGES_MAX + GMAC_SIZE], sum[GMAC_SIZE];
    uint32_t pages = c->geometry.pages_per_block, size = c->geometry.page_size;
    if (!c->blocks || c->blocks[block].record == UINT64_MAX)
        return 0;
    const struct save_cache_block *b = &c->blocks[block];
    if (io_pread_full(c->fd_journal, record, record_size(c), b->record) < 0)
        return 0;
    memset(data, ERASED, (size_t)pages * size);
    for (uint32_t i = 0; i < pages; i++)
        if (record[HEAD + i] == NAND_PAGE_DATA &&
            io_pread_full(c->fd_file, data + (size_t)i * size, size, b->offset + (uint64_t)i * size) < 0)
            return 0;
    if (sum_record(c, record, data, sum) < 0 ||
        memcmp(sum, record + record_size(c) - GMAC_SIZE, GMAC_SIZE) != 0)
        return 0;
    memcpy(states, record + HEAD, pages);
    c->taken++;
    return 1;
}

void save_cache_note(struct save_cache *c, uint64_t block, uint64_t offset, const uint8_t *data,
                     const uint8_t *states)
{
    uint8_t record[HEAD + PAGES_MAX + GMAC_SIZE];
    const uint64_t head[2] = {block, offset};
    if (!c->blocks)
        return;
    memcpy(record, head, sizeof(head));
    memcpy(record + HEAD, states, c->geometry.pages_per_block);
    if (sum_record(c, record, data, record + record_size(c) - GMAC_SIZE) < 0 ||
        io_pwrite_full(c->fd_journal, record, record_size(c), c->end) < 0) {
        save_cache_done(c);
        return;
    }
    c->end += record_size(c);
}
