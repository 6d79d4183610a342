/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Firehose, the programmer's protocol (reference/edl.md 2): XML documents both ways, raw data between two
 * ACKs. Bytes on the wire, no policy: what may be erased is decided above. But the documents are printed
 * here, by one function each and from integers only (flash rule 7), and one that lacks or contradicts itself
 * in start, count, sector size or last sector is refused with -EINVAL before a byte is sent: a programmer
 * takes a garbled erase for "the whole chip" and ACKs it.
 *
 * Every command returns when its <response> is there; logs are drained lazily, no fixed wait anywhere. What
 * comes late is read away before the next document is sent, so that an answer is never taken for that of
 * another command; after a command that was given up (Timeout, a waker) the next one first brings the modem
 * back into step with a nop.
 *
 * Errors common to all commands: ModemGone (-ENODEV), Timeout (-ETIMEDOUT), FirehoseFailed (-EPROTO: NAK with
 * the modem's words, garbage, endless logs, a stalled endpoint), GeometryDiffers when the NAK says so,
 * Cancelled or Interrupted or the waker's own errno. A command that fails in the middle of program's data
 * leaves the modem waiting for them: every later one is refused.
 */

#include "protocol/sahara.h"

enum firehose_log_level { FIREHOSE_LOG_DEBUG, FIREHOSE_LOG_INFO, FIREHOSE_LOG_WARN, FIREHOSE_LOG_ERROR };

struct firehose;

/* A range of pages of physical partition 0. All four are always sent. */
struct firehose_range {
    uint32_t sector_size;     /* page size in bytes: 2048 or 4096 */
    uint32_t pages_per_block; /* 64 */
    uint64_t start;           /* first page */
    uint64_t count;           /* pages; never 0 */
    uint64_t last; /* last_sector: the end of the range's own partition (or block); >= start + count - 1 */
};

struct firehose_storage {
    uint64_t total_blocks;
    uint32_t block_size;      /* bytes */
    uint32_t page_size;       /* bytes */
    bool valid;               /* all three were told (JSON or [FLASH_INFO] form, 2.4) */
    uint32_t bad_blocks[256]; /* [BAD_BLOCK_LIST] of 9x07; only a hint, the map comes from reads (rule 8) */
    size_t n_bad_blocks;
    bool bad_block_list; /* the list was there, even if empty */
};

/* The vendor's project check (2.7). Sent only when the caller has made sure of rule 3. */
struct firehose_vendor_check {
    uint32_t sector_size;
    uint32_t pages_per_block;
    uint64_t rawdata_start_sector, rawdata_sectors;
    char project_name[64];
    char project_type[64]; /* "" if the package has none */
};

enum firehose_power { FIREHOSE_POWER_RESET, FIREHOSE_POWER_OFF, FIREHOSE_POWER_EDL };

/* t stays the caller's and must outlive it. NULL without memory. */
struct firehose *firehose_new(struct transport *t);
struct firehose *firehose_free(struct firehose *f);
DEFINE_CLEANUP(struct firehose *, firehose_free)

/* Every log line of the programmer, cleaned (text_clean), as it is drained. */
void firehose_on_log(struct firehose *f,
                     void (*on_log)(void *userdata, enum firehose_log_level level, const char *text),
                     void *userdata);

/* ERROR logs since the last call of firehose_clear_errors(); the text of the first one ("" if none). Rule 8.
 */
unsigned firehose_error_count(const struct firehose *f);
const char *firehose_first_error(const struct firehose *f);
void firehose_clear_errors(struct firehose *f);
/* True once a log said "VIP is enabled" (signed tables needed; not supported). */
bool firehose_vip(const struct firehose *f);
/* True if the banner named this function ("getsha256digest"); meaningful only after a banner was seen. */
bool firehose_banner_has(const struct firehose *f, const char *function);
bool firehose_banner_seen(const struct firehose *f);

/*
 * Drains the start-up banner: ends on its last line ("End of supported functions", or the one-line form of
 * 9x07), or, when the modem says nothing for a moment, on an answered <nop/>. ProgrammerRejected when nothing
 * is heard at all: the modem took the programmer and went silent (wrong signature).
 */
int firehose_await_banner(struct firehose *f, struct error *e);

/*
 * configure with MemoryName nand, the payload negotiated: asks for `payload` bytes (0: a default), goes down
 * to what a NAK names, up only if the ACK's Supported is larger by enough to matter; a second configure that
 * is refused keeps the first.
 */
int firehose_configure(struct firehose *f, uint32_t payload, struct error *e);
uint32_t firehose_payload_size(const struct firehose *f);

int firehose_nop(struct firehose *f, struct error *e);
int firehose_storage_info(struct firehose *f, struct firehose_storage *ret, struct error *e);

/* Whole erase blocks: start, count and last + 1 on block borders. ACKed means nothing but ACKed (rule 8). */
int firehose_erase(struct firehose *f, const struct firehose_range *range, struct error *e);

/*
 * Programs exactly range->count pages from the first page of a block (each block is erased by the programmer
 * before its first page, 2.6). `source` fills the buffer with the bytes from `offset` of the image; past the
 * image's end it fills 0xFF (the erased value); it is asked for up to 64 KiB at once. Several payload
 * transfers are in flight. If the source fails, the modem still gets its length (the rest as 0xFF), and the
 * source's error is returned: the range then holds nothing of worth.
 */
typedef int (*firehose_source)(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e);
typedef void (*firehose_progress)(void *userdata, uint64_t done, uint64_t total);
int firehose_program(struct firehose *f, const struct firehose_range *range, firehose_source source,
                     firehose_progress on_progress, void *userdata, struct error *e);

/*
 * Did the modem itself refuse the command, and nothing more: what it says can be relied on, and the next
 * command goes its way? Not one of a flash that does not open, and no answer that is none (those have a
 * hint).
 */
static inline bool firehose_is_refusal(const struct error *e)
{
    return e->kind == ERROR_FIREHOSE_FAILED && e->hint == HINT_NONE;
}

/*
 * Reads range->count pages into `sink`, in order, in pieces of any size. skip_bad_block: the read is
 * physically aligned and bad blocks read as 0xBD (2.6). The data count only if this returns 0: a programmer
 * fills with zeros after a hard error and NAKs at the end. A sink error ends the command in an orderly way
 * (the rest is drained) and is returned.
 */
typedef int (*firehose_sink)(void *userdata, uint64_t offset, const void *data, size_t size, struct error *e);
int firehose_read(struct firehose *f, const struct firehose_range *range, bool skip_bad_block,
                  firehose_sink sink, void *userdata, struct error *e);
/* The same into memory: exactly count * sector_size bytes. */
int firehose_read_pages(struct firehose *f, const struct firehose_range *range, bool skip_bad_block,
                        void *ret, struct error *e);

/* getsha256digest over range->count pages from start (good blocks only, as program laid them). -EOPNOTSUPP
   with Unsupported if the programmer NAKs it or answers without a digest. It is bounded by 30 s and a second
   a MiB. */
int firehose_digest(struct firehose *f, const struct firehose_range *range, uint8_t ret[32], struct error *e);

/*
 * The vendor tag with the four attributes of rule 3 added (SECTOR_SIZE_IN_BYTES, start_sector 0,
 * num_partition_sectors one block, last_sector its end). *ret_agreed: a log said "ok" ("not find" and silence
 * do not agree). NAK: WrongFirmware with the modem's words.
 */
int firehose_vendor_check(struct firehose *f, const struct firehose_vendor_check *check, bool *ret_agreed,
                          struct error *e);

/* power; then logs are drained until the modem goes away or is silent for a moment (2.11). Going away is
 * success. */
int firehose_power(struct firehose *f, enum firehose_power mode, struct error *e);
