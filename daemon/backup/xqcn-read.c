/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the streams of an XQCN mean (reference/diag.md 3). Strict where it matters what is written to a modem:
 * record lengths, paths, pairs of directory entry and content; tolerant in the forms that real files have.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "backup/calibration.h"
#include "base/text.h"

enum {
    AT_DEFAULT = 3, /* root, model, "default" */
    AT_PART = 4,    /* NV_NUMBERED_ITEMS, EFS_Backup, ... */
    AT_EFS = 5,     /* EFS_Dir, EFS_Data */
    NV_RECORD = 136,
    NV_RECORD_MARK = 1,
    INDEX_DIGITS = 8,
    SMALL_MAX = 4096,
    FILE_VERSION = 2,
    /* Mobile_Property_Info */
    MPI_MODEL = 4,
    MPI_NV_MAJOR = 6,
    MPI_NV_MINOR = 7,
    MPI_VERSION = 8,
};

static const char NV_PART[] = "NV_NUMBERED_ITEMS", NV_ARRAY[] = "NV_ITEM_ARRAY",
                  NV_SIM[] = "NV_ITEM_ARRAY_SIM_";

static const char *const section_names[CALIBRATION_SECTIONS] = {[CALIBRATION_PROVISIONING] =
                                                                    "Provisioning_Item_Files",
                                                                [CALIBRATION_EFS_BACKUP] = "EFS_Backup",
                                                                [CALIBRATION_NV_ITEMS] = "NV_Items"};

/* A directory entry or a content, until both are there. */
struct half {
    enum calibration_section section;
    uint32_t index;
    bool is_data;
    uint64_t offset, size;
};

struct reader {
    struct calibration *c;
    struct half *halves;
    size_t n_halves, room;
    bool version_seen, contexts_seen[CALIBRATION_CONTEXTS_MAX];
};

static int _printf_(2, 3) broken(struct error *e, const char *format, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    return error_set(e, ERROR_BACKUP_DAMAGED, "the XQCN cannot be used: %s", what);
}

static uint16_t le16(const uint8_t *b)
{
    return (uint16_t)(b[0] | b[1] << 8);
}

static int load(const struct reader *r, uint64_t offset, uint64_t size, uint8_t *out, struct error *e)
{
    return xqcn_value(r->c->fd, r->c->base, offset, size, out, e);
}

/* ---- numbered items ---- */

static int find_context(const char *name, uint64_t *ret)
{
    if (strcmp(name, NV_ARRAY) == 0) {
        *ret = 0;
        return 0;
    }
    return text_starts_with(name, NV_SIM) ? text_parse_u64(name + strlen(NV_SIM), 10, UINT16_MAX, ret)
                                          : -EINVAL;
}

static int read_records(struct reader *r, const char *name, uint64_t offset, uint64_t size, struct error *e)
{
    uint64_t context;
    uint8_t record[NV_RECORD];
    if (find_context(name, &context) < 0) {
        r->c->ignored++;
        return 0;
    }
    if (context >= CALIBRATION_CONTEXTS_MAX)
        return broken(e, "%.60s is of a subscription that no modem has", name);
    if (r->contexts_seen[context])
        return broken(e, "%s comes twice", name);
    r->contexts_seen[context] = true;
    if (size % NV_RECORD != 0)
        return broken(e, "%s has %" PRIu64 " bytes, which is not a multiple of %d", name, size, NV_RECORD);
    for (uint64_t at = 0; at < size; at += NV_RECORD) {
        int q = load(r, offset + at * 3, NV_RECORD, record, e);
        if (q < 0)
            return q;
        if (le16(record) != NV_RECORD || le16(record + 2) != NV_RECORD_MARK)
            return broken(e, "record %" PRIu64 " of %s begins with %04x %04x", at / NV_RECORD, name,
                          le16(record), le16(record + 2));
        q = calibration_add_nv(r->c, le16(record + 4), (uint16_t)context, record + 8);
        if (q < 0)
            return broken(e, "it has too many numbered items");
        r->c->nv[r->c->n_nv - 1].index = le16(record + 6);
    }
    return 0;
}

/* ---- files ---- */

static int find_section(const char *name)
{
    for (int i = 0; i < CALIBRATION_SECTIONS; i++)
        if (strcmp(section_names[i], name) == 0)
            return i;
    return -ENOENT;
}

