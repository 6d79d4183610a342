/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/rawprogram.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/xmlfile.h"

struct parser {
    struct package *p;
    const char *base;
    bool root_seen;
    bool too_many;
};

enum { SECTOR_SIZE_LIMIT = 64 * 1024, PAGES_PER_BLOCK_LIMIT = 1024 };

/* A strict number; what is wrong with it is a problem with the line. */
static bool get_number(struct package *p, const char *const *attributes, const char *element,
                       const char *name, unsigned line, uint64_t max, uint64_t *ret)
{
    const char *text = xmlfile_attribute(attributes, name);
    if (!text) {
        package_problem(p, "%s of line %u has no %s", element, line, name);
        return false;
    }
    int r = text_parse_u64(text, 10, max, ret);
    if (r < 0) {
        package_problem(p, "%s of line %u: %s=\"%.64s\" is %s", element, line, name, text,
                        r == -ERANGE ? "too large" : "not a plain number");
        return false;
    }
    return true;
}

/* The same for one that may be absent. */
static bool get_optional(struct package *p, const char *const *attributes, const char *element,
                         const char *name, unsigned line, uint64_t max, uint64_t fallback, uint64_t *ret)
{
    if (xmlfile_attribute(attributes, name))
        return get_number(p, attributes, element, name, line, max, ret);
    *ret = fallback;
    return true;
}

static int add_command(struct parser *x, const struct package_command *c)
{
    struct package *p = x->p;
    if (p->n_commands == PACKAGE_STEPS_MAX) {
        if (!x->too_many)
            package_problem(p, "the rawprogram XML has more than %d commands", PACKAGE_STEPS_MAX);
        x->too_many = true;
        return 0;
    }
    struct package_command *commands = reallocarray(p->commands, p->n_commands + 1, sizeof(*commands));
    if (!commands)
        return -ENOMEM;
    p->commands = commands;
    commands[p->n_commands++] = *c;
    return 0;
}

/* Size, start and count: an erase that lacks one of them is "the whole chip" to a programmer. */
static bool parse_range(struct package *p, const char *const *a, const char *element, unsigned line,
                        struct package_command *c)
{
    uint64_t sector_size = 0, pages_per_block = 0, physical = 0;
    bool good = get_number(p, a, element, "SECTOR_SIZE_IN_BYTES", line, SECTOR_SIZE_LIMIT, &sector_size);
    good &= get_number(p, a, element, "num_partition_sectors", line, PACKAGE_PAGES_MAX, &c->count);
    good &= get_number(p, a, element, "start_sector", line, PACKAGE_PAGES_MAX, &c->start);
    good &= get_optional(p, a, element, "PAGES_PER_BLOCK", line, PAGES_PER_BLOCK_LIMIT, 0, &pages_per_block);
    good &= get_optional(p, a, element, "last_sector", line, 2 * PACKAGE_PAGES_MAX, UINT64_MAX, &c->last);
    good &= get_optional(p, a, element, "physical_partition_number", line, UINT32_MAX, 0, &physical);
    if (!good)
        return false;
    if (c->count == 0) {
        package_problem(p, "%s of line %u has no length (num_partition_sectors=\"0\")", element, line);
        return false;
    }
    if (c->last < c->start + c->count - 1) {
        package_problem(p, "%s of line %u: last_sector %llu lies before the end of its own range, %llu",
                        element, line, (unsigned long long)c->last,
                        (unsigned long long)(c->start + c->count - 1));
        return false;
    }
    if (physical != 0) {
        package_problem(p, "%s of line %u: physical partition %llu; NAND has only 0", element, line,
                        (unsigned long long)physical);
        return false;
    }
    c->sector_size = (uint32_t)sector_size;
    c->pages_per_block = (uint32_t)pages_per_block;
    return true;
}

static int on_program(struct parser *x, const char *const *a, unsigned line)
{
    struct package *p = x->p;
    struct package_command c = {.kind = COMMAND_PROGRAM, .line = line};
    char path[PACKAGE_PATH_MAX];
    uint64_t offset = 0;
    const char *name = xmlfile_attribute(a, "filename"), *sparse = xmlfile_attribute(a, "sparse");

    if (!name || !*name) {
        package_note(p, "program of line %u names no file and writes nothing", line);
        return 0;
    }
    bool good = parse_range(p, a, "program", line, &c);
    good &= get_optional(p, a, "program", "file_sector_offset", line, PACKAGE_PAGES_MAX, 0, &offset);
    if (offset != 0)
        package_problem(
            p, "program of line %u begins inside its file (file_sector_offset), which is not supported",
            line);
    if (sparse && text_equal_nocase(sparse, "true"))
        package_problem(p, "program of line %u has a sparse image, which NAND packages do not", line);

    if (package_resolve(x->base, name, path, sizeof(path)) < 0) {
        package_problem(p, "program of line %u: \"%.200s\" is not a name inside the package", line, name);
        return 0;
    }
    c.file = package_find(p, path);
    if (!c.file) {
        package_missing(p, "%s is missing (program of line %u)", path, line);
        return 0;
    }
    p->files[c.file - p->files].referenced = true;
    return good ? add_command(x, &c) : 0;
}

