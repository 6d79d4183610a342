/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "factory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RFNV_FIRST = 20000,
    RFNV_RANGE = 12000,
    RFNV_SIZE_MAX = 300,
    NV_RANGE = 7166,
    LARGE_FILE = 700000,
    IMEI_DIGITS = 15,
    PATH_MAX_HERE = 96,
};

/* Numbers that have a meaning (reference/diag.md 2.4, 4.1); the rest is spread over the range. */
static const uint16_t known_items[] = {10, 447, NV_FTM_MODE, NV_IMEI, 855, 2824};

/* As the modems of the field have them; sizes are plausible, contents are noise. */
static const struct {
    const char *path;
    uint16_t size;
} files[] = {
    {"/nv/item_files/conf/multisim_ftm_mode", 1},
    {"/nv/item_files/data/3gpp/ds_3gpp_multi_pdn_same_apn", 1},
    {"/nv/item_files/ims/IMS_enable", 1},
    {"/nv/item_files/ims/qp_ims_reg_config", 1034},
    {"/nv/item_files/ims/qp_ims_sms_config", 281},
    {"/nv/item_files/mcfg/mcfg_autoselect_by_uim", 1},
    {"/nv/item_files/mcs/tcxomgr/xo_field_cal", 52},
    {"/nv/item_files/modem/lte/common/lte_category", 4},
    {"/nv/item_files/modem/lte/rrc/csp/pci_lock", 8},
    {"/nv/item_files/modem/lte/rrc/efs/dot_value", 2},
    {"/nv/item_files/modem/mmode/cmph/ftm", 1},
    {"/nv/item_files/modem/mmode/lte_bandpref", 8},
    {"/nv/item_files/modem/mmode/ue_usage_setting", 1},
    {"/nv/item_files/modem/nr5g/rrc/cap_control", 16},
    {"/nv/item_files/modem/uim/simlock/perso_state", 96},
    {"/nv/item_files/modem/utils/a2/bam_config", 24},
    {"/nv/item_files/wcdma/rrc/wcdma_rrc_hspa_config", 1},
    {"/policyman/carrier_policy.xml", 1900},
    {"/policyman/device_config.xml", 620},
    {"/rfc/rfc_card_id", 4},
    {"/rfc/rfc_overrides", 512},
    {"/sd/rat_acq_order", 21},
};

/* Somebody's own, with efs_strange. */
static const char *const strange[] = {
    "/data/caf\xc3\xa9",
    "/data/..hidden",
    "/data/tab\there",
    "/data/a/b/c/d/e/f/g/h/i/j/k/l/m/n",
};

/* The firmware's own lists of what its parts may have, a path a line; most of what they name is not there. */
static const struct {
    const char *path, *below;
    const char *absent;
} lists[] = {
    {"/nv/item_files/conf/mmode.conf", "/nv/item_files/modem/mmode/",
     "/nv/item_files/modem/mmode/voice_domain_pref"},
    {"/nv/item_files/conf/data_config_info.conf", "/nv/item_files/data/",
     "/nv/item_files/data/dsd/ds_apn_switching"},
    {"/nv/item_files/conf/mcs_limitsmgr.conf", "/nv/item_files/mcs/",
     "/nv/item_files/mcs/lmtsmgr/sar/sar_comp_default"},
    {"/nv/item_files/conf/ims.conf", "/nv/item_files/ims/", "/nv/item_files/ims/qipcall_config_items"},
};

static uint32_t noise_of(uint32_t a, uint32_t b)
{
    uint32_t v = (a ^ 0x9E3779B9u) * 0x85EBCA6Bu + b * 0xC2B2AE35u;

    v ^= v >> 15;
    v *= 0x2C1B3C6Du;
    return v ^ v >> 12;
}

