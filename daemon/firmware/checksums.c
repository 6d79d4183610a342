/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/checksums.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

enum { HEX_SIZE = 2 * MD5_SIZE, LINE_MAX_SIZE = PACKAGE_PATH_MAX + 64 };

#define LIST_NAME "md5.txt"

struct parser {
    struct package *p;
    struct checksums *list;
    unsigned line;
    bool started, ended; /* FILE:START, FILE:END */
    unsigned bad_lines;
};

void checksums_done(struct checksums *c)
{
    free(c->entries);
    *c = (struct checksums){0};
}

static const struct checksum *find(const struct checksums *c, const char *path)
{
    for (size_t i = 0; i < c->n_entries; i++)
        if (text_equal_nocase(c->entries[i].path, path))
            return &c->entries[i];
    return NULL;
}

/* Paths in the list begin at the package, with or without a separator in front. */
static int clean_path(const char *name, char *ret, size_t size)
{
    const char *why;
    while (*name == '/' || *name == '\\')
        name++;
    if (*name == '*') /* md5sum's mark of a binary file */
        name++;
    return archive_clean_name(name, ret, size, &why);
}

static int add(struct parser *x, const char *name, const char *hex)
{
    struct checksum entry = {0};
    if (text_unhex(hex, entry.md5, MD5_SIZE) < 0 || clean_path(name, entry.path, sizeof(entry.path)) < 0 ||
        !*entry.path)
        return -EBADMSG;
    const struct checksum *before = find(x->list, entry.path);
    if (before) {
        if (memcmp(before->md5, entry.md5, MD5_SIZE) != 0)
            package_problem(x->p, LIST_NAME " line %u: %s has another digest than further up", x->line,
                            entry.path);
        return 0;
    }
    if (x->list->n_entries == PACKAGE_FILES_MAX) {
        package_problem(x->p, LIST_NAME " lists more than %d files", PACKAGE_FILES_MAX);
        return -E2BIG;
    }
    size_t n = x->list->n_entries;
    if ((n & (n - 1)) == 0) { /* full at each power of two: a long list is not copied for each of its lines */
        struct checksum *entries = reallocarray(x->list->entries, n == 0 ? 1 : 2 * n, sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        x->list->entries = entries;
    }
    x->list->entries[x->list->n_entries++] = entry;
    return 0;
}

/* "FILE:\path:HEX": the digest is behind the last colon. */
static int parse_quectel(struct parser *x, char *line)
{
    char *colon = strrchr(line, ':');
    if (!colon)
        return -EBADMSG;
    *colon = '\0';
    const char *name = line;
    if (text_starts_with(name, "FILE:"))
        name += strlen("FILE:");
    if (*name == ':')
        name++;
    return add(x, name, colon + 1);
}

/* "HEX  path" or "HEX *path". */
static int parse_md5sum(struct parser *x, char *line)
{
    char hex[HEX_SIZE + 1];
    if (strlen(line) < HEX_SIZE + 2 || (line[HEX_SIZE] != ' ' && line[HEX_SIZE] != '\t'))
        return -EBADMSG;
    memcpy(hex, line, HEX_SIZE);
    hex[HEX_SIZE] = '\0';
    return add(x, line + HEX_SIZE + 1 + strspn(line + HEX_SIZE + 1, " \t"), hex);
}

static int parse_line(struct parser *x, char *line)
{
    size_t n = strlen(line);
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t'))
        line[--n] = '\0';
    line += strspn(line, " \t");
    if (!*line || text_starts_with(line, "VERSION:"))
        return 0;
    if (strcmp(line, "FILE:START") == 0) {
        x->started = true;
        return 0;
    }
    if (strcmp(line, "FILE:END") == 0) {
        x->ended = true;
        return 0;
    }
    int r = parse_md5sum(x, line);
    return r == -EBADMSG ? parse_quectel(x, line) : r;
}

int checksums_parse(struct package *p, const char *text, size_t size, struct checksums *ret)
{
    struct checksums list = {0};
    struct parser x = {.p = p, .list = &list};
    char line[LINE_MAX_SIZE];
    static const char BOM[] = "\xef\xbb\xbf";

    if (size >= strlen(BOM) && memcmp(text, BOM, strlen(BOM)) == 0) {
        text += strlen(BOM);
        size -= strlen(BOM);
    }
    int r = 0;
    for (const char *at = text, *end = text + size; at < end && r != -ENOMEM && r != -E2BIG;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = newline ? (size_t)(newline - at) : (size_t)(end - at);
        x.line++;
        r = -EBADMSG;
        if (n < sizeof(line) && !memchr(at, '\0', n)) {
            memcpy(line, at, n);
            line[n] = '\0';
            r = parse_line(&x, line);
        }
        if (r == -EBADMSG && x.bad_lines++ == 0)
            package_problem(
                p, LIST_NAME " line %u is no entry (\"FILE:\\path:HEX\" or \"HEX  path\" is expected)",
                x.line);
        at += n + (newline ? 1 : 0);
    }
    if (r == -ENOMEM) {
        checksums_done(&list);
        return r;
    }
    if (x.bad_lines > 1)
        package_problem(p, LIST_NAME " has %u lines that are no entries", x.bad_lines);
    if (x.started && !x.ended)
        package_problem(p, LIST_NAME " is cut: FILE:END is missing");
    if (list.n_entries == 0)
        package_problem(p, LIST_NAME " lists no file");
    *ret = list;
    return 0;
}

void checksums_check(struct package *p, const struct checksums *c)
{
    char expected[2 * MD5_SIZE + 1], found[2 * MD5_SIZE + 1];

    for (size_t i = 0; i < c->n_entries; i++) {
        const struct checksum *entry = &c->entries[i];
        const struct package_file *file = package_find(p, entry->path);
        if (!file) {
            /* A missing file that something needs was reported by whoever needs it. */
            package_note(p, LIST_NAME " lists %s, which is not in the package", entry->path);
            continue;
        }
        if (memcmp(file->md5, entry->md5, MD5_SIZE) == 0)
            continue;
        text_hex(entry->md5, MD5_SIZE, expected);
        text_hex(file->md5, MD5_SIZE, found);
        package_problem(p, "%s does not match " LIST_NAME ": expected %s, found %s", file->path, expected,
                        found);
    }
    for (size_t i = 0; i < p->n_files; i++) {
        const struct package_file *file = &p->files[i];
        if (text_equal_nocase(file->path, LIST_NAME) || find(c, file->path))
            continue;
        if (file->referenced)
            package_problem(p, LIST_NAME " does not list %s", file->path);
        else
            package_note(p, "nothing refers to %s", file->path);
    }
}
