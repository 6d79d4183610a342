/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What follows from the facts of a backup, for the one who makes it and the one who checks it. */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backup/backup-inner.h"
#include "base/text.h"

static const char *const kinds[BACKUP_KIND_COUNT] = {"nand", "calibration"};
static const char *const states[BACKUP_STATE_COUNT] = {"complete", "blank", "damaged"};
static const char *const maps[BACKUP_MAP_COUNT] = {"read", "told", "none"};
static const char *const flaws[BACKUP_FLAW_COUNT] = {"", "factory-test", "half-written"};

const char *backup_kind_name(enum backup_kind kind)
{
    return (unsigned)kind < BACKUP_KIND_COUNT ? kinds[kind] : NULL;
}

const char *backup_state_name(enum backup_state state)
{
    return (unsigned)state < BACKUP_STATE_COUNT ? states[state] : NULL;
}

const char *backup_map_name(enum backup_map map)
{
    return (unsigned)map < BACKUP_MAP_COUNT ? maps[map] : NULL;
}

const char *backup_flaw_name(enum backup_flaw flaw)
{
    return (unsigned)flaw < BACKUP_FLAW_COUNT ? flaws[flaw] : NULL;
}

enum backup_flaw backup_flaw_from_name(const char *name)
{
    for (unsigned i = 0; name && i < BACKUP_FLAW_COUNT; i++)
        if (strcmp(flaws[i], name) == 0)
            return (enum backup_flaw)i;
    return BACKUP_FLAW_NONE;
}

struct backup *backup_free(struct backup *b)
{
    if (!b)
        return NULL;
    for (size_t i = 0; i < b->n_parts; i++)
        free(b->parts[i].states);
    free(b->parts);
    free(b->table);
    free(b);
    return NULL;
}

const struct backup_part *backup_find(const struct backup *b, const char *name)
{
    if (text_starts_with(name, "0:"))
        name += 2;
    for (size_t i = 0; i < b->n_parts; i++)
        if (text_equal_nocase(b->parts[i].name, name))
            return &b->parts[i];
    return NULL;
}

bool backup_block_is_bad(const struct backup *b, const struct backup_part *p, uint64_t block)
{
    return backup_page_state(b, p, block, 0) == NAND_PAGE_BAD;
}

uint32_t backup_block_pages(const struct backup *b, const struct backup_part *p, uint64_t block)
{
    for (uint32_t n = b->geometry.pages_per_block; n > 0; n--) {
        enum nand_page_state s = backup_page_state(b, p, block, n - 1);
        if (s == NAND_PAGE_DATA || s == NAND_PAGE_UNREADABLE)
            return n;
    }
    return 0;
}

uint64_t backup_count(const struct backup_part *p, uint64_t pages, enum nand_page_state state)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < pages; i++)
        n += p->states[i] == state;
    return n;
}

/* A name that may stand in a file name anywhere; else its first block names it. */
void backup_file_name(const struct backup_part *p, char ret[TAR_NAME_MAX])
{
    bool plain = isalnum((unsigned char)p->name[0]);
    for (const char *c = p->name; *c; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("_-.", *c));
    if (plain)
        snprintf(ret, TAR_NAME_MAX, "%s.bin", p->name);
    else
        snprintf(ret, TAR_NAME_MAX, "at-block-%" PRIu64 ".bin", p->first_block);
}

uint64_t backup_image_size(const struct backup *b, const struct backup_part *p)
{
    uint64_t pages = 0, good = 0;
    for (uint64_t block = p->first_block; block < p->first_block + p->n_blocks; block++) {
        if (backup_block_is_bad(b, p, block))
            continue;
        uint32_t used = backup_block_pages(b, p, block);
        if (used > 0)
            pages = good * b->geometry.pages_per_block + used;
        good++;
    }
    return pages * b->geometry.page_size;
}

