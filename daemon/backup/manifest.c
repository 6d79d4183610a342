/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * manifest.json. Parsed by json-c, taken apart field by field, and believed only if what was understood
 * prints as what was parsed: so nothing is in it that nobody looked at. Blanks may differ, since another
 * version of the library may have set them otherwise; that not one byte is another is for SHA256SUMS to say.
 */

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

#include "backup/backup-inner.h"
#include "base/text.h"

enum { DEPTH_MAX = 4, BLOCKS_MAX = 1 << 20, PAGE_MIN = 512, PAGE_MAX = 32768, PAGES_PER_BLOCK_MAX = 1024 };

static const char FORMAT[] = "qdld-backup";

static void json_putp(json_object **o)
{
    json_object_put(*o);
}

/* ---- printing ---- */

static bool add(json_object *o, const char *key, json_object *value)
{
    return value && json_object_object_add(o, key, value) == 0;
}

static bool add_text(json_object *o, const char *key, const char *value)
{
    return value && add(o, key, json_object_new_string(value));
}

static bool add_number(json_object *o, const char *key, uint64_t value)
{
    return add(o, key, json_object_new_uint64(value));
}

static bool add_hex(json_object *o, const char *key, const void *data, size_t size)
{
    char hex[2 * SAHARA_PK_HASH_MAX + SHA256_HEX_SIZE];
    text_hex(data, size, hex);
    return add_text(o, key, hex);
}

static bool add_part(json_object *list, const struct backup *b, const struct backup_part *p)
{
    char file[TAR_NAME_MAX];
    _cleanup_free_ char *bad = backup_ranges(b, p, NAND_PAGE_BAD),
                        *erased = backup_ranges(b, p, NAND_PAGE_ERASED),
                        *unreadable = backup_ranges(b, p, NAND_PAGE_UNREADABLE);
    json_object *o = json_object_new_object();
    backup_file_name(p, file);
    if (!o || json_object_array_add(list, o) < 0) {
        json_object_put(o);
        return false;
    }
    return add_text(o, "name", p->name) && add_text(o, "file", file) &&
           add_number(o, "first_block", p->first_block) && add_number(o, "blocks", p->n_blocks) &&
           add_text(o, "bad_blocks", bad) && add_number(o, "size", p->size) &&
           add_hex(o, "sha256", p->sha256, SHA256_SIZE) && add_text(o, "erased_pages", erased) &&
           add_text(o, "unreadable_pages", unreadable);
}

static bool add_unit(json_object *o, const struct sahara_identity *u)
{
    char serial[16] = "", hwid[24] = "";
    if (u->have_serial)
        snprintf(serial, sizeof(serial), "%08x", u->serial);
    if (u->have_hwid)
        snprintf(hwid, sizeof(hwid), "%016" PRIx64, u->hwid);
    return add_text(o, "serial", serial) && add_text(o, "hwid", hwid) &&
           add_hex(o, "pkhash", u->pk_hash, u->pk_hash_size);
}

static json_object *make_object(const struct backup *b)
{
    _cleanup_(json_putp) json_object *o = json_object_new_object();
    json_object *parts = json_object_new_array();
    if (!o || !parts) {
        json_object_put(parts);
        return NULL;
    }
    bool ok = add(o, "partitions", parts);
    for (size_t i = 0; ok && i < b->n_parts; i++)
        ok = add_part(parts, b, &b->parts[i]);
    ok = ok && add_text(o, "format", FORMAT) && add_number(o, "format_version", BACKUP_VERSION) &&
         add_text(o, "kind", backup_kind_name(b->kind)) &&
         add_text(o, "state", backup_state_name(b->state)) && add_number(o, "created", b->created) &&
         add_unit(o, &b->unit) && add_text(o, "chip", b->chip) && add_text(o, "model", b->model) &&
         add_text(o, "firmware_version", b->version) &&
         add(o, "firmware_confirmed", json_object_new_boolean(b->version_confirmed)) &&
         (b->flaw == BACKUP_FLAW_NONE || add_text(o, "calibration_flaw", backup_flaw_name(b->flaw))) &&
         add_number(o, "page_size", b->geometry.page_size) &&
         add_number(o, "pages_per_block", b->geometry.pages_per_block) &&
         add_number(o, "blocks", b->geometry.blocks) &&
         add_text(o, "bad_blocks_by", backup_map_name(b->map)) &&
         add_text(o, "partition_table", b->table ? b->table : "") &&
         add_hex(o, "content_sha256", b->content_sha256, SHA256_SIZE);
    return ok ? steal_ptr(o) : NULL;
}

