/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup/calibration.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "protocol/diag.h"

static const char RFNV[] = "/nv/item_files/rfnv/";
static const char RFC[] = "/rfc/";
enum { ESN_NONE = 0xdeadd00d /* what every module says (diag.md 2.1) */, GROWTH = 256 };

/* As QPST writes it for rfnv (diag.md 3): attribute mask 1, buffering 1, cleanup 1, a date. */
static const uint8_t rfnv_head[CALIBRATION_HEAD_SIZE] = {1, 0, 1, 1, 0x80, 0x3d, 0xd5, 0x12};
static const uint8_t rfc_head[CALIBRATION_HEAD_SIZE] = {1, 0, 1, 1, 0, 0, 0, 0};

struct calibration *calibration_new(void)
{
    struct calibration *c = calloc(1, sizeof(*c));
    if (c) {
        c->fd = -1;
        c->esn = ESN_NONE;
    }
    return c;
}

struct calibration *calibration_free(struct calibration *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < c->n_files; i++) {
        free(c->files[i].path);
        free(c->files[i].data);
    }
    free(c->files);
    free(c->nv);
    free(c);
    return NULL;
}

/* Room for one more, in steps that double. */
static int grow(void **list, size_t n, size_t size, size_t max)
{
    if (n >= max)
        return -E2BIG;
    bool full = n == 0 || (n >= GROWTH && (n & (n - 1)) == 0);
    if (!full)
        return 0;
    void *grown = reallocarray(*list, n == 0 ? GROWTH : 2 * n, size);
    if (!grown)
        return -ENOMEM;
    *list = grown;
    return 0;
}

int calibration_add_nv(struct calibration *c, uint16_t item, uint16_t context, const uint8_t *data)
{
    int r = grow((void **)&c->nv, c->n_nv, sizeof(*c->nv), CALIBRATION_NV_MAX);
    if (r < 0)
        return r;
    struct calibration_nv *n = &c->nv[c->n_nv++];
    c->sorted = false;
    *n = (struct calibration_nv){.item = item, .context = context};
    memcpy(n->data, data, sizeof(n->data));
    return 0;
}

/* Behind the first dot of a part: "." and whatever begins with ".." are other names of something. */
static bool is_dot_end(const char *path, size_t size, size_t at)
{
    return at == size || path[at] == '/' || path[at] == '.';
}

bool calibration_is_path(const char *path, size_t size)
{
    if (size < 2 || size >= CALIBRATION_PATH_MAX || path[0] != '/' || path[size - 1] == '/')
        return false;
    for (size_t i = 0; i < size; i++) {
        if (path[i] < ' ' || path[i] > '~')
            return false;
        bool begins = path[i] == '/';
        if (begins && (path[i + 1] == '/' || (path[i + 1] == '.' && is_dot_end(path, size, i + 2))))
            return false;
    }
    return true;
}

bool calibration_is_item_store(const char *path)
{
    return text_starts_with(path, "/nvm/");
}

bool calibration_is_list(const char *path)
{
    return text_starts_with(path, "/nv/item_files/conf/") && text_ends_with(path, ".conf");
}

static bool ends_line(uint8_t c)
{
    return c == '\n' || c == '\r' || c == '\0';
}

bool calibration_next_listed(const uint8_t *data, size_t size, size_t *at, char path[CALIBRATION_PATH_MAX])
{
    while (*at < size) {
        size_t start = *at, end = start;
        while (end < size && !ends_line(data[end]))
            end++;
        *at = end + 1;
        if (!calibration_is_path((const char *)data + start, end - start))
            continue;
        memcpy(path, data + start, end - start);
        path[end - start] = '\0';
        return true;
    }
    return false;
}

/* The section that a path belongs to. */
static enum calibration_section section_of(const char *path)
{
    bool rf = text_starts_with(path, RFNV) || text_starts_with(path, RFC);
    return rf ? CALIBRATION_EFS_BACKUP : CALIBRATION_PROVISIONING;
}

