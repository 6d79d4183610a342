/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A package's files and its list of findings; package.c puts it together. */

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "firmware/package.h"

const struct package_file *package_find(const struct package *p, const char *path)
{
    for (size_t i = 0; i < p->n_files; i++)
        if (text_equal_nocase(p->files[i].path, path))
            return &p->files[i];
    return NULL;
}

int package_resolve(const char *base, const char *name, char *ret, size_t size)
{
    char path[PACKAGE_PATH_MAX];
    size_t n = strlen(base);

    if (n >= sizeof(path) || !text_is_clean(name, strlen(name)) || name[0] == '/' || name[0] == '\\' ||
        (name[0] && name[1] == ':'))
        return -EINVAL;
    memcpy(path, base, n);
    while (*name) {
        size_t length = strcspn(name, "/\\");
        if (length == 2 && name[0] == '.' && name[1] == '.') {
            if (n == 0)
                return -EINVAL; /* out of the package */
            while (n > 0 && path[n - 1] != '/')
                n--;
            n -= n > 0; /* the slash */
        } else if (length > 0 && !(length == 1 && name[0] == '.')) {
            if (n + length + 2 > sizeof(path))
                return -EINVAL;
            if (n > 0)
                path[n++] = '/';
            memcpy(path + n, name, length);
            n += length;
        }
        name += length + (name[length] != '\0');
    }
    if (n == 0 || n >= size)
        return -EINVAL;
    memcpy(ret, path, n);
    ret[n] = '\0';
    return 0;
}

int package_read(const struct package *p, const struct package_file *file, uint64_t offset, void *buffer,
                 size_t size)
{
    size_t inside = offset < file->size ? (size_t)MIN_OF((uint64_t)size, file->size - offset) : 0;
    int r = inside > 0 ? io_pread_full(p->fd, buffer, inside, file->offset + offset) : 0;
    if (r < 0)
        return r;
    memset((char *)buffer + inside, 0xff, size - inside);
    return 0;
}

int package_load(const struct package *p, const struct package_file *file, size_t max, char **ret,
                 size_t *ret_size)
{
    if (file->size > max)
        return -EFBIG;
    _cleanup_free_ char *data = malloc(file->size + 1);
    if (!data)
        return -ENOMEM;
    int r = package_read(p, file, 0, data, file->size);
    if (r < 0)
        return r;
    data[file->size] = '\0';
    *ret_size = file->size;
    *ret = steal_ptr(data);
    return 0;
}

/* ---- findings ---- */

_printf_(1, 0) static char *line_of(const char *format, va_list ap)
{
    char raw[1024], *clean = malloc(sizeof(raw));
    if (!clean)
        return NULL;
    vsnprintf(raw, sizeof(raw), format, ap);
    text_clean(raw, strlen(raw), clean, sizeof(raw));
    return clean;
}

_printf_(3, 0) static void add_problem(struct package *p, enum error_kind kind, const char *format,
                                       va_list ap)
{
    char *line = p->n_problems < PACKAGE_PROBLEMS_MAX ? line_of(format, ap) : NULL;
    if (!line) {
        p->problems_dropped++;
        return;
    }
    p->problem_kinds[p->n_problems] = kind;
    p->problems[p->n_problems++] = line;
}

void package_problem(struct package *p, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add_problem(p, ERROR_FIRMWARE_INVALID, format, ap);
    va_end(ap);
}

void package_missing(struct package *p, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add_problem(p, ERROR_FIRMWARE_INCOMPLETE, format, ap);
    va_end(ap);
}

void package_note(struct package *p, const char *format, ...)
{
    va_list ap;
    if (p->n_notes == PACKAGE_PROBLEMS_MAX)
        return;
    va_start(ap, format);
    char *line = line_of(format, ap);
    va_end(ap);
    if (line)
        p->notes[p->n_notes++] = line;
}

int package_check(const struct package *p, struct error *e)
{
    size_t n = p->n_problems + p->problems_dropped;
    if (n == 0)
        return 0;
    enum error_kind kind = p->n_problems ? p->problem_kinds[0] : ERROR_FIRMWARE_INVALID;
    const char *first = p->n_problems ? p->problems[0] : "problems were found";
    const char *what = kind == ERROR_FIRMWARE_INCOMPLETE ? "incomplete" : "invalid";
    int r = n == 1 ? error_set(e, kind, "The package is %s: %s", what, first)
                   : error_set(e, kind, "The package is %s: %s (and %zu more)", what, first, n - 1);
    error_hint(e, HINT_IMPORT_FIRMWARE);
    return r;
}
