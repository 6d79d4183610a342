/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Addresses and reading. Inside one command a programmer walks the good blocks from the command's start block
 * on: the nth good block is logical block n (reference/edl.md 2.6). With skip_bad_block="1" a read is
 * physical.
 */

#include "programmer.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

enum {
    FILL_FF_BYTE = 0xFF,
    FILL_EE_BYTE = 0xEE,
    FILL_UNREADABLE = 0xFA,
    FILL_BAD_BLOCK = 0xBD,
    OPEN_ERROR = 4
};

/* ---- addresses ---- */

/* A whole unsigned number, decimal or hex, nothing around it. */
static bool parse_u32(const char *text, uint32_t *ret)
{
    char *end;
    unsigned long long v;

    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoull(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
    if (errno || *end || v > UINT32_MAX)
        return false;
    *ret = (uint32_t)v;
    return true;
}

/* start_sector may count from the end: NUM_DISK_SECTORS-33. */
static bool parse_start(const struct programmer *p, const char *text, uint32_t *ret)
{
    static const char symbol[] = "NUM_DISK_SECTORS-";
    char digits[16];
    uint32_t back;
    size_t n;

    if (!text || strncmp(text, symbol, sizeof(symbol) - 1))
        return parse_u32(text, ret);
    n = strcspn(text + sizeof(symbol) - 1, ".");
    if (n >= sizeof(digits))
        return false;
    snprintf(digits, sizeof(digits), "%.*s", (int)n, text + sizeof(symbol) - 1);
    if (!parse_u32(digits, &back) || back > p->nand->pages)
        return false;
    *ret = p->nand->pages - back;
    return true;
}

void range_parse(const struct programmer *p, const struct tag *t, struct range *r)
{
    const char *skip = tag_get(t, "skip_bad_block");

    *r = (struct range){0};
    r->has_sector_size = parse_u32(tag_get(t, "SECTOR_SIZE_IN_BYTES"), &r->sector_size);
    r->has_count = parse_u32(tag_get(t, "num_partition_sectors"), &r->count);
    r->has_start = parse_start(p, tag_get(t, "start_sector"), &r->start);
    r->has_last = p->knows_last_sector && parse_u32(tag_get(t, "last_sector"), &r->last);
    r->skip_bad_block = p->knows_skip_bad_block && skip && strcmp(skip, "0") && strcmp(skip, "false");
}

uint32_t range_good_block(const struct programmer *p, const struct range *r, uint32_t block)
{
    for (; block <= r->last_block; block++)
        if (!nand_block_bad(p->nand, block))
            return block;
    return UINT32_MAX;
}

bool storage_open(struct programmer *p, int *ret)
{
    if (!p->nand_selected || p->scenario->storage == STORAGE_DEAD) {
        *ret = 0;
        if (p->nand_selected)
            *ret = speak_log(p, "WARN: [205]NAND Error -2 (4)");
        if (*ret == 0)
            *ret = speak_nak(p, "ERROR: Failed to open device, type:%s, slot:0, lun:0 error:%d",
                             p->memory_name, OPEN_ERROR);
        return false;
    }
    if (p->opened) {
        *ret = speak_log(p, "INFO: NAND was previously open, returning existing handle 0.");
        return *ret == 0;
    }
    p->opened = true;
    *ret = front_busy(p->front, p->scenario->open_ms * 1000);
    if (*ret == 0)
        *ret = speak_log(p, "INFO: [297] bbt_size:100 blocks:800.");
    return *ret == 0;
}

/* Sector size, pages a block, partition: do they fit this chip? Refusals as the two families word them. */
static bool geometry_fits(struct programmer *p, const struct tag *t, const struct range *r, int *ret)
{
    const char *pages_text = tag_get(t, "PAGES_PER_BLOCK"), *lun = tag_get(t, "physical_partition_number");
    uint32_t pages;

    if (r->sector_size != p->nand->page_size) {
        *ret =
            p->is_9x07
                ? speak_nak(p,
                            "ERROR: Attribute 'SECTOR_SIZE_IN_BYTES'=%u must be equal to disk sector size %u",
                            r->sector_size, p->nand->page_size)
                : speak_nak(p,
                            "ERROR: sector size defined in XML (%u) different from device sector size (%u)",
                            r->sector_size, p->nand->page_size);
        return false;
    }
    if (p->is_9x07 && !pages_text) {
        *ret = speak_nak(p, "ERROR: Attribute 'PAGES_PER_BLOCK' is missing");
        return false;
    }
    if (p->knows_pages_per_block && pages_text &&
        (!parse_u32(pages_text, &pages) || pages != p->nand->pages_per_block)) {
        *ret =
            speak_nak(p, "ERROR: Attribute 'PAGES_PER_BLOCK'=%.32s must be equal to disk pages per block %u",
                      pages_text, p->nand->pages_per_block);
        return false;
    }
    if (lun && strcmp(lun, "0")) {
        *ret = speak_nak(p, "ERROR: Failed to open device, type:nand, slot:0, lun:%.8s error:%d", lun,
                         OPEN_ERROR);
        return false;
    }
    return true;
}

int range_check(struct programmer *p, const struct tag *t, struct range *r, int *ret)
{
    struct nand *n = p->nand;

    if (!storage_open(p, ret))
        return 1;
    if (!r->has_sector_size || !r->has_count || !r->has_start || r->count == 0) {
        *ret = speak_nak(
            p, "ERROR: Failed to parse SECTOR_SIZE_IN_BYTES, num_partition_sectors or start_sector");
        return 1;
    }
    if (!geometry_fits(p, t, r, ret))
        return 1;
    if (r->start >= n->pages || r->count > n->pages - r->start ||
        (r->has_last && (r->last >= n->pages || r->last < r->start))) {
        *ret = speak_nak(p, "ERROR: Failed to set the IO options: sectors %u+%u, last %u of %u", r->start,
                         r->count, r->last, n->pages);
        return 1;
    }
    r->first_block = r->start / n->pages_per_block;
    r->last_block = r->has_last ? r->last / n->pages_per_block : n->blocks - 1;
    return 0;
}

/* ---- reading ---- */

struct reader {
    struct programmer *programmer;
    const struct range *range;
    uint32_t block, index; /* UINT32_MAX: no good block left */
};

static void reader_start(struct reader *d, struct programmer *p, const struct range *r)
{
    *d = (struct reader){p, r, r->first_block, r->start % p->nand->pages_per_block};
    if (!r->skip_bad_block)
        d->block = range_good_block(p, r, d->block);
}

/* The next page into out; false: a hard error, and zeros. */
static bool reader_next(struct reader *d, uint8_t *out)
{
    struct programmer *p = d->programmer;
    struct nand *n = p->nand;
    uint32_t page;

    if (d->index == n->pages_per_block) {
        d->index = 0;
        d->block = d->block >= d->range->last_block ? UINT32_MAX
                   : d->range->skip_bad_block       ? d->block + 1
                                                    : range_good_block(p, d->range, d->block + 1);
    }
    if (d->block == UINT32_MAX) {
        memset(out, 0, n->page_size);
        return false;
    }
    page = d->block * n->pages_per_block + d->index++;
    if (nand_block_bad(n, d->block))
        memset(out, FILL_BAD_BLOCK, n->page_size);
    else if (nand_page_state(n, page) == PAGE_UNREADABLE && p->scenario->read_error == READ_ERROR_NAK)
        return memset(out, 0, n->page_size), false;
    else if (nand_page_state(n, page) == PAGE_UNREADABLE)
        memset(out, FILL_UNREADABLE, n->page_size);
    else if (nand_page_state(n, page) == PAGE_ERASED)
        memset(out, p->scenario->fill == FILL_EE ? FILL_EE_BYTE : FILL_FF_BYTE, n->page_size);
    else
        memcpy(out, nand_page(n, page), n->page_size);
    return true;
}

/*
 * One storage call reads up to a payload of pages inside a block, and fills all of it if one of them is
 * erased (reference/edl.md 2.6, [INF] of SDX62). `from` is the call's first page, of which `n` were read, up
 * to the reader's present one.
 */
static void fill_batch(const struct reader *d, uint8_t *from, uint32_t n)
{
    struct programmer *p = d->programmer;
    uint32_t size = p->nand->page_size, first = d->block * p->nand->pages_per_block + d->index - n;
    bool erased = false;

    if (!p->scenario->fill_batch || d->block == UINT32_MAX || nand_block_bad(p->nand, d->block))
        return;
    for (uint32_t i = 0; i < n; i++)
        erased |= nand_page_state(p->nand, first + i) == PAGE_ERASED;
    if (erased)
        memset(from, p->scenario->fill == FILL_EE ? FILL_EE_BYTE : FILL_FF_BYTE, (size_t)n * size);
}

int storage_read(struct programmer *p, const struct tag *t)
{
    struct range range;
    struct reader reader;
    bool good = true;
    size_t room = p->payload / p->nand->page_size * p->nand->page_size, used = 0;
    uint32_t batch = 0;
    int r;

    range_parse(p, t, &range);
    if (range_check(p, t, &range, &r))
        return r;
    if (room == 0)
        room = p->nand->page_size;
    p->hold = p->scenario->raw_glued;
    r = speak_response(p, true, true, "");
    p->hold = false;
    reader_start(&reader, p, &range);
    for (uint32_t i = 0; r == 0 && i < range.count; i++) {
        good &= reader_next(&reader, p->buffer + used);
        used += p->nand->page_size;
        batch++;
        if (used == room || i + 1 == range.count || reader.index == p->nand->pages_per_block) {
            fill_batch(&reader, p->buffer + used - (size_t)batch * p->nand->page_size, batch);
            batch = 0;
        }
        r = front_busy(p->front, p->scenario->read_us);
        if (r == 0 && (used == room || i + 1 == range.count)) {
            r = speak_raw(p, p->buffer, used, i + 1 == range.count);
            used = 0;
        }
    }
    if (r < 0)
        return r;
    if (!good)
        return speak_nak(p, "ERROR: Failed to read sectors %u+%u: out of good blocks", range.start,
                         range.count);
    return speak_response(p, true, false, "");
}

int storage_digest(struct programmer *p, const struct tag *t)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    struct range range;
    struct reader reader;
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "", attributes[256];
    unsigned length = 0;
    bool good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    int r = good ? 0 : -ENOMEM;

    range_parse(p, t, &range);
    if (r < 0 || range_check(p, t, &range, &r)) {
        EVP_MD_CTX_free(context);
        return r;
    }
    reader_start(&reader, p, &range);
    for (uint32_t i = 0; r == 0 && i < range.count; i++) {
        good &= reader_next(&reader, p->buffer);
        good &= EVP_DigestUpdate(context, p->buffer, p->nand->page_size);
        r = front_busy(p->front, p->scenario->read_us);
    }
    EVP_DigestFinal_ex(context, digest, &length);
    EVP_MD_CTX_free(context);
    if (r < 0)
        return r;
    if (!good)
        return speak_nak(p, "ERROR: Failed to read sectors %u+%u: out of good blocks", range.start,
                         range.count);
    if (p->scenario->digest == DIGEST_WRONG)
        digest[0] ^= 1;
    if (p->scenario->digest_form == DIGEST_FORM_SHORT)
        length--;
    if (p->scenario->digest_form == DIGEST_FORM_LONG)
        digest[length++] = 0;
    for (unsigned i = 0; i < length; i++)
        snprintf(hex + 2 * i, 3, "%02X", digest[i]);
    if (p->scenario->digest_form == DIGEST_FORM_NO_HEX)
        memset(hex, 'x', strlen(hex));
    snprintf(attributes, sizeof(attributes), "rawmode=\"false\" Digest=\"%s\" ", hex);
    if (p->scenario->digest_form == DIGEST_FORM_ATTRIBUTE)
        return speak_response(p, true, false, attributes);
    r = speak_log(p, p->scenario->digest_form == DIGEST_FORM_BARE ? "Digest %s" : "INFO: Digest %s", hex);
    return r < 0 ? r : speak_response(p, true, false, "");
}

