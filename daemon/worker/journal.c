/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/journal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

/* Where things lie in the header and in a record. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SERIAL = 16,
    AT_PK_HASH_SIZE = 20,
    AT_HWID = 24,
    AT_PK_HASH = 32,
    AT_FIRMWARE = AT_PK_HASH + SAHARA_PK_HASH_MAX,
    AT_PLAN = AT_FIRMWARE + JOURNAL_FIRMWARE_SIZE,
    AT_PROGRAMMER = AT_PLAN + SHA256_SIZE,
    AT_OPTIONS = AT_PROGRAMMER + SHA256_SIZE,
    AT_HEADER_END = AT_OPTIONS + SHA256_SIZE,
    AT_HEADER_DIGEST = JOURNAL_HEADER_SIZE - SHA256_SIZE,

    AT_NUMBER = 0,
    AT_KIND = 4,
    AT_ACTION = 5,
    AT_FIRST_BLOCK = 8,
    AT_BLOCKS = 16,
    AT_PAGES = 24,
    AT_RECORD_DIGEST = JOURNAL_RECORD_SIZE - SHA256_SIZE,

    FLAG_SERIAL = 1,
    FLAG_HWID = 2,
};
_Static_assert(AT_HEADER_END <= AT_HEADER_DIGEST, "the journal's header overlaps its digest");

static const char MAGIC[8] = "QDLDJRNL";

static void put_u32(uint8_t *p, uint32_t value)
{
    value = htole32(value);
    memcpy(p, &value, sizeof(value));
}

static void put_u64(uint8_t *p, uint64_t value)
{
    value = htole64(value);
    memcpy(p, &value, sizeof(value));
}

static uint32_t get_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return le32toh(value);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof(value));
    return le64toh(value);
}

/* ---- header and record as bytes ---- */

