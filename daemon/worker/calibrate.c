/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/calibrate.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "firmware/version.h"

enum {
    CONTEXTS = 3,         /* subscriptions; a modem with fewer refuses the first items of the next */
    CONTEXT_LOOK = 600,   /* so many items say whether a subscription is there: 550 is among them */
    DIRECTORY_MAX = 8192, /* entries of one */
    DIRECTORIES_MAX = 2048,
    DEPTH_MAX = 12,
    TRIES = 3,
    LOGGED_MAX = 20,
    ITEMS_UNREADABLE_MAX = 64,
    PPM = 1000000,
};

/* What changes by itself and is nobody's calibration. */
static const char *const left_out[] = {"/err", "/tmp", "/log", "/logs", "/debug", "/cores", "/lost+found"};

/* Opened by path although no directory shows them (diag.md 2.5, 4.2). */
static const char *const known_paths[] = {
    "/nv/item_files/mcs/tcxomgr/xo_factory_cal",
    "/nv/item_files/mcs/tcxomgr/xo_field_cal",
    "/nv/item_files/mcs/tcxomgr/xo_cal_data",
    "/nv/item_files/conf/multisim_ftm_mode",
};

struct reading {
    struct running *running;
    struct worker *worker;
    struct diag *diag;
    struct calibration *c;
    struct calibration_facts *facts;
    struct error *e;
    uint64_t done, total, bytes;
    unsigned logged, items_unreadable;
    uint32_t first_item, end_item, end_rfnv; /* what is asked for by number */
    bool md5, broken; /* broken: it is in factory test mode, what it holds is saved as it is */

    char **directories; /* still to be looked into */
    size_t n_directories, next_directory;
};

static void reading_done(struct reading *x)
{
    for (size_t i = 0; i < x->n_directories; i++)
        free(x->directories[i]);
    free(x->directories);
    calibration_free(x->c);
}

static void progress(struct reading *x, uint64_t n)
{
    x->done = MIN_OF(x->done + n, x->total);
    worker_progress(x->worker, x->done * PPM / x->total, x->bytes, 0);
}

static int no_memory(struct reading *x)
{
    return error_set(x->e, ERROR_FAILED, "no memory for the calibration");
}

/* ---- numbered items ---- */

/* A few that fail are a modem's own; one that lets nothing be read has no backup that is complete. */
static int note_unreadable_item(struct reading *x, uint16_t item, uint16_t context, unsigned status)
{
    x->facts->n_unreadable++;
    if (++x->items_unreadable > ITEMS_UNREADABLE_MAX && !x->broken)
        return error_set(
            x->e, ERROR_DIAG_FAILED,
            "more than %d numbered items of the modem cannot be read, item %u of SIM %u the last "
            "of them: %s",
            ITEMS_UNREADABLE_MAX, item, context + 1u, diag_nv_status_name(status));
    if (x->logged++ < LOGGED_MAX)
        worker_log(x->worker, "WARN: NV item %u of SIM %u cannot be read: %s", item, context + 1u,
                   diag_nv_status_name(status));
    return 0;
}

static int read_item(struct reading *x, uint16_t item, uint16_t context, unsigned *ret_status)
{
    uint8_t data[DIAG_NV_SIZE];
    *ret_status = DIAG_NV_NOT_DEFINED;
    if (item == DIAG_NV_SPC_TTL) /* not answered by some (diag.md 2.4) */
        return 0;
    /* What neither has a value nor says that there is none is asked once more. */
    for (unsigned i = 0; i < 2; i++) {
        int r = diag_nv_read(x->diag, item, context, data, ret_status, x->e);
        if (r < 0)
            return r;
        if (*ret_status == DIAG_NV_DONE)
            return calibration_add_nv(x->c, item, context, data) < 0 ? no_memory(x) : 0;
        if (diag_nv_is_absent(*ret_status))
            return 0;
    }
    return note_unreadable_item(x, item, context, *ret_status);
}

static int not_known_any_more(struct reading *x, uint32_t item, uint16_t context)
{
    return error_set(x->e, ERROR_DIAG_FAILED,
                     "the modem knew the items of SIM %u up to item %u and says now that it does not",
                     context + 1u, item);
}