/* Blocks that no table names may be EFS2. */
static bool may_hold_calibration(const struct backup *b)
{
    bool may = backup_find(b, "EFS2");
    for (size_t i = 0; i < b->n_parts; i++)
        may |= text_starts_with(b->parts[i].name, "blocks-");
    return may;
}

enum backup_state backup_judge(const struct backup *b)
{
    const struct backup_part *efs = backup_find(b, "EFS2");
    uint64_t unreadable = 0;
    if (efs && efs->size == 0)
        return BACKUP_BLANK;
    if (b->flaw != BACKUP_FLAW_NONE && may_hold_calibration(b))
        return b->flaw == BACKUP_FLAW_FACTORY_TEST ? BACKUP_BLANK : BACKUP_DAMAGED;
    for (size_t i = 0; i < b->n_parts; i++)
        unreadable += backup_count(&b->parts[i], b->parts[i].n_blocks * b->geometry.pages_per_block,
                                   NAND_PAGE_UNREADABLE);
    return unreadable ? BACKUP_DAMAGED : BACKUP_COMPLETE;
}

/* ---- ranges ---- */

static void put_range(FILE *out, uint64_t first, uint64_t last)
{
    if (ftell(out) > 0)
        fputc(' ', out);
    if (first == last)
        fprintf(out, "%" PRIu64, first);
    else
        fprintf(out, "%" PRIu64 "-%" PRIu64, first, last);
}

