/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Sahara, the PBL's protocol (reference/edl.md 1): hello, image upload, command mode, reset. Bytes on the
 * wire, no policy. The ladder that brings a modem of unknown state to a hello is protocol/detect.h.
 */

#include "transport/transport.h"

enum sahara_command {
    SAHARA_HELLO = 0x01,
    SAHARA_HELLO_RESP = 0x02,
    SAHARA_READ_DATA = 0x03,
    SAHARA_END_IMAGE_TX = 0x04,
    SAHARA_DONE = 0x05,
    SAHARA_DONE_RESP = 0x06,
    SAHARA_RESET = 0x07,
    SAHARA_RESET_RESP = 0x08,
    SAHARA_MEMORY_DEBUG = 0x09,
    SAHARA_MEMORY_READ = 0x0a,
    SAHARA_CMD_READY = 0x0b,
    SAHARA_SWITCH_MODE = 0x0c,
    SAHARA_EXECUTE = 0x0d,
    SAHARA_EXECUTE_RESP = 0x0e,
    SAHARA_EXECUTE_DATA = 0x0f,
    SAHARA_MEMORY_DEBUG64 = 0x10,
    SAHARA_MEMORY_READ64 = 0x11,
    SAHARA_READ_DATA64 = 0x12,
    SAHARA_RESET_STATE_MACHINE = 0x13,
};

enum sahara_mode {
    SAHARA_MODE_IMAGE_TX_PENDING = 0,
    SAHARA_MODE_IMAGE_TX_COMPLETE = 1,
    SAHARA_MODE_MEMORY_DEBUG = 2, /* a crashed modem (900e) */
    SAHARA_MODE_COMMAND = 3,
};

struct sahara_hello {
    uint32_t version;
    uint32_t compatible;
    uint32_t max_packet;
    uint32_t mode; /* enum sahara_mode */
};

#define SAHARA_PK_HASH_MAX 64

/* What command mode told; each part may be missing (refused, or HELLO version >= 3: 1.2). */
struct sahara_identity {
    bool have_serial, have_hwid;
    uint32_t serial; /* printed as %08x; 0 identifies nobody */
    uint64_t hwid;   /* MSM_ID << 32 | OEM_ID << 16 | MODEL_ID, printed as %016llx */
    uint8_t pk_hash[SAHARA_PK_HASH_MAX];
    size_t pk_hash_size; /* 0, 32, 48 or 64 */
    /* Every command was answered or refused: what is missing is not told by this modem. */
    bool complete;
    bool refused; /* it knows no command mode; if not, and not complete, it may tell more when asked again */
    /* The conversation broke off, or was refused: the ladder had to bring the modem back to a hello. One that
     * is gone then went because of it. */
    bool persuaded;
    uint32_t sahara_version;
};

/* "hash-table auth failure (0x21)" and so on for every status of 1.3; "unknown status 0x…" else. Static per
 * thread. */
const char *sahara_status_name(uint32_t status);
/* "SDX55" for a HWID of the table in reference/edl.md 4 (revision bits ignored); NULL if the chip is not
 * known. */
const char *sahara_chip_name(uint64_t hwid);

/* Parses a HELLO packet of exactly 0x30 bytes. -EPROTO if it is none. */
int sahara_parse_hello(const void *packet, size_t size, struct sahara_hello *ret);

/*
 * Command mode: answers *hello with mode 3, reads serial, HWID and PK hash (chip id v3 where HELLO says >=
 * 3), leaves by SWITCH_MODE(0) and waits for the fresh HELLO, which replaces *hello. A modem that refuses
 * command mode or single commands is not an error: what is missing stays missing, and *hello is valid again
 * (by the ladder of detect.h if need be).
 *
 * *ret is filled also when this fails, with what was told until then: an old PBL that refuses command mode
 * may know no way back to its HELLO but a restart (ModemGone). It would do the same each time; do not ask
 * such a modem twice.
 */
int sahara_identify(struct transport *t, struct sahara_hello *hello, struct sahara_identity *ret,
                    struct error *e);

/*
 * Uploads a programmer: HELLO_RESP(mode 0), READ_DATA and READ_DATA64 from the image (padded with 0xFF past
 * its end), END_IMAGE_TX, DONE, DONE_RESP (pending is accepted for images 7, 13, 21). A HELLO that comes
 * again in between is answered again. on_progress may be NULL. ProgrammerRejected (with the status) when the
 * signature is refused or the modem stops talking after the whole image (-ENODEV if it went away then: that
 * may be the end of its window as well); SaharaFailed; Timeout; ModemGone.
 */
int sahara_upload(struct transport *t, const struct sahara_hello *hello, const void *image, size_t size,
                  void (*on_progress)(void *userdata, uint64_t sent, uint64_t total), void *userdata,
                  struct error *e);

/* RESET and its RESET_RESP (the modem leaves Sahara and reboots, 1.1). A modem that goes away at once is
 * success. */
int sahara_reset(struct transport *t, struct error *e);

/* Single packets, for detect.c: written without ZLP (2.10). */
int sahara_send(struct transport *t, enum sahara_command command, const uint32_t *words, size_t n_words,
                usec_t deadline);
