/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tar that a calibration lies in. Every byte of it is known: what is read is printed anew and compared.
 */

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup-inner.h"
#include "backup/calibration.h"
#include "base/io.h"
#include "base/text.h"

enum { VERSION = 1, MANIFEST_MAX = 64 * 1024, DEPTH = 3, END_SIZE = 2 * TAR_BLOCK };

static const char FORMAT[] = "qdld-calibration", XQCN[] = "calibration.xqcn";

static void json_putp(json_object **o)
{
    json_object_put(*o);
}

static int damaged(struct error *e, const char *what)
{
    return error_set(e, ERROR_BACKUP_DAMAGED, "The backup is damaged: %s", what);
}

/* ---- the manifest ---- */

static bool add(json_object *o, const char *key, json_object *value)
{
    return value && json_object_object_add(o, key, value) == 0;
}

static bool add_text(json_object *o, const char *key, const char *text)
{
    return add(o, key, json_object_new_string(text));
}

static bool add_number(json_object *o, const char *key, uint64_t value)
{
    return add(o, key, json_object_new_uint64(value));
}

static json_object *make_manifest(const struct calibration_facts *f)
{
    _cleanup_(json_putp) json_object *o = json_object_new_object();
    char serial[16] = "", sha256[SHA256_HEX_SIZE];
    if (f->unit.have_serial)
        snprintf(serial, sizeof(serial), "%08x", f->unit.serial);
    text_hex(f->sha256, SHA256_SIZE, sha256);
    bool ok = o && add_text(o, "format", FORMAT) && add_number(o, "format_version", VERSION) &&
              add_text(o, "state", backup_state_name(f->state)) && add_number(o, "created", f->created) &&
              add_text(o, "serial", serial) && add_text(o, "chip", f->chip) &&
              add_text(o, "model", f->model) && add_text(o, "firmware_version", f->version) &&
              add(o, "factory_test_mode", json_object_new_boolean(f->factory_test)) &&
              (!f->half_written || add(o, "half_written", json_object_new_boolean(true))) &&
              add(o, "imported", json_object_new_boolean(f->imported)) &&
              add_number(o, "nv_items", f->n_nv) && add_number(o, "files", f->n_files) &&
              add_number(o, "unreadable", f->n_unreadable) &&
              (f->n_lost == 0 || add_number(o, "unreadable_calibration", f->n_lost)) &&
              add_number(o, "unstable", f->n_unstable) && add_number(o, "xqcn_size", f->xqcn_size) &&
              add_text(o, "xqcn_sha256", sha256);
    return ok ? steal_ptr(o) : NULL;
}

static char *print_manifest(const struct calibration_facts *f)
{
    _cleanup_(json_putp) json_object *o = make_manifest(f);
    const char *text = o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY) : NULL;
    return text ? text_printf("%s\n", text) : NULL;
}

static const char *get_text(json_object *o, const char *key)
{
    json_object *v;
    return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
               ? json_object_get_string(v)
               : "";
}

static uint64_t get_number(json_object *o, const char *key)
{
    json_object *v;
    bool is = json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_int) &&
              json_object_get_int64(v) >= 0;
    return is ? json_object_get_uint64(v) : 0;
}