char *manifest_print(const struct backup *b)
{
    _cleanup_(json_putp) json_object *o = make_object(b);
    const char *text = o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY) : NULL;
    return text ? text_printf("%s\n", text) : NULL;
}

/* ---- parsing ---- */

static int bad(struct error *e, const char *what)
{
    return error_set(e, ERROR_BACKUP_DAMAGED, "The backup's manifest is not one of ours: %s", what);
}

static const char *get_text(json_object *o, const char *key, size_t max)
{
    json_object *v;
    if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
        return NULL;
    const char *text = json_object_get_string(v);
    size_t size = (size_t)json_object_get_string_len(v);
    return size <= max && strlen(text) == size ? text : NULL;
}

static bool get_number(json_object *o, const char *key, uint64_t max, uint64_t *ret)
{
    json_object *v;
    if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
        return false;
    if (json_object_get_int64(v) < 0)
        return false;
    uint64_t n = json_object_get_uint64(v);
    if (n > max)
        return false;
    *ret = n;
    return true;
}

static bool copy_text(json_object *o, const char *key, char *ret, size_t size)
{
    const char *text = get_text(o, key, size - 1);
    if (!text || !text_is_clean(text, strlen(text)))
        return false;
    snprintf(ret, size, "%s", text);
    return true;
}