/* ---- getstorageinfo ---- */

static int info_9x07(struct programmer *p, uint32_t page_size)
{
    struct nand *n = p->nand;
    unsigned bad = 0;
    int r =
        speak_log(p,
                  "[FLASH_INFO]\nFLASH_NAME=\"virtual\"\nSECTOR_SIZE_IN_BYTES=%u\nNUM_PARTITION_SECTORS=%u\n"
                  "num_physical_partitions=1\nTOTAL_SECTOR_SIZE_IN_BYTES=%llu\nPAGES_IN_BLOCK=%u\n",
                  page_size, n->pages, (unsigned long long)n->pages * page_size, n->pages_per_block);

    if (r == 0)
        r = speak_log(p, "[BAD_BLOCK_LIST]");
    for (uint32_t b = 0; r == 0 && b < n->blocks; b++) {
        if (!nand_block_bad(n, b))
            continue;
        bad++;
        r = speak_log(p, "BAD_BLOCK=%u", b);
    }
    return r < 0 ? r : speak_log(p, "TOTAL_BAD_BLOCK=%u", bad);
}

static int info_devprg(struct programmer *p, uint32_t page_size)
{
    struct nand *n = p->nand;
    uint32_t block_size = page_size * n->pages_per_block;
    int r = speak_log(p, "INFO: Device Total Logical Blocks: 0x%x", n->blocks);

    if (r == 0)
        r = speak_log(p, "INFO: Device Block Size in Bytes: 0x%x", block_size);
    if (r == 0)
        r = speak_log(p, "INFO: Device Total Physical Partitions: 0x1");
    if (r == 0)
        r = speak_log(p, "INFO: Device Manufacturer ID: 0x2c");
    if (r == 0)
        r = speak_log(p, "INFO: Device Serial Number: 0x0");
    if (r == 0)
        r = speak_log(p,
                      "INFO: {\"storage_info\": {\"total_blocks\":%u, \"block_size\":%u, \"page_size\":%u, "
                      "\"num_physical\":1, \"manufacturer_id\":44, \"serial_num\":0, \"fw_version\":\"\", "
                      "\"mem_type\":\"NAND\", \"prod_name\":\"virtual\"}}",
                      n->blocks, block_size, page_size);
    return r;
}