static void noise(uint8_t *bytes, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

/* ---- the IMEI ---- */

static char check_digit(const char digits[IMEI_DIGITS - 1])
{
    int sum = 0;

    for (int i = 0; i < IMEI_DIGITS - 1; i++) {
        int d = (digits[i] - '0') * (i % 2 + 1);
        sum += d / 10 + d % 10;
    }
    return (char)('0' + (10 - sum % 10) % 10);
}

void factory_imei(const struct scenario *s, unsigned index, char imei[FACTORY_IMEI_SIZE])
{
    if (*s->imei && index == 0) {
        snprintf(imei, FACTORY_IMEI_SIZE, "%.15s", s->imei);
        return;
    }
    snprintf(imei, FACTORY_IMEI_SIZE, "86%04u%08u", 7584 + index, (uint32_t)s->serial % 100000000);
    imei[IMEI_DIGITS - 1] = check_digit(imei);
    imei[IMEI_DIGITS] = 0;
}

void factory_imei_item(const char *imei, uint8_t data[EFS_NV_SIZE])
{
    size_t digits = strlen(imei);

    memset(data, 0, EFS_NV_SIZE);
    if (digits != IMEI_DIGITS)
        return;
    data[0] = 8;
    data[1] = (uint8_t)((imei[0] - '0') << 4 | 0xA);
    for (size_t i = 1; i < digits; i += 2)
        data[2 + i / 2] = (uint8_t)((imei[i] - '0') | (imei[i + 1] - '0') << 4);
}

/* ---- numbered items ---- */

uint16_t factory_nv_item(const struct scenario *s, size_t i)
{
    enum { KNOWN = sizeof(known_items) / sizeof(known_items[0]) };
    size_t others = s->nv_items > KNOWN ? (size_t)s->nv_items - KNOWN : 1;
    uint16_t item;

    if (i < KNOWN)
        return known_items[i];
    item = (uint16_t)(1 + (i - KNOWN) * (NV_RANGE - 1) / others);
    for (size_t k = 0; k < KNOWN; k++)
        if (item == known_items[k])
            item++;
    return item == NV_NEVER ? item + 1 : item;
}

static void put_item(struct efs *e, uint16_t item, uint16_t index)
{
    uint32_t seed = noise_of(e->serial, (uint32_t)index << 16 | item), length = 1 + seed % 40;
    uint8_t data[EFS_NV_SIZE] = {0};
    char imei[FACTORY_IMEI_SIZE];

    noise(data, length, seed);
    if (item == NV_FTM_MODE)
        memset(data, 0, sizeof(data));
    if (item == NV_IMEI) {
        factory_imei(e->scenario, index, imei);
        factory_imei_item(e->scenario->calibration == CALIBRATION_BLANK_IMEI ? "" : imei, data);
    }
    efs_nv_put(e, item, index, data);
}

/* ---- files ---- */

uint32_t factory_rfnv(const struct scenario *s, size_t i)
{
    return RFNV_FIRST + (uint32_t)(i * (RFNV_RANGE / (size_t)(s->rfnv_items > 0 ? s->rfnv_items : 1)));
}

bool factory_rfnv_needed(size_t i)
{
    return i % 4 != 3;
}

static void put_file(struct efs *e, const char *path, uint16_t mode, size_t size)
{
    uint8_t *bytes = malloc(size + 1);
    uint32_t seed = e->serial;

    if (!bytes)
        abort();
    for (const char *p = path; *p; p++)
        seed = noise_of(seed, (uint8_t)*p);
    noise(bytes, size, seed);
    if (strstr(path, "ftm"))
        memset(bytes, 0, size);
    efs_create(e, path, mode, true);
    efs_write(e, path, 0, bytes, size);
    free(bytes);
}

static void put_list(struct efs *e, size_t list)
{
    char text[1024];
    size_t n = (size_t)snprintf(text, sizeof(text), "%s\n", lists[list].absent);

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strncmp(files[i].path, lists[list].below, strlen(lists[list].below)) == 0)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\n", files[i].path);
    efs_create(e, lists[list].path, EFS_FILE | 0644, true);
    efs_write(e, lists[list].path, 0, text, n);
}

