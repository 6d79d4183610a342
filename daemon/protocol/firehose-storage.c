/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * getstorageinfo (reference/edl.md 2.4): a log with JSON, or with the [FLASH_INFO] text of 9x07. What it
 * tells is a claim of the modem: taken only if it is whole and the numbers fit each other.
 */

#include <errno.h>
#include <string.h>
#include <json-c/json.h>

#include "base/text.h"
#include "protocol/firehose-internal.h"

enum {
    PAGE_SIZE_MIN = 512,
    PAGE_SIZE_MAX = 16384,
    PAGES_PER_BLOCK_MAX = 1024,
    BLOCKS_MAX = 1 << 20,
    JSON_DEPTH_MAX = 8,
};

struct storage {
    struct firehose_storage told;
    bool seen;                                    /* something in either form */
    uint64_t sector_size, pages_per_block, pages; /* of [FLASH_INFO] */
    uint64_t bad_blocks_told;                     /* TOTAL_BAD_BLOCK */
    bool bad_blocks_total, bad_blocks_cut;
};

/* ---- {"storage_info": {"total_blocks":2048, "block_size":262144, "page_size":4096, …}} ---- */

static uint64_t json_number(json_object *info, const char *name)
{
    json_object *value;
    if (!json_object_object_get_ex(info, name, &value) || !json_object_is_type(value, json_type_int))
        return 0;
    int64_t n = json_object_get_int64(value);
    return n > 0 ? (uint64_t)n : 0;
}

static void take_json(struct storage *s, const char *text)
{
    const char *start = strchr(text, '{');
    json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (!tokener)
        return;
    /* The tokener ends at the last brace by itself and does not mind what follows. */
    json_object *root =
        json_tokener_parse_ex(tokener, start, (int)MIN_OF(strlen(start), (size_t)XML_DOCUMENT_MAX));
    json_object *info;
    if (root && json_object_object_get_ex(root, "storage_info", &info) &&
        json_object_is_type(info, json_type_object)) {
        uint64_t blocks = json_number(info, "total_blocks"), block = json_number(info, "block_size"),
                 page = json_number(info, "page_size");
        s->seen = true;
        s->told.total_blocks = blocks;
        s->told.block_size = block <= UINT32_MAX ? (uint32_t)block : 0;
        s->told.page_size = page <= UINT32_MAX ? (uint32_t)page : 0;
    }
    json_object_put(root);
    json_tokener_free(tokener);
}

/* ---- [FLASH_INFO] … SECTOR_SIZE_IN_BYTES=2048 … [BAD_BLOCK_LIST] BAD_BLOCK=n … TOTAL_BAD_BLOCK=n ---- */

static void take_pair(struct storage *s, const char *key, const char *value)
{
    uint64_t n;
    if (text_parse_u64(value, 0, UINT32_MAX, &n) < 0)
        return; /* FLASH_NAME and the like */
    if (strcmp(key, "SECTOR_SIZE_IN_BYTES") == 0)
        s->sector_size = n;
    else if (strcmp(key, "PAGES_IN_BLOCK") == 0)
        s->pages_per_block = n;
    else if (strcmp(key, "NUM_PARTITION_SECTORS") == 0)
        s->pages = n;
    else if (strcmp(key, "TOTAL_BAD_BLOCK") == 0)
        s->bad_blocks_told = n, s->bad_blocks_total = true;
    else if (strcmp(key, "BAD_BLOCK") == 0 && s->told.n_bad_blocks < ARRAY_SIZE(s->told.bad_blocks))
        s->told.bad_blocks[s->told.n_bad_blocks++] = (uint32_t)n;
    else if (strcmp(key, "BAD_BLOCK") == 0)
        s->bad_blocks_cut = true;
}

/* One log with all lines or a log a line; the line ends of an attribute have become blanks. */
static void take_ini(struct storage *s, const char *text)
{
    static const char separators[] = " \t\r\n,;";
    char word[128];
    for (;;) {
        text += strspn(text, separators);
        size_t n = strcspn(text, separators);
        if (n == 0)
            return;
        if (n < sizeof(word)) {
            memcpy(word, text, n);
            word[n] = '\0';
            char *equals = strchr(word, '=');
            if (strcmp(word, "[FLASH_INFO]") == 0)
                s->seen = true;
            else if (strcmp(word, "[BAD_BLOCK_LIST]") == 0)
                s->told.bad_block_list = s->seen;
            else if (equals && s->seen) {
                *equals = '\0';
                take_pair(s, word, equals + 1);
            }
        }
        text += n;
    }
}

static void take_line(void *userdata, const char *text)
{
    struct storage *s = userdata;
    if (strchr(text, '{') && strstr(text, "\"storage_info\""))
        take_json(s, text);
    else if (strstr(text, "[FLASH_INFO]") || s->seen)
        take_ini(s, text);
}

/* ---- judgement ---- */

static bool is_plausible(const struct firehose_storage *t)
{
    return t->page_size >= PAGE_SIZE_MIN && t->page_size <= PAGE_SIZE_MAX &&
           (t->page_size & (t->page_size - 1)) == 0 && t->block_size > t->page_size &&
           t->block_size % t->page_size == 0 && t->block_size / t->page_size <= PAGES_PER_BLOCK_MAX &&
           t->total_blocks > 0 && t->total_blocks <= BLOCKS_MAX;
}

static void judge(struct storage *s)
{
    struct firehose_storage *t = &s->told;
    if (t->total_blocks == 0 && s->sector_size > 0 && s->pages_per_block > 0 &&
        s->pages_per_block <= PAGES_PER_BLOCK_MAX && s->sector_size <= PAGE_SIZE_MAX &&
        s->pages % s->pages_per_block == 0) {
        t->page_size = (uint32_t)s->sector_size;
        t->block_size = (uint32_t)(s->sector_size * s->pages_per_block);
        /* NUM_PARTITION_SECTORS is read as the pages of the whole chip; the string table names it beside no
         * other total. */
        t->total_blocks = s->pages / s->pages_per_block;
    }
    t->valid = is_plausible(t);
    /* A list that contradicts its own total, or names blocks that do not exist, is no list. */
    bool list = t->bad_block_list && !s->bad_blocks_cut &&
                !(s->bad_blocks_total && s->bad_blocks_told != t->n_bad_blocks);
    for (size_t i = 0; i < t->n_bad_blocks; i++)
        list = list && (!t->valid || t->bad_blocks[i] < t->total_blocks);
    t->bad_block_list = list;
    if (!list)
        t->n_bad_blocks = 0;
}

int firehose_storage_info(struct firehose *f, struct firehose_storage *ret, struct error *e)
{
    struct firehose_text text;
    struct storage s = {};
    _cleanup_answer_ struct firehose_answer answer = {};
    int r = firehose_print_storage_info(&text, e);
    if (r < 0)
        return r;
    firehose_listen(f, take_line, &s);
    r = firehose_transact(f, FIREHOSE_STORAGE_INFO, &text, &answer, e);
    if (r == 0 && answer.ack)
        firehose_linger(f, &s.seen);
    firehose_listen(f, NULL, NULL);
    if (r < 0)
        return r;
    if (!answer.ack)
        return firehose_refused(f, FIREHOSE_STORAGE_INFO, e);
    judge(&s);
    *ret = s.told;
    return 0;
}
