/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "layout.h"

static bool sbl_valid(const struct nand *n, const struct partition *sbl)
{
    uint32_t page, magic;

    if (!layout_first_page(n, sbl, &page) || nand_page_state(n, page) != PAGE_WRITTEN)
        return false;
    memcpy(&magic, nand_page(n, page), sizeof(magic));
    return magic == (uint32_t)SBL_MAGIC;
}

/* No page that cannot be read, no image that was left half-written. */
static bool partition_whole(const struct nand *n, const struct partition *p)
{
    for (uint32_t b = p->first_block; b < p->first_block + p->blocks; b++) {
        if (nand_block_bad(n, b))
            continue;
        if (n->records[b].flags & BLOCK_INCOMPLETE)
            return false;
        if (memchr(n->states + b * n->pages_per_block, PAGE_UNREADABLE, n->pages_per_block))
            return false;
    }
    return true;
}

static bool find_version(const struct nand *n, const struct partition *p, char version[BOOT_VERSION_MAX])
{
    static const char key[] = "QUECTEL_VERSION=";

    for (uint32_t b = p->first_block; b < p->first_block + p->blocks; b++) {
        uint32_t first = b * n->pages_per_block, pages = 0;
        const char *start = (const char *)nand_page(n, first), *found;
        size_t length = 0;

        while (pages < n->pages_per_block && nand_page_state(n, first + pages) == PAGE_WRITTEN)
            pages++;
        if (nand_block_bad(n, b) || pages == 0)
            continue;
        found = memmem(start, (size_t)pages * n->page_size, key, sizeof(key) - 1);
        if (!found)
            continue;
        found += sizeof(key) - 1;
        while (length < BOOT_VERSION_MAX - 1 && found + length < start + (size_t)pages * n->page_size &&
               (isalnum((unsigned char)found[length]) || strchr("._-", found[length])) && found[length])
            length++;
        memcpy(version, found, length);
        version[length] = 0;
        return length > 0;
    }
    return false;
}

bool boot_decide(const struct nand *n, char version[BOOT_VERSION_MAX], char reason[BOOT_REASON_MAX])
{
    static const char *const with_version[] = {"TZ", "modem", "system"};
    const struct partition *sbl;
    struct layout l, made;

    /* The boot ROM has no table: it looks in sector 0. */
    layout_default(&made, n->blocks);
    sbl = layout_find(&made, "SBL");
    if (!sbl_valid(n, sbl) || !partition_whole(n, sbl)) {
        snprintf(reason, BOOT_REASON_MAX, "no valid SBL");
        return false;
    }
    if (!layout_read(n, &l)) {
        snprintf(reason, BOOT_REASON_MAX, "no valid MIBIB");
        return false;
    }
    for (uint32_t i = 0; i < l.count; i++) {
        const char *name = l.partitions[i].name;
        /* The file systems with user data repair themselves. */
        if (strcmp(name, "EFS2") == 0 || strcmp(name, "usrdata") == 0 || strcmp(name, "MIBIB") == 0)
            continue;
        if (!partition_whole(n, &l.partitions[i])) {
            snprintf(reason, BOOT_REASON_MAX, "%s is not whole", name);
            return false;
        }
    }
    for (unsigned i = 0; i < sizeof(with_version) / sizeof(with_version[0]); i++) {
        const struct partition *p = layout_find(&l, with_version[i]);
        if (p && find_version(n, p, version))
            return true;
    }
    snprintf(reason, BOOT_REASON_MAX, "no version in TZ, modem or system");
    return false;
}