/* A word out of a table. */
static bool get_word(json_object *o, const char *key, const char *(*name)(unsigned), unsigned count,
                     unsigned *ret)
{
    const char *text = get_text(o, key, BACKUP_TEXT_SIZE);
    for (unsigned i = 0; text && i < count; i++)
        if (strcmp(name(i), text) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static const char *kind_at(unsigned i)
{
    return backup_kind_name((enum backup_kind)i);
}

static const char *state_at(unsigned i)
{
    return backup_state_name((enum backup_state)i);
}

static const char *map_at(unsigned i)
{
    return backup_map_name((enum backup_map)i);
}

static bool parse_unit(json_object *o, struct sahara_identity *u)
{
    const char *serial = get_text(o, "serial", 8), *hwid = get_text(o, "hwid", 16),
               *hash = get_text(o, "pkhash", 2 * SAHARA_PK_HASH_MAX);
    uint8_t bytes[8];
    if (!serial || !hwid || !hash)
        return false;
    if (*serial) {
        if (text_unhex(serial, bytes, 4) < 0)
            return false;
        u->have_serial = true;
        for (size_t i = 0; i < 4; i++)
            u->serial = u->serial << 8 | bytes[i];
    }
    if (*hwid) {
        if (text_unhex(hwid, bytes, 8) < 0)
            return false;
        u->have_hwid = true;
        for (size_t i = 0; i < 8; i++)
            u->hwid = u->hwid << 8 | bytes[i];
    }
    u->pk_hash_size = strlen(hash) / 2;
    return text_unhex(hash, u->pk_hash, u->pk_hash_size) == 0;
}

static bool parse_geometry(json_object *o, struct nand_geometry *g)
{
    uint64_t page, pages;
    if (!get_number(o, "page_size", PAGE_MAX, &page) || page < PAGE_MIN || (page & (page - 1)) != 0 ||
        !get_number(o, "pages_per_block", PAGES_PER_BLOCK_MAX, &pages) || pages == 0 ||
        !get_number(o, "blocks", BLOCKS_MAX, &g->blocks) || g->blocks == 0 ||
        g->blocks * pages > BACKUP_PAGES_MAX)
        return false;
    g->page_size = (uint32_t)page;
    g->pages_per_block = (uint32_t)pages;
    return true;
}

/* "0-3 7 9-12", each within [base, base + n), into states of `step` pages. */
static bool parse_ranges(const char *text, uint64_t base, uint64_t n, uint32_t step, uint8_t *states,
                         enum nand_page_state state)
{
    while (*text) {
        char *end;
        if (*text < '0' || *text > '9')
            return false;
        uint64_t first = strtoull(text, &end, 10), last = first;
        if (*end == '-' && end[1] >= '0' && end[1] <= '9')
            last = strtoull(end + 1, &end, 10);
        if (first < base || last < first || last - base >= n || (*end && *end != ' '))
            return false;
        memset(states + (first - base) * step, (int)state, (size_t)((last - first + 1) * step));
        text = *end ? end + 1 : end;
    }
    return true;
}

static bool is_name(const char *name)
{
    for (const char *c = name; *c; c++)
        if (*c < ' ' || *c > '~')
            return false;
    return *name;
}

static int parse_part(json_object *o, const struct backup *b, struct backup_part *p, struct error *e)
{
    const struct nand_geometry *g = &b->geometry;
    const struct backup_part *before = p > b->parts ? p - 1 : NULL;
    if (!json_object_is_type(o, json_type_object) || !copy_text(o, "name", p->name, sizeof(p->name)) ||
        !is_name(p->name))
        return bad(e, "a partition without a name");
    if (!get_number(o, "first_block", g->blocks - 1, &p->first_block) ||
        !get_number(o, "blocks", g->blocks - p->first_block, &p->n_blocks) || p->n_blocks == 0 ||
        (before && p->first_block < before->first_block + before->n_blocks))
        return bad(e, "a partition beyond the chip, or two in one place");
    uint64_t pages = p->n_blocks * g->pages_per_block;
    const char *sha = get_text(o, "sha256", 2 * SHA256_SIZE),
               *broken = get_text(o, "bad_blocks", BACKUP_MANIFEST_MAX),
               *erased = get_text(o, "erased_pages", BACKUP_MANIFEST_MAX),
               *unreadable = get_text(o, "unreadable_pages", BACKUP_MANIFEST_MAX);
    if (!sha || text_unhex(sha, p->sha256, SHA256_SIZE) < 0 ||
        !get_number(o, "size", pages * g->page_size, &p->size) || !broken || !erased || !unreadable)
        return bad(e, "a partition without its facts");
    p->states = calloc(pages, 1); /* NAND_PAGE_DATA */
    if (!p->states)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (!parse_ranges(erased, 0, pages, 1, p->states, NAND_PAGE_ERASED) ||
        !parse_ranges(unreadable, 0, pages, 1, p->states, NAND_PAGE_UNREADABLE) ||
        !parse_ranges(broken, p->first_block, p->n_blocks, g->pages_per_block, p->states, NAND_PAGE_BAD))
        return bad(e, "pages beyond their partition");
    if (backup_image_size(b, p) != p->size)
        return bad(e, "an image of another size than its pages have");
    return 0;
}

static int parse_parts(json_object *o, struct backup *b, struct error *e)
{
    json_object *list;
    if (!json_object_object_get_ex(o, "partitions", &list) || !json_object_is_type(list, json_type_array))
        return bad(e, "no partitions");
    size_t n = json_object_array_length(list);
    if (n == 0 || n > BACKUP_PARTS_MAX)
        return bad(e, "too many partitions, or none");
    b->parts = calloc(n, sizeof(*b->parts));
    if (!b->parts)
        return error_set(e, ERROR_FAILED, "Out of memory");
    for (size_t i = 0; i < n; i++) {
        b->n_parts = i + 1;
        int r = parse_part(json_object_array_get_idx(list, i), b, &b->parts[i], e);
        if (r < 0)
            return r;
        for (size_t k = 0; k < i; k++)
            if (text_equal_nocase(b->parts[k].name, b->parts[i].name))
                return bad(e, "two partitions of one name");
    }
    return 0;
}

static int parse_table(json_object *o, struct backup *b, struct error *e)
{
    const char *text = get_text(o, "partition_table", BACKUP_TABLE_MAX);
    _cleanup_free_ struct mibib_table *table = malloc(sizeof(*table));
    b->table = text ? strdup(text) : NULL;
    if (text && (!table || !b->table))
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (!text || (*text && mibib_scan(text, strlen(text), table) < 0))
        return bad(e, "its partition table cannot be read");
    return 0;
}

static int parse(json_object *o, struct backup *b, struct error *e)
{
    unsigned kind, state, map;
    uint64_t version;
    json_object *confirmed;
    const char *format = get_text(o, "format", sizeof(FORMAT)),
               *content = get_text(o, "content_sha256", 2 * SHA256_SIZE);
    if (!format || strcmp(format, FORMAT) != 0 || !get_number(o, "format_version", UINT32_MAX, &version))
        return bad(e, "its format is another one");
    if (version != BACKUP_VERSION)
        return error_set(e, ERROR_UNSUPPORTED, "The backup's format is version %" PRIu64 ", this is for %d",
                         version, BACKUP_VERSION);
    if (!get_word(o, "kind", kind_at, BACKUP_KIND_COUNT, &kind) ||
        !get_word(o, "state", state_at, BACKUP_STATE_COUNT, &state) ||
        !get_word(o, "bad_blocks_by", map_at, BACKUP_MAP_COUNT, &map) ||
        !get_number(o, "created", INT64_MAX, &b->created) || !parse_unit(o, &b->unit) ||
        !copy_text(o, "chip", b->chip, sizeof(b->chip)) ||
        !copy_text(o, "model", b->model, sizeof(b->model)) ||
        !copy_text(o, "firmware_version", b->version, sizeof(b->version)) ||
        !json_object_object_get_ex(o, "firmware_confirmed", &confirmed) ||
        !json_object_is_type(confirmed, json_type_boolean) || !content ||
        text_unhex(content, b->content_sha256, SHA256_SIZE) < 0)
        return bad(e, "a fact is missing or malformed");
    b->kind = (enum backup_kind)kind;
    b->state = (enum backup_state)state;
    b->map = (enum backup_map)map;
    b->version_confirmed = json_object_get_boolean(confirmed);
    /* There if there is one; what is none does not print as it was. */
    b->flaw = backup_flaw_from_name(get_text(o, "calibration_flaw", BACKUP_TEXT_SIZE));
    if (!parse_geometry(o, &b->geometry))
        return bad(e, "a flash that cannot be");
    int r = parse_table(o, b, e);
    return r < 0 ? r : parse_parts(o, b, e);
}

/* What was understood must be all that is there. */
static int check_whole(const struct backup *b, json_object *parsed, struct error *e)
{
    uint8_t content[SHA256_SIZE];
    _cleanup_(json_putp) json_object *again = make_object(b);
    const char *text = again ? json_object_to_json_string_ext(again, JSON_C_TO_STRING_PLAIN) : NULL,
               *given = json_object_to_json_string_ext(parsed, JSON_C_TO_STRING_PLAIN);
    if (!text || !given || backup_content(b, content) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (strcmp(text, given) != 0)
        return bad(e, "it says more or other than what a backup says");
    if (memcmp(content, b->content_sha256, SHA256_SIZE) != 0)
        return bad(e, "its digest of the content is another one");
    return backup_judge(b) == b->state ? 0 : bad(e, "its state is another one than its pages have");
}

int manifest_parse(const char *text, size_t size, struct backup **ret, struct error *e)
{
    _cleanup_(backup_freep) struct backup *b = calloc(1, sizeof(*b));
    json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    if (!b || !tokener || size > BACKUP_MANIFEST_MAX) {
        json_tokener_free(tokener);
        return error_set(e, ERROR_FAILED, "Out of memory");
    }
    b->fd = -1;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    _cleanup_(json_putp) json_object *o = json_tokener_parse_ex(tokener, text, (int)size);
    json_tokener_free(tokener);
    if (!o || !json_object_is_type(o, json_type_object))
        return bad(e, "it is no JSON object");
    int r = parse(o, b, e);
    if (r == 0)
        r = check_whole(b, o, e);
    if (r < 0)
        return r;
    *ret = steal_ptr(b);
    return 0;
}