/* Numbers that no chip has: nobody's arithmetic may follow them. */
static int info_hostile(struct programmer *p)
{
    static const char *const numbers[] = {
        [INFO_ZERO] = "\"total_blocks\":0, \"block_size\":0, \"page_size\":0",
        [INFO_HUGE] =
            "\"total_blocks\":18446744073709551615, \"block_size\":4294967296, \"page_size\":4294967295",
        [INFO_NEGATIVE] = "\"total_blocks\":-2048, \"block_size\":-262144, \"page_size\":-4096",
    };
    if (p->scenario->storage_info == INFO_GARBAGE)
        return speak_log(p, "INFO: {\"storage_info\": {{{{{{{{{{{{{{{{[[[[ \"total_blocks\":");
    return speak_log(p, "INFO: {\"storage_info\": {%s}}", numbers[p->scenario->storage_info]);
}

int storage_info(struct programmer *p, const struct tag *t)
{
    int r;

    (void)t;
    if (!storage_open(p, &r))
        return r;
    if (p->scenario->storage_info >= INFO_ZERO) {
        r = info_hostile(p);
    } else if (p->scenario->storage_info != INFO_NONE) {
        uint32_t page_size = p->nand->page_size / (p->scenario->storage_info == INFO_WRONG ? 2 : 1);
        r = p->is_9x07 ? info_9x07(p, page_size) : info_devprg(p, page_size);
    }
    return r < 0 ? r : speak_response(p, true, false, "");
}
