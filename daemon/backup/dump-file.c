/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup/dump-file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup-inner.h"
#include "base/io.h"
#include "base/text.h"

#define PREFIX "crash-dump/"
#define MEMORY PREFIX "memory/" /* a region may be called as it likes */

enum { CHUNK = 64 * 1024, TEXT_MAX = 256 * 1024, TRAILER = 2 * TAR_BLOCK };

static const char facts_name[] = PREFIX "dump.txt", sums_name[] = PREFIX "SHA256SUMS",
                  first_line[] = "qdld crash dump 1\n";

struct text {
    char *data;
    size_t size;
};

static int add(struct text *t, const char *line)
{
    size_t n = strlen(line);
    char *grown = n > TEXT_MAX - t->size ? NULL : realloc(t->data, t->size + n + 1);
    if (!grown)
        return -ENOMEM;
    memcpy(grown + t->size, line, n + 1);
    t->data = grown;
    t->size += n;
    return 0;
}

static int add_sum(struct text *sums, const char *name, struct digest *digest)
{
    uint8_t sha256[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE], line[SHA256_HEX_SIZE + TAR_NAME_MAX + 8];
    digest_final(digest, sha256);
    text_hex(sha256, SHA256_SIZE, hex);
    snprintf(line, sizeof(line), "%s  %s\n", hex, name);
    return add(sums, line);
}

static int identify(const struct text *sums, struct dump_facts *f)
{
    char hex[SHA256_HEX_SIZE];
    int r = digest_sha256(sums->data, sums->size, f->sha256);
    text_hex(f->sha256, SHA256_SIZE, hex);
    snprintf(f->id, sizeof(f->id), "%.32s", hex);
    return r;
}

static void add_name(struct dump_facts *f, const char *name)
{
    size_t used = strlen(f->partitions);
    snprintf(f->partitions + used, sizeof(f->partitions) - used, "%s%s", used ? "," : "", name);
}

/* ---- writing ---- */

struct dump_writer {
    int fd;
    uint64_t at, left; /* of the member in hand */
    char name[TAR_NAME_MAX];
    struct digest *digest;
    struct text sums, facts;
    char partitions[BACKUP_PARTS_MAX * BACKUP_NAME_SIZE];
};

struct dump_writer *dump_writer_new(int fd)
{
    struct dump_writer *w = calloc(1, sizeof(*w));
    if (w)
        w->fd = fd;
    return w;
}

struct dump_writer *dump_writer_free(struct dump_writer *w)
{
    if (!w)
        return NULL;
    digest_free(w->digest);
    free(w->sums.data);
    free(w->facts.data);
    free(w);
    return NULL;
}

static int explain(int r, struct error *e)
{
    return error_set(e, io_is_full(r) ? ERROR_NO_SPACE : ERROR_FAILED, "the dump cannot be written: %s",
                     strerror(-r));
}

static int write_out(struct dump_writer *w, const void *data, size_t size, struct error *e)
{
    int r = io_pwrite_full(w->fd, data, size, w->at);
    if (r < 0)
        return explain(r, e);
    w->at += size;
    return 0;
}

static int begin(struct dump_writer *w, const char *name, uint64_t size, struct error *e)
{
    uint8_t header[TAR_BLOCK];
    snprintf(w->name, sizeof(w->name), "%s", name);
    w->left = size;
    w->digest = digest_free(w->digest);
    w->digest = digest_new(DIGEST_SHA256);
    if (!w->digest)
        return error_set(e, ERROR_FAILED, "out of memory");
    tar_header(name, size, header);
    return write_out(w, header, sizeof(header), e);
}

int dump_writer_data(struct dump_writer *w, const void *data, size_t size, struct error *e)
{
    if (size > w->left)
        return error_set(e, ERROR_FAILED, "more than a region's bytes came");
    w->left -= size;
    digest_update(w->digest, data, size);
    return write_out(w, data, size, e);
}

