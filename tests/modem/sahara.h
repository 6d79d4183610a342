/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The device's side of Sahara: numbers of the wire (reference/edl.md 1.1 to 1.3). All little-endian. */

#include <stddef.h>
#include <stdint.h>

enum sahara_command {
    SAHARA_HELLO = 0x01,
    SAHARA_HELLO_RESP = 0x02,
    SAHARA_READ_DATA = 0x03,
    SAHARA_END_IMAGE = 0x04,
    SAHARA_DONE = 0x05,
    SAHARA_DONE_RESP = 0x06,
    SAHARA_RESET = 0x07,
    SAHARA_RESET_RESP = 0x08,
    SAHARA_MEMORY_READ = 0x0A,
    SAHARA_CMD_READY = 0x0B,
    SAHARA_SWITCH_MODE = 0x0C,
    SAHARA_EXECUTE = 0x0D,
    SAHARA_EXECUTE_RESP = 0x0E,
    SAHARA_EXECUTE_DATA = 0x0F,
    SAHARA_MEMORY_DEBUG = 0x09,
    SAHARA_MEMORY_DEBUG64 = 0x10,
    SAHARA_MEMORY_READ64 = 0x11,
    SAHARA_READ_DATA64 = 0x12,
    SAHARA_RESET_STATE_MACHINE = 0x13,
};

enum sahara_mode { SAHARA_MODE_IMAGE_TX = 0, SAHARA_MODE_MEMORY_DEBUG = 2, SAHARA_MODE_COMMAND = 3 };

enum sahara_status {
    SAHARA_OK = 0x00,
    SAHARA_INVALID_COMMAND = 0x01,
    SAHARA_INVALID_HOST_VERSION = 0x04,
    SAHARA_INVALID_PACKET_SIZE = 0x05,
    SAHARA_INVALID_IMAGE_HEADER_SIZE = 0x07,
    SAHARA_INVALID_IMAGE_DATA_SIZE = 0x08,
    SAHARA_INVALID_RX_LENGTH = 0x0B,
    SAHARA_READ_DATA_ERROR = 0x0D,
    SAHARA_TOO_MANY_PROGRAM_HEADERS = 0x0E,
    SAHARA_INVALID_PROGRAM_HEADER_SIZE = 0x0F,
    SAHARA_INVALID_ELF_HEADER = 0x14,
    SAHARA_UNKNOWN_HOST_ERROR = 0x15,
    SAHARA_INVALID_MODE = 0x18,
    SAHARA_INVALID_MEMORY_READ = 0x19,
    SAHARA_MEMORY_DEBUG_UNSUPPORTED = 0x1B,
    SAHARA_EXECUTE_UNSUPPORTED = 0x1F,
    SAHARA_EXECUTE_DATA_WRONG = 0x20,
    SAHARA_HASH_TABLE_AUTH_FAILURE = 0x21,
};

enum sahara_client_command {
    SAHARA_SERIAL_NUM_READ = 0x01,
    SAHARA_MSM_HW_ID_READ = 0x02,
    SAHARA_OEM_PK_HASH_READ = 0x03,
    SAHARA_SBL_VERSION_READ = 0x07,
    SAHARA_CHIP_ID_V3_READ = 0x0A,
};

enum { SAHARA_HEADER = 8, SAHARA_PACKET_MAX = 0x400, SAHARA_PROGRAMMER_ID = 13 };

struct modem;

/* Sends a packet: header and count 32-bit words. */
int sahara_send(struct modem *m, uint32_t command, const uint32_t *words, size_t count);

/* END_IMAGE_TX with a status for the programmer's image. */
int sahara_send_end(struct modem *m, uint32_t image, uint32_t status);

/* HELLO with the mode that this device is in. */
int sahara_send_hello(struct modem *m, uint32_t mode);

/* Reads one packet. *ret_words has its words (those it lacks are 0); *ret_command is 0 if it is none, because
   of a wrong length: then *ret_words has what came, from its first byte on. */
int sahara_receive(struct modem *m, uint32_t *ret_command, uint32_t ret_words[SAHARA_PACKET_MAX / 4]);

/* pbl.c: the boot ROM, until the programmer was accepted or it reset itself. enum mode_end or -ENODEV. */
int pbl_run(struct modem *m);

/* pbl-commands.c: command mode, entered (HELLO_RESP asked for it). 0: back to HELLO; a Sahara status:
   END_IMAGE with it; -ENODEV. */
int pbl_command_mode(struct modem *m);

/* pbl-hostile.c: a HELLO of scenario->hello, a request of scenario->read_data. 0 or -ENODEV. */
int pbl_hostile_hello(struct modem *m);
int pbl_hostile_request(struct modem *m);

/* pbl-commands.c: RESET was received. enum mode_end or 0: send a new HELLO. */
int pbl_reset(struct modem *m);

/* crash-dump.c: memory debug mode. enum mode_end or -ENODEV. */
int crash_dump_run(struct modem *m);