static int add_half(struct reader *r, const struct half *h, struct error *e)
{
    if (r->n_halves == 2 * CALIBRATION_FILES_MAX)
        return broken(e, "it has more than %d files", CALIBRATION_FILES_MAX);
    if (r->n_halves == r->room) {
        size_t room = MAX_OF(2 * r->room, (size_t)256);
        struct half *grown = reallocarray(r->halves, room, sizeof(*grown));
        if (!grown)
            return error_set(e, ERROR_FAILED, "out of memory");
        r->halves = grown;
        r->room = room;
    }
    r->halves[r->n_halves++] = *h;
    return 0;
}

static int read_half(struct reader *r, int section, const char *where, const char *name, uint64_t offset,
                     uint64_t size, struct error *e)
{
    uint8_t index[INDEX_DIGITS / 2];
    bool is_data = strcmp(where, "EFS_Data") == 0;
    if (!is_data && strcmp(where, "EFS_Dir") != 0) {
        r->c->ignored++;
        return 0;
    }
    if (text_unhex(name, index, sizeof(index)) < 0)
        return broken(e, "a file of %s has the number \"%.40s\"", section_names[section], name);
    if (!is_data && size > SMALL_MAX)
        return broken(e, "a directory entry of %s has %" PRIu64 " bytes", section_names[section], size);
    const struct half h = {.section = (enum calibration_section)section,
                           .index = (uint32_t)index[0] << 24 | (uint32_t)index[1] << 16 |
                                    (uint32_t)index[2] << 8 | index[3],
                           .is_data = is_data,
                           .offset = offset,
                           .size = size};
    return add_half(r, &h, e);
}

static int compare_halves(const void *a, const void *b)
{
    const struct half *x = a, *y = b;
    if (x->section != y->section)
        return (int)x->section - (int)y->section;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return (int)x->is_data - (int)y->is_data;
}

/* Head or none, NUL or none: every section has been seen with either (diag.md 3). */
static int read_entry(struct reader *r, const struct half *h, struct calibration_file *f, struct error *e)
{
    uint8_t value[SMALL_MAX];
    int q = load(r, h->offset, h->size, value, e);
    if (q < 0)
        return q;
    size_t size = (size_t)h->size, at = 0;
    if (size > CALIBRATION_HEAD_SIZE && value[0] != '/' && value[CALIBRATION_HEAD_SIZE] == '/') {
        f->has_head = true;
        memcpy(f->head, value, sizeof(f->head));
        at = CALIBRATION_HEAD_SIZE;
    }
    if (size > at && value[size - 1] == '\0')
        size--;
    if (!calibration_is_path((const char *)value + at, size - at))
        return broken(e, "file %08x of %s has no path that a modem could have", h->index,
                      section_names[h->section]);
    f->path = strndup((const char *)value + at, size - at);
    return f->path ? 0 : error_set(e, ERROR_FAILED, "out of memory");
}

static int pair(struct reader *r, struct error *e)
{
    if (r->n_halves == 0)
        return 0;
    qsort(r->halves, r->n_halves, sizeof(*r->halves), compare_halves);
    for (size_t i = 0; i < r->n_halves; i += 2) {
        const struct half *entry = &r->halves[i], *data = entry + 1;
        if (i + 1 == r->n_halves || entry->is_data || !data->is_data || entry->section != data->section ||
            entry->index != data->index)
            return broken(e, "file %08x of %s has not one entry and one content", entry->index,
                          section_names[entry->section]);
        struct calibration_file f = {.section = entry->section, .offset = data->offset, .size = data->size};
        int q = read_entry(r, entry, &f, e);
        if (q < 0)
            return q;
        q = calibration_add_file(r->c, f.path, NULL, 0);
        free(f.path);
        if (q < 0)
            return broken(e, "it has too many files");
        struct calibration_file *added = &r->c->files[r->c->n_files - 1];
        f.path = added->path;
        *added = f;
    }
    return 0;
}

/* ---- the rest ---- */

/* u16 length and text; what follows it, or beyond the end. */
static size_t take_text(const uint8_t *value, size_t size, size_t at, char *out, size_t out_size)
{
    if (at + 2 > size)
        return size + 1;
    size_t n = le16(value + at);
    if (n > size - at - 2)
        return size + 1;
    text_clean((const char *)value + at + 2, strnlen((const char *)value + at + 2, n), out, out_size);
    return at + 2 + n;
}

