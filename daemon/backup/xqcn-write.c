/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* XQCN as QPST lays it out (reference/diag.md 3): the same calibration gives the same bytes. */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "backup/calibration.h"
#include "base/io.h"

enum { BUFFER = 64 * 1024, LINE_SIZE = 256, NV_RECORD = 136, HEX_STEP = 3 };

static const char *const section_names[CALIBRATION_SECTIONS] = {[CALIBRATION_PROVISIONING] =
                                                                    "Provisioning_Item_Files",
                                                                [CALIBRATION_EFS_BACKUP] = "EFS_Backup",
                                                                [CALIBRATION_NV_ITEMS] = "NV_Items"};

struct writer {
    const struct calibration *c;
    int fd;
    uint64_t at, size; /* of the buffer's first byte in the file; of the XQCN so far */
    char *buffer;
    size_t used;
    int failed;
};

static void flush(struct writer *w)
{
    if (w->failed == 0)
        w->failed = io_pwrite_full(w->fd, w->buffer, w->used, w->at);
    w->at += w->used;
    w->used = 0;
}

static void put(struct writer *w, const char *text, size_t size)
{
    w->size += size;
    while (size > 0) {
        size_t n = MIN_OF(size, (size_t)BUFFER - w->used);
        memcpy(w->buffer + w->used, text, n);
        w->used += n;
        text += n;
        size -= n;
        if (w->used == BUFFER)
            flush(w);
    }
}

static void _printf_(3, 4) line(struct writer *w, unsigned indent, const char *format, ...)
{
    char text[LINE_SIZE];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    for (unsigned i = 0; i < indent; i++)
        put(w, "  ", 2);
    put(w, text, (size_t)n);
}

static void open_storage(struct writer *w, unsigned indent, const char *name)
{
    line(w, indent, "<Storage Name='%s'>\r\n", name);
}

static void close_storage(struct writer *w, unsigned indent)
{
    line(w, indent, "</Storage>\r\n");
}

/* Bytes of a value, `first` without a blank in front. */
static void put_hex(struct writer *w, const uint8_t *data, size_t size, bool first)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < size; i++) {
        const char text[HEX_STEP] = {' ', digits[data[i] >> 4], digits[data[i] & 0xf]};
        bool bare = first && i == 0;
        put(w, text + bare, sizeof(text) - bare);
    }
}

static void begin_stream(struct writer *w, unsigned indent, uint64_t length, const char *name)
{
    line(w, indent, "<Stream Length='%" PRIu64 "' Name='%s' Value='", length, name);
}

static void end_stream(struct writer *w)
{
    put(w, "'/>\r\n", 5);
}

static void put_stream(struct writer *w, unsigned indent, const char *name, const uint8_t *data, size_t size)
{
    begin_stream(w, indent, size, name);
    put_hex(w, data, size, true);
    end_stream(w);
}

static void put16(uint8_t *to, uint16_t v)
{
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}

/* ---- parts ---- */

static void put_items(struct writer *w)
{
    const struct calibration *c = w->c;
    open_storage(w, 3, "NV_NUMBERED_ITEMS");
    for (uint16_t context = 0; context < CALIBRATION_CONTEXTS_MAX; context++) {
        char name[32] = "NV_ITEM_ARRAY";
        uint64_t n = 0;
        for (size_t i = 0; i < c->n_nv; i++)
            n += c->nv[i].context == context;
        if (n == 0)
            continue;
        if (context > 0)
            snprintf(name, sizeof(name), "NV_ITEM_ARRAY_SIM_%u", context);
        begin_stream(w, 4, n * NV_RECORD, name);
        bool first = true;
        for (size_t i = 0; i < c->n_nv; i++) {
            uint8_t record[NV_RECORD] = {NV_RECORD, 0, 1, 0};
            if (c->nv[i].context != context)
                continue;
            put16(record + 4, c->nv[i].item);
            put16(record + 6, c->nv[i].index);
            memcpy(record + 8, c->nv[i].data, CALIBRATION_NV_DATA);
            put_hex(w, record, sizeof(record), first);
            first = false;
        }
        end_stream(w);
    }
    close_storage(w, 3);
}

