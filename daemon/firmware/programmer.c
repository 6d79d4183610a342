/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firmware/programmer.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "base/text.h"

enum { PROGRAMMER_SIZE_MIN = 4096, CANDIDATES_MAX = 8 };

/* The names that vendors give to programmers, in the order in which they count. Those for eMMC are no
 * candidates: this is NAND. */
static const char *const PATTERNS[] = {
    "prog_nand_firehose_*.mbn", "prog_firehose_*.mbn", "prog_firehose_*.elf",
    "firehose-prog*.mbn",       "prog_*.mbn",          "xbl_s_devprg_ns_*.melf",
};

/* What a chip is called in the programmer's name and in contents.xml. */
static const struct {
    const char *token, *chip;
    const char *ids[6];
} CHIPS[] = {
    {"9x07", "MDM9x07", {"MDM9607", "MDM9207", "MDM9x07", "9607"}},
    {"9x06", "MDM9x06", {"MDM9206", "MDM9x06"}},
    {"9x05", "MDM9x05", {"MDM9205", "MDM9x05"}},
    {"9x65", "MDM9x65", {"MDM9650", "MDM9x65"}},
    {"sdx20", "SDX20", {"SDX20"}},
    {"sdx24", "SDX24", {"SDX24", "SDXPOORWILLS"}},
    {"sdx35", "SDX35", {"SDX35", "SDXBAAGHA"}},
    {"sdx55", "SDX55", {"SDX55", "SDXPRAIRIE"}},
    {"sdx6x", "SDX6x", {"SDX62", "SDX65", "SDX6x", "SDXLEMUR", "SDXNIGHTJAR"}},
    {"sdx7x", "SDX7x", {"SDX72", "SDX75", "SDX7x", "SDXPINN"}},
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool lies_in(const char *path, const char *base)
{
    size_t n = strlen(base);
    const char *name = base_name(path);
    if (n == 0)
        return name == path;
    return (size_t)(name - path) == n + 1 && strncasecmp(path, base, n) == 0;
}

static const char *chip_of_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(CHIPS); i++)
        if (strcasestr(name, CHIPS[i].token))
            return CHIPS[i].chip;
    return "";
}

static const char *chip_of_id(const char *chipid)
{
    for (size_t i = 0; i < ARRAY_SIZE(CHIPS); i++)
        for (size_t k = 0; k < ARRAY_SIZE(CHIPS[i].ids) && CHIPS[i].ids[k]; k++)
            if (text_equal_nocase(chipid, CHIPS[i].ids[k]))
                return CHIPS[i].chip;
    return "";
}

/* The candidates of the first pattern that has any; those of another chip do not count if the chip is known.
 */
static size_t collect(const struct package *p, const char *base, const char *chip,
                      const struct package_file **ret)
{
    size_t n = 0;
    for (size_t k = 0; k < ARRAY_SIZE(PATTERNS) && n == 0; k++)
        for (size_t i = 0; i < p->n_files && n < CANDIDATES_MAX; i++) {
            const char *name = base_name(p->files[i].path), *own = chip_of_name(name);
            if (!lies_in(p->files[i].path, base) || fnmatch(PATTERNS[k], name, FNM_CASEFOLD) != 0 ||
                strcasestr(name, "emmc"))
                continue;
            if (*chip && *own && strcmp(chip, own) != 0)
                continue;
            ret[n++] = &p->files[i];
        }
    return n;
}

static int read_capabilities(struct package *p)
{
    _cleanup_free_ char *data = NULL;
    size_t size;
    int r = package_load(p, p->programmer, PROGRAMMER_SIZE_MAX, &data, &size);
    if (r < 0)
        return r;
    nand_capabilities_read(data, size, &p->capabilities);
    return 0;
}

int programmer_choose(struct package *p, const char *base, const char *chipid)
{
    const struct package_file *candidates[CANDIDATES_MAX];
    const char *chip = chip_of_id(chipid);
    size_t n = collect(p, base, chip, candidates);

    snprintf(p->chip, sizeof(p->chip), "%s", chip);
    if (n == 0) {
        size_t others = *chip ? collect(p, base, "", candidates) : 0;
        if (others > 0)
            package_problem(p, "%s is not a programmer for %s, which contents.xml names", candidates[0]->path,
                            chip);
        else
            package_missing(p, "there is no programmer (%s/prog_…firehose…)", *base ? base : ".");
        return 0;
    }
    if (n > 1) {
        package_problem(p, "there are several programmers: %s and %s", candidates[0]->path,
                        candidates[1]->path);
        return 0;
    }
    if (candidates[0]->size < PROGRAMMER_SIZE_MIN || candidates[0]->size > PROGRAMMER_SIZE_MAX) {
        package_problem(p, "%s has %llu bytes; a programmer has %d to %d", candidates[0]->path,
                        (unsigned long long)candidates[0]->size, PROGRAMMER_SIZE_MIN, PROGRAMMER_SIZE_MAX);
        return 0;
    }
    p->programmer = candidates[0];
    p->files[p->programmer - p->files].referenced = true;
    if (!*p->chip)
        snprintf(p->chip, sizeof(p->chip), "%s", chip_of_name(base_name(p->programmer->path)));
    return read_capabilities(p);
}