int calibration_add_file(struct calibration *c, const char *path, uint8_t *data, size_t size)
{
    char *copy = strdup(path);
    int r = copy ? grow((void **)&c->files, c->n_files, sizeof(*c->files), CALIBRATION_FILES_MAX) : -ENOMEM;
    if (r < 0) {
        free(copy);
        free(data);
        return r;
    }
    struct calibration_file *f = &c->files[c->n_files++];
    c->sorted = false;
    *f = (struct calibration_file){.section = section_of(path), .path = copy, .data = data, .size = size};
    f->has_head = f->section == CALIBRATION_EFS_BACKUP;
    if (f->has_head)
        memcpy(f->head, text_starts_with(path, RFC) ? rfc_head : rfnv_head, sizeof(f->head));
    return 0;
}

static int compare_nv(const void *a, const void *b)
{
    const struct calibration_nv *x = a, *y = b;
    return x->context != y->context ? (int)x->context - y->context : (int)x->item - y->item;
}

static int compare_files(const void *a, const void *b)
{
    const struct calibration_file *x = a, *y = b;
    return x->section != y->section ? (int)x->section - (int)y->section : strcmp(x->path, y->path);
}

const struct calibration_nv *calibration_find_nv(const struct calibration *c, uint16_t item, uint16_t context)
{
    const struct calibration_nv wanted = {.item = item, .context = context};
    if (c->sorted)
        return c->n_nv > 0 ? bsearch(&wanted, c->nv, c->n_nv, sizeof(*c->nv), compare_nv) : NULL;
    for (size_t i = 0; i < c->n_nv; i++)
        if (compare_nv(&c->nv[i], &wanted) == 0)
            return &c->nv[i];
    return NULL;
}

const struct calibration_file *calibration_find_file(const struct calibration *c, const char *path)
{
    for (int section = 0; c->sorted && c->n_files > 0 && section < CALIBRATION_SECTIONS; section++) {
        const struct calibration_file wanted = {.section = (enum calibration_section)section,
                                                .path = (char *)(uintptr_t)path};
        const struct calibration_file *found =
            bsearch(&wanted, c->files, c->n_files, sizeof(*c->files), compare_files);
        if (found)
            return found;
    }
    for (size_t i = 0; !c->sorted && i < c->n_files; i++)
        if (strcmp(c->files[i].path, path) == 0)
            return &c->files[i];
    return NULL;
}

int calibration_load(const struct calibration *c, const struct calibration_file *f, uint8_t **ret,
                     struct error *e)
{
    if (f->size == 0) {
        *ret = NULL;
        return 0;
    }
    _cleanup_free_ uint8_t *data = malloc((size_t)f->size);
    if (!data)
        return error_set(e, ERROR_FAILED, "no memory for %s", f->path);
    int r = 0;
    if (f->data)
        memcpy(data, f->data, (size_t)f->size);
    else
        r = xqcn_value(c->fd, c->base, f->offset, f->size, data, e);
    if (r < 0)
        return r;
    *ret = steal_ptr(data);
    return 0;
}

bool calibration_imei(const struct calibration *c, char *imei)
{
    const struct calibration_nv *n = calibration_find_nv(c, DIAG_NV_IMEI, 0);
    return n && diag_imei_parse(n->data, imei) == 0;
}

bool calibration_is_rf(const char *path)
{
    static const char *const where[] = {RFNV, RFC, "/nv/item_files/mcs/tcxomgr/"};
    for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
        size_t n = strlen(where[i]) - 1;
        if (strncmp(path, where[i], n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return true;
    }
    return false;
}

size_t calibration_count_rfnv(const struct calibration *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_files; i++)
        n += text_starts_with(c->files[i].path, RFNV) && c->files[i].size > 0;
    return n;
}

void calibration_sort(struct calibration *c)
{
    if (c->n_nv > 0)
        qsort(c->nv, c->n_nv, sizeof(*c->nv), compare_nv);
    if (c->n_files > 0)
        qsort(c->files, c->n_files, sizeof(*c->files), compare_files);
    c->sorted = true;
}

enum backup_state calibration_judge(const struct calibration *c, const struct calibration_facts *facts)
{
    char imei[DIAG_IMEI_DIGITS + 1];
    if (facts->factory_test || !calibration_imei(c, imei) || calibration_count_rfnv(c) == 0)
        return BACKUP_BLANK;
    return facts->half_written || facts->n_lost > 0 ? BACKUP_DAMAGED : BACKUP_COMPLETE;
}