/* A name that goes to the programmer as text: nothing in it can end the attribute or the document. */
static bool get_vendor_name(struct package *p, const char *const *a, const char *name, unsigned line,
                            char *ret, size_t size)
{
    const char *text = xmlfile_attribute(a, name);
    if (!text)
        text = "";
    for (const char *c = text; *c; c++)
        if (!((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-' ||
              *c == '_' || *c == '.')) {
            package_problem(p, "vendor check of line %u: %s=\"%.64s\" is not a plain name", line, name, text);
            return false;
        }
    if (strlen(text) >= size) {
        package_problem(p, "vendor check of line %u: %s is longer than %zu bytes", line, name, size - 1);
        return false;
    }
    snprintf(ret, size, "%s", text);
    return true;
}

static int on_vendor(struct parser *x, const char *const *a, const char *vendor, unsigned line)
{
    struct package *p = x->p;
    struct package_command c = {.kind = COMMAND_VENDOR, .line = line, .last = UINT64_MAX};
    if (!text_equal_nocase(vendor, "quectel")) {
        package_problem(p, "erase of line %u is a vendor command of \"%.64s\", which is not known", line,
                        vendor);
        return 0;
    }
    bool good = get_number(p, a, "vendor check", "a_rawdata_start_sector", line, PACKAGE_PAGES_MAX,
                           &c.vendor.rawdata_start_sector);
    good &= get_number(p, a, "vendor check", "b_rawdata_num_sector", line, PACKAGE_PAGES_MAX,
                       &c.vendor.rawdata_sectors);
    good &=
        get_vendor_name(p, a, "c_project_name", line, c.vendor.project_name, sizeof(c.vendor.project_name));
    good &=
        get_vendor_name(p, a, "d_project_type", line, c.vendor.project_type, sizeof(c.vendor.project_type));
    return good ? add_command(x, &c) : 0;
}

static int on_erase(struct parser *x, const char *const *a, unsigned line)
{
    struct package_command c = {.kind = COMMAND_ERASE, .line = line};
    const char *vendor = xmlfile_attribute(a, "vendor"), *size = xmlfile_attribute(a, "SECTOR_SIZE_IN_BYTES");
    if (vendor)
        return on_vendor(x, a, vendor, line);
    /* BG95 packages carry an entry that a programmer must never see (reference/edl.md 3.6, 8.24). */
    if (size && strcmp(size, "0") == 0) {
        package_note(x->p, "erase of line %u has sectors of 0 bytes and is left out", line);
        return 0;
    }
    return parse_range(x->p, a, "erase", line, &c) ? add_command(x, &c) : 0;
}

static int on_element(void *userdata, const char *name, const char *const *attributes, unsigned depth,
                      unsigned line)
{
    struct parser *x = userdata;
    if (depth == 0) {
        x->root_seen = strcmp(name, "data") == 0;
        if (!x->root_seen)
            package_problem(x->p, "the rawprogram XML's root is <%.64s> instead of <data>", name);
        return 0;
    }
    if (depth == 1 && strcmp(name, "program") == 0)
        return on_program(x, attributes, line);
    if (depth == 1 && strcmp(name, "erase") == 0)
        return on_erase(x, attributes, line);
    package_problem(x->p, "line %u of the rawprogram XML: <%.64s> is not a command for NAND", line, name);
    return 0;
}

int rawprogram_parse(struct package *p, const char *base, const char *text, size_t size)
{
    struct parser parser = {.p = p, .base = base};
    struct xmlfile x = {.on_element = on_element, .userdata = &parser};
    char why[256] = "";

    int r = xmlfile_parse(&x, text, size, why, sizeof(why));
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        package_problem(p, "the rawprogram XML cannot be read: %s", why);
    else if (parser.root_seen && p->n_commands == 0 && p->n_problems == 0)
        package_problem(p, "the rawprogram XML has no command");
    return 0;
}