static int read_context(struct reading *x, uint16_t context)
{
    bool there = context == 0;
    for (uint32_t item = x->first_item; item < x->end_item; item++) {
        unsigned status;
        int r = read_item(x, (uint16_t)item, context, &status);
        /* "No such command": of the first item, and twice, it means that there is no such subscription. */
        if (r == -EOPNOTSUPP && context > 0 && item == x->first_item)
            r = read_item(x, (uint16_t)item, context, &status);
        if (r == -EOPNOTSUPP && context > 0)
            return item == x->first_item ? r : not_known_any_more(x, item, context);
        if (r < 0)
            return r;
        there |= status == DIAG_NV_DONE || status == DIAG_NV_NOT_ACTIVE;
        if (!there && item == CONTEXT_LOOK)
            return 1;
        if (item % 64 == 63)
            progress(x, 64);
    }
    return 0;
}

static int read_items(struct reading *x)
{
    for (uint16_t context = 0; context < CONTEXTS; context++) {
        struct error own = {0}, *before = x->e;
        char detail[32];
        snprintf(detail, sizeof(detail), "NV items, SIM %u", context + 1u);
        worker_phase(x->worker, "backup", detail);
        x->e = &own;
        int r = read_context(x, context);
        x->e = before;
        if (r == 1 || (r == -EOPNOTSUPP && context > 0))
            return 0;
        if (r < 0) {
            *x->e = own;
            return r;
        }
    }
    return 0;
}

/* ---- files ---- */

static void note_unreadable(struct reading *x, const char *path, int number)
{
    x->facts->n_unreadable++;
    if (x->logged++ < LOGGED_MAX)
        worker_log(x->worker, "WARN: %s cannot be read: %s", path, diag_efs_error_name(number));
}

/* 0 taken or not readable; 1 not there. */
static int read_file(struct reading *x, const char *path)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int r = diag_efs_read(x->diag, path, CALIBRATE_FILE_MAX, &data, &size, x->e);
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
    return calibration_add_file(x->c, path, data, size) < 0 ? no_memory(x) : 0;
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

static int add_directory(struct reading *x, const char *path)
{
    unsigned depth = 0;
    for (const char *c = path; *c; c++)
        depth += *c == '/';
    if (x->n_directories == DIRECTORIES_MAX || depth > DEPTH_MAX || is_left_out(path))
        return 0;
    if (!x->directories)
        x->directories = calloc(DIRECTORIES_MAX, sizeof(*x->directories));
    char *copy = strdup(path);
    if (!x->directories || !copy) {
        free(copy);
        return no_memory(x);
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
        return no_memory(x);
    if (strlen(path) >= CALIBRATION_PATH_MAX || !text_is_clean(path, strlen(path)))
        return 0;
    if (entry->type == DIAG_EFS_DIR)
        return add_directory(x, path);
    if (entry->type == DIAG_EFS_LINK || is_left_out(path))
        return 0;
    int r = read_file(x, path);
    progress(x, 1);
    return MIN_OF(r, 0);
}

static int walk(struct reading *x)
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

/* Below /nv/item_files much is opened by path and shown by no directory. */
static int probe(struct reading *x)
{
    char path[64];
    int r = 0;
    worker_phase(x->worker, "backup", "/nv/item_files/rfnv");
    _cleanup_free_ bool *shown = calloc(CALIBRATE_RFNV_LAST + 1 - CALIBRATE_RFNV_FIRST, sizeof(*shown));
    if (!shown)
        return no_memory(x);
    calibration_sort(x->c);
    for (unsigned n = CALIBRATE_RFNV_FIRST; n < x->end_rfnv; n++) {
        snprintf(path, sizeof(path), "/nv/item_files/rfnv/%08u", n);
        shown[n - CALIBRATE_RFNV_FIRST] = calibration_find_file(x->c, path);
    }
    for (size_t i = 0; i < ARRAY_SIZE(known_paths) && r >= 0; i++)
        if (!calibration_find_file(x->c, known_paths[i]))
            r = read_file(x, known_paths[i]);
    for (unsigned n = CALIBRATE_RFNV_FIRST; n < x->end_rfnv && r >= 0; n++) {
        snprintf(path, sizeof(path), "/nv/item_files/rfnv/%08u", n);
        if (!shown[n - CALIBRATE_RFNV_FIRST])
            r = read_file(x, path);
        if (n % 64 == 63)
            progress(x, 64);
    }
    return MIN_OF(r, 0);
}

/* ---- twice ---- */

static int check_item(struct reading *x, struct calibration_nv *n)
{
    uint8_t data[DIAG_NV_SIZE];
    unsigned status;
    for (unsigned i = 0; i < TRIES; i++) {
        int r = diag_nv_read(x->diag, n->item, n->context, data, &status, x->e);
        if (r < 0)
            return r;
        if (status == DIAG_NV_DONE && memcmp(data, n->data, sizeof(data)) == 0)
            return 0;
        if (status == DIAG_NV_DONE)
            memcpy(n->data, data, sizeof(data));
    }
    x->facts->n_unstable++;
    worker_log(x->worker, "WARN: NV item %u changes while it is read", n->item);
    return 0;
}

/* 1: the same. */
static int compare_file(struct reading *x, const struct calibration_file *f)
{
    struct error own = {0};
    uint8_t told[MD5_SIZE], found[MD5_SIZE];
    int r = x->md5 ? diag_efs_md5(x->diag, f->path, told, &own) : 1;
    if (r == -EOPNOTSUPP)
        x->md5 = false; /* this firmware has no such command: read again then */
    else if (r < 0) {
        *x->e = own;
        return r;
    }
    if (r == 0) {
        _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_MD5);
        if (!d)
            return no_memory(x);
        digest_update(d, f->data ? f->data : (const uint8_t *)"", (size_t)f->size);
        digest_final(d, found);
        return memcmp(told, found, MD5_SIZE) == 0;
    }
    _cleanup_free_ uint8_t *again = NULL;
    size_t size = 0;
    r = diag_efs_read(x->diag, f->path, CALIBRATE_FILE_MAX, &again, &size, x->e);
    if (r != 0)
        return MIN_OF(r, 0);
    return size == f->size && (size == 0 || memcmp(again, f->data, size) == 0);
}