static bool get_flag(json_object *o, const char *key)
{
    json_object *v;
    return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static void copy_text(json_object *o, const char *key, char *out, size_t size)
{
    const char *text = get_text(o, key);
    snprintf(out, size, "%s", text_is_clean(text, strlen(text)) ? text : "");
}

/* What cannot be read from it stays empty, and then it does not print as it was. */
static void read_manifest(json_object *o, struct calibration_facts *f)
{
    uint8_t serial[4];
    *f = (struct calibration_facts){.created = get_number(o, "created"),
                                    .factory_test = get_flag(o, "factory_test_mode"),
                                    .half_written = get_flag(o, "half_written"),
                                    .imported = get_flag(o, "imported"),
                                    .n_nv = get_number(o, "nv_items"),
                                    .n_files = get_number(o, "files"),
                                    .n_unreadable = get_number(o, "unreadable"),
                                    .n_lost = get_number(o, "unreadable_calibration"),
                                    .n_unstable = get_number(o, "unstable"),
                                    .xqcn_size = get_number(o, "xqcn_size")};
    for (int s = 0; s < BACKUP_STATE_COUNT; s++)
        if (strcmp(get_text(o, "state"), backup_state_name((enum backup_state)s)) == 0)
            f->state = (enum backup_state)s;
    if (text_unhex(get_text(o, "serial"), serial, sizeof(serial)) == 0) {
        f->unit.have_serial = true;
        f->unit.serial =
            (uint32_t)serial[0] << 24 | (uint32_t)serial[1] << 16 | (uint32_t)serial[2] << 8 | serial[3];
    }
    copy_text(o, "chip", f->chip, sizeof(f->chip));
    copy_text(o, "model", f->model, sizeof(f->model));
    copy_text(o, "firmware_version", f->version, sizeof(f->version));
    (void)text_unhex(get_text(o, "xqcn_sha256"), f->sha256, SHA256_SIZE);
}

static int parse_manifest(const char *text, size_t size, struct calibration_facts *ret, struct error *e)
{
    json_tokener *tokener = json_tokener_new_ex(DEPTH);
    if (!tokener)
        return error_set(e, ERROR_FAILED, "Out of memory");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    _cleanup_(json_putp) json_object *o = json_tokener_parse_ex(tokener, text, (int)size);
    json_tokener_free(tokener);
    if (!o || !json_object_is_type(o, json_type_object))
        return damaged(e, "its manifest is no JSON object");
    if (strcmp(get_text(o, "format"), FORMAT) == 0 && get_number(o, "format_version") > VERSION)
        return error_set(e, ERROR_UNSUPPORTED, "The backup's format is version %" PRIu64 ", this is for %d",
                         get_number(o, "format_version"), VERSION);
    read_manifest(o, ret);
    _cleanup_free_ char *again = print_manifest(ret);
    if (!again)
        return error_set(e, ERROR_FAILED, "Out of memory");
    return strlen(again) == size && memcmp(again, text, size) == 0
               ? 0
               : damaged(e, "its manifest says more or other than a manifest says");
}

static char *print_sums(const uint8_t xqcn[SHA256_SIZE], const uint8_t manifest[SHA256_SIZE])
{
    char a[SHA256_HEX_SIZE], b[SHA256_HEX_SIZE];
    text_hex(xqcn, SHA256_SIZE, a);
    text_hex(manifest, SHA256_SIZE, b);
    return text_printf("%s  %s\n%s  %s\n", a, XQCN, b, BACKUP_MANIFEST);
}

/* ---- writing ---- */

static int explain(int r, struct error *e)
{
    bool space = io_is_full(r);
    return error_set(e, space ? ERROR_NO_SPACE : ERROR_FAILED, "The backup cannot be written: %s",
                     strerror(-r));
}

/* Header and padding around `size` bytes at `at` + TAR_BLOCK, which are written too if data is given. */
static int put_member(int fd, uint64_t *at, const char *name, const void *data, uint64_t size)
{
    uint8_t header[TAR_BLOCK], zeros[TAR_BLOCK] = {0};
    tar_header(name, size, header);
    int r = io_pwrite_full(fd, header, sizeof(header), *at);
    if (r == 0 && data)
        r = io_pwrite_full(fd, data, (size_t)size, *at + TAR_BLOCK);
    if (r == 0)
        r = io_pwrite_full(fd, zeros, (size_t)tar_padding(size), *at + TAR_BLOCK + size);
    *at += TAR_BLOCK + size + tar_padding(size);
    return r;
}

int calibration_wrap(int fd, uint64_t xqcn_size, const struct calibration *c, struct calibration_facts *facts,
                     struct error *e)
{
    static const uint8_t end[END_SIZE];
    uint8_t digest[SHA256_SIZE];
    uint64_t at = 0;
    facts->state = calibration_judge(c, facts);
    facts->n_nv = c->n_nv;
    facts->n_files = c->n_files;
    facts->xqcn_size = xqcn_size;
    int r = digest_sha256_fd(fd, CALIBRATION_XQCN_OFFSET, xqcn_size, facts->sha256);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "The XQCN cannot be read back: %s", strerror(-r));
    _cleanup_free_ char *manifest = print_manifest(facts);
    if (!manifest || digest_sha256(manifest, strlen(manifest), digest) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    _cleanup_free_ char *sums = print_sums(facts->sha256, digest);
    if (!sums)
        return error_set(e, ERROR_FAILED, "Out of memory");
    r = put_member(fd, &at, XQCN, NULL, xqcn_size);
    if (r == 0)
        r = put_member(fd, &at, BACKUP_MANIFEST, manifest, strlen(manifest));
    if (r == 0)
        r = put_member(fd, &at, BACKUP_SUMS, sums, strlen(sums));
    if (r == 0)
        r = io_pwrite_full(fd, end, sizeof(end), at);
    if (r == 0 && (ftruncate(fd, (off_t)(at + sizeof(end))) < 0 || fdatasync(fd) < 0))
        r = -errno;
    if (r < 0)
        return explain(r, e);
    facts->file_size = at + sizeof(end);
    text_hex(digest, sizeof(facts->id) / 2, facts->id);
    return 0;
}

int calibration_store(int fd, const struct calibration *c, struct calibration_facts *facts, struct error *e)
{
    uint64_t size;
    int r = xqcn_write(c, fd, CALIBRATION_XQCN_OFFSET, &size, e);
    return r < 0 ? r : calibration_wrap(fd, size, c, facts, e);
}

/* ---- reading ---- */

bool calibration_is_file(int fd)
{
    uint8_t header[TAR_BLOCK];
    char name[TAR_NAME_MAX];
    uint64_t size;
    return io_pread_full(fd, header, sizeof(header), 0) == 0 && tar_parse(header, name, &size) > 0 &&
           strcmp(name, XQCN) == 0;
}

/* The member at *at must have this name; *at moves behind it. */
static int find_member(int fd, uint64_t *at, uint64_t file_size, const char *name, uint64_t max,
                       uint64_t *ret_offset, uint64_t *ret_size, struct error *e)
{
    uint8_t header[TAR_BLOCK], padding[TAR_BLOCK];
    char found[TAR_NAME_MAX];
    if (file_size - *at < TAR_BLOCK || io_pread_full(fd, header, sizeof(header), *at) < 0 ||
        tar_parse(header, found, ret_size) <= 0 || strcmp(found, name) != 0)
        return damaged(e, "a member of its tar is not what it should be");
    *at += TAR_BLOCK;
    uint64_t pad = tar_padding(*ret_size);
    if (*ret_size > max || *ret_size > file_size - *at || pad > file_size - *at - *ret_size)
        return damaged(e, "it ends in the middle of a member");
    *ret_offset = *at;
    if (io_pread_full(fd, padding, (size_t)pad, *at + *ret_size) < 0)
        return damaged(e, "it cannot be read");
    for (uint64_t i = 0; i < pad; i++)
        if (padding[i] != 0)
            return damaged(e, "something lies behind a member");
    *at += *ret_size + pad;
    return 0;
}

static int load_member(int fd, uint64_t offset, uint64_t size, char **ret, struct error *e)
{
    _cleanup_free_ char *text = calloc(1, (size_t)size + 1);
    if (!text)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (io_pread_full(fd, text, (size_t)size, offset) < 0)
        return damaged(e, "it cannot be read");
    *ret = steal_ptr(text);
    return 0;
}

static int check_end(int fd, uint64_t at, uint64_t file_size, struct error *e)
{
    uint8_t end[END_SIZE];
    if (file_size - at != sizeof(end) || io_pread_full(fd, end, sizeof(end), at) < 0)
        return damaged(e, "it does not end where a backup ends");
    for (size_t i = 0; i < sizeof(end); i++)
        if (end[i] != 0)
            return damaged(e, "something lies behind its end");
    return 0;
}

static int read_texts(int fd, uint64_t file_size, struct calibration_facts *f, struct error *e)
{
    uint64_t at = 0, offset, size, manifest_at, manifest_size, sums_at, sums_size;
    uint8_t digest[SHA256_SIZE];
    _cleanup_free_ char *manifest = NULL, *sums = NULL;
    int r = find_member(fd, &at, file_size, XQCN, XQCN_FILE_MAX, &offset, &size, e);
    if (r == 0)
        r = find_member(fd, &at, file_size, BACKUP_MANIFEST, MANIFEST_MAX, &manifest_at, &manifest_size, e);
    if (r == 0)
        r = find_member(fd, &at, file_size, BACKUP_SUMS, MANIFEST_MAX, &sums_at, &sums_size, e);
    if (r == 0)
        r = check_end(fd, at, file_size, e);
    if (r == 0)
        r = load_member(fd, manifest_at, manifest_size, &manifest, e);
    if (r == 0)
        r = load_member(fd, sums_at, sums_size, &sums, e);
    if (r == 0)
        r = parse_manifest(manifest, (size_t)manifest_size, f, e);
    if (r < 0)
        return r;
    if (digest_sha256(manifest, (size_t)manifest_size, digest) < 0)
        return error_set(e, ERROR_FAILED, "Out of memory");
    _cleanup_free_ char *expected = print_sums(f->sha256, digest);
    if (!expected || strlen(expected) != sums_size || memcmp(expected, sums, (size_t)sums_size) != 0)
        return damaged(e, "its SHA256SUMS are not those of its manifest");
    if (f->xqcn_size != size)
        return damaged(e, "its XQCN has another size than its manifest says");
    f->file_size = file_size;
    text_hex(digest, sizeof(f->id) / 2, f->id);
    return 0;
}

int calibration_open(int fd, struct calibration **ret, struct calibration_facts *ret_facts, struct error *e)
{
    _cleanup_(calibration_freep) struct calibration *c = NULL;
    struct calibration_facts f;
    uint8_t digest[SHA256_SIZE];
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set(e, ERROR_FAILED, "The backup cannot be looked at: %s", strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size < TAR_BLOCK)
        return damaged(e, "it is no file, or too small a one");
    int r = read_texts(fd, (uint64_t)st.st_size, &f, e);
    if (r < 0)
        return r;
    if (digest_sha256_fd(fd, CALIBRATION_XQCN_OFFSET, f.xqcn_size, digest) < 0 ||
        memcmp(digest, f.sha256, SHA256_SIZE) != 0)
        return damaged(e, "its XQCN is not the one that was saved");
    r = xqcn_read(fd, CALIBRATION_XQCN_OFFSET, f.xqcn_size, &c, e);
    if (r < 0)
        return r;
    if (c->n_nv != f.n_nv || c->n_files != f.n_files || calibration_judge(c, &f) != f.state)
        return damaged(e, "its manifest says other than what is in its XQCN");
    *ret = steal_ptr(c);
    *ret_facts = f;
    return 0;
}
