/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every document that is ever sent, printed from integers (flash rule 7). To a programmer an erase whose
 * sector size, count or start cannot be read means "the whole disk" (reference/edl.md, corrections), and
 * without last_sector bad blocks push the end of a command into the next partition (2.6). So nothing here
 * comes from a package but the vendor check's two names, which consist of letters, digits and a few harmless
 * signs.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/firehose-internal.h"

enum {
    PAYLOAD_MIN = 512,
    PAGE_SIZE_2K = 2048,
    PAGE_SIZE_4K = 4096,
    PAGES_PER_BLOCK_MIN = 32,
    PAGES_PER_BLOCK_MAX = 256,
    /* XML whose length is a multiple of this makes the device wait for a ZLP, also where packets are larger
       (2.1, 8.11). */
    XML_PACKET = 512,
    XML_MAX = 4096, /* MaxXMLSizeInBytes */
    /* Not 0 as some send: the reset has to find the logs drained (2.11). Not 10 as others: the drain is
       running already. */
    POWER_DELAY_SEC = 1,
};

_Static_assert(sizeof(((struct firehose_text *)0)->data) <= XML_MAX,
               "a document fits the programmer's buffer");

void firehose_end_text(struct firehose_text *text)
{
    if (text->size % XML_PACKET == 0)
        text->data[text->size++] = '\n';
}

static int _printf_(3, 4) print(struct firehose_text *ret, struct error *e, const char *format, ...)
{
    static const char head[] = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n";
    static const char tail[] = "\n</data>\n";
    struct firehose_text text;
    const size_t room = sizeof(text.data) - sizeof(head) - sizeof(tail) - 1;

    memcpy(text.data, head, sizeof(head) - 1);
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text.data + sizeof(head) - 1, room, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room)
        return error_set(e, ERROR_INVALID_ARGS, "a Firehose document of %d bytes is too long", n);
    text.size = sizeof(head) - 1 + (size_t)n;
    memcpy(text.data + text.size, tail, sizeof(tail) - 1);
    text.size += sizeof(tail) - 1;
    firehose_end_text(&text);
    *ret = text;
    return 0;
}

static int check_range(const char *what, const struct firehose_range *r, struct error *e)
{
    if (r->sector_size != PAGE_SIZE_2K && r->sector_size != PAGE_SIZE_4K)
        return error_set(e, ERROR_INVALID_ARGS, "%s: sector size is %" PRIu32 ", expected %d or %d", what,
                         r->sector_size, PAGE_SIZE_2K, PAGE_SIZE_4K);
    if (r->pages_per_block < PAGES_PER_BLOCK_MIN || r->pages_per_block > PAGES_PER_BLOCK_MAX ||
        (r->pages_per_block & (r->pages_per_block - 1)) != 0)
        return error_set(e, ERROR_INVALID_ARGS,
                         "%s: %" PRIu32 " pages a block, expected a power of two from %d to %d", what,
                         r->pages_per_block, PAGES_PER_BLOCK_MIN, PAGES_PER_BLOCK_MAX);
    if (r->count == 0)
        return error_set(e, ERROR_INVALID_ARGS, "%s: no pages at all from page %" PRIu64, what, r->start);
    /* A programmer may hold these in 32 bits: what does not fit would come out as another place. */
    if (r->last > UINT32_MAX || r->start > r->last || r->count - 1 > r->last - r->start)
        return error_set(e, ERROR_INVALID_ARGS,
                         "%s: %" PRIu64 " pages from page %" PRIu64 " contradict the last sector %" PRIu64,
                         what, r->count, r->start, r->last);
    return 0;
}

/* Where blocks are erased (program does it by itself, 2.6), the range must own its blocks from their first
 * page. */
static int check_block_start(const char *what, const struct firehose_range *r, struct error *e)
{
    if (r->start % r->pages_per_block != 0)
        return error_set(e, ERROR_INVALID_ARGS,
                         "%s: page %" PRIu64 " is not the first of a block of %" PRIu32 " pages", what,
                         r->start, r->pages_per_block);
    return 0;
}

#define ADDRESS_FORMAT                                                                                       \
    "SECTOR_SIZE_IN_BYTES=\"%" PRIu32 "\" num_partition_sectors=\"%" PRIu64                                  \
    "\" physical_partition_number=\"0\" "                                                                    \
    "start_sector=\"%" PRIu64 "\" last_sector=\"%" PRIu64 "\""
#define ADDRESS_VALUES(r) (r)->sector_size, (r)->count, (r)->start, (r)->last

int firehose_print_nop(struct firehose_text *ret, struct error *e)
{
    return print(ret, e, "<nop />");
}

int firehose_print_configure(struct firehose_text *ret, uint32_t payload, bool zlp_aware, struct error *e)
{
    if (payload < PAYLOAD_MIN || payload % PAYLOAD_MIN != 0)
        return error_set(e, ERROR_INVALID_ARGS,
                         "configure: a payload of %" PRIu32 " bytes is no multiple of %d", payload,
                         PAYLOAD_MIN);
    return print(ret, e,
                 "<configure MemoryName=\"nand\" Verbose=\"0\" AlwaysValidate=\"0\" "
                 "MaxDigestTableSizeInBytes=\"2048\" "
                 "MaxPayloadSizeToTargetInBytes=\"%" PRIu32 "\" ZlpAwareHost=\"%d\" SkipStorageInit=\"0\" />",
                 payload, zlp_aware);
}

int firehose_print_storage_info(struct firehose_text *ret, struct error *e)
{
    return print(ret, e, "<getstorageinfo physical_partition_number=\"0\" />");
}