static int check_file(struct reading *x, struct calibration_file *f)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint8_t *again = NULL;
        size_t size = 0;
        int r = compare_file(x, f);
        if (r != 0)
            return MIN_OF(r, 0);
        r = diag_efs_read(x->diag, f->path, CALIBRATE_FILE_MAX, &again, &size, x->e);
        if (r < 0)
            return r;
        if (r > 0)
            break;
        free(f->data);
        f->data = again;
        f->size = size;
    }
    x->facts->n_unstable++;
    worker_log(x->worker, "WARN: %s changes while it is read", f->path);
    return 0;
}

static int check(struct reading *x)
{
    int r = 0;
    worker_phase(x->worker, "verify", NULL);
    for (size_t i = 0; i < x->c->n_nv && r == 0; i++)
        r = check_item(x, &x->c->nv[i]);
    x->md5 = true;
    for (size_t i = 0; i < x->c->n_files && r == 0; i++)
        r = check_file(x, &x->c->files[i]);
    return r;
}

/* ---- all of it ---- */

static void fill_facts(const struct worker *w, const struct running_identity *id, struct calibration_facts *f)
{
    const char *serial = worker_option(w, "serial", ""), *chip = worker_option(w, "chip", "");
    struct version version;
    uint8_t bytes[4];
    *f = (struct calibration_facts){.created = worker_option_u64(w, "created", realtime_usec()),
                                    .factory_test = id->factory_test};
    if (text_unhex(serial, bytes, sizeof(bytes)) == 0) {
        f->unit.have_serial = true;
        f->unit.serial =
            (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    }
    snprintf(f->chip, sizeof(f->chip), "%s", chip);
    snprintf(f->version, sizeof(f->version), "%s", id->version);
    snprintf(f->model, sizeof(f->model), "%s",
             version_parse(id->version, &version) == 0 ? version.model : id->model);
}

static int read_rest(struct reading *x, const struct running_identity *id)
{
    struct error ignored = {0};
    x->c->model_id = id->model_id;
    snprintf(x->c->version, sizeof(x->c->version), "%s", id->version);
    snprintf(x->c->tool, sizeof(x->c->tool), "qdld");
    uint8_t before[CALIBRATION_FEATURES_MAX];
    size_t n_before = SIZE_MAX;
    int r = 0;
    for (unsigned i = 0; i < TRIES && r == 0; i++) { /* as everything else: until two readings are the same */
        r = diag_read_features(x->diag, x->c->features + 2, sizeof(x->c->features) - 2, &x->c->n_features,
                               &ignored);
        if (r == 0 && x->c->n_features == n_before && memcmp(before, x->c->features + 2, n_before) == 0)
            break;
        n_before = x->c->n_features;
        memcpy(before, x->c->features + 2, r == 0 ? n_before : 0);
    }
    if (r == -ENODEV || r == -ECANCELED || r == -EINTR) {
        *x->e = ignored;
        return r;
    }
    if (r < 0) {
        x->c->n_features = 0;
        return 0;
    }
    x->c->features[0] = (uint8_t)x->c->n_features;
    x->c->features[1] = (uint8_t)(x->c->n_features >> 8);
    x->c->n_features += 2;
    return 0;
}

/* All of them, but where a test asks for so few that every exchange can be interrupted. */
static void choose_span(struct reading *x)
{
    const struct worker *w = x->worker;
    x->first_item = (uint32_t)MIN_OF(worker_option_u64(w, "nv-first", 0), (uint64_t)CALIBRATE_ITEMS);
    x->end_item =
        (uint32_t)MIN_OF(worker_option_u64(w, "nv-end", CALIBRATE_ITEMS), (uint64_t)CALIBRATE_ITEMS);
    x->end_rfnv = (uint32_t)MIN_OF(worker_option_u64(w, "rfnv-end", CALIBRATE_RFNV_LAST + 1),
                                   (uint64_t)CALIBRATE_RFNV_LAST + 1);
}

static int explain(int r, struct error *e)
{
    if (r == -ECANCELED && e->kind == ERROR_NONE)
        return error_set(e, ERROR_CANCELLED, "cancelled by the user; nothing was changed");
    if (r == -EINTR && e->kind == ERROR_NONE)
        return error_set(e, ERROR_INTERRUPTED, "interrupted: the service is stopping");
    return r;
}

int calibrate_read(struct running *running, const struct running_identity *id, struct calibration **ret,
                   struct calibration_facts *facts, struct error *e)
{
    _cleanup_(reading_done) struct reading x = {.running = running,
                                                .worker = running->worker,
                                                .diag = running->diag,
                                                .facts = facts,
                                                .broken = id->factory_test,
                                                .e = e,
                                                .c = calibration_new(),
                                                .total = CONTEXTS * CALIBRATE_ITEMS + CALIBRATE_RFNV_LAST -
                                                         CALIBRATE_RFNV_FIRST + 1000};
    if (!x.c)
        return no_memory(&x);
    fill_facts(running->worker, id, facts);
    choose_span(&x);
    int r = read_rest(&x, id);
    if (r == 0)
        r = read_items(&x);
    if (r == 0)
        r = diag_efs_hello(x.diag, e);
    if (r == 0)
        r = walk(&x);
    if (r == 0)
        r = probe(&x);
    if (r == 0)
        r = check(&x);
    if (r < 0)
        return explain(r, e);
    calibration_sort(x.c);
    *ret = steal_ptr(x.c);
    return 0;
}

/* Of a backup that somebody asked for; what a flash or a restore saves first is one line of theirs. */
static void report(struct worker *w, const struct calibration *c, const struct calibration_facts *facts)
{
    worker_report(w, "state", "%s", backup_state_name(facts->state));
    worker_report(w, "nv-items", "%zu", c->n_nv);
    worker_report(w, "files", "%zu, %zu of them RF items", c->n_files, calibration_count_rfnv(c));
    worker_report(w, "unreadable", "%llu", (unsigned long long)facts->n_unreadable);
    if (facts->n_unstable > 0)
        worker_report(w, "changing-items", "%llu", (unsigned long long)facts->n_unstable);
}

int calibrate_save(struct running *running, const struct running_identity *id, int fd,
                   struct calibration **ret, struct error *e)
{
    _cleanup_(calibration_freep) struct calibration *c = NULL;
    struct calibration_facts facts;
    struct worker *w = running->worker;
    int r = calibrate_read(running, id, &c, &facts, e);
    if (r == 0)
        r = calibration_store(fd, c, &facts, e);
    if (r < 0)
        return r;
    if (strcmp(w->kind, "backup") == 0)
        report(w, c, &facts);
    r = calibrate_tell(w, fd, c, &facts, e);
    if (r < 0)
        return r;
    if (ret)
        *ret = steal_ptr(c);
    return 0;
}