static void put_files(struct efs *e)
{
    int64_t left = e->scenario->efs_large_kib * 1024;
    char path[PATH_MAX_HERE];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        bool item = strncmp(files[i].path, "/nv/item_files/", 15) == 0;
        put_file(e, files[i].path, item ? EFS_ITEM | 0777 : EFS_FILE | 0644, files[i].size);
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        put_list(e, i);
    for (unsigned i = 0; left > 0; i++, left -= LARGE_FILE) {
        snprintf(path, sizeof(path), "/nv/item_files/mcfg/mbn_sw_%02u", i);
        put_file(e, path, EFS_FILE | 0644, left < LARGE_FILE ? (size_t)left : LARGE_FILE);
    }
    for (size_t i = 0; e->scenario->efs_strange && i < sizeof(strange) / sizeof(strange[0]); i++)
        put_file(e, strange[i], EFS_FILE | 0644, 10);
    efs_create(e, "/nv/reserved", EFS_LINK | 0777, true);
    efs_write(e, "/nv/reserved", 0, "/nv/item_files", strlen("/nv/item_files"));
}

void factory_rfnv_path(uint32_t item, char path[FACTORY_PATH_SIZE])
{
    snprintf(path, FACTORY_PATH_SIZE, "/nv/item_files/rfnv/%08u", item);
}

static void put_rfnv(struct efs *e, bool all)
{
    char path[FACTORY_PATH_SIZE];

    for (size_t i = 0; i < (size_t)e->scenario->rfnv_items; i++) {
        uint32_t item = factory_rfnv(e->scenario, i);

        if (!all && i % 2)
            continue;
        factory_rfnv_path(item, path);
        put_file(e, path, EFS_ITEM | 0777, 4 + noise_of(item, 1) % RFNV_SIZE_MAX);
    }
}

void factory_fill(struct efs *e)
{
    const struct scenario *s = e->scenario;
    int64_t kind = s->calibration;

    efs_create(e, "/", EFS_DIRECTORY | 0755, false);
    efs_create(e, "/nv/item_files/rfnv", EFS_DIRECTORY | 0755, true);
    if (kind == CALIBRATION_NONE)
        return;
    for (size_t i = 0; i < (size_t)s->nv_items; i++) {
        uint16_t item = factory_nv_item(s, i);
        if (item != NV_IMEI || kind != CALIBRATION_NO_IMEI)
            put_item(e, item, 0);
    }
    /* Other subscriptions have few items of their own. */
    for (size_t i = 0; s->nv_contexts > 1 && i < FACTORY_SECOND_ITEMS && i < (size_t)s->nv_items; i++) {
        uint16_t item = factory_nv_item(s, i);
        if (item != NV_FTM_MODE && (item != NV_IMEI || kind != CALIBRATION_NO_IMEI))
            put_item(e, item, 1);
    }
    if (s->nv_contexts > 2)
        put_item(e, known_items[0], 2);
    put_files(e);
    put_rfnv(e, kind != CALIBRATION_PARTIAL);
}

bool factory_calibrated(const struct efs *e)
{
    const struct efs_nv *imei = efs_nv_find(e, NV_IMEI, 0), *ftm = efs_nv_find(e, NV_FTM_MODE, 0);
    char path[FACTORY_PATH_SIZE];

    if (!imei || imei->data[0] != 8 || (ftm && ftm->data[0]))
        return false;
    for (size_t i = 0; i < (size_t)e->scenario->rfnv_items; i++) {
        const struct efs_node *n;

        if (!factory_rfnv_needed(i))
            continue;
        factory_rfnv_path(factory_rfnv(e->scenario, i), path);
        n = efs_find(e, path);
        if (!n || n->size == 0)
            return false;
    }
    return true;
}
