/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Quectel's vendor tag: is this package for this project? (reference/edl.md 2.7 and the corrections) */

#include "programmer.h"

#include <string.h>

#include "layout.h"
#include "trace.h"

enum verdict { VERDICT_OK, VERDICT_ERROR, VERDICT_NO_PARTITION, VERDICT_NO_NAME };

static bool same_text(const uint8_t *record, const char *text)
{
    size_t n = strnlen((const char *)record, RAWDATA_TEXT_MAX);

    return strlen(text) == n && memcmp(record, text, n) == 0;
}

static enum verdict judge(const struct programmer *p, const char *name, const char *type)
{
    const struct partition *rawdata;
    const uint8_t *record;
    struct layout l;
    uint32_t page;

    if (!layout_read(p->nand, &l) || !(rawdata = layout_find(&l, "RAWDATA")))
        return VERDICT_NO_PARTITION;
    if (!layout_first_page(p->nand, rawdata, &page) || nand_page_state(p->nand, page) != PAGE_WRITTEN)
        return VERDICT_NO_NAME;
    record = nand_page(p->nand, page);
    if (memcmp(record, rawdata_magic, sizeof(rawdata_magic)) || record[RAWDATA_NAME] == 0)
        return VERDICT_NO_NAME;
    if (!same_text(record + RAWDATA_NAME, name))
        return VERDICT_ERROR;
    return !type || !*type || same_text(record + RAWDATA_TYPE, type) ? VERDICT_OK : VERDICT_ERROR;
}

int vendor_check(struct programmer *p, const struct tag *t)
{
    const char *name = tag_get(t, "c_project_name"), *type = tag_get(t, "d_project_type");
    enum verdict v;
    int r;

    if (!storage_open(p, &r))
        return r;
    name = name ? name : "";
    v = judge(p, name, type);
    if (p->scenario->vendor == VENDOR_AGREE)
        v = VERDICT_OK;
    if (p->scenario->vendor == VENDOR_REFUSE)
        v = VERDICT_ERROR;
    if (p->scenario->vendor == VENDOR_NOTFOUND)
        v = VERDICT_NO_PARTITION;
    trace("vendor name=%s verdict=%d", name, (int)v);
    switch (v) {
    case VERDICT_OK:
        r = speak_log(p, "INFO: [harden] project name or type = %s ok!", name);
        break;
    case VERDICT_ERROR:
        return speak_nak(p, "ERROR: [harden] project name or type = %s error!", name);
    case VERDICT_NO_PARTITION:
        r = speak_log(p, "INFO: not find RAWDATA partition in mibib");
        break;
    case VERDICT_NO_NAME:
        r = speak_log(p, "INFO: [harden] not find project name or type");
        break;
    }
    return r < 0 ? r : speak_response(p, true, false, "");
}
