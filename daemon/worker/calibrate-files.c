/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The files of a calibration. The directories first; then what they hide: the items that the firmware's own
 * lists name, and every RF item by its number. No directory tells whether it shows all of the RF items, so
 * each number that was not seen is asked for: 12000 questions, and none of them can be saved.
 */

#include <string.h>

#include "base/text.h"
#include "worker/reading.h"

enum {
    DIRECTORY_MAX = 8192, /* entries of one */
    DIRECTORIES_MAX = 2048,
    DEPTH_MAX = 12,
    LISTED_MAX = 16384, /* files that the firmware's own lists may name */
};

/* What changes by itself and is nobody's calibration. */
static const char *const left_out[] = {"/err", "/tmp", "/log", "/logs", "/debug", "/cores", "/lost+found"};

/* Opened by path although no directory shows them (diag.md 2.5, 4.2). */
static const char *const known_paths[] = {
    "/nv/item_files/mcs/tcxomgr/xo_factory_cal",
    "/nv/item_files/mcs/tcxomgr/xo_field_cal",
    "/nv/item_files/mcs/tcxomgr/xo_cal_data",
    "/nv/item_files/conf/multisim_ftm_mode",
    /* lists (calibration_is_list()): every one that a public firmware source or log names */
    "/nv/item_files/conf/data_config_info.conf",
    "/nv/item_files/conf/dpm_config_info.conf",
    "/nv/item_files/conf/geran.conf",
    "/nv/item_files/conf/hdrcp_config_info.conf",
    "/nv/item_files/conf/hdrmac_config_info.conf",
    "/nv/item_files/conf/hdrsrch_config_info.conf",
    "/nv/item_files/conf/hsusb.conf",
    "/nv/item_files/conf/mc.conf",
    "/nv/item_files/conf/mcfg.conf",
    "/nv/item_files/conf/mcs_as_div.conf",
    "/nv/item_files/conf/mcs_cxm_coex.conf",
    "/nv/item_files/conf/mcs_limitsmgr.conf",
    "/nv/item_files/conf/mcs_tcxomgr.conf",
    "/nv/item_files/conf/mmgsdi.conf",
    "/nv/item_files/conf/mmode.conf",
    "/nv/item_files/conf/nas_mm.conf",
    "/nv/item_files/conf/pbm.conf",
    "/nv/item_files/conf/ps_config_info.conf",
    "/nv/item_files/conf/qmi_data.conf",
    "/nv/item_files/conf/reg.conf",
    "/nv/item_files/conf/tdscdma_l1.conf",
    "/nv/item_files/conf/tdscdma_rrc.conf",
    "/nv/item_files/conf/thin_ui_config.conf",
    "/nv/item_files/conf/uimdrv.conf",
    "/nv/item_files/conf/wms.conf",
};

/* What the modem lets nobody read, or has no more, is its own matter; what it has and cannot give is lost. */
static bool is_lost(const char *path, int number)
{
    return calibration_is_rf(path) && number != DIAG_EFS_NO_ACCESS && number != DIAG_EFS_NO_ENTRY;
}

static void note_unreadable(struct reading *x, const char *path, int number)
{
    x->facts->n_unreadable++;
    x->facts->n_lost += is_lost(path, number);
    if (x->logged++ < READING_LOGGED_MAX)
        worker_log(x->worker, "WARN: %s cannot be read: %s", path, diag_efs_error_name(number));
}

/* 0 taken or not readable; 1 not there. */
static int read_file(struct reading *x, const char *path)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int r = diag_efs_read_short(x->diag, path, CALIBRATE_FILE_MAX, &data, &size, x->e);
    if (r == DIAG_EFS_NO_ENTRY)
        return 1;
    if (r > 0) {
        note_unreadable(x, path, r);
        return 0;
    }
    if (r < 0)
        return r;
    x->bytes += size;
    if (x->bytes > CALIBRATE_ALL_MAX) {
        free(data);
        return error_set(x->e, ERROR_TOO_LARGE, "the modem's files have more than %d MiB",
                         CALIBRATE_ALL_MAX >> 20);
    }
    return calibration_add_file(x->c, path, data, size) < 0 ? reading_no_memory(x) : 0;
}