static int encode_header(const struct journal_key *key, uint8_t *out)
{
    const struct sahara_identity *unit = &key->unit;
    memset(out, 0, JOURNAL_HEADER_SIZE);
    memcpy(out + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_u32(out + AT_VERSION, JOURNAL_VERSION);
    put_u32(out + AT_FLAGS, (unit->have_serial ? FLAG_SERIAL : 0) | (unit->have_hwid ? FLAG_HWID : 0));
    if (unit->have_serial)
        put_u32(out + AT_SERIAL, unit->serial);
    if (unit->have_hwid)
        put_u64(out + AT_HWID, unit->hwid);
    size_t hash_size = MIN_OF(unit->pk_hash_size, (size_t)SAHARA_PK_HASH_MAX);
    put_u32(out + AT_PK_HASH_SIZE, (uint32_t)hash_size);
    memcpy(out + AT_PK_HASH, unit->pk_hash, hash_size);
    memcpy(out + AT_FIRMWARE, key->firmware, strnlen(key->firmware, JOURNAL_FIRMWARE_SIZE));
    memcpy(out + AT_PLAN, key->plan, SHA256_SIZE);
    memcpy(out + AT_PROGRAMMER, key->programmer, SHA256_SIZE);
    memcpy(out + AT_OPTIONS, key->options, SHA256_SIZE);
    return digest_sha256(out, AT_HEADER_DIGEST, out + AT_HEADER_DIGEST);
}

/* The digest binds a record to its header and its place: one of another journal, or moved, does not count. */
static int record_digest(const uint8_t *header, const uint8_t *record, uint8_t ret[SHA256_SIZE])
{
    uint8_t bound[SHA256_SIZE + AT_RECORD_DIGEST];
    memcpy(bound, header + AT_HEADER_DIGEST, SHA256_SIZE);
    memcpy(bound + SHA256_SIZE, record, AT_RECORD_DIGEST);
    return digest_sha256(bound, sizeof(bound), ret);
}

static int encode_record(const uint8_t *header, const struct journal_record *record, size_t number,
                         uint8_t *out)
{
    memset(out, 0, JOURNAL_RECORD_SIZE);
    put_u32(out + AT_NUMBER, (uint32_t)number);
    out[AT_KIND] = (uint8_t)record->kind;
    out[AT_ACTION] = record->action;
    put_u64(out + AT_FIRST_BLOCK, record->first_block);
    put_u64(out + AT_BLOCKS, record->n_blocks);
    put_u64(out + AT_PAGES, record->pages);
    return record_digest(header, out, out + AT_RECORD_DIGEST);
}

/* 1: a record with this number; 0: none. */
static int decode_record(const uint8_t *header, const uint8_t *bytes, size_t number,
                         struct journal_record *ret)
{
    struct journal_record record = {.kind = bytes[AT_KIND],
                                    .action = bytes[AT_ACTION],
                                    .first_block = get_u64(bytes + AT_FIRST_BLOCK),
                                    .n_blocks = get_u64(bytes + AT_BLOCKS),
                                    .pages = get_u64(bytes + AT_PAGES)};
    uint8_t again[JOURNAL_RECORD_SIZE];
    int r = encode_record(header, &record, number, again);
    if (r < 0)
        return r;
    if (memcmp(again, bytes, sizeof(again)) != 0 || record.kind < JOURNAL_INTENT ||
        record.kind > JOURNAL_BAD_BEFORE)
        return 0;
    *ret = record;
    return 1;
}

/* ---- reading ---- */

/* A part of the identity that only one side was told (a question went unanswered) says nothing against it. */
static bool same_part(const uint8_t *want, const uint8_t *found, size_t at, size_t size, bool known_to_both)
{
    return !known_to_both || memcmp(want + at, found + at, size) == 0;
}

/* The serial number is the unit's; hardware id and PK hash must not contradict it. */
static bool same_unit(const uint8_t *want, const uint8_t *found)
{
    uint32_t both = get_u32(want + AT_FLAGS) & get_u32(found + AT_FLAGS);
    bool hashes = get_u32(want + AT_PK_HASH_SIZE) > 0 && get_u32(found + AT_PK_HASH_SIZE) > 0;
    return both & FLAG_SERIAL && same_part(want, found, AT_SERIAL, sizeof(uint32_t), true) &&
           same_part(want, found, AT_HWID, sizeof(uint64_t), both & FLAG_HWID) &&
           same_part(want, found, AT_PK_HASH_SIZE, sizeof(uint32_t), hashes) &&
           same_part(want, found, AT_PK_HASH, SAHARA_PK_HASH_MAX, hashes);
}

/* Nobody but us wrote it, and to its end. */
static bool is_whole(const uint8_t *header)
{
    uint8_t digest[SHA256_SIZE];
    return digest_sha256(header, AT_HEADER_DIGEST, digest) == 0 &&
           memcmp(digest, header + AT_HEADER_DIGEST, sizeof(digest)) == 0;
}

/* NULL: this header is ours; else what differs first. any_unit: of whatever unit. */
static const char *compare_header(const uint8_t *want, const uint8_t *found, bool any_unit)
{
    static const struct {
        size_t at, size;
        const char *what;
    } fields[] = {
        {AT_MAGIC, sizeof(MAGIC), "it is no journal"},
        {AT_VERSION, 4, "its format is another one"},
        {AT_FIRMWARE, JOURNAL_FIRMWARE_SIZE, "it is of another firmware"},
        {AT_PLAN, SHA256_SIZE, "its plan was another one"},
        {AT_PROGRAMMER, SHA256_SIZE, "its programmer was another one"},
        {AT_OPTIONS, SHA256_SIZE, "its options were others"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (memcmp(want + fields[i].at, found + fields[i].at, fields[i].size) != 0)
            return fields[i].what;
        if (fields[i].at == AT_VERSION && !any_unit && !same_unit(want, found))
            return "it is of another unit";
    }
    return is_whole(found) ? NULL : "its header is damaged";
}

static int read_records(struct journal *j, size_t room)
{
    _cleanup_free_ struct journal_record *records = calloc(room + 1, sizeof(*records));
    if (!records)
        return -ENOMEM;
    size_t n = 0;
    while (n < room) {
        uint8_t bytes[JOURNAL_RECORD_SIZE];
        int r = io_pread_full(j->fd, bytes, sizeof(bytes), JOURNAL_HEADER_SIZE + n * JOURNAL_RECORD_SIZE);
        if (r == 0)
            r = decode_record(j->header, bytes, n, &records[n]);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        n++;
    }
    j->records = steal_ptr(records);
    j->n_records = n;
    return 0;
}

static int load(struct journal *j, const struct journal_key *key, const char **ret_void)
{
    uint8_t found[JOURNAL_HEADER_SIZE];
    struct stat st;
    if (fstat(j->fd, &st) < 0)
        return -errno;
    if (st.st_size < JOURNAL_HEADER_SIZE) {
        *ret_void = "there is none";
        return 0;
    }
    if (!key->unit.have_serial || key->unit.serial == 0) {
        *ret_void = "this unit does not tell its serial number";
        return 0;
    }
    int r = io_pread_full(j->fd, found, sizeof(found), 0);
    if (r < 0)
        return r;
    *ret_void = compare_header(j->header, found, false);
    if (*ret_void)
        return 0;
    memcpy(j->header, found, sizeof(found)); /* what its records are bound to */
    uint64_t room = ((uint64_t)st.st_size - JOURNAL_HEADER_SIZE) / JOURNAL_RECORD_SIZE;
    r = read_records(j, (size_t)MIN_OF(room, (uint64_t)JOURNAL_RECORDS_MAX));
    if (r < 0)
        return r;
    bool begun = false;
    for (size_t i = 0; i < j->n_records; i++)
        begun |= j->records[i].kind != JOURNAL_BACKUP && j->records[i].kind != JOURNAL_BAD_BEFORE;
    if (!begun)
        *ret_void = "nothing was done yet";
    else if (j->records[j->n_records - 1].kind == JOURNAL_FINISHED)
        *ret_void = "that flash was finished";
    j->writable = !*ret_void;
    return 0;
}

int journal_load(struct journal *j, int fd, const struct journal_key *key, const char **ret_void,
                 struct error *e)
{
    struct journal loaded = {.fd = fd};
    const char *why = NULL;
    int r = encode_header(key, loaded.header);
    if (r == 0)
        r = load(&loaded, key, &why);
    if (r < 0)
        return error_set(e, ERROR_FAILED, "the journal cannot be read: %s", strerror(-r));
    if (why) {
        free(loaded.records);
        loaded.records = NULL;
        loaded.n_records = 0;
    }
    *j = loaded;
    if (ret_void)
        *ret_void = why;
    return 0;
}

void journal_done(struct journal *j)
{
    free(j->records);
    j->records = NULL;
    j->n_records = 0;
}

/* Behind COMPLETE there is nothing but the end that the modem's leaving is. */
static bool ends_complete(const struct journal *j)
{
    size_t n = j->n_records;
    if (n > 0 && j->records[n - 1].kind == JOURNAL_FINISHED)
        n--;
    return n > 0 && j->records[n - 1].kind == JOURNAL_COMPLETE;
}

bool journal_was_completed(struct journal *j, int fd, const struct journal_key *key)
{
    struct journal found = {.fd = fd};
    uint8_t want[JOURNAL_HEADER_SIZE];
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size < JOURNAL_HEADER_SIZE || encode_header(key, want) < 0 ||
        io_pread_full(fd, found.header, sizeof(found.header), 0) < 0 ||
        compare_header(want, found.header, !key->unit.have_serial))
        return false;
    uint64_t room = ((uint64_t)st.st_size - JOURNAL_HEADER_SIZE) / JOURNAL_RECORD_SIZE;
    if (read_records(&found, (size_t)MIN_OF(room, (uint64_t)JOURNAL_RECORDS_MAX)) < 0)
        return false;
    if (!ends_complete(&found)) {
        journal_done(&found);
        return false;
    }
    *j = found;
    return true;
}

/* ---- writing ---- */

static int explain(int r, struct error *e)
{
    if (io_is_full(r))
        return error_set(e, ERROR_NO_SPACE, "no space for the job's journal");
    return error_set(e, ERROR_FAILED, "the journal cannot be written: %s", strerror(-r));
}

/* To the disk, with everything behind it cut off. */
static int write_at(int fd, const uint8_t *data, size_t size, uint64_t offset)
{
    int r = io_pwrite_full(fd, data, size, offset);
    if (r < 0)
        return r;
    if (ftruncate(fd, (off_t)(offset + size)) < 0 || fdatasync(fd) < 0)
        return -errno;
    return 0;
}

int journal_start(struct journal *j, struct error *e)
{
    journal_done(j);
    int r = write_at(j->fd, j->header, sizeof(j->header), 0);
    if (r < 0)
        return explain(r, e);
    j->writable = true;
    return 0;
}

int journal_append(struct journal *j, const struct journal_record *record, struct error *e)
{
    if (!j->writable || j->n_records == JOURNAL_RECORDS_MAX)
        return error_set(e, ERROR_FAILED, "the journal %s", j->writable ? "is full" : "was not started");
    struct journal_record *grown = reallocarray(j->records, j->n_records + 1, sizeof(*grown));
    if (!grown)
        return error_set(e, ERROR_FAILED, "out of memory");
    j->records = grown;
    uint8_t bytes[JOURNAL_RECORD_SIZE];
    int r = encode_record(j->header, record, j->n_records, bytes);
    if (r == 0)
        r = write_at(j->fd, bytes, sizeof(bytes), JOURNAL_HEADER_SIZE + j->n_records * JOURNAL_RECORD_SIZE);
    if (r < 0)
        return explain(r, e);
    j->records[j->n_records++] = *record;
    return 0;
}

const struct journal_record *journal_find(const struct journal *j, const struct journal_record *step)
{
    for (size_t i = j->n_records; i-- > 0;) {
        const struct journal_record *r = &j->records[i];
        if (r->kind < JOURNAL_FINISHED && r->action == step->action && r->first_block == step->first_block &&
            r->n_blocks == step->n_blocks && r->pages == step->pages)
            return r;
    }
    return NULL;
}

bool journal_has_backup(const struct journal *j)
{
    for (size_t i = 0; i < j->n_records; i++)
        if (j->records[i].kind == JOURNAL_BACKUP)
            return true;
    return false;
}