char *backup_ranges(const struct backup *b, const struct backup_part *p, enum nand_page_state state)
{
    uint32_t step = state == NAND_PAGE_BAD ? b->geometry.pages_per_block : 1;
    uint64_t base = state == NAND_PAGE_BAD ? p->first_block : 0;
    uint64_t n = p->n_blocks * b->geometry.pages_per_block / step, first = 0, count = 0;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (uint64_t i = 0; i < n; i++) {
        if (p->states[i * step] == (uint8_t)state) {
            if (count++ == 0)
                first = i;
            continue;
        }
        if (count > 0)
            put_range(out, base + first, base + first + count - 1);
        count = 0;
    }
    if (count > 0)
        put_range(out, base + first, base + first + count - 1);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- content ---- */

static int digest_part(struct digest *d, const struct backup *b, const struct backup_part *p)
{
    char hex[SHA256_HEX_SIZE];
    _cleanup_free_ char *bad = backup_ranges(b, p, NAND_PAGE_BAD),
                        *unreadable = backup_ranges(b, p, NAND_PAGE_UNREADABLE);
    text_hex(p->sha256, SHA256_SIZE, hex);
    _cleanup_free_ char *line = bad && unreadable
                                    ? text_printf("%s %" PRIu64 " %" PRIu64 " [%s] [%s] %s\n", p->name,
                                                  p->first_block, p->n_blocks, bad, unreadable, hex)
                                    : NULL;
    if (!line)
        return -ENOMEM;
    digest_update(d, line, strlen(line));
    return 0;
}

int backup_content(const struct backup *b, uint8_t ret[SHA256_SIZE])
{
    char hash[2 * SAHARA_PK_HASH_MAX + 1];
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    text_hex(b->unit.pk_hash, b->unit.pk_hash_size, hash);
    _cleanup_free_ char *head =
        text_printf("%d %08x %d %016" PRIx64 " %s %u %u %" PRIu64 "\n", b->unit.have_serial, b->unit.serial,
                    b->unit.have_hwid, b->unit.hwid, hash, b->geometry.page_size, b->geometry.pages_per_block,
                    b->geometry.blocks);
    if (!d || !head)
        return -ENOMEM;
    digest_update(d, head, strlen(head));
    for (size_t i = 0; i < b->n_parts; i++)
        if (digest_part(d, b, &b->parts[i]) < 0)
            return -ENOMEM;
    digest_final(d, ret);
    return 0;
}

int backup_unit_data(const struct backup *b, uint8_t ret[SHA256_SIZE])
{
    const struct backup_part *efs = backup_find(b, "EFS2");
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    if (!d)
        return -ENOMEM;
    if (!efs || efs->size == 0)
        return -ENOENT;
    for (size_t i = 0; i < b->n_parts; i++)
        if (mibib_is_unit_data(b->parts[i].name) && digest_part(d, b, &b->parts[i]) < 0)
            return -ENOMEM;
    digest_final(d, ret);
    return 0;
}

/* ---- for other tools ---- */

/*
 * Good blocks only, and each range to its own end: a count with a bad block in it means different things to
 * different programmers (reference/edl.md, corrections).
 */
static void put_erases(FILE *out, const struct backup *b, const struct backup_part *p)
{
    uint32_t pages = b->geometry.pages_per_block;
    uint64_t end = p->first_block + p->n_blocks, first = p->first_block;
    while (first < end) {
        uint64_t last = first;
        if (backup_block_is_bad(b, p, first)) {
            first++;
            continue;
        }
        while (last + 1 < end && !backup_block_is_bad(b, p, last + 1))
            last++;
        fprintf(
            out,
            "  <erase PAGES_PER_BLOCK=\"%u\" SECTOR_SIZE_IN_BYTES=\"%u\" num_partition_sectors=\"%" PRIu64
            "\" physical_partition_number=\"0\" start_sector=\"%" PRIu64 "\" last_sector=\"%" PRIu64 "\"/>\n",
            pages, b->geometry.page_size, (last - first + 1) * pages, first * pages, (last + 1) * pages - 1);
        first = last + 1;
    }
}

static void put_program(FILE *out, const struct backup *b, const struct backup_part *p)
{
    char file[TAR_NAME_MAX];
    uint32_t pages = b->geometry.pages_per_block;
    if (p->size == 0)
        return;
    backup_file_name(p, file);
    /* qdl wants a label, and knows by it what the modem boots from: the name before ".bin". */
    fprintf(out,
            "  <program PAGES_PER_BLOCK=\"%u\" SECTOR_SIZE_IN_BYTES=\"%u\" filename=\"%s\" label=\"%.*s\" "
            "num_partition_sectors=\"%" PRIu64 "\" physical_partition_number=\"0\" start_sector=\"%" PRIu64
            "\" last_sector=\"%" PRIu64 "\"/>\n",
            pages, b->geometry.page_size, file, (int)strcspn(file, "."), file, p->n_blocks * pages,
            p->first_block * pages, (p->first_block + p->n_blocks) * pages - 1);
}

/* SBL, in block 0, is erased first and written last (flash rule 6). */
char *backup_xml(const struct backup *b)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("<?xml version=\"1.0\" ?>\n<data>\n"
          "  <!-- Written by qdld for other tools. They write erased pages inside an image as 0xFF and put "
          "data\n"
          "       behind bad blocks of their own; qdlctl restore does neither to EFS2. -->\n",
          out);
    for (size_t i = 0; i < b->n_parts; i++)
        put_erases(out, b, &b->parts[i]);
    for (size_t i = 0; i < b->n_parts; i++)
        if (b->parts[i].first_block != 0)
            put_program(out, b, &b->parts[i]);
    if (b->n_parts > 0 && b->parts[0].first_block == 0)
        put_program(out, b, &b->parts[0]);
    fputs("</data>\n", out);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

char *backup_sums(const struct backup *b, const uint8_t xml[SHA256_SIZE], const uint8_t manifest[SHA256_SIZE])
{
    char hex[SHA256_HEX_SIZE], file[TAR_NAME_MAX], *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (size_t i = 0; i < b->n_parts; i++) {
        backup_file_name(&b->parts[i], file);
        text_hex(b->parts[i].sha256, SHA256_SIZE, hex);
        fprintf(out, "%s  %s\n", hex, file);
    }
    text_hex(xml, SHA256_SIZE, hex);
    fprintf(out, "%s  %s\n", hex, BACKUP_XML);
    text_hex(manifest, SHA256_SIZE, hex);
    fprintf(out, "%s  %s\n", hex, BACKUP_MANIFEST);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