static int read_properties(struct reader *r, uint64_t offset, uint64_t size, struct error *e)
{
    struct calibration *c = r->c;
    uint8_t value[SMALL_MAX];
    if (size < MPI_VERSION || size > sizeof(value))
        return broken(e, "Mobile_Property_Info has %" PRIu64 " bytes", size);
    int q = load(r, offset, size, value, e);
    if (q < 0)
        return q;
    c->esn = le16(value) | (uint32_t)le16(value + 2) << 16;
    c->mobile_model = le16(value + MPI_MODEL);
    c->nv_major = value[MPI_NV_MAJOR];
    c->nv_minor = value[MPI_NV_MINOR];
    size_t at = take_text(value, (size_t)size, MPI_VERSION, c->version, sizeof(c->version));
    if (at > size)
        return broken(e, "Mobile_Property_Info is cut");
    (void)take_text(value, (size_t)size, at, c->tool, sizeof(c->tool));
    return 0;
}

static int read_features(struct reader *r, uint64_t offset, uint64_t size, struct error *e)
{
    if (size > sizeof(r->c->features))
        return broken(e, "Feature_Mask has %" PRIu64 " bytes", size);
    r->c->n_features = (size_t)size;
    return load(r, offset, size, r->c->features, e);
}

static int read_file_version(struct reader *r, uint64_t offset, uint64_t size, struct error *e)
{
    uint8_t value[6];
    if (size != sizeof(value))
        return broken(e, "File_Version has %" PRIu64 " bytes instead of 6", size);
    int q = load(r, offset, size, value, e);
    if (q < 0)
        return q;
    if (le16(value) != FILE_VERSION)
        return error_set(e, ERROR_UNSUPPORTED,
                         "this XQCN is of version %u, as old CDMA phones have it; version %d can be read",
                         le16(value), FILE_VERSION);
    r->version_seen = true;
    return 0;
}

static int on_storage(void *userdata, const char *const *path, size_t depth, struct error *e)
{
    struct reader *r = userdata;
    uint8_t id[4];
    if (depth != 2)
        return 0;
    if (text_unhex(path[1], id, sizeof(id)) < 0)
        return broken(e, "its model storage is \"%.40s\" and no number of 8 digits", path[1]);
    r->c->model_id = (uint32_t)id[0] << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3];
    return 0;
}

static int on_stream(void *userdata, const char *const *path, size_t depth, const char *name, uint64_t offset,
                     uint64_t size, struct error *e)
{
    struct reader *r = userdata;
    if (depth == 1 && strcmp(name, "File_Version") == 0)
        return read_file_version(r, offset, size, e);
    if (depth == AT_DEFAULT && strcmp(name, "Mobile_Property_Info") == 0)
        return read_properties(r, offset, size, e);
    if (depth == AT_DEFAULT && strcmp(name, "Feature_Mask") == 0)
        return read_features(r, offset, size, e);
    if (depth == AT_PART && strcmp(path[AT_PART - 1], NV_PART) == 0)
        return read_records(r, name, offset, size, e);
    int section = depth == AT_EFS ? find_section(path[AT_PART - 1]) : -ENOENT;
    if (section >= 0)
        return read_half(r, section, path[AT_EFS - 1], name, offset, size, e);
    r->c->ignored++; /* PRL and the like of CDMA phones */
    return 0;
}

static int check_twice(const struct calibration *c, struct error *e)
{
    for (size_t i = 1; i < c->n_nv; i++)
        if (c->nv[i].item == c->nv[i - 1].item && c->nv[i].context == c->nv[i - 1].context)
            return broken(e, "NV item %u comes twice", c->nv[i].item);
    for (size_t i = 1; i < c->n_files; i++)
        if (c->files[i].section == c->files[i - 1].section &&
            strcmp(c->files[i].path, c->files[i - 1].path) == 0)
            return broken(e, "%.120s comes twice", c->files[i].path);
    return 0;
}

static void reader_done(struct reader *r)
{
    free(r->halves);
    calibration_free(r->c);
}

int xqcn_read(int fd, uint64_t base, uint64_t size, struct calibration **ret, struct error *e)
{
    _cleanup_(reader_done) struct reader r = {.c = calibration_new()};
    const struct xqcn_events events = {.storage = on_storage, .stream = on_stream, .userdata = &r};
    if (!r.c)
        return error_set(e, ERROR_FAILED, "out of memory");
    r.c->fd = fd;
    r.c->base = base;
    int q = xqcn_scan(fd, base, size, &events, e);
    if (q == 0 && !r.version_seen)
        q = broken(e, "it has no File_Version");
    if (q == 0)
        q = pair(&r, e);
    if (q < 0)
        return q;
    calibration_sort(r.c);
    q = check_twice(r.c, e);
    if (q < 0)
        return q;
    if (r.c->n_nv == 0 && r.c->n_files == 0)
        return broken(e, "there is nothing in it");
    *ret = steal_ptr(r.c);
    return 0;
}
