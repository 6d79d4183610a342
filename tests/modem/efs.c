/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "efs.h"

#include <stdlib.h>
#include <string.h>

#include "trace.h"

/* 2021-03-14; it has no clock before it found a network. */
enum { CLOCK_START = 1299700000, CHUNK_HEAD = 6 };

static void *grow(void *array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 64;
    array = realloc(array, *capacity * size);
    if (!array)
        abort();
    return array;
}

/* ---- numbered items ---- */

static uint32_t nv_key(uint16_t item, uint16_t index)
{
    return (uint32_t)index << 16 | item;
}

/* Where it is, or where it belongs. */
static size_t nv_place(const struct efs *e, uint16_t item, uint16_t index)
{
    size_t low = 0, high = e->nv_count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (nv_key(e->nvs[middle].item, e->nvs[middle].index) < nv_key(item, index))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct efs_nv *efs_nv_find(const struct efs *e, uint16_t item, uint16_t index)
{
    size_t i = nv_place(e, item, index);

    return i < e->nv_count && e->nvs[i].item == item && e->nvs[i].index == index ? &e->nvs[i] : NULL;
}

int efs_nv_put(struct efs *e, uint16_t item, uint16_t index, const uint8_t data[EFS_NV_SIZE])
{
    const uint16_t head[2] = {item, index};
    int r = efs_log_reserve(e, sizeof(head) + EFS_NV_SIZE);
    size_t i = nv_place(e, item, index);

    if (r)
        return r;
    if (!efs_nv_find(e, item, index)) {
        e->nvs = grow(e->nvs, &e->nv_capacity, e->nv_count, sizeof(*e->nvs));
        memmove(e->nvs + i + 1, e->nvs + i, (e->nv_count - i) * sizeof(*e->nvs));
        e->nv_count++;
    }
    e->nvs[i] = (struct efs_nv){.item = item, .index = index};
    memcpy(e->nvs[i].data, data, EFS_NV_SIZE);
    efs_log_append(e, EFS_RECORD_NV, head, sizeof(head), data, EFS_NV_SIZE);
    return 0;
}

/* ---- files ---- */

static size_t node_place(const struct efs *e, const char *path)
{
    size_t low = 0, high = e->node_count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(e->nodes[middle]->path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct efs_node *efs_find(const struct efs *e, const char *path)
{
    size_t i = node_place(e, path);

    return i < e->node_count && strcmp(e->nodes[i]->path, path) == 0 ? e->nodes[i] : NULL;
}

bool efs_is_directory(const struct efs_node *n)
{
    return (n->mode & EFS_TYPE) == EFS_DIRECTORY;
}

const char *efs_name(const struct efs_node *n)
{
    return strrchr(n->path, '/') + 1;
}

static void free_node(struct efs_node *n)
{
    free(n->path);
    free(n->data);
    free(n);
}

/* The length of the directory part of a path; 1 for what lies in the root. */
static size_t parent_length(const char *path)
{
    size_t n = (size_t)(strrchr(path, '/') - path);

    return n ? n : 1;
}

static bool valid_path(const char *path)
{
    size_t n = strlen(path);

    return path[0] == '/' && n < EFS_PATH_MAX && (n == 1 || path[n - 1] != '/') && !strstr(path, "//");
}

static struct efs_node *insert_node(struct efs *e, const char *path)
{
    size_t i = node_place(e, path);
    struct efs_node *n = calloc(1, sizeof(*n));

    if (!n || !(n->path = strdup(path)))
        abort();
    e->nodes = grow(e->nodes, &e->node_capacity, e->node_count, sizeof(*e->nodes));
    memmove(e->nodes + i + 1, e->nodes + i, (e->node_count - i) * sizeof(struct efs_node *));
    e->nodes[i] = n;
    e->node_count++;
    return n;
}

static int check_parent(struct efs *e, const char *path, bool make)
{
    char parent[EFS_PATH_MAX];
    const struct efs_node *n;

    if (strcmp(path, "/") == 0)
        return 0;
    memcpy(parent, path, parent_length(path));
    parent[parent_length(path)] = 0;
    n = efs_find(e, parent);
    if (n)
        return efs_is_directory(n) ? 0 : EFS_ENOTDIR;
    return make ? efs_create(e, parent, EFS_DIRECTORY | 0755, true) : EFS_ENOENT;
}

int efs_create(struct efs *e, const char *path, uint16_t mode, bool with_parents)
{
    struct {
        uint16_t mode, zero;
        uint32_t time;
    } head = {mode, 0, e->clock};
    struct efs_node *n;
    int r;

    if (!valid_path(path))
        return strlen(path) >= EFS_PATH_MAX ? (int)EFS_PATH_TOO_LONG : (int)EFS_BAD_PATH;
    r = check_parent(e, path, with_parents);
    if (r == 0)
        r = efs_log_reserve(e, sizeof(head) + strlen(path) + 1);
    if (r)
        return r;
    n = efs_find(e, path);
    if (!n)
        n = insert_node(e, path);
    n->mode = mode;
    n->time = e->clock;
    n->size = 0;
    efs_log_append(e, EFS_RECORD_NODE, &head, sizeof(head), path, strlen(path) + 1);
    return 0;
}

static void put_bytes(struct efs_node *n, uint32_t offset, const void *data, size_t length)
{
    size_t end = offset + length;

    if (end > n->capacity) {
        n->capacity = end + end / 4;
        n->data = realloc(n->data, n->capacity);
        if (!n->data)
            abort();
    }
    if (offset > n->size)
        memset(n->data + n->size, 0, offset - n->size);
    memcpy(n->data + offset, data, length);
    if (end > n->size)
        n->size = end;
}

int efs_write(struct efs *e, const char *path, uint32_t offset, const void *data, size_t length)
{
    uint8_t head[CHUNK_HEAD + EFS_PATH_MAX];
    uint16_t path_length = (uint16_t)(strlen(path) + 1);
    size_t chunk = efs_log_record_max(e) - CHUNK_HEAD - path_length;
    struct efs_node *n = efs_find(e, path);
    int r;

    if (!n)
        return EFS_ENOENT;
    if (efs_is_directory(n))
        return EFS_EISDIR;
    if (offset > EFS_FILE_MAX || length > EFS_FILE_MAX - offset)
        return EFS_EFBIG;
    r = efs_log_reserve(e, length + (length / chunk + 1) * (sizeof(head) + path_length));
    if (r)
        return r;
    for (size_t done = 0; done < length;) {
        size_t now = length - done < chunk ? length - done : chunk;
        uint32_t at = offset + (uint32_t)done;

        memcpy(head, &at, sizeof(at));
        memcpy(head + 4, &path_length, sizeof(path_length));
        memcpy(head + CHUNK_HEAD, path, path_length);
        efs_log_append(e, EFS_RECORD_DATA, head, CHUNK_HEAD + path_length, (const uint8_t *)data + done, now);
        done += now;
    }
    put_bytes(n, offset, data, length);
    n->time = e->clock;
    return 0;
}

static bool is_below(const char *path, const char *directory)
{
    size_t n = strlen(directory);

    if (n == 1)
        return path[1] != 0;
    return strncmp(path, directory, n) == 0 && path[n] == '/';
}

int efs_remove(struct efs *e, const char *path)
{
    size_t i = node_place(e, path);
    struct efs_node *n = efs_find(e, path);
    int r;

    if (!n)
        return EFS_ENOENT;
    for (size_t k = 0; efs_is_directory(n) && k < e->node_count; k++)
        if (is_below(e->nodes[k]->path, path))
            return EFS_ENOTEMPTY;
    r = efs_log_reserve(e, strlen(path) + 1);
    if (r)
        return r;
    efs_log_append(e, EFS_RECORD_GONE, NULL, 0, path, strlen(path) + 1);
    free_node(n);
    memmove(e->nodes + i, e->nodes + i + 1, (e->node_count - i - 1) * sizeof(struct efs_node *));
    e->node_count--;
    return 0;
}

int efs_rename(struct efs *e, const char *from, const char *to)
{
    struct efs_node *n = efs_find(e, from), *target = efs_find(e, to), *moved;
    int r;

    if (!n)
        return EFS_ENOENT;
    if (efs_is_directory(n) || (target && efs_is_directory(target)))
        return EFS_EISDIR;
    if (!valid_path(to))
        return EFS_BAD_PATH;
    if (n == target)
        return 0;
    r = check_parent(e, to, false);
    if (r == 0)
        r = efs_log_reserve(e, strlen(from) + strlen(to) + 2);
    if (r)
        return r;
    efs_log_append(e, EFS_RECORD_RENAME, from, strlen(from) + 1, to, strlen(to) + 1);
    moved = target ? target : insert_node(e, to);
    free(moved->data);
    moved->mode = n->mode;
    moved->time = n->time;
    moved->data = n->data;
    moved->size = n->size;
    moved->capacity = n->capacity;
    for (size_t i = node_place(e, from); i + 1 < e->node_count; i++)
        e->nodes[i] = e->nodes[i + 1];
    e->node_count--;
    free(n->path);
    free(n);
    return 0;
}

const struct efs_node *efs_entry(const struct efs *e, const char *directory, size_t index)
{
    size_t skip = strlen(directory) == 1 ? 1 : strlen(directory) + 1;

    for (size_t i = node_place(e, directory); i < e->node_count; i++) {
        const char *path = e->nodes[i]->path;
        if (is_below(path, directory) && !strchr(path + skip, '/') && index-- == 0)
            return e->nodes[i];
    }
    return NULL;
}

/* ---- life ---- */

void efs_mount(struct efs *e, struct nand *n, const struct scenario *s, uint32_t serial)
{
    *e = (struct efs){.nand = n, .scenario = s, .serial = serial, .clock = CLOCK_START};
    e->mounted = efs_log_read(e);
    trace("efs %s nv=%zu files=%zu", e->mounted ? "mounted" : "not whole", e->nv_count, e->node_count);
}

void efs_empty(struct efs *e)
{
    for (size_t i = 0; i < e->node_count; i++)
        free_node(e->nodes[i]);
    e->node_count = e->nv_count = 0;
    efs_create(e, "/", EFS_DIRECTORY | 0755, false);
}

void efs_free(struct efs *e)
{
    for (size_t i = 0; i < e->node_count; i++)
        free_node(e->nodes[i]);
    free(e->nodes);
    free(e->nvs);
    efs_log_free(e);
    *e = (struct efs){0};
}