static bool is_left_out(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(left_out); i++) {
        size_t n = strlen(left_out[i]);
        if (strncmp(path, left_out[i], n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return true;
    }
    return false;
}

static int note_left(struct reading *x, const char *path, const char *why)
{
    char clean[CALIBRATION_PATH_MAX];
    text_clean(path, strlen(path), clean, sizeof(clean));
    x->facts->n_unreadable++;
    if (x->logged++ < READING_LOGGED_MAX)
        worker_log(x->worker, "WARN: %s is not saved: %s", clean, why);
    return 0;
}

static int add_directory(struct reading *x, const char *path)
{
    unsigned depth = 0;
    for (const char *c = path; *c; c++)
        depth += *c == '/';
    if (is_left_out(path))
        return 0;
    if (x->n_directories == DIRECTORIES_MAX || depth > DEPTH_MAX)
        return note_left(x, path, depth > DEPTH_MAX ? "it lies too deep" : "there are too many directories");
    if (!x->directories)
        x->directories = calloc(DIRECTORIES_MAX, sizeof(*x->directories));
    char *copy = strdup(path);
    if (!x->directories || !copy) {
        free(copy);
        return reading_no_memory(x);
    }
    x->directories[x->n_directories++] = copy;
    return 0;
}

static int on_entry(void *userdata, const struct diag_efs_entry *entry)
{
    struct reading *x = userdata;
    const char *directory = x->directories[x->next_directory];
    _cleanup_free_ char *path =
        text_printf("%s%s%s", directory, strcmp(directory, "/") == 0 ? "" : "/", entry->name);
    if (!path)
        return reading_no_memory(x);
    if (!calibration_is_path(path, strlen(path)))
        return note_left(x, path, "no XQCN can hold such a name");
    if (entry->type == DIAG_EFS_DIR)
        return add_directory(x, path);
    if (entry->type == DIAG_EFS_LINK || is_left_out(path))
        return 0;
    int r = read_file(x, path);
    reading_progress(x, 1);
    if (r > 0) /* it is shown */
        note_unreadable(x, path, DIAG_EFS_NO_ENTRY);
    return MIN_OF(r, 0);
}

int reading_walk(struct reading *x)
{
    int r = add_directory(x, "/");
    for (; r == 0 && x->next_directory < x->n_directories; x->next_directory++) {
        const char *path = x->directories[x->next_directory];
        worker_phase(x->worker, "backup", path);
        r = diag_efs_list(x->diag, path, DIRECTORY_MAX, on_entry, x, x->e);
        /* What it does not show is the modem's own matter, what got lost between it and us is not; but of one
         * that has lost its calibration whatever can be had is all that there is. */
        bool lost = r == DIAG_EFS_BAD_SEQUENCE || r == DIAG_EFS_DIR_NOT_OPEN;
        if (r > 0 && (!lost || x->broken)) {
            note_unreadable(x, path, r);
            r = 0;
        }
        if (r > 0)
            r = error_set(x->e, ERROR_DIAG_FAILED, "the modem does not show its directory %s: %s", path,
                          diag_efs_error_name(r));
    }
    return r;
}

static int read_unless_there(struct reading *x, const char *path)
{
    return calibration_find_file(x->c, path) || is_left_out(path) ? 0 : read_file(x, path);
}

/* Also by a list that another list names. What a firmware has by default is in its lists and not there. */
static int probe_listed(struct reading *x)
{
    char path[CALIBRATION_PATH_MAX];
    size_t n = 0;
    int r = 0;
    for (size_t i = 0; i < x->c->n_files && r >= 0; i++) {
        size_t at = 0;
        if (!calibration_is_list(x->c->files[i].path))
            continue;
        /* What a wrong line names would be missed for good. */
        r = reading_check_file(x, &x->c->files[i]);
        const struct calibration_file list = x->c->files[i]; /* its data stay where they are */
        while (r >= 0 && n < LISTED_MAX && calibration_next_listed(list.data, (size_t)list.size, &at, path)) {
            r = read_unless_there(x, path);
            n++;
        }
    }
    if (n == LISTED_MAX)
        worker_log(x->worker,
                   "WARN: the modem's lists name more than %d files; the others were not looked for",
                   LISTED_MAX);
    return MIN_OF(r, 0);
}

/* Below /nv/item_files much is opened by path and shown by no directory. */
int reading_probe(struct reading *x)
{
    char path[64];
    int r = 0;
    worker_phase(x->worker, "backup", "/nv/item_files/rfnv");
    _cleanup_free_ bool *shown = calloc(CALIBRATE_RFNV_LAST + 1 - CALIBRATE_RFNV_FIRST, sizeof(*shown));
    if (!shown)
        return reading_no_memory(x);
    for (size_t i = 0; i < ARRAY_SIZE(known_paths) && r >= 0; i++)
        r = read_unless_there(x, known_paths[i]);
    if (r >= 0)
        r = probe_listed(x);
    calibration_sort(x->c);
    for (unsigned n = CALIBRATE_RFNV_FIRST; n < x->end_rfnv; n++) {
        snprintf(path, sizeof(path), "/nv/item_files/rfnv/%08u", n);
        shown[n - CALIBRATE_RFNV_FIRST] = calibration_find_file(x->c, path);
    }
    for (unsigned n = CALIBRATE_RFNV_FIRST; n < x->end_rfnv && r >= 0; n++) {
        snprintf(path, sizeof(path), "/nv/item_files/rfnv/%08u", n);
        if (!shown[n - CALIBRATE_RFNV_FIRST])
            r = read_file(x, path);
        if (n % 64 == 63)
            reading_progress(x, 64);
    }
    return MIN_OF(r, 0);
}