int dump_writer_end(struct dump_writer *w, struct error *e)
{
    static const uint8_t zeros[CHUNK];
    uint64_t size = w->at;
    while (w->left > 0) {
        int r = dump_writer_data(w, zeros, (size_t)MIN_OF(w->left, (uint64_t)CHUNK), e);
        if (r < 0)
            return r;
    }
    size = w->at;
    if (add_sum(&w->sums, w->name, w->digest) < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    return write_out(w, zeros, (size_t)tar_padding(size), e); /* members begin at whole blocks */
}

int dump_writer_begin(struct dump_writer *w, const struct sahara_region *region, struct error *e)
{
    char name[TAR_NAME_MAX], line[192];
    snprintf(name, sizeof(name), MEMORY "%s", region->name);
    snprintf(line, sizeof(line), "region=%s 0x%" PRIx64 " %" PRIu64 " %s\n", region->name, region->address,
             region->length, region->description);
    size_t used = strlen(w->partitions);
    snprintf(w->partitions + used, sizeof(w->partitions) - used, "%s%s", used ? "," : "", region->name);
    return add(&w->facts, line) < 0 ? error_set(e, ERROR_FAILED, "out of memory")
                                    : begin(w, name, region->length, e);
}

static int write_text(struct dump_writer *w, const char *name, const char *text, size_t size, struct error *e)
{
    int r = begin(w, name, size, e);
    if (r == 0)
        r = dump_writer_data(w, text, size, e);
    return r < 0 ? r : dump_writer_end(w, e);
}

int dump_writer_finish(struct dump_writer *w, struct dump_facts *f, struct error *e)
{
    static const uint8_t trailer[TRAILER];
    _cleanup_free_ char *facts = NULL;
    int n = asprintf(&facts, "%sstate=%s\nserial=%s\nchip=%s\nmodel=%s\nversion=%s\ncreated=%" PRIu64 "\n%s",
                     first_line, f->damaged ? "damaged" : "complete", f->serial, f->chip, f->model,
                     f->version, f->created, w->facts.data ? w->facts.data : "");
    if (n < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    int r = write_text(w, facts_name, facts, (size_t)n, e);
    if (r < 0)
        return r;
    if (identify(&w->sums, f) < 0)
        return error_set(e, ERROR_FAILED, "out of memory");
    _cleanup_free_ char *sums = strdup(w->sums.data);
    r = sums ? write_text(w, sums_name, sums, strlen(sums), e) : error_set(e, ERROR_FAILED, "out of memory");
    if (r == 0)
        r = write_out(w, trailer, sizeof(trailer), e);
    if (r == 0 && fdatasync(w->fd) < 0)
        r = explain(-errno, e);
    snprintf(f->partitions, sizeof(f->partitions), "%s", w->partitions);
    f->file_size = w->at;
    return r;
}

/* ---- checking ---- */

bool dump_is_file(int fd)
{
    char begin[sizeof(PREFIX) - 1];
    return io_pread_full(fd, begin, sizeof(begin), 0) == 0 && memcmp(begin, PREFIX, sizeof(begin)) == 0;
}

static int damaged(struct error *e, const char *what)
{
    return error_set(e, ERROR_BACKUP_DAMAGED, "The crash dump is damaged: %s.", what);
}

struct check {
    int fd;
    uint64_t size, at;
    struct text sums, text; /* text: of a small member */
    struct dump_facts *facts;
    int (*on_progress)(void *userdata, uint64_t done, uint64_t total);
    void *userdata;
    bool facts_seen, sums_seen;
};

/* A member's bytes, hashed; those of the two small ones are kept. */
static int read_member(struct check *c, const char *name, uint64_t size, bool keep, struct error *e)
{
    _cleanup_(digest_freep) struct digest *digest = digest_new(DIGEST_SHA256);
    _cleanup_free_ char *buffer = malloc(CHUNK + 1);
    if (!digest || !buffer)
        return error_set(e, ERROR_FAILED, "Out of memory");
    if (size > c->size - c->at || (keep && size > TEXT_MAX))
        return damaged(e, "a member is longer than the file");
    c->text.size = 0;
    for (uint64_t done = 0; done < size;) {
        size_t n = (size_t)MIN_OF((uint64_t)CHUNK, size - done);
        int r = io_pread_full(c->fd, buffer, n, c->at + done);
        if (r < 0)
            return damaged(e, "it cannot be read");
        buffer[n] = '\0';
        digest_update(digest, buffer, n);
        if (keep && (strlen(buffer) != n || add(&c->text, buffer) < 0))
            return damaged(e, "its text is none");
        done += n;
        r = c->on_progress ? c->on_progress(c->userdata, c->at + done, c->size) : 0;
        if (r < 0)
            return r;
    }
    c->at += size;
    return strcmp(name, sums_name) == 0 || add_sum(&c->sums, name, digest) == 0
               ? 0
               : damaged(e, "it has too many members");
}

static int skip_padding(struct check *c, struct error *e)
{
    uint8_t bytes[TAR_BLOCK];
    size_t n = (size_t)tar_padding(c->at);
    if (n > c->size - c->at || io_pread_full(c->fd, bytes, n, c->at) < 0)
        return damaged(e, "it ends too early");
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return damaged(e, "there is something between its members");
    c->at += n;
    return 0;
}

static bool take(const char *line, size_t n, const char *key, char *to, size_t size)
{
    size_t k = strlen(key);
    if (n <= k || strncmp(line, key, k) != 0 || line[k] != '=' || n - k - 1 >= size)
        return false;
    memcpy(to, line + k + 1, n - k - 1);
    to[n - k - 1] = '\0';
    return true;
}

static int take_facts(struct check *c, struct error *e)
{
    struct dump_facts *f = c->facts;
    char state[16] = "", created[24] = "";
    const char *text = c->text.data;
    if (!text || !text_starts_with(text, first_line))
        return damaged(e, "it does not say what it is");
    for (const char *p = text, *end; *p && (end = strchr(p, '\n')); p = end + 1) {
        size_t n = (size_t)(end - p);
        (void)(take(p, n, "state", state, sizeof(state)) ||
               take(p, n, "serial", f->serial, sizeof(f->serial)) ||
               take(p, n, "chip", f->chip, sizeof(f->chip)) ||
               take(p, n, "model", f->model, sizeof(f->model)) ||
               take(p, n, "version", f->version, sizeof(f->version)) ||
               take(p, n, "created", created, sizeof(created)));
    }
    f->damaged = strcmp(state, "complete") != 0;
    c->facts_seen = true;
    return text_parse_u64(created, 10, UINT64_MAX, &f->created) < 0
               ? damaged(e, "it does not say when it was taken")
               : 0;
}

static int check_member(struct check *c, const char *name, uint64_t size, struct error *e)
{
    bool facts = strcmp(name, facts_name) == 0, sums = strcmp(name, sums_name) == 0;
    if ((!text_starts_with(name, MEMORY) && !facts && !sums) || c->sums_seen || (c->facts_seen && !sums))
        return damaged(e, "a member is in the wrong place");
    int r = read_member(c, name, size, facts || sums, e);
    if (r == 0)
        r = skip_padding(c, e);
    if (r < 0)
        return r;
    if (facts)
        return take_facts(c, e);
    if (!sums) {
        add_name(c->facts, name + strlen(MEMORY));
        return 0;
    }
    c->sums_seen = true;
    if (!c->facts_seen || c->text.size != c->sums.size ||
        memcmp(c->text.data, c->sums.data, c->sums.size) != 0)
        return damaged(e, "its content is not what its SHA256SUMS say");
    return identify(&c->sums, c->facts) < 0 ? error_set(e, ERROR_FAILED, "Out of memory") : 0;
}

/* Two blocks of zeros and nothing else. */
static int check_end(const struct check *c, struct error *e)
{
    uint8_t trailer[TRAILER];
    bool right = c->sums_seen && c->size - c->at == TRAILER &&
                 io_pread_full(c->fd, trailer, sizeof(trailer), c->at) == 0;
    for (size_t i = 0; right && i < sizeof(trailer); i++)
        right = trailer[i] == 0;
    return right ? 0 : damaged(e, "its end is not where it should be");
}

static int check_all(struct check *c, struct error *e)
{
    for (;;) {
        uint8_t header[TAR_BLOCK];
        char name[TAR_NAME_MAX];
        uint64_t size;
        if (c->size - c->at < TAR_BLOCK || io_pread_full(c->fd, header, sizeof(header), c->at) < 0)
            return damaged(e, "it ends too early");
        int r = tar_parse(header, name, &size);
        if (r < 0)
            return damaged(e, "a header is not one of ours");
        if (r == 0)
            return check_end(c, e);
        c->at += TAR_BLOCK;
        r = check_member(c, name, size, e);
        if (r < 0)
            return r;
    }
}

int dump_check(int fd, struct dump_facts *ret,
               int (*on_progress)(void *userdata, uint64_t done, uint64_t total), void *userdata,
               struct error *e)
{
    struct stat st;
    struct dump_facts *facts = calloc(1, sizeof(*facts));
    struct check c = {.fd = fd, .facts = facts, .on_progress = on_progress, .userdata = userdata};
    int r = facts && fstat(fd, &st) == 0 ? 0 : error_set(e, ERROR_FAILED, "The dump cannot be looked at");
    if (r == 0) {
        c.size = facts->file_size = (uint64_t)st.st_size;
        r = check_all(&c, e);
    }
    if (r == 0)
        *ret = *facts;
    free(c.sums.data);
    free(c.text.data);
    free(facts);
    return r;
}