int firehose_print_erase(struct firehose_text *ret, const struct firehose_range *range, struct error *e)
{
    int r = check_range("erase", range, e);
    if (r < 0)
        return r;
    r = check_block_start("erase", range, e);
    if (r < 0)
        return r;
    if (range->count % range->pages_per_block != 0 || (range->last + 1) % range->pages_per_block != 0)
        return error_set(e, ERROR_INVALID_ARGS,
                         "erase: %" PRIu64 " pages with last sector %" PRIu64
                         " are not whole blocks of %" PRIu32 " pages",
                         range->count, range->last, range->pages_per_block);
    /* PAGES_PER_BLOCK also here: 9x07 refuses an erase without (3.6). */
    return print(ret, e, "<erase PAGES_PER_BLOCK=\"%" PRIu32 "\" " ADDRESS_FORMAT " />",
                 range->pages_per_block, ADDRESS_VALUES(range));
}

int firehose_print_program(struct firehose_text *ret, const struct firehose_range *range, struct error *e)
{
    int r = check_range("program", range, e);
    if (r < 0)
        return r;
    r = check_block_start("program", range, e);
    if (r < 0)
        return r;
    return print(ret, e, "<program PAGES_PER_BLOCK=\"%" PRIu32 "\" " ADDRESS_FORMAT " />",
                 range->pages_per_block, ADDRESS_VALUES(range));
}

int firehose_print_read(struct firehose_text *ret, const struct firehose_range *range, bool skip_bad_block,
                        struct error *e)
{
    int r = check_range("read", range, e);
    if (r < 0)
        return r;
    return print(ret, e, "<read PAGES_PER_BLOCK=\"%" PRIu32 "\" " ADDRESS_FORMAT "%s />",
                 range->pages_per_block, ADDRESS_VALUES(range),
                 skip_bad_block ? " skip_bad_block=\"1\"" : "");
}

int firehose_print_digest(struct firehose_text *ret, const struct firehose_range *range, struct error *e)
{
    int r = check_range("getsha256digest", range, e);
    if (r < 0)
        return r;
    return print(ret, e, "<getsha256digest " ADDRESS_FORMAT " />", ADDRESS_VALUES(range));
}

/* 0 empty, 1 fine, -1 with anything that could end the attribute or that no project name has. */
static int check_name(const char *name, size_t size)
{
    size_t n = strnlen(name, size);
    if (n == size)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
              c == '-' || c == '.'))
            return -1;
    }
    return n > 0;
}

int firehose_print_vendor_check(struct firehose_text *ret, const struct firehose_vendor_check *check,
                                struct error *e)
{
    /* To a programmer that does not know the tag it is an erase: then it shall be one of the first block only
     * (flash rule 3). */
    const struct firehose_range first_block = {
        .sector_size = check->sector_size,
        .pages_per_block = check->pages_per_block,
        .start = 0,
        .count = check->pages_per_block,
        .last = (uint64_t)check->pages_per_block - 1,
    };
    int r = check_range("vendor check", &first_block, e);
    if (r < 0)
        return r;
    const struct firehose_range rawdata = {
        .sector_size = check->sector_size,
        .pages_per_block = check->pages_per_block,
        .start = check->rawdata_start_sector,
        .count = check->rawdata_sectors,
        .last = check->rawdata_sectors > UINT32_MAX || check->rawdata_start_sector > UINT32_MAX
                    ? UINT64_MAX
                    : check->rawdata_start_sector + check->rawdata_sectors - (check->rawdata_sectors > 0),
    };
    r = check_range("vendor check of RAWDATA", &rawdata, e);
    if (r < 0)
        return r;
    if (check_name(check->project_name, sizeof(check->project_name)) != 1)
        return error_set(
            e, ERROR_INVALID_ARGS,
            "vendor check: project name \"%.63s\" is empty or not made of letters, digits, '_', '-' and '.'",
            check->project_name);
    int type = check_name(check->project_type, sizeof(check->project_type));
    if (type < 0)
        return error_set(
            e, ERROR_INVALID_ARGS,
            "vendor check: project type \"%.63s\" is not made of letters, digits, '_', '-' and '.'",
            check->project_type);
    return print(
        ret, e,
        "<erase vendor=\"quectel\" SECTOR_SIZE_IN_BYTES=\"%" PRIu32 "\" start_sector=\"0\" "
        "num_partition_sectors=\"%" PRIu64 "\" last_sector=\"%" PRIu64 "\" a_rawdata_start_sector=\"%" PRIu64
        "\" b_rawdata_num_sector=\"%" PRIu64 "\" c_project_name=\"%s\"%s%s%s />",
        first_block.sector_size, first_block.count, first_block.last, rawdata.start, rawdata.count,
        check->project_name, type ? " d_project_type=\"" : "", check->project_type, type ? "\"" : "");
}

int firehose_print_power(struct firehose_text *ret, enum firehose_power mode, struct error *e)
{
    static const char *const values[] = {
        [FIREHOSE_POWER_RESET] = "reset",
        [FIREHOSE_POWER_OFF] = "off",
        [FIREHOSE_POWER_EDL] = "reset_to_edl",
    };
    if ((unsigned)mode >= ARRAY_SIZE(values))
        return error_set(e, ERROR_INVALID_ARGS, "power: there is no mode %d", (int)mode);
    return print(ret, e, "<power value=\"%s\" DelayInSeconds=\"%d\" />", values[mode], POWER_DELAY_SEC);
}