/* Provisioning entries end with a NUL, the others do not (diag.md 3). */
static void put_entry(struct writer *w, const struct calibration_file *f, const char *name)
{
    uint8_t value[CALIBRATION_HEAD_SIZE + CALIBRATION_PATH_MAX];
    size_t n = 0, length = strlen(f->path) + (f->section == CALIBRATION_PROVISIONING);
    if (f->has_head) {
        memcpy(value, f->head, CALIBRATION_HEAD_SIZE);
        n = CALIBRATION_HEAD_SIZE;
    }
    memcpy(value + n, f->path, length);
    put_stream(w, 5, name, value, n + length);
}

static int put_files(struct writer *w, enum calibration_section section, struct error *e)
{
    const struct calibration *c = w->c;
    char name[16];
    open_storage(w, 3, section_names[section]);
    open_storage(w, 4, "EFS_Dir");
    uint32_t index = 0;
    for (size_t i = 0; i < c->n_files; i++)
        if (c->files[i].section == section) {
            snprintf(name, sizeof(name), "%08X", index++);
            put_entry(w, &c->files[i], name);
        }
    close_storage(w, 4);
    open_storage(w, 4, "EFS_Data");
    index = 0;
    for (size_t i = 0; i < c->n_files; i++) {
        _cleanup_free_ uint8_t *data = NULL;
        if (c->files[i].section != section)
            continue;
        int r = calibration_load(c, &c->files[i], &data, e);
        if (r < 0)
            return r;
        snprintf(name, sizeof(name), "%08X", index++);
        put_stream(w, 5, name, data, (size_t)c->files[i].size);
    }
    close_storage(w, 4);
    close_storage(w, 3);
    return 0;
}

static void put_properties(struct writer *w)
{
    const struct calibration *c = w->c;
    uint8_t value[12 + 2 * BACKUP_TEXT_SIZE];
    size_t version = strlen(c->version), tool = strlen(c->tool), n = 0;
    put16(value, (uint16_t)c->esn);
    put16(value + 2, (uint16_t)(c->esn >> 16));
    put16(value + 4, c->mobile_model);
    value[6] = c->nv_major;
    value[7] = c->nv_minor;
    put16(value + 8, (uint16_t)version);
    memcpy(value + 10, c->version, version);
    n = 10 + version;
    put16(value + n, (uint16_t)tool);
    memcpy(value + n + 2, c->tool, tool);
    put_stream(w, 3, "Mobile_Property_Info", value, n + 2 + tool);
    put_stream(w, 3, "Feature_Mask", c->features, c->n_features);
}

int xqcn_write(const struct calibration *c, int fd, uint64_t at, uint64_t *ret_size, struct error *e)
{
    static const uint8_t file_version[] = {2, 0, 0, 0, 0, 0};
    static const enum calibration_section order[] = {CALIBRATION_EFS_BACKUP, CALIBRATION_PROVISIONING,
                                                     CALIBRATION_NV_ITEMS};
    _cleanup_free_ char *buffer = malloc(BUFFER);
    char model[16];
    int r = 0;
    if (!buffer)
        return error_set(e, ERROR_FAILED, "out of memory");
    struct writer w = {.c = c, .fd = fd, .at = at, .buffer = buffer};
    snprintf(model, sizeof(model), "%08X", c->model_id);
    line(&w, 0, "<?xml version=\"1.0\" encoding=\"Windows-1252\" ?>\r\n");
    open_storage(&w, 0, "calibration.xqcn");
    open_storage(&w, 1, model);
    open_storage(&w, 2, "default");
    put_items(&w);
    for (size_t i = 0; i < ARRAY_SIZE(order) && r == 0; i++)
        r = put_files(&w, order[i], e);
    put_properties(&w);
    close_storage(&w, 2);
    close_storage(&w, 1);
    put_stream(&w, 1, "File_Version", file_version, sizeof(file_version));
    close_storage(&w, 0);
    flush(&w);
    if (r < 0)
        return r;
    if (w.failed < 0)
        return error_set(e, io_is_full(w.failed) ? ERROR_NO_SPACE : ERROR_FAILED,
                         "the XQCN cannot be written: %s", strerror(-w.failed));
    *ret_size = w.size;
    return 0;
}
